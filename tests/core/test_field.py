from __future__ import annotations

import numpy as np
import pytest
import torch
from conformance import F64, kern, maps

from blurfield import Cancelled
from blurfield.field import KernelField

FIELD = KernelField(kern(4, 9), maps(4, 40, 36))


def coarse(shape=(33, 50), cells=(5, 7), seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, *cells, generator=generator, dtype=F64)
    return KernelField(kern(4, 9), logits.softmax(0), shape)


class TestReading:
    def test_coarse_grid_is_bilinear_with_half_pixel_centres(self):
        field = coarse()
        expected = torch.nn.functional.interpolate(
            field.mixing[None], field.shape, mode="bilinear", align_corners=False
        )[0]
        assert torch.allclose(field.full_mixing(), expected, atol=1e-14)
        block = field.mixing_block(slice(7, 20), slice(31, 50))
        assert torch.allclose(block, expected[:, 7:20, 31:], atol=1e-14)

    def test_points_agree_with_the_full_maps(self):
        field = coarse()
        points = [(0, 0), (32, 49), (10, 20), (17, 3)]
        full = field.full_mixing()
        for (y, x), weights in zip(points, field.mixing_at(points), strict=True):
            assert torch.allclose(weights, full[:, y, x], atol=1e-14)

    def test_kernel_at_is_the_mixture(self):
        expected = (FIELD.mixing[:, 5, 7, None, None] * FIELD.basis).sum(0)
        assert torch.allclose(FIELD.kernel_at(5, 7), expected)

    def test_kernels_stay_convex(self):
        points = torch.rand(100, 2, generator=torch.Generator().manual_seed(0)) * 30
        kernels = coarse().kernels_at(points)
        assert kernels.min() >= 0
        assert torch.allclose(kernels.sum((1, 2)), torch.ones(100, dtype=F64))

    def test_mean_kernel(self):
        field = coarse()
        full = torch.einsum("byx,bij->ij", field.full_mixing(), field.basis) / (33 * 50)
        assert torch.allclose(field.mean_kernel(), full)

    def test_points_outside(self):
        with pytest.raises(ValueError, match=r"point \(y=40, x=0\) lies outside the image"):
            FIELD.kernel_at(40, 0)

    def test_l2_norms(self):
        delta = torch.zeros(5, 5)
        delta[2, 2] = 1
        line = torch.zeros(5, 5)
        line[2, :4] = 0.25
        field = KernelField(torch.stack([delta, line]), torch.full((2, 8, 8), 0.5))
        assert field.l2_norms().tolist() == pytest.approx([1, 0.5])


class TestDerivedFields:
    @pytest.mark.parametrize("field", [FIELD, coarse()])
    def test_crop_keeps_kernels(self, field):
        part = field.crop((3, 11), (20, 18))
        assert part.shape == (20, 18)
        assert torch.allclose(part.kernel_at(4, 5), field.kernel_at(7, 16))

    def test_crop_of_a_uniform_field_stays_small(self):
        field = KernelField.uniform(kern(1, 9)[0], (500, 400)).crop((10, 10), (100, 100))
        assert field.mixing.shape == (1, 1, 1)
        assert field.shape == (100, 100)

    def test_crop_beyond_the_image(self):
        with pytest.raises(ValueError, match="beyond the image"):
            FIELD.crop((30, 0), (20, 10))

    @pytest.mark.parametrize("factor", [0.5, 2, 3])
    def test_resize_scales_kernels(self, factor):
        line = torch.zeros(21, 21, dtype=F64)
        line[10, 4:17] = 1 / 13
        shape = (round(48 * factor), round(60 * factor))
        field = KernelField.uniform(line, (48, 60)).resize(shape)
        kernel = field.basis[0]
        offsets = torch.arange(field.kernel_size, dtype=F64) - field.kernel_size // 2
        profile = kernel.sum(0)
        assert kernel.sum() == pytest.approx(1)
        assert (profile * offsets).sum() == pytest.approx(0, abs=1e-9)
        spread = (profile * offsets**2).sum().sqrt()
        assert float(spread) == pytest.approx(factor * (14**0.5), rel=0.05)

    def test_rotated_twice_is_the_same(self):
        assert torch.equal(FIELD.rotated().rotated().basis, FIELD.basis)
        assert not torch.equal(FIELD.rotated().basis, FIELD.basis)

    def test_metadata_is_a_copy(self):
        field = FIELD.with_metadata(model="windowed", parameters={"a": [1, 2]})
        field.metadata["parameters"]["a"].append(3)
        assert field.metadata == {"model": "windowed", "parameters": {"a": [1, 2]}}
        assert FIELD.metadata == {}

    def test_numpy_input_is_copied(self):
        mixing = np.ones((1, 4, 4), np.float32)
        field = KernelField(np.full((1, 3, 3), 1 / 9), mixing)
        mixing[:] = 0
        assert field.mixing.min() == 1

    def test_denormal_weights_become_zero(self):
        mixing = torch.tensor([1.0, 1e-40])[:, None, None]
        assert KernelField(kern(2, 3).float(), mixing).mixing[1].item() == 0

    def test_one_tap(self):
        taps = torch.eye(9).reshape(9, 3, 3)
        assert KernelField(taps, torch.full((9, 5, 5), 1 / 9)).is_one_tap
        assert not FIELD.is_one_tap


