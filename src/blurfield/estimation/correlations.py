"""What windows of a blurry image say about the kernel, in the space of displacements.

Gradients of sharp images hardly correlate with each other, so that the autocorrelation of a blurry
image's gradients is about that of the kernel (Hu, Xue and Zheng 2012; Goldstein and Fattal 2012).
It is blind to the kernel's direction along its path, which the correlation of the gradients with
their third power is not, as gradients are sparse. Both say nothing about edges that stick out;
where a network says how these would be without blur, dividing the spectra gives the kernel itself
(Schuler, Hirsch, Harmeling and Schölkopf 2016).

All of these are averages over windows. They are summed as spectra, with weights that say which
windows share a blur, and only the sums are transformed to patches of displacements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from blurfield.compute import few_at_a_time

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Distance in pixels between the middles of windows, and their side.
STRIDE, WINDOW = 32, 64
#: Greatest displacement in the patches: K // 2 in fine ones, twice that in coarse ones.
REACH = 16
#: Channels of the patches: fine and coarse ones of two autocorrelations, of the correlation with
#: the third power, and of the quotient of spectra.
CHANNELS = 8
#: Channels of the summary of each window's spectra.
SUMMARY = 2 * (WINDOW // 8) * (WINDOW // 16) + 1
#: Gradients, relative to their standard deviation, beyond which the third power is not taken.
_MOST = 6.0
#: Power, relative to its mean, of what is too faint to tell.
_FAINT = 1e-3
#: Windows whose spectra are computed at once where no gradients are needed.
_AT_ONCE = 48
#: Standard deviation of gradients, white = 1, that is no texture.
_FLAT = 2e-3


def gradients(encoded: Tensor) -> Tensor:
    """Gradients along y and x of the mean of the colours, relative to their standard deviation.

    Parameters
    ----------
    encoded : Tensor
        Images (N, 3, H, W) in [0, 1].

    Returns
    -------
    Tensor
        (N, 2, H, W); 0 beside clipped light, whose edges no blur of light has made.
    """
    grey = encoded.mean(1)
    valid = (encoded.amax(1) < 0.99).float()
    both = grey.new_zeros(len(grey), 2, *grey.shape[1:])
    torch.sub(grey[:, 1:], grey[:, :-1], out=both[:, 0, :-1])
    torch.sub(grey[:, :, 1:], grey[:, :, :-1], out=both[:, 1, :, :-1])
    both[:, 0, :-1] *= valid[:, 1:] * valid[:, :-1]
    both[:, 1, :, :-1] *= valid[:, :, 1:] * valid[:, :, :-1]
    power = torch.linalg.vector_norm(both, dim=(1, 2, 3), keepdim=True).square()
    spread = (power / both[0].numel()).sqrt()
    return both.div_(spread + _FLAT)


class Spectra(NamedTuple):
    """Spectra of windows.

    Attributes
    ----------
    image : Tensor
        Complex (N, T, 2, F, F/2 + 1): of the gradients.
    fixed : Tensor
        (N, T, 4, F, F/2 + 1): power of the two gradients, and real and imaginary part of the
        cross power with their third powers. All weighted by the inverse root of the energy.
    summary : Tensor
        (N, T, `SUMMARY`): the logarithm of the power in bands, and of the energy.
    weight : Tensor
        (N, T, 1, 1, 1): that inverse root.
    """

    image: Tensor
    fixed: Tensor
    summary: Tensor
    weight: Tensor


def _bands(images: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of windows a few at a time: which windows they are, and what of the images they see.

    Together windows hold eight times as many numbers as the image. With gradients all of them are
    needed at once.
    """
    margin = (WINDOW - STRIDE) // 2
    padded = functional.pad(images, (margin,) * 4)
    rows, across = ((int(n) - WINDOW) // STRIDE + 1 for n in padded.shape[2:])
    step = rows if torch.is_grad_enabled() else max(1, _AT_ONCE // (len(images) * across))
    for top in range(0, rows, step):
        bottom = min(top + step, rows)
        windows = slice(top * across, bottom * across)
        yield windows, padded[:, :, top * STRIDE : (bottom - 1) * STRIDE + WINDOW]


def _taper(device: torch.device) -> Tensor:
    place = (torch.arange(WINDOW, device=device) + 0.5) / WINDOW
    taper = torch.sin(torch.pi * place)
    return taper[:, None] * taper


def _spectra(band: Tensor) -> Tensor:
    """Spectra (N, T, C, F, F/2 + 1) of the tapered windows in a band (N, C, H, W)."""
    windows = band.unfold(2, WINDOW, STRIDE).unfold(3, WINDOW, STRIDE)
    tapered = windows.movedim(1, 3).flatten(1, 2) * _taper(band.device)
    spectra: Tensor = torch.fft.rfft2(tapered)
    return spectra


class _Products(torch.autograd.Function):
    """Products of spectra, whose gradients PyTorch would make from whole spectra and in many steps.

    It takes a band (N, C, H, W) and the spectra (N, T, C, F, F/2 + 1) of the blurry windows, and
    gives (N, T, 3, F, F/2 + 1): real and imaginary part of the cross power of both, and the power
    of the former, summed over C.
    """

    @staticmethod
    def forward(ctx: Any, band: Tensor, image: Tensor) -> Tensor:
        clear = torch.empty_like(image)
        products = image.real.new_empty(*image.shape[:2], 3, *image.shape[3:])
        for some in few_at_a_time(band):
            spectra = clear[some] = _spectra(band[some])
            cross = (image[some].conj_physical() * spectra).sum(2)
            products[some, :, 0], products[some, :, 1] = cross.real, cross.imag
            products[some, :, 2] = (spectra * spectra.conj_physical()).real.sum(2)
        ctx.save_for_backward(clear, image)
        ctx.shape = band.shape
        return products

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        clear, image = ctx.saved_tensors
        result = gradient.new_empty(ctx.shape)
        across = (ctx.shape[3] - WINDOW) // STRIDE + 1
        taper = _taper(gradient.device)
        for some in few_at_a_time(gradient):
            cross = torch.complex(gradient[some, :, :1], gradient[some, :, 1:2])
            total = (image[some] * cross).addcmul_(clear[some], gradient[some, :, 2:], value=2)
            # Columns that stand for two of the whole spectrum count twice in the inverse.
            total[..., 1:-1] *= 0.5
            windows = torch.fft.irfft2(total, s=(WINDOW, WINDOW), norm="forward")
            result[some] = _overlapped(windows.mul_(taper), across)
        return result, None


def _overlapped(windows: Tensor, across: int) -> Tensor:
    """Sum (N, C, H, W) of windows (N, T, C, F, F), so many in a row, at their places."""
    grid = windows.unflatten(1, (-1, across)).movedim(3, 1)
    total = windows.new_zeros(*grid.shape[:2], grid.shape[2] + 1, STRIDE, across + 1, STRIDE)
    halves = grid.unflatten(5, (2, STRIDE)).unflatten(4, (2, STRIDE))
    for down in range(2):
        for right in range(2):
            part = halves[..., down, :, right, :].transpose(3, 4)
            total[:, :, down : down + grid.shape[2], :, right : right + across] += part
    return total.flatten(4, 5).flatten(2, 3)


def _observed(band: Tensor) -> Spectra:
    """Spectra of the windows in a band (N, 2, H, W)."""
    image = _spectra(band)
    limited = band.clamp(-_MOST, _MOST)
    cubes = _spectra(limited * limited * limited)
    conjugate = image.conj_physical()
    power = (image * conjugate).real
    energy = power.mean((2, 3, 4), keepdim=True)
    weight = (energy + _FAINT * WINDOW**2).rsqrt()
    # y = k ∗ x makes conj(Y) Z with Z of x³ a displacement in the direction of the kernel's.
    cross = (conjugate * cubes).sum(2, keepdim=True)
    fixed = torch.cat([power, cross.real, cross.imag], 2) * weight
    bands = functional.avg_pool2d(power[..., :-1].flatten(0, 1), 8)
    bands = bands.unflatten(0, power.shape[:2])
    level = energy[:, :, 0, 0]
    relative_bands = (bands / (level[..., None, None] + _FAINT) + _FAINT).log().flatten(2)
    return Spectra(image, fixed, torch.cat([relative_bands, level.log1p()], 2), weight)


@torch.no_grad()
def observe(relative: Tensor) -> Spectra:
    """Spectra of the windows of images.

    Parameters
    ----------
    relative : Tensor
        `gradients` (N, 2, H, W), H and W multiples of 32.
    """
    count = (len(relative), (relative.shape[2] // STRIDE) * (relative.shape[3] // STRIDE))
    half = WINDOW // 2 + 1
    found = Spectra(
        relative.new_empty((*count, 2, WINDOW, half), dtype=torch.complex64),
        relative.new_empty((*count, 4, WINDOW, half)),
        relative.new_empty((*count, SUMMARY)),
        relative.new_empty((*count, 1, 1, 1)),
    )
    for some in few_at_a_time(relative):
        for windows, band in _bands(relative[some]):
            for whole, part in zip(found, _observed(band), strict=True):
                whole[some, windows] = part
    return found


def displacements(spectra: Spectra, sharp: Tensor, sharing: Tensor, floor: Tensor) -> Tensor:
    """Patches of displacements for groups of windows.

    Parameters
    ----------
    spectra : Spectra
        Of the blurry images.
    sharp : Tensor
        Gradients (N, 2, H, W) as they may have been without blur.
    sharing : Tensor
        Weights (N, B, T) of windows in each group, with sum 1 over T.
    floor : Tensor
        Power, relative to the mean, below which the quotient of spectra fades out; a number.

    Returns
    -------
    Tensor
        (N, B, `CHANNELS`, 33, 33), of magnitude 1: signed roots, which show small values too.
    """
    frequencies = WINDOW * (WINDOW // 2 + 1)
    fixed = sharing.new_zeros(*sharing.shape[:2], 4 * frequencies)
    learned = sharing.new_zeros(*sharing.shape[:2], 3 * frequencies)
    for windows, band in _bands(sharp):
        share = sharing[:, :, windows]
        fixed = fixed + share @ spectra.fixed[:, windows].flatten(2)
        products = _Products.apply(band, spectra.image[:, windows])  # type: ignore[no-untyped-call]
        share = share * spectra.weight[:, windows].flatten(1)[:, None]
        learned = learned + share @ products.flatten(2)
    spectral = torch.cat([fixed, learned], 2).unflatten(2, (7, WINDOW, WINDOW // 2 + 1))
    power, third, quotient, energy = spectral.split([2, 2, 2, 1], 2)
    energy = energy + floor * energy.mean((3, 4), keepdim=True) + _FAINT
    fields = torch.cat(
        [
            torch.complex(power, torch.zeros_like(power)),
            torch.complex(third[:, :, :1], third[:, :, 1:]),
            torch.complex(quotient[:, :, :1], quotient[:, :, 1:]) / energy,
        ],
        2,
    )
    shifts = torch.fft.irfft2(fields, s=(WINDOW, WINDOW))
    shifts = torch.roll(shifts, (WINDOW // 2, WINDOW // 2), (3, 4))
    peak = shifts.abs().amax((3, 4), keepdim=True)
    shifts = shifts / (peak + 1e-6)
    middle, fine = WINDOW // 2, slice(WINDOW // 2 - REACH, WINDOW // 2 + REACH + 1)
    # The coarse patch reads every second displacement, after the mean of two.
    around = functional.pad(shifts, (1, 1, 1, 1), mode="constant").flatten(0, 1)
    coarse = functional.avg_pool2d(around[..., : 2 * middle + 2, : 2 * middle + 2], 2)
    patches = torch.cat([shifts[..., fine, fine], coarse.unflatten(0, shifts.shape[:2])], 2)
    return patches.sign() * (patches.abs() + 1e-4).sqrt()
