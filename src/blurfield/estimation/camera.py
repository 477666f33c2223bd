"""The motion of a camera that explains the blur of a whole image, though its kernels differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from blurfield.windows import Windows

from .blind import RATIO, BlindSettings, odd, scale_steps, scales
from .evidence import Evidence
from .kernels import projected_gradients, prune, salient_edges, toeplitz
from .level import Level
from .poses import Poses, align_poses, centre_poses, kernels_of, resize_poses
from .spectral import gradient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csc_array
    from torch import Tensor

    from blurfield.compute import Reporter

__all__ = ["CameraMotion", "CameraSettings", "CameraStart", "estimate_camera", "unclipped"]

#: Volumes of up to so many poses are searched as a whole, larger ones near what has been found …
_WHOLE_VOLUME, _NEAR = 4000, 2
#: … and of these at most so many.
_MOST_POSES = 40_000
#: Linear light above which pixels may be clipped, and the least share of an image that is not near
#: them.
_CLIPPED, _LEAST_ALLOWED = 0.9, 0.25
#: Steps of the projected gradient method. More make volumes fit noise.
_STEPS = 30
#: Pixels of all windows together from which there are fewer, and their least number.
_MOST_PIXELS, _LEAST_WINDOWS = 1_500_000, 4


@dataclass(frozen=True)
class CameraStart:
    """One way to start, of which the best are kept.

    Attributes
    ----------
    strength : float
        λ of the L0 penalty of latent images at the coarsest scale.
    isolation : float
        How strictly isolated poses are removed, see `blurfield.estimation.kernels.prune`.
    ridge : float
        Tikhonov weight γ of the poses' weights.
    """

    strength: float
    isolation: float
    ridge: float


@dataclass(frozen=True)
class CameraSettings:
    """Constants of the search.

    Attributes
    ----------
    starts : tuple of CameraStart
        Ways to start.
    focal : float
        Focal length in units of the image's longer side: a lens of moderate wide angle.
    side, stride : float
        Side of the windows whose latent images show the blur, and distance between them, in
        kernel sizes.
    most : int
        Largest number of them.
    blind : BlindSettings
        All else: what `estimate_kernels` does in the same way.
    """

    starts: tuple[CameraStart, ...] = (
        CameraStart(6e-3, 0.1, 2.0),
        CameraStart(6e-3, 0.1, 10.0),
        CameraStart(1e-2, 0.1, 10.0),
        CameraStart(1e-2, 0.05, 2.0),
    )
    focal: float = 1.0
    side: float = 4.0
    stride: float = 2.4
    most: int = 20
    blind: BlindSettings = field(default_factory=BlindSettings)


@dataclass(frozen=True)
class CameraMotion:
    """What `estimate_camera` has found.

    Attributes
    ----------
    poses : Poses
        How the camera may look.
    volumes : Tensor
        For how long it looked in which way, M answers, (M, A, A, A).
    """

    poses: Poses
    volumes: Tensor

    def kernels_at(self, points: Sequence[tuple[float, float]]) -> Tensor:
        """Point-spread functions (N, M, K, K) at points (y, x) in pixels, on the CPU."""
        return self.poses.kernels_at(self.volumes, np.array(points, dtype=np.float64))


def estimate_camera(
    image: Tensor, size: int, reporter: Reporter, settings: CameraSettings | None = None
) -> CameraMotion:
    """Estimate how a camera moved, if the blur of all of an image is due to it.

    As `blurfield.estimation.blind.estimate_kernels` it alternates, from coarse to fine, between
    latent images with sparse gradients and kernels, but the kernels of all windows are made by the
    same poses (Whyte et al., "Non-uniform deblurring for shaken images", IJCV 2012; Gupta et al.,
    "Single image deblurring using motion density functions", ECCV 2010): their weights, which are
    not negative, are those for which the salient edges of all windows fit best. So all of the image
    says what the blur is, even though it is another one in each corner.

    Parameters
    ----------
    image : Tensor
        Grey image in linear light with white 1, (H, W).
    size : int
        Side K of the kernels, odd.
    reporter : Reporter
        Is told of `blurfield.estimation.blind.work` steps, and polled between steps of some 10 ms.
    settings : CameraSettings, optional
        Constants.

    Returns
    -------
    CameraMotion
        Two answers: the likeliest by `Evidence` at a middle scale, and the mean of all.
    """
    settings = settings or CameraSettings()
    blind = settings.blind
    shape = (int(image.shape[0]), int(image.shape[1]))
    side, stride = round(settings.side * size), round(settings.stride * size)
    most = max(_LEAST_WINDOWS, min(settings.most, _MOST_PIXELS // side**2))
    windows = Windows.on(shape, side, stride, most)
    images = windows.cut(image)
    search = _Search.start(settings.starts, blind)
    for scale in scales(size):
        search.resize(odd(size * scale))
        level = Level(images, scale, search.side)
        scaled = (shape[0] * scale, shape[1] * scale)
        poses = Poses(scaled, search.side, settings.focal * max(scaled))
        # Pixels have extents, and their centres are not at multiples of the scale.
        points = (np.array(windows.centres(), dtype=np.float64) + 0.5) * scale - 0.5
        allowed = unclipped(level)
        for step in range(blind.iterations):
            if scale == 1 and step == blind.iterations - 1:
                level.blur_latent(blind.optics)
            search.improve(level, allowed, poses, points, reporter.poll)
            reporter.advance(scale_steps(scale))
        search.volumes = centre_poses(search.volumes)
        if blind.verdict / RATIO < scale <= blind.verdict:
            kernels = poses.kernels_at(search.volumes, points).to(images)
            search.select(Evidence(level.images, reporter.poll)(kernels).mean(0).cpu())
    return CameraMotion(poses, search.volumes)


@dataclass
class _Search:
    """What is followed from scale to scale, for M starts."""

    settings: BlindSettings
    volumes: Tensor
    strength: Tensor
    isolation: Tensor
    ridge: Tensor

    @classmethod
    def start(cls, starts: Sequence[CameraStart], settings: BlindSettings) -> _Search:
        """Begin with short horizontal motions."""
        volumes = torch.zeros(len(starts), 3, 3, 3)
        volumes[:, 1, :, 1] = torch.tensor([0.25, 0.5, 0.25])
        constants = (
            torch.tensor([getattr(start, name) for start in starts])
            for name in ("strength", "isolation", "ridge")
        )
        return cls(settings, volumes, *constants)

    @property
    def side(self) -> int:
        """Poses along each axis, and side of the kernels."""
        return int(self.volumes.shape[-1])

    def resize(self, side: int) -> None:
        """Go on at another scale."""
        if side != self.side:
            self.volumes = resize_poses(self.volumes, side)

    def improve(
        self,
        level: Level,
        allowed: Tensor,
        poses: Poses,
        points: NDArray[np.float64],
        poll: Callable[[], None],
    ) -> None:
        """One alternation: latent images from the kernels, and poses from their edges."""
        settings, images = self.settings, level.images
        chosen = self._chosen()
        matrix = poses.matrix(points, chosen)
        weights = self.volumes.flatten(1)[:, chosen]
        kernels = kernels_of(matrix, weights, self.side).to(images)
        strength = self.strength.to(images).expand(len(images), -1)
        latent = level.sharpen(kernels, strength, poll)
        edges = salient_edges(*gradient(latent), level.edge_count(settings.edges), allowed)
        poll()
        # From here on there is little to do, and sparse matrices are those of the CPU.
        auto, cross = (found.cpu().float() for found in level.correlations(edges))
        found = torch.zeros(len(weights), self.side**3)
        found[:, chosen] = _solve(matrix, auto, cross, weights, self.ridge, poll)
        found = found.reshape(self.volumes.shape)
        self.volumes = prune(found, settings.threshold, self.isolation, axes=3)
        self.strength = (self.strength / settings.decay).clamp_min(settings.least_strength)

    def _chosen(self) -> Tensor:
        """Which poses may get weights, (A³,)."""
        if self.side**3 <= _WHOLE_VOLUME:
            return torch.ones(self.side**3, dtype=torch.bool)
        near = self.volumes.amax(0)[None, None]
        for _ in range(_NEAR):
            near = functional.max_pool3d(near, 3, 1, 1)
        near = near.flatten()
        if int((near > 0).sum()) <= _MOST_POSES:
            return near > 0
        chosen = torch.zeros_like(near, dtype=torch.bool)
        chosen[near.topk(_MOST_POSES).indices] = True
        return chosen

    def select(self, scores: Tensor) -> None:
        """Keep the likeliest by their scores (M,), and the mean of all in the last one's place."""
        order = scores.argsort()
        shares = torch.softmax(-scores / self.settings.tolerance, dim=0)
        aligned = align_poses(self.volumes, self.volumes[order[0]])
        kept = order[: self.settings.survivors]
        self.volumes = self.volumes[kept]
        self.volumes[-1] = torch.einsum("m,mijk->ijk", shares, aligned)
        self.volumes[-1] /= self.volumes[-1].sum()
        self.strength, self.isolation, self.ridge = (
            constant[kept] for constant in (self.strength, self.isolation, self.ridge)
        )


