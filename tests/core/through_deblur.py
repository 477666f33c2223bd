"""What every method has to do when it is called through `blurfield.deblur`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from blurfield.compute import Cancelled
from blurfield.images import encode
from blurfield.restoration import deblur

if TYPE_CHECKING:
    from torch import Tensor

    from blurfield.field import KernelField


def check_method(
    method: str, blurry: Tensor, field: KernelField, steps: int, **options: Any
) -> dict[str, Any]:
    """Shape and reports, and that the second report can stop it; returns the facts.

    `blurry` are planes (C, H, W) in linear light; `steps` is what is reported as the total.
    """
    picture = (255 * encode(blurry, 2.2)).round().permute(1, 2, 0).to(torch.uint8).numpy()
    reports: list[tuple[int, int, str]] = []
    result, info = deblur(
        picture,
        field,
        method,
        return_info=True,
        progress=lambda *report: reports.append(report),
        **options,
    )
    assert result.shape == picture.shape
    assert info["method"] == method
    assert {total for _, total, _ in reports} == {steps}
    assert [done for done, _, _ in reports] == sorted(done for done, _, _ in reports)
    assert reports[-1][0] == steps

    def cancel(done: int, total: int, message: str) -> None:
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        deblur(picture, field, method, progress=cancel, **options)
    return dict(info)
