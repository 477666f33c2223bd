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
        ``bfloat16`` on CUDA GPUs and CPUs that have instructions for it (AMX or AVX512-BF16), where
        it is several times faster in the memory format ``channels_last``; ``float16`` on older CUDA
        GPUs; ``float32`` elsewhere, where half precision would be slower.
    """
    if device.type == "cuda":
        natively = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if natively else torch.float16
    if device.type == "cpu" and has_fast_bfloat16():
        return torch.bfloat16
    return torch.float32


def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 faster than those of float32."""
    # Not every version of PyTorch that is supported has all of these questions.
    questions = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, question, bool)() for question in questions)
