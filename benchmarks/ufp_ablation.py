"""What stands between network and kernels, at equal small budgets of training.

    python benchmarks/ufp_ablation.py --data ../shared/data/train [--flow FILE] [--steps 150]
        [--size 80] [--batch 6] [--widths 16 48 128] [--stride 4] [--rate 0.001] [--images N]
        [--uncertainty WEIGHT] [--raw-sums] [--reblur-gamma 2.2] [--seed 0] [--threads N]
        [--out DIR] [--json]

The table has the form of the second one of Fang et al. 2023: networks that give each cell a kernel
directly (softmax), through a frozen flow of motion kernels, and through the flow with uncertainty.
All see the same samples, as many steps, with the same schedule, by ``blurfield train kernels``;
kernels of one pixel and the mean kernel of the training samples stand beside them. On held-out
photographs, blurred by the simulator, the sharp images are blurred again with the kernels that were
found in the blurry ones: PSNR and SSIM of that against the blurry image, without the edges, and the
similarity of the kernels to the true ones.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from blurfield.checkpoints import read_checkpoint
from blurfield.estimation.ufp import load_estimator
from blurfield.estimation.ufp_network import PRIORS
from blurfield.evaluation.fidelity import ssim
from blurfield.training.folder_samples import blurry_samples
from blurfield.training.kernel_codes import KernelTask, inner, load_flow, psnr
from blurfield.training.loop import Trainer
from blurfield.training.settings import RunSettings, Schedule
from blurfield.training.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from blurfield.training.restoration_samples import RestorationSamples

    #: Gives images (N, 3, S, S) kernels (N, K², h, w) and anything else.
    Estimator = Callable[[Tensor], tuple[Tensor, Any]]

#: Words for what is compared.
TITLES = {"none": "direct kernels", "flow": "flow", "flow+uncertainty": "flow + uncertainty"}
#: Batches whose true kernels make the mean kernel.
_MEAN_BATCHES = 8
CPU = torch.device("cpu")


@torch.no_grad()
def judge(task: KernelTask, samples: RestorationSamples, estimator: Estimator) -> dict[str, float]:
    """Means over the held-out samples."""
    size = task.config["kernel_size"]
    peaks, structures = [], []
    for batch in samples.held:
        kernels, _ = estimator(batch.blurry)
        again = task.reblurred(batch.sharp, kernels)
        target = inner(batch.blurry, size)
        peaks.append(psnr(again, target))
        structures += [
            ssim(truth.movedim(0, -1).double().numpy(), image.movedim(0, -1).double().numpy())
            for truth, image in zip(target, again, strict=True)
        ]
    figures = {"psnr": float(torch.cat(peaks).mean()), "ssim": sum(structures) / len(structures)}
    figures["similarity"] = task.validate(estimator)["similarity"]
    return figures


def constant(kernel: Tensor) -> Estimator:
    """What gives all images the same kernel."""
    return lambda images: (kernel.reshape(1, -1, 1, 1).expand(len(images), -1, 1, 1), None)


def mean_kernel(samples: RestorationSamples, size: int) -> Tensor:
    """Mean of the true kernels of some training samples."""
    kernels = [
        field.mean_kernel()
        for number in range(_MEAN_BATCHES)
        for field in samples.make(torch.Generator().manual_seed(number), number).fields()
    ]
    return torch.stack(kernels).mean(0).reshape(size, size)


def compare(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train and judge everything."""
    flow = load_flow(arguments.flow)
    source = Source(arguments.data, arguments.size, arguments.batch, CPU, arguments.images)
    samples = blurry_samples(source, max_extent=flow.side, seed=arguments.seed)
    options = {
        "config": {"widths": arguments.widths, "stride": arguments.stride},
        "reblur_gamma": arguments.reblur_gamma,
        "uncertainty": arguments.uncertainty,
        "raw_sums": arguments.raw_sums,
        "kernel_size": flow.side,
    }
    settings = RunSettings(
        batch=arguments.batch,
        side=arguments.size,
        steps=arguments.steps,
        seed=arguments.seed,
        validation_minutes=1e6,
        schedule=Schedule(
            rate=arguments.rate, warmup=max(arguments.steps // 10, 1), average=0.98, cooldown=0.3
        ),
    )
    direct = KernelTask(samples, None, prior="none", **options)
    delta = torch.zeros(flow.side, flow.side)
    delta[flow.side // 2, flow.side // 2] = 1
    rows = {
        "no blur": judge(direct, samples, constant(delta)),
        "mean kernel": judge(direct, samples, constant(mean_kernel(samples, flow.side))),
    }
    for prior in reversed(PRIORS):
        task = direct if prior == "none" else KernelTask(samples, flow, prior=prior, **options)
        say = (lambda line: None) if arguments.json else print
        trainer = Trainer(task, settings, folder / prior, device=CPU, say=say)
        start = time.process_time()
        result = trainer.run()
        if result["stopped"] != "done":
            raise SystemExit(
                f"{result['stopped']} after {result['samples']} samples of {TITLES[prior]}: "
                "networks that have seen less than others are not compared"
            )
        seconds = time.process_time() - start
        network = load_estimator(read_checkpoint(result["export"]), CPU)
        rows[TITLES[prior]] = {
            **judge(task, samples, network),
            "samples": result["samples"],
            "seconds": seconds,
        }
    return rows


def show(rows: dict[str, dict[str, float]]) -> None:
    """Print a table for people."""
    print(f"\n{'':20}{'PSNR/dB':>9}{'SSIM':>8}{'similarity':>12}{'samples':>9}{'CPU s':>8}")
    for name, row in rows.items():
        cost = f"{row['samples']:9.0f}{row['seconds']:8.0f}" if "samples" in row else ""
        print(f"{name:20}{row['psnr']:9.2f}{row['ssim']:8.4f}{row['similarity']:12.3f}{cost}")


def main() -> None:
    """Parse arguments, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--flow", help="the trained flow: a file, or the name of installed ones")
    parser.add_argument("--steps", type=int, default=150, help="of each training")
    parser.add_argument("--size", type=int, default=80, help="side of the samples, pixels")
    parser.add_argument("--batch", type=int, default=6, help="samples per step")
    parser.add_argument("--widths", type=int, nargs=3, default=(16, 48, 128))
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate")
    parser.add_argument("--images", type=int, help="photographs of each split; all by default")
    parser.add_argument("--uncertainty", type=float, default=1e-3, help="weight of its reward")
    parser.add_argument("--raw-sums", action="store_true", help="as published")
    parser.add_argument("--reblur-gamma", type=float, default=2.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of PyTorch; all cores by default")
    parser.add_argument("--out", type=Path, help="folder for the runs; not kept by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep = nullcontext(arguments.out) if arguments.out else tempfile.TemporaryDirectory()
    with keep as folder:
        rows = compare(arguments, Path(folder))
    if arguments.json:
        settings = {name: str(value) for name, value in vars(arguments).items()}
        print(json.dumps({"settings": settings, "rows": rows}, indent=1))
    else:
        show(rows)


if __name__ == "__main__":
    main()
