"""``edgeiqa profile``: what is measured, and budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .command import edgeiqa, require_refusal


def profile(*arguments: object) -> Any:
    return edgeiqa("profile", *arguments, "--runs", 3, "--warmup", 1)


def test_the_figures(small_bundle: Path) -> None:
    ran = profile(small_bundle, "--threads", 1, "--json")
    assert (ran.code, ran.err) == (0, "")
    seen = ran.object
    assert (seen["subject"], seen["engine"], seen["precision"], seen["threads"]) == ("small", "onnxruntime", "fp32", 1)
    # mobilenetv3_small_050 without its classifier and with a linear head, at 64x64.
    assert seen["macs"] == pytest.approx(2.0e6, rel=0.5)
    assert seen["parameters"] == pytest.approx(0.57e6, rel=0.05)
    assert seen["size_bytes"] == small_bundle.stat().st_size
    assert seen["convention"] == "strict"
    for latency in (seen["graph"], seen["file_to_score"]):
        assert (latency["runs"], latency["warmup"]) == (3, 1)
        assert 0 < latency["min_ms"] <= latency["p50_ms"] <= latency["p95_ms"] <= latency["max_ms"]
    assert seen["load_ms"] > 0 and seen["first_score_ms"] > 0 and seen["peak_rss_mib"] > 10
    assert {"cpu", "architecture", "cores", "os", "python"} <= set(seen["host"])
    assert seen["violations"] == []


def test_a_photograph_of_ones_own(small_bundle: Path, photos: Path) -> None:
    seen = profile(small_bundle, "--photo", photos / "05.jpg", "--json").object
    assert (seen["photo_width"], seen["photo_height"]) == (140, 90)


def test_a_table_for_people(pair_bundle: Path) -> None:
    ran = profile(pair_bundle, "--budget", "50GMACs,16MB")
    assert (ran.code, ran.err) == (0, "")
    for words in ("GMACs", "parameters", "file to score, median of 3 runs", "memory of this process", "onnxruntime"):
        assert words in ran.out


def test_the_cost_of_members_is_added_up(small_bundle: Path, pair_bundle: Path) -> None:
    pair, small = (profile(bundle, "--json").object for bundle in (pair_bundle, small_bundle))
    assert pair["parameters"] > small["parameters"] and pair["macs"] > small["macs"]


def test_a_budget_that_is_broken(small_bundle: Path) -> None:
    ran = profile(small_bundle, "--budget", "1kMACs,16MB", "--json")
    assert ran.code == 1
    (violation,) = ran.object["violations"]
    assert (violation["quantity"], violation["limit"]) == ("macs", 1000)
    assert violation["ratio"] == pytest.approx(ran.object["macs"] / 1000)
    assert "over the budget 1kMACs,16MB" in ran.err and "macs" in ran.err
    table = profile(small_bundle, "--budget", "1B")
    assert table.code == 1 and "size_bytes" in table.err and "parameters" in table.out


def test_a_budget_by_name(small_bundle: Path) -> None:
    assert profile(small_bundle, "--budget", "uhd-50g", "--json").code == 0


@pytest.mark.parametrize("budget", ["fast", "5 parsecs", "1GMACs,2GMACs", "", "-3ms", "uhd-50"])
def test_a_budget_that_cannot_be_read(small_bundle: Path, budget: str) -> None:
    ran = profile(small_bundle, "--budget", budget, "--json")
    require_refusal(ran, f"--budget {budget}", "one of: uhd-50g")


def test_what_cannot_be_measured(small_bundle: Path, tmp_path: Path) -> None:
    require_refusal(profile(tmp_path / "missing.eiqa"), "not there")
    require_refusal(profile(small_bundle, "--photo", tmp_path / "missing.jpg"), "missing.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    require_refusal(profile(small_bundle, "--photo", tmp_path / "broken.jpg"), "broken.jpg")
    require_refusal(profile(small_bundle, "--precision", "int8"), "int8", "export that one")
