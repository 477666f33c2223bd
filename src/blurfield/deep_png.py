"""PNG files with 16 bits a channel and more than one channel.

Pillow reduces such files to 8 bits without a word and cannot write them. PNG (ISO/IEC 15948) is
simple enough to do it here: zlib, and one of five predictors a row.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")

#: Channels of each colour type with more than one channel: RGB, grey and alpha, RGBA.
_CHANNELS = {2: 3, 4: 2, 6: 4}

_PAETH = 4


def is_deep_colour(file: Path) -> bool:
    """Whether a file is a PNG with 16 bits a channel and several channels."""
    with file.open("rb") as stream:
        start = stream.read(33)
    if not start.startswith(_SIGNATURE) or len(start) < 33:
        return False
    _, _, depth, colour, *_ = _HEADER.unpack(start[16:29])
    return depth == 16 and colour in _CHANNELS


def read(file: Path) -> NDArray[np.uint16]:
    """Read a file for which `is_deep_colour` holds.

    Returns
    -------
    numpy.ndarray
        uint16, (H, W, C) with C = 2 (grey and alpha), 3 or 4.

    Raises
    ------
    ValueError
        If the file is damaged or interlaced.
    """
    chunks = list(_chunks(file.read_bytes()))
    width, height, _, colour, _, _, interlace = _HEADER.unpack(chunks[0][1])
    if interlace:
        raise ValueError("interlaced PNG files of 16-bit colours are not supported")
    step = 2 * _CHANNELS[colour]
    packed = b"".join(content for name, content in chunks if name == b"IDAT")
    rows = np.frombuffer(zlib.decompress(packed), np.uint8)
    if rows.size != height * (1 + width * step):
        raise ValueError(f"its {rows.size} bytes do not fit {height}×{width} pixels")
    rows = rows.reshape(height, 1 + width * step)
    pixels = _undo_filters(rows[:, 1:].reshape(height, width, step), rows[:, 0])
    return pixels.view(">u2").astype(np.uint16)


def write(file: Path, image: NDArray[Any]) -> None:
    """Write a uint16 image of shape (H, W, 3) or (H, W, 4)."""
    height, width, channels = image.shape
    samples = np.ascontiguousarray(image, dtype=">u2").view(np.uint8)
    known = np.pad(samples.reshape(height, width, 2 * channels), ((1, 0), (1, 0), (0, 0)))
    residual = known[1:, 1:] - _paeth(known[1:, :-1], known[:-1, 1:], known[:-1, :-1])
    rows = np.full((height, 1 + width * 2 * channels), _PAETH, np.uint8)
    rows[:, 1:] = residual.reshape(height, -1)
    colour = 2 if channels == 3 else 6
    with file.open("wb") as stream:
        stream.write(_SIGNATURE)
        for name, content in (
            (b"IHDR", _HEADER.pack(width, height, 16, colour, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows.tobytes())),
            (b"IEND", b""),
        ):
            check = zlib.crc32(name + content)
            stream.write(struct.pack(">I", len(content)) + name + content)
            stream.write(struct.pack(">I", check))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(_SIGNATURE)
    name = b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + length]
        (check,) = struct.unpack_from(">I", data, position + 8 + length)
        if check != zlib.crc32(name + content):
            raise ValueError("the file is damaged (a checksum is wrong)")
        yield name, content
        position += 12 + length


def _paeth(
    left: NDArray[np.uint8], up: NDArray[np.uint8], corner: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Whichever neighbour is nearest to left + up − corner; ties in that order."""
    a, b, c = (neighbour.astype(np.int16) for neighbour in (left, up, corner))
    to_left, to_up, to_corner = abs(b - c), abs(a - c), abs(a + b - 2 * c)
    up_or_corner = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, up_or_corner)


def _undo_filters(filtered: NDArray[np.uint8], filters: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Decode rows of shape (H, W, bytes a pixel), each by its own filter.

    Each pixel depends on those to the left, above and above left, so all pixels of an
    anti-diagonal are independent of each other: they are decoded at once.
    """
    if filters.max() > _PAETH:
        raise ValueError(f"unknown PNG filter {filters.max()}")
    height, width, step = filtered.shape
    stride = width + 1
    # Flattened with a border of zeros above and to the left, a diagonal is a plain slice.
    flat = np.pad(filtered, ((1, 0), (1, 0), (0, 0))).reshape(-1, step)
    kinds = [filters == kind for kind in range(1, _PAETH + 1)]
    for diagonal in range(height + width - 1):
        first, last = max(0, diagonal - width + 1), min(height - 1, diagonal)
        begin = (first + 1) * stride + diagonal - first + 1
        end = begin + (last - first) * width + 1
        left, up, corner = (flat[begin - k : end - k : width] for k in (1, stride, stride + 1))
        sub, above, average, paeth = (kind[first : last + 1, None] for kind in kinds)
        prediction = left * sub + up * above
        if average.any():
            middle = (left.astype(np.uint16) + up) >> 1
            prediction += middle.astype(np.uint8) * average
        if paeth.any():
            prediction += _paeth(left, up, corner) * paeth
        flat[begin:end:width] += prediction
    return np.ascontiguousarray(flat.reshape(height + 1, stride, step)[1:, 1:])
