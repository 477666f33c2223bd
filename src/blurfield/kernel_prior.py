"""How plausible motion kernels are, and new ones: the flow of motion kernels as a prior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn import functional

from ._field_values import as_float_tensor
from .checkpoints import resolve
from .compute import choose_device
from .estimation.flow import ARCHITECTURE, DEQUANTISATION, KernelFlow
from .estimation.kernels import centre, centroid, prune, shift
from .restoration.options import check_count, check_positive

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from .checkpoints import Checkpoint

__all__ = ["KernelPrior", "fit_kernels", "is_connected", "kernel_log_likelihood", "sample_kernels"]

#: Share of the light of a kernel that may lie outside the flow's size.
_OUTSIDE = 0.01
#: Kernels that go through the flow at a time: bounds the memory to some tens of MiB.
_CHUNK = 4096
#: Taps of samples below this share of the largest one are no part of the path.
_FAINT = 0.02
#: Samples that are drawn at a time, and how many for each that is wanted, at most.
_DRAWN, _MOST_DRAWS = 256, 20


class KernelPrior:
    """The density of motion kernels, for one that is done with them at length.

    Parameters
    ----------
    flow : KernelFlow
        The flow; put into evaluation mode.

    Attributes
    ----------
    flow : KernelFlow
        The flow.
    size : int
        Side K of the kernels of the flow in pixels.
    device : torch.device
        Where the flow is.
    """

    def __init__(self, flow: KernelFlow) -> None:
        self.flow = flow.eval().requires_grad_(False)
        self.size = flow.side
        self.device = flow.alpha.device

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
        *,
        device: torch.device | str = "cpu",
        poll: Callable[[], None] | None = None,
    ) -> KernelPrior:
        """Load the flow, see `kernel_log_likelihood`; `poll` is called between tensors."""
        weights = resolve(checkpoint, ARCHITECTURE)
        with torch.device("meta"):
            flow = KernelFlow(**weights.config)
        flow.load_state_dict(weights.load(poll), assign=True)
        return cls(flow.to(device))

    def log_likelihood(self, kernels: Tensor, *, draws: int = 8, seed: int = 0) -> Tensor:
        """Log-likelihood of kernels that are as the flow knows them; differentiable.

        Parameters
        ----------
        kernels : Tensor
            (N, K, K) on the flow's device, with sum 1 and the centroid in the middle, see
            `fit_kernels`.
        draws, seed : int
            See `kernel_log_likelihood`.

        Returns
        -------
        Tensor
            In nats, (N,).
        """
        generator = torch.Generator().manual_seed(seed)
        noises = torch.rand(draws, self.size, self.size, generator=generator).to(kernels)
        found = []
        for part in kernels.split(_CHUNK):
            # The noise is the same for all kernels, so that equal ones are equally likely.
            each = [self.flow.log_likelihood(self.flow.preprocess(part, n)) for n in noises]
            found.append(torch.stack(each).mean(0))
        return torch.cat(found)

    @torch.no_grad()
    def sample(self, number: int, generator: torch.Generator, temperature: float) -> Tensor:
        """Draw kernels, see `sample_kernels`: float32 (number, K, K), on the flow's device."""
        floor = DEQUANTISATION * self.flow.normalization
        found: list[Tensor] = []
        drawn = 0
        while sum(map(len, found)) < number:
            if drawn > _MOST_DRAWS * (number + _DRAWN):
                raise ValueError("hardly any sample of the flow is connected; has it been trained?")
            codes = temperature * torch.randn(_DRAWN, self.size**2, generator=generator)
            clean = (self.flow.decode(codes.to(floor.device)) - floor).clamp_min(0)
            clean = prune(clean, _FAINT, clean.new_zeros(len(clean)))
            found.append(centre(clean[is_connected(clean)]))
            drawn += _DRAWN
        return torch.cat(found)[:number]


def kernel_log_likelihood(
    kernels: Any,
    *,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    draws: int = 8,
    seed: int = 0,
    device: torch.device | str = "auto",
) -> Any:
    """Return how plausible kernels are as those of a moving camera.

    Kernels are made to have sum 1 and their centroid in the middle, as those that the flow was
    trained on; then the flow (see `blurfield.estimation.flow`) tells their density.

    Parameters
    ----------
    kernels : numpy.ndarray, torch.Tensor or array_like
        Kernels ≥ 0, (..., K, L); not modified. Small ones are padded to the size of the flow (19
        for the weights of this package), larger ones are cropped if all but 1 % of their light
        fits.
    checkpoint : Checkpoint, str or path-like, optional
        Weights of a flow, the name of installed ones, or a file; those of this package by default,
        unless others were imported.
    draws : int
        Densities are means over so many draws of the noise with which taps were dequantised in
        training.
    seed : int
        Determines the noise, which is the same for all kernels.
    device : str or torch.device
        Where to compute.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        Log-likelihoods in nats, float32, (...): of the logits of the taps, so that only values of
        the same flow can be compared. Tensors, on the device of the kernels, for tensors.

    Raises
    ------
    ValueError
        If kernels are empty, negative, not finite or without light, or too long for the flow; if
        `draws` is no whole number of at least 1, or there are no weights.
    TypeError
        If they do not hold real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import blurfield
    >>> line, noise = np.zeros((19, 19)), np.random.default_rng(0).random((19, 19))
    >>> line[9, 4:15] = 1
    >>> likely = blurfield.kernel_log_likelihood(np.stack([line, noise]))
    >>> bool(likely[0] > likely[1])
    True
    """
    draws = check_count("draws", draws)
    given = _checked(kernels)
    prior = KernelPrior.load(checkpoint, device=choose_device(device))
    flat = given.reshape(-1, *given.shape[-2:]).to(prior.device)
    fitting, outside = fit_kernels(flat, prior.size)
    if bool((outside > _OUTSIDE).any()):
        worst = int(outside.argmax())
        raise ValueError(
            f"kernels must fit into {prior.size}×{prior.size} taps, but of kernel {worst} "
            f"{float(outside[worst]):.0%} of the light is outside"
        )
    with torch.no_grad():
        found = prior.log_likelihood(fitting, draws=draws, seed=seed).reshape(given.shape[:-2])
    return found.to(kernels.device) if isinstance(kernels, torch.Tensor) else found.cpu().numpy()


