"""One scene on which ways to deblur are measured, and how their results are judged."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .alignment import register
from .artefacts import measure_artefacts
from .fidelity import psnr, ssim, unit_values

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from numpy.typing import NDArray

    from blurfield.field import KernelField

    from .contenders import Contender
    from .restoration_scenes import Case
    from .restorers import Restorer
    from .scenes import Scene

__all__ = ["Bench", "RestorationFigures"]


@dataclass(frozen=True)
class RestorationFigures:
    """How good one restored image is, away from the edges and from clipped light.

    Attributes
    ----------
    psnr, ssim : float
        Against the sharp photograph, in dB and up to 1.
    gain, ssim_gain : float
        By how much they are higher than those of the blurry image.
    ringing, noise : float or None
        See `blurfield.evaluation.artefacts.Artefacts`.
    seconds : float or None
        What the deblurring took; None for the blurry image.
    setting : str or None
        The best of several settings, for methods that were given several.
    """

    psnr: float
    ssim: float
    gain: float = 0.0
    ssim_gain: float = 0.0
    ringing: float | None = None
    noise: float | None = None
    seconds: float | None = None
    setting: str | None = None


@dataclass(frozen=True)
class Bench:
    """A scene with the field by which it is deblurred, made as soon as they are needed.

    Attributes
    ----------
    case : Case
        Its kind and noise.
    photograph : numpy.ndarray
        uint8, (H, W) or (H, W, 3), before it is blurred.
    name : str
        Of the photograph.
    seed, number : int
        Of the evaluation and of the photograph in it.
    device : torch.device
        Where to deblur.
    estimator : Contender or None
        Estimates the field; by None the true one is taken, and images need no registration.
    poll : callable
        Called without arguments at least once a second while methods of ours run.
    """

    case: Case
    photograph: NDArray[np.uint8]
    name: str
    seed: int
    number: int
    device: torch.device
    estimator: Contender | None
    poll: Callable[[], None]

    @cached_property
    def scene(self) -> Scene:
        """The blurry photograph with its true field."""
        return self.case.scene(self.photograph, self.name, self.seed, self.number)

    @cached_property
    def field(self) -> KernelField:
        """The field to deblur with."""
        if self.estimator is None:
            return self.scene.truth
        return self.estimator.estimate(
            self.scene.blurry, self.scene.gamma, lambda *_: self.poll()
        ).to("cpu")

    @cached_property
    def blurry(self) -> RestorationFigures:
        """The figures of the blurry image."""
        return self._judged(unit_values(self.scene.blurry))

    def measure(self, restorer: Restorer) -> RestorationFigures:
        """Deblur the scene and return how good that is.

        Of several settings, each is tried until one is worse than the one before it.
        """
        best: RestorationFigures | None = None
        field, blurry, start = self.field, self.blurry, time.perf_counter()
        scene = self.scene
        for setting, image in restorer.attempts(
            scene.blurry, field, scene.gamma, self.device, self.poll
        ):
            seconds = time.perf_counter() - start
            found = self._judged(image, blurry, seconds=seconds, setting=setting)
            if best is not None and found.psnr <= best.psnr:
                break
            best, start = found, time.perf_counter()
        if best is None:
            raise RuntimeError(f"{restorer.name} made no image")
        return best

    @cached_property
    def _sharp(self) -> NDArray[np.float64]:
        return self.scene.sharp()

    @property
    def _radius(self) -> int:
        return self.scene.truth.kernel_size // 2

    @cached_property
    def _mask(self) -> NDArray[np.float64] | None:
        """1 where a pixel counts: where it is clipped in neither sharp nor blurry image."""
        if not self.case.clips:
            return None
        clean = self.scene.reblurred(self.scene.truth, self.poll)
        seen = np.maximum(self._sharp, clean).reshape(*self._sharp.shape[:2], -1)
        return self._inner((seen.max(axis=2) < 1).astype(np.float64))

    def _inner(self, values: NDArray[Any]) -> NDArray[Any]:
        """All but half a kernel at each edge; twice that where images are registered."""
        margin = self._radius if self.estimator is None else 2 * self._radius
        return values[margin : values.shape[0] - margin, margin : values.shape[1] - margin]

    def _judged(
        self, image: NDArray[np.float64], blurry: RestorationFigures | None = None, **facts: Any
    ) -> RestorationFigures:
        if self.estimator is None:
            truth, image = self._inner(self._sharp), self._inner(image)
        else:
            # An estimate leaves a translation open, of at most half a kernel.
            found = register(image, self._sharp, self._radius)
            truth, image = found.truth, found.image
        ratio, similarity = psnr(truth, image, self._mask), ssim(truth, image, self._mask)
        artefacts = measure_artefacts(truth, image, max(1, self._radius), self._mask)
        if blurry is not None:
            facts |= {"gain": ratio - blurry.psnr, "ssim_gain": similarity - blurry.ssim}
        return RestorationFigures(ratio, similarity, **artefacts._asdict(), **facts)
