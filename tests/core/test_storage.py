from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from safetensors.torch import save_file

from blurfield.field import KernelField
from blurfield.files import read_image, write_image
from blurfield.storage import FORMAT, import_kernels, load_field, read_kernel, save_field


def random_field(dtype: torch.dtype = torch.float32, **facts: object) -> KernelField:
    generator = torch.Generator().manual_seed(0)
    basis = torch.rand(4, 9, 9, generator=generator, dtype=dtype) ** 5
    mixing = torch.softmax(torch.randn(4, 6, 7, generator=generator, dtype=dtype), 0)
    return KernelField(basis / basis.sum((1, 2), keepdim=True), mixing, (50, 61), facts)


def write_raw(path: Path, header: object = None, **tensors: torch.Tensor) -> Path:
    """Write a file as `save_field` does, but with any content."""
    field = random_field()
    text = header if isinstance(header, str) else json.dumps(header)
    content = {"basis": field.basis, "mixing": field.mixing, **tensors}
    save_file(
        {name: values for name, values in content.items() if values is not None},
        path,
        None if header is None else {"blurfield": text},
    )
    return path


GOOD = {"format": FORMAT, "shape": [50, 61], "metadata": {}}


# ------------------------------------------------------------------- fields


def test_round_trip_is_exact(tmp_path: Path) -> None:
    field = random_field(model="windowed", gamma=2.2, source={"name": "Größe ☂", "n": [1, None]})
    path = save_field(field, tmp_path / "photo.blurfield")
    assert path == tmp_path / "photo.blurfield"
    assert os.listdir(tmp_path) == ["photo.blurfield"]
    back = KernelField.load(path)
    assert torch.equal(back.basis, field.basis)
    assert torch.equal(back.mixing, field.mixing)
    assert back.shape == field.shape
    assert back.metadata == field.metadata


def test_double_precision_is_rounded_to_single(tmp_path: Path) -> None:
    field = random_field(torch.float64)
    back = load_field(field.save(str(tmp_path / "photo.blurfield")))
    assert back.dtype == torch.float32
    torch.testing.assert_close(back.basis, field.basis.float(), rtol=0, atol=0)


