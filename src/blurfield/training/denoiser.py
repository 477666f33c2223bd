"""What there is to know about training the denoiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from blurfield.restoration.denoisers import ARCHITECTURE, COMPACT, DRUNet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .images import ImageBank
    from .source import Source

#: Largest standard deviation of the noise in training, white = 1 (Zhang et al. 2021, Sec. 4.2).
MOST_NOISE = 50 / 255
#: Share of training images without colour, whose noise has none either.
_GREY = 0.15
#: Share of training images whose colours are those of three images, as in fluorescence micrographs
#: and graphics: photographs alone would teach that edges of one colour are those of all.
_UNRELATED = 0.25
#: Noise levels of the validation, images at each, their side, and the start of random numbers.
_VALIDATION_LEVELS = (15, 25, 50)
_VALIDATION_IMAGES, _VALIDATION_SIDE, _VALIDATION_SEED = 24, 96, 20210202


@dataclass(frozen=True)
class NoisyBatch:
    """Images (N, 3, S, S), encoded values with white 1, clean and noisy, and noise levels (N,)."""

    clean: Tensor
    noisy: Tensor
    sigma: Tensor

    def __len__(self) -> int:
        return len(self.clean)


class DenoiserTask:
    """Data, network, loss and validation of the denoiser.

    Parameters
    ----------
    source : Source
        The samples; their side is a multiple of 8.
    config : mapping, optional
        Parameters of `DRUNet`; our compact network by default.

    Raises
    ------
    ValueError
        If the side does not suit the network, or there are no images.
    """

    architecture = ARCHITECTURE
    #: The network sees the values as they are stored.
    gamma = 1.0

    def __init__(self, source: Source, *, config: Mapping[str, Any] | None = None) -> None:
        self.config = dict(config or COMPACT)
        source.require_multiple(2 ** (len(self.config["widths"]) - 1))
        self._side, self._batch, self._device = source.side, source.batch, source.device
        self._images = source.bank("train", source.side)
        held = source.bank("val", _VALIDATION_SIDE, (1.0,))
        generator = torch.Generator(self._device).manual_seed(_VALIDATION_SEED)
        clean = _colours(held, _VALIDATION_IMAGES, _VALIDATION_SIDE, generator)
        noise = torch.randn(clean.shape, generator=generator, device=self._device)
        self._held = (clean, noise)
        self._held_unrelated = _unrelated(clean, torch.ones(3, len(clean), device=self._device))

    def network(self) -> nn.Module:
        """A new network with random weights."""
        network = DRUNet(**self.config)
        # Small steps from the identity at first, which no normalisation would otherwise ensure.
        with torch.no_grad():
            for name, values in network.named_parameters():
                if name.endswith("res.2.weight") or name == "m_tail.weight":
                    values.mul_(0.1)
        return network

    def make(self, generator: torch.Generator, number: int) -> NoisyBatch:
        """Make the batch of a step."""
        del number
        clean = _colours(self._images, self._batch, self._side, generator)
        draw = torch.rand(6, len(clean), generator=generator, device=self._device)
        noise = torch.randn(clean.shape, generator=generator, device=self._device)
        grey = (draw[0] < _GREY)[:, None, None, None]
        unrelated = (draw[2] < _UNRELATED)[:, None, None, None]
        clean = torch.where(unrelated, _unrelated(clean, draw[3:]), clean)
        clean = torch.where(grey, clean.mean(1, keepdim=True), clean)
        noise = torch.where(grey, noise[:, :1], noise)
        sigma = MOST_NOISE * draw[1]
        return NoisyBatch(clean, clean + sigma[:, None, None, None] * noise, sigma)

    def losses(
        self, network: nn.Module, batch: NoisyBatch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Mean absolute error, which is minimised (``loss``), and the PSNR of the batch."""
        del generator
        memory = torch.channels_last
        error = network(batch.noisy.contiguous(memory_format=memory), batch.sigma) - batch.clean
        squared = error.detach().float().square().mean()
        return {"loss": error.float().abs().mean(), "psnr": -10 * squared.log10()}

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Mean PSNR in dB on images that are always the same.

        ``psnr_15`` and so on are those at three levels of noise; ``psnr_unrelated`` is that at the
        lowest one where the colours are those of three images.
        """
        figures = {
            f"psnr_{level}": self._psnr(network, self._held[0], level)
            for level in _VALIDATION_LEVELS
        }
        return figures | {
            "psnr_unrelated": self._psnr(network, self._held_unrelated, _VALIDATION_LEVELS[0])
        }

    def _psnr(self, network: nn.Module, clean: Tensor, level: int) -> float:
        psnr = []
        for image, noise in zip(clean.split(8), self._held[1].split(8), strict=True):
            sigma = torch.full((len(image),), level / 255, device=self._device)
            found = network(image + level / 255 * noise, sigma).float().clamp(0, 1)
            psnr.append(-10 * (found - image).square().mean((1, 2, 3)).log10())
        return float(torch.cat(psnr).mean())


def _colours(bank: ImageBank, count: int, side: int, generator: torch.Generator) -> Tensor:
    """Random squares (N, 3, side, side) of images, in [0, 1]."""
    values, _ = bank.crops(count, side, generator)
    return values[..., :3].permute(0, 3, 1, 2).float() / 255


def _unrelated(images: Tensor, brightness: Tensor) -> Tensor:
    """Give each image the green and blue of two others, and channels a brightness (3, N) each."""
    channels = [images[:, which].roll(which, 0) for which in range(3)]
    return torch.stack(channels, 1) * brightness.T[:, :, None, None]
