"""How windows lie in which kernels are estimated, and those in which they compete."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["WindowSettings"]

#: Windows of kernels that are larger than usual: pixels of all of them together, and the least and
#: largest number, of those in which kernels are estimated and of those in which they compete.
_LARGE_WINDOWS, _LARGE_TRIALS = (8_000_000, 4, 25), (40_000_000, 36, 196)


@dataclass(frozen=True)
class WindowSettings:
    """Constants of the layout; lengths in units of the kernel size.

    Attributes
    ----------
    side, stride : float
        Side of the windows in which kernels are estimated, and distance between them.
    most : int
        Largest number of them.
    trial_side, trial_stride : float
        The same for the windows in which the kernels compete.
    most_trials : int
        Largest number of them.
    overview : int
        Pixels of the middle of the image that are taken for a first, common estimate.
    tolerance : float
        Kernels whose `Evidence` is worse than the best by this much weigh 1/e.
    """

    side: float = 5.8
    stride: float = 4.4
    most: int = 16
    trial_side: float = 4.8
    trial_stride: float = 2.4
    most_trials: int = 100
    overview: int = 240_000
    tolerance: float = 0.1

    def limited(self, size: int) -> WindowSettings:
        """So many windows for kernels of a size that they don't take too much memory."""
        numbers = [
            min(most, max(least, int(pixels / (side * size) ** 2)))
            for (pixels, least, most), side in (
                (_LARGE_WINDOWS, self.side),
                (_LARGE_TRIALS, self.trial_side),
            )
        ]
        return replace(self, most=numbers[0], most_trials=numbers[1])
