"""A normalizing flow over motion kernels: codes of standard normal numbers, and densities.

The network is that of the flow-based kernel prior (Liang et al., "Flow-based kernel prior with
application to blind super-resolution", CVPR 2021), which UFPNet uses for motion kernels (Fang et
al., CVPR 2023): masked affine couplings and batch normalisations in turn. A kernel becomes a data
point by a logit, see `KernelFlow.preprocess`; the flow takes data points to codes and back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ARCHITECTURE", "DEQUANTISATION", "KernelFlow", "Normalisation"]

#: Name of the kind of network among checkpoints.
ARCHITECTURE = "flow"
#: Width of the uniform noise that is added to taps, relative to the normalization of kernels.
DEQUANTISATION = 1 / 720

#: Taps are kept by this much within (0, 1), where their logits are finite.
_ALPHA = 1e-6
#: What is added to variances.
_EPSILON = 1e-5
#: Share of a batch in the running statistics.
_MOMENTUM = 0.1


class _Coupling(nn.Module):
    """Scales and moves half of the dimensions by what the others are (masked affine coupling).

    The mask is 1 in the dimensions that are seen and stay as they are: every other one, beginning
    with the first or the second. So only half of the outer weights have any effect, and no others
    are used.
    """

    mask: Tensor

    def __init__(self, dimension: int, first: int, hidden: int) -> None:
        super().__init__()
        self._seen, self._free = slice(first, None, 2), slice(1 - first, None, 2)
        self.register_buffer("mask", torch.zeros(dimension))
        self.mask[self._seen] = 1
        self.s_net = _perceptron(dimension, hidden, nn.Tanh)
        self.t_net = _perceptron(dimension, hidden, nn.ReLU)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Towards the code."""
        scale, move = self._scale_and_move(x)
        u = x.clone()
        u[:, self._free] = (x[:, self._free] - move) * (-scale).exp()
        return u, -scale.sum(1)

    def inverse(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Towards the data."""
        scale, move = self._scale_and_move(u)
        x = u.clone()
        x[:, self._free] = torch.addcmul(move, u[:, self._free], scale.exp())
        return x, scale.sum(1)

    def _scale_and_move(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the networks say of the free dimensions; both ends of a coupling look the same."""
        seen = x[:, self._seen]
        return self._halved(self.s_net, seen), self._halved(self.t_net, seen)

    def _halved(self, net: nn.Sequential, seen: Tensor) -> Tensor:
        first, last = cast("nn.Linear", net[0]), cast("nn.Linear", net[-1])
        hidden = functional.linear(seen, first.weight[:, self._seen], first.bias)
        hidden = net[1:-1](hidden)
        return functional.linear(hidden, last.weight[self._free], last.bias[self._free])

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **options: Any
    ) -> None:
        """Load tensors, and refuse masks of another kind."""
        given = state_dict.get(f"{prefix}mask")
        expected = torch.zeros(self.mask.shape)
        expected[self._seen] = 1
        if given is not None and not torch.equal(given.detach().float().cpu(), expected):
            raise ValueError(f"{prefix}mask must be {expected[:3].int().tolist()} and so on")
        super()._load_from_state_dict(state_dict, prefix, *args, **options)


