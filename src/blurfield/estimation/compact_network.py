"""The compact estimation network: an image-adaptive basis of kernels and the maps that mix them.

Three things of known use are put together. A convolutional encoder with strides 2 to 32 sees what
edges look like. The autocorrelation of the image's gradients in windows shows the autocorrelation
of the kernel itself, since gradients of sharp images hardly correlate with each other
(Hu, Xue, Zheng 2012; Goldstein and Fattal 2012), so that extent and direction need not be learned
from edges. And learned queries attend to both, everywhere in the image: the state of a query is
decoded to one basis kernel, and its product with the embedding of a pixel gives the coefficient of
that kernel there (as queries give masks in Cheng et al. 2022).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Pixels along each side of a token, and of a cell of the mixing maps.
TOKEN_STRIDE = 32
MIXING_STRIDE = 4
#: Standard deviations of encoded values below this are no texture.
_FLAT = 1e-3


class Prediction(NamedTuple):
    """What the network says about a batch of images.

    Attributes
    ----------
    kernels : Tensor
        Logarithms of the basis kernels, (N, B, K, K), normalised over the positions.
    mixing : Tensor
        Logarithms of the coefficients, (N, B, H/4, W/4), normalised over B.
    local : Tensor
        Logarithms of one kernel for each token, (N, T, K, K): an aid to training.
    """

    kernels: Tensor
    mixing: Tensor
    local: Tensor


class CompactNetwork(nn.Module):
    """Estimates kernels and mixing maps of blurry images.

    Parameters
    ----------
    kernel_size : int
        Side K of the kernels, odd.
    basis : int
        Number B of basis kernels.
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
    hidden : int
        Hidden channels of the decoder of kernels.
    window, lags : int
        Side of the windows of autocorrelation, and greatest shift in it, in pixels.
    """

    def __init__(
        self,
        kernel_size: int = 33,
        basis: int = 25,
        widths: Sequence[int] = (32, 48, 96, 192, 256),
        blocks: Sequence[int] = (0, 1, 1, 1, 1),
        width: int = 192,
        heads: int = 6,
        layers: Sequence[int] = (2, 2),
        hidden: int = 384,
        window: int = 96,
        lags: int = 32,
    ) -> None:
        super().__init__()
        self.config = {
            "kernel_size": kernel_size,
            "basis": basis,
            "widths": list(widths),
            "blocks": list(blocks),
            "width": width,
            "heads": heads,
            "layers": list(layers),
            "hidden": hidden,
            "window": window,
            "lags": lags,
        }
        self.kernel_size, self.basis = kernel_size, basis
        self._window, self._lags = window, lags
        half = (lags + 1) * (2 * lags + 1)
        self.encoder = _Encoder(widths, blocks)
        self.correlation = nn.Linear(2 * half, width)
        self.appearance = nn.Linear(widths[-1], width)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.tokens = nn.ModuleList([_Layer(width, heads, cross=False) for _ in range(layers[0])])
        self.queries = nn.Parameter(torch.randn(basis, width))
        self.readers = nn.ModuleList([_Layer(width, heads, cross=True) for _ in range(layers[1])])
        self.final = nn.LayerNorm(width)
        self.decoder = nn.Sequential(
            nn.Linear(width, hidden), nn.LeakyReLU(0.1), nn.Linear(hidden, kernel_size**2)
        )
        self.pixels = _Pixels(widths, width)
        self.keys = nn.Linear(width, widths[1] + 1)

    def forward(self, encoded: Tensor) -> Prediction:
        """Predict kernels and mixing maps.

        Parameters
        ----------
        encoded : Tensor
            Images (N, 3, H, W) in [0, 1], encoded with the exponent 2.2, H and W multiples of 32.

        Returns
        -------
        Prediction
        """
        with torch.no_grad(), torch.autocast(encoded.device.type, enabled=False):
            statistics = autocorrelation(encoded.float(), self._window, self._lags)
        return self.predict(encoded, statistics)

    def predict(self, encoded: Tensor, statistics: Tensor) -> Prediction:
        """Predict from images and their autocorrelation; see `forward`."""
        features = self.encoder(_normalise(encoded))
        deepest = features[-1]
        appearance = self.appearance(deepest.flatten(2).transpose(1, 2))
        tokens = self.norms[0](appearance) + self.norms[1](self.correlation(statistics))
        for layer in self.tokens:
            tokens = layer(tokens, tokens)
        queries = self.queries.expand(len(encoded), -1, -1)
        for layer in self.readers:
            queries = layer(queries, tokens)
        states = self.final(queries)
        shape = (len(encoded), -1, self.kernel_size, self.kernel_size)
        kernels = _log_softmax(self.decoder(states), -1).reshape(shape)
        local = _log_softmax(self.decoder(self.final(tokens)), -1).reshape(shape)
        grid = tokens.transpose(1, 2).unflatten(2, deepest.shape[2:])
        embedding = self.pixels(features, grid)
        keys, bias = self.keys(states).split([embedding.shape[1], 1], -1)
        scores = keys @ embedding.flatten(2) / math.sqrt(embedding.shape[1]) + bias
        scores = scores.unflatten(2, embedding.shape[2:])
        return Prediction(kernels, _log_softmax(scores, 1), local)


def _log_softmax(logits: Tensor, axis: int) -> Tensor:
    return torch.log_softmax(logits.float(), axis)


def _normalise(encoded: Tensor) -> Tensor:
    """Images of mean 0 and like contrast, and beside them the values themselves."""
    grey = encoded.mean(1, keepdim=True)
    mean = grey.mean((2, 3), keepdim=True)
    std = grey.var((2, 3), keepdim=True).add(_FLAT**2).sqrt()
    return torch.cat([(encoded - mean) / (4 * std), encoded.amax(1, keepdim=True) - 0.5], 1)


def autocorrelation(encoded: Tensor, window: int, lags: int) -> Tensor:
    """Autocorrelation of gradients in windows around each token.

    Parameters
    ----------
    encoded : Tensor
        Images (N, 3, H, W), H and W multiples of 32.
    window : int
        Side of the windows in pixels, even, at least 32; their middles are those of the tokens.
    lags : int
        Greatest shift along each axis, less than half of `window`.

    Returns
    -------
    Tensor
        (N, T, 2·(lags + 1)·(2·lags + 1)), for the gradients along y and x: signed square roots,
        which show small values too, of the correlations divided by that at shift 0. Shifts and
        their opposites give the same and stand there once.
    """
    grey = encoded.mean(1)
    # Clipped light has edges that no blur of the light has made.
    valid = (encoded.amax(1) < 0.99).float()
    dy = functional.pad((grey[:, 1:] - grey[:, :-1]) * (valid[:, 1:] * valid[:, :-1]), (0, 0, 0, 1))
    dx = functional.pad(
        (grey[:, :, 1:] - grey[:, :, :-1]) * (valid[:, :, 1:] * valid[:, :, :-1]), (0, 1)
    )
    margin = (window - TOKEN_STRIDE) // 2
    gradients = functional.pad(torch.complex(dy, dx), (margin,) * 4)
    taper = torch.hann_window(window, periodic=False, device=encoded.device)
    taper = taper[:, None] * taper
    # On a CPU one image at a time, so that the transforms stay in its cache.
    parts = gradients.split(len(gradients) if gradients.is_cuda else 1)
    return torch.cat([_correlate(part, taper, lags) for part in parts])


def _correlate(gradients: Tensor, taper: Tensor, lags: int) -> Tensor:
    """Correlations of gradients (N, H, W), that along y real and that along x imaginary."""
    window = len(taper)
    windows = gradients.unfold(1, window, TOKEN_STRIDE).unfold(2, window, TOKEN_STRIDE)
    tapered = windows.flatten(1, 2) * taper
    # Twice the transforms of the gradients along y (sum) and along x (difference).
    first, second = torch.fft.fft2(tapered), torch.fft.fft2(tapered.conj())
    both = torch.fft.ifft2(torch.complex(_power(first + second), _power(first - second)))
    wanted = torch.arange(-lags, lags + 1, device=gradients.device) % window
    correlation = torch.view_as_real(both[..., : lags + 1, :][..., wanted]).movedim(-1, 2)
    relative = correlation / correlation[..., :1, lags, None].clamp_min(1e-6)
    return (relative.sign() * relative.abs().sqrt()).flatten(2)


def _power(spectrum: Tensor) -> Tensor:
    real, imaginary = spectrum.real, spectrum.imag
    return torch.addcmul(real * real, imaginary, imaginary)


class _Block(nn.Module):
    """Residual block of two 3×3 convolutions; it starts close to the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.3)
            self.second.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.second(functional.relu(self.first(functional.relu(x))))
        return y


