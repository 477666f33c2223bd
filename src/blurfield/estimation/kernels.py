"""The kernel that turns sharp edges into blurry ones, and how it is kept plausible."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

#: Steps of the projected gradient method; more change nothing visible.
_STEPS = 60
#: Power iterations for the largest eigenvalue, and the margin for what they leave.
_POWER_STEPS, _MARGIN = 8, 1.05
#: Connected parts of a kernel below this share of its sum are noise.
_SMALLEST_PART = 0.1


def salient(along_x: Tensor, along_y: Tensor, count: int, allowed: Tensor) -> Tensor:
    """Choose the strong gradients, enough of every orientation.

    One threshold per image lets at least `count` gradients of each of four orientations through
    (Cho & Lee, "Fast motion deblurring", 2009, Sec. 4.2): without edges across a direction the
    kernel along it is undetermined.

    Parameters
    ----------
    along_x, along_y : Tensor
        Gradients, (..., H, W).
    count : int
        Number of gradients wanted of each orientation.
    allowed : Tensor
        1 where edges may be used, else 0; broadcast against the gradients.

    Returns
    -------
    Tensor
        True where gradients are chosen, (..., H, W).
    """
    magnitude = (along_x.square() + along_y.square()).sqrt() * allowed
    orientation = (torch.atan2(along_y, along_x) * (4 / math.pi)).round().remainder(4)
    count = min(count, along_x.shape[-1] * along_x.shape[-2])
    threshold = magnitude.new_full(magnitude.shape[:-2], math.inf)
    for bin_ in range(4):
        members = torch.where(orientation == bin_, magnitude, 0).flatten(-2)
        weakest = members.topk(count, dim=-1).values[..., -1]
        threshold = torch.minimum(threshold, weakest)
    return magnitude >= threshold.clamp_min(1e-6)[..., None, None]


def salient_edges(
    along_x: Tensor, along_y: Tensor, count: int, allowed: Tensor
) -> tuple[Tensor, Tensor]:
    """Keep the gradients that are `salient`, and set the others to 0; see there."""
    kept = salient(along_x, along_y, count, allowed)
    return along_x * kept, along_y * kept


def normal_equations(
    sharp: tuple[Tensor, Tensor], blurry: tuple[Tensor, Tensor], optics: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Correlations that determine the kernel of least squares in the gradient domain.

    Parameters
    ----------
    sharp, blurry : (Tensor, Tensor)
        Gradients along x and y, (..., H, W).
    optics : Tensor
        Half spectrum of a further blur of the sharp gradients.
    size : int
        Side K of the kernel.

    Returns
    -------
    auto : Tensor
        Autocorrelation of the sharp gradients, shifts −(K−1) … K−1, (..., 2K−1, 2K−1): the
        Toeplitz matrix of the normal equations.
    cross : Tensor
        Correlation of blurry and sharp gradients, shifts −K//2 … K//2, (..., K, K).
    """
    shape = sharp[0].shape[-2:]
    auto_spectrum = cross_spectrum = torch.zeros(())
    for s, b in zip(sharp, blurry, strict=True):
        spectrum = torch.fft.rfft2(s) * optics
        auto_spectrum = auto_spectrum + (spectrum.real.square() + spectrum.imag.square())
        cross_spectrum = cross_spectrum + spectrum.conj() * torch.fft.rfft2(b)
    auto = torch.fft.irfft2(auto_spectrum, s=shape)
    cross = torch.fft.irfft2(cross_spectrum, s=shape)
    half = size // 2
    auto = auto.roll((size - 1, size - 1), (-2, -1))[..., : 2 * size - 1, : 2 * size - 1]
    cross = cross.roll((half, half), (-2, -1))[..., :size, :size]
    return auto, cross


def toeplitz(auto: Tensor) -> Callable[[Tensor], Tensor]:
    """Product of kernels (..., K, K) with the matrix of the normal equations.

    Parameters
    ----------
    auto : Tensor
        See `normal_equations`, (..., 2K−1, 2K−1).
    """
    size = (auto.shape[-1] + 1) // 2
    length = next_fast_len(3 * size - 2, real=True)
    spectrum = torch.fft.rfft2(auto, s=(length, length))

    def product(kernels: Tensor) -> Tensor:
        both = spectrum * torch.fft.rfft2(kernels, s=(length, length))
        inside = slice(size - 1, 2 * size - 1)
        result: Tensor = torch.fft.irfft2(both, s=(length, length))[..., inside, inside]
        return result

    return product


