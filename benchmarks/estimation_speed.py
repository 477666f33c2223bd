"""Estimation by networks: time and memory on a photograph's size, all in one run.

    python benchmarks/estimation_speed.py [--size 720 1280] [--rounds 3] [--threads 2] [--json]

Contenders, each a call of `blurfield.estimate` that loads weights, estimates and returns a field:

* ``two-heads``: the published network on the whole image at once, in single precision;
* ``two-heads, half``: the same in bfloat16, where the processor is fast at that;
* ``two-heads, tiles``: the finest features in tiles of 256 pixels, for which memory is enough on
  small machines;
* ``compact``: the small network, at the scale of the image;
* ``compact, scales``: as it is by default, at further scales where the blur asks for them.

Weights are installed ones, or random where there are none. Neither time nor memory depends on them
but for ``compact, scales``, which needs what it finds to be like blur: with random weights all
scales take part everywhere, and joining them takes longest. Times are the fastest round of each
contender; rounds take turns, so a change of the machine's speed meets all of them. ``cpu`` is the
process's CPU time, less disturbed by other load. Memory is the rise of the peak resident size in a
fresh process, above libraries and image (Linux only).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from blurfield import estimate
from blurfield.checkpoints import Checkpoint, find, write_checkpoint
from blurfield.estimation.compact_network import CompactNetwork
from blurfield.estimation.two_heads_network import TwoHeads
from blurfield.precision import has_fast_bfloat16

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

#: Model and options of each contender.
CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "two-heads": ("two-heads", {"precision": "float32", "tile": 1 << 20}),
    "two-heads, half": ("two-heads", {"precision": "bfloat16", "tile": 1 << 20}),
    "two-heads, tiles": ("two-heads", {"tile": 256}),
    "compact": ("compact", {"scales": (1.0,)}),
    "compact, scales": ("compact", {}),
}
NETWORKS: dict[str, type[nn.Module]] = {"two-heads": TwoHeads, "compact": CompactNetwork}


def photograph(height: int, width: int) -> NDArray[np.uint8]:
    """A colour image with texture of all sizes."""
    generator = np.random.default_rng(0)
    spectrum = np.fft.rfft2(generator.standard_normal((height, width, 3)), axes=(0, 1))
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    spectrum /= np.maximum(frequencies, 1 / height)[..., None]
    image = np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
    return np.clip(128 + 48 * image / image.std(), 0, 255).astype(np.uint8)


def weights(model: str, folder: Path) -> tuple[Checkpoint, str]:
    """Installed weights of a model, or random ones, and which they are."""
    found = find(model)
    if found is not None:
        return found, "installed"
    torch.manual_seed(0)
    network = NETWORKS[model]()
    random = write_checkpoint(
        folder / f"{model}.safetensors",
        network.state_dict(),
        architecture=model,
        config=getattr(network, "config", {}),
        gamma=2.2,
        origin="random numbers",
    )
    return random, "random"


def run(name: str, image: NDArray[np.uint8], checkpoints: dict[str, Checkpoint]) -> float:
    """Estimate with a contender; returns a number that depends on all of the result."""
    model, options = CONTENDERS[name]
    field = estimate(image, model, device="cpu", checkpoint=checkpoints[model], **options)
    return float(field.basis.mean() + field.mixing.mean())


def interleaved(
    names: list[str], image: NDArray[np.uint8], checkpoints: dict[str, Checkpoint], rounds: int
) -> dict[str, dict[str, float]]:
    """Seconds of the fastest round of each contender, wall and CPU."""
    best = {name: {"seconds": np.inf, "cpu": np.inf} for name in names}
    for number in range(rounds + 1):
        for name in names:
            # The first round warms caches up, for which a part of the image is enough.
            wall, cpu = time.perf_counter(), time.process_time()
            run(name, image if number else image[:64, :64], checkpoints)
            taken = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            if number:
                best[name] = {key: min(best[name][key], taken[key]) for key in taken}
    return best


def _peak_rise(
    name: str, image: NDArray[np.uint8], checkpoints: dict[str, Checkpoint], queue: Any
) -> None:
    torch.set_num_threads(1)
    warm_up = torch.nn.Conv2d(3, 8, 3)
    warm_up(torch.rand(1, 3, 64, 64))  # load the libraries
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident
    before = resident_peak()
    run(name, image, checkpoints)
    queue.put((resident_peak() - before) / 1024)


def resident_peak() -> int:
    """Peak resident size of this process in KiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def peak_rise(name: str, image: NDArray[np.uint8], checkpoints: dict[str, Checkpoint]) -> float:
    """MiB by which a contender raises the peak of a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=_peak_rise, args=(name, image, checkpoints, queue))
    process.start()
    rise = float(queue.get())
    process.join()
    return rise


def measure(height: int, width: int, names: list[str], rounds: int) -> dict[str, Any]:
    """All figures."""
    image = photograph(height, width)
    with tempfile.TemporaryDirectory() as folder:
        models = {CONTENDERS[name][0] for name in names}
        found = {model: weights(model, Path(folder)) for model in sorted(models)}
        checkpoints = {model: checkpoint for model, (checkpoint, _) in found.items()}
        rows = interleaved(names, image, checkpoints, rounds)
        for name, row in rows.items():
            row["peak MiB"] = peak_rise(name, image, checkpoints)
    results: dict[str, Any] = {
        "image": [height, width],
        "weights": {model: kind for model, (_, kind) in found.items()},
        "contenders": rows,
    }
    if "compact" in rows and "two-heads" in rows:
        results["compact_is_less_by"] = {
            rival: {key: rows[rival][key] / rows["compact"][key] for key in rows["compact"]}
            for rival in names
            if rival.startswith("two-heads")
        }
    return results


def show(results: dict[str, Any]) -> None:
    """Print a table for people."""
    height, width = results["image"]
    kinds = ", ".join(f"{model} {kind}" for model, kind in results["weights"].items())
    print(f"{width}×{height} pixels, {results['threads']} threads; weights: {kinds}")
    print(f"{'':20}{'seconds':>10}{'cpu':>10}{'peak MiB':>10}")
    for name, row in results["contenders"].items():
        print(f"{name:20}{row['seconds']:10.2f}{row['cpu']:10.2f}{row['peak MiB']:10.0f}")
    for rival, row in results.get("compact_is_less_by", {}).items():
        print(
            f"compact against {rival}: 1/{row['seconds']:.1f} of the time (cpu 1/{row['cpu']:.1f})"
            f", 1/{row['peak MiB']:.1f} of the memory"
        )


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs=2, type=int, default=[720, 1280], metavar=("H", "W"))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    names = arguments.contenders or [
        name for name in CONTENDERS if name != "two-heads, half" or has_fast_bfloat16()
    ]
    results = {
        "threads": arguments.threads,
        "fast_bfloat16": has_fast_bfloat16(),
        "torch": torch.__version__,
        **measure(*arguments.size, names, arguments.rounds),
    }
    if arguments.json:
        print(json.dumps(results, indent=1))
    else:
        show(results)


if __name__ == "__main__":
    main()