def unclipped(level: Level) -> Tensor:
    """1 where edges may be used, else 0, (N, 1, P, Q): inside, and away from clipped light.

    What an edge is blurred into must not be clipped, or it would tell of another blur. But where
    little else is left, all edges count.
    """
    clipped = (level.blurry > _CLIPPED).to(level.blurry)
    near = functional.max_pool2d(clipped, level.side, 1, level.side // 2)
    allowed = level.inside * (1 - near)
    if float(allowed.sum()) < _LEAST_ALLOWED * float(level.inside.sum()) * len(allowed):
        return level.inside.expand_as(allowed)
    return allowed


def _solve(
    matrix: csc_array,
    auto: Tensor,
    cross: Tensor,
    start: Tensor,
    ridge: Tensor,
    poll: Callable[[], None],
) -> Tensor:
    """Weights (M, P) ≥ 0 of poses by which the edges of all windows fit best, not normalised.

    Parameters
    ----------
    matrix : csc_array
        From weights to the kernels of N windows, see `Poses.matrix`.
    auto, cross : Tensor
        See `blurfield.estimation.kernels.normal_equations`, (N, M, ...).
    start : Tensor
        First guess, (M, P).
    ridge : Tensor
        Tikhonov weights γ, (M,).
    poll : callable
        Called between steps; may raise to stop.
    """
    count, many, side, _ = cross.shape
    product = toeplitz(auto)
    back = matrix.T

    def on_poses(kernels: Tensor) -> Tensor:
        taps = kernels.permute(0, 2, 3, 1).reshape(-1, many)
        return torch.from_numpy(back @ taps.contiguous().numpy()).T

    def squared(weights: Tensor) -> Tensor:
        taps = torch.from_numpy(matrix @ weights.T.contiguous().numpy())
        return on_poses(product(taps.reshape(count, side, side, many).permute(0, 3, 1, 2)))

    return projected_gradients(squared, on_poses(cross), start, ridge[:, None], 1, poll, _STEPS)
