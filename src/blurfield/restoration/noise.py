"""How noisy an image is: read from the image itself, or known of the camera."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    #: What solvers take as `noise`, see `resolve_noise`.
    NoiseOption = str | Sequence[float] | Sequence[Sequence[float]]

__all__ = ["NoiseModel", "estimate_noise", "mean_noise", "resolve_noise"]

#: Median absolute deviation of a normal distribution with standard deviation 1.
_NORMAL_MAD = 0.6745

#: Blocks looked at. More make large images slower, not the estimate noticeably better.
_MAX_BLOCKS = 400_000

#: Groups of blocks of similar brightness, and the fewest blocks that one of them may have.
_MAX_GROUPS, _MIN_PER_GROUP = 12, 40

#: Blocks with a brighter pixel than this may be clipped, which hides their noise.
_CLIPPED = 0.98


@dataclass(frozen=True)
class NoiseModel:
    """Noise whose variance grows linearly with the signal: var(s) = `gain`·s + `floor`.

    Photon noise has a gain only, noise of the electronics a floor only. Gaussian noise added after
    display encoding looks like photon noise in linear light.

    Attributes
    ----------
    gain : float
        Variance that one unit of light adds; white is 1.
    floor : float
        Variance in the dark.
    """

    gain: float
    floor: float

    def std(self, level: float) -> float:
        """Standard deviation at a brightness."""
        return float((self.gain * level + self.floor) ** 0.5)

    def variance(self, light: Tensor) -> Tensor:
        """Variance at the brightness of each pixel; a new tensor of the shape of `light`."""
        return light.clamp_min(0).mul_(self.gain).add_(self.floor)


def estimate_noise(planes: Tensor) -> NoiseModel:
    """Estimate the noise of an image in linear light.

    Diagonal Haar details of 2×2 blocks hold noise and little else: their median absolute deviation
    (Donoho & Johnstone 1994), taken separately for blocks of similar brightness, gives variances
    to which the model is fitted by least squares of relative errors.

    Parameters
    ----------
    planes : Tensor, shape (C, H, W)
        Linear light, black 0, white 1.

    Returns
    -------
    NoiseModel
        Zero for images without two pixels a side or with clipped blocks only.
    """
    _, height, width = planes.shape
    step = block_step(*planes.shape)
    corners = torch.stack(
        [
            planes[:, dy : dy + height - 1 : step, dx : dx + width - 1 : step].flatten()
            for dy in (0, 1)
            for dx in (0, 1)
        ]
    )
    low, high = corners.aminmax(dim=0) if corners.shape[1] else (corners[0], corners[0])
    corners = corners[:, (low > 0) & (high < _CLIPPED)].cpu().double()
    if corners.shape[1] == 0:
        return NoiseModel(0.0, 0.0)
    detail = (corners[0] - corners[1] - corners[2] + corners[3]).abs() / 2
    brightness, order = corners.mean(0).sort()
    groups = max(1, min(_MAX_GROUPS, len(order) // _MIN_PER_GROUP))
    levels = torch.stack([part.median() for part in brightness.tensor_split(groups)])
    deviations = torch.stack([part.median() for part in detail[order].tensor_split(groups)])
    return _fit(levels, (deviations / _NORMAL_MAD).square())


def block_step(channels: int, height: int, width: int) -> int:
    """Return how many pixels lie between the blocks that `estimate_noise` looks at."""
    step = 2
    while channels * (height // step) * (width // step) > _MAX_BLOCKS:
        step += 1
    return step


def resolve_noise(noise: NoiseOption, planes: Tensor) -> list[NoiseModel]:
    """Return the noise of each channel that an option of `deblur` means.

    Parameters
    ----------
    noise : str, pair of float, or sequence of such pairs
        ``"auto"`` estimates the noise that all channels have in common, ``"per-channel"`` that of
        each one. A pair (gain, read noise) is known of a camera or microscope; several are for
        one channel each. In units of white: the gain is the variance that one unit of light adds,
        the read noise a standard deviation. A sensor of g counts per photo-electron and a read
        noise of r counts, of which w are white, has the gain g/w and the read noise r/w.
    planes : Tensor, shape (C, H, W)
        Linear light, black 0, white 1.

    Returns
    -------
    list of NoiseModel
        One for each channel.

    Raises
    ------
    ValueError
        If the option is another word, there are not as many pairs as channels, or a number is
        negative or not finite.
    TypeError
        If it is something else.
    """
    if isinstance(noise, str):
        if noise == "auto":
            return [estimate_noise(planes)] * len(planes)
        if noise == "per-channel":
            return [estimate_noise(plane[None]) for plane in planes]
        raise ValueError(
            f"noise must be 'auto', 'per-channel' or (gain, read noise), but is {noise!r}"
        )
    if not isinstance(noise, Sequence):
        raise TypeError(
            f"noise must be 'auto', 'per-channel' or (gain, read noise), but is {noise!r}"
        )
    several = len(noise) > 0 and all(isinstance(pair, Sequence) for pair in noise)
    pairs = list(noise) if several else [noise] * len(planes)
    if len(pairs) != len(planes):
        raise ValueError(
            f"noise has {len(pairs)} pairs (gain, read noise), but the image has "
            f"{len(planes)} channels"
        )
    return [_from_pair(pair) for pair in pairs]


def mean_noise(models: Sequence[NoiseModel]) -> NoiseModel:
    """Return the average of several channels' noise."""
    if all(model == models[0] for model in models):
        return models[0]
    return NoiseModel(
        sum(model.gain for model in models) / len(models),
        sum(model.floor for model in models) / len(models),
    )


def _from_pair(pair: Any) -> NoiseModel:
    """Noise of a gain and a read noise."""
    valid = (
        isinstance(pair, Sequence)
        and len(pair) == 2
        and all(isinstance(value, (int, float)) for value in pair)
    )
    if not valid or not all(math.isfinite(value) and value >= 0 for value in pair):
        raise ValueError(
            f"noise must be given as two numbers ≥ 0, (gain, read noise), but is {pair!r}"
        )
    gain, read_noise = pair
    return NoiseModel(float(gain), float(read_noise) ** 2)


def _fit(levels: Tensor, variances: Tensor) -> NoiseModel:
    """Non-negative least squares of the relative errors of gain·level + floor."""
    gain, floor = 0.0, float(variances.mean())
    for _ in range(5):  # the weights are those of the fit before
        weights = 1 / (gain * levels + floor).clamp_min(1e-12)
        columns = torch.stack([levels, torch.ones_like(levels)], dim=1) * weights[:, None]
        target = variances * weights
        candidates = [_solve(columns, target, kept) for kept in ((0, 1), (0,), (1,))]
        feasible = [pair for pair in candidates if min(pair) >= 0]
        gain, floor = min(
            feasible,
            key=lambda pair: float((columns @ columns.new_tensor(pair) - target).square().sum()),
        )
    return NoiseModel(gain, floor)


def _solve(columns: Tensor, target: Tensor, kept: tuple[int, ...]) -> tuple[float, float]:
    """Least squares with some of the two columns; the coefficients of the others are 0."""
    part = columns[:, list(kept)]
    found = torch.linalg.pinv(part) @ target
    solution = [0.0, 0.0]
    for index, value in zip(kept, found.tolist(), strict=True):
        solution[index] = value
    return solution[0], solution[1]
