"""Denoisers that know the noise level: what plug-and-play restoration takes as its image prior."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from blurfield._threads import map_in_order, poll_within
from blurfield.checkpoints import resolve
from blurfield.operator import do_nothing
from blurfield.precision import memory_format, network_dtype

from .overlapping_tiles import Tile, overlapping_tiles

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from blurfield.checkpoints import Checkpoint

__all__ = ["ARCHITECTURE", "COMPACT", "DRUNet", "Denoiser", "denoise_any_size"]

#: Name of the kind of network among checkpoints.
ARCHITECTURE = "denoiser"
#: Of our compact network: 2.9 million parameters.
COMPACT = {"channels": 3, "widths": [32, 64, 128, 176], "blocks": 2, "residual": True}

#: Features at full size that a tile has, over all channels: 32 MiB in single precision, of which
#: a network keeps about six at a time. On a CPU, each core has a tile of its own.
_MOST_FEATURES = 1 << 23
#: Pixels for each residual block by which tiles overlap on each side. Blocks see 44 pixels far,
#: but hardly: with 24, tiles differ from the whole by at most 3e-5 of white.
_OVERLAP = 24
#: Sides of tiles that may have more features, relative to their overlap: much smaller ones would
#: be hardly more than overlap.
_SIDE = 6


class DRUNet(nn.Module):
    """A residual U-Net without biases that is told the noise level.

    Zhang et al., "Plug-and-play image restoration with deep denoiser prior", 2021, Sec. 4.1;
    names of parameters as in the published weights. Without biases, it treats an image k times as
    bright with k times the noise alike.

    Parameters
    ----------
    channels : int
        Colours of the images: 3, or 1 for grey ones.
    widths : sequence of int
        Channels at full size and at each halving of it; four are (64, 128, 256, 512) where
        published.
    blocks : int
        Residual blocks at each size on the way down and up, 4 where published.
    residual : bool
        Whether the network predicts what to add to the noisy image, rather than, as where
        published, the clean image.

    Raises
    ------
    ValueError
        If there are fewer than two widths.
    """

    def __init__(
        self,
        channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512),
        blocks: int = 4,
        residual: bool = False,
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"a U-Net needs at least two widths, got {list(widths)}")
        self.config = {
            "channels": channels,
            "widths": list(widths),
            "blocks": blocks,
            "residual": residual,
        }
        self.channels, self.residual = channels, residual
        #: Channels of the features at full size.
        self.width = widths[0]
        #: Pixels beyond a tile of an image that count for what is inside it.
        self.overlap = _OVERLAP * blocks
        #: Sides of images must be multiples of this.
        self.multiple = 2 ** (len(widths) - 1)
        self.m_head = _conv(channels + 1, widths[0])
        for level, (width, wider) in enumerate(pairwise(widths), start=1):
            down = nn.Conv2d(width, wider, 2, stride=2, bias=False)
            up = nn.ConvTranspose2d(wider, width, 2, stride=2, bias=False)
            setattr(self, f"m_down{level}", nn.Sequential(*_blocks(width, blocks), down))
            setattr(self, f"m_up{level}", nn.Sequential(up, *_blocks(width, blocks)))
        self.m_body = nn.Sequential(*_blocks(widths[-1], blocks))
        self.m_tail = _conv(widths[0], channels)
        self._levels = range(1, len(widths))

    def forward(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Remove noise.

        Parameters
        ----------
        noisy : Tensor
            Images (N, C, H, W), white 1, H and W multiples of `multiple`.
        sigma : Tensor
            Standard deviation of the noise of each image, (N,), in units of white.

        Returns
        -------
        Tensor
            Denoised images (N, C, H, W).
        """
        level = sigma.to(noisy).reshape(-1, 1, 1, 1).expand(len(noisy), 1, *noisy.shape[-2:])
        features = [self.m_head(torch.cat([noisy, level], 1))]
        for number in self._levels:
            features.append(self.get_submodule(f"m_down{number}")(features[-1]))
        x = self.m_body(features[-1])
        for number in reversed(self._levels):
            x = self.get_submodule(f"m_up{number}")(x + features[number])
        clean: Tensor = self.m_tail(x + features[0])
        return noisy + clean if self.residual else clean