class _Encoder(nn.Module):
    """Features at strides 2, 4, 8, 16 and 32."""

    def __init__(self, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        levels = []
        channels = 16  # four values of four pixels
        for stride, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            down = nn.Conv2d(channels, width, 3, stride=1 if stride == 0 else 2, padding=1)
            nn.init.kaiming_normal_(down.weight, nonlinearity="relu")
            nn.init.zeros_(down.bias)  # type: ignore[arg-type]
            levels.append(nn.Sequential(down, *(_Block(width) for _ in range(count))))
            channels = width
        self.levels = nn.ModuleList(levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = functional.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        features = []
        for number, level in enumerate(self.levels):
            x = level(functional.relu(x) if number else x)
            features.append(x)
        return features


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
            fine = lateral(functional.relu(features[3 - number]))
            if number:
                x = self.downs[number - 1](x)
            x = fine + functional.interpolate(x, scale_factor=2, mode="nearest")
            if number:
                x = x + self.smooth[number - 1](functional.relu(x))
        return x


class _Layer(nn.Module):
    """Attention of queries on a context and, where that is other tokens, on each other."""

    def __init__(self, width: int, heads: int, *, cross: bool) -> None:
        super().__init__()
        self.heads = heads
        self.attend = _Attention(width, heads)
        self.exchange = _Attention(width, heads) if cross else None
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.LeakyReLU(0.1), nn.Linear(2 * width, width)
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
