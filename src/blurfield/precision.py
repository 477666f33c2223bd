"""The number type in which networks run fastest without losing what matters."""

from __future__ import annotations

import torch


def network_dtype(device: torch.device) -> torch.dtype:
    """Return the type for the weights and features of a network that only infers.

    Parameters
    ----------
    device : torch.device
        Where it runs.

    Returns
    -------
    torch.dtype
        ``bfloat16`` on CUDA GPUs and CPUs that have instructions for it (CPUs: AMX or AVX512-BF16),
        where it is several times faster; ``float32`` elsewhere.
    """
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return torch.bfloat16
    if device.type == "cpu" and has_fast_bfloat16():
        return torch.bfloat16
    return torch.float32


def memory_format(device: torch.device) -> torch.memory_format:
    """Return the order of a tensor's values in which convolutions are fastest on a device."""
    return torch.channels_last if device.type in {"cpu", "cuda"} else torch.contiguous_format


def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 faster than those of float32."""
    # Not every version of PyTorch that is supported has all of these questions.
    questions = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, question, bool)() for question in questions)
