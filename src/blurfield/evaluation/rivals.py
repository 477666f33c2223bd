"""Deconvolution by scikit-image, to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from blurfield.field import KernelField

    Attempts = Iterator[tuple[str, NDArray[np.float64]]]

__all__ = ["RIVALS"]

#: Numbers of Richardson-Lucy iterations, which are its only regularisation.
_ITERATIONS = (5, 10, 20, 40, 80)


def _richardson_lucy(
    encoded: NDArray[np.float64], field: KernelField, gamma: float, poll: Callable[[], None]
) -> Attempts:
    """Richardson-Lucy in linear light, with more and more iterations.

    It takes the outside of the image for black. A margin of two kernels, mirrored, keeps that away
    from the image; wider ones change its results by less than 0.1 dB up to 20 iterations.
    """
    from skimage.restoration import richardson_lucy

    size = field.kernel_size
    pads = [(min(2 * size, side - 1),) * 2 for side in encoded.shape[:2]]
    light = _extended(encoded**gamma, pads)
    point_spread = _point_spread(field)
    for number in _ITERATIONS:

        def solve(plane: NDArray[np.float32], number: int = number) -> NDArray[np.float32]:
            poll()
            solved: NDArray[np.float32] = richardson_lucy(plane, point_spread, number, clip=False)
            return solved

        yield f"{number} iterations", _encoded(light, solve, pads, gamma)


def _wiener(
    encoded: NDArray[np.float64], field: KernelField, gamma: float, poll: Callable[[], None]
) -> Attempts:
    """Wiener-Hunt deconvolution that finds its parameters itself, in linear and encoded light.

    It takes the image for periodic, so that it is given one whole period of the image mirrored at
    all edges. Blur is linear in linear light, and noise even in encoded light; which of the two
    matters more to it depends on the image.
    """
    from skimage.restoration import unsupervised_wiener

    pads = [((side - 2) // 2, side - 2 - (side - 2) // 2) for side in encoded.shape[:2]]
    point_spread = _point_spread(field)
    settings = {"callback": lambda _: poll()}

    def solve(plane: NDArray[np.float32]) -> NDArray[np.float32]:
        solved: NDArray[np.float32] = unsupervised_wiener(
            plane, point_spread, user_params=settings, clip=False, rng=0
        )[0]
        return solved

    for name, exponent in (("linear light", gamma), ("encoded light", 1.0)):
        yield name, _encoded(_extended(encoded**exponent, pads), solve, pads, exponent)


def _point_spread(field: KernelField) -> NDArray[np.float32]:
    """The one kernel of a uniform field as convolution takes it: rotated."""
    kernel: NDArray[np.float32] = field.basis[0].flip(-2, -1).float().cpu().numpy()
    return kernel


def _extended(values: NDArray[np.float64], pads: list[tuple[int, int]]) -> NDArray[np.float32]:
    widths = [*pads, (0, 0)][: values.ndim]
    return np.pad(values, widths, mode="reflect").astype(np.float32)


def _encoded(
    light: NDArray[np.float32],
    solve: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    pads: list[tuple[int, int]],
    exponent: float,
) -> NDArray[np.float64]:
    """Deconvolve each channel, take the extension off and encode."""
    planes = light[..., None] if light.ndim == 2 else light
    solved = np.stack([solve(plane) for plane in np.moveaxis(planes, -1, 0)], axis=-1)
    inner = tuple(slice(before, solved.shape[i] - after) for i, (before, after) in enumerate(pads))
    values: NDArray[np.float64] = solved[inner].clip(0, 1).astype(np.float64) ** (1 / exponent)
    return values if light.ndim == 3 else values[..., 0]


#: Functions of (encoded image in [0, 1], uniform field, gamma, poll) that yield results of several
#: settings, each with the name of the setting.
RIVALS: dict[str, Callable[..., Attempts]] = {
    "skimage richardson_lucy": _richardson_lucy,
    "skimage unsupervised_wiener": _wiener,
}
