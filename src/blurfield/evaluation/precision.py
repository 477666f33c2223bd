"""Average precision: how well a map of scores finds the pixels of a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def average_precision(mask: ArrayLike, scores: ArrayLike) -> float:
    """Return the average precision of scores against a binary mask.

    Σₙ (Rₙ − Rₙ₋₁) Pₙ over all thresholds n that the scores offer, from the highest down, with Pₙ
    and Rₙ the precision and recall of what scores at least so much. Nothing is interpolated, and
    equal scores are one threshold; scikit-learn's ``average_precision_score`` is the same.

    Parameters
    ----------
    mask : array_like
        Any shape; what is not 0 is to be found.
    scores : array_like
        Of the same shape, higher where it is more likely.

    Returns
    -------
    float
        1 if all pixels of the mask score higher than all others; for random scores the share of
        the mask.

    Raises
    ------
    ValueError
        If the shapes differ, the mask is 0 everywhere, or a score is NaN.
    """
    wanted: NDArray[np.bool_] = np.asarray(mask) != 0
    values: NDArray[Any] = np.asarray(scores)
    if wanted.shape != values.shape:
        raise ValueError(f"the mask is of shape {wanted.shape}, but the scores of {values.shape}")
    if not wanted.any():
        raise ValueError("the mask is 0 everywhere: there is nothing to be found")
    if np.isnan(values).any():
        raise ValueError(f"{int(np.isnan(values).sum())} scores are NaN")
    order = np.argsort(values, axis=None, kind="stable")[::-1]
    ranked, found = values.ravel()[order], wanted.ravel()[order]
    # The last pixel of each run of equal scores: all of them are taken together.
    last = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)
    hits = np.cumsum(found)[last]
    precision = hits / (last + 1)
    recall_steps = np.diff(hits, prepend=0) / hits[-1]
    return float((recall_steps * precision).sum())
