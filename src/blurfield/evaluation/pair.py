"""A real blurry photograph with its truth: what every estimator and method make of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from blurfield._version import __version__
from blurfield.compute import Reporter, choose_device
from blurfield.images import resolve_gamma

from .contenders import contenders
from .protocols import compare
from .restorers import restorers
from .rivals import RIVALS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from blurfield.compute import ProgressCallback

__all__ = ["evaluate_pair"]


def evaluate_pair(
    truth: NDArray[Any],
    blurry: NDArray[np.uint8],
    *,
    models: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    protocol: str = "ecc",
    gamma: float | str = "auto",
    device: str = "auto",
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Restore a blurry photograph in every way and compare each result with the truth.

    Parameters
    ----------
    truth, blurry : numpy.ndarray
        (H, W) or (H, W, 3) of one height and width, see `compare`; `blurry` of 8 bits.
    models : sequence of str, optional
        Names of installed estimators; all of them by default.
    methods : sequence of str, optional
        Ways to deblur, see `blurfield.evaluation.restorers.restorers`; by default all that are
        installed, but scikit-image's, which don't handle varying blur.
    protocol : str, default "ecc"
        How to compare, see `compare`. Photographs of one scene are hardly ever taken from exactly
        the same place, and a blind estimate leaves a translation open; "ecc" undoes both.
    gamma : float or "auto"
        Exponent from the image's values to linear light; see `blurfield.deblur`.
    device : str
        Where to compute, see `blurfield.compute.choose_device`.
    progress : callable, optional
        Called as ``progress(done, total, message)`` at least once a second; what it raises stops
        the evaluation and propagates.

    Returns
    -------
    dict
        Plain JSON types. ``images``: for the blurry image, whose names are None, and then for each
        estimator and method ``estimator``, ``method``, ``psnr``, ``ssim``, ``gain`` (in PSNR) and
        ``ssim_gain`` over the blurry image, ``aligned`` where the protocol tells, and the seconds
        ``estimation_seconds`` and ``seconds`` that estimating and deblurring took. Besides
        ``protocol``, ``device``, ``threads``, ``version`` and ``torch``.

    Raises
    ------
    ValueError
        If a model, method or the protocol is unknown or not installed, or the images don't fit.
    """
    chosen = choose_device(device)
    exponent = resolve_gamma(gamma, blurry.dtype)
    estimators = contenders(models, (), chosen)
    ways = [way for way in restorers(methods) if methods is not None or not way.is_rival]
    for way in ways:
        if way.is_rival:
            raise ValueError(
                f"{way.name} is for one known kernel and takes no estimated field; it is one of "
                f"{', '.join(RIVALS)}"
            )
    reporter = Reporter(progress, len(estimators) * (1 + len(ways)), "Comparing in place")
    none = dict.fromkeys(("estimator", "method", "estimation_seconds", "seconds"))
    before = compare(truth, blurry, protocol)
    images = [{**none, **_gains(before, before)}]
    for estimator in estimators:
        reporter.advance(0, f"Estimating: {estimator.name}")
        start = time.perf_counter()
        field = estimator.estimate(blurry, exponent, lambda *_: reporter.poll())
        estimated = time.perf_counter() - start
        reporter.advance()
        for way in ways:
            reporter.advance(0, f"Deblurring: {estimator.name}, {way.name}")
            start = time.perf_counter()
            (_, sharp), *_ = way.attempts(blurry, field, exponent, chosen, reporter.poll)
            images.append(
                {
                    "estimator": estimator.name,
                    "method": way.name,
                    "estimation_seconds": estimated,
                    "seconds": time.perf_counter() - start,
                    **_gains(compare(truth, sharp, protocol), before),
                }
            )
            reporter.advance()
    return {
        "protocol": protocol,
        "device": str(chosen),
        "threads": torch.get_num_threads(),
        "version": __version__,
        "torch": torch.__version__,
        "images": images,
    }


def _gains(figures: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Figures of a protocol, and what was gained over the blurry image."""
    kept: dict[str, Any] = {
        key: figures[key] for key in ("psnr", "ssim", "aligned") if key in figures
    }
    kept["gain"] = figures["psnr"] - before["psnr"]
    kept["ssim_gain"] = figures["ssim"] - before["ssim"]
    return kept