def denoise_any_size(network: DRUNet, noisy: Tensor, sigma: Tensor) -> Tensor:
    """Run a network on images whose sides are no multiples of what it needs.

    Parameters
    ----------
    network : DRUNet
    noisy : Tensor
        Images (N, C, H, W); their last row and column are repeated up to the next multiple.
    sigma : Tensor
        Standard deviation of the noise of each image, (N,).

    Returns
    -------
    Tensor
        Denoised images (N, C, H, W).
    """
    height, width = noisy.shape[-2:]
    missing = (0, -width % network.multiple, 0, -height % network.multiple)
    clean: Tensor = network(functional.pad(noisy, missing, mode="replicate"), sigma)
    return clean[..., :height, :width]


class Denoiser:
    """A trained denoiser, ready for images of any size.

    Images that would take much memory are denoised in overlapping tiles.

    Parameters
    ----------
    network : DRUNet
        Moved to `device` and into the number type that is fastest there.
    device : torch.device
        Where to compute.
    poll : callable, optional
        Called between the layers of the network; what it raises stops the computation.
    """

    def __init__(
        self, network: DRUNet, device: torch.device, poll: Callable[[], None] | None = None
    ) -> None:
        self.device = device
        self._dtype = network_dtype(device)
        network.to(device, self._dtype)
        network.to(memory_format=memory_format(device))  # type: ignore[call-overload]
        self.network = network.requires_grad_(False).eval()
        self._poll = poll or do_nothing
        within = poll_within(self._poll)
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.register_forward_pre_hook(lambda *_: within())

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
        *,
        device: torch.device,
        poll: Callable[[], None] | None = None,
    ) -> Denoiser:
        """Load installed weights.

        Parameters
        ----------
        checkpoint : Checkpoint, str or path-like, optional
            Weights, the name of installed ones, or a file; by default those installed, imported
            ones before ours.
        device : torch.device
            Where to compute.
        poll : callable, optional
            Called while a file is read and between the layers of the network; what it raises stops
            that.

        Raises
        ------
        ValueError
            If no weights are installed, or the checkpoint is for another kind of network.
        """
        weights = resolve(checkpoint, ARCHITECTURE)
        with torch.device("meta"):
            network = DRUNet(**weights.config)
        network.load_state_dict(weights.load(poll), assign=True)
        return cls(network, device, poll)

    @torch.no_grad()
    def __call__(self, image: Tensor, sigma: float | Tensor) -> Tensor:
        """Remove noise of a known level.

        Parameters
        ----------
        image : Tensor
            (C, H, W) or (N, C, H, W), values with white 1. Where the network is for another number
            of channels, each channel is denoised alone: by a network for colours as three equal
            ones.
        sigma : float or Tensor
            Standard deviation of the noise, in units of white, (N,) or the same for all.

        Returns
        -------
        Tensor
            Of the shape, precision and device of `image`.

        Raises
        ------
        ValueError
            If the image has another number of axes.
        """
        batch = image if image.ndim == 4 else image[None]
        if batch.ndim != 4:
            raise ValueError(
                f"expected an image (C, H, W) or (N, C, H, W), got the shape {tuple(image.shape)}"
            )
        count, channels, height, width = batch.shape
        planes = batch.to(self.device, self._dtype)
        levels = torch.as_tensor(sigma, device=self.device, dtype=self._dtype).expand(count)
        wanted = self.network.channels
        if channels != wanted:
            planes = planes.reshape(-1, 1, height, width).expand(-1, wanted, -1, -1)
            levels = levels.repeat_interleave(channels)
        clean = torch.empty_like(planes)
        tiles = list(
            overlapping_tiles(
                height,
                width,
                most=max(_MOST_FEATURES // self.network.width, (_SIDE * self.network.overlap) ** 2),
                overlap=self.network.overlap,
                multiple=self.network.multiple,
            )
        )

        def work(item: tuple[int, Tile]) -> Tensor:
            plane, tile = slice(item[0], item[0] + 1), item[1]
            part = planes[(plane, ..., *tile.seen)]
            part = part.contiguous(memory_format=memory_format(self.device))
            part = denoise_any_size(self.network, part, levels[plane])
            return part[(0, ..., *tile.inside)]

        items = [(plane, tile) for plane in range(len(planes)) for tile in tiles]
        for (plane, tile), part in map_in_order(work, items, self.device, self._poll):
            clean[(plane, ..., *tile.written)] = part
        if channels != wanted:
            clean = clean.mean(1, keepdim=True)
        result: Tensor = clean.reshape(batch.shape).to(image).reshape(image.shape)
        return result


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.res = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.res(x)
        return y


def _blocks(width: int, count: int) -> list[nn.Module]:
    return [_ResidualBlock(width) for _ in range(count)]


def _conv(inward: int, outward: int) -> nn.Conv2d:
    return nn.Conv2d(inward, outward, 3, padding=1, bias=False)
