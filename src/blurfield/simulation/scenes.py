"""What a camera makes of light: photon noise, saturation, display encoding, noise, rounding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from blurfield.images import decode, encode


def photograph(
    light: Tensor,
    *,
    gamma: float = 1.0,
    noise: float = 0.0,
    photons: float | None = None,
    bits: int | None = None,
    generator: torch.Generator,
) -> Tensor:
    """Take a picture: from light on the sensor to the light that a noisy, clipped image shows.

    In this order: photon noise, saturation at white, display encoding with `gamma`, Gaussian
    noise, rounding to `bits`, decoding. Gaussian noise is added to the *encoded* values, where the
    noise of real photographs is about the same in shadows and highlights: encoding nearly undoes
    the growth of photon noise with the signal.

    Parameters
    ----------
    light : Tensor
        Linear light, non-negative, any shape; white is 1 and brighter values saturate.
    gamma : float
        Encoded values are ``light ** (1 / gamma)``.
    noise : float
        Standard deviation of the Gaussian noise, relative to white.
    photons : float, optional
        Photons that make white; by default there is no photon noise.
    bits : int, optional
        Round encoded values to ``2 ** bits - 1`` steps; by default they are not rounded.
    generator : torch.Generator
        Source of all random numbers, on any device.

    Returns
    -------
    Tensor
        Linear light in [0, 1], of the shape, type and device of `light`, which is not modified.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise must be a standard deviation >= 0, got {noise}")
    if photons is not None and not (math.isfinite(photons) and photons > 0):
        raise ValueError(f"photons at white must be positive, got {photons}")
    if bits is not None and not 1 <= bits <= 24:
        raise ValueError(f"bits must be in 1…24, got {bits}")
    source = generator.device
    if photons is not None:
        counts = torch.poisson((light.clamp_min(0) * photons).to(source), generator=generator)
        light = counts.to(light.device) / photons
    values = encode(light.clamp(0, 1), gamma)
    if noise > 0:
        draw = torch.randn(values.shape, generator=generator, device=source, dtype=values.dtype)
        values = (values + noise * draw.to(values.device)).clamp(0, 1)
    if bits is not None:
        steps = 2**bits - 1
        values = (values * steps).round() / steps
    return decode(values, gamma)
