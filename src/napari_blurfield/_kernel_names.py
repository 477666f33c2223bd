"""Names for the basis kernels of a field, by which the slices of its weights can be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blurfield import KernelField

#: Extent in pixels below which a kernel is no blur to speak of.
_SHARP = 1.5
#: Anisotropy below which the direction of a kernel means nothing.
_ROUND = 0.5


def kernel_names(field: KernelField) -> list[str]:
    """Return what there is to say about each basis kernel in a few words.

    For instance ``Kernel 3 of 20: 12 px at 35°, 18 % of the image``; angles are counter-clockwise.
    """
    import torch

    from blurfield import KernelField
    from blurfield.measure import motion_features

    count = field.num_kernels
    alone = torch.eye(count).to(field.basis)[:, None, :]  # an image of one row, a pixel for each
    facts = motion_features(KernelField(field.basis, alone), spacing=1)
    shares = field.mixing.mean((-2, -1)).tolist()
    columns = (facts[name].tolist() for name in ("length", "angle", "anisotropy"))
    return [
        f"Kernel {number} of {count}: {_words(*one)}, {share:.0%} of the image"
        for number, (share, *one) in enumerate(zip(shares, *columns, strict=True), 1)
    ]


def _words(length: float, angle: float, anisotropy: float) -> str:
    if length < _SHARP:
        return "sharp"
    direction = f"at {round(angle) % 180}°" if anisotropy >= _ROUND else "all round"
    return f"{length:.0f} px {direction}"


__all__ = ["kernel_names"]
