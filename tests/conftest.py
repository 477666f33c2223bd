from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_imported_weights(monkeypatch: pytest.MonkeyPatch, tmp_path_factory) -> None:
    """Weights that the user of this machine imported change no test."""
    monkeypatch.setenv("BLURFIELD_DATA", str(tmp_path_factory.getbasetemp() / "user-data"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the reference data, which lies beside the checkout and is never committed."""
    path = Path(__file__).parents[2] / "shared"
    if not (path / "data" / "train" / "manifest.csv").is_file():
        pytest.skip("the reference images (../shared) are not on this machine")
    return path
