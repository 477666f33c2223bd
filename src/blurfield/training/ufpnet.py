"""What there is to know about training UFPNet's deblurring network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from blurfield.restoration.ufpnet_network import ARCHITECTURE, UFPNet, kernels_of_pixels

from .images import GAMMA
from .kernel_codes import inner, psnr, reblurred, with_sum_one

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blurfield.estimation.ufp_network import KernelEstimator

    from .restoration_samples import RestorationBatch, RestorationSamples

#: Added to mean squared errors before their logarithm is taken.
_TINY = 1e-8
#: Local means of the trained network are taken over windows of so many sides of the samples, as the
#: authors do with theirs.
_LOCAL = 1.5


class UFPNetTask:
    """Data, network, loss and validation of the network that restores, given kernels.

    The loss is that of stage III of Fang et al. 2023: −PSNR of the restored image, and the mean
    absolute difference of the blurry image and the restored one, blurred with the kernels. The
    network that estimates these, and its flow, stay as they are.

    Parameters
    ----------
    samples : RestorationSamples
        Blurry and sharp images.
    estimator : KernelEstimator
        The trained network for kernels, on the device of the samples.
    config : mapping, optional
        ``width``, ``encoder``, ``middle``, ``decoder`` and ``window`` of the network, see `UFPNet`;
        those of the published one by default, with a window of 1.5 times the side of the samples.
    reblur : float
        Weight of the reblur term, at least 0.
    reblur_gamma : float
        Exponent from the images' values to those that the blur adds up, as it was when the network
        for kernels was trained: 2.2 for linear light, 1 for the values as they are stored.
    raw_sums : bool
        Whether kernels blur with the sums that they have, as published; otherwise with sum 1, as
        `KernelTask` reblurs with them. The network is told raw kernels either way.
    noise : bool
        Mix codes with noise as far as they are uncertain, as the authors do. Restoration does not,
        unless asked to, so that the kernels of training are those of use by default.

    Raises
    ------
    ValueError
        If the weight or the exponent is out of its range, or the side of the samples is no multiple
        of what the network needs.
    """

    architecture = ARCHITECTURE
    #: The network sees the values as they are stored.
    gamma = 1.0

    def __init__(
        self,
        samples: RestorationSamples,
        estimator: KernelEstimator,
        *,
        config: Mapping[str, Any] | None = None,
        reblur: float = 0.01,
        reblur_gamma: float = GAMMA,
        raw_sums: bool = False,
        noise: bool = False,
    ) -> None:
        if not reblur >= 0:
            raise ValueError(f"the weight of the reblur term must be at least 0, got {reblur}")
        if not reblur_gamma > 0:
            raise ValueError(f"reblur_gamma must be above 0, got {reblur_gamma}")
        window = round(_LOCAL * samples.side)
        settings = {"window": window, **(config or {}), "estimator": estimator.config}
        with torch.device("meta"):
            network = UFPNet(**settings)
        if samples.side % network.multiple:
            raise ValueError(
                f"the side of samples must be a multiple of {network.multiple}, got {samples.side}"
            )
        self.config: dict[str, Any] = network.config
        self._samples = samples
        self._estimator = estimator.requires_grad_(False).eval()
        self._size = int(estimator.config["kernel_size"])
        self._reblur, self._reblur_gamma = reblur, reblur_gamma
        self._raw_sums, self._noise = raw_sums, noise

    def network(self) -> nn.Module:
        """A new network with the given estimator, which is not trained."""
        network = UFPNet(**self.config)
        network.estimator.load_state_dict(self._estimator.state_dict())
        network.estimator.requires_grad_(False)
        for part in network.unused():
            part.requires_grad_(False)
        # A new network leaves images as they are.
        for values in network.ending.parameters():
            nn.init.zeros_(values)
        return network

    def make(self, generator: torch.Generator, number: int) -> RestorationBatch:
        """Make the batch of a step."""
        return self._samples.make(generator, number)

    def losses(
        self, network: nn.Module, batch: RestorationBatch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Terms of the loss of a batch.

        Returns
        -------
        dict
            ``loss``, ``psnr`` in dB, and with a weight above 0 ``reblur``.
        """
        kernels = self._kernels(batch.blurry, generator if self._noise else None)
        restored = network(batch.blurry, kernels).float()
        errors = (restored - batch.sharp).square().mean((1, 2, 3))
        loss = 10 / math.log(10) * (errors + _TINY).log().mean()
        terms = {"psnr": -loss.detach()}
        if self._reblur:
            if not self._raw_sums:
                kernels = with_sum_one(kernels)
            again = reblurred(restored, kernels, self._reblur_gamma)
            terms["reblur"] = (again - inner(batch.blurry, self._size)).abs().mean()
            loss = loss + self._reblur * terms["reblur"]
        return {"loss": loss, **terms}

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Figures on held-out samples, which are always the same, without noise.

        Returns
        -------
        dict
            ``psnr``, mean PSNR in dB; ``gain``, by how much it exceeds that of the blurry images;
            ``worse``, share of the images whose PSNR fell.
        """
        found, blurry = [], []
        for batch in self._samples.held:
            restored = network(batch.blurry, self._kernels(batch.blurry)).float().clamp(0, 1)
            found.append(psnr(restored, batch.sharp))
            blurry.append(psnr(batch.blurry, batch.sharp))
        gains = torch.cat(found) - torch.cat(blurry)
        return {
            "psnr": float(torch.cat(found).mean()),
            "gain": float(gains.mean()),
            "worse": float((gains < 0).float().mean()),
        }

    @torch.no_grad()
    def _kernels(self, blurry: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Raw kernels (N, K², S, S); flows need single precision."""
        with torch.autocast(blurry.device.type, enabled=False):
            kernels, _ = self._estimator(blurry, generator)
            return kernels_of_pixels(kernels, blurry.shape[-2:])
