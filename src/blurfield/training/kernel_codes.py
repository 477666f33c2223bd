"""What there is to know about training the network that gives each pixel a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from blurfield import grid
from blurfield.checkpoints import resolve
from blurfield.comparison import kernel_similarity
from blurfield.dense_blur import blur_per_pixel
from blurfield.estimation.flow import ARCHITECTURE as FLOW
from blurfield.estimation.flow import KernelFlow
from blurfield.estimation.ufp_network import ARCHITECTURE, MULTIPLE, PRIORS, KernelEstimator
from blurfield.images import decode, encode
from blurfield.no_blur import no_blur

from .images import GAMMA

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from blurfield.field import KernelField

    from .restoration_samples import RestorationBatch, RestorationSamples

#: Weight of the uncertainty in the loss, by default.
UNCERTAINTY = 1e-3
#: Weight of the squared deviation of the mean sum of the kernels from 1, and the least sum.
_SUM, _LEAST_SUM = 0.1, 1e-3
#: Least side of the samples in pixels.
LEAST_SIDE = 64
#: Reblurred images are no darker than half a step of 8 bits, so that gradients stay finite.
_BLACK = 0.5 / 255
#: Points along each side of a held-out sample at which kernels are compared with the true ones.
_POINTS = 6


class KernelTask:
    """Data, network, loss and validation of the network that gives each pixel a kernel.

    The loss needs no true kernels: the sharp image, blurred with the kernels that the network finds
    in the blurry one, has to be the blurry one (mean absolute difference; Fang et al. 2023, stage
    II). The flow that turns codes into kernels stays as it is.

    As published, this is all, and any noise in the sum of a kernel makes flat parts of an image
    brighter or darker: the uncertainty vanishes, first of all where the image says least about the
    kernel. So by default kernels are divided by their sum first, only the mean of the sums is kept
    at 1, and uncertainty is rewarded by −log σ. This is the Kullback-Leibler divergence of a code's
    entries from the standard normal numbers that the flow takes, for codes c·√(1 − σ²) + ε·σ with c
    of mean square 1: where noise does no harm, σ is large.

    Parameters
    ----------
    samples : RestorationSamples
        Blurry and sharp images.
    flow : KernelFlow or None
        The trained flow; None with the prior ``"none"``.
    prior : str
        What stands between network and kernels, see `KernelEstimator`. With
        ``"flow+uncertainty"``, codes are mixed with noise as far as the network is uncertain.
    config : mapping, optional
        ``widths`` and ``stride`` of the network; those of the published one by default.
    reblur_gamma : float
        Exponent from the images' values to those that the blur adds up: 2.2 for linear light, which
        our simulator and sensors add up, 1 for the values as they are stored, as published. What
        comes out is compared as it is stored, either way.
    uncertainty : float
        Weight of −log σ in the loss; 0 as published.
    raw_sums : bool
        Whether to leave the sums of the kernels as they are, as published.
    kernel_size : int, optional
        Side of the kernels in pixels for the prior ``"none"``; otherwise it is that of the flow.

    Raises
    ------
    ValueError
        If there is a flow where none is used, or none where one is; the samples are smaller than
        64 pixels or their side is no multiple of 4; or a parameter is out of its range.
    """

    architecture = ARCHITECTURE
    #: The network sees the values as they are stored.
    gamma = 1.0

    def __init__(
        self,
        samples: RestorationSamples,
        flow: KernelFlow | None,
        *,
        prior: str = PRIORS[0],
        config: Mapping[str, Any] | None = None,
        reblur_gamma: float = GAMMA,
        uncertainty: float = UNCERTAINTY,
        raw_sums: bool = False,
        kernel_size: int = 19,
    ) -> None:
        if (flow is None) != (prior == "none"):
            raise ValueError(f"the prior {prior!r} needs {'no' if flow else 'a'} flow")
        if samples.side < LEAST_SIDE or samples.side % MULTIPLE:
            raise ValueError(
                f"samples must have a side of at least {LEAST_SIDE} pixels that is a multiple of "
                f"{MULTIPLE}, got {samples.side}"
            )
        if not reblur_gamma > 0:
            raise ValueError(f"reblur_gamma must be above 0, got {reblur_gamma}")
        if not uncertainty >= 0:
            raise ValueError(f"the weight of the uncertainty must be at least 0, got {uncertainty}")
        self._samples, self._flow, self._reblur_gamma = samples, flow, reblur_gamma
        self._uncertainty = uncertainty if prior == PRIORS[0] else 0.0
        self._raw_sums = raw_sums
        settings: dict[str, Any] = {**(config or {}), "prior": prior, "kernel_size": kernel_size}
        if flow is not None:
            settings["kernel_size"] = flow.side
            settings["flow"] = {name: flow.config[name] for name in ("hidden", "blocks")}
        with torch.device("meta"):
            self.config: dict[str, Any] = KernelEstimator(**settings).config

    def network(self) -> nn.Module:
        """A new network with the given flow, which is not trained."""
        network = KernelEstimator(**self.config)
        if self._flow is not None:
            network.flow.load_state_dict(self._flow.state_dict())
            network.flow.requires_grad_(False)
        if self.config["prior"] != PRIORS[0]:
            # Nothing depends on it; parallel training waits for the gradients of all others.
            network.kernel_extra.Conv_tail.var.requires_grad_(False)
        return network

    def make(self, generator: torch.Generator, number: int) -> RestorationBatch:
        """Make the batch of a step."""
        return self._samples.make(generator, number)

    def losses(
        self, network: nn.Module, batch: RestorationBatch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Terms of the loss of a batch, and their sum, ``loss``.

        Returns
        -------
        dict
            ``reblur``, the mean absolute difference of reblurred and blurry images; ``sum``, the
            mean sum of the kernels, and ``sigma``, the mean uncertainty.
        """
        kernels, sigma = network(batch.blurry, generator=generator)
        kernels, sigma = kernels.float(), sigma.float()
        total = kernels.sum(1).mean()
        target = inner(batch.blurry, self.config["kernel_size"])
        error = (self.reblurred(batch.sharp, kernels) - target).abs().mean()
        loss = error
        if not self._raw_sums:
            loss = loss + _SUM * (total - 1).square()
        if self._uncertainty:
            loss = loss - self._uncertainty * sigma.log().mean()
        figures = {"reblur": error, "sum": total, "sigma": sigma.mean()}
        return {"loss": loss, **{name: value.detach() for name, value in figures.items()}}

    def reblurred(self, sharp: Tensor, kernels: Tensor) -> Tensor:
        """Blur sharp images with raw kernels as the loss does, see `reblurred`."""
        if not self._raw_sums:
            kernels = with_sum_one(kernels)
        return reblurred(sharp, kernels, self._reblur_gamma)

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Figures on held-out samples, which are always the same, without noise.

        Returns
        -------
        dict
            ``psnr``, mean PSNR in dB of the reblurred images; ``gain``, by how much it exceeds that
            of the sharp ones; and, of samples whose kernels are known, ``similarity``, mean
            similarity of the kernels, and ``delta``, that of no blur.
        """
        size = self.config["kernel_size"]
        found: dict[str, list[Tensor]] = {}
        for batch in self._samples.held:
            kernels, _ = network(batch.blurry)
            target = inner(batch.blurry, size)
            again = psnr(self.reblurred(batch.sharp, kernels.float()), target)
            found.setdefault("psnr", []).append(again)
            found.setdefault("gain", []).append(again - psnr(inner(batch.sharp, size), target))
            fields = batch.fields()
            if fields:
                figures = _similarities(kernels.float(), fields)
                for name, values in zip(("similarity", "delta"), figures, strict=True):
                    found.setdefault(name, []).append(values)
        return {name: float(torch.cat(values).mean()) for name, values in found.items()}


def load_flow(weights: str | os.PathLike[str] | None = None) -> KernelFlow:
    """Return a trained flow: a file, the name of installed weights, or those installed last.

    Raises
    ------
    ValueError
        If there are no such weights, or they are for another network.
    """
    checkpoint = resolve(weights, FLOW)
    flow = KernelFlow(**checkpoint.config)
    flow.load_state_dict(checkpoint.load())
    return flow.requires_grad_(False).eval()


def with_sum_one(kernels: Tensor) -> Tensor:
    """Raw kernels (N, K², h, w) divided by their sums."""
    return kernels / kernels.sum(1, keepdim=True).clamp_min(_LEAST_SUM)


def reblurred(sharp: Tensor, kernels: Tensor, gamma: float = GAMMA) -> Tensor:
    """Blur sharp images, as a camera does, with kernels on a grid, without the edges.

    Parameters
    ----------
    sharp : Tensor, shape (N, C, S, S)
        Values as they are stored, white 1.
    kernels : Tensor, shape (N, K², h, w)
        Raw kernels on a grid over the images, read by bilinear interpolation.
    gamma : float
        Exponent from the images' values to those that are added up.

    Returns
    -------
    Tensor, shape (N, C, S − K + 1, S − K + 1)
        Values as they are stored, without the margin in which kernels see beyond the edges.
        Differentiable in the kernels.
    """
    size = round(kernels.shape[1] ** 0.5)
    shape = (int(sharp.shape[-2]), int(sharp.shape[-1]))
    rows, cols = (slice(0, length) for length in shape)
    dense = grid.read_block(kernels.flatten(0, 1), shape, rows, cols)
    kernels = dense.reshape(*kernels.shape[:2], *shape)
    light = inner(blur_per_pixel(decode(sharp, gamma), kernels), size)
    return encode(light.clamp_min(_BLACK**gamma), gamma)


def inner(images: Tensor, size: int) -> Tensor:
    """Images (N, C, H, W) without the margin in which kernels of a side see beyond the edges."""
    margin = size // 2
    return images[..., margin : images.shape[-2] - margin, margin : images.shape[-1] - margin]


def psnr(images: Tensor, truth: Tensor) -> Tensor:
    """PSNR in dB of each image of a batch; those that do not differ count as 60."""
    return -10 * (images - truth).square().mean((1, 2, 3)).clamp_min(1e-6).log10()


def _similarities(kernels: Tensor, fields: Sequence[KernelField]) -> tuple[Tensor, Tensor]:
    """Similarity (M,) of the kernels (N, K², h, w), and of no blur, to true ones at some points."""
    size = round(kernels.shape[1] ** 0.5)
    found, nothing = [], []
    delta = no_blur(size, kernels.device, kernels.dtype)
    for maps, field in zip(kernels, fields, strict=True):
        cells = [(torch.arange(_POINTS) + 0.5) / _POINTS * n for n in maps.shape[-2:]]
        rows, cols = (places.long() for places in cells)
        scale = [n / m for n, m in zip(field.shape, maps.shape[-2:], strict=True)]
        y, x = ((i + 0.5) * s - 0.5 for i, s in zip((rows, cols), scale, strict=True))
        truth = field.kernels_at(torch.cartesian_prod(y, x))
        mine = maps[:, rows][:, :, cols].flatten(1).T.reshape(-1, size, size)
        found.append(kernel_similarity(mine, truth))
        nothing.append(kernel_similarity(delta, truth))
    return torch.cat(found), torch.cat(nothing)
