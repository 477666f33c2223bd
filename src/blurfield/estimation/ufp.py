"""Estimation with UFPNet's network, which gives each pixel a kernel of its own.

See `blurfield.estimation.ufp_network`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from blurfield.checkpoints import find, locate
from blurfield.compute import Reporter
from blurfield.field import KernelField
from blurfield.images import DISPLAY_GAMMA, encode
from blurfield.precision import memory_format

from . import lacks
from .two_heads_network import SteppedConv2d
from .ufp_network import ARCHITECTURE, PRIORS, REACH, TAIL_REACH, KernelEstimator

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from torch import Tensor

    from blurfield.checkpoints import Checkpoint
    from blurfield.compute import ProgressCallback

#: Kinds of weights that hold the network, in the order in which they are looked for.
WEIGHTS = (ARCHITECTURE, "ufpnet")
#: Names of the maps that a field has, see `KernelField`.
UNCERTAINTY, KERNEL_SUM = "uncertainty", "kernel_sum"

#: Sides of images are made multiples of this, as published.
_MULTIPLE = 16
#: Side in pixels of the parts in which features are computed, without what they reach beyond.
_TILE = 512
#: Numbers that a band of codes holds.
_BAND = 2**23
#: Taps below this share of a kernel are left out; numbers too small are slow to compute with.
_LEAST_TAP = 1e-9
#: Kernels of a smaller sum say nothing.
_LEAST_SUM = 1e-6


def estimate_ufp(
    planes: Tensor,
    *,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    draws: int = 0,
    seed: int = 0,
    spacing: float = 4,
    progress: ProgressCallback | None = None,
) -> KernelField:
    """Estimate a dense kernel field with UFPNet's kernel estimation (Fang et al. 2023).

    The network takes values as they are stored, so that linear light is encoded with the exponent
    2.2, and its published weights make kernels for such values, while fields are applied to linear
    light: an approximation that is worst at strong edges. Weights of ``blurfield train kernels``
    are for linear light, unless that was chosen otherwise.

    Parameters
    ----------
    planes : Tensor
        Blurry image in linear light with white 1, (C, H, W), at least 32×32 pixels; values below 0
        and above 1 are clipped. Of other numbers of channels than 3 the mean is taken.
    checkpoint : Checkpoint, str or path-like, optional
        Weights, the name of installed ones, or a file; by default those of ``ufp-kernels``, else of
        ``ufpnet``, of each those imported last, else ours.
    draws : int
        With 0, codes get no noise. Otherwise the kernels are means over so many draws of the noise
        with which uncertain codes are mixed in training.
    seed : int
        Start of the random numbers of the draws.
    spacing : float
        Pixels, at least 1, along each side of a cell of the grid on which kernels are kept: means
        over the pixels of a cell. A field with a kernel for each pixel takes 1.4 KiB a pixel, and
        all that is done with it as much longer.
    progress : callable, optional
        See `blurfield.estimate`.

    Returns
    -------
    KernelField
        On the device of `planes`: basis kernels of one tap each, mixing coefficients that are the
        taps of kernels with sum 1, and, on the same grid, the maps ``"kernel_sum"``, the sum that
        the kernels had, and ``"uncertainty"``, in [0, 1], if the network was trained with it. The
        metadata hold ``parameters``, and ``weights`` with the name, origin and hash of the
        checkpoint.

    Raises
    ------
    ValueError
        If no weights are installed, the checkpoint does not exist or is for another network, or an
        option is out of its range.
    """
    if int(draws) != draws or draws < 0:
        raise ValueError(f"draws must be a whole number ≥ 0, but is {draws!r}")
    if not (math.isfinite(spacing) and spacing >= 1):
        raise ValueError(f"spacing must be a number of pixels ≥ 1, but is {spacing!r}")
    weights = find_weights(checkpoint)
    height, width = (int(n) for n in planes.shape[-2:])
    reporter = Reporter(progress, 2 * height * width, "Loading the network for kernels")
    with torch.no_grad():
        network = load_estimator(weights, planes.device, reporter)
        reporter.advance(0, "Estimating a kernel for each pixel")
        image = encode(_colours(planes).clamp(0, 1), DISPLAY_GAMMA / weights.gamma)
        grid = _Grid(network, (height, width), spacing, planes.device)
        generator = torch.Generator(planes.device).manual_seed(seed)
        for code, sigma, rows, cols in code_parts(network, image, reporter):
            kernels = _draw(network, code, sigma, generator, draws, reporter)
            grid.add(kernels, sigma, rows, cols)
    facts = {"draws": int(draws), "seed": seed, "spacing": spacing, **weights.config}
    return grid.field({"parameters": facts, "weights": weights.identity()})


def find_weights(wanted: Checkpoint | str | os.PathLike[str] | None = None) -> Checkpoint:
    """Return the weights to use, see `estimate_ufp`.

    Raises
    ------
    ValueError
        If there are none, or they are for another network.
    """
    if wanted is None:
        found = [weights for kind in WEIGHTS if (weights := find(kind)) is not None]
        if not found:
            raise ValueError(f"the model 'ufp' {lacks('ufp')}")
        return found[0]
    weights = locate(wanted)
    if weights.architecture not in WEIGHTS:
        raise ValueError(
            f"{weights.path} holds weights for {weights.architecture!r}, not for "
            f"{' or '.join(map(repr, WEIGHTS))}"
        )
    return weights


def load_estimator(
    checkpoint: Checkpoint, device: torch.device, reporter: Reporter | None = None
) -> KernelEstimator:
    """Return the network with trained weights, ready to infer.

    Parameters
    ----------
    checkpoint : Checkpoint
        Weights of one of the kinds `WEIGHTS`, of which the part that estimates kernels is taken.
    device : torch.device
        Where it runs.
    reporter : Reporter, optional
        Polled now and then while weights are loaded and, afterwards, whenever the network runs.
    """
    config = checkpoint.config
    if checkpoint.architecture != ARCHITECTURE:
        config = config.get("estimator") or {}
    with torch.device("meta"):
        network = KernelEstimator(**config)
    state = checkpoint.load(reporter.poll if reporter else None)
    parts = tuple(f"{name}." for name, _ in network.named_children())
    network.load_state_dict(
        # Copied: what is left of the file would keep all of it in memory.
        {name: state.pop(name).clone() for name in list(state) if name.startswith(parts)},
        assign=True,
    )
    network.to(device)
    network.to(memory_format=memory_format(device))  # type: ignore[call-overload]
    if reporter is not None:
        for module in network.kernel_extra.modules():
            if isinstance(module, SteppedConv2d):
                module.tick = lambda _: reporter.poll()
            elif not any(True for _ in module.children()):
                module.register_forward_hook(lambda *_: reporter.poll())
    return network.requires_grad_(False).eval()


class _Grid:
    """Puts kernels of parts of an image together, on the grid of the field to be."""

    def __init__(
        self,
        network: KernelEstimator,
        shape: tuple[int, int],
        spacing: float,
        device: torch.device,
    ) -> None:
        self._shape = shape
        self._side = network.kernel_extra.stride
        self._taps = network.kernel_extra.kernel_size**2
        # Of networks trained without noise, the uncertainty means nothing.
        self._uncertain = network.prior == PRIORS[0]
        rows, cols = (math.ceil(n / max(spacing, self._side)) for n in shape)
        self._cells = (rows, cols)
        self._mixing = torch.zeros(self._taps, rows, cols, device=device)
        self._maps = torch.zeros(2, rows, cols, device=device)

    def add(self, kernels: Tensor, sigma: Tensor, rows: slice, cols: slice) -> None:
        """Take what the network says for some of its cells: (1, K², …) and (1, 1, …)."""
        kernels = kernels[0].clamp_min_(0)
        sums = kernels.sum(0, keepdim=True)
        maps = torch.cat([sigma[0], sums])
        kernels /= sums.clamp_min(_LEAST_SUM)
        functional.threshold(kernels, _LEAST_TAP, 0.0, inplace=True)
        kernels[self._taps // 2] += (sums[0] < _LEAST_SUM).to(kernels)
        down, y = self._shares(0, rows, kernels)
        across, x = self._shares(1, cols, kernels)
        for target, values in ((self._mixing, kernels), (self._maps, maps)):
            target[:, y, x] += _resample(values, down, across)

    def field(self, metadata: dict[str, object]) -> KernelField:
        """The field, when all parts have been added."""
        size = math.isqrt(self._taps)
        basis = torch.eye(self._taps, device=self._mixing.device).reshape(-1, size, size)
        self._mixing /= self._mixing.sum(0)
        uncertainty, sums = self._maps
        maps = {KERNEL_SUM: sums}
        if self._uncertain:
            maps[UNCERTAINTY] = uncertainty.clamp(0, 1)
        return KernelField(basis, self._mixing, self._shape, metadata, maps)

    def _shares(self, axis: int, part: slice, like: Tensor) -> tuple[Tensor | None, slice]:
        """Weights of some of the network's cells in the means that the field's cells are.

        Returns
        -------
        matrix : Tensor, shape (cells touched, cells of the part), or None
            Shares of the lengths of the field's cells, None where the cells are the same.
        touched : slice
            Cells of the field.
        """
        length, cells = self._shape[axis], self._cells[axis]
        if cells * self._side == length:
            return None, part
        size = length / cells
        edges = torch.arange(part.start, part.stop + 1, dtype=torch.float64) * self._side
        edges = edges.clamp(max=length)
        first = min(int(edges[0] / size), cells - 1)
        last = min(math.ceil(edges[-1] / size), cells)
        own = torch.arange(first, last, dtype=torch.float64)[:, None] * size
        overlap = torch.minimum(edges[1:], own + size) - torch.maximum(edges[:-1], own)
        return (overlap.clamp_min(0) / size).to(like), slice(first, last)


def _resample(values: Tensor, down: Tensor | None, across: Tensor | None) -> Tensor:
    """Multiply maps (n, h, w) with matrices along both axes; None leaves an axis as it is."""
    if down is not None:
        values = down @ values
    return values if across is None else values @ across.T


def _colours(planes: Tensor) -> Tensor:
    return planes if len(planes) == 3 else planes.mean(0, keepdim=True).expand(3, -1, -1)


def code_parts(
    network: KernelEstimator, image: Tensor, reporter: Reporter
) -> Iterator[tuple[Tensor, Tensor, slice, slice]]:
    """Codes and uncertainties of all parts of an image, which make up those of the whole.

    Each part is seen with all that it depends on. At the right and below, the image is continued by
    reflection to multiples of 16 pixels, as published.

    Parameters
    ----------
    network : KernelEstimator
        From `load_estimator`.
    image : Tensor, shape (3, H, W)
        What the network takes.
    reporter : Reporter
        Is told of 2·H·W steps.

    Yields
    ------
    code : Tensor, shape (1, K², h, w)
    sigma : Tensor, shape (1, 1, h, w)
    rows, cols : slice
        Which of the network's cells they are for, of those that cover the image.
    """
    shape = (int(image.shape[-2]), int(image.shape[-1]))
    below, right = (-n % _MULTIPLE for n in shape)
    padded = functional.pad(image[None], (0, right, 0, below), mode="reflect")
    padded = padded.contiguous(memory_format=memory_format(image.device))
    extractor, side = network.kernel_extra, network.kernel_extra.stride
    for top in range(0, shape[0], _TILE):
        for left in range(0, shape[1], _TILE):
            rows, cols = (
                _Span(start, _TILE, length, full, side)
                for start, length, full in zip((top, left), shape, padded.shape[-2:], strict=True)
            )
            features = extractor.features(padded[..., rows.seen, cols.seen])
            features = features[..., cols.near]
            reporter.advance(rows.pixels * cols.pixels)
            few = max(_BAND // (network.kernel_extra.kernel_size**2 * cols.cells), 1)
            for start in range(rows.first, rows.last, few):
                band = slice(start, min(start + few, rows.last))
                near = rows.around(band)
                code, sigma = extractor.Conv_tail(features[:, :, near])
                inside = slice(band.start - rows.origin - near.start, None)
                inside = slice(inside.start, inside.start + band.stop - band.start)
                code, sigma = (v[:, :, inside, cols.inside] for v in (code, sigma))
                yield code, sigma, band, slice(cols.first, cols.last)
                done = min(band.stop * side, shape[0]) - band.start * side
                reporter.advance(max(done, 0) * cols.pixels)


class _Span:
    """A part of an axis of an image, in pixels and in cells of the network's output.

    Attributes
    ----------
    seen : slice
        Pixels on which its features depend.
    origin : int
        Cell at which the features of these begin.
    first, last : int
        Its cells, from the first to that after the last.
    near : slice
        Cells on which its codes depend, among the features.
    inside : slice
        Its cells among those of `near`.
    """

    def __init__(self, start: int, length: int, shape: int, padded: int, side: int) -> None:
        stop = min(start + length, shape)
        end = min(-(-stop // _MULTIPLE) * _MULTIPLE, padded)
        self.pixels = stop - start
        self.seen = slice(max(start - REACH, 0), min(end + REACH, padded))
        self.origin = self.seen.start // side
        self._limit = self.seen.stop // side
        self.first, self.last = start // side, -(-stop // side)
        self.near = self.around(slice(self.first, self.last))
        begin = self.first - self.origin - self.near.start
        self.inside = slice(begin, begin + self.cells)

    @property
    def cells(self) -> int:
        """Number of its cells."""
        return self.last - self.first

    def around(self, cells: slice) -> slice:
        """Cells on which the codes of some cells depend, among the features."""
        return slice(
            max(cells.start - TAIL_REACH, self.origin) - self.origin,
            min(cells.stop + TAIL_REACH, self._limit) - self.origin,
        )


def _draw(
    network: KernelEstimator,
    code: Tensor,
    sigma: Tensor,
    generator: torch.Generator,
    draws: int,
    reporter: Reporter,
) -> Tensor:
    """Raw kernels (1, K², h, w), means over draws of the noise."""
    if not draws or network.prior != PRIORS[0]:
        return network.kernels(code, sigma, poll=reporter.poll)
    total = torch.zeros_like(code)
    for _ in range(draws):
        noise = torch.randn(code.shape, generator=generator, device=code.device)
        total += network.kernels(code, sigma, noise, poll=reporter.poll)
    return total / draws
