"""What there is to know about training the flow of motion kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from blurfield.checkpoints import read_checkpoint, write_checkpoint
from blurfield.estimation.flow import ARCHITECTURE, KernelFlow, Normalisation

from .kernels import kernel_bank, turn

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

#: Kernels that are made up front, and what they are divided by: a little more than the largest
#: tap, so that the noise of the dequantisation takes none of them beyond 1.
KERNELS, NORMALIZATION = 100_000, 1.01
#: Held-out kernels, and the start of their random numbers.
_HELD, _HELD_SEED = 5000, 20210622
#: Kernels whose statistics are those of the averaged weights.
_SETTLING = 8192
#: Start of the random numbers of the bank, beside the seed of the run.
_BANK_SEED = 20230618


class FlowTask:
    """Data, network, loss and validation of the flow (stage I of UFPNet).

    The flow learns simulated motion kernels by maximum likelihood, each in one of the eight
    orientations of the square and with new noise of the dequantisation whenever it is seen (Liang
    et al. 2021).

    Parameters
    ----------
    device : torch.device
        Where everything happens.
    batch : int
        Kernels per step, at least 2.
    config : mapping, optional
        Parameters of `KernelFlow`.
    kernels : int
        Kernels that are made up front.
    seed : int
        Determines these kernels.

    Raises
    ------
    ValueError
        If a batch has less than 2 kernels.
    """

    architecture = ARCHITECTURE
    #: The network sees no images.
    gamma = 1.0

    def __init__(
        self,
        device: torch.device,
        batch: int,
        *,
        config: Mapping[str, Any] | None = None,
        kernels: int = KERNELS,
        seed: int = 0,
    ) -> None:
        if batch < 2:
            raise ValueError(f"a batch that is normalised needs 2 kernels or more, got {batch}")
        with torch.device("meta"):
            self.config = KernelFlow(**(config or {})).config
        self._batch, self._device = batch, device
        self._bank = self._kernels(kernels, _BANK_SEED + seed)
        self._held = self._kernels(_HELD, _HELD_SEED)

    def network(self) -> nn.Module:
        """A new network, whose couplings do nothing yet."""
        network = KernelFlow(**self.config)
        network.normalization.fill_(NORMALIZATION)
        for name, values in network.named_parameters():
            if "_net.4." in name:
                nn.init.zeros_(values)
        return network

    def make(self, generator: torch.Generator, number: int) -> Tensor:
        """Draw the kernels (N, K, K) of a step."""
        del number
        which = torch.randint(
            len(self._bank), (self._batch,), generator=generator, device=self._device
        )
        turned = int(torch.randint(8, (), generator=generator, device=self._device))
        return turn(self._bank[which].float(), turned, ((1, 2),))

    def losses(
        self, network: nn.Module, batch: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Mean negative log-likelihood, for each dimension (``loss``) and, in nats, in all."""
        flow = _unwrapped(network)
        z, log_det = network(flow.preprocess(batch, _noise(batch, generator)))
        nats = -(flow.code_log_likelihood(z) + log_det).mean()
        return {"loss": nats / z.shape[1], "nats": nats}

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Mean log-likelihood in nats of held-out kernels, which are always the same."""
        flow = _unwrapped(network)
        self.settle(flow)
        generator = torch.Generator(self._device).manual_seed(_HELD_SEED)
        kernels = self._held.float()
        points = flow.preprocess(kernels, _noise(kernels, generator))
        return {"log_likelihood": float(flow.log_likelihood(points).mean())}

    @torch.no_grad()
    def settle(self, flow: KernelFlow) -> None:
        """Set the running statistics to those of some kernels of the training.

        What is validated and exported are averages of the weights over many steps, and the averages
        of the statistics don't go with them.
        """
        generator = torch.Generator(self._device).manual_seed(_BANK_SEED)
        which = torch.randperm(len(self._bank), generator=generator, device=self._device)
        kernels = self._bank[which[:_SETTLING]].float()
        x = flow.preprocess(kernels, _noise(kernels, generator))
        for layer in flow.net:
            if isinstance(layer, Normalisation):
                variance, mean = torch.var_mean(x, dim=0, correction=1)
                layer.running_mean.copy_(mean)
                layer.running_var.copy_(variance)
            x, _ = layer(x)

    def settle_file(self, path: str | os.PathLike[str]) -> None:
        """Do the same to weights in a file, in half precision."""
        weights = read_checkpoint(path)
        flow = KernelFlow(**weights.config)
        flow.load_state_dict(weights.load())
        flow.to(self._device).eval()
        self.settle(flow)
        write_checkpoint(
            path,
            {name: values.half() for name, values in flow.state_dict().items()},
            architecture=weights.architecture,
            config=weights.config,
            gamma=weights.gamma,
            origin=weights.origin,
            **{name: fact for name, fact in weights.facts.items() if name != "version"},
        )

    def _kernels(self, count: int, seed: int) -> Tensor:
        size = self.config["kernel_size"]
        generator = torch.Generator(self._device).manual_seed(seed)
        return kernel_bank(count, size, max_extent=size, generator=generator)


def _noise(kernels: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(kernels.shape, generator=generator, device=kernels.device)


def _unwrapped(network: nn.Module) -> KernelFlow:
    """The flow, which several processes have as a part of something else."""
    if isinstance(network, nn.parallel.DistributedDataParallel):
        network = network.module
    return cast("KernelFlow", network)
