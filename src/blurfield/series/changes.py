"""Frames that changed since results were made of them: each result remembers a digest of its frame.

It is in the metadata of fields and of deblurred images, so that files still depend on nothing but
the frame and the settings. Results without one, of earlier versions or of fields that were given,
are taken as they are.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from blurfield.files import DAMAGED
from blurfield.tensor_files import HEADER_KEY, open_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from blurfield.field import KernelField

    from .store import Series

__all__ = [
    "CHANGED",
    "FRAMES",
    "PIXELS",
    "SHARED",
    "SHARED_CHANGED",
    "digest_of_field",
    "forget_changed",
    "forget_shared",
    "frame_digest",
    "give_field",
]

#: Name of the digest, among what the metadata of a result tell of its source.
PIXELS = "pixels"
#: Name of what the metadata of a field that frames share tell of it, and of their numbers in that.
SHARED, FRAMES = "shared", "frames"
#: Why a frame that was finished is done again.
CHANGED = "its pixels are others than when it was done before"
SHARED_CHANGED = "the field that frames share is another than when it was done before"


def frame_digest(image: NDArray[Any]) -> str:
    """Return what only frames of the same pixels share, among those of one shape and type."""
    return hashlib.sha256(np.ascontiguousarray(image).view(np.uint8).data).hexdigest()[:16]


def give_field(series: Series, number: int, field: KernelField) -> None:
    """Write a field to be used for a frame, whatever pixels it was estimated from.

    What was made with another field of that frame is removed.
    """
    path = series.field_path(number)
    if path.exists():
        if _is_there(series, number, field):
            return
        _forget_made_with(series, number)
    source = field.metadata.get("source")
    if isinstance(source, dict):
        kept = {name: value for name, value in source.items() if name != PIXELS}
        field = field.with_metadata(source=kept)
    field.save(path)


def forget_changed(series: Series, number: int, digest: str) -> bool:
    """Remove the results of a frame that were made of other pixels.

    With a field that frames share, that goes too, and all that was deblurred with it.

    Parameters
    ----------
    series : Series
        The folder.
    number : int
        The frame.
    digest : str
        `frame_digest` of the frame as it is now.

    Returns
    -------
    bool
        Whether there were such.
    """
    allowed = (None, digest)
    field_changed = digest_of_field(series.field_path(number)) not in allowed
    image_changed = _digest_of_image(series.image_path(number)) not in allowed
    if field_changed:
        _forget_made_with(series, number)
        # Last of all: a run that is killed before leaves what tells the next one.
        series.field_path(number).unlink(missing_ok=True)
    elif image_changed:
        series.image_path(number).unlink(missing_ok=True)
    return field_changed or image_changed


def forget_shared(series: Series, frames: Sequence[int]) -> None:
    """Remove the field that frames share if it is known to be of others than `frames`.

    What was deblurred with it is removed, too.
    """
    shared = _metadata_of_field(series.shared_path).get(SHARED)
    if isinstance(shared, dict) and shared.get(FRAMES, list(frames)) != list(frames):
        _forget_images(series)
        # Last of all: a run that is killed before leaves what tells the next one.
        series.shared_path.unlink()


def _forget_made_with(series: Series, number: int) -> None:
    """Remove what was made with the field of a frame: with one that all share, all images."""
    if series.record.shared:
        _forget_images(series)
        series.shared_path.unlink(missing_ok=True)
    else:
        series.image_path(number).unlink(missing_ok=True)


def _forget_images(series: Series) -> None:
    for number in series.numbers:
        series.image_path(number).unlink(missing_ok=True)


def _is_there(series: Series, number: int, field: KernelField) -> bool:
    """Return whether the field of a frame has these kernels everywhere."""
    import torch

    try:
        known = series.own_field(number)
    except ValueError:  # damaged
        return False
    return known.shape == field.shape and all(
        torch.equal(old, new.to("cpu", old.dtype))
        for old, new in ((known.basis, field.basis), (known.mixing, field.mixing))
    )


def digest_of_field(path: Path) -> str | None:
    """Return `frame_digest` of the frame that the field in a file was made of, if it is known."""
    return _noted(_metadata_of_field(path))


def _metadata_of_field(path: Path) -> dict[str, Any]:
    """Read the metadata of a field alone; nothing if it is not there or damaged."""
    try:
        with open_tensors(path, "a kernel field", "numpy") as content:
            metadata = json.loads(content.metadata()[HEADER_KEY])["metadata"]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return {}  # damage is told of where the field is used
    return metadata if isinstance(metadata, dict) else {}


def _digest_of_image(path: Path) -> str | None:
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            return _noted((tif.shaped_metadata or ({},))[0].get("blurfield", {}))
    except DAMAGED:
        return None


def _noted(metadata: dict[str, Any]) -> str | None:
    source = metadata.get("source")
    digest: str | None = source.get(PIXELS) if isinstance(source, dict) else None
    return digest
