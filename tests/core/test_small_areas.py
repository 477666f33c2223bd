"""Masks without specks."""

from __future__ import annotations

import numpy as np

from blurfield.small_areas import without_small_areas


def test_specks_and_gaps_are_removed() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:, 10:] = True
    expected = mask.copy()
    mask[3, 3] = True
    mask[5:7, 14] = False
    before = mask.copy()
    np.testing.assert_array_equal(without_small_areas(mask, 3), expected)
    np.testing.assert_array_equal(mask, before)
    np.testing.assert_array_equal(without_small_areas(mask, 0), mask)
    assert not without_small_areas(np.zeros((4, 4), bool), 5).any()