class TestCompression:
    def test_redundant_basis_is_found(self):
        generator = torch.Generator().manual_seed(0)
        weights = torch.rand(12, 4, generator=generator, dtype=F64)
        weights[:4] = torch.eye(4)
        weights = weights / weights.sum(1, keepdim=True)
        basis = torch.einsum("nb,bij->nij", weights, kern(4, 9))
        # Each true kernel stands alone somewhere, as with segments.
        mixing = torch.zeros(12, 20, 30, dtype=F64)
        labels = torch.randint(12, (20, 30), generator=generator)
        mixing.scatter_(0, labels[None], 1.0)
        field = KernelField(basis, mixing)
        small = field.compress(rank=4)
        assert small.num_kernels == 4
        assert small.metadata["compression"]["relative_error"] < 0.01
        distance = small.kernel_at(5, 5) - field.kernel_at(5, 5)
        assert distance.norm() < 0.02 * field.kernel_at(5, 5).norm()

    def test_dense_field(self):
        taps = torch.eye(25).reshape(25, 5, 5)
        mixing = torch.einsum("bij,byx->ijyx", kern(3, 5), maps(3, 30, 30)).reshape(25, 30, 30)
        field = KernelField(taps, mixing.float())
        small = field.compress(rank=3)
        assert small.num_kernels == 3
        assert small.metadata["compression"]["relative_error"] < 0.05

    def test_error_is_the_true_one(self):
        small = FIELD.compress(rank=2)
        points = [(y, x) for y in range(40) for x in range(36)]
        distance = (small.kernels_at(points) - FIELD.kernels_at(points)).square().sum((1, 2))
        error = small.metadata["compression"]["rms_error"]
        assert error == pytest.approx(float(distance.mean().sqrt()))
        assert error > 0

    def test_tolerance_takes_the_fewest(self):
        loose = FIELD.compress(tol=1.0)
        assert loose.num_kernels == 1
        exact = FIELD.compress(tol=0.0)
        assert exact.num_kernels == 4

    def test_can_be_cancelled(self):
        def stop(done, total, message):
            raise Cancelled

        with pytest.raises(Cancelled):
            FIELD.compress(rank=2, progress=stop)

    def test_enough_already(self):
        small = FIELD.compress(rank=25)
        assert torch.equal(small.basis, FIELD.basis)
        assert small.metadata["compression"]["rms_error"] == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize("arguments", [{"rank": 0}, {"tol": -1.0}])
    def test_bad_arguments(self, arguments):
        with pytest.raises(ValueError, match="must"):
            FIELD.compress(**arguments)


