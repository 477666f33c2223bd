"""Blurry images with a known kernel field."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from blurfield._field_values import as_float_tensor, check_convex
from blurfield._version import __version__
from blurfield.compute import Reporter
from blurfield.images import LinearImage, require_min_size
from blurfield.operator import BlurOperator

from .fields import camera_motion_field, object_motion_field, random_segments, segment_field
from .kernels import camera_shake_kernels, defocus_kernel, linear_kernel
from .recipes import KINDS, Recipe, random_field
from .scenes import photograph
from .trajectories import camera_shake_angles

if TYPE_CHECKING:
    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField

__all__ = [
    "KINDS",
    "Recipe",
    "camera_motion_field",
    "camera_shake_angles",
    "camera_shake_kernels",
    "defocus_kernel",
    "linear_kernel",
    "object_motion_field",
    "photograph",
    "random_field",
    "random_segments",
    "segment_field",
    "simulate",
]

#: Kinds of blur that take labels.
_LABELLED = ("segments", "object")
#: Kinds of blur that take kernels.
_SHAKEN = ("uniform", "segments")


def simulate(
    image: Any,
    *,
    kind: str = "segments",
    seed: int = 0,
    max_extent: float = 33,
    min_extent: float | None = None,
    kernel_size: int | None = None,
    noise: float = 0.01,
    photons: float | None = None,
    exposure: float | tuple[float, float] = 1.0,
    bits: int | None = None,
    segments: int = 3,
    labels: Any = None,
    kernels: Any = None,
    boundary: str = "reflect",
    gamma: float | str = "auto",
    channel_axis: int | None = None,
    device: str | torch.device = "cpu",
    progress: ProgressCallback | None = None,
) -> tuple[Any, KernelField]:
    """Blur a sharp image with a random, known kernel field.

    The blur happens in linear light, where highlights may be brighter than white; then the camera
    clips, encodes and adds noise, see `photograph`.

    Parameters
    ----------
    image : numpy.ndarray, torch.Tensor or array_like
        Sharp image, as for `blurfield.images.LinearImage.from_array`; not modified.
    kind : str
        ``"uniform"``: one camera shake everywhere. ``"segments"``: one for each segment, with
        soft borders. ``"rotation"``: a camera that yaws, pitches and rolls. ``"zoom"``: one that
        zooms. ``"linear"``: straight motion everywhere. ``"defocus"``: a disc everywhere.
        ``"object"``: a thing in straight motion in front of a still background.
    seed : int
        Determines everything that is random; on any device the same numbers are drawn.
    max_extent, min_extent : float
        Limits, in pixels, of what a kernel covers along its longer direction; drawn uniformly in
        between. By default the lower limit is a third of the upper one.
    kernel_size : int, optional
        Side of the kernels in pixels, odd, at least `max_extent`; by default the smallest such.
    noise : float
        Standard deviation of the Gaussian noise of the image's values, relative to white.
    photons : float, optional
        Photons that make white, for photon (Poisson) noise in linear light; by default none.
    exposure : float or (float, float)
        Brightens (or darkens) the light before it is clipped at white; of two numbers, one in
        between is drawn. (0.5, 1.5) is usual in training data.
    bits : int, optional
        Round the image's values to so many bits. Integer images are rounded anyway.
    segments : int
        Number of random segments for ``"segments"``.
    labels : array_like, optional
        Integers (H, W) instead of random outlines: the segments for ``"segments"``; for
        ``"object"`` what is not 0 moves.
    kernels : array_like, optional
        Kernels (N, K, K) ≥ 0 with sum 1, in the correlation convention, among which ``"uniform"``
        and ``"segments"`` choose in the place of a camera's shakes: those of
        `blurfield.sample_kernels`, for instance. They are used as they are, whatever the extents.
    boundary : {"reflect", "replicate", "circular", "valid"}
        What lies beyond the image's edges; see `blurfield.BlurOperator`. With ``"valid"`` nothing
        does, and the blurry image is smaller by ``kernel_size - 1`` in height and width.
    gamma : float or "auto"
        Exponent from the image's values to linear light; ``"auto"`` is 2.2 for 8-bit images, else
        1.
    channel_axis : int, optional
        Axis of the channels, where it is not the last one of 3 or 4.
    device : str or torch.device
        Where to compute, and where the field will be.
    progress : callable, optional
        Called as ``progress(done, total, message)``; what it raises stops the run.

    Returns
    -------
    blurry : numpy.ndarray or torch.Tensor
        Blurry image of the same type and value scale as `image`, and, but for
        ``boundary="valid"``, of the same shape.
    truth : KernelField
        The field that it was blurred with. Its metadata hold ``model`` ("simulation"), ``kind``,
        ``seed``, ``gamma``, ``version`` and ``parameters``.

    Raises
    ------
    ValueError
        If the kind is unknown, the image is too small for the kernels or segments, or a parameter
        is out of its range.
    TypeError
        If the image or the labels do not hold numbers of a usable type.

    Examples
    --------
    >>> import numpy as np
    >>> import blurfield
    >>> sharp = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    >>> blurry, truth = blurfield.simulate(sharp, kind="rotation", max_extent=15, seed=1)
    >>> blurry.shape, blurry.dtype, truth.shape, truth.kernel_size
    ((96, 128, 3), dtype('uint8'), (96, 128), 15)
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of blur {kind!r}; known: {', '.join(KINDS)}")
    if not math.isfinite(max_extent):
        raise ValueError(f"max_extent must be a number of pixels, got {max_extent}")
    bank = None if kernels is None else _read_kernels(kernels, kind, kernel_size)
    if bank is not None:
        kernel_size = int(bank.shape[-1])
        max_extent = float(kernel_size)
    if kernel_size is None:
        kernel_size = 2 * math.ceil((max_extent - 1) / 2) + 1
    if min_extent is None:
        min_extent = max(1.0, max_extent / 3)
    if kernel_size % 2 == 0 or not 1 <= min_extent <= max_extent <= kernel_size:
        raise ValueError(
            "extents must be 1 <= min_extent <= max_extent <= kernel_size, with an odd "
            f"kernel_size, got {min_extent:g}, {max_extent:g} and {kernel_size}"
        )
    source = LinearImage.from_array(image, gamma=gamma, channel_axis=channel_axis, device=device)
    margin = kernel_size // 2 if boundary == "valid" else 0
    require_min_size(source.shape, kernel_size + 2 * margin, f"kernels of {kernel_size} pixels")
    shape = (source.shape[0] - 2 * margin, source.shape[1] - 2 * margin)
    generator = torch.Generator().manual_seed(seed)
    reporter = Reporter(progress, 2, "Drawing the blur")

    known_labels = None
    if labels is not None:
        known_labels = _read_labels(labels, kind, source.shape)
        known_labels = known_labels[margin : margin + shape[0], margin : margin + shape[1]]
    gain = _draw_exposure(exposure, generator)
    recipe = Recipe(
        shape, kernel_size, min_extent, max_extent, segments, known_labels, bank, reporter.poll
    )
    field = random_field(kind, recipe, generator).to(source.planes.device)
    # Nothing is pruned: the field is the truth, exactly.
    reporter.advance(message="Blurring")
    operator = BlurOperator(field, boundary=boundary, prune=0, poll=reporter.poll)
    light = operator.forward(gain * source.planes)
    seen = photograph(
        light, gamma=source.gamma, noise=noise, photons=photons, bits=bits, generator=generator
    )
    reporter.advance()
    truth = field.with_metadata(
        model="simulation",
        kind=kind,
        seed=seed,
        gamma=source.gamma,
        version=__version__,
        parameters={
            "max_extent": max_extent,
            "min_extent": min_extent,
            "kernel_size": kernel_size,
            "segments": segments,
            "noise": noise,
            "photons": photons,
            "exposure": gain,
            "bits": bits,
            "boundary": boundary,
            **({} if bank is None else {"kernels": len(bank)}),
        },
    )
    return source.to_array(seen), truth


