from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from PIL import Image

from blurfield import deep_png
from blurfield.files import IMAGE_SUFFIXES, atomic_write, read_image, write_image

if TYPE_CHECKING:
    from pathlib import Path


def noise(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    generator = np.random.default_rng(sum(shape))
    if dtype == "bool":
        return generator.random(shape) > 0.5
    if np.dtype(dtype).kind == "f":
        return generator.random(shape).astype(dtype)
    return generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("shape", [(9, 13), (9, 13, 3), (9, 13, 4), (1, 13), (9, 3)])
@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        (".png", "uint8"),
        (".png", "uint16"),
        *((".tif", kind) for kind in ("uint8", "uint16", "int32", "float16", "float32", "float64")),
        *((".npy", kind) for kind in ("bool", "uint8", "uint16", "float32")),
        (".PNG", "uint8"),
        (".TIFF", "uint8"),
    ],
)
def test_round_trip(tmp_path: Path, suffix: str, dtype: str, shape: tuple[int, ...]) -> None:
    image = noise(shape, dtype)
    path = write_image(tmp_path / f"image{suffix}", image)
    back = read_image(path)
    assert back.dtype == image.dtype
    np.testing.assert_array_equal(back, image)
    assert os.listdir(tmp_path) == [path.name]  # no temporary file is left


@pytest.mark.parametrize("shape", [(32, 48), (32, 48, 3)])
def test_jpeg_keeps_smooth_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    ramp = np.linspace(0, 255, 48).astype(np.uint8)
    image = np.zeros(shape, np.uint8)
    image[:] = ramp if len(shape) == 2 else ramp[:, None]
    back = read_image(write_image(tmp_path / "image.jpg", image))
    assert back.shape == shape
    assert abs(back.astype(int) - image).max() <= 3


def test_masks_and_floats_become_8_bits_in_png(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    np.testing.assert_array_equal(
        read_image(write_image(path, np.array([[True, False]]))), [[255, 0]]
    )
    floats = np.array([[-0.1, 0.0, 0.5, 1.0, 1.2]], np.float32)
    np.testing.assert_array_equal(
        read_image(write_image(path, floats)), np.array([[0, 0, 128, 255, 255]])
    )


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, "mixed"])
def test_every_png_filter_is_undone(kind: int | str) -> None:
    height, width, step = 7, 5, 6
    pixels = noise((height, width * step)).astype(int)
    rows = np.empty((height, 1 + width * step), np.uint8)
    for y in range(height):  # the standard's definition, byte by byte
        rows[y, 0] = y % 5 if kind == "mixed" else kind
        for x in range(width * step):
            left = pixels[y, x - step] if x >= step else 0
            up = pixels[y - 1, x] if y else 0
            corner = pixels[y - 1, x - step] if y and x >= step else 0
            nearest = min((left, up, corner), key=lambda n: abs(left + up - corner - n))
            prediction = (0, left, up, (left + up) // 2, nearest)[rows[y, 0]]
            rows[y, 1 + x] = (pixels[y, x] - prediction) % 256
    decoded = deep_png._undo_filters(rows[:, 1:].reshape(height, width, step), rows[:, 0])
    np.testing.assert_array_equal(decoded.reshape(height, -1), pixels)


def test_16_bit_colours_are_what_other_programs_read(tmp_path: Path) -> None:
    image = noise((20, 31, 3), "uint16")
    path = write_image(tmp_path / "deep.png", image)
    assert deep_png.is_deep_colour(path)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), image >> 8)


def test_damaged_16_bit_png(tmp_path: Path) -> None:
    path = write_image(tmp_path / "deep.png", noise((20, 31, 3), "uint16"))
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:200])
    with pytest.raises(ValueError, match=r"cannot read .*deep\.png"):
        read_image(path)
    data[100] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        read_image(path)


def picture() -> Image.Image:
    return Image.fromarray(noise((20, 30, 3)))


def test_palette_comes_as_rgb(tmp_path: Path) -> None:
    paletted = picture().quantize(16)
    for name in ("image.png", "image.tif", "image.gif"):
        paletted.save(tmp_path / name)
        np.testing.assert_array_equal(
            read_image(tmp_path / name), np.asarray(paletted.convert("RGB"))
        )


def test_grey_with_alpha(tmp_path: Path) -> None:
    image = picture().convert("LA")
    image.save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read_image(tmp_path / "opaque.png"), np.asarray(image)[..., 0])
    image.putpixel((3, 4), (50, 100))
    image.save(tmp_path / "clear.png")
    clear = read_image(tmp_path / "clear.png")
    assert clear.shape == (20, 30, 4)
    assert clear[4, 3].tolist() == [50, 50, 50, 100]
    two = noise((20, 30, 2))
    tifffile.imwrite(
        tmp_path / "clear.tif", two, photometric="minisblack", extrasamples=["unassalpha"]
    )
    np.testing.assert_array_equal(read_image(tmp_path / "clear.tif"), two[..., [0, 0, 0, 1]])


