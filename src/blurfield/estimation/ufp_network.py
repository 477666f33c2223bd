"""UFPNet's estimation of a kernel for each pixel: latent codes, their uncertainty, kernels.

Z. Fang, F. Wu, W. Dong, X. Li, J. Wu, G. Shi, "Self-supervised non-uniform kernel estimation with
flow-based motion prior for blind image deblurring", CVPR 2023. A network gives each pixel a code
and an uncertainty; the inverse pass of a normalizing flow that knows motion kernels turns codes
into kernels. The names of the modules are those of the published files of weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .flow import KernelFlow
from .two_heads_network import SteppedConv2d

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Name of the kind of network among checkpoints.
ARCHITECTURE = "ufp-kernels"
#: Sides of images must be multiples of this, so that codes fit the features that they come from.
MULTIPLE = 4
#: Pixels around a part of an image, at least, on which its features depend, and cells of features
#: around a part of them on which its codes depend.
REACH, TAIL_REACH = 64, 2
#: What may stand between the network and the kernels, see `KernelEstimator`.
PRIORS = ("flow+uncertainty", "flow", "none")
#: Numbers that a chunk of codes holds while they are decoded.
_CHUNK = 2**21


class KernelCodeNetwork(nn.Module):
    """Gives each pixel of an image a code and an uncertainty.

    Parameters
    ----------
    kernel_size : int
        Side K of the kernels in pixels, odd; codes have D = K² entries.
    widths : sequence of three int
        Channels at full, half and quarter size.
    stride : int
        Pixels of the image along each side of a cell that gets a code: 1 as published, or 2 or 4,
        which leave out the finest layers.

    Attributes
    ----------
    config : dict
        The parameters, as plain types.

    Raises
    ------
    ValueError
        If a parameter is none of these.
    """

    def __init__(
        self,
        kernel_size: int = 19,
        widths: Sequence[int] = (64, 128, 256),
        stride: int = 1,
    ) -> None:
        super().__init__()
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and at least 3, but is {kernel_size}")
        if len(widths) != 3 or min(widths) < 1:
            raise ValueError(f"widths must be three numbers ≥ 1, but are {list(widths)}")
        if stride not in {1, 2, 4}:
            raise ValueError(f"stride must be 1, 2 or 4, but is {stride}")
        self.kernel_size, self.stride = kernel_size, stride
        self.config: dict[str, Any] = {
            "kernel_size": kernel_size,
            "widths": list(widths),
            "stride": stride,
        }
        fine, middle, coarse = widths
        self.Encoding_Block1 = _Encoding(3, fine)
        self.Encoding_Block2 = _Encoding(fine, middle)
        self.Conv_mid = _Middle(middle, coarse)
        width = coarse
        if stride < 4:
            self.Decoding_Block1 = _Decoding(coarse, middle)
            width = middle
        if stride == 1:
            self.Decoding_Block2 = _Decoding(middle, fine)
            width = fine
        self.Conv_tail = _Tail(width, kernel_size**2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate codes and uncertainties.

        Parameters
        ----------
        image : Tensor, shape (N, 3, H, W)
            Values as they are stored (sRGB), white 1.

        Returns
        -------
        code : Tensor, shape (N, D, h, w)
            Non-negative with sum 1 over D; for strides above 1 on a coarser grid over the image.
        sigma : Tensor, shape (N, 1, h, w)
            Uncertainty, in (0, 1).
        """
        code, sigma = self.Conv_tail(self.features(image))
        return code, sigma

    def features(self, image: Tensor) -> Tensor:
        """Features (N, width, h, w), of which ``Conv_tail`` makes codes and uncertainties."""
        first, half = self.Encoding_Block1(image)
        second, quarter = self.Encoding_Block2(half)
        features: Tensor = self.Conv_mid(quarter)
        if self.stride < 4:
            features = self.Decoding_Block1(features, second)
        if self.stride == 1:
            features = self.Decoding_Block2(features, first)
        return features


class KernelEstimator(nn.Module):
    """The network that estimates codes, with the flow that decodes them.

    Parameters
    ----------
    kernel_size, widths, stride
        See `KernelCodeNetwork`.
    flow : mapping, optional
        Further parameters of `blurfield.estimation.flow.KernelFlow`.
    prior : str
        ``"flow+uncertainty"`` as published; ``"flow"`` for codes that take no noise; ``"none"``
        for kernels that are the network's softmax themselves, without a flow.

    Attributes
    ----------
    config : dict
        The parameters, as plain types.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    def __init__(
        self,
        kernel_size: int = 19,
        widths: Sequence[int] = (64, 128, 256),
        stride: int = 1,
        flow: dict[str, Any] | None = None,
        prior: str = "flow+uncertainty",
    ) -> None:
        super().__init__()
        if prior not in PRIORS:
            raise ValueError(f"prior must be one of {', '.join(PRIORS)}, but is {prior!r}")
        self.prior = prior
        self.kernel_extra = KernelCodeNetwork(kernel_size, widths, stride)
        self.config: dict[str, Any] = {**self.kernel_extra.config, "prior": prior}
        if prior != "none":
            self.flow = KernelFlow(kernel_size, **(flow or {}))
            self.config["flow"] = dict(flow or {})

    def forward(
        self, image: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Estimate a kernel for each pixel.

        Parameters
        ----------
        image : Tensor, shape (N, 3, H, W)
            See `KernelCodeNetwork.forward`.
        generator : torch.Generator, optional
            Source of the noise that codes are mixed with as far as they are uncertain; there is
            none by default.

        Returns
        -------
        kernels : Tensor, shape (N, D, h, w)
            Tap row·K + column of the correlation kernel of each cell; their sums are not 1.
        sigma : Tensor, shape (N, 1, h, w)
            Uncertainty, in (0, 1).
        """
        code, sigma = self.kernel_extra(image)
        noise = None
        if generator is not None and self.prior == PRIORS[0]:
            noise = torch.randn(
                code.shape, generator=generator, device=code.device, dtype=code.dtype
            )
        return self.kernels(code, sigma, noise), sigma

    def kernels(
        self,
        code: Tensor,
        sigma: Tensor,
        noise: Tensor | None = None,
        *,
        dtype: torch.dtype | None = None,
        poll: Callable[[], None] | None = None,
    ) -> Tensor:
        """Turn what the network said into kernels; see `latent_codes` and `kernel_maps`."""
        if self.prior == "none":
            return code if dtype is None else code.to(dtype)
        if self.prior == "flow":
            sigma = torch.zeros_like(sigma)
        # Never in half precision: taps are exponentials of what the flow computes.
        with torch.autocast(code.device.type, enabled=False):
            exact = torch.promote_types(code.dtype, torch.float32)
            codes = latent_codes(code.to(exact), sigma.to(exact), noise)
            return kernel_maps(self.flow, codes, dtype=dtype, poll=poll)


