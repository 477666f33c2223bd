"""The compact estimation network: an image-adaptive basis of kernels and the maps that mix them.

Each basis kernel belongs to a region of the image to begin with, and to whatever else attention
finds to be blurred alike. Correlations of gradients, summed over windows by that attention, show
the kernel in the space of displacements (`blurfield.estimation.correlations`), where a small
convolutional network turns them into the kernel itself. An encoder with strides 2 to 32 says what
edges look like: it helps attention, predicts sharp gradients for the correlations, hints at the
kernel's form, and gives pixels the embeddings whose products with those of the basis kernels are
the mixing coefficients (as queries give masks in Cheng et al. 2022).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .correlations import CHANNELS, REACH, STRIDE, SUMMARY, displacements, gradients, observe

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Pixels along each side of a token, and of a cell of the mixing maps.
TOKEN_STRIDE = STRIDE
MIXING_STRIDE = 4
#: Side K of the kernels in pixels.
KERNEL_SIZE = 2 * REACH + 1
#: Most basis kernels, and pixels along the side of the region of each in small images.
MOST_KERNELS = 25
_REGION = 64
#: Standard deviations of encoded values below this are no texture.
_FLAT = 1e-3
#: Root mean square from which features are made weaker.
_STRONG = 32.0
#: Side of the coarsest features of a kernel.
_COARSE = 9


class Prediction(NamedTuple):
    """What the network says about a batch of images.

    Attributes
    ----------
    kernels : Tensor
        Logarithms of the basis kernels, (N, B, K, K), normalised over the positions.
    mixing : Tensor
        Logarithms of the coefficients, (N, B, H/4, W/4), normalised over B.
    """

    kernels: Tensor
    mixing: Tensor


def region_grid(height: int, width: int, most: int = MOST_KERNELS) -> tuple[int, int]:
    """Rows and columns of regions of an image of some size in pixels, at most so many regions."""
    rows, cols = (max(1, round(side / _REGION)) for side in (height, width))
    while rows * cols > most:
        # The side with the smaller regions gets fewer of them.
        if rows > 1 and (cols == 1 or height / rows <= width / cols):
            rows -= 1
        else:
            cols -= 1
    return rows, cols


class CompactNetwork(nn.Module):
    """Estimates kernels and mixing maps of blurry images.

    Parameters
    ----------
    widths : sequence of int
        Channels at strides 2, 4, 8, 16 and 32.
    blocks : sequence of int
        Residual blocks at these strides.
    width : int
        Channels of tokens and queries, a multiple of `heads`.
    heads : int
        Attention heads.
    layers : (int, int)
        Attention layers among tokens, and of queries on tokens.
    kernel_widths : (int, int, int)
        Channels of what turns displacements into kernels, from fine to coarse.
    """

    def __init__(
        self,
        widths: Sequence[int] = (24, 40, 80, 128, 192),
        blocks: Sequence[int] = (0, 1, 1, 1, 1),
        width: int = 192,
        heads: int = 6,
        layers: Sequence[int] = (2, 2),
        kernel_widths: Sequence[int] = (16, 32, 64),
    ) -> None:
        super().__init__()
        self.config = {
            "widths": list(widths),
            "blocks": list(blocks),
            "width": width,
            "heads": heads,
            "layers": list(layers),
            "kernel_widths": list(kernel_widths),
        }
        self.encoder = Encoder(widths, blocks)
        self.sharpen = nn.Conv2d(widths[1], 2 * MIXING_STRIDE**2, 1)
        self.floor = nn.Parameter(torch.tensor(-1.0))
        self.summary = nn.Linear(SUMMARY, width)
        self.appearance = nn.Linear(widths[-1], width)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.tokens = nn.ModuleList([_Layer(width, heads, cross=False) for _ in range(layers[0])])
        self.readers = nn.ModuleList([_Layer(width, heads, cross=True) for _ in range(layers[1])])
        self.final = nn.LayerNorm(width)
        self.sharing = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        #: Logarithms of how fast attention, and mixing coefficients, fall with the distance.
        self.nearness = nn.Parameter(torch.zeros(2))
        self.decoder = KernelDecoder(CHANNELS, width, kernel_widths)
        self.pixels = _Pixels(widths, width)
        self.keys = nn.Linear(width, widths[1] + 1)

    def forward(self, encoded: Tensor, most: int = MOST_KERNELS) -> Prediction:
        """Predict kernels and mixing maps.

        Parameters
        ----------
        encoded : Tensor
            Images (N, 3, H, W) in [0, 1], encoded with the exponent 2.2, H and W multiples of 32.
        most : int
            Most basis kernels.
        """
        device = encoded.device.type
        features = self.encoder(_normalise(encoded))
        with torch.autocast(device, enabled=False):
            spectra = observe(gradients(encoded.float()))
        tokens, grid = self._tokens(features[-1], spectra.summary)
        regions = region_grid(int(encoded.shape[2]), int(encoded.shape[3]), most)
        states = self._states(tokens, grid, regions)
        sharing = self._sharing(states, tokens, grid, regions)
        sharp = functional.pixel_shuffle(self.sharpen(functional.relu(features[0])), MIXING_STRIDE)
        with torch.autocast(device, enabled=False):
            floor = functional.softplus(self.floor)
            patches = displacements(spectra, sharp.float(), sharing.float(), floor)
        del spectra, sharp  # the largest tensors of all, done with
        kernels = self.decoder(patches.flatten(0, 1), states.flatten(0, 1))
        kernels = torch.log_softmax(kernels.float().flatten(1), 1)
        shape = (len(encoded), -1, KERNEL_SIZE, KERNEL_SIZE)
        return Prediction(
            kernels.reshape(shape), self._mixing(features, tokens, grid, states, regions)
        )

    def compilable(self) -> list[nn.Module]:
        """The parts without Fourier transforms, for which there is no compiler."""
        return [self.encoder, self.decoder, self.pixels]

    def _tokens(self, deepest: Tensor, summary: Tensor) -> tuple[Tensor, tuple[int, int]]:
        appearance = self.appearance(deepest.flatten(2).transpose(1, 2))
        tokens = self.norms[0](appearance) + self.norms[1](self.summary(summary))
        for layer in self.tokens:
            tokens = layer(tokens, tokens)
        return tokens, (int(deepest.shape[2]), int(deepest.shape[3]))

    def _states(self, tokens: Tensor, grid: tuple[int, int], regions: tuple[int, int]) -> Tensor:
        """States of the basis kernels, (N, B, width), begun as the means over their regions."""
        share = torch.softmax(-4 * _distances(grid, regions, tokens.device), 1).to(tokens)
        states = share @ tokens
        for layer in self.readers:
            states = layer(states, tokens)
        normalised: Tensor = self.final(states)
        return normalised

    def _sharing(
        self, states: Tensor, tokens: Tensor, grid: tuple[int, int], regions: tuple[int, int]
    ) -> Tensor:
        """Weights (N, B, T) of windows in the correlations of each basis kernel."""
        scores = self.sharing[0](states) @ self.sharing[1](tokens).transpose(1, 2)
        far = _distances(grid, regions, tokens.device)
        scores = scores.float() / math.sqrt(states.shape[-1]) - self.nearness[0].exp() * far
        weights: Tensor = torch.softmax(scores, -1)
        return weights

    def _mixing(
        self,
        features: list[Tensor],
        tokens: Tensor,
        grid: tuple[int, int],
        states: Tensor,
        regions: tuple[int, int],
    ) -> Tensor:
        within = limited(tokens.transpose(1, 2).unflatten(2, grid))
        embedding = limited(self.pixels(features, within))
        shape = (int(embedding.shape[2]), int(embedding.shape[3]))
        keys, bias = self.keys(states).split([embedding.shape[1], 1], -1)
        scores = keys @ embedding.flatten(2) / math.sqrt(embedding.shape[1]) + bias
        far = _distances(shape, regions, tokens.device)
        scores = scores.float() - 2 * self.nearness[1].exp() * far
        mixing: Tensor = torch.log_softmax(scores, 1).unflatten(2, shape)
        return mixing


def _distances(cells: tuple[int, int], regions: tuple[int, int], device: torch.device) -> Tensor:
    """Squared distances (B, cells) of cells from the middles of regions, in units of regions."""
    axes = []
    for count, number in zip(cells, regions, strict=True):
        place = (torch.arange(count, device=device) + 0.5) * (number / count) - 0.5
        axes.append((place - torch.arange(number, device=device)[:, None]).square())
    far = axes[0][:, None, :, None] + axes[1][None, :, None, :]
    return far.reshape(regions[0] * regions[1], cells[0] * cells[1])


def _normalise(encoded: Tensor) -> Tensor:
    """Images of mean 0 and like contrast, and beside them what may be clipped."""
    grey = encoded.mean(1, keepdim=True)
    mean = grey.mean((2, 3), keepdim=True)
    spread = grey.var((2, 3), keepdim=True).add(_FLAT**2).sqrt()
    return torch.cat([(encoded - mean) / (2 * spread), encoded.amax(1, keepdim=True) - 0.5], 1)


def limited(x: Tensor) -> Tensor:
    """Features (N, C, h, w), made weaker where an image's root mean square is above a limit.

    Without it nothing keeps residual sums from growing, and trainings in half precision diverge.
    """
    size = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True, dtype=torch.float32)
    size = size / math.sqrt(x[0].numel())
    weaker: Tensor = x * (_STRONG / size.clamp_min(_STRONG)).to(x.dtype)
    return weaker


class _Block(nn.Module):
    """Residual block of two 3×3 convolutions; it starts close to the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.second(functional.relu(self.first(functional.relu(x))))
        return y


