"""Denoisers on photographs with added noise: PSNR in dB, and seconds.

    python benchmarks/denoising.py --images ../shared/data/train [--count 12] [--side 256]
        [--weights FILE] [--seed 0] [--threads N] [--json]

The middle of each validation photograph gets white Gaussian noise of a known standard deviation
(15, 25 and 50 of 255, not clipped). Beside our denoiser stand those of scikit-image: non-local
means and wavelets (BayesShrink; needs ``pip install PyWavelets``), both told the noise level. PSNR
is over all colours, after clipping to [0, 1], and averaged over the photographs.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skimage.restoration import denoise_nl_means, denoise_wavelet

from blurfield.evaluation.fidelity import psnr
from blurfield.evaluation.photographs import photograph_files, read_photograph
from blurfield.restoration.denoisers import Denoiser

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Method = Callable[[NDArray[np.float32], float], NDArray[Any]]

LEVELS = (15, 25, 50)


def contenders(weights: str | None) -> dict[str, Method]:
    """Denoisers by name; each takes a noisy image (H, W, 3) and the noise level."""
    denoiser = Denoiser.load(weights, device=torch.device("cpu"))

    def ours(noisy: NDArray[np.float32], sigma: float) -> NDArray[Any]:
        planes = torch.from_numpy(noisy).permute(2, 0, 1)
        return denoiser(planes, sigma).permute(1, 2, 0).numpy()

    def means(noisy: NDArray[np.float32], sigma: float) -> NDArray[Any]:
        return denoise_nl_means(
            noisy,
            patch_size=5,
            patch_distance=8,
            h=0.7 * sigma,
            sigma=sigma,
            fast_mode=True,
            channel_axis=-1,
        )

    def wavelets(noisy: NDArray[np.float32], sigma: float) -> NDArray[Any]:
        return denoise_wavelet(
            noisy, sigma=sigma, convert2ycbcr=True, channel_axis=-1, rescale_sigma=True
        )

    return {"ours": ours, "non-local means": means, "wavelets": wavelets}


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Mean PSNR and seconds for each noise level and denoiser."""
    methods = contenders(arguments.weights)
    files = photograph_files(arguments.images, arguments.count)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for level in LEVELS:
        numbers = np.random.default_rng(arguments.seed)
        scores: dict[str, list[float]] = {name: [] for name in ("noisy", *methods)}
        seconds = dict.fromkeys(scores, 0.0)
        for path in files:
            full = read_photograph(path)
            y, x = (max(0, (n - arguments.side) // 2) for n in full.shape[:2])
            clean = full[y : y + arguments.side, x : x + arguments.side].astype(np.float32) / 255
            sigma = level / 255
            noisy = clean + sigma * numbers.standard_normal(clean.shape, dtype=np.float32)
            scores["noisy"].append(psnr(clean, noisy.clip(0, 1)))
            for name, method in methods.items():
                start = time.perf_counter()
                found = method(noisy, sigma)
                seconds[name] += time.perf_counter() - start
                scores[name].append(psnr(clean, np.clip(found, 0, 1)))
        results[str(level)] = {
            name: {"psnr": float(np.mean(values)), "seconds": seconds[name] / len(files)}
            for name, values in scores.items()
        }
    return results


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--count", type=int, default=12, help="photographs")
    parser.add_argument("--side", type=int, default=256, help="of the part that is used, pixels")
    parser.add_argument("--weights", help="file or name; those installed by default")
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
    print(f"{'sigma':>6}  {'':16}{'PSNR/dB':>8}{'s/image':>9}")
    for level, rows in results.items():
        for name, row in rows.items():
            print(f"{level:>6}  {name:16}{row['psnr']:8.2f}{row['seconds']:9.2f}")


if __name__ == "__main__":
    main()