def latent_codes(code: Tensor, sigma: Tensor, noise: Tensor | None = None) -> Tensor:
    """Standardise codes and mix them with noise: z = c·√(1 − σ²) + ε·σ.

    Parameters
    ----------
    code : Tensor, shape (N, D, H, W)
        Each pixel's entries are first shifted and scaled to mean 0 and (unbiased) variance 1.
    sigma : Tensor, shape (N, 1, H, W)
        Uncertainty σ in [0, 1].
    noise : Tensor, shape (N, D, H, W), optional
        Standard normal numbers ε; 0 by default.

    Returns
    -------
    Tensor, shape (N, D, H, W)
    """
    deviation, mean = torch.std_mean(code, dim=1, keepdim=True)
    scale = (1 - sigma.square()).sqrt() / deviation
    standard = (code - mean) * scale
    return standard if noise is None else torch.addcmul(standard, noise, sigma)


def kernel_maps(
    flow: KernelFlow,
    codes: Tensor,
    *,
    dtype: torch.dtype | None = None,
    poll: Callable[[], None] | None = None,
) -> Tensor:
    """Decode a code for each pixel, so many pixels at a time that little memory is needed.

    Parameters
    ----------
    flow : KernelFlow
        Knows the kernels.
    codes : Tensor, shape (N, D, H, W)
        See `latent_codes`.
    dtype : torch.dtype, optional
        Type of the result; that of the codes by default.
    poll : callable, optional
        Called between chunks; what it raises propagates.

    Returns
    -------
    Tensor, shape (N, D, H, W)
        Kernels as the flow gives them, of sums other than 1. Differentiable in the codes; chunks
        are then decoded again in the backward pass, so that memory stays small.
    """
    number, entries, height, width = codes.shape
    few = max(_CHUNK // entries, 1)
    if torch.is_grad_enabled() and codes.requires_grad:
        rows = codes.movedim(1, -1).reshape(-1, entries)
        parts = rows.split(few)
        if len(parts) == 1:
            kernels = flow.decode(rows).flatten(1)
        else:
            decoded_parts = [checkpoint(flow.decode, part, use_reentrant=False) for part in parts]
            kernels = torch.cat(decoded_parts).flatten(1)
        decoded = kernels.reshape(number, height, width, entries).movedim(-1, 1)
        # Tap after tap, as they are read.
        return decoded.to(dtype or codes.dtype, memory_format=torch.contiguous_format)
    result = torch.empty(codes.shape, dtype=dtype or codes.dtype, device=codes.device)
    places, found = codes.flatten(2), result.view(number, entries, -1)
    for index in range(number):
        for start in range(0, height * width, few):
            if poll is not None:
                poll()
            part = slice(start, start + few)
            found[index, :, part] = flow.decode(places[index, :, part].T).flatten(1).T
    return result


class _Residual(nn.Module):
    """Adds two convolutions, each after a ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = x + self.body(x)
        return changed


class _Encoding(nn.Module):
    """Features at one size, and what goes on at half of it."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.Conv_head = _conv(inputs, width)
        self.ResBlock1 = _Residual(width)
        self.ResBlock2 = _Residual(width)
        self.downsample = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = functional.relu(self.ResBlock2(self.ResBlock1(self.Conv_head(x))))
        return features, self.downsample(features)


class _Middle(nn.Module):
    """Five convolutions with a ReLU after each."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(inputs, width), nn.ReLU()]
        for _ in range(4):
            layers += [_conv(width, width), nn.ReLU()]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.body(x)
        return features


class _Decoding(nn.Module):
    """Doubles the size of features and joins them with those of an encoder."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.Conv_t = nn.ConvTranspose2d(inputs, width, 3, stride=2, padding=1)
        self.Conv_head = _conv(2 * width, width)
        self.ResBlock1 = _Residual(width)
        self.ResBlock2 = _Residual(width)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        grown = self.Conv_t(x, output_size=skip.shape[-2:])
        features = self.Conv_head(torch.cat([grown, skip], 1))
        return functional.relu(self.ResBlock2(self.ResBlock1(features)))


class _Tail(nn.Module):
    """Codes and uncertainties from the last features."""

    def __init__(self, width: int, entries: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, entries))
        self.var = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, entries))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = torch.softmax(self.mean(x), dim=1)
        sigma = torch.sigmoid(self.var(x)).mean(1, keepdim=True)
        return code, sigma


def _conv(inputs: int, outputs: int) -> SteppedConv2d:
    return SteppedConv2d(inputs, outputs)
