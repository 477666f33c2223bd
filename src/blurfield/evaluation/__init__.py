"""How good estimated fields and restored images are."""

from __future__ import annotations

from .alignment import Homography, Registered, align_homography, intensity_factor, register
from .fidelity import psnr, ssim, ssim_3d, unit_values
from .kernel_distance import KernelDistance, kernel_l1_distance
from .masks import evaluate_masks
from .pair import evaluate_pair
from .precision import average_precision
from .protocols import PROTOCOLS, compare
from .restoration import evaluate_restoration
from .scenes import SETTINGS, Scene, Setting, make_scene
from .synthetic import evaluate_synthetic

__all__ = [
    "PROTOCOLS",
    "SETTINGS",
    "Homography",
    "KernelDistance",
    "Registered",
    "Scene",
    "Setting",
    "align_homography",
    "average_precision",
    "compare",
    "evaluate_masks",
    "evaluate_pair",
    "evaluate_restoration",
    "evaluate_synthetic",
    "intensity_factor",
    "kernel_l1_distance",
    "make_scene",
    "psnr",
    "register",
    "ssim",
    "ssim_3d",
    "unit_values",
]
