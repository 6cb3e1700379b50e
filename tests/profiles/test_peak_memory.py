from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from edgeiqa.profiles.peak_memory import measure_peak_memory
from edgeiqa.runtime.errors import UsageError

from ..runtime.bundles import build, encoded, pixels


def test_the_process_is_its_own_and_sees_the_photograph(tmp_path: Path) -> None:
    bundle = build(tmp_path / "one.eiqa")
    ballast = b"x" * (300 << 20)
    small = measure_peak_memory(bundle.path, encoded(pixels()), engine="onnxruntime", precision="fp32", threads=1)
    large = tmp_path / "a photograph.png"
    large.write_bytes(encoded(np.zeros((3000, 4000, 3), dtype=np.uint8)))
    more = measure_peak_memory(bundle.path, large, engine="onnxruntime", precision="fp32", threads=1)
    # What this process holds does not count; 12 million pixels in three bytes are 34 MiB.
    assert len(ballast) > 0 and 20 < small < 250
    assert more - small > 30


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    bundle = build(tmp_path / "one.eiqa")
    with pytest.raises(UsageError, match=r"exit status 1.*PhotoError"):
        measure_peak_memory(bundle.path, b"no photograph", engine="onnxruntime", precision="fp32", threads=1)


def test_a_process_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    bundle = build(tmp_path / "one.eiqa")
    with pytest.raises(UsageError, match=r"longer than 0\.01 s"):
        measure_peak_memory(
            bundle.path, encoded(pixels()), engine="onnxruntime", precision="fp32", threads=1, limit_s=0.01
        )


def test_a_system_that_does_not_start_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = build(tmp_path / "one.eiqa")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    with pytest.raises(UsageError, match="no peak memory"):
        measure_peak_memory(bundle.path, encoded(pixels()), engine="onnxruntime", precision="fp32", threads=1)
