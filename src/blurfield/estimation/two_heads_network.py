"""The two-headed network of Carbajal, Vitoria, Musé and Lezama: kernels and mixing maps at once.

G. Carbajal, P. Vitoria, M. Delbracio, P. Musé, J. Lezama, "Non-uniform blur kernel estimation via
adaptive basis decomposition", arXiv:2102.01026. The names of the modules are those of the files of
weights that the authors publish.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Images must be at least so many pixels high and wide, to leave one at the bottleneck.
MIN_SIDE = 32

#: Channels at strides 1, 2, 4, 8 and 16.
_WIDTHS = (64, 128, 256, 512, 1024)
#: Multiplications of one step on a CPU, so that progress is told several times a second.
_STEP = {torch.bfloat16: 4e10}
_STEP_DEFAULT = 1e10


class SteppedConv2d(nn.Conv2d):
    """A 3×3 convolution with stride 1 and zeros around the image, which tells its progress.

    On CPUs, large images are convolved in bands of rows, with the same result.

    Attributes
    ----------
    tick : callable or None
        Called with the number of multiplications after each step. What it raises propagates.
    """

    tick: Callable[[float], None] | None = None

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, inputs, H, W) to (N, outputs, H, W)."""
        height = x.shape[2]
        row = float(self.weight.numel()) * x.shape[0] * x.shape[3]
        rows = max(int(_STEP.get(x.dtype, _STEP_DEFAULT) / row), 1)
        if self.tick is None or x.device.type != "cpu" or rows >= height:
            result = super().forward(x)
            if self.tick is not None:
                self.tick(row * height)
            return result
        shape = (x.shape[0], self.out_channels, height, x.shape[3])
        result = torch.empty(shape, dtype=x.dtype, memory_format=_layout(x))
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            band = x[:, :, max(top - 1, 0) : bottom + 1]
            if top == 0 or bottom == height:
                band = functional.pad(band, (0, 0, int(top == 0), int(bottom == height)))
            result[:, :, top:bottom] = functional.conv2d(
                band, self.weight, self.bias, padding=(0, 1)
            )
            self.tick(row * (bottom - top))
        return result


