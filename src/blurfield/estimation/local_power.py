"""How well kernels agree with the power of an image close to each place.

Windows that show which kernel it is are larger than many things that move. How much power is left
at which frequencies can be seen in much smaller ones: blur takes away the fine details first, the
longer it is, the more. This cannot find a kernel, but it can choose between few.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from blurfield.boundary import source_index

from .spectral import fit_scale, frequencies, transfer_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

#: Standard deviation of the Gaussian window around each place, and distance between places, in
#: units of the kernel size.
_REACH, _STRIDE = 0.5, 0.25
#: The window is cut off at so many standard deviations.
_CUT = 3.0
#: What is read around the windows, in units of the kernel size, since filters see so far.
_MARGIN = 1.5
#: Bands are half an octave apart, and the highest one ends at this frequency, in cycles per pixel.
_HIGHEST, _RATIO = 0.48, math.sqrt(2)
#: Standard deviation of a band, in octaves.
_WIDTH = 0.32
#: Power spectra of the square roots of sharp photographs fall like |f| to the power of this.
_SLOPE = -2.6
#: Least standard deviation of the noise of square roots.
_LEAST_NOISE = 1.5e-3
#: Scores per 1/e of a weight, and the part of the weights that is spread over the whole image
#: first: what is alone in its window may be found elsewhere.
_TOLERANCE, _SPREAD = 0.15, 0.3
#: Steps towards the most likely brightness of the texture, and the least one.
_SCORING_STEPS, _LEAST_SCALE = 10, 1e-12
#: Places down and across that are looked at at a time.
_AT_A_TIME = 64


def choose_locally(
    image: Tensor, kernels: Tensor, weights: Tensor, quiet: Tensor, poll: Callable[[], None]
) -> Tensor:
    """Weights of kernels at each place, from those in large windows and the power nearby.

    Around each place, the power of the square root of the image in bands of frequencies is
    compared with what a kernel leaves of a photograph: −log-likelihood log M + P/M of power P with
    mean M, as in `blurfield.estimation.evidence.SpectralEvidence`, averaged over bands that all
    count the same. In square roots noise is about the same everywhere.

    Parameters
    ----------
    image : Tensor
        Blurry image in linear light with white 1, (H, W).
    kernels : Tensor
        (C, K, K).
    weights : Tensor
        Their weights on any grid of cells over the image, (C, h, w), with sum 1 over C.
    quiet : Tensor
        `blurfield.estimation.evidence.quiet_noise` of the image.
    poll : callable
        Called between steps; may raise to stop.

    Returns
    -------
    Tensor
        Weights (C, h', w') with sum 1, on a grid of cells of about a quarter of the kernel size.
    """
    size = int(kernels.shape[-1])
    stride = max(1.0, _STRIDE * size)
    cells = (max(1, round(image.shape[0] / stride)), max(1, round(image.shape[1] / stride)))
    prior = torch.lerp(weights, weights.mean((1, 2), keepdim=True).expand_as(weights), _SPREAD)
    prior = functional.interpolate(prior[None], size=cells, mode="bilinear")[0]
    prior = prior.clamp_min(torch.finfo(prior.dtype).tiny).log()
    noise = (quiet / 2).clamp_min(_LEAST_NOISE).square()
    bands = _bands(size)
    expected = _expected(kernels, bands)
    roots = image.clamp_min(0).sqrt()
    chosen = torch.empty_like(prior)
    for places, power in _local_power(roots, cells, size, bands, poll):
        poll()
        scores = _scores(power, expected, noise * _flat(bands, image))
        chosen[:, *places] = torch.softmax(prior[:, *places] - scores / _TOLERANCE, 0)
    return chosen


def _bands(size: int) -> list[float]:
    """Middles of the bands for kernels of a size, in cycles per pixel."""
    count = max(2, round(math.log(_HIGHEST * size, _RATIO)))
    return [_HIGHEST * _RATIO ** -(index + 0.5) for index in range(count)]


def _responses(shape: tuple[int, int], bands: list[float], like: Tensor) -> Tensor:
    """Half spectra (J, H, W/2 + 1) of the filters of bands."""
    octaves = frequencies(shape, like).clamp_min(1e-6).log2()
    middles = torch.tensor(bands, dtype=like.dtype, device=like.device).log2()
    away = (octaves - middles[:, None, None]) / _WIDTH
    responses: Tensor = (-0.5 * away.square()).exp()
    return responses


def _expected(kernels: Tensor, bands: list[float]) -> Tensor:
    """Power (C, J) of blurred photographs in the bands."""
    side = 4 * int(kernels.shape[-1])
    shape = (side, side)
    shares = _share(bands, shape, kernels)
    sharp = (2 * math.pi * frequencies(shape, kernels).clamp_min(1 / side)) ** _SLOPE
    transfer = transfer_function(kernels, shape)
    blurred = (transfer.real.square() + transfer.imag.square()) * sharp
    expected: Tensor = torch.einsum("cyx,jyx->cj", blurred, shares)
    return expected


def _flat(bands: list[float], like: Tensor) -> Tensor:
    """Power (J,) of white noise of variance 1 in the bands."""
    return _share(bands, (128, 128), like).sum((1, 2))


def _share(bands: list[float], shape: tuple[int, int], like: Tensor) -> Tensor:
    """What each frequency of a half spectrum adds to the mean square in the bands, (J, H, W')."""
    twice = torch.full((shape[1] // 2 + 1,), 2.0, dtype=like.dtype, device=like.device)
    twice[0] = 1
    if shape[1] % 2 == 0:
        twice[-1] = 1
    return _responses(shape, bands, like).square() * twice / (shape[0] * shape[1])


def _local_power(
    image: Tensor,
    cells: tuple[int, int],
    size: int,
    bands: list[float],
    poll: Callable[[], None],
) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """Mean squares (J, h, w) of the bands of an image (H, W) around places, a tile at a time."""
    reach = _REACH * size
    spans = [
        [
            (slice(first, min(first + _AT_A_TIME, count)), middles[first : first + _AT_A_TIME])
            for first in range(0, count, _AT_A_TIME)
        ]
        for count, middles in (
            (count, (torch.arange(count, dtype=torch.float64) + 0.5) * (length / count) - 0.5)
            for count, length in zip(cells, image.shape, strict=True)
        )
    ]
    for rows, down in spans[0]:
        for columns, across in spans[1]:
            parts = [
                _weights(middles, reach, int(length), round(_MARGIN * size))
                for middles, length in ((down, image.shape[0]), (across, image.shape[1]))
            ]
            (seen_down, weight_down), (seen_across, weight_across) = parts
            part = image[seen_down.to(image.device)][:, seen_across.to(image.device)]
            shape = (int(part.shape[0]), int(part.shape[1]))
            spectrum = torch.fft.rfft2(part - part.mean())
            weight_down, weight_across = weight_down.to(image), weight_across.to(image).T
            power = []
            for band in bands:
                poll()
                response = _responses(shape, [band], image)[0]
                squares = torch.fft.irfft2(spectrum * response, s=shape).square_()
                power.append(weight_down @ squares @ weight_across)
            yield (rows, columns), torch.stack(power)


def _weights(middles: Tensor, reach: float, length: int, margin: int) -> tuple[Tensor, Tensor]:
    """Pixels to read along an axis, and the weights (places, pixels) of each in the windows.

    The pixels go further than the windows by a margin, for the filters; beyond the image they
    mirror it.
    """
    first = max(0, math.floor(float(middles[0]) - _CUT * reach))
    last = min(length - 1, math.ceil(float(middles[-1]) + _CUT * reach))
    pixels = torch.arange(first - margin, last + margin + 1, dtype=torch.float64)
    away = (pixels - middles[:, None]) / reach
    weights = (-0.5 * away.square()).exp() * ((pixels >= first) & (pixels <= last))
    weights = weights / weights.sum(1, keepdim=True)
    return source_index(first - margin, last + margin + 1, length, "reflect"), weights


def _scores(power: Tensor, expected: Tensor, noise: Tensor) -> Tensor:
    """Negative log-likelihood per band of kernels, (C, h, w), from the power (J, h, w)."""
    signal, noise = expected[:, :, None, None], noise[:, None, None]
    scale = ((power - noise).clamp_min(0) / signal).mean(1, keepdim=True).clamp_min(_LEAST_SCALE)
    scale = fit_scale(power, signal, noise, scale, dim=1, steps=_SCORING_STEPS, least=_LEAST_SCALE)
    mean = scale * signal + noise
    scores: Tensor = (mean.log() + power / mean).mean(1)
    return scores
