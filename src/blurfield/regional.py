"""Deblurring of a part of an image, which fades into the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .images import find_channels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .compute import ProgressCallback
    from .field import KernelField

__all__ = ["blend_part", "deblur_part", "soft_weights"]

#: Part of a region's shorter side that the soft border covers at most, on each side.
_MOST_BORDER = 0.25


def deblur_part(
    image: Any,
    field: KernelField,
    rows: Sequence[int],
    cols: Sequence[int],
    *,
    mask: Any = None,
    border: float | str = "auto",
    corner: Sequence[int] = (0, 0),
    into: Any = None,
    channel_axis: int | None = None,
    progress: ProgressCallback | None = None,
    return_info: bool = False,
    **options: Any,
) -> Any:
    """Undo the blur of a part of an image.

    What is outside of the part stays as it is, bit for bit. Inside, the deblurred image fades in
    over a soft border, so that no edge is seen.

    Parameters
    ----------
    image : array_like
        The blurry image, see `blurfield.deblur`; not modified. Arrays on disk are read where the
        part is.
    field : KernelField
        The blur of the image, or of a block of it that has the part in it.
    rows, cols : (int, int)
        First row and column of the part, and those behind its last.
    mask : array_like of bool, optional
        Which pixels of that rectangle belong to the part; all by default.
    border : float or "auto"
        Width of the soft border in pixels, within the part. ``"auto"`` is half the kernel size; it
        is at most a quarter of the part's shorter side in any case. There is none along the edges
        of the image.
    corner : (int, int)
        Row and column of the image where the field begins.
    into : ndarray, optional
        An image like `image` for the result, for instance that for another part, in place of a new
        one.
    channel_axis, progress, **options
        See `blurfield.deblur`.
    return_info : bool
        Return what was done, too.

    Returns
    -------
    sharp : numpy.ndarray
        The whole image, of the same shape, type and value scale.
    info : dict
        Only with `return_info`: that of `blurfield.deblur`.

    Raises
    ------
    ValueError
        If the part reaches beyond the image or the field, the mask is of another shape or empty, or
        as by `blurfield.deblur`.

    Notes
    -----
    Around the part, as many pixels as the kernels are wide are deblurred with it where the field
    knows their blur, since what lies there has been blurred into the part.
    """
    from .restoration import deblur

    array = image if isinstance(image, np.ndarray) else np.asarray(image)
    axis, _ = find_channels(array.shape, channel_axis)
    height, width = (size for n, size in enumerate(array.shape) if n != axis)
    (top, bottom), (left, right) = rows, cols
    _check_box((top, bottom, left, right), (height, width), field.shape, corner)
    y, x = corner
    around = field.kernel_size
    first = max(top - around, y, 0), max(left - around, x, 0)
    last = (
        min(bottom + around, y + field.shape[0], height),
        min(right + around, x + field.shape[1], width),
    )
    shape = last[0] - first[0], last[1] - first[1]
    if shape != field.shape:
        field = field.crop((first[0] - y, first[1] - x), shape)
    sharp, info = deblur(
        array[_index(axis, array.ndim, first, last)],
        field,
        channel_axis=channel_axis,
        progress=progress,
        return_info=True,
        **options,
    )
    start, stop = (top - first[0], left - first[1]), (bottom - first[0], right - first[1])
    result = blend_part(
        array if into is None else into,
        sharp[_index(axis, array.ndim, start, stop)],
        (top, left),
        mask=mask,
        border=field.kernel_size // 2 if border == "auto" else border,
        channel_axis=channel_axis,
        copy=into is None,
    )
    return (result, info) if return_info else result


def blend_part(
    image: NDArray[Any],
    part: NDArray[Any],
    corner: Sequence[int],
    *,
    mask: Any = None,
    border: Any = 8.0,
    channel_axis: int | None = None,
    copy: bool = True,
) -> NDArray[Any]:
    """Put a part into an image so that it fades into it.

    Parameters
    ----------
    image : ndarray
        (H, W), (H, W, 3|4), or with `channel_axis`.
    part : ndarray
        What goes there: of the same type, and the same axes.
    corner : (int, int)
        First row and column.
    mask, border : array_like, float
        See `soft_weights`.
    channel_axis : int, optional
        Axis of the channels, where it is not the last one of 3 or 4.
    copy : bool
        Whether to leave `image` as it is.

    Returns
    -------
    ndarray
        The image with the part in it; the same as before where the part or its mask does not reach.
    """
    axis, _ = find_channels(image.shape, channel_axis)
    out = np.array(image) if copy else image
    height, width = (size for n, size in enumerate(image.shape) if n != axis)
    rows, cols = (size for n, size in enumerate(part.shape) if n != axis)
    (top, left), (bottom, right) = corner, (corner[0] + rows, corner[1] + cols)
    open_sides = (top > 0, bottom < height, left > 0, right < width)
    whole = np.ones((rows, cols), bool) if mask is None else np.asarray(mask, bool)
    if whole.shape != (rows, cols):
        raise ValueError(f"the mask has the shape {whole.shape}, but the part has {(rows, cols)}")
    weights = soft_weights(whole, border, open_sides)
    if axis is not None:
        weights = np.expand_dims(weights, axis)
    index = _index(axis, image.ndim, (top, left), (bottom, right))
    below = out[index].astype(np.float64)
    mixed = below + weights * (part - below)
    if image.dtype.kind in "bui":
        mixed = np.rint(mixed)
    out[index] = mixed.astype(image.dtype)
    return out


def soft_weights(
    mask: NDArray[np.bool_],
    border: float,
    open_sides: Sequence[bool] = (True, True, True, True),
) -> NDArray[np.float64]:
    """Return weights that rise from 0 outside of a mask to 1 inside.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)
        Where weights are above 0.
    border : float
        Pixels over which they rise, at most a quarter of the shorter side.
    open_sides : four of bool
        Whether there is an outside above, below, left and right of the array; weights don't fall
        off towards a side that has none.

    Raises
    ------
    ValueError
        If the mask is empty, or `border` below 0.
    """
    from scipy.ndimage import distance_transform_edt

    if not mask.any():
        raise ValueError("no pixel belongs to the part: its mask is empty")
    if not border >= 0:
        raise ValueError(f"border must be a number of pixels from 0, but is {border!r}")
    above, below, left, right = open_sides
    padded = np.pad(mask, 1, mode="edge")
    if above:
        padded[0] = False
    if below:
        padded[-1] = False
    if left:
        padded[:, 0] = False
    if right:
        padded[:, -1] = False
    if padded.all():
        return np.ones(mask.shape)
    width = min(border, _MOST_BORDER * min(mask.shape))
    # The last pixel outside of the mask lies at distance 0, the first inside at 1.
    distance = distance_transform_edt(padded)[1:-1, 1:-1]
    rise = np.clip(distance / (width + 1), 0, 1)
    weights: NDArray[np.float64] = (1 - np.cos(np.pi * rise)) / 2
    return weights


def _check_box(
    box: tuple[int, int, int, int],
    shape: tuple[int, int],
    field: tuple[int, int],
    corner: Sequence[int],
) -> None:
    top, bottom, left, right = box
    if not (0 <= top < bottom <= shape[0] and 0 <= left < right <= shape[1]):
        raise ValueError(
            f"rows {top} to {bottom} and columns {left} to {right} are no part of an image of "
            f"{shape[0]}×{shape[1]} pixels"
        )
    (y, x), (height, width) = corner, field
    if not (y <= top and bottom <= y + height and x <= left and right <= x + width):
        raise ValueError(
            f"the field is for rows {y} to {y + height} and columns {x} to {x + width} of the "
            f"image, which does not hold all of rows {top} to {bottom} and columns {left} to "
            f"{right}; estimate the blur there, or choose a smaller part"
        )


def _index(
    axis: int | None, ndim: int, first: Sequence[int], last: Sequence[int]
) -> tuple[slice, ...]:
    """Return what picks rows and columns out of an image with channels along `axis`."""
    box = [slice(int(a), int(b)) for a, b in zip(first, last, strict=True)]
    if axis is not None:
        box.insert(axis, slice(None))
    return tuple(box[:ndim])