def test_half_precision_halves_the_file_and_keeps_the_sums(tmp_path: Path) -> None:
    basis = torch.rand(2, 65, 65)
    mixing = torch.softmax(torch.randn(2, 40, 40), 0)
    field = KernelField(basis / basis.sum((1, 2), keepdim=True), mixing)
    single = save_field(field, tmp_path / "single.blurfield")
    half = save_field(field, tmp_path / "half.blurfield", dtype="float16")
    assert half.stat().st_size < 0.52 * single.stat().st_size
    back = load_field(half)
    assert back.dtype == torch.float32
    torch.testing.assert_close(back.basis, field.basis, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(back.mixing, field.mixing, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(back.basis.sum((1, 2)), torch.ones(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(back.mixing.sum(0), torch.ones(40, 40), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_maps_are_kept(tmp_path: Path, dtype: str) -> None:
    plain = random_field()
    grids = {"uncertainty": torch.rand(5, 4), "kernel_sum": torch.full((50, 61), 1.25)}
    field = KernelField(plain.basis, plain.mixing, plain.shape, maps=grids)
    back = load_field(save_field(field, tmp_path / "photo.blurfield", dtype=dtype))
    assert set(back.maps) == set(grids)
    for name, grid in grids.items():
        assert back.maps[name].dtype == torch.float32
        torch.testing.assert_close(back.maps[name], grid, rtol=1e-3, atol=0)


def test_unknown_tensors_are_ignored_as_earlier_versions_ignore_maps(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "photo.blurfield", GOOD, later=torch.ones(3))
    assert load_field(path).maps == {}


def test_fields_on_views_and_with_gradients_are_saved(tmp_path: Path) -> None:
    field = random_field()
    view = KernelField(
        field.basis.flip(-1).requires_grad_(), field.mixing.permute(0, 2, 1), (61, 50)
    )
    back = load_field(view.save(tmp_path / "view.blurfield"))
    assert torch.equal(back.basis, view.basis)
    assert torch.equal(back.mixing, view.mixing)


def test_saving_replaces_even_the_file_a_field_was_loaded_from(tmp_path: Path) -> None:
    path = random_field().save(tmp_path / "photo.blurfield")
    loaded = load_field(path)
    kept = loaded.basis.clone()
    loaded.with_metadata(edited=True).save(path)
    assert torch.equal(loaded.basis, kept)
    assert load_field(path).metadata == {"edited": True}


def test_unwritable_fields(tmp_path: Path) -> None:
    field = random_field()
    with pytest.raises(FileNotFoundError, match=r"folder .*none does not exist"):
        field.save(tmp_path / "none" / "photo.blurfield")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        field.save(tmp_path)
    with pytest.raises(ValueError, match="'float32' or 'float16', not 'int8'"):
        field.save(tmp_path / "photo.blurfield", dtype="int8")
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(tensors: object, file: Path, metadata: object) -> None:
        Path("/dev/full").write_text("content")

    monkeypatch.setattr("safetensors.torch.save_file", no_space)
    with pytest.raises(OSError, match=r"cannot write .*photo\.blurfield: No space left"):
        random_field().save(tmp_path / "photo.blurfield")


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99])
def test_truncated_fields(tmp_path: Path, share: float) -> None:
    path = random_field().save(tmp_path / "photo.blurfield")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"cannot read .*photo\.blurfield as a kernel field"):
        load_field(path)


@pytest.mark.parametrize(
    "content", [b"Dear reader,\nthis is text.\n" * 9, b"PK\x03\x04" * 99, b"\xff" * 99]
)
def test_foreign_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.blurfield"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or of another kind") as caught:
        load_field(path)
    assert "\n" not in str(caught.value)


def test_missing_fields(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.blurfield"):
        load_field(tmp_path / "none.blurfield")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load_field(tmp_path)


NAN, NEGATIVE = random_field().basis.clone(), random_field().mixing.clone()
NAN[1, 2, 3] = torch.nan
NEGATIVE[0, 1, 2] = -0.5


@pytest.mark.parametrize(
    ("header", "tensors", "message"),
    [
        (None, {}, "safetensors file, but holds no kernel field"),
        ("{broken", {}, "header cannot be read"),
        ([1, 2], {}, "header cannot be read"),
        ({"shape": [50, 61], "metadata": {}}, {}, "header cannot be read .*'format'"),
        ({**GOOD, "metadata": 7}, {}, "header cannot be read"),
        ({**GOOD, "format": FORMAT + 1}, {}, f"newer version .*format {FORMAT + 1}.*update"),
        ({**GOOD, "shape": [0, 61]}, {}, "no valid kernel field: shape"),
        ({**GOOD, "shape": "large"}, {}, "no valid kernel field: shape"),
        (GOOD, {"mixing": None}, "as a kernel field.*mixing"),
        (GOOD, {"basis": torch.ones(4, 9, 9, dtype=torch.int32)}, "basis has the type torch.int32"),
        (GOOD, {"basis": torch.ones(3, 9, 9) / 81}, "3 basis kernels but 4"),
        (GOOD, {"basis": NAN}, r"NaN or infinite, the first at \[1, 2, 3\]"),
        (GOOD, {"basis": NAN.half()}, "NaN or infinite"),
        (GOOD, {"map:depth": torch.ones(3)}, "the map 'depth' must have the shape"),
        (GOOD, {"map:depth": torch.ones(3, 3).int()}, "depth has the type torch.int32"),
        (GOOD, {"mixing": NEGATIVE}, r"negative value -0.5 at \[0, 1, 2\]"),
    ],
)
def test_invalid_fields(tmp_path: Path, header: object, tensors: dict, message: str) -> None:
    path = write_raw(tmp_path / "photo.blurfield", header, **tensors)
    with pytest.raises(ValueError, match=message) as caught:
        load_field(path)
    assert "photo.blurfield" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_format_is_documented_by_a_file_made_by_hand(tmp_path: Path) -> None:
    header = json.dumps(
        {
            "__metadata__": {
                "blurfield": '{"format": 1, "shape": [8, 6], "metadata": {"model": "hand"}}'
            },
            "basis": {"dtype": "F32", "shape": [1, 1, 1], "data_offsets": [0, 4]},
            "mixing": {"dtype": "F32", "shape": [1, 1, 1], "data_offsets": [4, 8]},
        }
    ).encode()
    path = tmp_path / "hand.blurfield"
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<ff", 1, 1))
    field = load_field(path)
    assert (field.shape, field.kernel_size, field.metadata) == ((8, 6), 1, {"model": "hand"})


# ------------------------------------------------------------------- kernels


def hook(height: int = 7, width: int = 9) -> np.ndarray:
    """Return a kernel with its centre of mass at the middle pixel and no symmetry."""
    kernel = np.zeros((height, width))
    y, x = height // 2, width // 2
    kernel[y, x - 2 : x + 2] = [2, 2, 2, 2]
    kernel[y - 1 : y + 2, x + 1] = [1, 2, 1]
    return kernel


def test_the_same_kernel_from_every_kind_of_file(tmp_path: Path) -> None:
    kernel = hook()
    np.save(tmp_path / "kernel.npy", kernel)
    np.savez(tmp_path / "kernel.npz", kernel)
    scipy.io.savemat(tmp_path / "kernel.mat", {"f": kernel, "note": "text", "size": 7.0})
    picture = (kernel * 126).astype(np.uint8)
    write_image(tmp_path / "grey.png", picture)
    write_image(tmp_path / "rgb.png", np.repeat(picture[..., None], 3, axis=2))
    write_image(tmp_path / "deep.tif", picture.astype(np.uint16) * 256)
    expected = np.zeros((9, 9))
    expected[1:8] = kernel[::-1, ::-1] / kernel.sum()
    for name in os.listdir(tmp_path):
        result = read_kernel(tmp_path / name)
        assert result.dtype == torch.float32
        np.testing.assert_allclose(result, expected, atol=1e-7, err_msg=name)


def test_correlation_kernels_are_not_rotated(tmp_path: Path) -> None:
    np.save(tmp_path / "kernel.npy", hook(9, 9))
    kernel = read_kernel(tmp_path / "kernel.npy", psf=False)
    np.testing.assert_allclose(kernel, hook(9, 9) / hook().sum(), atol=1e-7)
    rotated = read_kernel(tmp_path / "kernel.npy")
    np.testing.assert_allclose(kernel.flip(0, 1), rotated)


@pytest.mark.parametrize("shift", [(0, 0), (-2, 0), (1, 2), (0, -2)])
def test_the_centre_of_mass_comes_to_the_middle(tmp_path: Path, shift: tuple[int, int]) -> None:
    kernel = np.pad(hook(), 2)
    np.save(tmp_path / "kernel.npy", np.roll(kernel, shift, (0, 1)))
    result = read_kernel(tmp_path / "kernel.npy", psf=False)
    assert result.shape == (13, 13)
    np.testing.assert_allclose(result[3:10, 2:11], hook() / hook().sum(), atol=1e-6)
    kept = read_kernel(tmp_path / "kernel.npy", psf=False, centre=False)
    np.testing.assert_allclose(kept, result.roll(shift, (0, 1)), atol=1e-6)


def test_nothing_is_lost_by_centring(tmp_path: Path) -> None:
    kernel = np.zeros((5, 12))
    kernel[0, 0], kernel[4, 11] = 9, 1
    np.save(tmp_path / "kernel.npy", kernel)
    result = read_kernel(tmp_path / "kernel.npy", psf=False)
    assert result.shape == (21, 21)
    assert sorted(result[result > 0].tolist()) == pytest.approx([0.1, 0.9])


@pytest.mark.parametrize(("side", "size"), [(4, 5), (5, 5), (1, 1), (2, 3)])
def test_even_sides_become_odd(tmp_path: Path, side: int, size: int) -> None:
    kernel = np.zeros((side, side))
    kernel[side // 2, side // 2] = 1
    np.save(tmp_path / "kernel.npy", kernel)
    for psf in (True, False):
        result = read_kernel(tmp_path / "kernel.npy", psf=psf, centre=False)
        assert result.shape == (size, size)
        assert result[size // 2, size // 2] == 1


def test_choosing_among_arrays(tmp_path: Path) -> None:
    path = tmp_path / "kernels.npz"
    np.savez(path, f=hook(), x=np.ones((200, 300)), n=np.ones((1, 1)), list=np.ones((1, 9)))
    np.testing.assert_array_equal(read_kernel(path), read_kernel(path, name="f"))
    assert read_kernel(path, name="list").shape == (9, 9)
    np.savez(path, one=hook(), two=hook().T, three=np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=r"several arrays .*: one, two; choose one by name="):
        read_kernel(path)
    with pytest.raises(ValueError, match=r"no array named 'four'; it holds one .*two .*three"):
        read_kernel(path, name="four")
    with pytest.raises(ValueError, match=r"no 2-D array .* three \(2, 3, 4\) float64"):
        read_kernel(path, name="three")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[1.0, np.nan]]), "NaN or infinite"),
        (np.array([[1.0, -0.25]]), "negative values, down to -0.25"),
        (np.zeros((3, 3)), "zero everywhere"),
        (np.ones((3, 3), complex), "no 2-D array of real numbers"),
        (np.ones((3, 3, 3)), r"no 2-D array .* \(3, 3, 3\)"),
        (np.ones((1200, 800)), "1200×800.*photograph"),
        (np.array([[{}]]), "cannot read kernels from"),
    ],
)
def test_arrays_that_are_no_kernels(tmp_path: Path, values: np.ndarray, message: str) -> None:
    np.save(tmp_path / "kernel.npy", values, allow_pickle=True)
    with pytest.raises(ValueError, match=message) as caught:
        read_kernel(tmp_path / "kernel.npy")
    assert "kernel.npy" in str(caught.value)


