"""The published Richardson-Lucy variants, against figures made by the public code."""

from __future__ import annotations

import pytest
import torch
from conformance import F64, close, img, kern, maps

from blurfield.field import KernelField
from blurfield.operator import BlurOperator
from blurfield.restoration.published import VARIANTS, published_richardson_lucy, tv_divergence

X = img(3, 40, 36)
FIELD = KernelField(kern(4, 9), maps(4, 40, 36))


def encoded(exposure: float = 1.0) -> torch.Tensor:
    return BlurOperator(FIELD).forward(exposure * X).clamp(0, 1)


def check(image: torch.Tensor, mean: float, ss: float, *values: float) -> None:
    assert close(image.mean(), mean)
    assert close(image.square().sum(), ss)
    for index, value in zip([(0, 0, 0), (1, 20, 17), (2, 39, 35)], values, strict=True):
        assert close(image[index], value)


def test_tv_divergence():
    """Appendix A.3."""
    check(
        tv_divergence(X),
        -4.055673091925e-1,
        4.683038878653e4,
        1.201906192252,
        1.019959607299,
        -6.351793709986e-1,
    )


def test_tv_divergence_of_a_flat_image_is_finite():
    assert tv_divergence(torch.full((1, 8, 8), 0.5)).isfinite().all()


@pytest.mark.parametrize(
    ("options", "exposure", "figures"),
    [
        (
            {"variant": "basic"},
            1.0,
            (
                4.896773591910e-1,
                1.236923796876e3,
                8.593404824716e-1,
                4.125070130941e-1,
                8.491805165929e-1,
            ),
        ),
        (
            {"variant": "function"},
            1.0,
            (
                4.896773591991e-1,
                1.236923796928e3,
                8.593404848530e-1,
                4.125070130916e-1,
                8.491805165929e-1,
            ),
        ),
        (
            {"variant": "masked", "threshold": 0.7},
            1.0,
            (
                4.843663799473e-1,
                1.189985284998e3,
                8.420253636907e-1,
                4.098766596886e-1,
                8.115845392606e-1,
            ),
        ),
        (
            {"variant": "combined", "threshold": 0.99},
            1.4,
            (
                6.782199136993e-1,
                2.343646318468e3,
                1.010177133412,
                5.799185635017e-1,
                1.154659559727,
            ),
        ),
        (
            {"variant": "combined", "threshold": 0.99, "dilate": True},
            1.4,
            (
                7.016288466334e-1,
                2.405336920300e3,
                1.010211576719,
                5.780205309393e-1,
                1.123202662415,
            ),
        ),
    ],
    ids=["basic", "function", "masked", "combined", "combined-dilated"],
)
def test_conformance(options, exposure, figures):
    """Appendix A.4: five iterations in double precision."""
    image = encoded(exposure)
    before = image.clone()
    result, info = published_richardson_lucy(image, FIELD, iterations=5, **options)
    assert result.dtype == F64
    check(result, *figures)
    assert info == {"iterations": 5, "converged": False}
    assert torch.equal(image, before)


def test_default_thresholds():
    """0.7 of the function for "masked", 0.99 of the command line for "combined"."""
    image = encoded(1.4)
    for variant, threshold in (("masked", 0.7), ("combined", 0.99)):
        default, _ = published_richardson_lucy(image, FIELD, variant=variant, iterations=2)
        given, _ = published_richardson_lucy(
            image, FIELD, variant=variant, iterations=2, threshold=threshold
        )
        assert torch.equal(default, given)


@pytest.mark.parametrize("variant", VARIANTS)
def test_single_precision(variant):
    image = encoded(1.4)
    exact, _ = published_richardson_lucy(image, FIELD, variant=variant, iterations=5)
    single, _ = published_richardson_lucy(image.float(), FIELD, variant=variant, iterations=5)
    assert single.dtype == torch.float32
    # "combined" decides by thresholds, so single pixels may take the other way.
    assert float((single - exact).abs().median()) < 1e-5
    assert float((single.mean() - exact.mean()).abs()) < 1e-3


def test_early_stop_discards_the_last_step():
    """With nothing to gain, the start comes back."""
    flat = torch.full((1, 20, 20), 0.5, dtype=F64)
    field = KernelField(kern(1, 5), torch.ones(1, 1, 1, dtype=F64), (20, 20))
    result, info = published_richardson_lucy(flat, field, early_stop=True)
    assert info["converged"]
    assert info["iterations"] == 1
    one, _ = published_richardson_lucy(flat, field, iterations=1)
    assert torch.equal(result, one)


def test_unknown_variant():
    with pytest.raises(ValueError, match=r"'best'.*basic, function, masked, combined"):
        published_richardson_lucy(encoded(), FIELD, variant="best")
