"""UFPNet: time and memory of restoring an image, and local against global means.

    python benchmarks/ufpnet.py [--size 720 1280] [--weights NAME] [--threads 2]
        [--image BLURRY [--sharp SHARP]] [--json]

Contenders are the network with kernels of its own, with those of a field that is there already
(model ``ufp``), and with global means in place of local ones (``pooling="global"``). The image has
texture of all sizes. Each runs in a fresh process. Memory is the rise of its peak resident size
above libraries, image and field (Linux only); it holds the weights. CPU time, that of all threads
together, is less disturbed by other load than seconds are. ``poll`` is the longest CPU time of a
thread between two calls of the progress callback, in which a cancellation is not noticed.

Without ``--weights`` the network is the published one with random weights, which cost as much. With
``--image``, results with local and global means are compared on a photograph: the root mean square
of their difference and of the change that local means make, and PSNR against ``--sharp``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from blur_operator import resident_peak
from blurfield import KernelField, deblur, estimate
from blurfield.checkpoints import locate, write_checkpoint
from blurfield.files import read_image
from blurfield.restoration.ufpnet_network import ARCHITECTURE, UFPNet
from estimation_speed import photograph

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Options of the contenders.
CONTENDERS = {
    "own kernels": {"kernels": "own"},
    "kernels of a field": {"kernels": "field"},
    "own kernels, global means": {"kernels": "own", "pooling": "global"},
}


def random_weights(folder: Path) -> Path:
    """A file with the published network and random weights, of which all have an effect."""
    torch.manual_seed(0)
    network = UFPNet()
    for name, values in network.named_parameters():
        if name.endswith(("beta", "gamma")):
            values.data.normal_(std=0.2)
    file = folder / "random.safetensors"
    write_checkpoint(
        file,
        network.state_dict(),
        architecture=ARCHITECTURE,
        config=network.config,
        gamma=1.0,
        origin="random",
    )
    return file


def run(
    image: NDArray[np.uint8], field: KernelField, weights: str, options: dict[str, str]
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Restore; returns the image, seconds, CPU time and the longest part of it between reports."""
    start = time.perf_counter()
    polls = [time.process_time()]
    sharp = deblur(
        image,
        field,
        ARCHITECTURE,
        device="cpu",
        progress=lambda *_: polls.append(time.process_time()),
        checkpoint=weights,
        **options,
    )
    polls.append(time.process_time())
    return sharp, {
        "seconds": time.perf_counter() - start,
        "cpu": polls[-1] - polls[0],
        "poll": float(np.diff(polls).max()) / torch.get_num_threads(),
    }


def measure(size: tuple[int, int], weights: str, options: dict[str, str], threads: int) -> Any:
    """Figures of one contender, in this process."""
    torch.set_num_threads(threads)
    image = photograph(*size)
    if options["kernels"] == "field":
        field = estimate(image, model="ufp", checkpoint=weights, device="cpu")
    else:
        field = KernelField.uniform(torch.ones(1, 1), size)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident
    before = resident_peak()
    _, figures = run(image, field, weights, options)
    return {**figures, "peak MiB": (resident_peak() - before) / 1024}


def compare(image: NDArray[np.uint8], sharp: NDArray[np.uint8] | None, weights: str) -> Any:
    """Local against global means on a photograph, in levels of 8 bits and dB."""
    field = KernelField.uniform(torch.ones(1, 1), (image.shape[0], image.shape[1]))
    found = {
        name: run(image, field, weights, {"kernels": "own", "pooling": name})[0].astype(float)
        for name in ("local", "global")
    }
    figures = {
        "difference": rms(found["local"] - found["global"]),
        "change": rms(found["local"] - image),
    }
    if sharp is not None:
        for name, result in {"blurry": image, **found}.items():
            # Differences of integers of 8 bits would wrap around.
            figures[f"PSNR {name}"] = float(20 * np.log10(255 / rms(result.astype(float) - sharp)))
    return figures


def rms(values: NDArray[np.float64]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.square(values).mean()))


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs=2, type=int, default=[720, 1280], metavar=("H", "W"))
    parser.add_argument("--weights", metavar="NAME", help="installed ones, or a file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--image", metavar="BLURRY")
    parser.add_argument("--sharp", metavar="SHARP")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results: dict[str, Any] = {"size": arguments.size, "threads": arguments.threads}
    with tempfile.TemporaryDirectory() as folder:
        weights = arguments.weights or str(random_weights(Path(folder)))
        results["parameters"] = sum(v.numel() for v in locate(weights).load().values())
        context = multiprocessing.get_context("spawn")
        for name in arguments.only:
            with ProcessPoolExecutor(1, context) as pool:
                task = (arguments.size, weights, CONTENDERS[name], arguments.threads)
                results[name] = pool.submit(measure, *task).result()
        if arguments.image:
            sharp = read_image(arguments.sharp) if arguments.sharp else None
            results["means"] = compare(read_image(arguments.image), sharp, weights)
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    height, width = arguments.size
    print(f"{width}×{height}×3 pixels, {arguments.threads} threads")
    print(f"{'':28}{'seconds':>10}{'CPU s':>10}{'poll s':>10}{'peak MiB':>10}")
    for name in arguments.only:
        row = results[name]
        times = f"{row['seconds']:10.1f}{row['cpu']:10.1f}{row['poll']:10.2f}"
        print(f"{name:28}{times}{row['peak MiB']:10.0f}")
    for name, value in results.get("means", {}).items():
        print(f"{name:28}{value:10.3f}")


if __name__ == "__main__":
    main()
