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
    from pathlib import Path

    from numpy.typing import NDArray

    from blurfield.field import KernelField

    from .store import Series

__all__ = ["CHANGED", "PIXELS", "SHARED_CHANGED", "forget_changed", "given_field", "pixel_digest"]

#: Name of the digest, among what the metadata of a result tell of its source.
PIXELS = "pixels"
#: Why a frame that was finished is done again.
CHANGED = "its pixels are others than when it was done before"
SHARED_CHANGED = "the field that frames share is another than when it was done before"


def pixel_digest(image: NDArray[Any]) -> str:
    """Return what only frames of the same pixels share, among those of one shape and type."""
    return hashlib.sha256(np.ascontiguousarray(image).view(np.uint8).data).hexdigest()[:16]


def given_field(field: KernelField) -> KernelField:
    """Return a field to be used for a frame whatever pixels it was estimated from."""
    source = field.metadata.get("source")
    if not isinstance(source, dict) or PIXELS not in source:
        return field
    kept = {name: value for name, value in source.items() if name != PIXELS}
    return field.with_metadata(source=kept)


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
        `pixel_digest` of the frame as it is now.

    Returns
    -------
    bool
        Whether there were such.
    """
    allowed = (None, digest)
    field_changed = _digest_of_field(series.field_path(number)) not in allowed
    image_changed = _digest_of_image(series.image_path(number)) not in allowed
    if field_changed or image_changed:
        series.image_path(number).unlink(missing_ok=True)
    if field_changed:
        # In an order in which a run that is killed meanwhile leaves what tells the next one.
        if series.record.shared:
            for other in series.numbers:
                series.image_path(other).unlink(missing_ok=True)
            series.shared_path.unlink(missing_ok=True)
        series.field_path(number).unlink(missing_ok=True)
    return field_changed or image_changed


def _digest_of_field(path: Path) -> str | None:
    try:
        with open_tensors(path, "a kernel field", "numpy") as content:
            metadata = json.loads(content.metadata()[HEADER_KEY])["metadata"]
        return _noted(metadata)
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None  # damage is told of where the field is used


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
