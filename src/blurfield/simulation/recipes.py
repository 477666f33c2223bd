"""Random kernel fields of every kind of blur that can be simulated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from blurfield.field import KernelField
from blurfield.operator import do_nothing

from .fields import (
    MIN_SEGMENT_AREA,
    camera_motion_extent,
    camera_motion_field,
    object_motion_field,
    random_segments,
    segment_field,
)
from .kernels import camera_shake_kernels, defocus_kernel, linear_kernel
from .trajectories import camera_shake_angles

if TYPE_CHECKING:
    from collections.abc import Callable

#: Poses of a camera in one exposure, dense enough for kernels of some hundred pixels.
_POSES = 512
#: Focal lengths, in units of the image's longer side: from wide angle to a short tele lens. The
#: shorter, the more the blur of a rotation varies over the image.
_FOCAL_RANGE = (0.5, 2.0)
#: Pixels; stands in for no motion at all, which cannot be scaled.
_NO_MOTION = 1e-9


@dataclass(frozen=True)
class Recipe:
    """What a random field shall be like.

    Attributes
    ----------
    shape : (int, int)
        Height and width of the image in pixels.
    kernel_size : int
        Side K of the kernels in pixels, odd.
    min_extent, max_extent : float
        Limits of the pixels that a kernel covers along its longer direction.
    segments : int
        Number of segments, where none are given.
    labels : Tensor or None
        Labels (H, W), 0 … n−1: the segments, or the background (0) and the moving object.
    kernels : Tensor or None
        Kernels (N, K, K) with sum 1 to choose from, in the place of camera shakes.
    poll : callable
        Called now and then; what it raises propagates.
    """

    shape: tuple[int, int]
    kernel_size: int
    min_extent: float
    max_extent: float
    segments: int = 3
    labels: Tensor | None = None
    kernels: Tensor | None = None
    poll: Callable[[], None] = do_nothing


def random_field(kind: str, recipe: Recipe, generator: torch.Generator) -> KernelField:
    """Draw a kernel field.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    recipe : Recipe
        What it shall be like.
    generator : torch.Generator
        Source of all random numbers; the field is on its device.

    Raises
    ------
    ValueError
        If the kind is unknown, or the image too small for the segments.
    """
    try:
        make = _MAKERS[kind]
    except KeyError:
        raise ValueError(f"unknown kind of blur {kind!r}; known: {', '.join(KINDS)}") from None
    return make(recipe, generator)


def _draw(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, device=generator.device))


def _draw_extent(recipe: Recipe, generator: torch.Generator) -> float:
    return _draw(recipe.min_extent, recipe.max_extent, generator)


def _shakes(n: int, recipe: Recipe, generator: torch.Generator) -> Tensor:
    if recipe.kernels is not None:
        # Each as often as all others, so that segments differ where there are enough.
        given = recipe.kernels.to(generator.device)
        order = torch.randperm(len(given), generator=generator, device=generator.device)
        return given[order[torch.arange(n, device=order.device) % len(given)]]
    return camera_shake_kernels(
        n,
        recipe.kernel_size,
        min_extent=recipe.min_extent,
        max_extent=recipe.max_extent,
        generator=generator,
    )


def _straight(recipe: Recipe, generator: torch.Generator) -> Tensor:
    angle = _draw(0, 180, generator)
    radians = math.radians(angle)
    # The extent is what the line covers along its longer direction, as for all kernels.
    along = max(abs(math.cos(radians)), abs(math.sin(radians)))
    length = (_draw_extent(recipe, generator) - 1) / along
    return linear_kernel(length, angle, recipe.kernel_size).to(generator.device)


def _uniform(recipe: Recipe, generator: torch.Generator) -> KernelField:
    return KernelField.uniform(_shakes(1, recipe, generator)[0], recipe.shape)


def _linear(recipe: Recipe, generator: torch.Generator) -> KernelField:
    return KernelField.uniform(_straight(recipe, generator), recipe.shape)


def _defocus(recipe: Recipe, generator: torch.Generator) -> KernelField:
    radius = _draw_extent(recipe, generator) / 2
    kernel = defocus_kernel(radius, recipe.kernel_size).to(generator.device)
    return KernelField.uniform(kernel, recipe.shape)


def _segments(recipe: Recipe, generator: torch.Generator) -> KernelField:
    labels = recipe.labels
    if labels is None:
        labels = _outlines(recipe, recipe.segments, generator)
    kernels = _shakes(int(labels.max()) + 1, recipe, generator)
    return segment_field(labels, kernels, poll=recipe.poll)


def _outlines(recipe: Recipe, n: int, generator: torch.Generator) -> Tensor:
    # Small images get smaller segments, as far as they can be told apart.
    height, width = recipe.shape
    fitting = max(MIN_SEGMENT_AREA // 8, min(MIN_SEGMENT_AREA, height * width // (4 * max(n, 1))))
    return random_segments(recipe.shape, n, min_area=fitting, generator=generator, poll=recipe.poll)


def _object(recipe: Recipe, generator: torch.Generator) -> KernelField:
    if recipe.labels is None:
        labels = _outlines(recipe, 2, generator)
        # The object is the smaller of the two.
        mask = labels == int(torch.bincount(labels.flatten()).argmin())
    else:
        mask = recipe.labels > 0
    return object_motion_field(mask, _straight(recipe, generator), poll=recipe.poll)


def _rotation(recipe: Recipe, generator: torch.Generator) -> KernelField:
    angles = camera_shake_angles(1, _POSES, generator=generator)[0]
    shortest, longest = _FOCAL_RANGE
    ratio = shortest * (longest / shortest) ** _draw(0, 1, generator)
    return _camera_field(recipe, angles, None, ratio * max(recipe.shape), generator)


def _zoom(recipe: Recipe, generator: torch.Generator) -> KernelField:
    # Steadily in or out; one in a thousand, to be scaled to the extent that is drawn.
    direction = 1 if _draw(-1, 1, generator) > 0 else -1
    log_zoom = direction * 1e-3 * torch.linspace(-0.5, 0.5, _POSES, device=generator.device)
    still = torch.zeros(_POSES, 3, device=generator.device)
    return _camera_field(recipe, still, log_zoom, float(max(recipe.shape)), generator)


def _camera_field(
    recipe: Recipe,
    angles: Tensor,
    log_zoom: Tensor | None,
    focal: float,
    generator: torch.Generator,
) -> KernelField:
    """Field of a camera's motion, scaled to an extent that is drawn."""
    wanted = _draw_extent(recipe, generator) - 1
    limit = recipe.kernel_size // 2
    scale = 1.0
    # Blur grows almost in proportion to the motion, so that each step is nearly exact.
    for _ in range(4):
        zoom = None if log_zoom is None else (scale * log_zoom).exp()
        extent, reach = camera_motion_extent(recipe.shape, scale * angles, focal=focal, zoom=zoom)
        scale *= min(wanted / max(extent - 1, _NO_MOTION), 0.999 * limit / max(reach, _NO_MOTION))
    zoom = None if log_zoom is None else (scale * log_zoom).exp()
    return camera_motion_field(
        recipe.shape, scale * angles, focal=focal, kernel_size=recipe.kernel_size, zoom=zoom
    )


_MAKERS: dict[str, Callable[[Recipe, torch.Generator], KernelField]] = {
    "uniform": _uniform,
    "segments": _segments,
    "rotation": _rotation,
    "zoom": _zoom,
    "linear": _linear,
    "defocus": _defocus,
    "object": _object,
}

#: The kinds of blur: one camera shake everywhere, one for each segment, a turning camera, a
#: zooming one, straight motion everywhere, defocus everywhere, an object in straight motion.
KINDS = tuple(_MAKERS)
