"""A whole session in a process of its own: see session.py. Its screenshots stay in artifacts/."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "artifacts" / "session"


@pytest.mark.slow
def test_session():
    script = Path(__file__).with_name("session.py")
    process = subprocess.run(
        [sys.executable, str(script), str(FOLDER)], timeout=600, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    facts = json.loads((FOLDER / "session.json").read_text())
    assert facts["cancel_seconds"] < 1
    assert facts["layers_after_cancel"] == ["blurry photograph"]
    assert facts["aligned"]
    assert facts["aligned_deblurred"]
    assert facts["units"] == ["micrometer"]
    assert facts["field_chosen"] == "blurry photograph"
    assert facts["preview_status"].startswith("Preview of")
    assert [facts["previews"], facts["previews_after"], facts["before"]] == [1, 0, False]
    before, after = facts["mask_share"]
    assert before <= after
    assert facts["saved"] == ["session.blurfield"]
    assert facts["reopened"] == ["basis", "mask", "mixing", "mosaic", "vectors"]
    assert facts["same_place"]
    assert facts["same_field"]
    assert facts["notifications"] == []
    assert len(list(FOLDER.glob("*.png"))) == 11
