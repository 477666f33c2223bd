"""Regions of similar motion, in fields whose regions are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.measure import label

from blurfield import KernelField, blur_mask, similar_motion, simulate
from blurfield.grid import read_block
from blurfield.similar_motion import motion_regions
from blurfield.simulation import linear_kernel, random_segments, segment_field


def rand_index(a: np.ndarray, b: np.ndarray) -> float:
    """Adjusted Rand index (Hubert and Arabie 1985) of two ways to divide an image."""
    first, second = (np.unique(x, return_inverse=True)[1].ravel() for x in (a, b))
    table = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(table, (first, second), 1)
    together, *by_one = (
        float((n * (n - 1) / 2).sum()) for n in (table, table.sum(0), table.sum(1))
    )
    chance = by_one[0] * by_one[1] / (first.size * (first.size - 1) / 2)
    return (together - chance) / (sum(by_one) / 2 - chance)


def strips(kernels: torch.Tensor, widths: list[int], height: int = 96) -> KernelField:
    """A field of vertical strips with a kernel each."""
    numbers = torch.arange(len(kernels)).repeat_interleave(torch.tensor(widths))
    return segment_field(numbers.expand(height, -1).contiguous(), kernels)


@pytest.mark.parametrize("seed", range(3))
def test_segments_are_found(seed: int) -> None:
    kernels = linear_kernel([1.0, 15.0, 15.0, 8.0], [0.0, 0.0, 60.0, 120.0], 21)
    generator = torch.Generator().manual_seed(seed)
    field = segment_field(random_segments((128, 160), 4, generator=generator), kernels)
    found = motion_regions(field, min_area=200)
    # Parts of a segment that don't hang together are regions of their own.
    truth = label(field.mixing.argmax(0).numpy() + 1, connectivity=1)
    assert rand_index(truth, found) > 0.85
    assert 4 <= found.max() <= truth.max() + 1


def test_shaken_segments_are_found_on_a_coarse_grid() -> None:
    _, field = simulate(np.full((300, 400), 0.5), segments=3, seed=1, max_extent=25)
    truth = label(field.mixing.argmax(0).numpy() + 1, connectivity=1)
    found = motion_regions(field, min_area=1000)
    assert found.dtype == np.int32
    assert rand_index(truth, found) > 0.95
    np.testing.assert_array_equal(found, motion_regions(field, min_area=1000))


def test_noise_divides_no_region() -> None:
    kernels = linear_kernel([15.0, 15.0], [0.0, 60.0], 21)
    field = strips(kernels, [48, 80])
    noise = 0.1 * torch.rand(field.mixing.shape, generator=torch.Generator().manual_seed(0))
    mixing = field.mixing + noise
    found = motion_regions(field.with_mixing(mixing / mixing.sum(0)))
    assert found.max() == 2
    assert rand_index(field.mixing.argmax(0).numpy(), found) > 0.9


def test_directions_are_axial() -> None:
    """1° and 179° are much the same, 90° apart are as different as can be."""
    same = strips(linear_kernel([12.0, 12.0], [1.0, 179.0], 21), [60, 60])
    across = strips(linear_kernel([12.0, 12.0], [0.0, 90.0], 21), [60, 60])
    assert motion_regions(same).max() == 1
    assert motion_regions(across).max() == 2


def test_tolerance_is_a_share_of_the_length() -> None:
    field = strips(linear_kernel([10.0, 14.0], [30.0, 30.0], 21), [60, 60])
    assert motion_regions(field, tolerance=0.2).max() == 2
    assert motion_regions(field, tolerance=0.4).max() == 1


def test_borders_are_no_regions() -> None:
    """Between two motions lies a band of both, as wide as the blur is long."""
    field = strips(linear_kernel([21.0, 21.0], [0.0, 90.0], 31), [70, 70])
    assert motion_regions(field, tolerance=0.1).max() == 2


def test_regions_fill_the_mask_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(3)
    kernels = linear_kernel([1.0, 17.0, 12.0], [0.0, 0.0, 70.0], 21)
    field = segment_field(random_segments((150, 170), 3, generator=generator), kernels)
    mask = blur_mask(field, min_extent=6, min_area=100)
    found = motion_regions(field, mask, min_area=300)
    np.testing.assert_array_equal(found > 0, mask)
    areas = np.bincount(found.ravel())[1:]
    assert (np.diff(areas) <= 0).all()
    assert found.max() >= 2
    for number in range(1, found.max() + 1):
        assert (
            np.bincount(label(found == number, connectivity=1).ravel())[1:].max()
            > 0.95 * (found == number).sum()
        )


def test_small_regions_join_what_is_most_similar() -> None:
    field = strips(linear_kernel([15.0, 9.0, 7.0], [0.0, 90.0, 90.0], 21), [60, 20, 60])
    apart = motion_regions(field, tolerance=0.15)
    assert apart.max() == 3
    joined = motion_regions(field, tolerance=0.15, min_area=3000)
    assert joined.max() == 2
    assert joined[48, 70] == joined[48, 130] != joined[48, 10]


def test_degenerate_fields() -> None:
    uniform = KernelField.uniform(linear_kernel(9, 20, 11), (20, 30))
    assert (motion_regions(uniform) == 1).all()
    assert not motion_regions(uniform, np.zeros((20, 30), bool)).any()
    speck = np.zeros((20, 30), bool)
    speck[3, 4] = True
    assert motion_regions(uniform, speck).sum() == 1
    assert motion_regions(KernelField.uniform(linear_kernel(1, 0, 11), (1, 1))).tolist() == [[1]]


@pytest.mark.parametrize("cells", [(18, 14), (14, 18)])
def test_outlines_are_those_of_all_areas_at_once(cells: tuple[int, int]) -> None:
    # Tiles only look at the areas that reach them; here each cell is an area, some are outside.
    shape = (401, 303)
    numbers = np.random.default_rng(4).permutation(cells[0] * cells[1]).reshape(cells)
    areas = np.maximum(numbers - 20, 0).astype(np.int32)
    shares = torch.from_numpy(areas == np.arange(1, areas.max() + 1)[:, None, None]).float()
    weights = read_block(shares, shape, slice(0, shape[0]), slice(0, shape[1]))
    inside = weights.sum(0) > 0
    found = similar_motion._enlarged(areas, shape, None)
    assert np.array_equal(found[inside], 1 + weights.argmax(0)[inside].numpy())


def test_bad_input() -> None:
    field = KernelField.uniform(linear_kernel(9, 20, 11), (20, 30))
    with pytest.raises(ValueError, match=r"tolerance must be a number above 0, not 0"):
        motion_regions(field, tolerance=0)
    with pytest.raises(ValueError, match=r"shape of the image, \(20, 30\), but has \(4, 4\)"):
        motion_regions(field, np.ones((4, 4)))
