"""Blur operator against two plain implementations: time and memory, interleaved in one run.

    python benchmarks/blur_operator.py [--sizes 720p 2048 512] [--rounds 5] [--threads 2] [--json]

Contenders, all exact to 1e-5 of each other and with reflecting boundaries:

* ``packed tiles``: `blurfield.BlurOperator`, mixing maps one cell a pixel, nothing pruned;
* ``conv2d``: per band of rows one direct convolution with all kernels, then the weighted sum over
  the maps; its adjoint is a grouped convolution of the weighted image, the fastest of the plain
  ones (a loop over kernels took five times as long, ``conv_transpose2d`` twice);
* ``rfft2``: real transforms of the whole image, one kernel at a time (faster and far leaner than
  all at once).

``few kernels`` is the same operator where at most four kernels are active in a tile, once with all
25 computed and once with the inactive ones skipped.

Times are the fastest round of each contender; rounds take turns, so a change of the machine's
speed meets all of them. ``cpu`` is the process's CPU time, less disturbed by other load. Memory is
the rise of the peak resident size over one forward and one adjoint, above image, kernels and maps,
measured in a fresh process each (Linux only).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from blurfield.boundary import extend, fold
from blurfield.field import KernelField
from blurfield.operator import BlurOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Pair = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]

SIZES = {"512": (3, 512, 512), "720p": (3, 720, 1280), "2048": (1, 2048, 2048)}
KERNELS, SIDE = 25, 33
BAND = 64


def scene(size: tuple[int, int, int], few: bool) -> tuple[Tensor, KernelField]:
    """Random image and field: smooth maps with all kernels everywhere, or four in each place."""
    generator = torch.Generator().manual_seed(0)
    channels, height, width = size
    image = torch.rand(channels, height, width, generator=generator)
    basis = torch.rand(KERNELS, SIDE, SIDE, generator=generator) ** 8
    basis = basis / basis.sum((1, 2), keepdim=True)
    if few:
        # Vertical bands, each with four kernels of its own that vary within it.
        columns = torch.arange(width) * 6 // width
        mixing = torch.zeros(KERNELS, height, width)
        logits = F.interpolate(torch.randn(1, 4, 6, 8, generator=generator), (height, width))[0]
        weights = logits.softmax(0)
        for kernel in range(4):
            mixing.scatter_(
                0, (4 * columns + kernel).expand(1, height, width), weights[kernel][None]
            )
    else:
        logits = torch.randn(1, KERNELS, 8, 8, generator=generator)
        smooth = F.interpolate(logits, (height, width), mode="bicubic")[0]
        mixing = smooth.softmax(0)
    return image, KernelField(basis, mixing)


def packed(field: KernelField, prune: float = 0.0) -> Pair:
    """Return forward and adjoint of the operator under test."""
    operator = BlurOperator(field, prune=prune)
    return operator.forward, operator.adjoint


def direct(field: KernelField) -> Pair:
    """Return forward and adjoint by direct convolution."""
    basis, mixing = field.basis[:, None], field.mixing
    (height, width), radius = field.shape, SIDE // 2

    def forward(sharp: Tensor) -> Tensor:
        padded = F.pad(sharp, (radius,) * 4, mode="reflect")[:, None]
        out = torch.empty(sharp.shape[0], height, width)
        for top in range(0, height, BAND):
            bottom = min(top + BAND, height)
            blurred = F.conv2d(padded[:, :, top : bottom + 2 * radius], basis)
            out[:, top:bottom] = (blurred * mixing[:, top:bottom]).sum(1)
        return out

    rotated = basis.flip(-2, -1)

    def adjoint(blurry: Tensor) -> Tensor:
        total = torch.zeros(blurry.shape[0], height + 2 * radius, width + 2 * radius)
        for top in range(0, height, BAND):
            bottom = min(top + BAND, height)
            weighted = blurry[:, None, top:bottom] * mixing[:, top:bottom]
            # Padding by hand: the convolution's own is a hundred times slower here.
            padded = F.pad(weighted, (2 * radius,) * 4)
            spread = F.conv2d(padded, rotated, groups=KERNELS)
            total[:, top : bottom + 2 * radius] += spread.sum(1)
        return fold(total, (height, width), radius, "reflect")

    return forward, adjoint


def whole(field: KernelField) -> Pair:
    """Return forward and adjoint by real transforms of the whole image."""
    (height, width), radius = field.shape, SIDE // 2
    # Transforms of a length with large prime factors are slow: 16 more pixels cost nothing.
    fft = tuple(-(-(n + 2 * radius) // 32) * 32 for n in (height, width))
    spectra = torch.fft.rfft2(field.basis, s=fft)

    def forward(sharp: Tensor) -> Tensor:
        transform = torch.fft.rfft2(extend(sharp, radius, "reflect"), s=fft)
        out = torch.zeros(sharp.shape[0], height, width)
        for spectrum, weights in zip(spectra, field.mixing, strict=True):
            blurred = torch.fft.irfft2(transform * spectrum.conj(), s=fft)
            out.addcmul_(blurred[:, :height, :width], weights)
        return out

    def adjoint(blurry: Tensor) -> Tensor:
        total = torch.zeros(blurry.shape[0], *spectra.shape[1:], dtype=spectra.dtype)
        for spectrum, weights in zip(spectra, field.mixing, strict=True):
            total.addcmul_(torch.fft.rfft2(blurry * weights, s=fft), spectrum)
        return fold(torch.fft.irfft2(total, s=fft), (height, width), radius, "reflect")

    return forward, adjoint


CONTENDERS = {"packed tiles": packed, "conv2d": direct, "rfft2": whole}


def interleaved(pairs: dict[str, Pair], image: Tensor, rounds: int) -> dict[str, dict[str, float]]:
    """Fastest forward and adjoint of each contender in milliseconds, wall and CPU."""
    best: dict[str, dict[str, float]] = {name: {} for name in pairs}
    for number in range(rounds + 1):
        for name, pair in pairs.items():
            for direction, function in zip(("forward", "adjoint"), pair, strict=True):
                wall, cpu = time.perf_counter(), time.process_time()
                function(image)
                taken = {
                    direction: 1e3 * (time.perf_counter() - wall),
                    f"{direction} cpu": 1e3 * (time.process_time() - cpu),
                }
                if number:  # the first round warms caches and plans up
                    for key, value in taken.items():
                        best[name][key] = min(value, best[name].get(key, value))
    for row in best.values():
        row["pair"] = row["forward"] + row["adjoint"]
        row["pair cpu"] = row["forward cpu"] + row["adjoint cpu"]
    return best


def _peak_rise(name: str, size: tuple[int, int, int], threads: int, queue: object) -> None:
    torch.set_num_threads(threads)
    image, field = scene(size, few=False)
    packed(scene((1, 128, 128), few=False)[1])[0](torch.rand(1, 128, 128))  # load the libraries
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident
    before = resident_peak()
    forward, adjoint = CONTENDERS[name](field)
    result = adjoint(forward(image))
    after = resident_peak()
    queue.put(((after - before) / 1024, float(result.mean())))  # type: ignore[attr-defined]


def resident_peak() -> int:
    """Peak resident size of this process in KiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def peak_rise(name: str, size: tuple[int, int, int], threads: int) -> float:
    """MiB by which a contender raises the peak of a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=_peak_rise, args=(name, size, threads, queue))
    process.start()
    rise = queue.get()[0]
    process.join()
    return float(rise)


def measure(size: tuple[int, int, int], rounds: int, threads: int) -> dict[str, object]:
    """All figures for one image size."""
    image, field = scene(size, few=False)
    pairs = {name: make(field) for name, make in CONTENDERS.items()}
    for direction in (0, 1):
        outputs = [pair[direction](image) for pair in pairs.values()]
        for other in outputs[1:]:
            difference = float((other - outputs[0]).abs().max())
            assert difference < 1e-5, f"contenders disagree by {difference}"
    times = interleaved(pairs, image, rounds)
    few_image, few_field = scene(size, few=True)
    few = interleaved(
        {
            "all 25 kernels": packed(KernelField(few_field.basis, few_field.mixing * 0.99 + 4e-4)),
            "only active kernels": packed(few_field),
        },
        few_image,
        rounds,
    )
    memory = {name: peak_rise(name, size, threads) for name in CONTENDERS}
    ratio = {
        name: {key: times[name][key] / times["packed tiles"][key] for key in times[name]}
        for name in ("conv2d", "rfft2")
    }
    skipped = {
        key: few["all 25 kernels"][key] / few["only active kernels"][key]
        for key in few["all 25 kernels"]
    }
    return {
        "image": size,
        "milliseconds": times,
        "times_faster": ratio,
        "few_kernels_milliseconds": few,
        "few_kernels_times_faster": skipped,
        "peak_mib": memory,
    }


def show(name: str, figures: dict[str, object]) -> None:
    """Print a table for people."""
    print(f"\n{name}: {figures['image']}, {KERNELS} kernels of {SIDE}×{SIDE}")
    print(f"{'':24}{'forward':>10}{'adjoint':>10}{'pair':>10}{'pair cpu':>10}{'MiB':>8}")
    memory = figures["peak_mib"]
    for block in ("milliseconds", "few_kernels_milliseconds"):
        for row, values in figures[block].items():  # type: ignore[attr-defined]
            cells = "".join(
                f"{values[key]:10.0f}" for key in ("forward", "adjoint", "pair", "pair cpu")
            )
            peak = f"{memory[row]:8.0f}" if row in memory else ""  # type: ignore[index,operator]
            print(f"{row:24}{cells}{peak}")
    for row, values in figures["times_faster"].items():  # type: ignore[attr-defined]
        print(f"pair, times faster than {row}: {values['pair']:.1f} (cpu {values['pair cpu']:.1f})")
    skipped = figures["few_kernels_times_faster"]
    print(f"pair, inactive kernels skipped: {skipped['pair']:.1f} times faster")  # type: ignore[index]


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["720p", "2048"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = {}
    for name in arguments.sizes:
        results[name] = measure(SIZES[name], arguments.rounds, arguments.threads)
        if not arguments.json:
            show(name, results[name])
    if arguments.json:
        facts = {"threads": arguments.threads, "torch": torch.__version__, **results}
        print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
