"""What is read from fields: where the blur is, how strong, and in which direction."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from kernels_and_fields import delta, line, random_field

from blurfield import Cancelled
from blurfield.field import KernelField
from blurfield.measure import (
    blur_extent,
    blur_map,
    blur_mask,
    blur_score,
    kernel_mosaic,
    motion_features,
    motion_vectors,
)
from blurfield.region_statistics import blur_statistics
from blurfield.similar_motion import motion_regions


def dense_field(field: KernelField) -> KernelField:
    """Return the same per-pixel kernels as mixtures of single taps."""
    taps = field.kernel_size**2
    basis = torch.eye(taps, dtype=field.dtype).reshape(taps, field.kernel_size, -1)
    kernels = torch.einsum("bhw,bij->ijhw", field.full_mixing(), field.basis)
    return KernelField(basis, kernels.reshape(taps, *field.shape))


def all_kernels(field: KernelField) -> np.ndarray:
    """Return κ(i) for every pixel, (H, W, K, K)."""
    return torch.einsum("bhw,bij->hwij", field.full_mixing(), field.basis).numpy()


FIELDS = {
    "full": random_field(),
    "coarse": random_field(1, cells=(4, 5)),
    "uniform": KernelField.uniform(line(9), (40, 52)),
    "one cell": random_field(2, cells=(1, 1)),
    "dense": dense_field(random_field(3)),
}
each_field = pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS.keys())


# -------------------------------------------------------------------- blur map and mask


@pytest.mark.parametrize("size", [33, 65])
def test_blur_map_separates_lines_of_16_pixels(size: int) -> None:
    for length, expected in ((15, 0), (17, 1)):
        field = KernelField.uniform(line(length, size), (5, 7))
        result = blur_map(field)
        assert (result.shape, result.dtype) == ((5, 7), np.float32)
        assert (result == expected).all()
        assert (blur_map(field, threshold=1 / math.sqrt(12)) == 1).all()


def test_blur_map_is_the_share_of_blur_kernels() -> None:
    basis = torch.stack([delta(), line(30), line(25, vertical=True)])
    mixing = torch.tensor([[0.7, 0.1], [0.2, 0.5], [0.1, 0.4]]).reshape(3, 1, 2)
    np.testing.assert_allclose(blur_map(KernelField(basis, mixing)), [[0.3, 0.9]], atol=1e-6)
    # A coarse grid is interpolated with half-pixel centres.
    wide = blur_map(KernelField(basis, mixing, (3, 8)))
    np.testing.assert_allclose(
        wide[1], 0.3 + 0.6 * np.clip((np.arange(8) - 1.5) / 4, 0, 1), atol=1e-6
    )


def test_blur_map_of_dense_fields_goes_by_the_kernels_of_the_pixels() -> None:
    kernels = torch.stack([delta(), line(15), line(17), torch.full((33, 33), 1 / 33**2)])
    mixing = torch.eye(4).reshape(4, 1, 4)
    result = blur_map(dense_field(KernelField(kernels, mixing)))[0]
    assert result[0] == pytest.approx(0, abs=1e-6)
    assert 0.49 < result[1] < 0.5 < result[2] < 0.52
    assert result[3] == pytest.approx(1 - 2 / 33, abs=1e-3)
    mask = blur_mask(dense_field(KernelField(kernels, mixing)))
    assert mask.tolist() == [[False, False, True, True]]


def test_blur_map_of_a_field_without_blur_is_zero() -> None:
    assert not blur_map(KernelField.uniform(delta(), (4, 6))).any()
    assert not blur_mask(KernelField.uniform(delta(), (4, 6))).any()


@each_field
def test_blur_mask_is_the_map_at_a_level(field: KernelField) -> None:
    values = blur_map(field, 0.4)
    assert values.min() >= 0
    assert values.max() <= 1
    for level in (0, 0.3, 0.5, 1):
        mask = blur_mask(field, 0.4, level)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, values >= level)


def test_blur_mask_by_extent_without_specks() -> None:
    """Three pixels of blur in a sharp image, and a sharp one in the midst of blur."""
    blurred = torch.zeros(20, 24)
    blurred[:, 12:] = 1
    blurred[4, 3:6] = 1
    blurred[9, 18] = 0
    field = KernelField(torch.stack([delta(), line(9)]), torch.stack([1 - blurred, blurred]))
    np.testing.assert_array_equal(blur_mask(field, min_extent=8.9), blurred.numpy() > 0)
    assert not blur_mask(field, min_extent=9.1).any()
    assert blur_mask(field, min_extent=1).all()
    clean = blur_mask(field, min_extent=8.9, min_area=4)
    np.testing.assert_array_equal(clean, np.arange(24) >= 12 + np.zeros((20, 1)))
    with pytest.raises(ValueError, match="min_extent must be a number above 0, not 0"):
        blur_mask(field, min_extent=0)


def test_blur_mask_by_extent_in_the_unit_of_the_image() -> None:
    """A motion across, of 4.5, and one down, of 9, as pixels are twice as high as wide."""
    across = torch.zeros(20, 24)
    across[:, 12:] = 1
    basis = torch.stack([line(9), line(9, vertical=True)])
    field = KernelField(basis, torch.stack([across, 1 - across]))
    assert blur_mask(field, min_extent=8.9, pixel_size=0.995).all()
    by_sides = blur_mask(field, min_extent=8.9, pixel_size=(1, 0.5))
    np.testing.assert_array_equal(by_sides, across.numpy() == 0)
    assert blur_mask(field, min_extent=4.4, pixel_size=(1, 0.5)).all()
    with pytest.raises(ValueError, match="pixel_size must be a number above 0"):
        blur_mask(field, min_extent=4, pixel_size=(1, 0))


def test_thresholds_and_levels_are_checked() -> None:
    for threshold in (0, 1, -1, math.nan):
        with pytest.raises(ValueError, match="threshold must be"):
            blur_map(FIELDS["full"], threshold)
    with pytest.raises(ValueError, match="level must be"):
        blur_mask(FIELDS["full"], level=1.5)


# --------------------------------------------------------------- score, extent, vectors


@each_field
def test_score_is_that_of_every_pixels_kernel(field: KernelField) -> None:
    norms = np.linalg.norm(all_kernels(field), axis=(2, 3))
    result = blur_score(field)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, 1 - norms, atol=1e-6)


def test_score_of_lines() -> None:
    for length in (1, 4, 25):
        score = blur_score(KernelField.uniform(line(length), (3, 3)))
        np.testing.assert_allclose(score, 1 - 1 / math.sqrt(length), atol=1e-6)


@each_field
def test_extent_is_that_of_every_pixels_kernel(field: KernelField) -> None:
    kernels = all_kernels(field)[::7, ::9]
    s = np.arange(kernels.shape[-1]) - kernels.shape[-1] // 2
    places = np.stack(np.meshgrid(s, s, indexing="ij"), axis=-1).reshape(-1, 2)
    expected = [
        [
            math.sqrt(12 * np.linalg.eigvalsh(np.cov(places.T, aweights=k.ravel(), ddof=0))[1] + 1)
            for k in row
        ]
        for row in kernels
    ]
    np.testing.assert_allclose(blur_extent(field)[::7, ::9], expected, rtol=1e-4)


@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("length", [1, 2, 9, 33])
def test_extent_of_a_line_is_its_length_wherever_it_lies(length: int, vertical: bool) -> None:
    kernel = line(length, vertical=vertical)
    for shift in (0, (33 - length) // 2):
        field = KernelField.uniform(kernel.roll((shift, -shift), (0, 1)), (4, 5))
        np.testing.assert_allclose(blur_extent(field), length, rtol=1e-5)


def test_results_do_not_depend_on_the_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in (FIELDS["full"], FIELDS["coarse"]):
        whole = blur_score(field), blur_extent(field), blur_map(field)
        with monkeypatch.context() as patch:
            patch.setattr("blurfield.measure._TILE", 11)
            patch.setattr("blurfield.measure._MOST_NUMBERS", 200)
            patch.setattr("blurfield.moments._MOST_COEFFICIENTS", 200)
            np.testing.assert_allclose(blur_score(field), whole[0], atol=1e-6)
            np.testing.assert_allclose(blur_extent(field), whole[1], rtol=1e-6)
            np.testing.assert_allclose(blur_map(field), whole[2], atol=1e-6)


def test_vectors_lie_along_the_motion_and_are_centred() -> None:
    cases = [
        (line(15), (0, 15), 0),
        (line(15, vertical=True), (15, 0), 90),
        (torch.eye(11) / 11, (11, 11), 135),  # down to the right on the screen
        (torch.eye(11).flip(1) / 11, (-11, 11), 45),
        (delta(), (0, 1), 0),
    ]
    for kernel, projection, angle in cases:
        field = KernelField.uniform(kernel, (64, 100))
        vectors = motion_vectors(field, spacing=32)
        assert (vectors.shape, vectors.dtype) == ((6, 2, 2), np.float32)
        centres = vectors[:, 0] + vectors[:, 1] / 2
        np.testing.assert_allclose(centres[0], (15.5, 17.5), atol=1e-4)
        np.testing.assert_allclose(centres[-1], (47.5, 81.5), atol=1e-4)
        np.testing.assert_allclose(vectors[:, 1], [projection] * 6, atol=0.1)
        np.testing.assert_allclose(motion_features(field)["angle"], angle, atol=1e-4)


def test_features_agree_with_vectors() -> None:
    for field in FIELDS.values():
        vectors, features = motion_vectors(field, 8), motion_features(field, 8)
        dy, dx = vectors[:, 1].T
        assert all(values.shape == (len(vectors),) for values in features.values())
        np.testing.assert_allclose(features["length"], np.hypot(dy, dx), rtol=1e-5)
        turned = np.degrees(np.arctan2(-dy, dx)) - features["angle"]
        np.testing.assert_allclose((turned + 90) % 180 - 90, 0, atol=0.05)
        assert ((features["angle"] >= 0) & (features["angle"] < 180.001)).all()
        points = vectors[:, 0] + vectors[:, 1] / 2
        expected = np.linalg.norm(field.kernels_at(points).numpy(), axis=(1, 2))
        np.testing.assert_allclose(features["norm"], expected, atol=1e-5)
        assert (dx >= 0).all()
        assert (dy[dx == 0] > 0).all()


def test_anisotropy() -> None:
    disc = torch.full((9, 9), 1 / 81)
    for kernel, expected in ((line(9), 1), (disc, 0), (delta(), 0)):
        features = motion_features(KernelField.uniform(kernel, (40, 40)))
        np.testing.assert_allclose(features["anisotropy"], expected, atol=1e-6)


def test_images_smaller_than_the_spacing_get_one_vector() -> None:
    vectors = motion_vectors(KernelField.uniform(line(5), (7, 9)), spacing=32)
    np.testing.assert_allclose(vectors, [[[3, 1.5], [0, 5]]], atol=1e-5)
    with pytest.raises(ValueError, match="spacing must be"):
        motion_vectors(FIELDS["full"], spacing=0)


def test_fields_that_require_gradients_are_measured_too() -> None:
    basis = line(9)[None].requires_grad_()
    field = KernelField(basis, torch.ones(1, 4, 4, requires_grad=True))
    assert blur_map(field).shape == (4, 4)
    assert blur_score(field).shape == blur_extent(field).shape == (4, 4)
    assert motion_vectors(field).shape == (1, 2, 2)
    assert motion_features(field)["norm"].shape == (1,)
    assert kernel_mosaic(field).shape == (4, 4, 4)


@pytest.mark.parametrize(
    "read", [blur_map, blur_mask, blur_score, blur_extent, blur_statistics, motion_regions]
)
def test_reading_a_field_can_be_stopped(read):
    kernel = torch.full((1, 5, 5), 0.04)
    field = KernelField(kernel, torch.ones(1, 2, 2), (600, 600))

    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        read(field, progress=stop)
    told = []
    result = read(field, progress=lambda *report: told.append(report))
    assert told
    expected = read(field)
    if isinstance(expected, dict):
        result, expected = result["extent_mean"], expected["extent_mean"]
    np.testing.assert_array_equal(result, expected)
