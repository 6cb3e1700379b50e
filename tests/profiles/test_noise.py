from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from edgeiqa.profiles import noise
from edgeiqa.profiles.latency import latency_of
from edgeiqa.profiles.noise import Noise, NoiseWatch

TICKS = os.sysconf("SC_CLK_TCK")
QUIET = latency_of(np.full(20, 1.0), warmup=0)


def reading(**fields: Any) -> noise._Reading:
    idle: dict[str, Any] = {"wall": 0.0, "own": 0.0, "cores": 2, "kernel": (0.0, 0.0), "switches": 0}
    return noise._Reading(**idle | fields)


def judged(loops_ms: list[float] | None = None, **end: Any) -> Noise:
    calibration = QUIET if loops_ms is None else latency_of(np.array(loops_ms), warmup=0)
    return noise._judge(reading(), reading(**{"wall": 10.0, "own": 10.0, "kernel": (10.0, 0.0)} | end), calibration)


def test_a_quiet_machine() -> None:
    quiet = judged()
    assert (quiet.noisy, quiet.reasons) == (False, ())
    assert (quiet.steal_share, quiet.other_cores, quiet.involuntary_switches_per_second) == (0, 0, 0)
    assert quiet.seconds == 10


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({"kernel": (10.0, 1.0)}, "another virtual machine had the cores for 5.0% of the time"),
        ({"kernel": (16.0, 0.0)}, "other processes kept 0.6 of 2 cores busy"),
        ({"switches": 2000}, "threads had to leave their core 200 times a second"),
        ({"loops_ms": [1.0, 1.3] * 10}, "a fixed loop varied by 26% between its quartiles"),
        ({"loops_ms": [1.0] * 18 + [9.0] * 2}, "a fixed loop took up to 9.00 times its shortest time"),
    ],
)
def test_each_reason_is_named_alone(seen: dict[str, Any], reason: str) -> None:
    found = judged(**seen)
    assert found.noisy
    (only,) = [said for said in found.reasons if said.startswith(reason)]
    assert found.reasons == (only,) or "loops_ms" in seen


def test_what_the_system_does_not_tell_is_none_and_no_reason() -> None:
    found = judged(kernel=None, switches=None)
    assert not found.noisy
    assert (found.steal_share, found.other_cores, found.involuntary_switches_per_second) == (None, None, None)


def test_counters_of_a_moment_say_nothing() -> None:
    assert judged(wall=0.1, own=0.0, kernel=(0.2, 0.0)).other_cores is None


def test_a_few_loops_are_no_evidence() -> None:
    assert not judged([1.0, 9.0]).noisy


def test_the_kernels_counters_of_this_process_cores_alone() -> None:
    text = (
        "cpu  999 999 999 999 999 999 999 999 999 999\n"
        "cpu0 100 10 20 5000 7 1 2 30 40 50\n"
        "cpu1 900 900 900 900 900 900 900 900 0 0\n"
        "cpu10 1 1 1 1 1 1 1 1 1 1\n"
        "intr 5\n"
    )
    assert noise._busy_and_steal(text, {0}) == (133 / TICKS, 30 / TICKS)
    assert noise._busy_and_steal(text, {0, 10}) == (138 / TICKS, 31 / TICKS)
    with pytest.raises(ValueError, match="not every core"):
        noise._busy_and_steal(text, {0, 3})


def test_a_watch_counts_its_loops(tmp_path: Path) -> None:
    watch = NoiseWatch(stat=tmp_path / "none")
    for _ in range(5):
        watch.tick()
    seen = watch.finish()
    assert seen.calibration.runs == 5 and seen.calibration.min_ms > 0
    assert seen.steal_share is None and seen.other_cores is None
    assert msgspec.json.decode(msgspec.json.encode(seen), type=Noise) == seen


def test_a_watch_without_loops_runs_one() -> None:
    assert NoiseWatch().finish().calibration.runs == 1
