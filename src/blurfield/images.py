"""Arrays in and out: axes, number types, value scale and linear light.

Blur adds up light, so everything inside this package works on `LinearImage.planes`: (C, H, W)
float32, black 0, white 1, linear. `LinearImage` remembers what the caller's array looked like and
gives results back in the same form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from .compute import choose_device
from .number_types import (
    copy_as_float,
    full_range,
    numpy_dtype,
    representable,
    to_working,
    torch_dtype,
    white_level,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Exponent taken for 8-bit images under ``gamma="auto"``: they are encoded for display.
DISPLAY_GAMMA = 2.2

#: Rec. 709 weights of linear red, green and blue in luminance.
_LUMINANCE = (0.2126, 0.7152, 0.0722)


def decode(encoded: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return linear light of values encoded for display, ``max(encoded, 0) ** gamma``.

    With ``gamma=1`` the values are linear already and come back as they are.
    """
    return encoded if gamma == 1 else encoded.clamp_min(0).pow(gamma)


def encode(linear: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return linear light encoded for display: the inverse of `decode`."""
    return linear if gamma == 1 else linear.clamp_min(0).pow(1 / gamma)


def to_grey(planes: torch.Tensor) -> torch.Tensor:
    """Return one grey plane (H, W) of planes (C, H, W).

    Three planes are weighted as linear red, green and blue (Rec. 709 luminance); any other number
    is averaged.
    """
    if planes.shape[0] == 3:
        weights = planes.new_tensor(_LUMINANCE)
        return (weights[:, None, None] * planes).sum(dim=0)
    return planes.mean(dim=0)


def require_min_size(shape: Sequence[int], minimum: int, what: str) -> None:
    """Check that an image is large enough for what is about to be done to it.

    Parameters
    ----------
    shape : sequence of int
        The image's (H, W); leading axes are ignored.
    minimum : int
        Least number of pixels along each of the two.
    what : str
        What needs that size, in words that can follow "too small for".

    Raises
    ------
    ValueError
        If the image is smaller.
    """
    height, width = (int(n) for n in shape[-2:])
    if min(height, width) < minimum:
        raise ValueError(
            f"the image of {height}×{width} pixels is too small for {what}: "
            f"it needs at least {minimum}×{minimum}"
        )


def resolve_gamma(gamma: float | str, dtype: np.dtype[Any]) -> float:
    """Return the exponent that `gamma` means for an image of a number type.

    Parameters
    ----------
    gamma : float or "auto"
        ``"auto"`` is 2.2 for uint8 and bool, which are encoded for display, and 1 (linear sensor
        data) for all other types.
    dtype : numpy.dtype
        Type of the image's values.

    Raises
    ------
    ValueError
        If `gamma` is neither ``"auto"`` nor a finite number above 0.
    """
    if isinstance(gamma, str):
        if gamma != "auto":
            raise ValueError(f"gamma must be 'auto' or a number above 0, not {gamma!r}")
        return DISPLAY_GAMMA if dtype in (np.uint8, np.bool_) else 1.0
    if isinstance(gamma, bool) or not (math.isfinite(gamma) and gamma > 0):
        raise ValueError(f"gamma must be 'auto' or a number above 0, not {gamma!r}")
    return float(gamma)


class Levels(NamedTuple):
    """Values of an array that stand for black and, counted from there, for white."""

    black: float
    white: float

    @classmethod
    def of(cls, dtype: np.dtype[Any], low: float, high: float) -> Levels:
        """Those of an array of a number type whose least and greatest value are given."""
        black = min(0.0, low)
        return cls(black, white_level(dtype, high - black))


@dataclass(frozen=True)
class _Source:
    """What is needed to give results back in the form of the caller's array."""

    dtype: np.dtype[Any]
    torch_dtype: torch.dtype | None  # None: the caller's array was not a torch tensor
    device: torch.device
    channel_axis: int | None  # None: a grey image without a channel axis
    alpha: torch.Tensor | None  # (H, W), the caller's values in a float type that holds them
    levels: Levels


@dataclass(frozen=True)
class LinearImage:
    """An image in linear light, and the way back to the array that it came from.

    Make one with `from_array`.

    Attributes
    ----------
    planes : torch.Tensor
        (C, H, W), float32, linear light: black 0, white 1 (brighter values are possible).
    gamma : float
        Exponent that took the array's values to linear light.
    """

    planes: torch.Tensor
    gamma: float
    _source: _Source

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (int(self.planes.shape[-2]), int(self.planes.shape[-1]))

    @property
    def white(self) -> float:
        """Value that stands for white in the array, counted from its black."""
        return self._source.levels.white

    @classmethod
    def from_array(
        cls,
        image: Any,
        *,
        gamma: float | str = "auto",
        channel_axis: int | None = None,
        device: str | torch.device = "cpu",
        levels: Levels | None = None,
    ) -> LinearImage:
        """Read an image.

        Parameters
        ----------
        image : numpy.ndarray, torch.Tensor or array_like
            (H, W), (H, W, 3) or (H, W, 4) whose last channel is alpha; with `channel_axis` any
            3-D array. Booleans, integers or real floats; never modified.

            White is 255 for uint8 and 1 for bool. For other integers it is the smallest of
            2¹⁰−1, 2¹²−1, 2¹⁴−1, 2¹⁶−1 that holds the maximum, or the maximum itself. For floats
            it is 1, or the maximum if that is larger. If values are negative, the minimum is
            taken as black, which is possible with ``gamma=1`` only.
        gamma : float or "auto", default "auto"
            Values are ``light ** (1 / gamma)``. ``"auto"``: 2.2 for uint8 and bool, else 1.
        channel_axis : int, optional
            Axis of a 3-D array that holds the channels, whatever their number.
        device : str or torch.device, default "cpu"
            Where `planes` shall lie; see `blurfield.compute.choose_device`.
        levels : Levels, optional
            Those of the whole image if this is a part of one, which is known to be finite.

        Raises
        ------
        TypeError
            If the values are not real numbers (complex, object, text, dates).
        ValueError
            If the shape is not that of one image, there are no pixels, a value is NaN or
            infinite, `gamma` is invalid, or values are negative and `gamma` is not 1.
        """
        is_torch = isinstance(image, torch.Tensor)
        array: NDArray[Any] | torch.Tensor = image.detach() if is_torch else np.asarray(image)
        dtype = numpy_dtype(array.dtype)
        axis, has_alpha = find_channels(tuple(array.shape), channel_axis)
        exponent = resolve_gamma(gamma, dtype)

        planes = copy_as_float(array, dtype)
        if levels is None:
            require_finite(planes)
        planes = planes[None] if axis is None else planes.movedim(axis, 0)
        alpha = planes[3].clone() if has_alpha else None
        if has_alpha:
            planes = planes[:3]
        planes = planes.contiguous()
        if levels is None:
            levels = Levels.of(dtype, float(planes.min()), float(planes.max()))
        if levels.black < 0 and exponent != 1:
            raise ValueError(
                f"the image has negative values (down to {levels.black:g}), which cannot be "
                f"encoded with gamma {exponent:g}; use gamma=1"
            )
        planes = (
            planes.sub_(levels.black).div_(levels.white).to(choose_device(device), torch.float32)
        )
        return cls(
            planes=decode(planes, exponent),
            gamma=exponent,
            _source=_Source(
                dtype=dtype,
                torch_dtype=image.dtype if is_torch else None,
                device=image.device if is_torch else torch.device("cpu"),
                channel_axis=axis,
                alpha=alpha,
                levels=levels,
            ),
        )

    def to_array(self, planes: torch.Tensor, dtype: Any = None) -> Any:
        """Give planes back in the form of the caller's array.

        Parameters
        ----------
        planes : torch.Tensor
            (C, H, W) in linear light, with as many channels as `planes` of this image.
        dtype : numpy.dtype or torch.dtype, optional
            Number type of the result; by default that of the caller's array. Floats keep the
            value scale of the caller's array; another integer type uses its own full range.

        Returns
        -------
        numpy.ndarray or torch.Tensor
            Array or tensor (on the same device) as the caller's: its axes, value scale and alpha
            channel. Integers are rounded and clipped to the range of their type.

        Raises
        ------
        ValueError
            If the number of channels differs, or the image has alpha and the size differs.
        TypeError
            If `dtype` is not a type of real numbers.
        """
        source = self._source
        if planes.ndim != 3 or planes.shape[0] != self.planes.shape[0]:
            raise ValueError(
                f"expected planes of shape ({self.planes.shape[0]}, H, W), not "
                f"{tuple(planes.shape)}"
            )
        target = source.dtype if dtype is None else numpy_dtype(dtype)
        # A wider or narrower integer type has its own white; all else keeps the caller's values.
        rescale = 1.0
        if target != source.dtype and target.kind in "bui":
            rescale = full_range(target) / source.levels.white
        values = encode(planes.detach(), self.gamma)
        values = to_working(values, target)
        values = values * (source.levels.white * rescale) + source.levels.black * rescale
        if source.alpha is not None:
            if source.alpha.shape != values.shape[1:]:
                raise ValueError(
                    f"the image has an alpha channel of {tuple(source.alpha.shape)} pixels, "
                    f"which does not fit planes of {tuple(values.shape[1:])}"
                )
            alpha = to_working(source.alpha.to(values.device), target) * rescale
            values = torch.cat([values, alpha[None]])
        values = representable(values, target)
        axis = source.channel_axis
        values = (values[0] if axis is None else values.movedim(0, axis)).contiguous()
        if source.torch_dtype is None:
            return values.cpu().numpy().astype(target, copy=False)
        final = source.torch_dtype if dtype is None else torch_dtype(dtype)
        return values.to(final).to(source.device)


def find_channels(shape: tuple[int, ...], channel_axis: int | None) -> tuple[int | None, bool]:
    """Return the axis of the channels, if there is one, and whether the fourth is alpha.

    Raises
    ------
    ValueError
        If an array of this shape is not one image.
    """
    if 0 in shape:
        raise ValueError(f"the image is empty: its shape is {shape}")
    if channel_axis is not None:
        if len(shape) != 3 or not -3 <= channel_axis < 3:
            raise ValueError(
                f"channel_axis={channel_axis} needs a 3-D image and an axis from -3 to 2, "
                f"but the image has shape {shape}"
            )
        return channel_axis % 3, False
    if len(shape) == 2:
        return None, False
    if len(shape) == 3 and shape[2] in (3, 4):
        return 2, shape[2] == 4
    if len(shape) == 3:
        raise ValueError(
            f"an image of shape {shape} is neither (H, W) nor (H, W, 3 or 4): pass channel_axis= "
            "if one of its axes holds the channels, or give one frame of a stack at a time"
        )
    raise ValueError(
        f"expected one image, (H, W) or (H, W, 3 or 4), not an array of {len(shape)} dimensions "
        f"with shape {shape}; give one frame of a stack at a time"
    )


def require_finite(values: torch.Tensor, first: Sequence[int] = ()) -> None:
    """Raise ValueError if a value is NaN or infinite; `first` is the index of the first value."""
    finite = torch.isfinite(values)
    if bool(finite.all()):
        return
    bad = torch.nonzero(~finite)
    where = tuple(int(i) for i in bad[0])
    index = tuple(i + j for i, j in zip(where, first, strict=True)) if first else where
    raise ValueError(
        f"the image has {len(bad)} values that are NaN or infinite, "
        f"the first ({float(values[where])}) at index {index}; replace them first"
    )
