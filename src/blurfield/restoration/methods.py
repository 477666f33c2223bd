"""The ways to deblur: their names, what they need, and the functions that do it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import Tensor

    from blurfield.field import KernelField

    Solver = Callable[..., tuple[Tensor, dict[str, Any]]]

__all__ = ["METHODS", "Choice", "Method", "choose_method", "installed_methods", "is_estimated"]

#: Parameters of the solvers that `deblur` sets itself.
_OURS = {"gamma", "memory", "noisy", "pilot", "progress", "smoothing"}


@dataclass(frozen=True)
class Method:
    """A way to deblur.

    Attributes
    ----------
    title : str
        Its name for people.
    variants : mapping
        Names of its variants and where their solvers are, as ``"module:function"`` within this
        package; the first one is the default. A solver takes the blurry planes (C, H, W) in linear
        light, the field, the keyword arguments `gamma` (exponent of the display encoding),
        `smoothing` (factor to the automatic amount, see `deblur`) and `progress`, `variant` if it
        serves several, `memory` (bytes) if it can keep to a limit, and options of its own; it
        returns the sharp planes in linear light and facts about the run.
    weights : str or None
        Kind of the network that has to be installed (see `blurfield.checkpoints.Checkpoint`).
    description : str
        What it does and when to take it, in a sentence or two for people.
    model : str
        Which model's fields suit it, see `blurfield.estimate`.
    """

    title: str
    variants: Mapping[str, str]
    weights: str | None = None
    description: str = ""
    model: str = "auto"

    @property
    def installed(self) -> bool:
        """Whether the weights that it needs are there."""
        if self.weights is None:
            return True
        from blurfield.checkpoints import find

        return find(self.weights) is not None

    @property
    def lacks(self) -> str:
        """What has to be done before it can be used, in words for people; "" if nothing."""
        if self.installed:
            return ""
        return (
            f"needs the weights of a network for {self.weights!r}, which are not installed: "
            "blurfield weights import FILE (see docs/weights.md)"
        )

    def solver(self, variant: str) -> Solver:
        """Return the function of a variant."""
        module, function = self.variants[variant].split(":")
        found: Solver = getattr(import_module(f".{module}", __package__), function)
        return found


class Choice(NamedTuple):
    """A method with one of its variants, and the function for it."""

    method: str
    variant: str
    solve: Solver


_RICHARDSON_LUCY = {
    "adjoint": "richardson_lucy:richardson_lucy",
    **dict.fromkeys(
        ("basic", "function", "masked", "combined"), "published:published_in_linear_light"
    ),
}

#: All methods by name.
METHODS: dict[str, Method] = {
    "richardson-lucy": Method(
        "Richardson-Lucy",
        _RICHARDSON_LUCY,
        description="Classical iterations that keep edges and calm noise. Needs no network.",
    ),
    "plug-and-play": Method(
        "Plug-and-play",
        dict.fromkeys(("fast", "best"), "plug_and_play:plug_and_play"),
        "denoiser",
        "Explains the blurry image and removes noise from it in turn, with a learned denoiser.",
    ),
    "tikhonov": Method(
        "Preview (Tikhonov)",
        {"gradients": "tikhonov:tikhonov"},
        description="A few quick steps to see what there is to win; softer than the others.",
    ),
    "steepest-descent": Method(
        "Hybrid steepest descent",
        dict.fromkeys(("linear", "published", "paper"), "steepest_descent:steepest_descent"),
        "denoiser",
        "Many small steps towards the blurry image, with a denoiser between them. Slow.",
    ),
    "unrolled": Method(
        "Unrolled network (J-MKPD)",
        dict.fromkeys(("saturation", "plain"), "unrolled:unrolled"),
        "unrolled",
        "The published network that was trained to undo fields of kernels.",
    ),
    "ufpnet": Method(
        "UFPNet",
        {"published": "ufpnet:restore_with_kernels"},
        "ufpnet",
        "The published network that is told a kernel for each pixel, which it estimates itself.",
        model="ufp",
    ),
    "end-to-end": Method(
        "End-to-end network (no field)",
        {"ours": "restorer:restore_end_to_end"},
        "restorer",
        "A small network that looks at the image alone and makes no use of the field.",
    ),
}
#: The model of fields that are not estimated from an image, but the image was blurred with them.
_SIMULATION = "simulation"
#: What "auto" takes: the first one that is installed, knows the options and suits image and field.
_AUTOMATIC = ("plug-and-play", "richardson-lucy")
#: On a CPU, "auto" leaves networks to images of at most so many pixels: five minutes on two cores.
_MOST_ON_CPU = 5_000_000


def installed_methods() -> list[str]:
    """Names of the methods that can be used now."""
    return [name for name, method in METHODS.items() if method.installed]


def choose_method(
    name: str,
    options: Mapping[str, Any],
    *,
    pixels: int = 0,
    device: torch.device | str = "cpu",
    estimated: bool = False,
) -> Choice:
    """Choose what a name and options of `deblur` ask for.

    Parameters
    ----------
    name : str
        One of `METHODS`, or ``"auto"``: ``"plug-and-play"`` if its network is installed, it knows
        the options, the field is known rather than estimated, and the image is to be restored on
        a GPU or has at most 5 million pixels; ``"richardson-lucy"`` otherwise.
    options : mapping
        Options of the method, among them perhaps `variant`, and `checkpoint` with weights that need
        not be installed.
    pixels : int
        Size of the image, which only counts for ``"auto"``.
    device : torch.device or str
        Where it is to be restored, which only counts for ``"auto"``.
    estimated : bool
        Whether a model has guessed the field, which only counts for ``"auto"``. With the fields of
        the windowed estimator, Richardson-Lucy gains about as much in a third of the time.

    Raises
    ------
    ValueError
        If the method or the variant is unknown, or its weights are missing.
    TypeError
        If an option is unknown.
    """
    if name == "auto":
        suits = not estimated and (pixels <= _MOST_ON_CPU or str(device) != "cpu")
        *better, last = _AUTOMATIC
        suitable = (other for other in better if suits and _knows(METHODS[other], options))
        name = next(suitable, last)
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; installed: {_listed('auto')}")
    method = METHODS[name]
    if options.get("checkpoint") is None and (lacks := method.lacks):
        raise ValueError(f"method {name!r} {lacks}, or use one of {_listed('auto')}")
    variant = options.get("variant", next(iter(method.variants)))
    if variant not in method.variants:
        raise ValueError(
            f"unknown variant {variant!r} of {name!r}; known: {', '.join(method.variants)}"
        )
    solver = method.solver(variant)
    taken = _options(solver)
    known = {"variant", *taken} - _OURS
    unknown = sorted(set(options) - known)
    if unknown:
        raise TypeError(
            f"unknown option {unknown[0]!r} for {name!r}, variant {variant!r}; known: "
            f"{', '.join(sorted(known))}"
        )
    return Choice(name, variant, partial(solver, variant=variant) if "variant" in taken else solver)


def is_estimated(field: KernelField) -> bool:
    """Whether a model has guessed a field from an image; others are taken to be known."""
    return bool(field.metadata.get("model", _SIMULATION) != _SIMULATION)


def _knows(method: Method, options: Mapping[str, Any]) -> bool:
    """Whether a method is installed and has all these options."""
    variant = options.get("variant", next(iter(method.variants)))
    if not method.installed or variant not in method.variants:
        return False
    return set(options) <= {"variant", *_options(method.solver(variant))} - _OURS


def _options(solver: Solver) -> set[str]:
    """Names of the keyword arguments of a solver."""
    parameters = inspect.signature(solver).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def _listed(*first: str) -> str:
    return ", ".join((*first, *installed_methods()))
