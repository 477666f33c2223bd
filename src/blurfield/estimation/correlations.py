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

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

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
    down = (grey[:, 1:] - grey[:, :-1]) * (valid[:, 1:] * valid[:, :-1])
    across = (grey[:, :, 1:] - grey[:, :, :-1]) * (valid[:, :, 1:] * valid[:, :, :-1])
    both = torch.stack([functional.pad(down, (0, 0, 0, 1)), functional.pad(across, (0, 1))], 1)
    spread = (both * both).mean((1, 2, 3), keepdim=True).sqrt()
    return both / (spread + _FLAT)


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


def _windows(images: Tensor) -> Tensor:
    """Spectra (N, T, C, F, F/2 + 1) of tapered windows of images (N, C, H, W)."""
    margin = (WINDOW - STRIDE) // 2
    place = (torch.arange(WINDOW, device=images.device) + 0.5) / WINDOW
    taper = torch.sin(torch.pi * place)
    padded = functional.pad(images, (margin,) * 4)
    windows = padded.unfold(2, WINDOW, STRIDE).unfold(3, WINDOW, STRIDE)
    tapered = windows.movedim(1, 3).flatten(1, 2) * (taper[:, None] * taper)
    spectra: Tensor = torch.fft.rfft2(tapered)
    return spectra


@torch.no_grad()
def observe(relative: Tensor) -> Spectra:
    """Spectra of the windows of images.

    Parameters
    ----------
    relative : Tensor
        `gradients` (N, 2, H, W), H and W multiples of 32.
    """
    image = _windows(relative)
    cubes = _windows(relative.clamp(-_MOST, _MOST) ** 3)
    power = image.real * image.real + image.imag * image.imag
    energy = power.mean((2, 3, 4), keepdim=True)
    weight = (energy + _FAINT * WINDOW**2).rsqrt()
    # y = k ∗ x makes conj(Y) Z with Z of x³ a displacement in the direction of the kernel's.
    cross = (image.conj() * cubes).sum(2)
    fixed = torch.cat([power, cross.real[:, :, None], cross.imag[:, :, None]], 2) * weight
    bands = functional.avg_pool2d(power[..., :-1].flatten(0, 1), 8).unflatten(0, power.shape[:2])
    level = energy[:, :, 0, 0]
    summary = torch.cat(
        [(bands / (level[..., None, None] + _FAINT) + _FAINT).log().flatten(2), level.log1p()], 2
    )
    return Spectra(image, fixed, summary, weight)


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
    clear = _windows(sharp)
    cross = (spectra.image.conj() * clear).sum(2)
    own = (clear.real * clear.real + clear.imag * clear.imag).sum(2)
    learned = torch.stack([cross.real, cross.imag, own], 2) * spectra.weight
    everything = torch.cat([spectra.fixed, learned], 2).flatten(2)
    sums = (sharing @ everything).unflatten(2, (7, WINDOW, WINDOW // 2 + 1))
    power, third, quotient, energy = sums.split([2, 2, 2, 1], 2)
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