class Encoder(nn.Module):
    """Features at strides 4 to 32, by way of stride 2; see `CompactNetwork` for the parameters."""

    def __init__(self, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        levels = []
        channels = 16  # four values of four pixels
        for stride, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            down = nn.Conv2d(channels, width, 3, stride=1 if stride == 0 else 2, padding=1)
            nn.init.kaiming_uniform_(down.weight, nonlinearity="relu")
            levels.append(nn.Sequential(down, *(_Block(width) for _ in range(count))))
            channels = width
        self.levels = nn.ModuleList(levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of images (N, 4, H, W)."""
        x = functional.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        features = []
        for number, level in enumerate(self.levels):
            # Those at stride 2 are needed for the next ones only, and are the largest.
            x = limited(level(functional.relu(x, inplace=number == 1) if number else x))
            if number:
                features.append(x)
        return features


class KernelDecoder(nn.Module):
    """From patches of displacements and a state to the logits of a kernel.

    Parameters
    ----------
    channels, width : int
        Channels of the patches, and of the states.
    widths : (int, int, int)
        Channels at 33×33, 17×17 and 9×9 displacements.
    """

    def __init__(self, channels: int, width: int, widths: Sequence[int]) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.hint = nn.Linear(width, 16 * _COARSE**2)
        self.tint = nn.Linear(width, fine)
        self.stem = nn.Conv2d(channels, fine, 3, padding=1)
        self.fine = nn.Conv2d(fine, fine, 3, padding=1)
        self.down = nn.Conv2d(fine, middle, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(middle, middle, 3, padding=1)
        self.downer = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.join = nn.Conv2d(16, coarse, 1)
        self.coarse = nn.ModuleList([_Block(coarse) for _ in range(1)])
        self.up = nn.Conv2d(coarse, middle, 1)
        self.smooth = nn.Conv2d(middle, middle, 3, padding=1)
        self.upper = nn.Conv2d(middle, fine, 1)
        self.smoother = nn.Conv2d(fine, fine, 3, padding=1)
        self.out = nn.Conv2d(fine, 1, 3, padding=1)

    def forward(self, patches: Tensor, states: Tensor) -> Tensor:
        """Logits (N, 1, K, K) from patches (N, C, K, K) and states (N, width)."""
        relu = functional.relu
        x = self.stem(patches.contiguous(memory_format=torch.channels_last))
        x = relu(x + self.tint(states)[:, :, None, None])
        fine = x + self.fine(x)
        x = relu(self.down(relu(fine)))
        middle = x + self.middle(x)
        hint = self.hint(states).unflatten(1, (16, _COARSE, _COARSE))
        x = self.downer(relu(middle)) + self.join(hint)
        for block in self.coarse:
            x = block(x)
        x = middle + _enlarge(self.up(relu(x)), middle)
        x = x + self.smooth(relu(x))
        x = fine + _enlarge(self.upper(relu(x)), fine)
        x = x + self.smoother(relu(x))
        logits: Tensor = self.out(relu(x))
        return logits


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[2:], mode="nearest")


class _Pixels(nn.Module):
    """Embedding of each cell of the mixing maps, from coarse to fine."""

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.top = nn.Conv2d(width, widths[3], 1)
        self.laterals = nn.ModuleList([nn.Conv2d(w, w, 1) for w in widths[3:0:-1]])
        self.downs = nn.ModuleList(
            [nn.Conv2d(a, b, 1) for a, b in zip(widths[3:1:-1], widths[2:0:-1], strict=True)]
        )
        self.smooth = nn.ModuleList([nn.Conv2d(w, w, 3, padding=1) for w in widths[2:0:-1]])

    def forward(self, features: list[Tensor], grid: Tensor) -> Tensor:
        x: Tensor = self.top(grid)
        for number, lateral in enumerate(self.laterals):
            fine = lateral(functional.relu(features[2 - number]))
            if number:
                x = self.downs[number - 1](x)
            x = fine + _enlarge(x, fine)
            if number:
                x = x + self.smooth[number - 1](functional.relu(x))
        result: Tensor = x
        return result


class _Layer(nn.Module):
    """Attention of queries on a context and, where that is other tokens, on each other."""

    def __init__(self, width: int, heads: int, *, cross: bool) -> None:
        super().__init__()
        self.attend = _Attention(width, heads)
        self.exchange = _Attention(width, heads) if cross else None
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attend(x, context)
        if self.exchange is not None:
            x = x + self.exchange(x, x)
        y: Tensor = x + self.mlp(self.norm(x))
        return y


class _Attention(nn.Module):
    """Multi-head attention with normalised inputs."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        query = self.query(self.norms[0](x))
        key, value = self.key_value(self.norms[1](context)).chunk(2, -1)
        query, key, value = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (query, key, value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result