def projected_gradients(
    squared: Callable[[Tensor], Tensor],
    target: Tensor,
    start: Tensor,
    ridge: float | Tensor,
    support: float | Tensor,
    poll: Callable[[], None],
    steps: int = _STEPS,
) -> Tensor:
    """Minimise ½ x·A·x − b·x + ½ γ‖x‖² over x ≥ 0, for each vector along the last axis.

    Accelerated projected gradients (Beck & Teboulle 2009).

    Parameters
    ----------
    squared : callable
        Product of vectors (..., n) with their positive semidefinite matrices A.
    target, start : Tensor
        b, and a first guess, (..., n).
    ridge : float or Tensor
        Tikhonov weight γ, broadcast against the vectors.
    support : float or Tensor
        1 where vectors may differ from 0, else 0; broadcast against them.
    poll : callable
        Called between steps; may raise to stop.
    steps : int
        How many.
    """
    vector = torch.ones_like(target)
    largest = vector.new_ones(())
    for _ in range(_POWER_STEPS):
        vector = squared(vector)
        largest = vector.norm(dim=-1, keepdim=True).clamp_min(1e-20)
        vector = vector / largest
    step = support / (_MARGIN * largest + ridge)
    found, ahead, momentum = start, start, 1.0
    for _ in range(steps):
        poll()
        new = (ahead - step * (squared(ahead) + ridge * ahead - target)).clamp_min(0)
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / following * (new - found)
        found, momentum = new, following
    return found * support


def solve(
    auto: Tensor,
    cross: Tensor,
    start: Tensor,
    ridge: float,
    support: Tensor,
    poll: Callable[[], None],
) -> Tensor:
    """Minimise ½ k·A·k − b·k + ½ γ‖k‖² over kernels k ≥ 0 within a support.

    By `projected_gradients`; the products with the Toeplitz matrix A are convolutions of the size
    of the kernel.

    Parameters
    ----------
    auto, cross : Tensor
        See `normal_equations`.
    start : Tensor
        First guess, (..., K, K).
    ridge : float
        Tikhonov weight γ.
    support : Tensor
        1 where the kernel may differ from 0, else 0; broadcast against the kernels.
    poll : callable
        Called between steps; may raise to stop.

    Returns
    -------
    Tensor
        Kernels (..., K, K) ≥ 0, not normalised.
    """
    product = toeplitz(auto)
    found = projected_gradients(
        lambda taps: product(taps.reshape(cross.shape)).flatten(-2),
        cross.flatten(-2),
        start.flatten(-2),
        ridge,
        support.expand(cross.shape).flatten(-2),
        poll,
    )
    return found.reshape(cross.shape)


