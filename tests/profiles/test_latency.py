from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from edgeiqa.profiles import latency
from edgeiqa.profiles.latency import Latency, latency_of, measure_latency, measure_together, peak_rss_mib
from edgeiqa.runtime.errors import RecordError, UsageError


def clock_of(durations_ms: Iterable[float]) -> Callable[[], int]:
    """A clock that is read twice a run and shows these durations."""
    ticks, now = [], 0
    for duration in durations_ms:
        ticks += [now, now + round(duration * 1e6)]
        now = ticks[-1] + 1000
    return iter(ticks).__next__


def test_percentiles_of_known_durations() -> None:
    measured = measure_latency(lambda: None, warmup=0, runs=101, clock=clock_of(range(101, 0, -1)))
    assert measured == Latency(
        runs=101,
        warmup=0,
        min_ms=1,
        p50_ms=51,
        p95_ms=96,
        p99_ms=100,
        max_ms=101,
        mean_ms=51,
        std_ms=measured.std_ms,
        iqr_ms=50,
    )
    assert measured.spread == pytest.approx(50 / 51)
    assert measured.std_ms == pytest.approx(((101**2 - 1) / 12) ** 0.5)


def test_percentiles_lie_between_runs() -> None:
    measured = measure_latency(lambda: None, warmup=0, runs=2, clock=clock_of([10, 20]))
    assert measured.p50_ms == 15
    assert measured.p95_ms == pytest.approx(19.5)


def test_one_run_is_its_own_percentile() -> None:
    measured = measure_latency(lambda: None, warmup=0, runs=1, clock=clock_of([7]))
    assert (measured.min_ms, measured.p50_ms, measured.p95_ms, measured.std_ms) == (7, 7, 7, 0)


def test_warm_up_runs_and_is_not_measured() -> None:
    calls: list[int] = []
    measured = measure_latency(lambda: calls.append(1), warmup=3, runs=4, clock=clock_of([1] * 4))
    assert len(calls) == 7
    assert (measured.warmup, measured.runs, measured.max_ms) == (3, 4, 1)


def test_a_real_clock_gives_what_a_latency_allows() -> None:
    measured = measure_latency(lambda: sum(range(1000)), warmup=1, runs=20)
    assert 0 < measured.min_ms <= measured.mean_ms <= measured.max_ms


def test_an_error_of_the_call_goes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        measure_latency(lambda: 1 // 0, warmup=0, runs=1)


@pytest.mark.parametrize(("warmup", "runs"), [(0, 0), (-1, 5), (3, -1)])
def test_no_runs_are_refused(warmup: int, runs: int) -> None:
    with pytest.raises(UsageError, match=f"{runs} runs after {warmup}.*at least one run"):
        measure_latency(lambda: None, warmup=warmup, runs=runs)


def test_calls_take_turns_and_every_second_round_goes_back() -> None:
    calls: list[str] = []
    together = measure_together(
        {name: lambda name=name: calls.append(name) for name in "abc"},  # type: ignore[misc]
        warmup=1,
        runs=3,
        between=lambda: calls.append("|"),
        clock=clock_of(range(1, 10)),
    )
    assert "".join(calls) == "abc" + "abc|" + "cba|" + "abc|"
    # Durations stand by the round in which they were taken, whatever the order in it.
    assert {name: list(durations) for name, durations in together.items()} == {
        "a": [1, 6, 7],
        "b": [2, 5, 8],
        "c": [3, 4, 9],
    }


def test_no_durations_are_no_latency() -> None:
    with pytest.raises(RecordError, match="no runs"):
        latency_of(np.array([]), warmup=0)


def test_the_spread_of_an_old_record_comes_from_its_standard_deviation() -> None:
    old = Latency(runs=20, warmup=1, min_ms=1, p50_ms=2, p95_ms=3, max_ms=4, mean_ms=2, std_ms=0.2)
    assert (old.p99_ms, old.iqr_ms) == (None, None)
    assert old.spread == pytest.approx(0.135)


def test_few_slow_runs_do_not_move_the_spread() -> None:
    calm = np.linspace(9.9, 10.1, 100)
    slow = calm.copy()
    slow[:3] = 500
    assert latency_of(slow, warmup=0).spread == pytest.approx(latency_of(calm, warmup=0).spread, abs=0.002)


@pytest.mark.parametrize("p95_ms", [0.5, 200.0, float("nan"), float("inf")])
def test_a_latency_out_of_order_is_refused(p95_ms: float) -> None:
    with pytest.raises(RecordError):
        Latency(runs=5, warmup=0, min_ms=1, p50_ms=2, p95_ms=p95_ms, max_ms=100, mean_ms=3, std_ms=1)


def test_a_latency_goes_through_json() -> None:
    measured = measure_latency(lambda: None, warmup=0, runs=3)
    assert msgspec.json.decode(msgspec.json.encode(measured), type=Latency) == measured


def test_the_peak_of_a_small_process_that_holds_100_mib() -> None:
    code = (
        "import edgeiqa.profiles.latency as l; a = l.peak_rss_mib();b = b'x' * (100 << 20); print(a, l.peak_rss_mib())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = (float(number) for number in ran.stdout.split())
    assert 95 < after - before < 120


def test_the_peak_is_not_inherited_from_a_larger_parent() -> None:
    code = (
        "import subprocess, sys; b = b'x' * (400 << 20);"
        "print(subprocess.run([sys.executable, '-c',"
        " 'import edgeiqa.profiles.latency as l; print(l.peak_rss_mib())'], capture_output=True, text=True).stdout)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 5 < float(ran.stdout) < 300


def test_the_peak_where_proc_does_not_tell(tmp_path: Path) -> None:
    status = tmp_path / "status"
    assert latency._high_water_mib(status) is None
    status.write_text("Name:\tpython\nVmRSS:\t  10 kB\n")
    assert latency._high_water_mib(status) is None
    status.write_text("Name:\tpython\nVmHWM:\t  204800 kB\n")
    assert latency._high_water_mib(status) == 200


def test_the_peak_in_each_systems_unit() -> None:
    assert latency._max_rss_mib(204_800, "linux") == 200
    assert latency._max_rss_mib(209_715_200, "darwin") == 200


def test_the_peak_is_none_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_rss_mib() is None