class Normalisation(nn.Module):
    """Batch normalisation that can be inverted.

    In training mode it uses the mean and the unbiased variance of the batch and updates the running
    ones, which the other mode and the inverse use.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.log_gamma = nn.Parameter(torch.zeros(dimension))
        self.beta = nn.Parameter(torch.zeros(dimension))
        self.register_buffer("running_mean", torch.zeros(dimension))
        self.register_buffer("running_var", torch.ones(dimension))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Towards the code."""
        mean, variance = self.running_mean, self.running_var
        if self.training:
            mean = x.mean(0)
            x = x - mean
            variance = x.square().sum(0) / (len(x) - 1)
            with torch.no_grad():
                self.running_mean.lerp_(mean, _MOMENTUM)
                self.running_var.lerp_(variance, _MOMENTUM)
        else:
            x = x - mean
        scale = self.log_gamma.exp() * (variance + _EPSILON).rsqrt()
        return torch.addcmul(self.beta, x, scale), self._log_det(variance).expand(len(x))

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Towards the data, with the running statistics."""
        scale = (-self.log_gamma).exp() * (self.running_var + _EPSILON).sqrt()
        x = torch.addcmul(self.running_mean - self.beta * scale, y, scale)
        return x, -self._log_det(self.running_var).expand(len(y))

    def _log_det(self, variance: Tensor) -> Tensor:
        return (self.log_gamma - 0.5 * (variance + _EPSILON).log()).sum()


class KernelFlow(nn.Module):
    """The flow, with the tensor names of the published weights.

    In training mode the direction to the code normalises by the statistics of the batch, of at
    least 2 data points; otherwise the two directions are inverse to each other.

    Parameters
    ----------
    kernel_size : int
        Side K of the kernels in pixels, odd, at least 3.
    hidden : int
        Width of the two hidden layers of the networks in the couplings.
    blocks : int
        Number of couplings, each of which a normalisation follows.

    Attributes
    ----------
    config : dict
        The parameters.
    kernel_size, alpha, normalization : Tensor
        Of shape (1,), as in the published weights: the side of the kernels, the margin of taps to 0
        and 1, and by what taps are divided.
    base_dist_mean, base_dist_var : Tensor
        Mean and standard deviation of the codes, (K²,).

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    kernel_size: Tensor
    alpha: Tensor
    normalization: Tensor
    base_dist_mean: Tensor
    base_dist_var: Tensor

    def __init__(self, kernel_size: int = 19, hidden: int = 25, blocks: int = 5) -> None:
        super().__init__()
        if kernel_size < 3 or kernel_size % 2 == 0 or hidden < 1 or blocks < 1:
            raise ValueError(
                "a flow needs kernels of an odd side of at least 3, and at least one hidden "
                f"number and block, got {kernel_size}, {hidden} and {blocks}"
            )
        self.config: dict[str, Any] = {
            "kernel_size": kernel_size,
            "hidden": hidden,
            "blocks": blocks,
        }
        dimension = kernel_size**2
        self.register_buffer("kernel_size", torch.tensor([float(kernel_size)]))
        self.register_buffer("alpha", torch.tensor([_ALPHA]))
        self.register_buffer("normalization", torch.ones(1))
        self.register_buffer("base_dist_mean", torch.zeros(dimension))
        self.register_buffer("base_dist_var", torch.ones(dimension))
        layers: list[nn.Module] = []
        for block in range(blocks):
            # K is odd, so that the masks are checkerboards.
            first = (block + 1) % 2
            layers += [_Coupling(dimension, first, hidden), Normalisation(dimension)]
        self.net = nn.ModuleList(layers)

    @property
    def side(self) -> int:
        """Side K of the kernels in pixels."""
        return int(self.config["kernel_size"])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Take data points (N, K²) to codes (N, K²), and return the log-determinants (N,), too."""
        total = x.new_zeros(len(x))
        for layer in self.net:
            x, log_det = layer(x)
            total = total + log_det
        return x, total

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Take codes (N, K²) to data points (N, K²), and return the log-determinants (N,), too."""
        total = z.new_zeros(len(z))
        for layer in reversed(self.net):
            z, log_det = layer.inverse(z)  # type: ignore[operator]
            total = total + log_det
        return z, total

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Logarithm (N,) of the density of data points (N, K²), in nats."""
        z, log_det = self(x)
        density: Tensor = self.code_log_likelihood(z) + log_det
        return density

    def code_log_likelihood(self, z: Tensor) -> Tensor:
        """Logarithm (N,) of the density of codes (N, K²), in nats."""
        deviation = (z - self.base_dist_mean) / self.base_dist_var
        constant = self.base_dist_var.log().sum() + 0.5 * z.shape[1] * math.log(2 * math.pi)
        return -0.5 * deviation.square().sum(1) - constant

    def preprocess(self, kernels: Tensor, noise: Tensor | None = None) -> Tensor:
        """Turn kernels into data points.

        Taps, at least 0, are divided by the normalization, dequantised by noise below
        `DEQUANTISATION` and taken to their logits, logit(α + (1 − 2α) k). Above 1, which the
        logit cannot take, they are clipped.

        Parameters
        ----------
        kernels : Tensor
            (N, K, K); not modified.
        noise : Tensor, optional
            Uniform random numbers in [0, 1), (N, K, K) or (K, K); none by default.

        Returns
        -------
        Tensor
            (N, K²).
        """
        taps = kernels.clamp_min(0) / self.normalization
        if noise is not None:
            taps = taps + DEQUANTISATION * noise
        return torch.logit(self.alpha + (1 - 2 * self.alpha) * taps.clamp_max(1)).flatten(1)

    def encode(self, kernels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Codes (N, K²) of kernels (N, K, K), dequantised if there is a source of noise."""
        noise = None
        if generator is not None:
            noise = torch.rand(
                kernels.shape, generator=generator, device=kernels.device, dtype=kernels.dtype
            )
        codes: Tensor = self(self.preprocess(kernels, noise))[0]
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Kernels (N, K, K) of codes (N, K²).

        They are as the flow gives them: their sum is not 1, and taps that are 0 in motion kernels
        are about as large as the dequantisation.
        """
        x, _ = self.inverse(codes)
        taps: Tensor = (x.sigmoid() - self.alpha) / (1 - 2 * self.alpha) * self.normalization
        return taps.reshape(-1, self.side, self.side)


def _perceptron(dimension: int, hidden: int, activation: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(dimension, hidden),
        activation(),
        nn.Linear(hidden, hidden),
        activation(),
        nn.Linear(hidden, dimension),
    )
