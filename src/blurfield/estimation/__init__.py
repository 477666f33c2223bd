"""From a blurry image to its kernel field.

Importing this does not load PyTorch, so that a graphical interface can list the models at once.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

from blurfield._version import __version__
from blurfield.checkpoints import installed, locate
from blurfield.compute import choose_device, part_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from blurfield.checkpoints import Checkpoint
    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField

__all__ = ["MODELS", "estimate", "installed_models", "lacks", "model_for"]

#: Images must be at least so many pixels high and wide.
MIN_SIDE = 32
#: Basis kernels to which dense fields are brought before they are refined.
_BASIS = 25


class _Model(NamedTuple):
    """A way to estimate.

    Attributes
    ----------
    function : callable
        Imports and returns the function that estimates.
    weights : tuple of str
        Kinds of networks of which one must have weights, if there are any.
    files : str
        Which files hold such weights, in words.
    """

    function: Callable[[], Callable[..., KernelField]]
    weights: tuple[str, ...] = ()
    files: str = ""


def _windowed() -> Callable[..., KernelField]:
    from .windowed import estimate_windowed

    return estimate_windowed


def _compact() -> Callable[..., KernelField]:
    from .compact import estimate_compact

    return estimate_compact


def _combined() -> Callable[..., KernelField]:
    from .combined import estimate_combined

    return estimate_combined


def _two_heads() -> Callable[..., KernelField]:
    from .two_heads import estimate_two_heads

    return estimate_two_heads


def _ufp() -> Callable[..., KernelField]:
    from .ufp import estimate_ufp

    return estimate_ufp


_MODELS = {
    "windowed": _Model(_windowed),
    "compact": _Model(_compact, ("compact",), "one that blurfield train estimator made"),
    "combined": _Model(_combined, ("compact",), "one that blurfield train estimator made"),
    "two-heads": _Model(_two_heads, ("two-heads",), "one that its authors publish"),
    "ufp": _Model(
        _ufp,
        ("ufp-kernels", "ufpnet"),
        "one that UFPNet's authors publish, net_g_latest.pth, or that blurfield train kernels made",
    ),
}

#: Names of all models. Some need weights that may not be installed.
MODELS = tuple(_MODELS)

#: Kernel similarity that models reach: the mean over all kinds of scenes of
#: ``blurfield evaluate synthetic`` on validation photographs. What is not listed is used on demand
#: only.
_SIMILARITY = {"combined": 0.76, "windowed": 0.73, "compact": 0.61}


def installed_models() -> list[str]:
    """Names of the models that can be used here: those that need no weights, or have them."""
    present = {checkpoint.architecture for checkpoint in installed()}
    return [
        name
        for name, model in _MODELS.items()
        if not model.weights or not present.isdisjoint(model.weights)
    ]


def model_for(checkpoint: Checkpoint) -> str:
    """Name of the model that weights are for.

    Raises
    ------
    ValueError
        If they are not for one that estimates.
    """
    for name, model in _MODELS.items():
        if checkpoint.architecture in model.weights:
            return name
    raise ValueError(
        f"{checkpoint.path} holds weights for {checkpoint.architecture!r}, which is not a way to "
        f"estimate blur; known: {', '.join(MODELS)}"
    )


def lacks(model: str) -> str:
    """What has to be done before a model can be used, in words for people; "" if nothing.

    Parameters
    ----------
    model : str
        One of `MODELS`.
    """
    if model in installed_models():
        return ""
    return (
        "is not installed, because it has no weights: get a file with them, "
        f"{_MODELS[model].files} (docs/weights.md says where), and install it with: "
        "blurfield weights import FILE"
    )


def estimate(
    image: Any,
    model: str = "auto",
    gamma: float | str = "auto",
    device: str | torch.device = "auto",
    progress: ProgressCallback | None = None,
    *,
    channel_axis: int | None = None,
    refine: int = 0,
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
        `blurfield.estimation.windowed.estimate_windowed`. ``"two-heads"`` is the published network
        of `blurfield.estimation.two_heads`, ``"compact"`` a small one, and ``"ufp"`` that of UFPNet
        which gives each pixel a kernel and its uncertainty, see
        `blurfield.estimation.ufp.estimate_ufp`. ``"combined"`` takes the small network where blur
        is short or parts of the image are not blurred, and windows elsewhere, see
        `blurfield.estimation.combined.estimate_combined`. ``"auto"`` takes, of the installed
        ones that know the options, that which was measured to be best, see `installed_models`.
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
    refine : int
        Rounds, at most, in which the field is then refined by the image itself, see
        `blurfield.estimation.refine.refine_field`. Three rounds take about three times as long as
        plug-and-play restoration of a grey image, and more memory. Where no blur can be told from
        the image at all (one tap), there is nothing to be refined; fields with a kernel for each
        pixel are brought to 25 basis kernels first.
    **options
        Parameters of the model, for instance ``kernel_size`` or, where it is a network,
        ``checkpoint``: the name of installed weights, or a file. None is as if left out.

    Returns
    -------
    KernelField
        For the image's height and width, on the device used. Kernels are known up to a common
        translation, which the sharp image would undo. The metadata hold ``model``, ``reason`` (why
        ``"auto"`` chose it), ``version``, ``gamma``, ``source`` and what the model adds:
        ``parameters``, ``confidence``, ``refined`` (rounds that were good), or ``weights`` with
        their name, origin and hash.

    Raises
    ------
    ValueError
        If the model is unknown or not installed, the image smaller than 32×32 pixels or not
        finite, the device missing, or an option out of its range.
    TypeError
        If the image does not hold real numbers, or the model has no such option.
    """
    from blurfield.images import LinearImage, require_min_size

    if int(refine) != refine or refine < 0:
        raise ValueError(f"refine must be a whole number ≥ 0, but is {refine!r}")
    refine = int(refine)
    options = {option: value for option, value in options.items() if value is not None}
    name, reason = _choose(model, options)
    linear = LinearImage.from_array(
        image, gamma=gamma, channel_axis=channel_axis, device=choose_device(device)
    )
    require_min_size(linear.shape, MIN_SIDE, "estimating its blur")
    first = part_of(progress, 0, 2) if refine else progress
    second = part_of(progress, 1, 2)
    try:
        field = _MODELS[name].function()(linear.planes, progress=first, **options)
    except TypeError as error:
        unknown = _unexpected_option(error)
        if unknown is None:
            raise
        raise TypeError(f"the model {name!r} has no option {unknown}") from None
    if refine and field.num_kernels > 1 and field.is_one_tap:
        field = field.compress(_BASIS, progress=second)
    if refine and not field.is_one_tap:
        from .refine import refine_field

        field = refine_field(
            linear.planes, field, gamma=linear.gamma, rounds=refine, progress=second
        )
    facts = {"model": name, "version": __version__, "gamma": linear.gamma}
    if reason:
        facts["reason"] = reason
    return field.with_metadata(**facts, source={"shape": list(linear.shape)})


