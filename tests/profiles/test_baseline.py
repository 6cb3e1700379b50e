from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from edgeiqa.profiles.baseline import Change, compare_with_baseline, read_baseline
from edgeiqa.profiles.full_profile import Profile
from edgeiqa.profiles.latency import Latency, latency_of
from edgeiqa.profiles.measurement import HostFacts
from edgeiqa.profiles.noise import Noise
from edgeiqa.runtime.errors import UsageError

HOST = HostFacts(cpu="a CPU", architecture="x86_64", cores=4, os="Linux", python="3.11.7")


def latency(median_ms: float, spread: float = 0.04) -> Latency:
    """Runs whose quartiles are ``spread`` of the median apart."""
    return latency_of(median_ms * (1 + np.linspace(-spread, spread, 101)), warmup=5)


def noise(loop_ms: float = 1.0, *, mean_ms: float | None = None, noisy: bool = False) -> Noise:
    calibration = msgspec.structs.replace(latency(loop_ms, 0.0), mean_ms=mean_ms or loop_ms)
    return Noise(noisy=noisy, reasons=("busy",) if noisy else (), seconds=5.0, calibration=calibration)


def profile(**fields: Any) -> Profile:
    usual: dict[str, Any] = {
        "subject": "student",
        "host": HOST,
        "engine": "openvino",
        "engine_version": "2026.4",
        "precision": "fp32",
        "threads": 4,
        "photo_width": 640,
        "photo_height": 480,
        "graph": latency(10.0),
        "file_to_score": latency(12.0),
        "noise": noise(),
        "macs": 1000,
        "size_bytes": 500,
        "peak_rss_mib": 100.0,
    }
    return Profile(**usual | fields)


def changed(before: Profile, now: Profile) -> list[str]:
    return [change.quantity for change in compare_with_baseline(before, now).changes if change.changed]


def test_the_same_is_no_change() -> None:
    report = compare_with_baseline(profile(), profile())
    assert changed(profile(), profile()) == []
    assert {change.quantity for change in report.changes} == {
        *("macs", "size_bytes", "peak_rss_mib", "graph.p50_ms", "file_to_score.p50_ms")
    }
    assert (report.differing, report.machine_ratio) == ((), 1.0)


@pytest.mark.parametrize(("now_ms", "is_change"), [(10.5, False), (9.6, False), (10.8, True), (9.3, True), (5.0, True)])
def test_a_latency_changes_beyond_the_spreads_of_both(now_ms: float, is_change: bool) -> None:
    # Spreads of 4 % each: 5.7 % together.
    report = compare_with_baseline(profile(), profile(graph=latency(now_ms)))
    (graph,) = [change for change in report.changes if change.quantity == "graph.p50_ms"]
    assert graph.noise == pytest.approx(0.04 * 2**0.5)
    assert graph.before == 10.0
    assert graph.now == pytest.approx(now_ms) and graph.ratio == pytest.approx(now_ms / 10)
    assert graph.changed is is_change


def test_a_wide_spread_hides_what_a_narrow_one_shows() -> None:
    assert changed(profile(graph=latency(10, 0.01)), profile(graph=latency(11, 0.01))) == ["graph.p50_ms"]
    assert changed(profile(graph=latency(10, 0.2)), profile(graph=latency(11, 0.01))) == []
    assert changed(profile(graph=latency(10, 0.01)), profile(graph=latency(11, 0.2))) == []


def test_a_hundredth_is_never_a_change() -> None:
    assert changed(profile(graph=latency(10, 0.0)), profile(graph=latency(10.1, 0.0))) == []


def test_a_slower_machine_is_no_slower_model() -> None:
    slower = {"graph": latency(12.5), "file_to_score": latency(15.0)}
    assert changed(profile(), profile(**slower)) == ["graph.p50_ms", "file_to_score.p50_ms"]
    assert changed(profile(), profile(**slower, noise=noise(1.25))) == []
    assert compare_with_baseline(profile(), profile(noise=noise(1.25))).machine_ratio == 1.25


def test_where_others_were_busy_their_share_of_the_time_counts() -> None:
    slower = {"graph": latency(12.5), "file_to_score": latency(15.0)}
    busy = noise(1.0, mean_ms=1.3, noisy=True)
    assert changed(profile(), profile(**slower, noise=busy)) == []
    # A mean that moved on a machine that was quiet both times is one odd loop.
    assert changed(profile(), profile(**slower, noise=noise(1.0, mean_ms=1.3))) != []


def test_what_is_counted_has_no_noise() -> None:
    report = compare_with_baseline(profile(), profile(macs=1001, size_bytes=499, peak_rss_mib=104.0))
    assert [change for change in report.changes if change.changed] == [
        Change(quantity="macs", before=1000, now=1001, ratio=1.001, noise=0.0, changed=True),
        Change(quantity="size_bytes", before=500, now=499, ratio=0.998, noise=0.0, changed=True),
    ]
    assert changed(profile(), profile(peak_rss_mib=106.0)) == ["peak_rss_mib"]


def test_what_only_one_of_them_has_is_not_compared() -> None:
    report = compare_with_baseline(profile(macs=None, noise=None), profile(load_ms=3.0))
    names = {change.quantity for change in report.changes}
    assert "macs" not in names and "load_ms" not in names and report.machine_ratio is None


def test_conditions_that_are_not_the_same_are_named() -> None:
    now = profile(
        host=msgspec.structs.replace(HOST, cpu="another"), threads=2, photo_width=320, noise=noise(noisy=True)
    )
    assert compare_with_baseline(profile(), now).differing == (
        "cpu: a CPU before, another now",
        "threads: 4 before, 2 now",
        "photograph: 640x480 before, 320x480 now",
        "noisy: False before, True now",
    )


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_bytes(profile().to_json())
    assert read_baseline(tmp_path / "old.json") == profile()


@pytest.mark.parametrize("data", [None, b"", b"[]", b'{"subject": "x"}', b"\xff"])
def test_what_is_no_baseline(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "old.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UsageError, match=r"the baseline .*old\.json.*edgeiqa profile --json"):
        read_baseline(path)
