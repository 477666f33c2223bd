"""Deblurring of arrays: the public entry to all methods."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from blurfield.compute import (
    available_memory,
    choose_device,
    is_out_of_memory,
    release_memory,
    usable_share,
)
from blurfield.image_parts import ImageParts

from .methods import choose_method, is_estimated
from .tiles import bytes_needed, deblur_in_tiles, least_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField
    from blurfield.images import LinearImage

    from .methods import Solver

__all__ = ["deblur"]


def deblur(
    image: Any,
    field: KernelField,
    method: str = "auto",
    gamma: float | str = "auto",
    device: str | torch.device = "auto",
    progress: ProgressCallback | None = None,
    *,
    channel_axis: int | None = None,
    dtype: Any = None,
    strength: float = 0.5,
    memory: int | str = "auto",
    return_info: bool = False,
    **options: Any,
) -> Any:
    """Undo the blur of an image.

    Parameters
    ----------
    image : numpy.ndarray, torch.Tensor or array_like
        Blurry image: (H, W), (H, W, 3) or (H, W, 4) with alpha, or with `channel_axis`. See
        `blurfield.images.LinearImage.from_array` for number types and value scales. Not modified.
    field : KernelField
        Its blur, for images of H×W pixels.
    method : str
        ``"plug-and-play"`` (best for known fields), ``"richardson-lucy"`` (classical, more robust
        with estimated fields), ``"tikhonov"`` (a preview within seconds) or another one of
        `blurfield.restoration.METHODS`. ``"auto"`` takes plug-and-play if its network is installed,
        it knows the options, the field is known (simulated, or a kernel file), and the image is
        restored on a GPU or has at most 5 million pixels; Richardson-Lucy otherwise.
    gamma : float or "auto"
        Exponent from the image's values to linear light. ``"auto"`` takes the one that the field
        was estimated with, if it tells, else 2.2 for 8-bit images and 1 for others.
    device : str or torch.device
        Where to compute, see `blurfield.compute.choose_device`.
    progress : callable, optional
        Called as ``progress(done, total, message)`` at least once a second; what it raises stops
        the run.
    channel_axis : int, optional
        Axis of the channels, where it is not the last one of 3 or 4.
    dtype : numpy.dtype or torch.dtype, optional
        Number type of the result, by default that of the image.
    strength : float
        From 0, faithful and calm, to 1, as crisp as the image's noise allows and beyond. 0.5 is
        the automatic balance, at which noise is smoothed as much as there is of it; each quarter
        up or down halves or doubles that smoothing, and doubles or halves the odds by which
        estimated fields are trusted.
    memory : int or "auto"
        Bytes that may be used in addition to the image and the result. Images that need more are
        deblurred in overlapping parts, which takes more time; arrays on disk (`numpy.memmap`) are
        then read part by part. The result is the same within 1e-3 of white. ``"auto"`` takes most
        of what is free on the device.
    return_info : bool
        Return what was done, too.
    **options
        Of the method, among them:

        - `iterations` (int): at most so many.
        - `noise`: ``"auto"``, ``"per-channel"`` or what is known of the camera or microscope as
          (gain, read noise), see `blurfield.restoration.noise.resolve_noise`.
        - `saturation` (bool): of ``"plug-and-play"``, ``"richardson-lucy"`` and ``"tikhonov"``,
          whether clipped pixels are treated as such, by default True.
        - `variant` (str): of ``"plug-and-play"``, ``"fast"`` (default) or ``"best"``. Of
          ``"richardson-lucy"``, ``"adjoint"`` is ours; ``"basic"``, ``"function"``, ``"masked"``
          and ``"combined"`` are those of the published two-headed network code, see
          `published_richardson_lucy`; they are there for comparison.
        - further options of the functions that `METHODS` names.

    Returns
    -------
    sharp : numpy.ndarray or torch.Tensor
        Of the shape, type and value scale of `image`; integers are rounded and clipped.
    info : dict
        Only with `return_info`: ``method``, ``variant``, ``gamma``, ``device``, ``strength``,
        ``options`` as given, ``memory`` in bytes that was allowed, ``iterations`` run, whether
        ``converged``, the number of ``tiles`` if there were several, and what else the method
        tells. Given again, they lead to the same result.

    Raises
    ------
    ValueError
        If the method, variant, gamma, device, memory or an option is not usable, the field is for
        an image of another size, or the image is too small or not finite.
    TypeError
        If an option is unknown or the image does not hold real numbers.
    MemoryError
        If the image does not fit into the device's memory.

    Examples
    --------
    >>> import numpy as np
    >>> import blurfield
    >>> sharp = np.zeros((64, 64), np.uint8)
    >>> sharp[24:40, 24:40] = 200
    >>> blurry, field = blurfield.simulate(sharp, kind="linear", max_extent=9, noise=0)
    >>> deblurred = blurfield.deblur(blurry, field)
    >>> deblurred.shape, deblurred.dtype
    ((64, 64), dtype('uint8'))
    """
    smoothing = _smoothing(strength)
    chosen = choose_device(device)
    chosen_method = choose_method(
        method,
        options,
        pixels=field.shape[0] * field.shape[1],
        device=chosen,
        estimated=is_estimated(field),
    )
    limit = _memory_limit(memory, chosen)
    own = {name: value for name, value in options.items() if name != "variant"}
    with explained_memory_errors("deblur", chosen):
        source = ImageParts(
            image,
            gamma=recorded_gamma(field, gamma),
            channel_axis=channel_axis,
            poll=None if progress is None else partial(progress, 0, 1, "Looking at the image"),
        )
        check_size(source, field)
        common = {"gamma": source.gamma, "smoothing": smoothing, **own}
        result, facts = _within_memory(
            source,
            field,
            chosen_method.solve,
            limit,
            device=chosen,
            dtype=dtype,
            progress=progress,
            options=common,
        )
    if not return_info:
        return result
    return result, {
        "method": chosen_method.method,
        "variant": chosen_method.variant,
        "gamma": source.gamma,
        "device": str(chosen),
        "strength": strength,
        "options": own,
        **facts,
    }


def _within_memory(
    source: ImageParts,
    field: KernelField,
    solve: Solver,
    memory: int,
    *,
    device: torch.device,
    dtype: Any,
    progress: ProgressCallback | None,
    options: dict[str, Any],
) -> tuple[Any, dict[str, Any]]:
    """Restore an image at once or in tiles, in smaller ones each time memory has run out.

    What is free before a run is a guess: other programs take memory meanwhile, and what a GPU has
    left may lie in pieces.
    """
    height, width = source.shape
    needed = bytes_needed(source.shape, source.channels)
    least = least_bytes(field, source.channels)
    limited = "memory" in inspect.signature(solve).parameters
    while True:
        own = {**options, "memory": memory} if limited else options
        try:
            if needed > memory:
                result, facts = deblur_in_tiles(
                    source,
                    field,
                    solve,
                    memory=memory,
                    device=device,
                    dtype=dtype,
                    progress=progress,
                    options=own,
                )
            else:
                whole = source.read(slice(0, height), slice(0, width), device)
                planes, facts = solve(whole.planes, field.to(device), progress=progress, **own)
                facts.pop("repeat", None)
                result = whole.to_array(planes, dtype)
            return result, {"memory": memory, **facts}
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or memory <= least:
                raise
        # Only now the exception is gone, and with it what the calls that it ended had in use.
        memory = max(min(memory, needed) // 2, least)
        release_memory(device)


def _smoothing(strength: float) -> float:
    """Return the factor to the automatic amount of smoothing: 4 for strength 0, ¼ for 1."""
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be from 0 (faithful) to 1 (crisp), but is {strength!r}")
    factor: float = 16 ** (0.5 - strength)
    return factor


def _memory_limit(memory: int | str, device: torch.device) -> int:
    """Return the bytes that may be used."""
    if memory == "auto":
        return int(usable_share(device) * available_memory(device))
    if isinstance(memory, str) or int(memory) != memory or memory < 1:
        raise ValueError(f"memory must be 'auto' or a number of bytes, but is {memory!r}")
    return int(memory)


def recorded_gamma(field: KernelField, gamma: float | str) -> float | str:
    """Return `gamma`, or for ``"auto"`` the exponent that the field was estimated with."""
    return field.metadata.get("gamma", gamma) if gamma == "auto" else gamma


def check_size(source: LinearImage | ImageParts, field: KernelField) -> None:
    """Raise ValueError unless the field is for images of this size."""
    if source.shape != field.shape:
        raise ValueError(
            f"the field is for images of {field.shape[0]}×{field.shape[1]} pixels, but the image "
            f"has {source.shape[0]}×{source.shape[1]}; estimate the field of this image, or use "
            "field.crop or field.resize"
        )


@contextmanager
def explained_memory_errors(what: str, device: torch.device) -> Iterator[None]:
    """Turn a device's out-of-memory errors into a MemoryError that says what helps."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        elsewhere = "" if device.type == "cpu" else " or compute with device='cpu'"
        raise MemoryError(
            f"not enough memory on {device} to {what} this image; crop it, make it "
            f"smaller{elsewhere}"
        ) from None
