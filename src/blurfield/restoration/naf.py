"""Networks without activation functions (NAFNet).

Chen et al., "Simple baselines for image restoration", ECCV 2022, Sec. 3 and Fig. 2; the names of
parameters are those of published weights. The means that channel attention takes are local in
images that are larger than its window, see `blurfield.restoration.local_statistics`.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .local_statistics import local_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

#: Added to the variance of features.
_EPSILON = 1e-6


class ChannelNorm(nn.Module):
    """Normalises the channels of each pixel, then scales and shifts them.

    Parameters
    ----------
    width : int
        Number of channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise features (N, C, H, W)."""
        pixels = x.permute(0, 2, 3, 1)
        shape = (x.shape[1],)
        pixels = functional.layer_norm(pixels, shape, self.weight, self.bias, _EPSILON)
        return pixels.permute(0, 3, 1, 2)


class NAFBlock(nn.Module):
    """A residual block of depthwise convolution, gates and channel attention.

    Parameters
    ----------
    width : int
        Number of channels.
    window : int
        Side in pixels of the window over which the attention takes its mean.
    """

    #: Pixels on each side on which `gated` depends.
    reach = 1

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.conv1 = nn.Conv2d(width, 2 * width, 1)
        self.conv2 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        # The first entry stands for the mean, so that parameters have their published names.
        self.sca = nn.Sequential(nn.Identity(), nn.Conv2d(width, width, 1))
        self.conv3 = nn.Conv2d(width, width, 1)
        self.conv4 = nn.Conv2d(width, 2 * width, 1)
        self.conv5 = nn.Conv2d(width, width, 1)
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Transform features (N, C, H, W); for what else is given see `gated`."""
        y = self.gated(x, *given)
        return self.finish(x, y, local_mean(y, (self.window, self.window)))

    def gated(self, x: Tensor, *given: Tensor) -> Tensor:
        """Features (N, C, H, W) for channel attention to weigh; nothing else is given here."""
        del given
        return _gate(self.conv2(self.conv1(self.norm1(x))))

    def finish(self, x: Tensor, y: Tensor, mean: Tensor) -> Tensor:
        """What the block makes of x, of which `gated` made y of this mean; pixel by pixel."""
        x = x + self.beta * self.conv3(y * self.sca(mean))
        result: Tensor = x + self.gamma * self.conv5(_gate(self.conv4(self.norm2(x))))
        return result


class Whole:
    """How a network runs its large layers: each on all that it gets, at once."""

    def halve(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Run a layer that halves the size."""
        result: Tensor = layer(x)
        return result

    def block(self, block: NAFBlock, x: Tensor, *given: Tensor) -> Tensor:
        """Run a block, see `NAFBlock`; other ways than this one may overwrite x."""
        result: Tensor = block(x, *given)
        return result


#: What has no state can be shared.
WHOLE = Whole()


class NAFNet(nn.Module):
    """A U-Net of NAF blocks.

    Parameters
    ----------
    width : int
        Channels at full size; each halving of the size doubles them.
    encoder : sequence of int
        Blocks at full size and at each halving of it, on the way down.
    middle : int
        Blocks at the smallest size.
    decoder : sequence of int
        Blocks on the way up, from the last halving but one to full size; as many numbers as in
        `encoder`.
    window : int
        Side in pixels of the image within which features are averaged for channel attention. Those
        of larger images are averaged locally, so that the size of the image does not matter.
    special : mapping, optional
        Kinds of blocks that are not plain ones, by the number of their level on the way down.

    Raises
    ------
    ValueError
        If the encoder and the decoder have different numbers of sizes.
    """

    def __init__(
        self,
        width: int,
        encoder: Sequence[int],
        middle: int,
        decoder: Sequence[int],
        window: int,
        special: Mapping[int, Callable[[int, int], NAFBlock]] | None = None,
    ) -> None:
        super().__init__()
        if len(encoder) != len(decoder):
            raise ValueError(
                f"encoder and decoder must have as many sizes, got {list(encoder)} and "
                f"{list(decoder)}"
            )
        self.config: dict[str, Any] = {
            "width": width,
            "encoder": list(encoder),
            "middle": middle,
            "decoder": list(decoder),
            "window": window,
        }
        self.width, self.window = width, window
        #: Sides of images must be multiples of this.
        self.multiple = 2 ** len(encoder)
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.ending = nn.Conv2d(width, 3, 3, padding=1)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        self.ups, self.decoders = nn.ModuleList(), nn.ModuleList()
        kinds = special or {}
        channels, side = width, window
        for level, count in enumerate(encoder):
            kind = kinds.get(level, NAFBlock)
            self.encoders.append(_blocks(count, channels, side, kind))
            self.downs.append(nn.Conv2d(channels, 2 * channels, 2, stride=2))
            channels, side = 2 * channels, side // 2
        self.middle_blks = _blocks(middle, channels, side)
        for count in decoder:
            grown = nn.Conv2d(channels, 2 * channels, 1, bias=False)
            self.ups.append(nn.Sequential(grown, nn.PixelShuffle(2)))
            channels, side = channels // 2, side * 2
            self.decoders.append(_blocks(count, channels, side))

    def change(
        self,
        images: Tensor,
        given: Iterable[tuple[Tensor, ...]] | None = None,
        run: Whole = WHOLE,
    ) -> Tensor:
        """What to add to images.

        Parameters
        ----------
        images : Tensor
            (N, 3, H, W), H and W multiples of `multiple`.
        given : iterable of tuple of Tensor, optional
            What the blocks of each level on the way down get beside features; nothing by default.
        run : Whole
            How layers are run.

        Returns
        -------
        Tensor
            (N, 3, H, W).
        """
        x = self.intro(images)
        passed = []
        # What is given may go on without end.
        for blocks, down, told in zip(self.encoders, self.downs, given or repeat(()), strict=False):
            passed.append(_run(blocks, x, told, run))
            x = run.halve(down, passed[-1])
        x = _run(self.middle_blks, x, (), run)
        for up, blocks in zip(self.ups, self.decoders, strict=True):
            x = _run(blocks, up(x) + passed.pop(), (), run)
        change: Tensor = self.ending(x)
        return change


def _run(blocks: Any, x: Tensor, given: tuple[Tensor, ...], run: Whole) -> Tensor:
    for block in blocks:
        x = run.block(block, x, *given)
    return x


def _blocks(
    count: int, width: int, window: int, kind: Callable[[int, int], NAFBlock] = NAFBlock
) -> nn.Sequential:
    return nn.Sequential(*(kind(width, window) for _ in range(count)))


def _gate(x: Tensor) -> Tensor:
    one, two = x.chunk(2, dim=1)
    return one * two
