"""Scenes on which ways to deblur are measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from blurfield.images import DISPLAY_GAMMA, decode, encode

from .scenes import SETTINGS, SHARP, SHORT_SETTINGS, Setting, make_scene

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .scenes import Scene

__all__ = ["CLIPPED_KINDS", "FURTHER_KINDS", "KINDS", "NOISE", "Case", "cases", "middle"]

#: Exposure of the scenes with lights, which is that of their brightest light, too.
_LIGHTS_EXPOSURE = 8.0
#: The light of what is around the lamps, after exposure, relative to the photograph.
_DIMMED = 0.6
#: Square pixels of the photograph for each lamp, and the radii of lamps in pixels.
_AREA, _RADII = 60**2, (1.5, 5.0)
#: The dimmest lamp relative to the brightest, in linear light.
_LEAST_LAMP = 0.25

#: Kinds of scenes in which nothing is clipped.
KINDS = {kind: SETTINGS[kind] for kind in ("uniform", "segments", "rotation", "object")}
#: Such kinds with long or short blur, or none, which only take part where they are named.
FURTHER_KINDS = {"large": SETTINGS["large"], **SHORT_SETTINGS, "sharp": SHARP}
#: Kinds of scenes in which light is clipped before it is encoded, each with 1 % noise.
CLIPPED_KINDS = {
    "saturated": SETTINGS["saturated"],
    "lights": Setting("uniform", exposure=_LIGHTS_EXPOSURE),
}
#: Standard deviations of the noise of the other kinds, white = 1.
NOISE = (0.005, 0.01, 0.03)


@dataclass(frozen=True)
class Case:
    """A kind of scene at a level of noise.

    Attributes
    ----------
    kind : str
        Of `KINDS`, `FURTHER_KINDS` or `CLIPPED_KINDS`.
    setting : Setting
        How its scenes are made.
    """

    kind: str
    setting: Setting

    @property
    def clips(self) -> bool:
        """Whether scenes have light brighter than white."""
        return self.kind in CLIPPED_KINDS

    @property
    def uniform(self) -> bool:
        """Whether there is one kernel for the whole image and nothing is clipped."""
        return self.setting.blur == "uniform" and not self.clips

    def scene(self, photograph: NDArray[np.uint8], name: str, seed: int, number: int) -> Scene:
        """Blur a photograph, see `make_scene`; `lights` gets lamps first."""
        if self.kind == "lights":
            generator = np.random.default_rng([seed, number])
            photograph = _with_lamps(photograph, self.setting.exposure, generator)
        return make_scene(photograph, name, self.kind, self.setting, seed, number)


def cases(kinds: Sequence[str] | None, noise: Sequence[float]) -> list[Case]:
    """Return the cases of some kinds of scenes, by default of `KINDS` and `CLIPPED_KINDS`.

    Parameters
    ----------
    kinds : sequence of str, optional
        Of `KINDS` or `FURTHER_KINDS`, each of which is a case at every level of noise, or
        `CLIPPED_KINDS`.
    noise : sequence of float
        Standard deviations, white = 1.

    Raises
    ------
    ValueError
        If a kind is unknown, a level of noise is negative, or nothing is left to measure.
    """
    unclipped = KINDS | FURTHER_KINDS
    found = []
    for kind in [*KINDS, *CLIPPED_KINDS] if kinds is None else kinds:
        if kind in CLIPPED_KINDS:
            found.append(Case(kind, CLIPPED_KINDS[kind]))
        elif kind in unclipped:
            found += [Case(kind, replace(unclipped[kind], noise=level)) for level in noise]
        else:
            known = ", ".join([*unclipped, *CLIPPED_KINDS])
            raise ValueError(f"unknown kind of scene {kind!r}; known: {known}")
    if not found:
        raise ValueError("name at least one kind of scene and one level of noise")
    if not all(0 <= level < 1 for level in noise):
        raise ValueError(f"levels of noise must be from 0 to 1, white being 1, not {list(noise)}")
    return found


def middle(photograph: NDArray[np.uint8], side: int | None) -> NDArray[np.uint8]:
    """Return the middle of a photograph, of at most so many pixels a side; None for all of it."""
    if side is None:
        return photograph
    height, width = photograph.shape[:2]
    top, left = (max(0, (n - side) // 2) for n in (height, width))
    return np.ascontiguousarray(photograph[top : top + side, left : left + side])


def _with_lamps(
    photograph: NDArray[np.uint8], exposure: float, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Dim a photograph and put bright discs of slightly different colours on it.

    After the exposure the photograph is 0.6 times as bright as it was, and lamps are 0.25 to 1
    times as bright as the exposure, so that most are far beyond white, as at night.
    """
    light = decode(torch.from_numpy(photograph).double() / 255, DISPLAY_GAMMA).numpy()
    light = light * (_DIMMED / exposure)
    rows, columns = np.ogrid[: light.shape[0], : light.shape[1]]
    for _ in range(max(1, light.shape[0] * light.shape[1] // _AREA)):
        row, column = (generator.uniform(0, n) for n in light.shape[:2])
        disc = np.hypot(rows - row, columns - column) <= generator.uniform(*_RADII)
        light[disc] = generator.uniform(_LEAST_LAMP, 1, light.shape[2:])
    values = encode(torch.from_numpy(light), DISPLAY_GAMMA).mul(255).round().byte()
    return values.numpy()
