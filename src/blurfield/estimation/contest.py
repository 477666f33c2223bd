"""Which kernels, and how much of each, are right in each part of an image: they compete."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from blurfield.no_blur import no_blur
from blurfield.support import padded

from .evidence import quiet_noise
from .kernels import align_together
from .windows import common_frame, judge, judge_own

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from blurfield.windows import Windows

    from .camera import CameraMotion

__all__ = ["Contest"]

#: Kernels that follow from one motion of the camera count for better than their `Evidence` says by
#: this much: the others are the best of many for each window, these are the same for all of them.
_ONE_MOTION = 0.1


@dataclass(frozen=True)
class Contest:
    """Kernels that compete in windows of an image.

    Attributes
    ----------
    image : Tensor
        Grey, in linear light, (H, W).
    windows : Windows
        N windows.
    quiet : Tensor
        `quiet_noise` of the image.
    kernels, scores : Tensor
        Point-spread functions that compete in all windows, (C, K, K), the first of which is no
        blur; and their scores, (N, C): less is better.
    own, own_scores : Tensor
        The same for kernels that each window has for itself, (N, M, K, K) and (N, M).
    """

    image: Tensor
    windows: Windows
    quiet: Tensor
    kernels: Tensor
    scores: Tensor
    own: Tensor
    own_scores: Tensor

    @classmethod
    def of(
        cls, image: Tensor, kernels: Tensor, windows: Windows, poll: Callable[[], None]
    ) -> Contest:
        """Let kernels (C, K, K) and no blur compete, by `judge`, after `common_frame`."""
        kernels = common_frame(kernels, poll)
        quiet = quiet_noise(image)
        scores = judge(windows.cut(image), kernels, quiet, poll)
        size = int(kernels.shape[-1])
        still = no_blur(size, kernels.device, kernels.dtype)[None]
        own = kernels.new_zeros(len(scores), 0, size, size)
        return cls(image, windows, quiet, torch.cat([still, kernels]), scores, own, own[..., 0, 0])

    def with_camera(self, camera: CameraMotion, poll: Callable[[], None]) -> Contest:
        """Let the kernels of a motion of the camera compete, too.

        They stay as they lie to each other: all move by the same whole pixels to where the winners
        of each window are.
        """
        found = camera.kernels_at(self.windows.centres()).to(self.kernels)
        found = padded(found, int(self.kernels.shape[-1]))
        winners = self.kernels[self.scores.argmin(1)]
        own = torch.stack([align_together(each, winners) for each in found.unbind(1)], 1)
        scores = judge_own(self.windows.cut(self.image), own, self.quiet, poll) - _ONE_MOTION
        return replace(self, own=own, own_scores=scores)

    def shares(self, tolerance: float) -> tuple[Tensor, Tensor]:
        """How much of each kernel there is in each window.

        Parameters
        ----------
        tolerance : float
            Kernels whose score is worse than the best by this much weigh 1/e.

        Returns
        -------
        kernels : Tensor
            Those that compete in all windows, and the mean of what each window has for itself, if
            there is such a kernel: (C, K, K) or (C + N, K, K).
        weights : Tensor
            Their weights in each window, with sum 1.
        """
        weights = torch.softmax(-torch.cat([self.scores, self.own_scores], 1) / tolerance, dim=1)
        if self.own.shape[1] == 0:
            return self.kernels, weights
        shared = self.scores.shape[1]
        within = torch.softmax(-self.own_scores / tolerance, dim=1)
        means = torch.einsum("nm,nmij->nij", within, self.own)
        alone = torch.diag(weights[:, shared:].sum(1))
        return torch.cat([self.kernels, means]), torch.cat([weights[:, :shared], alone], 1)
