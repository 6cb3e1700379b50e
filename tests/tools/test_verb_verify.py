"""``edgeiqa verify``: yes or no, and by how much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .command import edgeiqa, require_refusal, rewritten


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_bundle_verifies(small_bundle: Path, engine: str) -> None:
    ran = edgeiqa("verify", small_bundle, "--engine", engine, "--json")
    assert (ran.code, ran.err) == (0, "")
    seen = ran.object
    assert seen["passed"] is True
    assert (seen["bundle"], seen["engine"], seen["precision"]) == ("small", engine, "fp32")
    assert seen["engine_version"][0].isdigit() and seen["parts"] == 7
    # For each of two photographs: the member's views, its score, the combined score.
    assert len(seen["checks"]) == 6
    for check in seen["checks"]:
        assert list(check) == ["what", "difference", "tolerance", "unit", "passed"]
        assert check["passed"] is (check["difference"] <= check["tolerance"]) is True


def test_a_table_for_people(pair_bundle: Path) -> None:
    ran = edgeiqa("verify", pair_bundle)
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == "verified"
    assert "rocket: second: score" in ran.out and "coffee-blurred: combined score" in ran.out


def test_other_answers_are_an_honest_no(small_bundle: Path, tmp_path: Path) -> None:
    def another_answer(manifest: dict[str, Any]) -> None:
        manifest["members"][0]["artefacts"][0]["golden_raw"][1] += 0.5

    other = rewritten(small_bundle, tmp_path / "other.eiqa", another_answer)
    ran = edgeiqa("verify", other, "--json")
    assert ran.code == 1 and ran.object["passed"] is False
    wrong = [check for check in ran.object["checks"] if not check["passed"]]
    assert [check["what"] for check in wrong] == ["rocket: mobilenetv3_small_050-64x64: score"]
    assert wrong[0]["difference"] > 1
    table = edgeiqa("verify", other)
    assert table.code == 1
    assert "NO" in table.out and "NOT verified" in table.out.splitlines()[-1]
    # The other engine's own answers are untouched.
    assert edgeiqa("verify", other, "--engine", "openvino").code == 0


def test_another_combined_score_is_seen(small_bundle: Path, tmp_path: Path) -> None:
    other = rewritten(small_bundle, tmp_path / "other.eiqa", lambda m: m["golden"][0].update(score=3.0))
    ran = edgeiqa("verify", other, "--json")
    assert ran.code == 1
    wrong = [check["what"] for check in ran.object["checks"] if not check["passed"]]
    assert wrong == ["coffee-blurred: combined score"]


def test_bytes_that_were_changed(small_bundle: Path, tmp_path: Path) -> None:
    data = bytearray(small_bundle.read_bytes())
    # In the middle of the largest part; the zip archive's own checksum notices as well.
    data[len(data) // 2] ^= 1
    (tmp_path / "changed.eiqa").write_bytes(data)
    ran = edgeiqa("verify", tmp_path / "changed.eiqa", "--engine", "onnxruntime")
    require_refusal(ran, "changed.eiqa", "copy it again")


def test_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    require_refusal(edgeiqa("verify", tmp_path / "missing.eiqa"), "missing.eiqa", "not there")
