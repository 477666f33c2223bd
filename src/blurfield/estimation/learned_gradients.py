"""Sharp edges for the kernel step, by a small network.

A local network takes the place of fixed rules for which edges to believe, as in Schuler, Hirsch,
Harmeling & Schölkopf, "Learning to deblur", 2016, Sec. 3; kernels then follow by least squares, as
they do from L0 edges.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from blurfield.checkpoints import find, resolve
from blurfield.precision import memory_format

from .kernels import salient
from .spectral import gradient, transfer_function

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from blurfield.checkpoints import Checkpoint

    from .level import Level

#: Name of the kind of network among checkpoints.
ARCHITECTURE = "gradients"
#: The coupling of the L0 latent image grows by this factor in each step: faster, and less accurate,
#: than where its edges are used as they are.
GROWTH = 2.83
#: The network is used at scales up to this, and for kernels of up to so many pixels. There it is
#: worth most, because the kernels are still far from right, and costs least; finer scales, where it
#: was less good, go without.
_FINEST, _LARGEST = 0.51, 13
#: Channels of what the network sees, see `clues`.
CLUES = 10
#: Largest value of a clue.
_MOST = 8.0
#: Sharp gradients are about so many times as strong as blurry ones.
_SHARPER = 4.0
#: Regularisation of the quotient of spectra: power of the noise relative to that of the picture.
_QUOTIENT = 0.01
#: Gradients with a root mean square below this, relative to white, are no texture.
_LEAST_SLOPE = 1e-4
#: Gate before the network has learned anything, ±, on the logistic scale.
_GATE = 4.0
#: Images of which the network sees a few at a time, by their pixels together.
_PIXELS_AT_ONCE = 1 << 18


def is_coarse(scale: float, side: int) -> bool:
    """Whether the network is used at a scale where kernels have `side` pixels."""
    return scale <= _FINEST and side <= _LARGEST


class GradientNetwork(nn.Module):
    """Tells which edges of the L0 latent image to believe, and corrects them.

    A chain of convolutions at half the resolution, some of them dilated, so that each pixel sees
    about 60 around it. Before training, it lets the salient edges through, and little else.

    Parameters
    ----------
    width : int
        Channels.
    dilations : sequence of int
        Dilations of the layers between the first and the last.
    """

    def __init__(self, width: int = 32, dilations: Sequence[int] = (1, 2, 4, 4, 2, 1)) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"width": width, "dilations": list(dilations)}
        self.first = nn.Conv2d(4 * CLUES, width, 3, padding=1)
        self.middle = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in dilations
        )
        self.last = nn.Conv2d(width, 12, 3, padding=1)
        for name, values in self.named_parameters():
            if name.startswith("last.") or name.endswith(".bias"):
                nn.init.zeros_(values)
            else:
                # Each layer adds to what there is, so a little less than usual.
                nn.init.kaiming_normal_(values, nonlinearity="relu")
                values.data.mul_(1.0 if name.startswith("first.") else 0.5)

    def forward(self, clues: Tensor) -> Tensor:
        """Return gates (logistic scale) and corrections along x and y.

        Parameters
        ----------
        clues : Tensor
            (N, CLUES, H, W).

        Returns
        -------
        Tensor
            (N, 3, H, W).
        """
        height, width = clues.shape[-2:]
        even = functional.pad(clues, (0, width % 2, 0, height % 2), mode="replicate")
        x = functional.pixel_unshuffle(even, 2)
        x = functional.relu(self.first(x.contiguous(memory_format=memory_format(x.device))))
        for layer in self.middle:
            x = x + functional.relu(layer(x))
        found: Tensor = functional.pixel_shuffle(self.last(x), 2)
        return found[..., :height, :width]


def clues(level: Level, kernels: Tensor, latent: Tensor, count: int) -> tuple[Tensor, ...]:
    """What the network sees, for N images and M kernels each.

    Parameters
    ----------
    level : Level
        The blurry images.
    kernels : Tensor
        Present kernels, (N, M, K, K).
    latent : Tensor
        Latent images that belong to them, (N, M, P, Q).
    count : int
        See `blurfield.estimation.kernels.salient`.

    Returns
    -------
    clues : Tensor
        (N, M, CLUES, P, Q): gradients of the blurry image, of the latent image and of a quotient of
        spectra; whether they are salient; what the latent image doesn't explain; highlights; and
        the kernel size. In units of the gradients of each blurry image.
    edges : Tensor
        Gradients of the latent image, (N, M, 2, P, Q).
    unit : Tensor
        Root mean square of the gradients of the blurry images, (N, 1, 1, 1).
    """
    shape = (int(latent.shape[-2]), int(latent.shape[-1]))
    blurry = torch.stack(level.slopes, 2)
    energy = (blurry.square().sum(2) * level.inside).sum((-2, -1), keepdim=True)
    unit = (energy / level.inside.sum()).sqrt().clamp_min(_LEAST_SLOPE)
    edges = torch.stack(gradient(latent), 2)
    chosen = salient(edges[:, :, 0], edges[:, :, 1], count, level.inside)
    transfer = transfer_function(kernels, shape) * level.optics
    power = transfer.real.square() + transfer.imag.square()
    quotient = torch.fft.irfft2(transfer.conj() * level.spectrum / (power + _QUOTIENT), s=shape)
    residual = level.blurry - torch.fft.irfft2(transfer * torch.fft.rfft2(latent), s=shape)
    found = latent.new_empty(*latent.shape[:2], CLUES, *shape)
    scale = unit[..., None]
    found[:, :, 0:2] = blurry / scale
    found[:, :, 2:4] = edges / (_SHARPER * scale)
    found[:, :, 4] = chosen
    along_x, along_y = gradient(quotient)
    found[:, :, 5] = along_x / (_SHARPER * unit)
    found[:, :, 6] = along_y / (_SHARPER * unit)
    found[:, :, 7] = residual / unit
    found[:, :, 8] = 5 * (level.blurry - 0.8).clamp_min(0)
    found[:, :, 9] = math.log(level.side / 10)
    return found.clamp_(-_MOST, _MOST), edges, unit


def edges_from(network: nn.Module, seen: Tensor, edges: Tensor, unit: Tensor) -> Tensor:
    """Sharp gradients (N, M, 2, P, Q), from what `clues` returns."""
    flat = network(seen.flatten(0, 1)).float().unflatten(0, seen.shape[:2])
    gate = torch.sigmoid(flat[:, :, :1] + _GATE * (2 * seen[:, :, 4:5] - 1))
    found: Tensor = gate * edges + unit[..., None] * flat[:, :, 1:]
    return found


class LearnedGradients:
    """A trained network, ready to find edges.

    Parameters
    ----------
    weights : Checkpoint
        What to load.
    device : torch.device
        Where to compute.

    Attributes
    ----------
    weights : Checkpoint
    """

    def __init__(self, weights: Checkpoint, device: torch.device) -> None:
        self.weights = weights
        with torch.device("meta"):
            network = GradientNetwork(**weights.config)
        network.load_state_dict(weights.load(), assign=True)
        network.to(device)
        network.to(memory_format=memory_format(device))  # type: ignore[call-overload]
        self._network = network.requires_grad_(False).eval()

    @torch.no_grad()
    def __call__(
        self,
        level: Level,
        kernels: Tensor,
        strength: Tensor,
        count: int,
        poll: Callable[[], None],
    ) -> tuple[Tensor, Tensor]:
        """Sharp gradients along x and y, (N, M, P, Q) each.

        Parameters
        ----------
        level : Level
            The blurry images.
        kernels : Tensor
            Present kernels, (N, M, K, K).
        strength : Tensor
            λ of the L0 latent image, (N, M).
        count : int
            See `blurfield.estimation.kernels.salient`.
        poll : callable
            Called between steps; may raise to stop.
        """
        latent = level.sharpen(kernels, strength, poll, GROWTH)
        poll()
        seen, edges, unit = clues(level, kernels, latent, count)
        few = max(1, _PIXELS_AT_ONCE // (seen.shape[1] * seen.shape[-1] * seen.shape[-2]))
        parts = []
        for start in range(0, len(seen), few):
            poll()
            part = slice(start, start + few)
            parts.append(edges_from(self._network, seen[part], edges[part], unit[part]))
        sharp = torch.cat(parts) * level.inside
        return sharp[:, :, 0], sharp[:, :, 1]


def load_gradients(edges: str | os.PathLike[str], device: torch.device) -> LearnedGradients | None:
    """Load the network that an option asks for, None where it asks for none.

    Parameters
    ----------
    edges : str or path-like
        ``"L0"`` for none; the name of installed weights, or a file; ``"auto"`` for those that are
        installed, if there are any.
    device : torch.device
        Where to compute.

    Raises
    ------
    ValueError
        If the weights do not exist or are for another kind of network.
    """
    if edges == "L0":
        return None
    weights = find(ARCHITECTURE) if edges == "auto" else resolve(edges, ARCHITECTURE)
    return None if weights is None else LearnedGradients(weights, device)
