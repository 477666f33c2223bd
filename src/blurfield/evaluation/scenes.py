"""Fixed scenes: sharp photographs blurred with known fields, always the same for a seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from blurfield.boundary import extend
from blurfield.field import KernelField
from blurfield.images import LinearImage, encode
from blurfield.no_blur import no_blur
from blurfield.operator import BlurOperator
from blurfield.simulation import camera_shake_kernels, simulate

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

#: Simulated shakes whose average is the mean kernel.
_SHAKES = 2000
#: The seed of a scene is this many times the seed of the evaluation plus its photograph's number.
_SEED_STEP = 1000
#: Seeds are below this, so that a scene's own seed fits 63 bits.
_SEEDS = 1 << 48


@dataclass(frozen=True)
class Setting:
    """How the scenes of a kind are made; see `blurfield.simulate` for the meaning.

    Attributes
    ----------
    blur : str
        Kind of blur for `blurfield.simulate`.
    max_extent, min_extent : float
        Limits, in pixels, of what kernels cover along their longer direction; the lower one is by
        default a third of the upper one.
    noise : float
        Standard deviation of the noise of the encoded values, relative to white.
    exposure : float
        Factor to the light of the photograph before it is clipped at white.
    """

    blur: str
    max_extent: float = 33.0
    min_extent: float | None = None
    noise: float = 0.01
    exposure: float = 1.0

    @property
    def extents(self) -> tuple[float, float]:
        """Smallest and largest extent in pixels."""
        smallest = max(1.0, self.max_extent / 3) if self.min_extent is None else self.min_extent
        return smallest, self.max_extent

    @property
    def kernel_size(self) -> int:
        """Side of the kernels in pixels: the smallest odd number that holds them."""
        return 2 * int(np.ceil((self.max_extent - 1) / 2)) + 1


#: Kinds of scenes. With one seed, ``uniform``, ``saturated`` and ``noisy`` have the same kernels.
SETTINGS: dict[str, Setting] = {
    "uniform": Setting("uniform"),
    "segments": Setting("segments"),
    "rotation": Setting("rotation"),
    "object": Setting("object"),
    "large": Setting("uniform", max_extent=65, min_extent=40),
    "saturated": Setting("uniform", exposure=2.0),
    "noisy": Setting("uniform", noise=0.03),
}
#: Further kinds, with short blur.
SHORT_SETTINGS: dict[str, Setting] = {
    "short uniform": Setting("uniform", max_extent=8, min_extent=3),
    "short segments": Setting("segments", max_extent=8, min_extent=2),
    "short rotation": Setting("rotation", max_extent=8, min_extent=3),
}
#: No blur at all.
SHARP = Setting("uniform", max_extent=1)


@dataclass(frozen=True)
class Scene:
    """A blurry photograph of which everything is known.

    Attributes
    ----------
    kind, name : str
        Kind of scene, and name of the photograph.
    blurry : numpy.ndarray
        uint8, (H, W) or (H, W, 3).
    truth : KernelField
        What it was blurred with, of kernel size K.
    light : Tensor
        (C, H + K − 1, W + K − 1), linear light of the sharp photograph, in which the blurry image
        is the middle. Brighter than 1 where an exposure makes it so.
    gamma : float
        Exponent from the image's values to linear light.
    """

    kind: str
    name: str
    blurry: NDArray[np.uint8]
    truth: KernelField
    light: Tensor
    gamma: float

    def sharp(self) -> NDArray[np.float64]:
        """Return what the camera would have seen without blur and noise, as `seen` does."""
        margin = self.truth.kernel_size // 2
        height, width = self.truth.shape
        return self.seen(self.light[:, margin : margin + height, margin : margin + width])

    def reblurred(
        self, field: KernelField, poll: Callable[[], None] | None = None
    ) -> NDArray[np.float64]:
        """Return the sharp photograph blurred with a field of the blurry image's shape, as `seen`.

        Kernels larger than the true ones see a mirror image of the photograph beyond its edges.
        """
        grown = (field.kernel_size - self.truth.kernel_size) // 2
        light = self.light
        if grown > 0:
            light = extend(light, grown, "reflect")
        elif grown < 0:
            light = light[:, -grown:grown, -grown:grown]
        return self.seen(BlurOperator(field, boundary="valid", prune=0, poll=poll).forward(light))

    def seen(self, light: Tensor) -> NDArray[np.float64]:
        """Return the values of linear light (C, H, W): clipped and encoded, white = 1.

        Returns
        -------
        numpy.ndarray
            float64, (H, W) or (H, W, C), as `blurry`.
        """
        values: NDArray[np.float64] = (
            encode(light.clamp(0, 1), self.gamma).permute(1, 2, 0).double().numpy()
        )
        return values if self.blurry.ndim == 3 else values[..., 0]


def check_seed(seed: int) -> None:
    """Raise ValueError unless a number can be the seed of an evaluation."""
    if not 0 <= seed < _SEEDS:
        raise ValueError(f"seed must be from 0 to {_SEEDS - 1}, not {seed}")


def make_scene(
    photograph: NDArray[np.uint8], name: str, kind: str, setting: Setting, seed: int, number: int
) -> Scene:
    """Blur a photograph with a field of its own.

    The blur takes what it needs from beyond the edges of the blurry image, as in a real
    photograph, so that the blurry image is smaller than the photograph by K − 1 pixels.

    Parameters
    ----------
    photograph : numpy.ndarray
        uint8, (H, W) or (H, W, 3).
    name, kind : str
        What the scene is called.
    setting : Setting
        What is done to the photograph. There are two segments where it is divided into such.
    seed, number : int
        Seed of the evaluation and number of the photograph, which fix all that is random.

    Raises
    ------
    ValueError
        If the photograph is too small for the kernels.
    """
    smallest, largest = setting.extents
    blurry, truth = simulate(
        photograph,
        kind=setting.blur,
        seed=_SEED_STEP * seed + number,
        max_extent=largest,
        min_extent=smallest,
        noise=setting.noise,
        exposure=setting.exposure,
        segments=2,
        boundary="valid",
    )
    source = LinearImage.from_array(photograph)
    return Scene(kind, name, blurry, truth, setting.exposure * source.planes, source.gamma)


def guesses(setting: Setting, shape: tuple[int, int], seed: int) -> dict[str, KernelField]:
    """Return fields that need no image: ``delta``, no blur, and ``mean kernel``, the average shake.

    Parameters
    ----------
    setting : Setting
        The mean kernel is the average of 2000 simulated camera shakes of its extents.
    shape : (int, int)
        Height and width of the image in pixels.
    seed : int
        Start of the random numbers.
    """
    delta = no_blur(setting.kernel_size)
    mean = _mean_shake(setting.kernel_size, setting.extents, seed)
    return {
        "delta": KernelField.uniform(delta, shape),
        "mean kernel": KernelField.uniform(mean, shape),
    }


@lru_cache(maxsize=16)
def _mean_shake(size: int, extents: tuple[float, float], seed: int) -> Tensor:
    smallest, largest = extents
    shakes = camera_shake_kernels(
        _SHAKES,
        size,
        max_extent=largest,
        min_extent=smallest,
        generator=torch.Generator().manual_seed(seed),
    )
    return shakes.mean(dim=0)
