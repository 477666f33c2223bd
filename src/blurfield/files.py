"""Image files in and out, each written completely or not at all."""

from __future__ import annotations

import io
import os
import secrets
import stat
import struct
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np

from . import deep_png

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

#: Extensions of image files that `write_image` writes, in lower case.
IMAGE_SUFFIXES = (".jpeg", ".jpg", ".npy", ".png", ".tif", ".tiff")

TIFF_SUFFIXES = {".tif", ".tiff"}
_JPEG_SUFFIXES = {".jpg", ".jpeg"}

#: What decoders raise on files that are damaged or of another kind.
DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    KeyError,
    IndexError,
    struct.error,
    zlib.error,
)

#: Modes of Pillow's that stand for colours which its users do not expect as they are stored.
_CONVERTED_MODES = {
    "CMYK": "RGB",
    "HSV": "RGB",
    "LAB": "RGB",
    "PA": "RGBA",
    "RGBX": "RGB",
    "RGBa": "RGBA",
    "YCbCr": "RGB",
}

#: Float images for 8-bit files are white at 1; results of deblurring go a little beyond.
_LARGEST_OVERSHOOT = 2.0


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file so that it appears complete or not at all.

    Parameters
    ----------
    path : path-like
        The file to make or to replace.

    Yields
    ------
    pathlib.Path
        A new name with the same extension in the same folder. What is written there replaces
        `path` when the block ends; if it raises, the file is removed and `path` is as before.

    Raises
    ------
    OSError
        If the folder does not exist or the file cannot be written; one line that names it.
    """
    target = Path(os.path.realpath(path))  # through a link, rather than replacing it
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {target.parent} does not exist")
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    temporary = target.with_name(f".{target.stem}-{secrets.token_hex(4)}{target.suffix}")
    try:
        # Some libraries make files that nobody else may read: use what the user's settings say.
        temporary.touch(exist_ok=False)
        mode = (target if target.exists() else temporary).stat().st_mode
        temporary.unlink()
        yield temporary
        temporary.chmod(stat.S_IMODE(mode))
        os.replace(temporary, target)
    except PermissionError as error:
        raise PermissionError(f"cannot write {path}: {error.strerror or error}") from error
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


class ArrayFile(io.BufferedRandom):
    """A new file for writing arrays to, on which a full disk is noticed.

    NumPy, and tifffile with it, hands files that have a descriptor to the C library and overlooks
    what goes wrong there: the file would be too short, and nobody would know.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(io.FileIO(path, "w+"))

    def fileno(self) -> int:
        """Have none."""
        raise io.UnsupportedOperation("arrays are written through this object")


def require_file(path: str | os.PathLike[str]) -> Path:
    """Return `path` if it is a file.

    Raises
    ------
    FileNotFoundError
        If there is nothing of that name.
    IsADirectoryError
        If it is a folder.
    """
    file = Path(path)
    if file.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file")
    if not file.exists():
        raise FileNotFoundError(f"there is no file {path}")
    return file


