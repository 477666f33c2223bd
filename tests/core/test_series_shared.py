"""Fields that frames of a series share: the median of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from small_series import CHEAP, Estimator, contents, lazily, line, stack, stop_after

import blurfield
from blurfield import Cancelled, KernelField, similarity
from blurfield.series import Series, median_field, process

if TYPE_CHECKING:
    from pathlib import Path


def test_frames_share_a_field(tmp_path: Path, estimator: Estimator) -> None:
    values = stack(5)
    values[1] = 0  # an outlier: what the stand-in takes for no blur
    frames = lazily(values)
    whole = Series.create(tmp_path / "whole", frames, shared=True, **CHEAP)
    told: list[int] = []
    reports = process(whole, frames, on_frame=told.append)
    assert {report.status for report in reports} == {"done"}
    assert sorted(told) == [0, 1, 2, 3, 4]
    shared = whole.field(1)
    assert shared.metadata["shared"] == {"fields": 5, "frames": [0, 1, 2, 3, 4]}
    expected = blurfield.deblur(values[3], shared, "tikhonov")
    np.testing.assert_array_equal(whole.image(3), expected)
    assert whole.own_field(1).metadata != shared.metadata

    parts = Series.create(tmp_path / "parts", frames, shared=True, **CHEAP)
    with pytest.raises(Cancelled):
        process(parts, frames, progress=stop_after(parts, 2))
    assert 0 < len(parts.finished) < 5
    process(parts, frames, workers=3)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


@pytest.mark.parametrize("deblurs", [True, False])
def test_frames_that_failed_before_share_the_field(
    tmp_path: Path, estimator: Estimator, deblurs: bool
) -> None:
    values = stack(5, "float32")
    values[:, 0, 0] = 201, 203, 205, 202, 204  # most are blurred, but not of those that work
    partly = values.copy()
    partly[[1, 2], 5, 6] = np.nan
    settings = {**CHEAP, "deblur": CHEAP["deblur"] if deblurs else None, "shared": True}
    whole = Series.create(tmp_path / "whole", lazily(values), **settings)
    process(whole, lazily(values))
    series = Series.create(tmp_path / "a", lazily(partly), **settings)
    process(series, lazily(partly))
    assert series.field(0).metadata["shared"]["frames"] == [0, 3, 4]
    assert similarity(series.field(0), whole.field(0)).mean < 0.9
    before = contents(tmp_path / "a")
    assert {report.status for report in process(series, lazily(partly))} == {"kept", "failed"}
    assert contents(tmp_path / "a") == before
    reports = process(series, lazily(values))
    assert contents(tmp_path / "a") == contents(tmp_path / "whole")
    assert [report.again for report in reports] == [deblurs, False, False, deblurs, deblurs]


def test_shared_fields_of_earlier_versions_are_kept(tmp_path: Path, estimator: Estimator) -> None:
    """They don't remember which frames share them."""
    values = stack(3, "float32")
    partly = values.copy()
    partly[1, 5, 6] = np.nan
    series = Series.create(tmp_path, lazily(partly), shared=True, **CHEAP)
    process(series, lazily(partly))
    field = series.field(0)
    field.with_metadata(shared={"fields": 2}).save(series.shared_path)
    before = contents(tmp_path)
    assert [report.status for report in process(series, lazily(values))] == ["kept", "done", "kept"]
    assert before.items() < contents(tmp_path).items()


def test_median_field() -> None:
    """Translated as estimates are, with one that is wrong altogether."""
    random = np.random.default_rng(0)
    truth = KernelField(
        np.stack([line(5, 9), line(5, 9).T]),
        np.stack([np.linspace(0, 1, 4), np.linspace(1, 0, 4)])[:, None].repeat(2, 1),
        (64, 96),
        {"model": "windowed", "gamma": 1.0},
    )
    fields = []
    for number in range(5):
        shift = tuple(random.integers(-2, 3, 2))
        basis = np.roll(truth.basis.numpy(), shift, (1, 2))
        basis = basis + np.float32(0.15) * (random.random(basis.shape) > 0.93)  # stray taps
        basis /= basis.sum((1, 2), keepdims=True)
        fields.append(
            KernelField(
                basis, truth.mixing, truth.shape, truth.metadata, {"confidence": [[number]]}
            )
        )
    fields.append(KernelField.uniform(np.eye(9, dtype=np.float32) / 9, truth.shape, truth.metadata))
    best = max(similarity(field, truth).mean for field in fields)
    polls: list[None] = []
    median = median_field(fields, lambda: polls.append(None))
    assert polls
    assert median.shape == truth.shape
    assert median.num_kernels <= 25
    assert best < 0.95 < 0.98 < similarity(median, truth).mean
    middle = median.kernel_at(32, 95).sum(1).argmax()
    assert middle == median.kernel_size // 2
    assert median.metadata["model"] == "windowed"
    assert median.metadata["shared"] == {"fields": 6}
    assert not median.maps  # the last one has none
    assert median_field(fields[:5]).maps["confidence"].mean() == pytest.approx(2)


def test_median_of_unlike_fields() -> None:
    small = KernelField.uniform(line(3, 3), (40, 40))
    large = KernelField.uniform(line(3, 7), (40, 40))
    median = median_field([small, large, small])
    assert median.kernel_size == 7
    assert similarity(median, large).mean == pytest.approx(1, abs=1e-5)
    apart = [KernelField.uniform(np.roll(line(1), shift, 1).T, (40, 40)) for shift in (0, 1)]
    assert median_field(apart).basis.max() == pytest.approx(1)
    with pytest.raises(ValueError, match="there is no field"):
        median_field([])
    with pytest.raises(ValueError, match=r"images of one size, not \(40, 40\) and \(40, 41\)"):
        median_field([small, KernelField.uniform(line(3), (40, 41))])
