"""What the training loop has to be told about a network and its data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["Task"]


class Task(Protocol):
    """What is trained: data, network, loss and validation.

    Attributes
    ----------
    architecture : str
        Kind of the network, see `blurfield.checkpoints.Checkpoint`.
    gamma : float
        Exponent that is applied to the encoded values that the network sees.
    config : dict
        Parameters of the network; all of them once there is one.
    """

    architecture: str
    gamma: float
    config: dict[str, Any]

    def network(self) -> nn.Module:
        """A new network with random weights."""

    def make(self, generator: torch.Generator, number: int) -> Any:
        """Make the batch of a step, on the device."""

    def losses(
        self, network: nn.Module, batch: Any, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Terms of the loss of a batch; ``loss`` is what is minimised."""

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Figures of merit on held-out samples."""
