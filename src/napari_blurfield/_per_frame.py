"""Lazy arrays with one part for each frame of a stack, made when the frame is looked at."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import numpy as np

from ._axes import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dask.array
    from numpy.typing import NDArray

    from ._stack import Stack


def per_frame(
    stack: Stack,
    part: Callable[[Sequence[int]], NDArray[Any]],
    before: tuple[int, ...],
    inner: tuple[int, ...],
    dtype: Any,
    channels: int = 1,
) -> dask.array.Array:
    """Return a lazy array with one part for each frame.

    Parameters
    ----------
    stack : Stack
        Tells of its axes.
    part : callable
        Returns the part of the frame at a position, of shape (*before, *inner), or with channels
        before `inner`.
    before, inner : tuple of int
        Shape before and behind the axes of the stack.
    dtype : numpy.dtype
        Type of the values.
    channels : int
        Entries along the stack's axis of channels.
    """
    import dask.array

    roles, sizes = stack.first.axes.leading, iter(stack.sizes)
    lead = [(channels,) if role == CHANNELS else (1,) * next(sizes) for role in roles]
    axes = [len(before) + axis for axis in stack.first.axes.frames]
    chunks = [*((n,) for n in before), *lead, *((n,) for n in inner)]

    def block(block_id: tuple[int, ...]) -> NDArray[Any]:
        shape = (*before, *(sizes[0] for sizes in lead), *inner)
        return part([block_id[axis] for axis in axes]).reshape(shape)

    made: dask.array.Array = dask.array.map_blocks(  # type: ignore[no-untyped-call]
        block,
        chunks=tuple(chunks),
        dtype=dtype,
        meta=np.empty((0,) * len(chunks), dtype),
        name=f"blurfield-{uuid.uuid4().hex}",
    )
    return made


__all__ = ["per_frame"]