def test_cmyk_comes_as_rgb(tmp_path: Path) -> None:
    picture().convert("CMYK").save(tmp_path / "image.jpg")
    picture().convert("CMYK").save(tmp_path / "image.tif")
    assert read_image(tmp_path / "image.jpg").shape == (20, 30, 3)
    np.testing.assert_array_equal(read_image(tmp_path / "image.tif"), np.asarray(picture()))


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    orientation = Image.Exif()
    orientation[0x112] = 6
    picture().save(tmp_path / "image.png", exif=orientation)
    np.testing.assert_array_equal(
        read_image(tmp_path / "image.png"), np.rot90(np.asarray(picture()), -1)
    )


def test_tiff_variants(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        picture().save(path, compression=compression)
        np.testing.assert_array_equal(read_image(path), np.asarray(picture()))
    planar = noise((3, 9, 13))
    tifffile.imwrite(path, planar, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(path), planar.transpose(1, 2, 0))
    inverted = noise((9, 13))
    tifffile.imwrite(path, inverted, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(path), 255 - inverted)
    channels = noise((2, 9, 13), "uint16")
    tifffile.imwrite(path, channels, imagej=True, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(read_image(path), channels)


def test_several_frames_are_refused_with_their_number(tmp_path: Path) -> None:
    frames = [picture().rotate(angle) for angle in (0, 90, 180)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    tifffile.imwrite(tmp_path / "stack.tif", noise((5, 9, 13)), photometric="minisblack")
    for name, count in (("film.gif", 3), ("stack.tif", 5)):
        with pytest.raises(ValueError, match=f"{name} holds {count} frames"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["text.png", "text.jpg", "text.tif", "text.npy", "text", "a.txt"])
@pytest.mark.parametrize("content", [b"", b"Dear reader,\nthis is no image.\n"])
def test_text_is_no_image(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"cannot read .*{name} as an image") as caught:
        read_image(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".npy"])
def test_truncated_files(tmp_path: Path, suffix: str) -> None:
    path = write_image(tmp_path / f"image{suffix}", noise((40, 50, 3)))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="cannot read"):
        read_image(path)


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    np.savez(tmp_path / "several.npz", noise((2, 2)))
    (tmp_path / "several.npz").rename(tmp_path / "several.npy")
    for name in ("objects.npy", "several.npy"):
        with pytest.raises(ValueError, match=f"cannot read .*{name}"):
            read_image(tmp_path / name)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.png"):
        read_image(tmp_path / "none.png")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("image.xyz", np.zeros((2, 2)), r"'\.xyz' is not one of .*\.png"),
        ("image", np.zeros((2, 2)), "extension '' is not"),
        ("image.png", np.zeros((2, 2), complex), "complex128"),
        ("image.png", np.zeros((0, 2)), r"\(0, 2\)"),
        ("image.png", np.zeros((2, 2, 5), np.uint8), r"\(H, W, 3 or 4\), not \(2, 2, 5\)"),
        ("image.jpg", np.zeros((2, 2, 4), np.uint8), r"\(H, W, 3\), not \(2, 2, 4\)"),
        ("image.jpg", np.zeros((2, 2), np.uint16), "uint16"),
        ("image.png", np.zeros((2, 2), np.int32), "int32"),
        ("image.png", np.full((2, 2), 255.0), "from 255 to 255"),
        ("image.png", np.full((2, 2), np.nan), "nan"),
    ],
)
def test_images_that_a_format_cannot_hold(
    tmp_path: Path, name: str, image: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_image(tmp_path / name, image)
    assert not os.listdir(tmp_path)


def test_unwritable_places(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"folder .*none does not exist"):
        write_image(tmp_path / "none" / "image.png", noise((2, 2)))
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        write_image(tmp_path / "folder.png", noise((2, 2)))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.bin"]
    with pytest.raises(OSError, match=r"cannot write .*file\.bin: No space"), atomic_write(path):
        raise OSError(28, "No space left on device")


def test_links_are_written_through(tmp_path: Path) -> None:
    target, link = tmp_path / "target.npy", tmp_path / "link.npy"
    target.touch()
    link.symlink_to(target)
    write_image(link, noise((2, 2)))
    assert link.is_symlink()
    np.testing.assert_array_equal(read_image(target), noise((2, 2)))


def test_all_suffixes_are_lower_case() -> None:
    assert all(suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_files_may_be_read_by_those_whom_the_user_lets(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    plain = tmp_path / "plain"
    plain.touch()

    def write() -> None:
        with atomic_write(path) as temporary:
            temporary.touch(0o600)

    write()
    assert path.stat().st_mode == plain.stat().st_mode
    path.chmod(0o640)
    write()
    assert path.stat().st_mode & 0o777 == 0o640