def read_image(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an image file.

    Parameters
    ----------
    path : path-like
        ``.npy`` (without pickled objects), TIFF, or what Pillow reads: PNG, JPEG, WebP, BMP, …

    Returns
    -------
    numpy.ndarray
        (H, W), (H, W, 3) or (H, W, 4), as stored: bool, integers or floats. Palettes and CMYK come
        as RGB, grey with alpha as grey if it is opaque and as RGBA if not; photographs are turned
        upright. TIFF files with other numbers of channels keep their axes.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not an image, is damaged, or holds several frames.
    """
    file = require_file(path)
    suffix = file.suffix.lower()
    try:
        if suffix == ".npy":
            return _read_npy(file)
        if suffix in TIFF_SUFFIXES:
            return _read_tiff(file)
        if suffix == ".png" and deep_png.is_deep_colour(file):
            return _plain_channels(deep_png.read(file))
        return _read_with_pillow(file)
    except PermissionError as error:
        raise PermissionError(f"cannot read {path}: {error.strerror or error}") from error
    except _NotOneFrameError as error:
        raise ValueError(f"{path} {error}") from None
    except DAMAGED as error:
        reason = " ".join(str(error).split())
        if "can not handle the given uri" in reason:
            reason = "it is damaged, or not an image of a known format"
        raise ValueError(f"cannot read {path} as an image: {reason}") from error


def write_image(path: str | os.PathLike[str], image: ArrayLike) -> Path:
    """Write an image file, completely or not at all.

    Parameters
    ----------
    path : path-like
        The extension decides the format: ``.png`` (8 or 16 bits), ``.jpg`` (8 bits, quality 95),
        ``.tif`` and ``.npy`` (any type of real numbers).
    image : array_like
        (H, W), (H, W, 3) or (H, W, 4); ``.tif`` and ``.npy`` take any shape. In PNG and JPEG files
        booleans become 0 and 255, and floats from 0 to 1 become 8 bits.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError
        If the extension is unknown or the format cannot hold such an image.
    OSError
        If the file cannot be written.
    """
    array = np.asarray(image)
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise ValueError(
            f"cannot write {path}: the extension {suffix!r} is not one of "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    if array.dtype.kind not in "buif" or array.size == 0:
        raise ValueError(
            f"cannot write {path}: an array of type {array.dtype} and shape {array.shape} is not "
            "an image"
        )
    if suffix not in TIFF_SUFFIXES | {".npy"}:
        array = _for_display(array, suffix, path)
    with atomic_write(target) as temporary:
        if suffix == ".npy":
            with ArrayFile(temporary) as file:
                np.save(file, array, allow_pickle=False)
        elif suffix in TIFF_SUFFIXES:
            _write_tiff(temporary, array)
        elif suffix in _JPEG_SUFFIXES:
            iio.imwrite(temporary, array, plugin="pillow", quality=95, subsampling=0)
        elif array.ndim == 3 and array.dtype == np.uint16:
            deep_png.write(temporary, array)
        else:
            iio.imwrite(temporary, array, plugin="pillow")
    return target


class _NotOneFrameError(ValueError):
    """The file is intact, but holds a stack or a film."""

    def __init__(self, frames: int) -> None:
        super().__init__(
            f"holds {frames} frames, but one image is expected: save the frame of interest as a "
            "file of its own"
        )


def _read_npy(file: Path) -> NDArray[Any]:
    array = np.load(file, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError("it is an .npz archive, not a single array")
    return array


def _read_tiff(file: Path) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(file) as tif:
        series = [part for part in tif.series if not part.keyframe.is_reduced] or tif.series[:1]
        frames = sum(_frames(part.axes, part.shape) for part in series)
        if frames != 1:
            raise _NotOneFrameError(frames)
        page: Any = series[0].keyframe
        colours, compression = page.photometric.name, page.compression.name
        if colours in {"SEPARATED", "CIELAB"} or not _decodes(page):
            # Pillow converts these, and knows common compressions that tifffile leaves to the
            # package imagecodecs. But it would reduce 16-bit colours to 8 bits.
            if page.bitspersample > 8 and page.samplesperpixel > 1:
                raise ValueError(
                    f"{page.bitspersample}-bit {colours} colours with {compression} compression "
                    "are not supported; save it as uncompressed RGB"
                )
            return _read_with_pillow(file)
        axes, array = _one_frame(series[0].axes, series[0].asarray())
        if colours == "PALETTE":
            palette: NDArray[np.uint8] = (page.colormap >> 8).astype(np.uint8)
            return np.take(palette.T, array, axis=0)
    if colours == "MINISWHITE":
        array = ~array if array.dtype.kind == "b" else np.iinfo(array.dtype).max - array
    if "S" in axes:
        array = np.moveaxis(array, axes.index("S"), -1)
        has_alpha = any(sample in {1, 2} for sample in page.extrasamples)  # TIFF 6.0, p. 31
        return _plain_channels(array) if has_alpha else array
    return array


def _one_frame(axes: str, array: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    """Drop the axes of length 1 of a series with one frame, but keep those of its pixels."""
    kept = [i for i, axis in enumerate(axes) if axis in "YXS" or array.shape[i] > 1]
    return "".join(axes[i] for i in kept), array.reshape([array.shape[i] for i in kept])


def _decodes(page: Any) -> bool:
    """Whether tifffile can decompress a page without imagecodecs."""
    try:
        next(page.segments())
    except ValueError:
        return False
    return True


def _frames(axes: str, shape: tuple[int, ...]) -> int:
    """Number of images in a series of a TIFF file; S are samples and C channels of one image."""
    return int(np.prod([n for axis, n in zip(axes, shape, strict=True) if axis not in "YXSC"]))


def _read_with_pillow(file: Path) -> NDArray[Any]:
    source: Any
    with iio.imopen(file, "r", plugin="pillow") as source:
        frames = source.properties(index=...).n_images or 1
        if frames > 1:
            raise _NotOneFrameError(frames)
        mode = source.metadata(index=0, exclude_applied=False)["mode"]
        array = source.read(index=0, rotate=True, mode=_CONVERTED_MODES.get(mode))
    if mode == "I" and array.min() >= 0 and array.max() <= np.iinfo(np.uint16).max:
        array = array.astype(np.uint16)  # how older versions of Pillow give 16-bit PNG files
    return _plain_channels(array)


def _plain_channels(array: NDArray[Any]) -> NDArray[Any]:
    """Turn grey with alpha into grey if it is opaque, else into RGBA."""
    if array.ndim != 3 or array.shape[2] != 2:
        return array
    grey, alpha = array[..., 0], array[..., 1]
    opaque = 1 if array.dtype.kind == "f" else np.iinfo(array.dtype).max
    if (alpha == opaque).all():
        return np.ascontiguousarray(grey)
    return np.stack([grey, grey, grey, alpha], axis=-1)


def _for_display(array: NDArray[Any], suffix: str, path: str | os.PathLike[str]) -> NDArray[Any]:
    """Return what a PNG or JPEG file can hold of an image."""
    depths = {3} if suffix in _JPEG_SUFFIXES else {3, 4}
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in depths)):
        raise ValueError(
            f"cannot write {path}: {suffix} files hold images of shape (H, W) or (H, W, "
            f"{' or '.join(str(n) for n in sorted(depths))}), not {array.shape}; "
            "use .tif or .npy"
        )
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.max() > _LARGEST_OVERSHOOT:
            raise ValueError(
                f"cannot write {path}: {suffix} files take floats from 0 to 1, but the image has "
                f"values from {array.min():g} to {array.max():g}; scale it, or use .tif or .npy"
            )
        scaled: NDArray[Any] = np.rint(np.clip(array.astype(np.float32), 0, 1) * 255)
        return scaled.astype(np.uint8)
    if array.dtype == np.uint8 or (array.dtype == np.uint16 and suffix == ".png"):
        return array
    raise ValueError(
        f"cannot write {path}: {suffix} files cannot hold values of type {array.dtype}; "
        "use .tif or .npy, or convert the image to uint8"
    )


def _write_tiff(file: Path, array: NDArray[Any]) -> None:
    import tifffile

    options: dict[str, Any] = {"photometric": "minisblack"}
    if array.ndim == 3 and array.shape[2] in (3, 4):
        extra = ["unassalpha"] if array.shape[2] == 4 else None
        options = {"photometric": "rgb", "extrasamples": extra}
    with ArrayFile(file) as opened:
        tifffile.imwrite(opened, array, **options)
