"""Measuring a call: its latency in this process, and the process's peak memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from ..runtime.errors import RecordError, UsageError

__all__ = ["Latency", "measure_latency", "peak_rss_mib"]


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a call took, over ``runs`` runs after ``warmup`` unmeasured ones.

    Attributes:
        runs: measured runs.
        warmup: runs before them that were not measured.
        min_ms: the shortest.
        p50_ms: the median.
        p95_ms: the 95th percentile, linear between the runs beside it; with fewer than 20 runs little less than the
            longest.
        max_ms: the longest.
        mean_ms: the mean.
        std_ms: the population standard deviation.
    """

    runs: int
    warmup: int
    min_ms: float
    p50_ms: float
    p95_ms: float
    max_ms: float
    mean_ms: float
    std_ms: float

    def __post_init__(self) -> None:
        # Written so that a nan fails.
        ordered = 0 <= self.min_ms <= self.p50_ms <= self.p95_ms <= self.max_ms < float("inf")
        if not (ordered and self.runs >= 1 and self.warmup >= 0 and self.mean_ms >= 0 and self.std_ms >= 0):
            raise RecordError(
                f"a latency of {self.min_ms} / {self.p50_ms} / {self.p95_ms} / {self.max_ms} ms over {self.runs} runs",
                expected="0 <= min <= p50 <= p95 <= max, finite, over at least one run",
                mend="measure again",
            )


def measure_latency(
    call: Callable[[], object],
    *,
    warmup: int,
    runs: int,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Latency:
    """Measure how long a call takes on the wall, one after another.

    Args:
        call: what is measured; its result is dropped within the measured time, as a user's would be.
        warmup: unmeasured runs first, from 0: caches fill, engines allocate.
        runs: measured runs, from 1. Garbage collection is left on, as it is where the call is used.
        clock: monotonic nanoseconds.

    Raises:
        UsageError: no runs, or a negative warm-up. What the call raises goes through.
    """
    if runs < 1 or warmup < 0:
        raise UsageError(
            f"{runs} runs after {warmup} of warm-up",
            expected="at least one run, and a warm-up from 0",
            mend="ask for more runs (20 or more give a meaningful p95)",
        )
    for _ in range(warmup):
        call()
    durations_ms = np.empty(runs)
    for index in range(runs):
        start = clock()
        call()
        durations_ms[index] = (clock() - start) / 1e6
    p50, p95 = np.percentile(durations_ms, (50, 95))
    return Latency(
        runs=runs,
        warmup=warmup,
        min_ms=float(durations_ms.min()),
        p50_ms=float(p50),
        p95_ms=float(p95),
        max_ms=float(durations_ms.max()),
        mean_ms=float(durations_ms.mean()),
        std_ms=float(durations_ms.std()),
    )


def peak_rss_mib() -> float | None:
    """The largest resident set of this process since it started, in MiB; None where the system does not tell.

    Linux: ``VmHWM`` of ``/proc/self/status``, which starts anew with each program, and where there is none
    ``getrusage``, which a program that was started by a larger one inherits. macOS: ``getrusage``. Windows: None.
    """
    if sys.platform == "linux":
        high_water = _high_water_mib(Path("/proc/self/status"))
        if high_water is not None:
            return high_water
    try:
        import resource
    except ModuleNotFoundError:
        return None
    return _max_rss_mib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, sys.platform)


def _high_water_mib(status: Path) -> float | None:
    try:
        lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return None


def _max_rss_mib(max_rss: int, platform: str) -> float:
    """``ru_maxrss`` in MiB: macOS counts it in bytes, the other systems in KiB."""
    return max_rss / 2**20 if platform == "darwin" else max_rss / 2**10