def _draw_exposure(exposure: float | tuple[float, float], generator: torch.Generator) -> float:
    low, high = exposure if isinstance(exposure, tuple) else (exposure, exposure)
    if not (0 < low <= high and math.isfinite(high)):
        raise ValueError(f"exposure must be positive, or a pair (low, high), got {exposure}")
    return low + (high - low) * float(torch.rand((), generator=generator))


def _read_kernels(kernels: Any, kind: str, kernel_size: int | None) -> Tensor:
    """Kernels as float32 (N, K, K), checked."""
    if kind not in _SHAKEN:
        raise ValueError(f"kernels are for the kinds {' and '.join(_SHAKEN)}, not for {kind!r}")
    values = as_float_tensor(kernels, "kernels").float().cpu()
    if values.ndim != 3 or len(values) == 0 or values.shape[1] != values.shape[2]:
        raise ValueError(f"kernels must have the shape (N, K, K), but have {tuple(values.shape)}")
    if kernel_size not in (None, values.shape[-1]):
        raise ValueError(f"kernel_size is {kernel_size}, but kernels have {values.shape[-1]} taps")
    check_convex(values, "kernel", dims=(-2, -1))
    return values / values.sum((-2, -1), keepdim=True)


def _read_labels(labels: Any, kind: str, shape: tuple[int, int]) -> Tensor:
    """Labels as consecutive numbers from 0; for a moving object 0 and 1."""
    if kind not in _LABELLED:
        raise ValueError(f"labels are for the kinds {' and '.join(_LABELLED)}, not for {kind!r}")
    array = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    if array.dtype.kind not in "bui":
        raise TypeError(f"labels must be integers or bool, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"labels must be of the image's shape {shape}, got {array.shape}")
    if kind == "object":
        return torch.from_numpy((array != 0).astype(np.int64))
    return torch.from_numpy(np.unique(array, return_inverse=True)[1].reshape(shape))
