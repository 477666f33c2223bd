"""The work on one frame: a function of the frame and the settings, wherever it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from blurfield._version import __version__
from blurfield.compute import part_of

from .changes import CHANGED, PIXELS, forget_changed, frame_digest
from .report import FrameReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField

    from .store import Series

    #: Reads a frame.
    Reader = Callable[[int], NDArray[Any]]

__all__ = ["make_frame", "share_of_memory"]

#: What is wrong with a frame or with the settings for it, as opposed to the disk or the program.
_BAD = (ValueError, TypeError, MemoryError)


def make_frame(
    series: Series,
    number: int,
    read: Reader,
    progress: ProgressCallback | None = None,
    *,
    deblur: bool,
    compare: bool = True,
    where: dict[str, Any] | None = None,
) -> FrameReport:
    """Make what is missing of a frame, and write it to the folder of the series.

    Doing it again, or twice at the same time, changes nothing. Results that were made of other
    pixels are made again.

    Parameters
    ----------
    series : Series
        The folder and the settings.
    number : int
        The frame.
    read : callable
        Reads it.
    progress : callable, optional
        What it raises stops the work and propagates.
    deblur : bool
        Whether to deblur it; if not, it is estimated only.
    compare : bool
        Whether to look if results that are there were made of these pixels.
    where : dict, optional
        ``device`` and ``memory``, in place of those of the series.

    Returns
    -------
    FrameReport

    Raises
    ------
    OSError
        If results cannot be written.
    """
    start = time.perf_counter()
    extent, image, reason = None, None, ""
    if compare:
        image, reason = _compared(series, number, read)
    has_field = series.field_path(number).exists()
    lacks_image = deblur and not series.image_path(number).exists()
    try:
        kept = has_field and not lacks_image
        if image is None and not kept:
            image, reason = _read(read, number), ""
        if image is not None and not has_field:
            _estimate(series, number, image, part_of(progress, 0, 1 + lacks_image), where or {})
        extent = _median_extent(series.own_field(number))
        if image is not None and lacks_image:
            _deblur(series, number, image, part_of(progress, 1, 2), where or {})
    except _BAD as error:
        seconds = time.perf_counter() - start
        return FrameReport(number, "failed", _sentence(error), seconds, extent)
    if kept:
        return FrameReport(number, "kept", reason, None, extent)
    return FrameReport(number, "done", reason, time.perf_counter() - start, extent)


def _compared(series: Series, number: int, read: Reader) -> tuple[NDArray[Any] | None, str]:
    """Remove results that were made of other pixels than those of the frame.

    Returns
    -------
    image : ndarray or None
        The frame, if there was something to compare it with.
    reason : str
        What to report of this.
    """
    if not (series.field_path(number).exists() or series.image_path(number).exists()):
        return None, ""
    try:
        image = _read(read, number)
    except ValueError as error:
        return None, f"it can no longer be read, and was not compared: {_sentence(error)}"
    changed = forget_changed(series, number, frame_digest(image))
    return image, CHANGED if changed else ""


def _read(read: Reader, number: int) -> NDArray[Any]:
    try:
        return read(number)
    except Exception as error:  # whatever made a lazy array can have failed
        raise ValueError(str(error) or type(error).__name__) from error


def share_of_memory(series: Series, among: int) -> dict[str, Any]:
    """What each of several who work at a time on this computer may use to deblur.

    Parameters
    ----------
    series : Series
        Its settings come first, if they set a limit.
    among : int
        How many there are.

    Returns
    -------
    dict
        ``memory`` for `make_frame`, or nothing.
    """
    from blurfield.compute import available_memory, choose_device, usable_share

    settings = series.record.deblur or {}
    if among == 1 or settings.get("memory", "auto") != "auto":
        return {}
    device = choose_device(settings.get("device", "auto"))
    return {"memory": int(usable_share(device) * available_memory(device) / among)}


def _estimate(
    series: Series,
    number: int,
    image: NDArray[Any],
    progress: ProgressCallback | None,
    where: dict[str, Any],
) -> None:
    from blurfield.estimation import estimate

    settings = series.record.estimate | {k: v for k, v in where.items() if k == "device"}
    field = estimate(image, progress=progress, channel_axis=series.channel_axis, **settings)
    source = {**field.metadata.get("source", {}), **_origin(series, number, image)}
    field.with_metadata(source=source).save(series.field_path(number))


def _deblur(
    series: Series,
    number: int,
    image: NDArray[Any],
    progress: ProgressCallback | None,
    where: dict[str, Any],
) -> None:
    from blurfield.restoration import deblur

    # From the file, so that it makes no difference whether a run was interrupted before this.
    field = series.field(number)
    settings = {**(series.record.deblur or {}), **where}
    sharp, info = deblur(
        image,
        field,
        progress=progress,
        channel_axis=series.channel_axis,
        return_info=True,
        **settings,
    )
    facts = {
        "version": __version__,
        "source": _origin(series, number, image),
        "shared_field": series.record.shared,
        "estimate": series.record.estimate,
        "deblur": series.record.deblur,
        "method": info["method"],
        "variant": info["variant"],
    }
    series.write_image(number, sharp, facts)


def _origin(series: Series, number: int, image: NDArray[Any]) -> dict[str, Any]:
    """Which frame of what, and as it was, for the metadata of results."""
    name = series.metadata.get("name", series.name)
    frame = {"frame": list(series.position(number)), PIXELS: frame_digest(image)}
    return {**({"name": name} if name else {}), **frame}


def _median_extent(field: KernelField) -> float:
    """Median extent over the cells of the mixing grid, of which there may be few."""
    import numpy as np

    from blurfield.measure import blur_extent

    h, w = field.mixing.shape[1:]
    return float(np.median(blur_extent(field.with_mixing(field.mixing, (h, w)))))


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