def _unexpected_option(error: TypeError) -> str | None:
    _, found, option = str(error).partition("unexpected keyword argument ")
    return option if found else None


def _choose(model: str, options: Mapping[str, Any]) -> tuple[str, str | None]:
    """Name of the model to use, and why if that was left open."""
    present = installed_models()
    checkpoint = options.get("checkpoint")
    if model == "auto" and checkpoint is not None:
        name = model_for(locate(checkpoint))
        return name, "the weights that were asked for are for this model"
    if model == "auto":
        return _best(present, options)
    if model not in MODELS:
        raise ValueError(
            f"the model {model!r} is unknown; known: {', '.join(MODELS)}; installed: "
            f"{', '.join(present)}"
        )
    if model not in present and checkpoint is None:
        raise ValueError(f"the model {model!r} {lacks(model)}; installed: {', '.join(present)}")
    return model, None


def _best(present: list[str], options: Mapping[str, Any]) -> tuple[str, str]:
    """The model that was measured to be best among those which take the options, and why."""
    measured = [name for name in present if name in _SIMILARITY]
    able = [name for name in measured if _takes(name, options)] or measured
    best = max(able, key=_SIMILARITY.__getitem__)
    reason = (
        f"mean kernel similarity {_SIMILARITY[best]:.2f} on synthetic scenes, the best of the "
        "models installed"
    )
    if len(able) < len(measured):
        reason += f" that take {', '.join(options)}"
    unknown = [name for name in present if name not in _SIMILARITY]
    if unknown:
        reason += f"; not measured: {', '.join(unknown)}"
    return best, reason


def _takes(name: str, options: Mapping[str, Any]) -> bool:
    return set(options) <= set(inspect.signature(_MODELS[name].function()).parameters)