class TwoHeads(nn.Module):
    """Estimates basis kernels and mixing maps of an image.

    Parameters
    ----------
    num_kernels : int
        Number B of basis kernels.
    kernel_size : int
        Side K of the kernels: 33, or 65 with a block more.
    generation : {"B", "A"}
        ``"B"`` is the network of the code and weights published since 2021, whose kernels come out
        of convolutions; ``"A"`` that of the first version of the paper, whose kernels come out of
        one dense layer, of 33×33 pixels only.

    Raises
    ------
    ValueError
        If there is no such network.
    """

    def __init__(
        self, num_kernels: int = 25, kernel_size: int = 33, generation: Literal["A", "B"] = "B"
    ) -> None:
        super().__init__()
        if (generation, kernel_size) not in {("B", 33), ("B", 65), ("A", 33)}:
            raise ValueError(
                f"no two-headed network of generation {generation!r} has kernels of "
                f"{kernel_size!r} pixels: generation 'B' has 33 or 65, generation 'A' has 33"
            )
        self.num_kernels = num_kernels
        self.kernel_size = kernel_size
        w1, w2, w3, w4, w5 = _WIDTHS
        self.inc_rgb = nn.Sequential(*_layers(3, w1))
        self.inc_gray = nn.Sequential(*_layers(1, w1))
        self.down1 = _Down(w1, w1)
        self.down2 = _Down(w1, w2)
        self.down3 = _Down(w2, w3)
        self.down4 = _Down(w3, w4)
        self.down5 = _Down(w4, w5)
        self.feat = nn.Sequential(*_layers(w5, w5))

        self.up1 = _Up(w5, w5, w4)
        self.up2 = _Up(w4, w4, w3)
        self.up3 = _Up(w3, w3, w2)
        self.up4 = _Up(w2, w2, w1)
        self.up5 = _Up(w1, w1, w1)
        self.masks_end = nn.Sequential(*_layers(w1, w1, w1, num_kernels)[:-1])

        self.kernel_up1 = _Up(w5, w5, w4)
        self.kernel_up2 = _Up(w4, w4, w3)
        self.kernel_up3 = _Up(w3, w3, w3)
        self.kernel_up4 = _Up(w3, w2, w2)
        if generation == "A":
            # Sides of what the blocks give. The first is 1 although the block before doubles it.
            self._sides: tuple[int, ...] = (1, 2, 4, 8)
            dense = nn.Conv2d(w2, num_kernels * kernel_size**2, 8)
            self.kernels_end = nn.Sequential(*_layers(w2, w2, w2), dense)
        else:
            self._sides = (2, 4, 8, 16, 32)
            self.kernel_up5 = _Up(w2, w1, w1)
            if kernel_size == 65:
                self.kernel_up6 = _Up(w1, 0, w1)
            widening = nn.Conv2d(w1, w1, 2, padding=1)  # from 32 pixels to 33
            self.kernels_end = nn.Sequential(widening, *_layers(w1, w1, w1, num_kernels)[1:-1])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate kernels and maps.

        Parameters
        ----------
        image : Tensor
            (N, 3, H, W), or (N, 1, H, W) for grey images; values from −0.5 to 0.5; H and W at
            least 32.

        Returns
        -------
        kernels : Tensor
            (N, B, K, K) in the correlation convention; each has the sum 1.
        maps : Tensor
            (N, B, H, W); those of each pixel have the sum 1.
        """
        x1, x2 = self.encode(image)
        coarse, means = self.bottleneck(pool(x2))
        maps = torch.softmax(self.map_logits(coarse, x2, x1), dim=1)
        return self.kernels([mean(x1), mean(x2), *means]), maps

    def on_step(self, tick: Callable[[float], None] | None) -> None:
        """Have a function called with the number of multiplications after each step; None: no more.

        What makes the kernels is left out: its cost does not depend on the image's size.
        """
        for name, module in self.named_modules():
            if isinstance(module, SteppedConv2d) and not name.startswith("kernel"):
                module.tick = tick

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features at strides 1 and 2, before the pooling: (N, 64, H, W), (N, 128, H/2, W/2)."""
        stem = self.inc_rgb if image.shape[1] == 3 else self.inc_gray
        x1 = self.down1(stem(image))
        return x1, self.down2(pool(x1))

    def bottleneck(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Go from features at stride 4 down to stride 32 and back.

        Parameters
        ----------
        x : Tensor
            Pooled features, (N, 128, H/4, W/4).

        Returns
        -------
        coarse : Tensor
            Features at stride 4 for the mixing maps, (N, 128, H/4, W/4).
        means : list of Tensor
            Means over the image of the features at strides 4, 8, 16 and 32.
        """
        x3 = self.down3(x)
        x4 = self.down4(pool(x3))
        x5 = self.down5(pool(x4))
        x6 = self.feat(pool(x5))
        means = [mean(features) for features in (x3, x4, x5, x6)]
        return self.up3(self.up2(self.up1(x6, x5), x4), x3), means

    def map_logits(self, coarse: Tensor, x2: Tensor, x1: Tensor) -> Tensor:
        """Mixing maps before the softmax, (N, B, H, W), from features at strides 4, 2 and 1."""
        logits: Tensor = self.masks_end(self.up5(self.up4(coarse, x2), x1))
        return logits

    def kernels(self, means: Sequence[Tensor]) -> Tensor:
        """Basis kernels.

        Parameters
        ----------
        means : sequence of Tensor
            Means over the image of the features at strides 1, 2, 4, 8, 16 and 32, each
            (N, channels, 1, 1). Kernels depend on the image only through them.

        Returns
        -------
        Tensor
            (N, B, K, K), each with the sum 1.
        """
        dtype = self.kernel_up1.up.weight.dtype
        *skips, x = (features.to(dtype) for features in means)
        for number, side in enumerate(self._sides):
            block = self.get_submodule(f"kernel_up{number + 1}")
            x = block(x, skips[-1 - number].expand(-1, -1, side, side))
        if self.kernel_size == 65:
            x = self.kernel_up6(x, None)
        logits: Tensor = self.kernels_end(x).reshape(len(x), self.num_kernels, -1)
        sides = (len(x), self.num_kernels, self.kernel_size, self.kernel_size)
        return torch.softmax(logits, dim=-1).reshape(sides)


def pool(x: Tensor) -> Tensor:
    """Maxima of 2×2 pixels; an odd last row or column is left out."""
    return functional.max_pool2d(x, 2)


def mean(x: Tensor) -> Tensor:
    """Mean over the image, (N, C, 1, 1), in single precision at least."""
    return total(x) / (x.shape[2] * x.shape[3])


def total(x: Tensor) -> Tensor:
    """Sum over the image, (N, C, 1, 1), in single precision at least."""
    wide = torch.promote_types(x.dtype, torch.float32)
    # In bands, because a copy of all features in higher precision would cost much memory.
    bands = [band.sum((2, 3), keepdim=True, dtype=wide) for band in x.split(64, dim=2)]
    return torch.stack(bands).sum(0)


class _Down(nn.Module):
    """Two convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.channels = outputs
        self.double_conv = nn.Sequential(*_layers(inputs, outputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.double_conv(x)
        return result


class _Up(nn.Module):
    """Doubles the size and joins the features of the encoder, if any."""

    def __init__(self, inputs: int, skipped: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, inputs, 2, stride=2)
        self.double_conv = nn.Sequential(*_layers(inputs, outputs, outputs))
        self.feat = nn.Sequential(*_layers(skipped + outputs, outputs))

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = self.double_conv(self.up(x))
        if skip is not None:
            x = torch.cat([skip, _fitted(x, skip.shape[2], skip.shape[3])], dim=1)
        result: Tensor = self.feat(x)
        return result


def _layers(*channels: int) -> list[nn.Module]:
    """3×3 convolutions from one number of channels to the next, each with a leaky ReLU."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += [SteppedConv2d(inputs, outputs), nn.LeakyReLU(0.01, inplace=True)]
    return layers


def _fitted(x: Tensor, height: int, width: int) -> Tensor:
    """Pad with zeros, or cut, to a size; what cannot be halved goes to the bottom and right."""
    rows, columns = height - x.shape[2], width - x.shape[3]
    sides = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return functional.pad(x, sides) if any(sides) else x


def _layout(x: Tensor) -> torch.memory_format:
    if x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format
