"""Choose how far estimated fields are trusted, on photographs with known blur.

    python benchmarks/trust.py --images ../shared/data/train --samples DIR [--count 14] [--first 0]
        [--model windowed] [--split train] [--apart 0] [--crop 256]
        [--kinds uniform segments rotation] [--noise 0.005 0.01 0.03]
        [--methods richardson-lucy tikhonov plug-and-play:fast plug-and-play:best steepest-descent]
        [--fit] [--seed 0] [--threads N]

Photographs are blurred as by ``blurfield evaluate restoration``, their fields estimated, and the
images restored without any doubt. What speaks for and against each of them, and the images, are
kept in the folder ``--samples``; a run that was ended goes on there. Then the gain in PSNR of what
the rules would have given back, without the network for trust, is told, for the constants of
`blurfield.restoration.estimated` and, with ``--fit``, for those with the greatest mean gain less a
penalty for images that become worse.

``--model compact`` fits `NETWORK_TRUST`, others fit `TRUST`. A network sees photographs that it has
been trained with better than others: give it ``--split val --apart 20``, which leaves out those of
``blurfield evaluate restoration --count 20``.

The restored image is moved to where it fits the truth best before anything is given back, once for
all constants. So gains are about those of ``blurfield evaluate restoration``, not exactly.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import shift as moved
from scipy.optimize import minimize

from blurfield.estimation import estimate
from blurfield.evaluation.alignment import register
from blurfield.evaluation.fidelity import psnr, unit_values
from blurfield.evaluation.photographs import photograph_files, read_photograph
from blurfield.evaluation.restoration_scenes import Case, cases, middle
from blurfield.files import atomic_write
from blurfield.images import decode, encode
from blurfield.restoration import deblur
from blurfield.restoration.estimated import (
    NETWORK_TRUST,
    TRUST,
    Judged,
    Trust,
    doubt_by,
    observed,
)
from blurfield.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor


METHODS = (
    "richardson-lucy",
    "tikhonov",
    "plug-and-play:fast",
    "plug-and-play:best",
    "steepest-descent",
)
#: What each dB counts by which an image becomes worse, beyond the first ones.
PENALTY, FREE = 40.0, 0.15
#: First steps of the fit.
STEPS = Trust(0.5, 0.5, 0.3, 15.0, 0.5, 2.0, 2.0, 1.0)


@dataclass
class Sample:
    """An image that was restored without doubt.

    Attributes
    ----------
    key : tuple
        Photograph, kind of blur, noise, method.
    found : Tensor
        `evidence`, (6, N).
    windows : Windows
        Where it was found.
    smoothing : float
        What the method divides the odds by.
    pairs : list of (Tensor, Tensor)
        Restored and blurry image in linear light, moved to where one of them fits the truth best.
    truth : ndarray
        The sharp image, of their size.
    blurry : float
        PSNR of the blurry image.
    gamma : float
    """

    key: tuple[str, str, float, str]
    found: Tensor
    windows: Windows
    smoothing: float
    pairs: list[tuple[Tensor, Tensor]]
    truth: NDArray[np.float64]
    blurry: float
    gamma: float

    def save(self, path: Path) -> None:
        """Write a file of plain arrays."""
        windows = {name: np.array(value) for name, value in vars(self.windows).items()}
        images = {
            f"pair{i}{j}": image
            for i, pair in enumerate(self.pairs)
            for j, image in enumerate(pair)
        }
        rest = (json.dumps(self.key), self.smoothing, self.blurry, self.gamma)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                found=self.found,
                truth=self.truth,
                rest=np.array(rest, str),
                **windows,
                **images,
            )

    @classmethod
    def load(cls, path: Path) -> Sample:
        """Read such a file."""
        with np.load(path, allow_pickle=False) as content:
            key, *numbers = content["rest"].tolist()
            smoothing, blurry, gamma = map(float, numbers)
            layout = (
                tuple(content[name].tolist()) for name in ("shape", "size", "rows", "columns")
            )
            pairs = [
                tuple(torch.from_numpy(content[f"pair{i}{j}"]) for j in (0, 1)) for i in (0, 1)
            ]
            return cls(
                tuple(json.loads(key)),
                torch.from_numpy(content["found"]),
                Windows(*layout),
                smoothing,
                pairs,
                content["truth"],
                blurry,
                gamma,
            )

    def gain(self, trust: Trust) -> float:
        """Gain in dB of what would have been given back."""
        doubt = doubt_by(self.found, self.windows, self.smoothing, trust, trust)
        margin = (doubt.shape[-1] - self.pairs[0][0].shape[-1]) // 2
        doubt = doubt[:, margin : doubt.shape[1] - margin, margin : doubt.shape[2] - margin]
        found = []
        for restored, blurry in self.pairs:
            image = encode(restored.float().lerp(blurry.float(), doubt), self.gamma).clamp(0, 1)
            found.append(psnr(self.truth, np.moveaxis(image.double().numpy(), 0, -1)))
        return max(found) - self.blurry


def linear(image: NDArray[np.float64], down_right: tuple[float, float], margin: int) -> Tensor:
    """An image (H, W[, C]) moved, without its borders, as (C, H, W)."""
    part = moved(image, (*down_right, 0)[: image.ndim], order=3, mode="nearest")
    part = part[margin : len(part) - margin, margin : part.shape[1] - margin]
    part = part[..., None] if part.ndim == 2 else part
    return torch.from_numpy(np.moveaxis(part, -1, 0).copy()).float()


def samples_of(path: Path, case: Case, number: int, arguments: argparse.Namespace) -> list[Sample]:
    """Restore a photograph by all methods."""
    photograph = middle(read_photograph(path), arguments.crop)
    scene = case.scene(photograph, path.stem, arguments.seed, number)
    field = estimate(scene.blurry, model=arguments.model, gamma=scene.gamma, device="cpu")
    blurry, sharp, radius = unit_values(scene.blurry), scene.sharp(), scene.truth.kernel_size // 2
    before = register(blurry, sharp, radius)
    made = []
    for name in arguments.methods:
        method, _, variant = name.partition(":")
        judged: list[Judged] = []
        with observed(judged.append):
            image = deblur(
                scene.blurry,
                field,
                method,
                gamma=scene.gamma,
                device="cpu",
                **({"variant": variant} if variant else {}),
            )
        restored = unit_values(image)
        after = register(restored, sharp, radius)
        pairs = []
        for found in (after, before):
            both = (linear(values, found.shift, 2 * radius) for values in (restored, blurry))
            pairs.append(tuple(decode(values.clamp_min(0), scene.gamma).half() for values in both))
        [one] = judged
        truth = after.truth if after.truth.ndim == 3 else after.truth[..., None]
        made.append(
            Sample(
                (path.stem, case.kind, case.setting.noise, name),
                one.found,
                one.windows,
                one.smoothing,
                pairs,
                truth.astype(np.float32),
                psnr(before.truth, before.image),
                scene.gamma,
            )
        )
    return made


def collect(arguments: argparse.Namespace) -> list[Sample]:
    """Return the samples, and make those that are not there yet."""
    place = Path(arguments.samples)
    place.mkdir(parents=True, exist_ok=True)
    samples = [Sample.load(path) for path in sorted(place.glob("*.npz"))]
    known = {sample.key for sample in samples}
    files = photograph_files(arguments.images, sys.maxsize, arguments.split)
    apart = photograph_files(arguments.images, arguments.apart) if arguments.apart else []
    files = [path for path in files if path not in apart]
    chosen = np.linspace(0, len(files) - 1, arguments.count + 2).round().astype(int)[1:-1]
    for number, path in enumerate(files[index + arguments.first] for index in chosen):
        for case in cases(arguments.kinds, arguments.noise):
            scene = (path.stem, case.kind, case.setting.noise)
            if all((*scene, method) in known for method in arguments.methods):
                continue
            for sample in samples_of(path, case, number, arguments):
                if sample.key not in known:
                    samples.append(sample)
                    sample.save(place / f"{' '.join(map(str, sample.key)).replace(':', ' ')}.npz")
            print(*scene, flush=True)
    return samples


def value(gains: NDArray[np.float64]) -> float:
    """What is made as great as possible."""
    return float(gains.mean() - PENALTY * np.clip(-gains - FREE, 0, None).mean())


def fitted(samples: Sequence[Sample], start: Trust) -> Trust:
    """Return the constants with the greatest `value`."""
    scale = np.array(STEPS)

    def loss(steps: NDArray[np.float64]) -> float:
        trust = Trust(*(np.array(start) + scale * steps))
        return -value(np.array([sample.gain(trust) for sample in samples]))

    simplex = np.vstack([np.zeros(len(scale)), np.eye(len(scale))])
    found = minimize(
        loss, simplex[0], method="Nelder-Mead", options={"initial_simplex": simplex, "maxfev": 300}
    )
    return Trust(*(np.array(start) + scale * found.x))


def tell(name: str, samples: Sequence[Sample], trust: Trust) -> None:
    """Print the gains with some constants."""
    gains = np.array([sample.gain(trust) for sample in samples])
    print(f"{name}: {', '.join(f'{key} {number:.3g}' for key, number in trust._asdict().items())}")
    for method in dict.fromkeys(sample.key[3] for sample in samples):
        own = gains[[sample.key[3] == method for sample in samples]]
        print(
            f"  {method:22} mean {own.mean():.2f} dB, worst {own.min():.2f}, "
            f"{(own < -0.3).sum()} of {len(own)} below -0.3"
        )
    print(f"  all: mean {gains.mean():.3f} dB, less the penalty {value(gains):.3f}")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True)
    parser.add_argument("--samples", required=True, help="folder in which samples are kept")
    parser.add_argument("--count", type=int, default=14)
    parser.add_argument("--first", type=int, default=0, help="take others, so many further on")
    parser.add_argument("--model", default="windowed")
    parser.add_argument("--split", default="train", help="rows of the manifest to take")
    parser.add_argument("--apart", type=int, default=0, help="leave out so many of evaluation")
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--kinds", nargs="+", default=["uniform", "segments", "rotation"])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.005, 0.01, 0.03])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    samples = collect(arguments)
    now = NETWORK_TRUST if arguments.model == "compact" else TRUST
    tell("without doubt", samples, Trust(1e3, *[0.0] * (len(Trust._fields) - 1)))
    tell("as it is", samples, now)
    if arguments.fit:
        tell("fitted", samples, fitted(samples, now))


if __name__ == "__main__":
    main()
