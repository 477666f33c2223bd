"""The ways to deblur that take part in an evaluation."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from blurfield.restoration import deblur
from blurfield.restoration.methods import METHODS, installed_methods

from .fidelity import unit_values
from .rivals import RIVALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from blurfield.field import KernelField

__all__ = ["Restorer", "restorers"]

#: Module of the solvers that are there to reproduce published code, and only compared by name.
_PUBLISHED = "published"
#: Name of the option by which solvers can be told not to model the clipping of the sensor.
_SATURATION = "saturation"


@dataclass(frozen=True)
class Restorer:
    """A way to deblur under its name.

    Attributes
    ----------
    name : str
        What it is called in tables.
    method : str
        Name of the method for `blurfield.deblur`, or one of `RIVALS`.
    options : dict
        Of the method.
    """

    name: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def is_rival(self) -> bool:
        """Whether it is not ours, and made for one known kernel."""
        return self.method in RIVALS

    def attempts(
        self,
        blurry: NDArray[np.uint8],
        kernels: KernelField,
        gamma: float,
        device: torch.device,
        poll: Callable[[], None],
    ) -> Iterator[tuple[str | None, NDArray[np.float64]]]:
        """Deblur an image, perhaps with several settings.

        Ours know how strongly to work from the image. Rivals that don't are given the best of
        several settings by whoever takes the results.

        Parameters
        ----------
        blurry : numpy.ndarray
            uint8, (H, W) or (H, W, 3).
        kernels : KernelField
            Its blur.
        gamma : float
            Exponent from values to linear light.
        device : torch.device
            Where to compute.
        poll : callable
            Called without arguments at least once a second by ours; what it raises stops the work.

        Yields
        ------
        setting : str or None
            Name of the setting; None where there is but one.
        image : numpy.ndarray
            float64, values as displayed, white = 1.
        """
        if self.is_rival:
            yield from RIVALS[self.method](unit_values(blurry), kernels, gamma, poll)
            return
        sharp = deblur(
            blurry,
            kernels,
            self.method,
            gamma=gamma,
            device=device,
            progress=lambda *_: poll(),
            **self.options,
        )
        yield None, unit_values(sharp)

    def for_clipped_light(self) -> list[Restorer]:
        """Return how it takes part where light is clipped: with and without a model of that."""
        if self.is_rival:
            return []
        method = METHODS[self.method]
        solver = method.solver(self.options["variant"])
        if _SATURATION not in inspect.signature(solver).parameters:
            return [self]
        return [
            replace(self, options={**self.options, _SATURATION: True}),
            replace(self, name=plain_name(self.name), options={**self.options, _SATURATION: False}),
        ]


def plain_name(name: str) -> str:
    """Name of a method where it doesn't model the clipping of the sensor."""
    return f"{name}, plain"


def restorers(names: Sequence[str] | None = None) -> list[Restorer]:
    """Return the ways to deblur to compare.

    Parameters
    ----------
    names : sequence of str, optional
        Names of methods, each of which stands for all its variants but those that reproduce
        published code; or ``method:variant``; or one of `RIVALS`. By default all methods that are
        installed, then all `RIVALS`.

    Raises
    ------
    ValueError
        If there is no such method or variant, or it is not installed.
    """
    known: dict[str, list[Restorer]] = {}
    for method in installed_methods():
        own = _own_variants(method)
        variants = {
            variant: Restorer(
                method if own == [variant] else f"{method}:{variant}", method, {"variant": variant}
            )
            for variant in METHODS[method].variants
        }
        known[method] = [variants[variant] for variant in own]
        known |= {f"{method}:{variant}": [found] for variant, found in variants.items()}
    known |= {name: [Restorer(name, name)] for name in RIVALS}
    chosen: dict[str, Restorer] = {}
    for name in [*installed_methods(), *RIVALS] if names is None else names:
        if name not in known:
            raise ValueError(f"no method {name!r} is installed; known: {', '.join(known)}")
        chosen |= {found.name: found for found in known[name]}
    return list(chosen.values())


def _own_variants(method: str) -> list[str]:
    """Variants of a method but those that reproduce published code."""
    solvers = METHODS[method].variants
    return [name for name in solvers if not solvers[name].startswith(f"{_PUBLISHED}:")]
