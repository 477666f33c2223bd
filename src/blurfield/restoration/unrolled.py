"""Restoration with the published unrolled network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from blurfield.checkpoints import resolve
from blurfield.compute import Reporter
from blurfield.images import decode, encode
from blurfield.operator import BlurOperator

from .contrast import MID_LEVEL
from .denoisers import Denoiser
from .noise import estimate_noise
from .options import check_positive, check_variant
from .unrolled_network import ITERATIONS, UnrolledNetwork

if TYPE_CHECKING:
    import os

    from torch import Tensor

    from blurfield.checkpoints import Checkpoint
    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField

__all__ = ["ARCHITECTURE", "VARIANTS", "unrolled"]

#: Name of the kind of network among checkpoints.
ARCHITECTURE = "unrolled"
VARIANTS = ("saturation", "plain")

#: Values that the network may be given.
_LIGHTS = ("linear", "encoded")
#: Noise level, white 1, that the network was trained with.
_TRAINED_SIGMA = 0.01


@torch.no_grad()
def unrolled(
    blurry: Tensor,
    field: KernelField,
    *,
    variant: str = "saturation",
    gamma: float = 1.0,
    smoothing: float = 1.0,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    light: str | None = None,
    sigma: float | str = _TRAINED_SIGMA,
    noisy: Tensor | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Deblur with the unrolled network of J-MKPD, see `UnrolledNetwork`.

    Its weights have to be installed, see docs/weights.md. The published code takes images for
    tori, which rings where opposite edges differ; here the unknown image is larger than the blurry
    one by half a kernel on each side, so nothing has to be assumed about what lies outside the
    frame. Inside it, that is the same.

    Unlike other methods, this one never gives the blurry image back where the field does not
    explain it: the network was trained together with one that estimates fields, so that it knows
    wrong ones, and it is not held to explain the image to the last bit.

    Parameters
    ----------
    blurry : Tensor, shape (C, H, W)
        Blurry image in linear light, black 0, white 1; not modified. Images of three channels are
        restored as colours, the channels of others each alone.
    field : KernelField
        For images of H×W pixels.
    variant : {"saturation", "plain"}
        Whether pixels may be clipped, with which some of the published weights were trained. Both
        do the same where nothing is bright.
    gamma : float
        Exponent of the display encoding.
    smoothing : float
        Factor to the noise level that the network is told, above 0.
    checkpoint : Checkpoint, str or path-like, optional
        Weights, the name of installed ones, or a file; those imported last by default.
    light : {"linear", "encoded"}, optional
        Whether the network gets linear light, in which the field holds, or stored values, to which
        the published command applies the same kernels. By default the one that was recorded with
        the weights: stored values if they were imported with γ = 1, else linear light.
    sigma : float or "auto"
        Noise level that the network is told, white 1. It was trained with 0.01 only; "auto" takes
        that of the image.
    noisy : Tensor, shape (C, h, w), optional
        Planes in which the noise is estimated, by default the blurry image.
    progress : callable, optional
        See `blurfield.compute.Reporter`.

    Returns
    -------
    sharp : Tensor, shape (C, H, W)
        In linear light, ≥ 0.
    info : dict
        ``iterations`` run and ``converged`` (never: their number is fixed), ``sigma`` and
        ``light`` as used, and name and origin of the ``weights``.

    Raises
    ------
    ValueError
        If no weights are installed, the checkpoint is for another network, an option is out of
        range, or the image is smaller than the kernels.
    """
    _check_options(variant, smoothing, light, sigma)
    reporter = Reporter(progress, ITERATIONS + 1, "Restoring with the unrolled network")
    weights = resolve(checkpoint, ARCHITECTURE)
    light = light or ("encoded" if weights.gamma == 1 else "linear")
    exponent = gamma if light == "encoded" else 1.0
    planes = encode(blurry, exponent)
    if sigma == "auto":
        stored = planes if noisy is None else encode(noisy, exponent)
        sigma = estimate_noise(stored).std(MID_LEVEL)
    level = max(float(sigma) * smoothing, torch.finfo(torch.float32).tiny)

    field = field.to(blurry.device, blurry.dtype)
    operator = BlurOperator(field, boundary="valid", poll=reporter.poll)
    network = _load(weights, reporter)
    network.h.to(blurry.device)
    extended = network(
        planes,
        operator,
        level,
        saturation=variant == "saturation",
        prior=Denoiser(network.p, blurry.device, reporter.poll),
        advance=reporter.advance,
    )
    radius, (height, width) = field.kernel_size // 2, field.shape
    inside = extended[:, radius : radius + height, radius : radius + width]
    return decode(inside.clamp_min(0), exponent), {
        "iterations": ITERATIONS,
        "converged": False,
        "sigma": level,
        "light": light,
        "weights": weights.identity(),
    }


def _check_options(variant: str, smoothing: float, light: str | None, sigma: float | str) -> None:
    check_variant(variant, VARIANTS)
    if light not in (None, *_LIGHTS):
        raise ValueError(f"light must be one of {', '.join(_LIGHTS)}, but is {light!r}")
    check_positive("smoothing", smoothing)
    if sigma != "auto":
        check_positive("sigma", sigma)


def _load(weights: Checkpoint, reporter: Reporter) -> UnrolledNetwork:
    with torch.device("meta"):
        network = UnrolledNetwork(**weights.config)
    network.load_state_dict(weights.load(reporter.poll), assign=True)
    return network
