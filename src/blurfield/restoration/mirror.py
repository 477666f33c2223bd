"""Whether a field undoes the blur the right way round.

A blind estimate can explain every pixel of a blurry image and still be wrong. How much light each
frequency has lost shows in the image's power spectrum, but not where the light went: kernels with
the same transfer but other phases explain the image as well, by a sharp image that looks like
waves. The kernel rotated by 180° is one such kernel, and it is certainly wrong. What is restored
with it has the same power spectrum as what is restored with the kernel itself. If that one is
right, edges come out as edges, and gradients are sparse. Where gradients are no sparser than with
the mirrored kernel, nothing tells that the kernel is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from blurfield.sparsity import gradient_spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from blurfield.field import KernelField
    from blurfield.windows import Windows

    from .noise import NoiseModel

__all__ = ["mirror_evidence"]

#: Power spectra of sharp photographs fall like |f|^(−2 · 1.2); that of a window is compared with
#: it between these frequencies, in cycles per pixel.
_EXPONENT = 1.2
_LOWEST, _HIGHEST = 0.04, 0.35
#: Least variance of the noise, which keeps the inverse filter finite.
_LEAST_VARIANCE = 1e-7
#: Pixels of windows that are looked at at a time.
_AT_A_TIME = 1 << 20


def mirror_evidence(
    grey: Tensor,
    field: KernelField,
    noise: NoiseModel,
    windows: Windows,
    poll: Callable[[], None],
) -> Tensor:
    """How much sparser gradients are with the kernels of a field than with their mirror images.

    Each window is deconvolved by Wiener's filter with the kernel in its middle, and with that
    kernel rotated by 180°, for a photograph whose power spectrum falls like 1/f^2.4. How sparse
    gradients are is told by the ratio of their mean magnitude to their root mean square, a
    normalised sparsity measure that blur and waves raise (Krishnan et al. 2011).

    Parameters
    ----------
    grey : Tensor, shape (H, W)
        Blurry image in linear light.
    field : KernelField
        Its blur.
    noise : NoiseModel
        Its noise.
    windows : Windows
        Where to look.
    poll : callable
        Called between steps; may raise to stop.

    Returns
    -------
    Tensor, shape (N,)
        Logarithm of the ratio with the mirrored kernel over that with the kernel, for each window:
        0 if both are the same, above 0 if the kernel makes sparser gradients.
    """
    height, width = windows.size
    kernels = field.kernels_at(windows.centres())
    cut = windows.cut(grey)
    chunk = max(1, _AT_A_TIME // (height * width))
    found = []
    for start in range(0, len(cut), chunk):
        poll()
        part = slice(start, start + chunk)
        found.append(_evidence(cut[part], kernels[part], noise))
    return torch.cat(found)


def _evidence(images: Tensor, kernels: Tensor, noise: NoiseModel) -> Tensor:
    """`mirror_evidence` of images (N, h, w) with a kernel (N, K, K) each."""
    height, width = shape = (int(images.shape[-2]), int(images.shape[-1]))
    window = torch.outer(*(torch.hann_window(n + 2, periodic=False)[1:-1] for n in shape))
    window = window.to(images)
    taper, weight = window.sqrt(), float(window.sum())
    down = torch.fft.fftfreq(height).to(images)[:, None]
    across = torch.fft.rfftfreq(width).to(images)
    squared = down.square() + across.square()
    prior = squared.clamp_min(1 / max(shape) ** 2).pow(-_EXPONENT)
    used = (squared > _LOWEST**2) & (squared < _HIGHEST**2)

    brightness = (images * window).sum((-2, -1)) / weight
    variance = noise.variance(brightness).add_(_LEAST_VARIANCE)
    spectrum = torch.fft.rfft2((images - brightness[:, None, None]) * taper)
    transfer = torch.fft.rfft2(kernels, s=shape)
    gain = transfer.abs().square()
    power = (spectrum.abs().square() / weight)[:, used].mean(1) - variance
    contrast = power.clamp_min(_LEAST_VARIANCE / 10) / (prior * gain)[:, used].mean(1)
    inverse = spectrum / (gain + (variance / contrast)[:, None, None] / prior)
    # Kernels are correlated with the image, so the transfer itself undoes its phase. Their middle
    # is not where the transform has its origin, which moves the result.
    radius = kernels.shape[-1] // 2
    sharp, mirrored = (
        torch.fft.irfft2(phases * inverse, s=shape).roll((moved, moved), (-2, -1))
        for phases, moved in ((transfer, -radius), (transfer.conj(), radius))
    )
    return gradient_spread(mirrored, window) - gradient_spread(sharp, window)
