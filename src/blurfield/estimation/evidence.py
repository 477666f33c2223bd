"""How well a blurry image agrees with a kernel: its power spectrum, and what it was before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from blurfield.sparsity import gradient_spread
from blurfield.windows import Windows

from .spectral import fit_scale, frequencies, laplacian_spectrum, transfer_function

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

#: Power spectra of sharp photographs fall like |f|^(-2 · 1.2).
_EXPONENT = 1.2
#: Frequencies compared, in cycles per pixel: below lies the composition of the scene, above the
#: traces of demosaicking and compression.
_LOWEST, _HIGHEST = 0.04, 0.35
#: Noise floor: at least this standard deviation, relative to white.
_LEAST_NOISE = 3e-3
#: Least mean brightness, and the factor to the noise of the quiet parts of an image up to which it
#: passes for noise elsewhere.
_DARK, _VARIATION = 1e-3, 1.3
#: Sides of the squares among which those are looked for, their largest number, and the quantile.
_SQUARE, _MOST_SQUARES, _QUIET = 48, 2000, 0.05
#: Steps towards the most likely brightness of the texture.
_SCORING_STEPS = 8
#: What a kernel gains if the gradients of the image that it leads to are sparser by a factor e.
_SPARSITY = 5.0
#: Least power, and pixels of images that are restored at a time.
_LEAST_POWER = 1e-8
_AT_A_TIME = 1 << 19


class Evidence:
    """Likelihood of kernels given blurry images: by their power spectra, and by sparsity.

    See `SpectralEvidence` and `SparsityEvidence`. The one knows how much each frequency has lost,
    but not where the light went; the other one tells whether edges come out as edges.

    Parameters
    ----------
    images : Tensor
        Blurry images, (N, H, W), white 1.
    poll : callable
        Called between steps; may raise to stop.
    noise : Tensor, optional
        Variance of their noise, (N,); by default `noise_floor`.
    """

    def __init__(
        self, images: Tensor, poll: Callable[[], None], noise: Tensor | None = None
    ) -> None:
        self._spectral = SpectralEvidence(images, noise)
        self._sparsity = SparsityEvidence(images, self._spectral.noise, poll)

    def __call__(self, kernels: Tensor) -> Tensor:
        """Scores (N, M) of kernels (N, M, K, K), or (1, M, K, K) for all images; less is better."""
        return self._spectral(kernels) + _SPARSITY * self._sparsity(kernels)


class SparsityEvidence:
    """How sparse the gradients of the image are that a kernel leads to.

    Each image is restored by Wiener's filter, for photographs with spectra like c·|f|^(−2·1.2), c
    by the power that is left by the kernel. The score is the logarithm of `gradient_spread`.
    Kernels with the same power spectrum lead to images with the same power spectrum, so among them
    it is the phase that counts.

    Parameters
    ----------
    images : Tensor
        Blurry images, (N, H, W), white 1.
    noise : Tensor
        Variance of their noise, (N,).
    poll : callable
        Called between steps; may raise to stop.
    """

    def __init__(self, images: Tensor, noise: Tensor, poll: Callable[[], None]) -> None:
        height, width = (int(n) for n in images.shape[-2:])
        self._shape, self._poll, self._noise = (height, width), poll, noise
        self._window = _hann((height, width), images)
        total = float(self._window.sum())
        mean = (images * self._window).sum((-2, -1), keepdim=True) / total
        self._spectrum = torch.fft.rfft2((images - mean) * self._window.sqrt())
        frequency = frequencies((height, width), images)
        self._used = (frequency > _LOWEST) & (frequency < _HIGHEST)
        self._prior = frequency.clamp_min(1 / max(height, width)) ** (-2 * _EXPONENT)
        power = self._spectrum.real.square() + self._spectrum.imag.square()
        self._power = (power[:, self._used].mean(1) / total - noise).clamp_min(_LEAST_POWER)

    def __call__(self, kernels: Tensor) -> Tensor:
        """Scores (N, M) of kernels (N, M, K, K), or (1, M, K, K) for all images; less is better."""
        chunk = max(1, _AT_A_TIME // (self._shape[0] * self._shape[1]))
        return torch.stack(
            [
                torch.cat([self._scores(index, part) for part in own.split(chunk)])
                for index, own in enumerate(kernels.expand(len(self._spectrum), -1, -1, -1))
            ]
        )

    def _scores(self, index: int, kernels: Tensor) -> Tensor:
        """Scores of kernels (M, K, K) in one of the images, (M,)."""
        self._poll()
        transfer = transfer_function(kernels, self._shape)
        gain = transfer.real.square() + transfer.imag.square()
        contrast = self._power[index] / (self._prior * gain)[:, self._used].mean(1)
        regular = (self._noise[index] / contrast)[:, None, None] / self._prior
        restored = transfer.conj() * (self._spectrum[index] / (gain + regular))
        return gradient_spread(torch.fft.irfft2(restored, s=self._shape), self._window)


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
    noise : Tensor, optional
        Variance of their noise, (N,); by default `noise_floor`.
    """

    def __init__(self, images: Tensor, noise: Tensor | None = None) -> None:
        self._shape = (int(images.shape[-2]), int(images.shape[-1]))
        power = _periodogram(images)
        frequency = frequencies(self._shape, images)
        #: Variance of the noise, (N,).
        self.noise = _floor(power, frequency) if noise is None else noise
        used = (frequency > _LOWEST) & (frequency < _HIGHEST)
        self._rows, self._columns = used.nonzero().unbind(1)
        self._power = power[:, self._rows, self._columns][:, None]
        self._prior = laplacian_spectrum(self._shape, images)[used] ** -_EXPONENT

    def __call__(self, kernels: Tensor) -> Tensor:
        """Negative log-likelihood per frequency of kernels (N, M, K, K), shape (N, M)."""
        transfer = transfer_function(kernels, self._shape)[..., self._rows, self._columns]
        signal = (transfer.real.square() + transfer.imag.square()) * self._prior
        noise = self.noise[:, None, None]
        scale = (self._power - noise).clamp_min(0).mean(-1, keepdim=True) / signal.mean(
            -1, keepdim=True
        )
        scale = fit_scale(
            self._power, signal, noise, scale, dim=-1, steps=_SCORING_STEPS, least=1e-8
        )
        mean = scale * signal + noise
        score: Tensor = (mean.log() + self._power / mean).mean(-1)
        return score