class TestMaps:
    UNCERTAINTY = torch.linspace(0, 1, 6, dtype=F64).reshape(2, 3)

    def field(self, cells=(5, 7)):
        plain = coarse(cells=cells)
        maps = {"uncertainty": self.UNCERTAINTY, "kernel_sum": torch.ones(33, 50) * 1.5}
        return KernelField(plain.basis, plain.mixing, plain.shape, {"model": "ufp"}, maps)

    def test_are_read_like_the_mixing_on_grids_of_their_own(self):
        field = self.field()
        expected = torch.nn.functional.interpolate(
            self.UNCERTAINTY[None, None], (33, 50), mode="bilinear", align_corners=False
        )[0, 0]
        torch.testing.assert_close(field.full_map("uncertainty"), expected)
        assert field.maps["uncertainty"].shape == (2, 3)
        assert field.maps["kernel_sum"].dtype == F64
        assert torch.equal(field.full_map("kernel_sum"), torch.full((33, 50), 1.5, dtype=F64))

    def test_the_dictionary_is_a_copy(self):
        field = self.field()
        field.maps.clear()
        assert set(field.maps) == {"uncertainty", "kernel_sum"}
        assert FIELD.maps == {}

    @pytest.mark.parametrize(
        "derive",
        [
            lambda f: f.to(dtype=torch.float32),
            lambda f: f.rotated(),
            lambda f: f.with_mixing(f.mixing),
            lambda f: f.with_metadata(a=1),
            lambda f: f.resize((66, 25)),
            lambda f: f.compress(2),
            lambda f: f.compress(25),
        ],
    )
    def test_go_along(self, derive):
        derived = derive(self.field())
        assert set(derived.maps) == {"uncertainty", "kernel_sum"}
        assert derived.maps["uncertainty"].dtype == derived.dtype
        torch.testing.assert_close(derived.maps["uncertainty"].double(), self.UNCERTAINTY)
        assert derived.full_map("uncertainty").shape == derived.shape

    def test_are_cropped_with_the_image(self):
        for field in (self.field(), self.field(cells=(1, 1))):
            part = field.crop((3, 10), (20, 30))
            expected = field.full_map("uncertainty")[3:23, 10:40]
            torch.testing.assert_close(part.full_map("uncertainty"), expected)

    def test_unknown_maps(self):
        with pytest.raises(KeyError, match="no map 'depth'; it has uncertainty, kernel_sum"):
            self.field().full_map("depth")
        with pytest.raises(KeyError, match="it has none"):
            FIELD.full_map("depth")

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (np.zeros((1, 4, 4)), r"must have the shape \(h, w\)"),
            (np.zeros((0, 4)), "neither of them 0"),
            (np.array([[0, np.nan]]), r"1 values are NaN or infinite, the first at \[0, 1\]"),
        ],
    )
    def test_bad_maps(self, values, message):
        with pytest.raises(ValueError, match=f"the map 'depth'.*{message}"):
            KernelField(GOOD_BASIS, GOOD_MIXING, maps={"depth": values})

    def test_bad_types(self):
        with pytest.raises(TypeError, match="must be text, but one is 3"):
            KernelField(GOOD_BASIS, GOOD_MIXING, maps={3: np.zeros((4, 4))})
        with pytest.raises(TypeError, match="the map 'depth' must hold real numbers"):
            KernelField(GOOD_BASIS, GOOD_MIXING, maps={"depth": np.ones((4, 4), complex)})


GOOD_BASIS, GOOD_MIXING = kern(2, 5).numpy(), maps(2, 8, 9).numpy()


def altered(array, index, value):
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("basis", "mixing", "shape", "message"),
    [
        (GOOD_BASIS[0], GOOD_MIXING, None, r"basis must have the shape \(B, K, K\)"),
        (np.full((2, 4, 4), 1 / 16), GOOD_MIXING, None, "K odd"),
        (GOOD_BASIS, GOOD_MIXING[0], None, r"mixing must have the shape \(B, h, w\)"),
        (GOOD_BASIS, GOOD_MIXING[:1], None, "2 basis kernels but 1 mixing maps"),
        (altered(GOOD_BASIS, (1, 2, 3), np.nan), GOOD_MIXING, None, r"first at \[1, 2, 3\]"),
        (altered(GOOD_BASIS, (1, 2, 3), -0.1), GOOD_MIXING, None, r"negative value -0.1 at"),
        (GOOD_BASIS * 1.01, GOOD_MIXING, None, r"basis kernel \[.\]: sum is 1.01"),
        (GOOD_BASIS, altered(GOOD_MIXING, (0, 3, 4), np.inf), None, r"at \[0, 3, 4\]"),
        (GOOD_BASIS, altered(GOOD_MIXING, (0, 3, 4), 2.0), None, r"coefficients \[3, 4\]: sum is"),
        (GOOD_BASIS, GOOD_MIXING, (0, 4), "shape must be"),
        (GOOD_BASIS, GOOD_MIXING, 7, "shape must be"),
    ],
)
def test_bad_fields_name_the_offence(basis, mixing, shape, message):
    with pytest.raises(ValueError, match=message):
        KernelField(basis, mixing, shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GOOD_BASIS.astype(complex), GOOD_MIXING), "basis must hold real numbers"),
        ((GOOD_BASIS, GOOD_MIXING.astype(object)), "mixing must hold real numbers"),
        ((GOOD_BASIS, GOOD_MIXING, None, {"a": object()}), "metadata must be plain JSON"),
    ],
)
def test_bad_types(arguments, message):
    with pytest.raises(TypeError, match=message):
        KernelField(*arguments)


def test_wide_blocks_read_the_same_as_small_ones():
    field = coarse(shape=(400, 900), cells=(300, 700))
    rows, cols = slice(0, 400), slice(0, 900)
    wide = field.mixing_block(rows, cols)
    small = field.mixing_block(slice(100, 110), slice(640, 660))
    assert torch.allclose(wide[:, 100:110, 640:660], small, atol=1e-14)