def test_negative_rounding_errors_are_forgiven(tmp_path: Path) -> None:
    np.save(tmp_path / "kernel.npy", np.array([[-1e-9, 1.0, 0.0]]))
    assert read_kernel(tmp_path / "kernel.npy").min() == 0


@pytest.mark.parametrize("suffix", [".mat", ".npy", ".npz", ".png"])
@pytest.mark.parametrize("content", [b"", b"Dear reader,\nthis is text.\n" * 9])
def test_files_that_are_no_kernels(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"kernel{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*kernel\.") as caught:
        read_kernel(path)
    assert "\n" not in str(caught.value)


def test_matlab_7_3_files_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "kernel.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    with pytest.raises(ValueError, match=r"MATLAB 7\.3 \(HDF5\) file; save it with -v7"):
        read_kernel(path)


def test_truncated_mat_files(tmp_path: Path) -> None:
    path = tmp_path / "kernel.mat"
    for compressed in (False, True):
        scipy.io.savemat(
            path, {"k": np.random.default_rng(0).random((30, 30))}, do_compression=compressed
        )
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(ValueError, match=r"cannot read .*kernel\.mat"):
            read_kernel(path)


def test_missing_kernels(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_kernel(tmp_path / "none.mat")


def test_imported_fields_are_uniform_and_say_where_they_are_from(tmp_path: Path) -> None:
    np.savez(tmp_path / "kernels.npz", a=hook(), b=hook().T)
    field = import_kernels(tmp_path / "kernels.npz", (30, 40), name="b", psf=False)
    assert (field.shape, field.num_kernels, field.kernel_size) == ((30, 40), 1, 9)
    torch.testing.assert_close(
        field.kernel_at(29, 39), read_kernel(tmp_path / "kernels.npz", name="b", psf=False)
    )
    assert field.metadata["model"] == "imported"
    assert field.metadata["source"] == "kernels.npz"
    assert field.metadata["parameters"] == {"name": "b", "psf": False, "centre": True}


def test_kernels_of_levin_blur_as_in_their_photographs(shared: Path) -> None:
    folder = shared / "data" / "test" / "levin"
    sharp, blurry = (
        torch.from_numpy(read_image(folder / name) / 255.0)
        for name in ("im1_gt.png", "im1_kernel4.png")
    )

    def error(psf: bool) -> float:
        kernel = read_kernel(folder / "kernel4.png", psf=psf).double()
        again = torch.nn.functional.conv2d(sharp[None, None], kernel[None, None])[0, 0]
        edge = (sharp.shape[0] - again.shape[0]) // 2
        best = torch.inf
        for y in range(-3, 4):  # centring moved the kernel by some pixels
            for x in range(-3, 4):
                part = blurry.roll((y, x), (0, 1))[edge:-edge, edge:-edge]
                best = min(best, float((part - again).square().mean()))
        return best

    assert error(psf=True) < 0.3 * error(psf=False)
