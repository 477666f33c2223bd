"""What there is to know about training networks that restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from .consistency import reblur_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from .factories import RestorerFactory
    from .restoration_samples import RestorationBatch, RestorationSamples


class RestorerTask:
    """Data, network, loss and validation of a network that restores.

    Parameters
    ----------
    samples : RestorationSamples
        The samples.
    restorer : RestorerFactory
        The network.
    reblur : float
        Weight λ of the reblur-consistency term; with 0 it is not computed.
    loss : callable, optional
        The network's own loss, a function of restored and sharp images, to which the term is
        added; by default their mean absolute difference.

    Raises
    ------
    ValueError
        If the weight is negative, or the network is not one that restores the samples.
    """

    #: The network sees the values as they are stored.
    gamma = 1.0

    def __init__(
        self,
        samples: RestorationSamples,
        restorer: RestorerFactory,
        *,
        reblur: float = 0.0,
        loss: Callable[[Tensor, Tensor], Tensor] = l1_loss,
    ) -> None:
        if not reblur >= 0:
            raise ValueError(f"the weight of the reblur term must be at least 0, got {reblur}")
        self._samples, self._restorer, self._weight = samples, restorer, reblur
        self._loss = loss
        self.architecture, self.config = restorer.architecture, restorer.config

    def network(self) -> nn.Module:
        """A new network."""
        return self._restorer.network(self._samples.side)

    def make(self, generator: torch.Generator, number: int) -> RestorationBatch:
        """Make the batch of a step."""
        return self._samples.make(generator, number)

    def losses(
        self, network: nn.Module, batch: RestorationBatch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Terms of the loss of a batch, and their weighted sum, ``loss``.

        Returns
        -------
        dict
            ``own``, the network's own loss; with a weight above 0 ``reblur``, see `reblur_errors`;
            and the PSNR of the batch in dB.
        """
        del generator
        restored = network(batch.blurry).float()
        own = self._loss(restored, batch.sharp)
        terms = {"loss": own, "own": own}
        if self._weight:
            terms["reblur"] = _unexplained(restored, batch).mean()
            terms["loss"] = own + self._weight * terms["reblur"]
        error = (restored - batch.sharp).detach()
        return {**terms, "psnr": -10 * error.square().mean().log10()}

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Figures on held-out samples, which are always the same.

        Returns
        -------
        dict
            ``psnr``, mean PSNR in dB; ``gain``, by how much it exceeds that of the blurry images;
            ``reblur_rms``, root of the mean of `reblur_errors`.
        """
        restored_psnr, blurry_psnr, errors = [], [], []
        for batch in self._samples.held:
            restored = network(batch.blurry).float().clamp(0, 1)
            restored_psnr.append(_psnr(restored, batch.sharp))
            blurry_psnr.append(_psnr(batch.blurry, batch.sharp))
            errors.append(_unexplained(restored, batch))
        psnr = torch.cat(restored_psnr).mean()
        return {
            "psnr": float(psnr),
            "gain": float(psnr - torch.cat(blurry_psnr).mean()),
            "reblur_rms": float(torch.cat(errors).mean().sqrt()),
        }


def _unexplained(restored: Tensor, batch: RestorationBatch) -> Tensor:
    """`reblur_errors` of a batch."""
    # Fields are cut to samples in single precision, in which their coefficients sum to 1.
    with torch.autocast(restored.device.type, enabled=False):
        return reblur_errors(restored, batch.blurry, batch.fields())


def _psnr(images: Tensor, truth: Tensor) -> Tensor:
    """PSNR in dB of each image of a batch; those that did not change count as 60."""
    return -10 * (images - truth).square().mean((1, 2, 3)).clamp_min(1e-6).log10()
