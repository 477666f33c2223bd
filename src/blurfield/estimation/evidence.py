"""How well the power spectrum of a blurry image agrees with a kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from .spectral import laplacian_spectrum, transfer_function

#: Power spectra of sharp photographs fall like |f|^(-2 · 1.2).
_EXPONENT = 1.2
#: Frequencies compared, in cycles per pixel: below lies the composition of the scene, above the
#: traces of demosaicking and compression.
_LOWEST, _HIGHEST = 0.04, 0.35
#: Noise floor: at least this standard deviation, relative to white.
_LEAST_NOISE = 3e-3
#: Steps towards the most likely brightness of the texture.
_SCORING_STEPS = 8


class SpectralEvidence:
    """Likelihood of kernels given only the power spectra of blurry images.

    A sharp photograph is taken for a random Gaussian texture with the spectrum c·|f|^(−2·1.2), c
    unknown, in white noise σ². The blurry periodogram |V|² is then exponentially distributed with
    mean M(f) = c·|f|^(−2.4)·|K(f)|² + σ², and the negative log-likelihood per frequency is
    log M + |V|²/M (Whittle 1953). Though blind to the phase of the kernel, it knows what image
    priors do not: how much blur there is. No blur at all, which sparse priors favour (Levin et
    al., "Understanding and evaluating blind deconvolution algorithms", CVPR 2009), fares badly.

    Parameters
    ----------
    images : Tensor
        Blurry images, (N, H, W), white 1.
    """

    def __init__(self, images: Tensor) -> None:
        height, width = (int(n) for n in images.shape[-2:])
        self._shape = (height, width)
        taper = torch.outer(
            torch.hann_window(height + 2, periodic=False, dtype=images.dtype)[1:-1].sqrt(),
            torch.hann_window(width + 2, periodic=False, dtype=images.dtype)[1:-1].sqrt(),
        ).to(images.device)
        mean = (images * taper).sum((-2, -1), keepdim=True) / taper.sum()
        spectrum = torch.fft.rfft2((images - mean) * taper)
        power = (spectrum.real.square() + spectrum.imag.square()) / taper.square().sum()
        down = torch.fft.fftfreq(height, dtype=images.dtype, device=images.device)[:, None]
        across = torch.fft.rfftfreq(width, dtype=images.dtype, device=images.device)
        frequency = (down.square() + across.square()).sqrt()
        # Where the signal of a blurry image is weakest there is nothing but noise.
        corner = power[:, frequency > 0.4]
        floor = corner.quantile(0.3, dim=-1) / 0.357  # that quantile of the unit exponential
        self._noise = floor.clamp_min(_LEAST_NOISE**2)[:, None, None]
        used = (frequency > _LOWEST) & (frequency < _HIGHEST)
        self._rows, self._columns = used.nonzero().unbind(1)
        self._power = power[:, self._rows, self._columns][:, None]
        self._prior = laplacian_spectrum(self._shape, images)[used] ** -_EXPONENT

    def __call__(self, kernels: Tensor) -> Tensor:
        """Negative log-likelihood per frequency of kernels (N, M, K, K), shape (N, M)."""
        transfer = transfer_function(kernels, self._shape)[..., self._rows, self._columns]
        signal = (transfer.real.square() + transfer.imag.square()) * self._prior
        noise = self._noise
        scale = (self._power - noise).clamp_min(0).mean(-1, keepdim=True) / signal.mean(
            -1, keepdim=True
        )
        for _ in range(_SCORING_STEPS):
            # Fisher scoring: weighted least squares of the power, with weights 1/M².
            weight = (signal / (scale * signal + noise)).square()
            scale = (weight * (self._power - noise) / signal.clamp_min(1e-20)).sum(-1, keepdim=True)
            scale = (scale / weight.sum(-1, keepdim=True)).clamp_min(1e-8)
        mean = scale * signal + noise
        score: Tensor = (mean.log() + self._power / mean).mean(-1)
        return score