def noise_floor(images: Tensor) -> Tensor:
    """Variance of the noise of blurry images (N, H, W), (N,): their power at high frequencies.

    Of images that are not blurred, the finest details are among it.
    """
    shape = (int(images.shape[-2]), int(images.shape[-1]))
    return _floor(_periodogram(images), frequencies(shape, images))


def quiet_noise(image: Tensor) -> Tensor:
    """Noise of an image (H, W) where there are the fewest details, relative to `noise_unit`.

    A low quantile over small squares, as a standard deviation.
    """
    shape = (int(image.shape[0]), int(image.shape[1]))
    squares = Windows.on(shape, _SQUARE, _SQUARE, _MOST_SQUARES).cut(image)
    return (noise_floor(squares).sqrt() / noise_unit(squares)).quantile(_QUIET)


def noise_unit(images: Tensor) -> Tensor:
    """What the noise of images (N, H, W) is proportional to within a photograph, (N,).

    In linear light, the standard deviation grows with the root of the brightness, whether the noise
    comes from photons or was even in encoded values.
    """
    return images.mean((-2, -1)).clamp_min(_DARK).sqrt()


def share_noise(windows: Tensor, quiet: Tensor) -> tuple[Tensor, Tensor]:
    """Noise of windows of one image, and how much of their `noise_floor` is fine detail.

    Where there is sharp texture, it looks like noise; the rest of the image tells what is.

    Parameters
    ----------
    windows : Tensor
        (N, H, W), white 1.
    quiet : Tensor
        `quiet_noise` of the image.

    Returns
    -------
    noise : Tensor
        Variance of the noise, (N,), at most `noise_floor`.
    detail : Tensor
        Root of the noise floor, relative to what is noise, (N,).
    """
    floor = noise_floor(windows)
    usual = quiet * noise_unit(windows)
    most = (_VARIATION * usual).clamp_min(_LEAST_NOISE)
    return torch.minimum(floor, most.square()), floor.sqrt() / usual


def _periodogram(images: Tensor) -> Tensor:
    """Power of images (N, H, W) at the frequencies of a half spectrum, per pixel."""
    taper = _hann((int(images.shape[-2]), int(images.shape[-1])), images).sqrt()
    mean = (images * taper).sum((-2, -1), keepdim=True) / taper.sum()
    spectrum = torch.fft.rfft2((images - mean) * taper)
    power: Tensor = (spectrum.real.square() + spectrum.imag.square()) / taper.square().sum()
    return power


def _floor(power: Tensor, frequency: Tensor) -> Tensor:
    """Noise of images by their `_periodogram`, (N,)."""
    # Where the signal of a blurry image is weakest there is nothing but noise.
    corner = power[:, frequency > 0.4]
    floor = corner.quantile(0.3, dim=-1) / 0.357  # that quantile of the unit exponential
    variance: Tensor = floor.clamp_min(_LEAST_NOISE**2)
    return variance


def _hann(shape: tuple[int, int], like: Tensor) -> Tensor:
    """Hann's window without its zeros, (H, W)."""
    sides = (torch.hann_window(n + 2, periodic=False, dtype=like.dtype)[1:-1] for n in shape)
    return torch.outer(*sides).to(like.device)
