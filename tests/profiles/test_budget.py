from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from edgeiqa.profiles.budget import (
    Budget,
    Violation,
    budget_names,
    combine_budgets,
    load_budget,
    parse_budget,
    read_budget,
)
from edgeiqa.profiles.latency import Latency
from edgeiqa.profiles.measurement import HostFacts, Measurement
from edgeiqa.runtime.errors import RecordError, UsageError


def measured(**facts: Any) -> Measurement:
    host = HostFacts(cpu="a", architecture="x86_64", cores=2, os="Linux", python="3.11.7")
    return Measurement(
        subject="model.eiqa", host=host, engine="onnxruntime", engine_version="1", precision="f32", **facts
    )


def latency(p95_ms: float) -> Latency:
    return Latency(runs=20, warmup=1, min_ms=1, p50_ms=2, p95_ms=p95_ms, max_ms=99, mean_ms=3, std_ms=1)


def limits(**amounts: Any) -> Budget:
    return Budget(name="mine", source="the test", status="stated", **amounts)


def test_all_limits_kept() -> None:
    budget = limits(macs=10, parameters=10, size_bytes=10, latency_p95_ms=10.0, peak_rss_mib=10.0)
    kept = measured(macs=10, parameters=9, size_bytes=1, file_to_score=latency(10.0), peak_rss_mib=9.5)
    assert budget.check(kept) == ()


def test_each_broken_limit_is_a_violation_with_its_ratio() -> None:
    budget = limits(macs=10, parameters=10, size_bytes=10, latency_p95_ms=10.0, peak_rss_mib=10.0)
    over = measured(macs=11, parameters=20, size_bytes=30, file_to_score=latency(15.0), peak_rss_mib=10.5)
    assert [(v.quantity, v.kind, v.measured, v.limit, v.ratio) for v in budget.check(over)] == [
        ("macs", "exceeded", 11, 10, 1.1),
        ("parameters", "exceeded", 20, 10, 2.0),
        ("size_bytes", "exceeded", 30, 10, 3.0),
        ("latency_p95_ms", "exceeded", 15.0, 10.0, 1.5),
        ("peak_rss_mib", "exceeded", 10.5, 10.0, 1.05),
    ]


def test_what_is_bounded_and_was_not_measured_does_not_pass() -> None:
    budget = limits(macs=10, latency_p95_ms=30.0, peak_rss_mib=100.0)
    violations = budget.check(measured(macs=5, graph=latency(5.0)))
    assert [(v.quantity, v.kind, v.measured, v.ratio) for v in violations] == [
        ("latency_p95_ms", "unmeasured", None, None),
        ("peak_rss_mib", "unmeasured", None, None),
    ]
    assert violations[0].describe() == "latency_p95_ms was not measured, and is bounded by 30 ms"


def test_an_energy_is_held_like_the_others() -> None:
    budget = limits(energy_mj=30.0)
    assert budget.check(measured(energy_mj=30.0)) == ()
    (violation,) = budget.check(measured(energy_mj=45.0))
    assert violation.describe() == "energy_mj: 45 mJ of 30 mJ (1.5 x)"
    assert budget.check(measured())[0].kind == "unmeasured"


def test_multiply_adds_in_another_convention_are_no_measurement() -> None:
    budget = limits(macs=10, convention="ptflops-pytorch")
    (violation,) = budget.check(measured(macs=5))
    assert violation.kind == "unmeasured"
    assert violation.describe() == "macs (ptflops-pytorch) was not measured, and is bounded by 10 MACs"
    assert budget.check(measured(macs=5, convention="ptflops-pytorch")) == ()
    (violation,) = budget.check(measured(macs=15, convention="ptflops-pytorch"))
    assert violation.describe() == "macs (ptflops-pytorch): 15 MACs of 10 MACs (1.5 x)"
    assert limits(macs=10).check(measured(macs=5, convention="ptflops-aten"))[0].kind == "unmeasured"
    # What has no convention is held whatever that of the count is.
    assert limits(parameters=10).check(measured(parameters=9, convention="ptflops-aten")) == ()


def test_what_is_not_bounded_does_not_matter() -> None:
    assert limits(size_bytes=10).check(measured(size_bytes=10, macs=10**15)) == ()


@pytest.mark.parametrize(
    ("violation", "text"),
    [
        (
            Violation(quantity="macs", limit=50e9, measured=79.7e9, ratio=1.594),
            "macs: 79.7 GMACs of 50 GMACs (1.594 x)",
        ),
        (
            Violation(quantity="peak_rss_mib", limit=256.0, measured=512.25, ratio=2.00098),
            "peak_rss_mib: 512.2 MiB of 256 MiB (2.001 x)",
        ),
    ],
)
def test_violations_are_described_for_people(violation: Violation, text: str) -> None:
    assert violation.describe() == text


