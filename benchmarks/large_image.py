"""Deblurring of an image of many megapixels: time, memory, and seams between its parts.

    python benchmarks/large_image.py [--side 8192] [--method tikhonov] [--memory 4] [--threads 2]
        [--scratch DIR] [--json]

The image is grey with 16 bits and lies on disk: texture of all sizes, blurred by a rotating camera
(kernels of 33 pixels, 1 % noise). It is deblurred with the true field in a process of its own,
whose peak resident size is taken, all included. Then squares of the image are deblurred whole, each
around a place where parts meet, with a margin of sixteen kernels and with the noise of the image;
the middle of each is compared with the large result. Differences are relative to white.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blur_operator import resident_peak
from blurfield import KernelField, deblur, reblur, simulate
from estimation_speed import photograph

KERNEL = 33
WHITE = 65535
#: The image is made of so many equal squares along each side, each turned its own way.
BLOCKS = 4
#: Sides of the squares that are compared, and what is left out around them.
INSIDE, MARGIN = 192, 16 * KERNEL


def make(folder: Path, side: int) -> None:
    """Write the blurry image and its field."""
    block = side // BLOCKS
    part = photograph(block, block).astype(np.float32).mean(-1) / 255
    turned = [[np.rot90(part, row + col) for col in range(BLOCKS)] for row in range(BLOCKS)]
    _, field = simulate(
        np.zeros((256, 256), np.float32), kind="rotation", kernel_size=KERNEL, seed=1
    )
    field = KernelField(field.basis, field.mixing, (side, side), field.metadata)
    field.save(folder / "true.blurfield")
    image = np.lib.format.open_memmap(
        folder / "blurry.npy", mode="w+", dtype=np.uint16, shape=(side, side)
    )
    noise = np.random.default_rng(0)
    sharp = np.block(turned)
    for row in range(BLOCKS):  # with their surroundings, so that blocks meet without seams
        top, bottom = max(0, row * block - KERNEL), min(side, (row + 1) * block + KERNEL)
        local = field.crop((top, 0), (bottom - top, side))
        blurry = reblur(sharp[top:bottom], local, gamma=1)[row * block - top :][:block]
        blurry = 0.05 + 0.85 * blurry + 0.01 * noise.standard_normal(blurry.shape)
        image[row * block : (row + 1) * block] = np.rint(WHITE * blurry.clip(0, 1))
    image.flush()


def restore(folder: Path, method: str, memory: int, threads: int) -> dict[str, Any]:
    """Deblur the image; to be run in a process of its own."""
    torch.set_num_threads(threads)
    image = np.load(folder / "blurry.npy", mmap_mode="r")
    field = KernelField.load(folder / "true.blurfield")
    libraries = resident_peak() / 1024
    start = time.perf_counter()
    sharp, info = deblur(image, field, method, memory=memory, return_info=True)
    figures = {
        "seconds": time.perf_counter() - start,
        "peak_MiB": resident_peak() / 1024,
        "libraries_MiB": libraries,
        "tiles": info.get("tiles", 1),
    }
    np.save(folder / "sharp.npy", sharp)
    return figures


def seams(folder: Path, method: str, tiles: int) -> float:
    """Return the greatest difference from squares that were deblurred whole, white = 1."""
    from blurfield.image_parts import ImageParts
    from blurfield.restoration.noise import block_step, resolve_noise

    image = np.load(folder / "blurry.npy", mmap_mode="r")
    sharp = np.load(folder / "sharp.npy", mmap_mode="r")
    field = KernelField.load(folder / "true.blurfield")
    side = image.shape[0]
    sample = ImageParts(image).sparse_blocks(block_step(1, side, side))
    noise = [(model.gain, model.floor**0.5) for model in resolve_noise("auto", sample)]
    worst = 0.0
    # However many parts lie along each axis, a corner where four of them meet is among these.
    for rows in (n for n in range(1, tiles + 1) if tiles % n == 0):
        spans = [around(side, count) for count in (rows, tiles // rows)]
        seen, there = (tuple(span[which] for span in spans) for which in (0, 1))
        square = np.ascontiguousarray(image[seen])
        local = field.crop((seen[0].start, seen[1].start), square.shape)
        whole = deblur(square, local, method, noise=noise)
        inside = tuple(
            slice(part.start - all_.start, part.stop - all_.start)
            for part, all_ in zip(there, seen, strict=True)
        )
        difference = whole[inside].astype(float) - sharp[there]
        worst = max(worst, float(np.abs(difference).max()) / WHITE)
    return worst


def around(side: int, parts: int) -> tuple[slice, slice]:
    """Return what is deblurred, and compared, around the first border of parts along an axis."""
    border = 16 * -(-side // (16 * parts)) if parts > 1 else side // 2
    first, last = border - INSIDE // 2, border + INSIDE // 2
    return slice(max(0, (first - MARGIN) // 16 * 16), min(side, last + MARGIN)), slice(first, last)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--method", default="tikhonov")
    parser.add_argument("--memory", type=float, default=4.0, help="GB for what is computed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="where to keep image and result")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.scratch or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "blurry.npy").exists():
            make(folder, options.side)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            memory = int(options.memory * 1e9)
            job = pool.submit(restore, folder, options.method, memory, options.threads)
            figures = job.result()
        torch.set_num_threads(options.threads)
        figures["difference"] = seams(folder, options.method, figures["tiles"])
    if options.json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{name:16} {value:10.4g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
