"""Random paths of a hand-held camera during one exposure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Standard deviation of the linear drift per axis, in radians per exposure (specification §3.6).
DRIFT_STD = 0.017
#: Standard deviation of the tremor around the drift per axis, in radians (specification §3.6).
TREMOR_STD = 1.1e-3
#: Corner frequency of the tremor's spectrum, in cycles per exposure (specification §3.6).
TREMOR_CORNER = 1.5

#: The tremor is drawn over a period this many exposures long, of which one is kept: the discrete
#: Fourier transform makes it periodic, and a path must not have to return to where it began.
_PERIOD = 4
#: A steadied camera hardly drifts: its drift is this many times its tremor, on average.
_STEADY_DRIFT_RATIO = 2.0
#: Corner frequencies, in cycles per exposure, of a steadied camera's tremor. The longer the
#: exposure, the higher this is and the more the path turns back on itself.
_STEADY_CORNERS = (0.5, 2.0)


def camera_shake_angles(
    n: int,
    samples: int = 256,
    *,
    axes: int = 3,
    tremor_share: float = 0.5,
    generator: torch.Generator,
) -> Tensor:
    """Draw the angles through which a hand-held camera turns during one exposure.

    Each angle is a linear drift plus a coloured Gaussian process whose amplitude falls as
    ``1 / (f² + f0²)`` with the frequency f, the recipe of §3.6 of the specification (physiological
    hand tremor: Gavant et al. 2011, Delbracio and Sapiro 2015). In a share of the paths the camera
    is held steady: there is hardly any drift, the tremor dominates, and the path is curved, with
    cusps and points where it dwells.

    Parameters
    ----------
    n : int
        Number of paths, at least 0.
    samples : int
        Number of instants, evenly spread over the exposure, at least 2.
    axes : int
        Number of angles: 3 for yaw, pitch and roll.
    tremor_share : float
        Probability in [0, 1] that a path is tremor-dominated.
    generator : torch.Generator
        Source of all random numbers. The result is on its device.

    Returns
    -------
    Tensor
        Angles in radians, float32, shape (n, samples, axes); the mean over each exposure is 0.

    Raises
    ------
    ValueError
        If a parameter is outside its range.
    """
    if n < 0 or samples < 2 or axes < 1:
        raise ValueError(
            f"need n >= 0, samples >= 2 and axes >= 1, got n={n}, samples={samples}, axes={axes}"
        )
    if not 0 <= tremor_share <= 1:
        raise ValueError(f"tremor_share must be in [0, 1], got {tremor_share}")

    steady = _uniform((n,), generator) < tremor_share
    lowest, highest = _STEADY_CORNERS
    steady_corner = lowest * (highest / lowest) ** _uniform((n,), generator)
    corner = torch.where(steady, steady_corner, TREMOR_CORNER)
    drift_std = torch.where(steady, _STEADY_DRIFT_RATIO * TREMOR_STD, DRIFT_STD)

    drift = _normal((n, 1, axes), generator) * drift_std[:, None, None]
    time = torch.linspace(-0.5, 0.5, samples, device=generator.device)[:, None]
    angles = drift * time + TREMOR_STD * _tremor(n, samples, axes, corner, generator)
    return angles - angles.mean(dim=1, keepdim=True)


def _tremor(n: int, samples: int, axes: int, corner: Tensor, generator: torch.Generator) -> Tensor:
    """One exposure, (n, samples, axes), of a Gaussian process of standard deviation 1."""
    length = _PERIOD * samples
    frequency = torch.fft.rfftfreq(length, d=1 / samples, device=generator.device)
    amplitude = 1 / (frequency**2 + corner[:, None] ** 2)
    amplitude[:, 0] = 0  # a constant offset is no movement
    # White noise has the same power at all frequencies, so that of the result is amplitude².
    power = 2 * amplitude.square().sum(dim=1, keepdim=True) / length
    amplitude = amplitude / power.sqrt()
    white = torch.fft.rfft(_normal((n, length, axes), generator), dim=1)
    period: Tensor = torch.fft.irfft(white * amplitude[:, :, None], n=length, dim=1)
    return period[:, :samples]


def _normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randn(tuple(shape), generator=generator, device=generator.device)


def _uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.rand(tuple(shape), generator=generator, device=generator.device)