@pytest.mark.parametrize("wrong", [{}, {"macs": 0}, {"macs": -5}, {"latency_p95_ms": float("nan")}])
def test_a_budget_that_bounds_nothing_sensible_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match=r"budget 'mine' with .*expected at least one limit"):
        limits(**wrong)


def test_the_uhd_challenge() -> None:
    budget = load_budget("uhd-50g")
    assert budget.limits == {"macs": 50_000_000_000}
    assert (budget.convention, budget.status) == ("strict", "documented")
    assert "arxiv.org/abs/2409.16271" in budget.source
    (violation,) = budget.check(measured(macs=79_700_000_000))
    assert violation.ratio == pytest.approx(1.594)


@pytest.mark.parametrize("name", budget_names())
def test_every_budget_of_the_package_reads_and_names_itself_and_its_source(name: str) -> None:
    budget = load_budget(name)
    assert budget.name == name
    assert len(budget.source) > 20
    assert budget.status in ("documented", "measured")


@pytest.mark.parametrize("name", ["uhd-50", "nothing", "", "../uhd-50g"])
def test_an_unknown_budget_lists_those_there_are(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_budget(name)
    assert "uhd-50g" in caught.value.expected


def test_a_near_name_is_offered() -> None:
    with pytest.raises(UsageError, match="write uhd-50g"):
        load_budget("uhd50g")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50GMACs", {"macs": 50_000_000_000}),
        ("50G", {"macs": 50_000_000_000}),
        ("50G, 4MB,30ms", {"macs": 50_000_000_000, "size_bytes": 4_000_000, "latency_p95_ms": 30.0}),
        ("5.4M parameters", {"parameters": 5_400_000}),
        ("4MB,500 MiB RAM,2J", {"size_bytes": 4_000_000, "peak_rss_mib": 500.0, "energy_mj": 2000.0}),
    ],
)
def test_budgets_parse_as_people_write_them(text: str, expected: dict[str, float]) -> None:
    budget = parse_budget(text)
    assert budget.limits == expected
    assert budget.status == "stated"


@pytest.mark.parametrize("text", ["", "50G,", "50 apples"])
def test_a_budget_that_does_not_parse_is_answered_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match="50 GMACs"):
        parse_budget(text)


def test_a_convention_stands_among_the_amounts() -> None:
    budget = parse_budget("4.2GMACs, ptflops-pytorch")
    assert (budget.limits, budget.convention) == ({"macs": 4_200_000_000}, "ptflops-pytorch")
    assert parse_budget("4.2GMACs").convention == "strict"


@pytest.mark.parametrize("text", ["ptflops-pytorch", "4MB,ptflops-aten", "4G,strict,ptflops-aten"])
def test_a_convention_of_nothing_or_two_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="at most one convention"):
        parse_budget(text)


def test_of_several_budgets_the_tightest_limits_hold() -> None:
    both = combine_budgets([load_budget("uhd-50g"), parse_budget("40GMACs,30ms"), limits(latency_p95_ms=20.0)])
    assert both.limits == {"macs": 40_000_000_000, "latency_p95_ms": 20.0}
    assert both.name == "uhd-50g and 40GMACs,30ms and mine"
    assert both.status == "stated"
    assert combine_budgets([load_budget("uhd-50g")]) == load_budget("uhd-50g")
    assert combine_budgets([load_budget("uhd-50g"), load_budget("mobile")]).status == "documented"


def test_budgets_in_two_conventions_do_not_combine() -> None:
    other = limits(macs=5, convention="ptflops-aten")
    with pytest.raises(UsageError, match=r"ptflops-aten and strict.*do not compare"):
        combine_budgets([load_budget("uhd-50g"), other])
    assert combine_budgets([parse_budget("4MB"), other]).convention == "ptflops-aten"


def test_two_limits_of_one_quantity_are_refused() -> None:
    with pytest.raises(UsageError, match="bounds macs twice"):
        parse_budget("50G,40GMACs")


def test_a_budget_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "camera.toml"
    file.write_text('name = "camera"\nsource = "its data sheet"\nstatus = "documented"\nlatency_p95_ms = 30\n')
    assert read_budget(file).limits == {"latency_p95_ms": 30.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "not a budget"),
        ('name = "a"\nsource = "b"\nstatus = "guessed"\nmacs = 5\n', "guessed"),
        ('name = "a"\nsource = "b"\nstatus = "measured"\nmac = 5\n', "mac"),
        ('name = "a"\nsource = "b"\nstatus = "measured"\nmacs = "5G"\n', "int"),
        ('name = "a"\nsource = "b"\nstatus = "measured"\n', "no limits"),
    ],
)
def test_a_file_that_is_no_budget_says_why(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        read_budget(file)
    assert "wrong.toml" in caught.value.got


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_budget(tmp_path / "none.toml")


def test_a_budget_goes_through_json() -> None:
    budget = load_budget("uhd-50g")
    assert msgspec.json.decode(msgspec.json.encode(budget), type=Budget) == budget
