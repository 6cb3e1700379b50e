"""Where tests find the photographs and scores that are not in the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with ``clive/``, ``uhd/`` and ``fixtures/``: ``$EDGEIQA_DATA``, or ``../shared/data``."""
    root = Path(os.environ.get("EDGEIQA_DATA", SHARED))
    if not (root / "clive" / "mos.csv").is_file():
        pytest.fail(f"{root} does not hold clive/mos.csv: set EDGEIQA_DATA to the folder of photographs with scores")
    return root
