"""The work on one frame: a function of the frame and the settings, wherever it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from blurfield._version import __version__
from blurfield.compute import part_of

from .report import FrameReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField

    from .store import Series

    #: Reads a frame.
    Reader = Callable[[int], NDArray[Any]]

__all__ = ["failed", "make_frame", "share_of_memory"]

#: What is wrong with a frame or with the settings for it, as opposed to the disk or the program.
_BAD = (ValueError, TypeError, MemoryError)


def make_frame(
    series: Series,
    number: int,
    read: Reader,
    progress: ProgressCallback | None = None,
    *,
    deblur: bool,
    where: dict[str, Any] | None = None,
) -> FrameReport:
    """Make what is missing of a frame, and write it to the folder of the series.

    Doing it again, or twice at the same time, changes nothing.

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
    extent, status = None, "done"
    has_field = series.field_path(number).exists()
    lacks_image = deblur and not series.image_path(number).exists()
    try:
        if has_field and not lacks_image:
            status = "kept"
        else:
            image = _read(read, number)
        if not has_field:
            _estimate(series, number, image, part_of(progress, 0, 1 + lacks_image), where or {})
        extent = _median_extent(series.own_field(number))
        if lacks_image:
            _deblur(series, number, image, part_of(progress, 1, 2), where or {})
    except _BAD as error:
        return failed(number, error, start, extent)
    seconds = time.perf_counter() - start if status == "done" else None
    return FrameReport(number, status, "", seconds, extent)


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
    source = {**field.metadata.get("source", {}), **_origin(series, number)}
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
        "source": _origin(series, number),
        "shared_field": series.record.shared,
        "estimate": series.record.estimate,
        "deblur": series.record.deblur,
        "method": info["method"],
        "variant": info["variant"],
    }
    series.write_image(number, sharp, facts)


def _origin(series: Series, number: int) -> dict[str, Any]:
    """Which frame of what, for the metadata of results."""
    name = series.metadata.get("name", series.name)
    return {**({"name": name} if name else {}), "frame": list(series.position(number))}


def _median_extent(field: KernelField) -> float:
    """Median extent over the cells of the mixing grid, of which there may be few."""
    import numpy as np

    from blurfield.measure import blur_extent

    h, w = field.mixing.shape[1:]
    return float(np.median(blur_extent(field.with_mixing(field.mixing, (h, w)))))


def failed(
    number: int, error: BaseException, start: float | None = None, extent: float | None = None
) -> FrameReport:
    """Report that an error spoilt a frame, on which work began at `start`."""
    reason = " ".join(str(error).split()) or type(error).__name__
    seconds = None if start is None else time.perf_counter() - start
    return FrameReport(number, "failed", reason, seconds, extent)
