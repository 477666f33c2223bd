"""The kernel field: what estimation makes and everything else uses."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import grid
from ._field_values import (
    as_float_tensor,
    check_convex,
    check_shapes,
    checked_maps,
    plain_json,
    without_denormals,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import ArrayLike

    from .compute import ProgressCallback


class KernelField:
    """One blur kernel for every pixel of an image, as mixtures of a few basis kernels.

    The kernel of pixel i is κ(i) = Σ_b m_b(i) k_b, and a sharp image u becomes the blurry image
    v(i) = Σ_b m_b(i) Σ_s k_b(s) u(i + s − c), with c the middle of the kernel (Carbajal et al.
    2021, Sec. 3). Kernels are thus *correlation* kernels; the point-spread function is the kernel
    rotated by 180°.

    Parameters
    ----------
    basis : array_like, shape (B, K, K)
        Basis kernels, K odd; each one non-negative with sum 1.
    mixing : array_like, shape (B, h, w)
        Mixing coefficients, non-negative and with sum 1 over B. A grid coarser than the image is
        read by bilinear interpolation with half-pixel centres, constant beyond the outer centres.
    shape : (int, int), optional
        Height and width of the image in pixels; (h, w) by default.
    metadata : mapping, optional
        Where the field comes from, as plain JSON types.
    maps : mapping of str to array_like, shape (h', w'), optional
        What else is known of each pixel, each on a grid of its own, read like that of `mixing`:
        ``"uncertainty"`` and ``"confidence"`` of the kernels, the share that the compact
        ``"network"`` has in them, all in [0, 1], and ``"kernel_sum"``, that of the kernels as a
        network gave them, are the ones in use. They go with the field wherever it goes.

    Raises
    ------
    ValueError
        If a shape is wrong, a value is negative or not finite, or a sum is not 1 within 1e-3. The
        message names the offending entry.
    TypeError
        If values are complex, or the metadata are not plain JSON.

    Notes
    -----
    Immutable: methods return new fields. Tensors are taken as they are, without a copy, so that
    gradients flow into them; don't write into them afterwards. Other arrays are copied.
    """

    __slots__ = ("_basis", "_maps", "_metadata", "_mixing", "_one_tap", "_shape")

    def __init__(
        self,
        basis: Tensor | ArrayLike,
        mixing: Tensor | ArrayLike,
        shape: tuple[int, int] | None = None,
        metadata: Mapping[str, Any] | None = None,
        maps: Mapping[str, Tensor | ArrayLike] | None = None,
    ) -> None:
        self._basis = as_float_tensor(basis, "basis")
        mixing = as_float_tensor(mixing, "mixing")
        self._mixing = mixing.to(self._basis.device, self._basis.dtype)
        check_shapes(self._basis, self._mixing)
        self._shape = self._checked_image_shape(shape)
        check_convex(self._basis, "basis kernel", dims=(-2, -1))
        check_convex(self._mixing, "mixing coefficients", dims=(0,))
        self._mixing = without_denormals(self._mixing)
        self._metadata = plain_json(metadata or {})
        self._maps = checked_maps(maps or {}, like=self._basis)
        self._one_tap: bool | None = None

    def _checked_image_shape(self, shape: tuple[int, int] | None) -> tuple[int, int]:
        if shape is None:
            return (int(self._mixing.shape[1]), int(self._mixing.shape[2]))
        try:
            height, width = (int(n) for n in shape)
        except (TypeError, ValueError):
            raise ValueError(f"shape must be (height, width), but is {shape!r}") from None
        if height < 1 or width < 1:
            raise ValueError(f"shape must be (height, width) in pixels, but is {shape!r}")
        return height, width

    @classmethod
    def uniform(
        cls,
        kernel: Tensor | ArrayLike,
        shape: tuple[int, int],
        metadata: Mapping[str, Any] | None = None,
        maps: Mapping[str, Tensor | ArrayLike] | None = None,
    ) -> KernelField:
        """Make a field with the same kernel everywhere.

        Parameters
        ----------
        kernel : array_like, shape (K, K)
            In the correlation convention, non-negative, sum 1, K odd.
        shape : (int, int)
            Height and width of the image in pixels.
        metadata, maps : mapping, optional
            Where the kernel comes from, and what else is known of each pixel; see `KernelField`.
        """
        tensor = as_float_tensor(kernel, "kernel")
        if tensor.ndim != 2:
            raise ValueError(f"kernel must have the shape (K, K), but has {tuple(tensor.shape)}")
        return cls(tensor[None], torch.ones(1, 1, 1).to(tensor), shape, metadata, maps)

    # ------------------------------------------------------------------ facts

    @property
    def basis(self) -> Tensor:
        """Basis kernels, shape (B, K, K)."""
        return self._basis

    @property
    def mixing(self) -> Tensor:
        """Mixing coefficients on their grid, shape (B, h, w)."""
        return self._mixing

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels of the image that the field is for."""
        return self._shape

    @property
    def metadata(self) -> dict[str, Any]:
        """Where the field comes from; a copy, as plain JSON types."""
        return copy.deepcopy(self._metadata)

    @property
    def maps(self) -> dict[str, Tensor]:
        """What else is known of each pixel, by name, on grids (h', w'); a new dictionary."""
        return dict(self._maps)

    @property
    def num_kernels(self) -> int:
        """Number B of basis kernels."""
        return int(self._basis.shape[0])

    @property
    def kernel_size(self) -> int:
        """Side K of the kernels in pixels."""
        return int(self._basis.shape[-1])

    @property
    def device(self) -> torch.device:
        """Device that holds the tensors."""
        return self._basis.device

    @property
    def dtype(self) -> torch.dtype:
        """``torch.float32`` or ``torch.float64``."""
        return self._basis.dtype

    @property
    def is_one_tap(self) -> bool:
        """Whether each basis kernel has a single non-zero tap, as in dense per-pixel fields."""
        if self._one_tap is None:
            taps = (self._basis.detach() != 0).flatten(1).sum(1)
            self._one_tap = bool((taps == 1).all())
        return self._one_tap

    def __repr__(self) -> str:
        h, w = self._mixing.shape[1:]
        model = self._metadata.get("model")
        return (
            f"KernelField({self.num_kernels} kernels of {self.kernel_size}×{self.kernel_size}, "
            f"mixing {h}×{w}, image {self._shape[0]}×{self._shape[1]}"
            + (f", model {model!r})" if model else ")")
        )

    # ---------------------------------------------------------------- reading

    def kernel_at(self, y: float, x: float) -> Tensor:
        """Kernel of the pixel (y, x), shape (K, K)."""
        return self.kernels_at([(y, x)])[0]

    def kernels_at(self, points: Tensor | ArrayLike) -> Tensor:
        """Kernels at points (y, x).

        Parameters
        ----------
        points : array_like, shape (N, 2)
            Pixel coordinates (y, x); fractions are interpolated.

        Returns
        -------
        Tensor, shape (N, K, K)

        Raises
        ------
        ValueError
            If a point lies outside the image.
        """
        return torch.einsum("nb,bij->nij", self.mixing_at(points), self._basis)

    def mixing_at(self, points: Tensor | ArrayLike) -> Tensor:
        """Mixing coefficients at points (y, x), shape (N, B); see `kernels_at`."""
        # On the CPU, since not every device has double precision.
        place = torch.as_tensor(points, dtype=torch.float64, device="cpu")
        if place.ndim != 2 or place.shape[1] != 2:
            raise ValueError(f"points must have the shape (N, 2), but have {tuple(place.shape)}")
        limit = torch.tensor(self._shape, dtype=torch.float64) - 0.5
        outside = ~((place >= -0.5) & (place <= limit)).all(1)
        if bool(outside.any()):
            y, x = place[outside][0].tolist()
            raise ValueError(f"point (y={y:g}, x={x:g}) lies outside the image {self._shape}")
        return grid.read_points(self._mixing, self._shape, place)

    def mixing_block(self, rows: slice, cols: slice) -> Tensor:
        """Mixing coefficients of a block of pixels, shape (B, rows, cols).

        Slices have plain non-negative starts and stops. The block is a view if the mixing grid
        has one cell a pixel.
        """
        return grid.read_block(self._mixing, self._shape, rows, cols)

    def full_mixing(self) -> Tensor:
        """Mixing coefficients of every pixel, shape (B, H, W)."""
        return self.mixing_block(slice(0, self._shape[0]), slice(0, self._shape[1]))

    def full_map(self, name: str) -> Tensor:
        """One of `maps` for every pixel, shape (H, W).

        Raises
        ------
        KeyError
            If the field has no such map.
        """
        if name not in self._maps:
            known = ", ".join(self._maps) or "none"
            raise KeyError(f"the field has no map {name!r}; it has {known}")
        rows, cols = (slice(0, n) for n in self._shape)
        return grid.read_block(self._maps[name][None], self._shape, rows, cols)[0]

    def l2_norms(self) -> Tensor:
        """L2 norm of each basis kernel, shape (B,): 1 for no blur, 1/√L for a line of L pixels."""
        norms: Tensor = torch.linalg.vector_norm(self._basis, dim=(1, 2))
        return norms

    def mean_kernel(self) -> Tensor:
        """Average kernel over all pixels of the image, shape (K, K)."""
        (height, width), (h, w) = self._shape, self._mixing.shape[1:]
        down = grid.axis_matrix(0, height, height, h, self._mixing)[0].mean(0)
        across = grid.axis_matrix(0, width, width, w, self._mixing)[0].mean(0)
        weights = torch.einsum("bhw,h,w->b", self._mixing, down, across)
        return torch.einsum("b,bij->ij", weights, self._basis)

    # ----------------------------------------------------------- derived fields

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> KernelField:
        """Return this field on another device or with another precision."""
        return self._derive(
            self._basis.to(device=device, dtype=dtype), self._mixing.to(device=device, dtype=dtype)
        )

    def rotated(self) -> KernelField:
        """Return the field with each kernel rotated by 180°: its point-spread functions."""
        return self._derive(self._basis.flip(-2, -1), self._mixing)

    def with_mixing(
        self, mixing: Tensor | ArrayLike, shape: tuple[int, int] | None = None
    ) -> KernelField:
        """Return a field with the same basis and other mixing coefficients (B, h, w)."""
        mixing = as_float_tensor(mixing, "mixing")
        return self._derive(self._basis, mixing, shape)

    def with_metadata(self, **updates: Any) -> KernelField:
        """Return the same field with metadata entries added or replaced."""
        return self._derive(self._basis, self._mixing, metadata={**self._metadata, **updates})

    def crop(self, origin: tuple[int, int], shape: tuple[int, int]) -> KernelField:
        """Return the field of a part of the image.

        Parameters
        ----------
        origin : (int, int)
            First row and column of the part.
        shape : (int, int)
            Its height and width.

        Raises
        ------
        ValueError
            If the part is empty or reaches beyond the image.
        """
        (y, x), (height, width) = origin, shape
        if height < 1 or width < 1 or y < 0 or x < 0:
            raise ValueError(f"cannot crop {shape} at {origin}: both must be within the image")
        if y + height > self._shape[0] or x + width > self._shape[1]:
            raise ValueError(
                f"cannot crop {shape} at {origin} from a field of {self._shape}: it reaches "
                "beyond the image"
            )

        def part(values: Tensor) -> Tensor:
            if values.shape[1:] == (1, 1):
                return values
            rows, cols = slice(y, y + height), slice(x, x + width)
            return grid.read_block(values, self._shape, rows, cols)

        maps = {name: part(values[None])[0] for name, values in self._maps.items()}
        return self._derive(self._basis, part(self._mixing), (height, width), maps=maps)

    def resize(self, shape: tuple[int, int]) -> KernelField:
        """Return the field of the image resized to `shape`: kernels grow or shrink with it.

        The mixing grid stays as it is. Kernels keep their sum and their centre of mass.
        """
        height, width = shape
        if height < 1 or width < 1:
            raise ValueError(f"cannot resize to {shape}: height and width must be positive")
        down, across = height / self._shape[0], width / self._shape[1]
        size = 2 * math.ceil((self.kernel_size // 2) * max(down, across)) + 1
        rows = grid.rescaling_matrix(self._basis, down, size)
        cols = grid.rescaling_matrix(self._basis, across, size)
        basis = rows @ self._basis @ cols.T
        basis = basis / basis.sum((-2, -1), keepdim=True)
        return self._derive(basis, self._mixing, shape=(height, width))

    def compress(
        self, rank: int = 25, tol: float | None = None, progress: ProgressCallback | None = None
    ) -> KernelField:
        """Return an approximation with fewer basis kernels.

        Parameters
        ----------
        rank : int
            Largest number of basis kernels, at least 1.
        tol : float, optional
            Root-mean-square distance ‖κ̂(i) − κ(i)‖₂ per pixel that is good enough: the fewest
            kernels that reach it are kept.
        progress : callable, optional
            Called at least once a second; what it raises stops the computation.

        Returns
        -------
        KernelField
            Its ``metadata["compression"]`` holds ``rms_error``, ``relative_error`` and the number
            of kernels before.
        """
        from .compression import compress

        return compress(self, rank, tol, progress)

    def _derive(
        self,
        basis: Tensor,
        mixing: Tensor,
        shape: tuple[int, int] | None = None,
        metadata: Mapping[str, Any] | None = None,
        maps: Mapping[str, Tensor] | None = None,
    ) -> KernelField:
        return KernelField(
            basis,
            mixing,
            shape or self._shape,
            self._metadata if metadata is None else metadata,
            self._maps if maps is None else maps,
        )

    # ------------------------------------------------------------------- files

    def save(self, path: str | os.PathLike[str], dtype: str = "float32") -> Path:
        """Write the field to a ``.blurfield`` file; see `blurfield.storage.save_field`."""
        from .storage import save_field

        return save_field(self, path, dtype=dtype)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> KernelField:
        """Read a ``.blurfield`` file; see `blurfield.storage.load_field`."""
        from .storage import load_field

        return load_field(path)
