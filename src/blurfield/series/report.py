"""What became of a frame."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FrameReport"]


@dataclass(frozen=True)
class FrameReport:
    """What became of a frame.

    Attributes
    ----------
    number : int
        The frame.
    status : str
        ``"done"``; ``"kept"``, if it was done before; or ``"failed"``.
    reason : str
        Why it failed, why it was done again although it had been done before, or why that could not
        be told of a frame that is kept; otherwise "".
    seconds : float or None
        How long the work took, if there was any.
    extent : float or None
        Median extent of its blur in pixels, if its field could be estimated; see
        `blurfield.blur_extent`.
    """

    number: int
    status: str
    reason: str = ""
    seconds: float | None = None
    extent: float | None = None

    @property
    def ok(self) -> bool:
        """Whether there are results of it."""
        return self.status != "failed"

    @property
    def again(self) -> bool:
        """Whether it was done again, since what it had been made of has changed."""
        return self.status == "done" and bool(self.reason)
