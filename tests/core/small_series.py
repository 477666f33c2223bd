"""Small time-lapses, and a stand-in for the estimator that makes series of them cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from blurfield import Cancelled, KernelField
from blurfield.frames import frames_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from blurfield.frames import Frames
    from blurfield.series import Series

SIDE = 48
CHEAP: dict[str, Any] = {"estimate": {"kernel_size": 5}, "deblur": {"method": "tikhonov"}}


def line(length: int, size: int = 5) -> np.ndarray:
    kernel = np.zeros((size, size), np.float32)
    start = (size - length) // 2
    kernel[size // 2, start : start + length] = 1 / length
    return kernel


class Estimator:
    """A stand-in for `blurfield.estimate`: a line whose length depends on the image."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def __call__(
        self, image: Any, *, progress: Any = None, channel_axis: int | None = None, **options: Any
    ) -> KernelField:
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("the image has values that are not finite")
        self.seen.append(float(values.max()))
        if progress is not None:
            progress(1, 2, "Estimating")
        shape = values.shape[1:] if channel_axis == 0 else values.shape[:2]
        length = 1 + 2 * (int(values.max()) % 2)
        return KernelField.uniform(line(length), shape, {"model": "windowed"})


def stack(count: int = 4, dtype: str = "uint16", shape: tuple[int, ...] = (SIDE, SIDE)) -> Any:
    values = np.random.default_rng(0).integers(0, 200, (count, *shape)).astype(dtype)
    for number in range(count):
        values[number].flat[0] = 201 + number  # the largest, by which the stand-in knows it
    return values


def lazily(values: np.ndarray, axes: str = "TYX") -> Frames:
    return frames_of(da.from_array(values, chunks=(1, *values.shape[1:])), axes)


def contents(folder: Path) -> dict[str, bytes]:
    """All results in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".json"
    }


def stop_after(series: Series, count: int) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, message: str) -> None:
        if len(series.finished) >= count:
            raise Cancelled

    return progress
