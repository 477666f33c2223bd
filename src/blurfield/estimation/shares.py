"""How much of a field's kernels the compact network has found, and windowed estimation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blurfield.field import KernelField

if TYPE_CHECKING:
    from torch import Tensor

#: Name of the map that tells it.
_MAP = "network"


def with_shares(field: KernelField, network: Tensor) -> KernelField:
    """Return a field that tells how much of its kernels is from the network, (h, w), in [0, 1].

    Its map ``network`` holds that, and the metadata ``shares`` the means of both.
    """
    mean = float(network.mean())
    shares = {"compact": round(mean, 4), "windowed": round(1 - mean, 4)}
    return KernelField(
        field.basis,
        field.mixing,
        field.shape,
        {**field.metadata, "shares": shares},
        {**field.maps, _MAP: network},
    )


def network_share(field: KernelField) -> Tensor:
    """How much of a field's kernels is from the network, (1, h, w), in [0, 1].

    What the map ``network`` says; without it, all of the model ``compact`` and nothing of others.
    """
    if _MAP in field.maps:
        return field.maps[_MAP][None]
    alone = field.metadata.get("model") == "compact"
    return field.basis.new_full((1, 1, 1), float(alone))
