"""What reblur consistency does to a network that restores: one table.

    python benchmarks/finetune.py --images ../shared/data/train --out DIR --start WEIGHTS
        [--steps 500] [--batch 8] [--size 64] [--reblur 0 30 …] [--fields true windowed …]
        [--pairs 160] [--held 24] [--side 128] [--max-extent 13] [--threads N] [--json]

Blurs training photographs once (``DIR/pairs``; what is there is used again) and fine-tunes the same
network several times from the same weights, with the same samples in the same order, for the same
number of steps: without the consistency term (weight 0), and with it for each weight and each
origin of the fields. Runs that are complete in DIR are not repeated. Fields that a model estimates
are kept in ``DIR/pairs/fields``.

Then whole held-out photographs (``DIR/held``, blurred likewise) are restored. PSNR and SSIM compare
with the sharp photographs; the reblur error is the root of the mean squared difference of the
restored image, blurred with the true field, and the blurry image. All are of values as they are
stored; the last is given in thousandths of white.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from blurfield.checkpoints import read_checkpoint, resolve
from blurfield.evaluation.fidelity import psnr, ssim
from blurfield.restoration.restorer_network import ARCHITECTURE
from blurfield.training.consistency import reblur_errors
from blurfield.training.factories import RestorerFactory
from blurfield.training.images import read_rgb
from blurfield.training.loop import Trainer
from blurfield.training.pair_samples import PairSamples
from blurfield.training.pairs import TRUE, PairFolder, make_pairs, read_field
from blurfield.training.restorer import RestorerTask
from blurfield.training.settings import RunSettings, Schedule
from blurfield.training.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from blurfield.field import KernelField

    Network = Callable[[Tensor], Tensor]

CPU = torch.device("cpu")
#: Seeds of the pairs for training and of the held-out ones, so that no blur is in both.
TRAINING_SEED, HELD_SEED = 1, 2


class Row(NamedTuple):
    """A line of the table."""

    name: str
    psnr: float
    ssim: float
    reblur: float


class HeldOut(NamedTuple):
    """A held-out pair: images (1, 3, H, W), white 1, and the true field."""

    blurry: Tensor
    sharp: Tensor
    field: KernelField


def held_out(folder: PairFolder) -> list[HeldOut]:
    """Read all pairs of a folder."""

    def planes(path: Path) -> Tensor:
        return torch.from_numpy(read_rgb(path).copy()).permute(2, 0, 1)[None] / 255

    return [
        HeldOut(
            blurry := planes(folder.blurry(name)),
            planes(folder.sharp(name)),
            read_field(folder, name, TRUE, (blurry.shape[2], blurry.shape[3])),
        )
        for name in folder.names()
    ]


@torch.no_grad()
def judge(name: str, network: Network, pairs: list[HeldOut]) -> Row:
    """Restore all pairs, and compare."""
    figures = []
    for pair in pairs:
        restored = network(pair.blurry).clamp(0, 1)
        truth, image = (x[0].permute(1, 2, 0).numpy() for x in (pair.sharp, restored))
        error = reblur_errors(restored, pair.blurry, [pair.field])
        figures.append((psnr(truth, image), ssim(truth, image), float(error)))
    quality, likeness, error = np.mean(figures, axis=0).tolist()
    return Row(name, quality, likeness, 1000 * error**0.5)


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Fine-tune and judge; prints each row when it is known."""
    pairs, held = PairFolder(arguments.out / "pairs"), PairFolder(arguments.out / "held")
    for folder, split, count, seed in (
        (pairs, "train", arguments.pairs, TRAINING_SEED),
        (held, "val", arguments.held, HELD_SEED),
    ):
        if not folder.exists:
            make_pairs(
                arguments.images,
                folder,
                count=count,
                side=arguments.side,
                max_extent=arguments.max_extent,
                seed=seed,
                split=split,
            )
    start = resolve(arguments.start, ARCHITECTURE)
    factory = RestorerFactory(config=start.config)
    scenes = held_out(held)
    source = Source(pairs.path, arguments.size, arguments.batch, CPU)
    settings = RunSettings(
        batch=arguments.batch,
        side=arguments.size,
        steps=arguments.steps,
        precision="fp32",
        validation_minutes=1e9,
        schedule=Schedule(rate=arguments.rate, warmup=20, cooldown=0.5, average=0.99),
    )

    def load(weights: Any) -> Network:
        network = factory.network(arguments.size)
        network.load_state_dict(read_checkpoint(weights).load())
        return network.eval()

    def tuned(name: str, weight: float, fields: str) -> Row:
        folder = arguments.out / f"{name}-{arguments.steps}".replace(" ", "-")
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}-unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            size = arguments.kernel_size if fields != TRUE else None
            samples = PairSamples(source, model=fields, kernel_size=size, say=say)
            task = RestorerTask(samples, factory, reblur=weight)
            trainer = Trainer(task, settings, unfinished, device=CPU, start=start.path, say=say)
            if trainer.run()["stopped"] != "done":
                raise KeyboardInterrupt
            unfinished.rename(folder)
        return judge(name, load(folder / f"{ARCHITECTURE}.safetensors"), scenes)

    def say(line: str) -> None:
        if not arguments.json:
            print(line, flush=True)

    return [
        judge("blurry", lambda image: image, scenes),
        judge("start", load(start.path), scenes),
        *([tuned("without the term", 0.0, TRUE)] if 0 in arguments.reblur else []),
        *(
            tuned(f"{fields} fields {weight:g}", weight, fields)
            for fields in arguments.fields
            for weight in arguments.reblur
            if weight
        ),
    ]


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder for pairs and weights")
    parser.add_argument("--start", help="weights of our network; installed ones by default")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=64, help="side of the samples, pixels")
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--reblur", type=float, nargs="+", default=[0.0, 30.0], help="weights λ")
    parser.add_argument("--fields", nargs="+", default=[TRUE], help="true, or names of models")
    parser.add_argument("--pairs", type=int, default=160, help="training photographs")
    parser.add_argument("--held", type=int, default=24, help="held-out photographs")
    parser.add_argument("--side", type=int, default=128, help="of the photographs, pixels")
    parser.add_argument("--max-extent", type=float, default=13.0, help="longest blur, pixels")
    parser.add_argument("--kernel-size", type=int, default=13, help="of estimated kernels")
    parser.add_argument("--threads", type=int, help="of PyTorch; all cores by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = measure(arguments)
    if arguments.json:
        print(json.dumps([row._asdict() for row in rows], indent=1))
        return
    print(f"{'':24}{'PSNR/dB':>9}{'SSIM':>8}{'reblur':>9}")
    for row in rows:
        print(f"{row.name:24}{row.psnr:9.2f}{row.ssim:8.3f}{row.reblur:9.2f}")


if __name__ == "__main__":
    main()
