"""``edgeiqa plan``: the table, the data, the page, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .command import edgeiqa, files_in, require_refusal
from .report_page import read_page

SMALL = ("--backbone", "mobilenetv3_small_050", "--backbone", "test_efficientnet", "--image", "320x192")
ALONE = ("--backbone", "mobilenetv3_small_050", "--image", "320x192", "--size", "320x192")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plan") / "runs"


def plan(runs: Path, *arguments: object) -> Any:
    return edgeiqa("plan", "--runs", runs, *arguments)


def test_the_table_and_the_way_on(runs: Path) -> None:
    ran = plan(runs, *SMALL, "--budget", "20MMACs")
    assert ran.code == 0, ran.err
    for words in ("Pareto front", "* ", "whole", "pixels seen", "fp32", "SRCC", "ImageNet", "three-scale"):
        assert words in ran.out + ran.err, words
    assert "candidates for photographs of 320x192" in ran.err and "dropped" in ran.err and "counts made" in ran.err
    *_, command = ran.err.splitlines()
    assert command.startswith("edgeiqa distill --student mobilenetv3_small_050 --size ")
    assert command.endswith(" --image 320x192 --budget 20MMACs")
    assert files_in(runs) == {"plan-cache.json"}


def test_the_data_for_machines(runs: Path) -> None:
    ran = plan(runs, *SMALL, "--budget", "20MMACs,2MB", "--json", "--members", 1, "--precision", "int8")
    assert ran.code == 0, ran.err
    seen = ran.object
    assert seen["kept"] + seen["dropped"]["macs"] == seen["considered"]
    best = seen["rows"][seen["recommended"]]
    assert best["macs"] <= 20_000_000 and best["counted"] and set(best["size_bytes"]) == {"int8"}
    assert best["latency"] == "estimated" and best["latency_ms"] > 0
    assert 0 < best["share"] <= 1 and {row["members"] for row in seen["rows"]} == {1}


def test_a_page(runs: Path, tmp_path: Path) -> None:
    ran = plan(runs, *ALONE, "--budget", "40MMACs", "--html", tmp_path / "plan.html")
    assert ran.code == 0 and str(tmp_path / "plan.html") in ran.err
    page = read_page((tmp_path / "plan.html").read_text(encoding="utf-8"))
    assert "mobilenetv3_small_050 (chosen)" in page.texts("th") and len(page.all("svg")) == 2
    assert files_in(tmp_path) == {"plan.html"}


def test_one_size_that_is_over_is_refused_with_three_ways_out(runs: Path) -> None:
    require_refusal(
        plan(runs, *ALONE, "--budget", "1MMACs"),
        *("mobilenetv3_small_050-320x192", "MMACs of 1 MMACs", "smaller input", "smaller student", "fewer members"),
        code=1,
    )


def test_a_budget_that_nothing_meets(runs: Path) -> None:
    ran = plan(runs, *SMALL, "--budget", "1kMACs")
    require_refusal(ran, "which none of", "the nearest is", "parameters", "times a limit", code=1)


def test_a_device_brings_its_budget_and_its_throughput(runs: Path) -> None:
    mobile = plan(runs, *ALONE, "--device", "mobile", "--json")
    assert mobile.code == 0, mobile.err
    assert mobile.object["budget"]["name"] == "mobile" and mobile.object["rows"][0]["latency"] == "estimated"
    both = plan(runs, *ALONE, "--device", "jetson-orin-nano", "--budget", "40MMACs", "--json").object
    (row,) = both["rows"]
    assert (row["latency"], both["machine"]) == ("at least", "jetson-orin-nano")
    assert row["latency_ms"] == pytest.approx(row["macs"] / 16.75e12 * 1e3)


def test_a_throughput_that_is_not_the_highest_bounds_nothing_and_that_is_said(runs: Path) -> None:
    ran = plan(runs, *ALONE, "--device", "rtx-4060", "--budget", "40MMACs", "--json")
    assert ran.code == 0 and ran.object["rows"][0]["latency"] == "estimated"
    assert "the highest throughput of rtx-4060 is not documented: ms are of this machine" in ran.err


def test_a_device_that_bounds_nothing_that_is_planned(runs: Path) -> None:
    ran = plan(runs, *ALONE, "--device", "raspberry-pi-5", "--json")
    assert ran.code == 0 and "held to 50GMACs besides" in ran.err
    assert ran.object["unplanned"] == ["peak_rss_mib"] and ran.object["budget"]["macs"] == 50 * 10**9


def test_limits_that_leave_every_input_are_held_to_the_usual_one(runs: Path) -> None:
    for options, said in (
        (("--device", "iphone"), "iphone bounds size_bytes alone"),
        (("--budget", "500 MiB RAM"), "500 MiB RAM bounds peak_rss_mib alone"),
    ):
        ran = plan(runs, *ALONE, *options, "--json")
        assert ran.code == 0 and f"{said}: held to 50GMACs besides" in ran.err
        assert ran.object["budget"]["macs"] == 50 * 10**9
    # A file of so many bytes and any work is what was asked for.
    stated = plan(runs, *ALONE, "--budget", "4MB", "--json")
    assert "besides" not in stated.err and stated.object["budget"]["macs"] is None


def test_one_size_whose_file_is_too_large_is_refused_with_three_ways_out(runs: Path) -> None:
    ran = plan(runs, *ALONE, "--budget", "100kB")
    require_refusal(
        ran, "size_bytes", "of 100 kB", "in INT8", "smaller input", "smaller student", "fewer members", code=1
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--device", "toaster"), ("no device named 'toaster'", "raspberry-pi-5")),
        (("--budget", "lots"), ("lots",)),
        (("--image", "wide"), ("wide",)),
        (("--size", "10"), ("size '10'",)),
        (("--view", "sideways"), ("'sideways'",)),
        (("--members", "0"), ("0 is not in the range",)),
        (("--backbone", "mobilenetv3_small_05"), ("near names", "mobilenetv3_small_050")),
        (("--device", "mobile", "--measure"), ("measuring for the device mobile",)),
    ],
)
def test_what_is_refused(tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    require_refusal(plan(tmp_path / "runs", *arguments), *words)
    assert files_in(tmp_path) == set()


def test_a_broken_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan-cache.json").write_text("{")
    require_refusal(plan(tmp_path, *ALONE, "--budget", "20MMACs"), "plan-cache.json", "rm ")