def prune(kernels: Tensor, threshold: float, isolation: Tensor, axes: int = 2) -> Tensor:
    """Remove faint taps and small separate parts, and make the sum 1.

    Parameters
    ----------
    kernels : Tensor
        (..., K, K) ≥ 0, or volumes with more axes. One without any mass becomes a delta.
    threshold : float
        Taps below this share of the largest are removed.
    isolation : Tensor
        Taps around which the mean of 3 × 3 taps (3 × 3 × 3 of a volume) is below this share of the
        greatest such mean are removed: a camera draws lines, noise draws dots. (...,).
    axes : int
        Of each kernel: 2, or 3 of a volume.
    """
    from scipy import ndimage

    sides, all_taps = kernels.shape[-axes:], tuple(range(-axes, 0))
    flat = kernels.reshape(-1, *sides)
    peak = flat.amax(all_taps, keepdim=True)
    flat = torch.where((flat > 0) & (flat >= threshold * peak), flat, 0)
    local_means = functional.avg_pool2d if axes == 2 else functional.avg_pool3d
    mean = local_means(flat[:, None], 3, 1, 1)[:, 0]
    lowest = isolation.reshape(-1, *[1] * axes) * mean.amax(all_taps, keepdim=True)
    flat = torch.where(mean >= lowest, flat, 0)
    values = flat.detach().cpu().numpy()
    # Parts are connected within a kernel, not from one kernel of the batch to the next.
    neighbours = np.zeros((3,) * (axes + 1), dtype=bool)
    neighbours[1] = True
    labels, count = ndimage.label(values > 0, structure=neighbours)
    part = np.bincount(labels.ravel(), values.ravel(), count + 1)
    whole = values.sum(all_taps, dtype=np.float64, keepdims=True)
    keep = torch.from_numpy(part[labels] >= _SMALLEST_PART * whole).to(flat.device)
    taps = (flat * keep).flatten(1)
    taps[:, taps.shape[1] // 2] += (taps.sum(1) <= 0).to(flat.dtype)
    return (taps / taps.sum(1, keepdim=True)).reshape(kernels.shape)


def centroid(kernels: Tensor) -> Tensor:
    """Centre of mass (y, x) of kernels with sum 1, relative to the middle tap, (..., 2)."""
    taps = torch.arange(kernels.shape[-1], dtype=kernels.dtype, device=kernels.device)
    taps = taps - kernels.shape[-1] // 2
    return torch.stack([(kernels.sum(-1) * taps).sum(-1), (kernels.sum(-2) * taps).sum(-1)], -1)


def shift(kernels: Tensor, offsets: Tensor) -> Tensor:
    """Move kernels (..., K, K) by whole pixels (y, x), (..., 2); what leaves is lost.

    The sum is made 1 again.
    """
    size = kernels.shape[-1]
    taps = torch.arange(size, device=kernels.device)
    moved = kernels
    for axis, dim in ((0, -2), (1, -1)):
        source = taps - offsets[..., axis : axis + 1].round().long()
        inside = ((source >= 0) & (source < size)).to(kernels.dtype)
        index = source.clamp(0, size - 1)
        index, inside = (t.unsqueeze(-1 if dim == -2 else -2) for t in (index, inside))
        moved = moved.gather(dim, index.expand(moved.shape)) * inside
    return moved / moved.sum((-2, -1), keepdim=True).clamp_min(1e-20)


def centre(kernels: Tensor) -> Tensor:
    """Move the centre of mass of kernels with sum 1 to the middle, by whole pixels."""
    return shift(kernels, -centroid(kernels))


def align(kernels: Tensor, reference: Tensor) -> Tensor:
    """Shift kernels (..., K, K) by whole pixels to where they correlate best with a reference."""
    return shift(kernels, _best_offsets(_matches(kernels, reference)))


def align_together(kernels: Tensor, references: Tensor) -> Tensor:
    """Shift kernels (N, K, K) by the same whole pixels to where all fit their references best."""
    return shift(
        kernels, _best_offsets(_matches(kernels, references).sum(0)).expand(len(kernels), 2)
    )


def _matches(kernels: Tensor, references: Tensor) -> Tensor:
    """Correlations with references at all shifts, which are taken modulo their number."""
    length = next_fast_len(2 * kernels.shape[-1] - 1, real=True)
    moved, fixed = (torch.fft.rfft2(k, s=(length, length)) for k in (kernels, references))
    matches: Tensor = torch.fft.irfft2(moved.conj() * fixed, s=(length, length))
    return matches


def _best_offsets(matches: Tensor) -> Tensor:
    """Shifts (y, x) with the largest of the correlations, (..., 2)."""
    length = matches.shape[-1]
    best = matches.flatten(-2).argmax(-1)
    offsets = torch.stack([best // length, best % length], dim=-1)
    return torch.where(offsets > length // 2, offsets - length, offsets)


def weighted_mean(kernels: Tensor, scores: Tensor, tolerance: float) -> Tensor:
    """Mean of aligned kernels, the better weighing more.

    Independent estimates have the trace of the blur in common, but not its errors.

    Parameters
    ----------
    kernels : Tensor
        (N, M, K, K).
    scores : Tensor
        Their `Evidence`, (N, M); less is better.
    tolerance : float
        Weights are exp(−score/tolerance).

    Returns
    -------
    Tensor
        (N, K, K), with sum 1 and the centre of mass in the middle.
    """
    best = scores.argmin(dim=1)[:, None, None, None]
    aligned = align(kernels, kernels.take_along_dim(best, dim=1))
    weights = torch.softmax(-scores / tolerance, dim=1)
    return centre((aligned * weights[..., None, None]).sum(1))


def resize(kernels: Tensor, size: int) -> Tensor:
    """Kernels at another scale: (..., size, size), with sum 1."""
    flat = kernels.reshape(-1, 1, *kernels.shape[-2:])
    finer = functional.interpolate(
        flat, size=(size, size), mode="bicubic", align_corners=False, antialias=True
    ).clamp_min(0)
    finer = finer / finer.sum((-2, -1), keepdim=True)
    return finer.reshape(*kernels.shape[:-2], size, size)


def narrow_support(size: int, extent: Tensor, like: Tensor) -> Tensor:
    """1 within the centred square that is `extent` of the whole, else 0, (..., K, K).

    At least the middle 3 × 3 taps are within it.
    """
    taps = torch.arange(size, dtype=like.dtype, device=like.device) - size // 2
    inside = (taps.abs() <= (extent * size).clamp_min(3)[..., None] / 2).to(like.dtype)
    return inside[..., :, None] * inside[..., None, :]
