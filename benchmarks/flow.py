"""The flow of motion kernels: held-out log-likelihood, exactness of its inverse, and samples.

    python benchmarks/flow.py [--weights FILE] [--png FILE] [--train 20000] [--held 5000]
        [--components 48] [--iterations 12] [--seed 0] [--threads N] [--json]

Held out are simulated kernels that no training has seen. Beside the flow stand a Gaussian with a
diagonal covariance and a mixture of such Gaussians, which are fitted to other simulated kernels, by
expectation maximisation. All see the same data points: logits of the taps with the noise of the
dequantisation (see `KernelFlow.preprocess`), so that their densities can be compared. In nats, the
mean and its standard error.

The inverse is checked in single precision on 1,000 kernels, with that noise and without, which is
farther from what the flow was trained on, and on 1,000 codes. What samples are like is
measured on 1,000 of them beside 1,000 held-out kernels: the share whose taps (from 4 % of the
largest) are all connected, and percentiles 10, 50 and 90 of how many there are and of the standard
deviations of the light along and across the motion, in pixels. Raw samples are those of the flow as
it is, less the width of the noise of the dequantisation; the others those of `sample_kernels`. The
picture shows 64 held-out kernels, left, and 64 samples.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from blurfield import sample_kernels
from blurfield.checkpoints import resolve
from blurfield.estimation.flow import ARCHITECTURE, DEQUANTISATION
from blurfield.kernel_prior import KernelPrior
from blurfield.training.kernels import kernel_bank

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

#: Start of the random numbers of held-out kernels: neither that of a training nor its validation.
_HELD_SEED = 5_000_000
#: Least variance of a component.
_FLOOR = 1e-2
#: Samples and kernels whose shapes are measured, and which are shown.
_MEASURED, _SHOWN = 1000, 64
_PERCENTILES = (10, 50, 90)


class Mixture:
    """A mixture of Gaussians with diagonal covariances, fitted to points (N, D)."""

    def __init__(
        self, points: Tensor, components: int, iterations: int, generator: torch.Generator
    ) -> None:
        # One component is the same whatever it begins with.
        start = torch.randperm(len(points), generator=generator)[:components]
        self.means = points[start].clone()
        self.variances = points.var(0).expand(components, -1).clone()
        self.logs = torch.full((components,), -math.log(components))
        for _ in range(iterations):
            shares = torch.cat([self._joint(part).softmax(1) for part in points.split(4096)])
            total = shares.sum(0).clamp_min(1e-6)
            self.means = shares.T @ points / total[:, None]
            squares = shares.T @ points.square() / total[:, None]
            self.variances = (squares - self.means.square()).clamp_min(_FLOOR)
            self.logs = (total / len(points)).log()

    def log_likelihood(self, points: Tensor) -> Tensor:
        """In nats, (N,)."""
        return self._joint(points).logsumexp(1)

    def _joint(self, points: Tensor) -> Tensor:
        precisions = 1 / self.variances
        distance = (
            points.square() @ precisions.T
            - 2 * points @ (self.means * precisions).T
            + (self.means.square() * precisions).sum(1)
        )
        constant = self.variances.log().sum(1) + points.shape[1] * math.log(2 * math.pi)
        return self.logs - 0.5 * (distance + constant)


def kernels(count: int, size: int, seed: int) -> Tensor:
    """Simulated kernels as in training, in a random order."""
    generator = torch.Generator().manual_seed(seed)
    bank = kernel_bank(count, size, max_extent=size, generator=generator).float()
    return bank[torch.randperm(count, generator=generator)]


def summary(values: Tensor) -> dict[str, float]:
    """Mean and its standard error."""
    return {"mean": float(values.mean()), "error": float(values.std()) / math.sqrt(len(values))}


def shapes(found: NDArray[Any]) -> dict[str, Any]:
    """What kernels (N, K, K) look like, in figures."""
    taps = np.arange(found.shape[-1]) - found.shape[-1] // 2
    connected, counts, along, across = [], [], [], []
    for kernel in found:
        path = kernel >= 0.04 * kernel.max()
        connected.append(ndimage.label(path, structure=np.ones((3, 3)))[1] == 1)
        counts.append(int(path.sum()))
        light = kernel * path / kernel[path].sum()
        rows, columns = np.meshgrid(taps, taps, indexing="ij")
        covariance = np.cov(
            np.stack([rows.ravel(), columns.ravel()]), aweights=light.ravel(), ddof=0
        )
        small, large = np.sqrt(np.linalg.eigvalsh(covariance).clip(0))
        along.append(large)
        across.append(small)
    named = {"taps": counts, "along": along, "across": across}
    return {
        "connected": float(np.mean(connected)),
        **{name: np.percentile(v, _PERCENTILES).round(2).tolist() for name, v in named.items()},
    }


def sheet(found: NDArray[Any], zoom: int = 4) -> NDArray[np.uint8]:
    """Picture of kernels (N, K, K) in a square, each as bright as any other."""
    side = math.isqrt(len(found))
    bright = (found / found.max((1, 2), keepdims=True)) ** 0.6
    framed = np.pad(bright[: side**2], ((0, 0), (0, 1), (0, 1)), constant_values=0.4)
    size = framed.shape[-1]
    rows = framed.reshape(side, side, size, size).transpose(0, 2, 1, 3)
    large = np.kron(rows.reshape(side * size, side * size), np.ones((zoom, zoom)))
    return np.asarray((255 * large).round(), dtype=np.uint8)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures, and the picture if there is a file for it."""
    weights = resolve(arguments.weights, ARCHITECTURE)
    prior = KernelPrior.load(weights)
    flow, size = prior.flow, prior.size
    generator = torch.Generator().manual_seed(arguments.seed)
    held = kernels(arguments.held, size, _HELD_SEED + arguments.seed)
    others = kernels(arguments.train, size, 2 * _HELD_SEED + arguments.seed)
    with torch.no_grad():
        points, training = (
            flow.preprocess(k, torch.rand(k.shape, generator=generator)) for k in (held, others)
        )
        gaussian = Mixture(training, 1, 1, generator)
        mixture = Mixture(training, arguments.components, arguments.iterations, generator)
        likelihoods = {
            "flow": summary(torch.cat([flow.log_likelihood(p) for p in points.split(4096)])),
            "gaussian": summary(gaussian.log_likelihood(points)),
            "mixture": summary(mixture.log_likelihood(points)),
        }
        some = held[:_MEASURED]
        noise = DEQUANTISATION * torch.rand(some.shape, generator=generator)
        noisy = some + flow.normalization * noise
        codes = torch.randn(_MEASURED, size**2, generator=generator)
        inverse = {
            "kernels": float((flow.decode(flow.encode(noisy)) - noisy).abs().max()),
            "kernels without noise": float((flow.decode(flow.encode(some)) - some).abs().max()),
            "codes": float((flow(flow.inverse(codes)[0])[0] - codes).abs().max()),
        }
        raw = flow.decode(torch.randn(_MEASURED, size**2, generator=generator))
        raw = (raw - DEQUANTISATION * flow.normalization).clamp_min(0)
    samples = sample_kernels(_MEASURED, arguments.seed, checkpoint=weights, device="cpu")
    if arguments.png:
        parts = [sheet(part[:_SHOWN]) for part in (held.numpy(), samples)]
        Image.fromarray(np.concatenate(parts, axis=1)).save(arguments.png)
    return {
        "weights": weights.identity(),
        "parameters": sum(p.numel() for p in flow.parameters()),
        "log_likelihood": likelihoods,
        "largest error of the inverse": inverse,
        "shapes": {
            "held out": shapes(held[:_MEASURED].numpy()),
            "raw samples": shapes(raw.numpy()),
            "samples": shapes(samples),
        },
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="file or name; those installed by default")
    parser.add_argument("--png", help="write a picture of kernels and samples to this file")
    parser.add_argument("--train", type=int, default=20_000, help="kernels for the baselines")
    parser.add_argument("--held", type=int, default=5000, help="kernels that are judged")
    parser.add_argument("--components", type=int, default=48, help="Gaussians of the mixture")
    parser.add_argument("--iterations", type=int, default=12, help="of expectation maximisation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of PyTorch; all cores by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    results = measure(arguments)
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    print(f"{results['weights']['name']}: {results['parameters']:,} parameters")
    for name, row in results["log_likelihood"].items():
        print(f"{name:10}{row['mean']:10.2f} ± {row['error']:.2f} nats")
    for name, value in results["largest error of the inverse"].items():
        print(f"inverse, {name}: {value:.1e}")
    for name, row in results["shapes"].items():
        figures = "  ".join(f"{figure} {value}" for figure, value in row.items())
        print(f"{name:12}{figures}")


if __name__ == "__main__":
    main()
