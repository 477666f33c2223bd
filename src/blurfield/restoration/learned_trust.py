"""A small network that corrects how far restored images are trusted, by how they look.

Fixed rules weigh some numbers for each window (`blurfield.restoration.estimated`). What a wrong
kernel does, ghosts and ringing beside edges, is also to be seen: a convolutional network looks at
the blurry image and at what restoration has changed, is told those numbers, and shifts the odds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from blurfield.checkpoints import find, resolve
from blurfield.operator import do_nothing
from blurfield.precision import memory_format

from .local_statistics import mean_around, most_around

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from blurfield.checkpoints import Checkpoint

__all__ = [
    "ARCHITECTURE",
    "CAUTION",
    "CELL",
    "TOLD",
    "LearnedTrust",
    "TrustNetwork",
    "limited",
    "log_odds",
    "on_cells",
    "views",
]

#: Name of the kind of network among checkpoints.
ARCHITECTURE = "trust"
#: Pixels along each side of a cell, for which the network gives one number.
CELL = 16
#: Planes that the network sees, see `views`, and numbers that it is told, see
#: `blurfield.restoration.estimated.evidence`.
VIEWS, TOLD = 4, 6
#: What the numbers are multiplied by, so that they are all of about the same size.
_UNITS = (0.5, 0.5, 10.0, 2.0, 1.0, 1.0)
#: Exponent of the encoding in which the network sees images, and the most light that it sees.
_GAMMA, _MOST_LIGHT = 2.2, 4.0
#: Pixels around each one that its brightness, and its contrast, are compared with.
_NEAR, _WIDE = 16, 32
#: Contrast below which there is none.
_FLAT = 0.02
#: Kernel sizes on each side of a cell over which the network looks for how the image is on the
#: whole. Tiles overlap by more, so that it doesn't matter where they are.
_SURROUNDINGS = 5
#: What a trained network's odds lose in logarithm: it has seen few photographs, and of others it is
#: too sure. On held-out ones, this costs 0.01 dB, and those that become worse do so by 2 dB less.
CAUTION = 0.5
#: By how much it may raise the logarithm of the odds: where rules are sure, it may not be surer.
_MOST_RAISE = 3.0
#: Logarithms of odds beyond these are as good as certain.
_LEAST_ODDS, _MOST_ODDS = -9.0, 6.0


class TrustNetwork(nn.Module):
    """Shifts the odds that a restored image is better than the blurry one.

    Parameters
    ----------
    widths : sequence of int
        Channels at strides 2, 4, 8 and 16.
    layers : int
        Convolutions among cells.
    """

    def __init__(self, widths: Sequence[int] = (16, 24, 32, 48), layers: int = 2) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"widths": list(widths), "layers": layers}
        before = (VIEWS, *widths[:-1])
        wide = widths[-1]
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 5 if a == VIEWS else 3, stride=2, padding=2 if a == VIEWS else 1)
            for a, b in zip(before, widths, strict=True)
        )
        self.same = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1) for w in widths)
        self.told = nn.Conv2d(TOLD, wide, 1)
        self.cells = nn.ModuleList(nn.Conv2d(wide, wide, 3, padding=1) for _ in range(layers))
        self.around = nn.Conv2d(2 * wide, wide, 1)
        self.join = nn.Conv2d(wide, wide, 1)
        self.out = nn.Conv2d(wide, 1, 1)
        for values in self.out.parameters():
            nn.init.zeros_(values)

    def forward(
        self,
        seen: Tensor,
        told: Tensor,
        sizes: Sequence[int],
        poll: Callable[[], None] = do_nothing,
    ) -> Tensor:
        """Return what to add to the logarithms of the odds, (N, h, w); 0 before training.

        Parameters
        ----------
        seen : Tensor
            `views` (N, VIEWS, H, W).
        told : Tensor
            `evidence` on cells, (N, TOLD, h, w), with h = ⌈H / 16⌉.
        sizes : sequence of int
            Sides K of the kernels of each image in pixels.
        poll : callable
            Called between steps; may raise to stop.
        """
        x = seen
        for down, same in zip(self.down, self.same, strict=True):
            x = functional.gelu(down(x))
            poll()
            x = x + functional.gelu(same(x))
            poll()
        x = x + self.told(told * told.new_tensor(_UNITS)[:, None, None])
        for layer in self.cells:
            x = x + functional.gelu(layer(functional.gelu(x)))
        around = []
        for active, size in zip(functional.gelu(x).split(1), sizes, strict=True):
            reach = max(1, round(_SURROUNDINGS * size / CELL))
            around.append(torch.cat([mean_around(active, reach), most_around(active, reach)], 1))
        x = x + self.join(functional.gelu(self.around(torch.cat(around))))
        shift: Tensor = self.out(functional.gelu(x))[:, 0]
        return shift


def views(sharp: Tensor, blurry: Tensor, poll: Callable[[], None] = do_nothing) -> Tensor:
    """Return what the network sees of images, (N, VIEWS, H, W).

    The blurry image, the same relative to its surroundings, what restoration has changed, and that
    relative to the contrast around, all encoded for display.

    Parameters
    ----------
    sharp, blurry : Tensor, shape (N, H, W)
        Restored and blurry images, grey, in linear light with usual exposure.
    poll : callable
        Called between steps; may raise to stop.
    """
    after, before = (
        image[:, None].clamp(0, _MOST_LIGHT).pow(1 / _GAMMA) for image in (sharp, blurry)
    )
    change = after - before
    variance = mean_around(before.square(), _WIDE)
    poll()
    variance -= mean_around(before, _WIDE).square()
    poll()
    contrast = variance.clamp_min(0).sqrt() + _FLAT
    beside = before - mean_around(before, _NEAR)
    poll()
    return torch.cat([2 * before - 0.8, 5 * beside, 5 * change, change / contrast], 1)


def on_cells(values: Tensor) -> Tensor:
    """Means (..., h, w) of what is known for each pixel, (..., H, W), over cells."""
    return functional.avg_pool2d(values[None], CELL, ceil_mode=True, count_include_pad=False)[0]


def log_odds(doubt: Tensor) -> Tensor:
    """Logarithm of the odds that an image is right, for a doubt in [0, 1]."""
    return torch.logit(doubt).neg_().clamp_(_LEAST_ODDS, _MOST_ODDS)


def limited(shift: Tensor, told: Tensor, caution: float = CAUTION) -> Tensor:
    """How far what the network says counts, for the logarithms of the odds.

    Only for kernels of windows. What restoration makes of a network's kernels is left to the rules:
    they hardly err there, and with the training there is, this would.

    Parameters
    ----------
    shift : Tensor, shape (…, h, w)
        What the network says.
    told : Tensor, shape (…, TOLD, h, w)
        `blurfield.restoration.estimated.evidence` on cells.
    caution : float
        What is taken off.
    """
    of_windows = 1 - told[..., -1, :, :]
    return (shift.clamp_max(_MOST_RAISE) - caution) * of_windows


class LearnedTrust:
    """A trained network, ready to correct doubts.

    Parameters
    ----------
    weights : Checkpoint
        What to load.
    device : torch.device
        Where to compute.
    """

    def __init__(self, weights: Checkpoint, device: torch.device) -> None:
        network = TrustNetwork(**weights.config)
        network.load_state_dict(weights.load())
        network.to(device=device, memory_format=memory_format(device))  # type: ignore[call-overload]
        self._network = network.float().requires_grad_(False).eval()

    @classmethod
    def load(
        cls, device: torch.device, weights: str | os.PathLike[str] | None = None
    ) -> LearnedTrust | None:
        """Load weights by name or file, or those that are installed; None if there are none."""
        found = find(ARCHITECTURE) if weights is None else resolve(weights, ARCHITECTURE)
        return None if found is None else cls(found, device)

    @torch.no_grad()
    def __call__(
        self,
        doubt: Tensor,
        sharp: Tensor,
        blurry: Tensor,
        told: Tensor,
        size: int,
        poll: Callable[[], None],
    ) -> Tensor:
        """Correct the doubt of the rules.

        Parameters
        ----------
        doubt : Tensor, shape (1, H, W)
            From 0 to 1.
        sharp, blurry : Tensor, shape (1, H, W)
            Restored and blurry image, grey, in linear light.
        told : Tensor, shape (TOLD, h, w)
            `evidence` on cells.
        size : int
            Side K of the kernels in pixels.
        poll : callable
            Called between steps; may raise to stop.

        Returns
        -------
        Tensor, shape (1, H, W)
            From 0 to 1.
        """
        seen = views(sharp, blurry, poll)
        shift = self._network(seen, told[None], [size], poll)
        change = limited(shift, told[None])
        height, width = doubt.shape[1:]
        pixels = functional.interpolate(
            change[None], scale_factor=CELL, mode="bilinear", align_corners=False
        )[0, :, :height, :width]
        return (log_odds(doubt) + pixels).neg_().sigmoid_()
