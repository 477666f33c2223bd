"""Denoisers that know the noise level: what plug-and-play restoration takes as its image prior."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from blurfield.checkpoints import resolve
from blurfield.precision import memory_format, network_dtype

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from blurfield.checkpoints import Checkpoint

#: Name of the kind of network among checkpoints.
ARCHITECTURE = "denoiser"
#: Of our compact network: 2.9 million parameters.
COMPACT = {"channels": 3, "widths": [32, 64, 128, 176], "blocks": 2, "residual": True}


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


class Denoiser:
    """A trained denoiser, ready for images of any size.

    Parameters
    ----------
    network : DRUNet
        Moved to `device` and into the number type that is fastest there.
    device : torch.device
        Where to compute.
    """

    def __init__(self, network: DRUNet, device: torch.device) -> None:
        self.device = device
        self._dtype = network_dtype(device)
        network.to(device, self._dtype)
        network.to(memory_format=memory_format(device))  # type: ignore[call-overload]
        self.network = network.requires_grad_(False).eval()

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
            Called while a file is read; what it raises stops that.

        Raises
        ------
        ValueError
            If no weights are installed, or the checkpoint is for another kind of network.
        """
        weights = resolve(checkpoint, ARCHITECTURE)
        with torch.device("meta"):
            network = DRUNet(**weights.config)
        network.load_state_dict(weights.load(poll), assign=True)
        return cls(network, device)

    @torch.no_grad()
    def __call__(self, image: Tensor, sigma: float | Tensor) -> Tensor:
        """Remove noise of a known level.

        Parameters
        ----------
        image : Tensor
            (C, H, W) or (N, C, H, W), values with white 1. Images of one channel go through a
            network for colours as three equal ones, and each of three channels alone through a
            network for grey images.
        sigma : float or Tensor
            Standard deviation of the noise, in units of white, (N,) or the same for all.

        Returns
        -------
        Tensor
            Of the shape, precision and device of `image`.

        Raises
        ------
        ValueError
            If the image has neither 1 nor 3 channels.
        """
        batch = image if image.ndim == 4 else image[None]
        if batch.ndim != 4 or batch.shape[1] not in (1, 3):
            raise ValueError(
                f"expected an image (C, H, W) or (N, C, H, W) of 1 or 3 channels, got the shape "
                f"{tuple(image.shape)}"
            )
        count, channels, height, width = batch.shape
        planes = batch.to(self.device, self._dtype)
        levels = torch.as_tensor(sigma, device=self.device, dtype=self._dtype).expand(count)
        if channels == 1 and self.network.channels == 3:
            planes = planes.expand(-1, 3, -1, -1)
        elif channels == 3 and self.network.channels == 1:
            planes, levels = planes.reshape(-1, 1, height, width), levels.repeat_interleave(3)
        multiple = self.network.multiple
        padded = functional.pad(
            planes, (0, -width % multiple, 0, -height % multiple), mode="replicate"
        )
        clean = self.network(padded.contiguous(memory_format=memory_format(self.device)), levels)
        clean = clean[..., :height, :width]
        if channels == 1 and self.network.channels == 3:
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
