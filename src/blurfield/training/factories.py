"""Networks that restore, ours and those of other packages, and losses, by name."""

from __future__ import annotations

import copy
import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from blurfield.restoration.restorer_network import ARCHITECTURE, RestorerNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: The name of our own network, and the kind of networks that came from elsewhere.
OURS, FOREIGN = "ours", "foreign-restorer"


class RestorerFactory:
    """A network that takes blurry images and gives sharp ones.

    Parameters
    ----------
    name : str
        ``"ours"``, or the import path ``"package.module:factory"`` of a callable without arguments
        that returns the network, or of a network. Networks take and give (N, 3, H, W), encoded for
        display with white 1; with others, write a factory that wraps them.
    config : mapping, optional
        Parameters of our network, see `RestorerNetwork`.

    Attributes
    ----------
    architecture : str
        Its kind among checkpoints.
    config : dict
        Parameters of our network, or the import path of another one.
    multiple : int
        Sides of images must be multiples of this, as far as is known.

    Raises
    ------
    ValueError
        If there is nothing under this name.
    TypeError
        If what is there is neither a network nor a callable.
    """

    def __init__(self, name: str = OURS, config: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.config: dict[str, Any]
        self._make: Callable[[], Any]
        if name == OURS:
            with torch.device("meta"):
                network = RestorerNetwork(**(config or {}))
            self.config, self.multiple = network.config, network.multiple
            self.architecture = ARCHITECTURE
            self._make = lambda: RestorerNetwork(**self.config)
        else:
            self.config, self.multiple = {"factory": name}, 1
            self.architecture = FOREIGN
            found = find_object(name)
            if isinstance(found, nn.Module):
                # What is trained is not the object that others may use.
                self._make = lambda: copy.deepcopy(found)
            elif callable(found):
                self._make = found
            else:
                raise TypeError(
                    f"{name} is neither a network nor a callable that returns one, but of type "
                    f"{type(found).__name__}"
                )

    def network(self, side: int) -> nn.Module:
        """Make the network, and try whether it restores images of `side` pixels.

        Raises
        ------
        TypeError
            If it is no network, or does not return images.
        ValueError
            If it cannot take images of this size, or returns others.
        """
        try:
            inspect.signature(self._make).bind()
        except TypeError as error:
            raise TypeError(f"{self.name} must be callable without arguments: {error}") from None
        network = self._make()
        if not isinstance(network, nn.Module):
            raise TypeError(
                f"{self.name} returned no torch.nn.Module, but an object of type "
                f"{type(network).__name__}"
            )
        # Some come with frozen parts: those stay as they are.
        if not any(p.requires_grad for p in network.parameters()):
            raise ValueError(f"{self.name} has no parameters that can be trained")
        _try(self.name, network, side)
        return network.train()


def find_loss(path: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Import a loss: a function of restored and sharp images (N, 3, H, W) that returns a scalar.

    Parameters
    ----------
    path : str
        Its import path ``"package.module:function"``.

    Raises
    ------
    ValueError
        If there is nothing under this path.
    TypeError
        If what is there cannot be called.
    """
    loss: Callable[[Tensor, Tensor], Tensor] = find_object(path)
    if not callable(loss):
        raise TypeError(f"{path} cannot be called, being of type {type(loss).__name__}")
    return loss


def find_object(path: str) -> Any:
    """Import an object by its path ``"package.module:name"``.

    Raises
    ------
    ValueError
        If the path has another form, or there is no such module or name in it. An error within
        the module goes through.
    """
    module_name, colon, attribute = path.partition(":")
    if not (colon and module_name and attribute):
        raise ValueError(f"{path!r} is no import path of the form package.module:name")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        # That a module needs another one is no mistake in the path.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"cannot import {module_name!r}: there is no module {error.name!r} on Python's path"
        ) from None
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ValueError(f"the module {module_name!r} has no {attribute!r}") from None


@torch.no_grad()
def _try(name: str, network: nn.Module, side: int) -> None:
    images = torch.zeros(1, 3, side, side, device=next(network.parameters()).device)
    network.eval()
    try:
        found = network(images)
    except Exception as error:
        raise ValueError(
            f"{name} cannot restore images of shape {tuple(images.shape)}: {error}"
        ) from error
    if not isinstance(found, Tensor):
        raise TypeError(
            f"{name} must return a tensor of images, but returns an object of type "
            f"{type(found).__name__}"
        )
    if found.shape != images.shape:
        raise ValueError(
            f"{name} must return images of the shape {tuple(images.shape)} that it takes, but "
            f"returns {tuple(found.shape)}"
        )
