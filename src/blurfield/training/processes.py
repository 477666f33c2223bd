"""One or several processes that train together."""

from __future__ import annotations

import os

import torch
from torch import nn


class Processes:
    """The processes that ``torchrun`` has started, of which this is one; or this one alone.

    Parameters
    ----------
    device : torch.device
        Device of this process.

    Attributes
    ----------
    rank, count : int
        Number of this process and of all.
    first : bool
        Whether this one writes the files.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.rank, self.count = 0, 1
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            if not torch.distributed.is_initialized():
                torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
            self.rank = torch.distributed.get_rank()
            self.count = torch.distributed.get_world_size()
        self.first = self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network as one whose gradients are averaged over all processes."""
        if self.count == 1:
            return network
        devices = [self._device] if self._device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(network, device_ids=devices)

    def agree(self, value: float) -> float:
        """The largest of all processes' values, so that all of them decide alike."""
        if self.count == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self._device)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
        return float(shared)

    def close(self) -> None:
        """Leave the group."""
        if self.count > 1:
            torch.distributed.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The device of this process: with several CUDA processes on a machine, one GPU each."""
    local = os.environ.get("LOCAL_RANK")
    if device.type == "cuda" and device.index is None and local is not None:
        return torch.device("cuda", int(local))
    return device
