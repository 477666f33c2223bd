"""Kernel fields of scenes whose blur is known: segments, camera motion and moving objects."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from blurfield.field import KernelField
from blurfield.no_blur import no_blur
from blurfield.operator import BlurOperator, do_nothing

from .kernels import splat

if TYPE_CHECKING:
    from collections.abc import Callable

#: Fewest pixels of a segment (Carbajal et al. 2021, Sec. 4; specification §3.1).
MIN_SEGMENT_AREA = 400

#: Between neighbouring kernels of a camera-motion field paths move by about this many pixels at
#: most, where the limit on the number of kernels allows it.
_CELL_STEP = 2.0


def random_segments(
    shape: tuple[int, int],
    n: int,
    *,
    min_area: int = MIN_SEGMENT_AREA,
    generator: torch.Generator,
    poll: Callable[[], None] = do_nothing,
) -> Tensor:
    """Divide an image into segments with smooth outlines.

    One segment after the other takes the highest places of a smooth random landscape; the rest is
    the background, label 0. The largest segment has at most three times the area of the smallest.

    Parameters
    ----------
    shape : (int, int)
        Height and width in pixels.
    n : int
        Number of segments with the background, at least 1.
    min_area : int
        Fewest pixels in a segment.
    generator : torch.Generator
        Source of all random numbers.
    poll : callable
        Called before each segment; what it raises propagates.

    Returns
    -------
    Tensor
        Labels 0 … n−1, int64, of shape (H, W), on the generator's device.

    Raises
    ------
    ValueError
        If the image is too small for n segments of that area.
    """
    height, width = shape
    # The smallest share is 0.5 while all others are 1.5.
    if n < 1 or height * width < (3 * n - 2) * max(min_area, 1):
        raise ValueError(
            f"an image of {height}×{width} is too small for {n} segments of at least "
            f"{min_area} pixels each; ask for fewer, at least 1"
        )
    device = generator.device
    # A hill or two along the longer side, whatever the size of the image.
    knots = [2 + round(side / max(shape)) for side in shape]
    shares = 0.5 + torch.rand(n, generator=generator, device=device)
    areas = (height * width * shares / shares.sum()).long().clamp_min(min_area).tolist()
    labels = torch.zeros(height * width, dtype=torch.long, device=device)
    for label in range(1, n):
        poll()
        coarse = torch.randn((1, 1, *knots), generator=generator, device=device)
        landscape = interpolate(coarse, size=shape, mode="bicubic", align_corners=True).flatten()
        landscape[labels > 0] = -torch.inf
        poll()
        labels[_highest(landscape, areas[label])] = label
    return labels.reshape(height, width)


def _highest(values: Tensor, count: int) -> Tensor:
    """Indices of the highest of many values (N,), of equal ones those that come first."""
    # Sorting all pixels of a large image would take seconds in which nothing can be stopped.
    least = values.kthvalue(len(values) - count + 1).values
    above = (values > least).nonzero()[:, 0]
    return torch.cat([above, (values == least).nonzero()[: count - len(above), 0]])


def segment_field(
    labels: Tensor,
    kernels: Tensor,
    metadata: dict[str, Any] | None = None,
    poll: Callable[[], None] = do_nothing,
) -> KernelField:
    """Give each segment of an image its own kernel, with soft borders between segments.

    The mask of each segment is blurred with the segment's own kernel, as a moving thing's outline
    is, and the masks are divided by their sum (Carbajal et al. 2021, Sec. 4; specification §3.1
    and §3.4 item 4).

    Parameters
    ----------
    labels : Tensor
        Labels 0 … n−1, of an integer type, shape (H, W).
    kernels : Tensor
        Kernels (n, K, K) in the correlation convention.
    metadata : dict, optional
        Metadata of the field.
    poll : callable, optional
        Called now and then; what it raises propagates.

    Returns
    -------
    KernelField
        With n basis kernels and a mixing grid of the image's size.

    Raises
    ------
    ValueError
        If `labels` is not (H, W) or a label has no kernel.
    """
    n = len(kernels)
    if labels.ndim != 2 or labels.is_floating_point():
        raise ValueError(
            f"labels must be integers of shape (H, W), got {labels.dtype} {tuple(labels.shape)}"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= n:
        raise ValueError(
            f"labels must be in 0…{n - 1}, one kernel each, "
            f"got {int(labels.min())}…{int(labels.max())}"
        )
    height, width = labels.shape
    numbers = torch.arange(n, device=kernels.device)
    masks = (labels.to(kernels.device) == numbers[:, None, None]).to(kernels.dtype)
    return _soft_field(masks, kernels, (height, width), metadata, poll)


def object_motion_field(
    mask: Tensor,
    kernel: Tensor,
    background: Tensor | None = None,
    metadata: dict[str, Any] | None = None,
    poll: Callable[[], None] = do_nothing,
) -> KernelField:
    """Return the field of an object that moves in front of a background.

    The background shows through wherever the object was only for a part of the exposure: the
    object's coefficient is its mask blurred by its motion.

    Parameters
    ----------
    mask : Tensor
        The object: bool, or its opacity in [0, 1], of shape (H, W).
    kernel : Tensor
        Kernel (K, K) of the object's motion, in the correlation convention.
    background : Tensor, optional
        Kernel (K, K) of the background; by default it is still.
    metadata : dict, optional
        Metadata of the field.
    poll : callable, optional
        Called now and then; what it raises propagates.

    Returns
    -------
    KernelField
        With two basis kernels: that of the background and that of the object.

    Raises
    ------
    ValueError
        If `mask` is not (H, W) or the kernels differ in shape.
    """
    if mask.ndim != 2:
        raise ValueError(f"mask must be of shape (H, W), got {tuple(mask.shape)}")
    if background is None:
        background = no_blur(kernel.shape[-1], kernel.device, kernel.dtype)
    if background.shape != kernel.shape:
        raise ValueError(
            f"the kernels must have the same shape, got {tuple(background.shape)} for the "
            f"background and {tuple(kernel.shape)} for the object"
        )
    opacity = mask.to(kernel)
    shape = (int(mask.shape[0]), int(mask.shape[1]))
    moved = _blur(opacity, kernel, poll)
    return KernelField(
        torch.stack([background, kernel]), torch.stack([1 - moved, moved]), shape, metadata
    )


def camera_motion_field(
    shape: tuple[int, int],
    angles: Tensor,
    *,
    focal: float,
    kernel_size: int = 33,
    zoom: Tensor | None = None,
    max_cells: int = 12,
    metadata: dict[str, Any] | None = None,
) -> KernelField:
    """Return the field of a camera that turns and zooms during the exposure.

    Each pose maps the image by a homography about its centre, and the kernel of a pixel
    accumulates what the pixel sees at all poses. Kernels are made on a grid and interpolated
    bilinearly in between. Compared with the average of warped images this is right to about 45 dB
    for 5 × 5 kernels, 50 dB for 8 × 8 and 60 dB for 16 × 16 (paths of 28 pixels, strong roll).

    The sharp image is the one seen at the mean pose, so that kernels are centred over the image
    as a whole. They are not centred one by one: that would warp the image.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image in pixels.
    angles : Tensor
        Yaw, pitch and roll in radians at equal times of the exposure, shape (T, 3). Positive yaw
        moves the content along +x, positive pitch along +y (down), positive roll turns it from +x
        towards +y (clockwise on the screen).
    focal : float
        Focal length in pixels: a yaw of θ moves the middle of the image by ``focal * tan(θ)``.
    kernel_size : int
        Side K of the kernels in pixels, odd.
    zoom : Tensor, optional
        Magnification at the same times, shape (T,), positive.
    max_cells : int
        Most kernels along an axis; motion that varies little gets fewer.
    metadata : dict, optional
        Metadata of the field.

    Returns
    -------
    KernelField
        With one basis kernel per point of the grid.

    Raises
    ------
    ValueError
        If shapes or values are wrong, or the motion does not fit into the kernel.
    """
    height, width = shape
    inverse = _inverse_homographies(angles, focal, zoom)
    corners = _offsets(_points(shape, (2, 2)), inverse).reshape(2, 2, -1, 2)
    # The 2 × 2 points are half the image apart.
    change = [2 * float(corners.diff(dim=axis).abs().amax()) for axis in (0, 1)]
    rows, cols = (
        min(max_cells, side, 1 + math.ceil(pixels / _CELL_STEP))
        for side, pixels in zip((height, width), change, strict=True)
    )
    offsets = _offsets(_points(shape, (rows, cols)), inverse)
    offsets = offsets - offsets.mean(dim=(0, 1))
    reach = float(offsets.abs().amax())
    if reach > kernel_size // 2:
        raise ValueError(
            f"the motion reaches {reach:.1f} pixels from its middle and does not fit into "
            f"{kernel_size}×{kernel_size} kernels, which hold {kernel_size // 2}"
        )
    basis = splat(offsets.float(), kernel_size)
    mixing = torch.eye(len(basis), device=basis.device).reshape(-1, rows, cols)
    return KernelField(basis, mixing, (height, width), metadata)


def camera_motion_extent(
    shape: tuple[int, int], angles: Tensor, *, focal: float, zoom: Tensor | None = None
) -> tuple[float, float]:
    """Measure the blur of a camera's motion.

    Parameters are those of `camera_motion_field`.

    Returns
    -------
    extent : float
        Most pixels that the path of any pixel covers along y or x; 1 for no motion.
    reach : float
        Greatest offset along y or x, in pixels; kernels need ``2 * ceil(reach) + 1`` pixels.
    """
    # Displacements grow from the middle of the image to its rim, so corners are included.
    offsets = _offsets(_points(shape, (9, 9)) * (9 / 8), _inverse_homographies(angles, focal, zoom))
    offsets = offsets - offsets.mean(dim=(0, 1))
    span = offsets.amax(dim=1) - offsets.amin(dim=1)
    return 1 + float(span.amax()), float(offsets.abs().amax())


def _inverse_homographies(angles: Tensor, focal: float, zoom: Tensor | None) -> Tensor:
    """Maps (T, 3, 3) from where content is seen at each pose to where it is in the mean pose.

    They act on (x, y, 1) with the origin in the middle of the image.
    """
    if angles.ndim != 2 or angles.shape[1] != 3:
        raise ValueError(f"angles must be of shape (T, 3), got {tuple(angles.shape)}")
    if not focal > 0:
        raise ValueError(f"the focal length must be positive, got {focal}")
    if zoom is None:
        zoom = torch.ones(len(angles), device=angles.device)
    if zoom.shape != angles.shape[:1] or not bool((zoom > 0).all()):
        raise ValueError(
            f"zoom must be positive and of shape ({len(angles)},), got {tuple(zoom.shape)}"
        )
    centred = angles.double() - angles.double().mean(dim=0)
    yaw, pitch, roll = centred.unbind(dim=1)
    zero = torch.zeros_like(yaw)
    # The generator of the rotation that takes rays (x, y, z) of the mean pose to those of a pose.
    generators = torch.stack(
        [zero, -roll, yaw, roll, zero, pitch, -yaw, -pitch, zero], dim=1
    ).reshape(-1, 3, 3)
    magnification = zoom.double().log()
    magnification = (magnification - magnification.mean()).exp()
    # Pixels are rays times the focal length: (x, y, 1) stands for the ray (x, y, focal).
    to_rays = torch.stack([1 / magnification, 1 / magnification, zero + focal], dim=1)
    from_rays = torch.tensor([focal, focal, 1.0], dtype=torch.float64, device=angles.device)
    turned: Tensor = torch.linalg.matrix_exp(-generators)
    return from_rays[:, None] * turned * to_rays[:, None, :]


def _points(shape: tuple[int, int], cells: tuple[int, int]) -> Tensor:
    """Centres (N, 2) of the cells of a grid over an image, (y, x) from the middle of the image."""
    axes = [
        ((torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5) * side
        for side, count in zip(shape, cells, strict=True)
    ]
    return torch.cartesian_prod(*axes)


def _offsets(points: Tensor, inverse: Tensor) -> Tensor:
    """What points (N, 2) see at each of T poses: offsets (N, T, 2), (y, x), in the mean pose."""
    points = points.to(inverse.device)
    rays = torch.cat([points.flip(1), torch.ones_like(points[:, :1])], dim=1)
    seen = torch.einsum("tij,nj->nti", inverse, rays)
    return (seen[..., :2] / seen[..., 2:]).flip(-1) - points[:, None]


def _soft_field(
    masks: Tensor,
    kernels: Tensor,
    shape: tuple[int, int],
    metadata: dict[str, Any] | None,
    poll: Callable[[], None],
) -> KernelField:
    """Field of masks (n, H, W), each blurred with its kernel, normalised to sum 1."""
    # One map after the other, in place: maps of large images take long to write.
    soft = torch.empty_like(masks)
    for place, mask, kernel in zip(soft, masks, kernels, strict=True):
        place.copy_(_blur(mask, kernel, poll))
    # Where outlines blur away from each other all masks may be faint; nowhere are all of them 0
    # except by that, and there the hard mask stands in.
    total = soft.sum(dim=0)
    faint = total <= 1e-3
    total.clamp_min_(1e-3)
    for place, mask in zip(soft, masks, strict=True):
        poll()
        place.div_(total).copy_(torch.where(faint, mask, place))
    return KernelField(kernels, soft, shape, metadata)


def _blur(mask: Tensor, kernel: Tensor, poll: Callable[[], None]) -> Tensor:
    """Blur a mask (H, W) with a kernel, as if it went on beyond the edges; in [0, 1]."""
    shape = (int(mask.shape[0]), int(mask.shape[1]))
    field = KernelField.uniform(kernel, shape)
    operator = BlurOperator(field, boundary="replicate", poll=poll)
    blurred: Tensor = operator.forward(mask[None])[0]
    # The Fourier transform leaves some 1e-8 where the mask does not reach; an exact 0 there lets
    # the operator skip the kernel.
    return torch.where(blurred > 1e-5, blurred.clamp(max=1), 0)
