from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from small_series import Estimator

from blurfield import checkpoint_files, checkpoints, precision

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, and an empty one in place of that of the package."""
    monkeypatch.setenv(checkpoints.DATA_VARIABLE, str(tmp_path / "data"))
    (tmp_path / "bundled").mkdir()
    monkeypatch.setattr(checkpoint_files, "BUNDLED", tmp_path / "bundled")
    path = checkpoints.user_folder()
    path.mkdir(parents=True)
    return path


@pytest.fixture
def single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks compute in single precision, also on CPUs that are faster in half precision."""
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: False)


@pytest.fixture
def estimator(monkeypatch: pytest.MonkeyPatch) -> Estimator:
    """Something quick in place of `blurfield.estimate`, which series of frames call."""
    stand_in = Estimator()
    monkeypatch.setattr("blurfield.estimation.estimate", stand_in)
    return stand_in