def sample_kernels(
    number: int,
    seed: int = 0,
    *,
    temperature: float = 0.8,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    device: torch.device | str = "auto",
) -> NDArray[np.float32]:
    """Draw motion kernels from the flow, for instance for ``simulate(image, kernels=...)``.

    What the flow decodes is not yet a kernel: all taps carry the noise with which they were
    dequantised in training, of 1/720 at most, and some are speckles. So 1/720 is subtracted; taps
    below 2 % of the largest one and separate parts with less than a tenth of the light are
    removed; where there are several parts even then, another kernel is drawn. What is left gets
    the sum 1, and is moved by whole pixels so that its centroid is in the middle.

    Parameters
    ----------
    number : int
        How many.
    seed : int
        Determines the kernels; on any device the same random numbers are drawn.
    temperature : float
        Standard deviation of the codes, above 0. 1 is the distribution that the flow has learnt;
        with less, kernels are cleaner, and less varied.
    checkpoint, device
        See `kernel_log_likelihood`.

    Returns
    -------
    numpy.ndarray
        Kernels ≥ 0 with sum 1 in the correlation convention, float32 (number, K, K).

    Raises
    ------
    ValueError
        If `number` is no whole number of at least 1 or the temperature not above 0, if there are
        no weights, or if hardly any kernel is connected, as those of an untrained flow.

    Examples
    --------
    >>> import blurfield
    >>> blurfield.sample_kernels(3, seed=1).shape
    (3, 19, 19)
    """
    number = check_count("number", number)
    check_positive("temperature", temperature)
    prior = KernelPrior.load(checkpoint, device=choose_device(device))
    kernels = prior.sample(number, torch.Generator().manual_seed(seed), temperature)
    return cast("NDArray[np.float32]", kernels.cpu().numpy())


def fit_kernels(kernels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Centre kernels and put them on another number of taps.

    Parameters
    ----------
    kernels : Tensor
        (N, K, L) ≥ 0, with light.
    size : int
        Side of the result, odd.

    Returns
    -------
    kernels : Tensor
        (N, size, size) with sum 1 and, where nothing was cropped, the centroid in the middle.
    outside : Tensor
        Share of the light that was cropped, (N,).
    """
    # On so many taps nothing is lost wherever the centroid is.
    longest = max(*kernels.shape[-2:], size)
    wide = functional.pad(kernels, _margins(kernels.shape[-2:], 2 * longest + 1))
    wide = wide / wide.sum((-2, -1), keepdim=True)
    wide = shift(wide, -centroid(wide))
    rest = -centroid(wide)
    for axis in (0, 1):
        step = torch.zeros_like(rest)
        step[:, axis] = rest[:, axis].sign().detach()
        share = rest[:, axis].abs()[:, None, None]
        wide = (1 - share) * wide + share * shift(wide, step)
    start = longest - size // 2
    inside = wide[:, start : start + size, start : start + size]
    light = inside.sum((-2, -1))
    return inside / light[:, None, None], 1 - light


def is_connected(kernels: Tensor) -> Tensor:
    """Whether the taps above 0 of each kernel (N, K, K) touch each other, if only at corners."""
    from scipy import ndimage

    corners = torch.ones(3, 3).numpy()
    parts = [ndimage.label(kernel > 0, structure=corners)[1] for kernel in kernels.cpu().numpy()]
    return torch.tensor(parts, device=kernels.device) == 1


def _margins(shape: torch.Size, side: int) -> list[int]:
    """How to pad images to squares, with their middle in the middle; for `functional.pad`."""
    height, width = shape
    top, left = side // 2 - height // 2, side // 2 - width // 2
    return [left, side - width - left, top, side - height - top]


def _checked(kernels: Any) -> Tensor:
    """Kernels as float32 that can be made to have sum 1."""
    values = as_float_tensor(kernels, "kernels").float()
    if values.ndim < 2 or 0 in values.shape:
        raise ValueError(f"kernels must have the shape (..., K, L), not {tuple(values.shape)}")
    if not bool(values.isfinite().all()) or bool((values < 0).any()):
        raise ValueError("kernels must be finite and not negative")
    if bool((values.sum((-2, -1)) <= 0).any()):
        raise ValueError("kernels must have light: the sum of one of them is 0")
    return values
