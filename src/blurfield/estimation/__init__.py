"""From a blurry image to its kernel field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blurfield._version import __version__
from blurfield.compute import choose_device
from blurfield.images import LinearImage, require_min_size

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField

__all__ = ["MODELS", "estimate", "installed_models"]

#: Names of all models. Some need weights that may not be installed.
MODELS = ("windowed", "compact", "two-heads", "ufp")
#: Images must be at least so many pixels high and wide.
MIN_SIDE = 32


def _windowed() -> Callable[..., KernelField]:
    from .windowed import estimate_windowed

    return estimate_windowed


#: Models that can run here: functions that import theirs when it is first used.
_INSTALLED: dict[str, Callable[[], Callable[..., KernelField]]] = {"windowed": _windowed}


def installed_models() -> list[str]:
    """Names of the models that can be used here."""
    return list(_INSTALLED)


def estimate(
    image: Any,
    model: str = "auto",
    gamma: float | str = "auto",
    device: str | torch.device = "auto",
    progress: ProgressCallback | None = None,
    *,
    channel_axis: int | None = None,
    **options: Any,
) -> KernelField:
    """Estimate the motion blur of every pixel of an image.

    Parameters
    ----------
    image : numpy.ndarray, torch.Tensor or array_like
        Blurry image, (H, W), (H, W, 3) or (H, W, 4); not modified. See
        `blurfield.images.LinearImage.from_array` for number types and value scales.
    model : str
        ``"windowed"`` needs no trained weights, see
        `blurfield.estimation.windowed.estimate_windowed`. ``"auto"`` takes the best one installed.
    gamma : float or "auto"
        Exponent from the image's values to linear light, in which blur happens: 2.2 for 8-bit
        images and 1 for others by default.
    device : str or torch.device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
    progress : callable, optional
        Called as ``progress(done, total, message)`` at least once a second; what it raises, for
        instance `blurfield.Cancelled`, stops the estimation and propagates.
    channel_axis : int, optional
        Axis of the channels, where it is not the last one of 3 or 4.
    **options
        Parameters of the model, for instance ``kernel_size``.

    Returns
    -------
    KernelField
        For the image's height and width, on the device used. Kernels are known up to a common
        translation, which the sharp image would undo. The metadata hold ``model``, ``reason`` (why
        ``"auto"`` chose it), ``version``, ``gamma``, ``source`` and what the model adds:
        ``parameters`` and ``confidence``.

    Raises
    ------
    ValueError
        If the model is unknown or not installed, the image smaller than 32×32 pixels or not
        finite, the device missing, or an option out of its range.
    TypeError
        If the image does not hold real numbers, or the model has no such option.
    """
    name, reason = _choose(model)
    linear = LinearImage.from_array(
        image, gamma=gamma, channel_axis=channel_axis, device=choose_device(device)
    )
    require_min_size(linear.shape, MIN_SIDE, "estimating its blur")
    try:
        field = _INSTALLED[name]()(linear.planes, progress=progress, **options)
    except TypeError as error:
        unknown = _unexpected_option(error)
        if unknown is None:
            raise
        raise TypeError(f"the model {name!r} has no option {unknown}") from None
    facts = {"model": name, "version": __version__, "gamma": linear.gamma}
    if reason:
        facts["reason"] = reason
    return field.with_metadata(**facts, source={"shape": list(linear.shape)})


def _unexpected_option(error: TypeError) -> str | None:
    _, found, option = str(error).partition("unexpected keyword argument ")
    return option if found else None


def _choose(model: str) -> tuple[str, str | None]:
    """Name of the model to use, and why if that was left open."""
    if model == "auto":
        return "windowed", "no model with trained weights is installed"
    if model not in _INSTALLED:
        state = "not installed" if model in MODELS else "unknown"
        raise ValueError(
            f"the model {model!r} is {state}; known: {', '.join(MODELS)}; "
            f"installed: {', '.join(_INSTALLED)}"
        )
    return model, None
