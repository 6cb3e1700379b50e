"""Measuring calls: their latency in this process, one after another or side by side, and the process's peak memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import RecordError, UsageError

__all__ = ["Latency", "latency_of", "measure_latency", "measure_together", "peak_rss_mib"]


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
        p99_ms: the 99th percentile, as ``p95_ms``; with fewer than 100 runs little less than the longest. None in
            records of versions before it.
        iqr_ms: the distance between the quartiles, which a few slow runs do not move; None likewise.
    """

    runs: int
    warmup: int
    min_ms: float
    p50_ms: float
    p95_ms: float
    max_ms: float
    mean_ms: float
    std_ms: float
    p99_ms: float | None = None
    iqr_ms: float | None = None

    def __post_init__(self) -> None:
        # Written so that a nan fails.
        p99_ms = self.p95_ms if self.p99_ms is None else self.p99_ms
        ordered = 0 <= self.min_ms <= self.p50_ms <= self.p95_ms <= p99_ms <= self.max_ms < float("inf")
        ordered = ordered and 0 <= (self.iqr_ms or 0.0) <= self.max_ms
        if not (ordered and self.runs >= 1 and self.warmup >= 0 and self.mean_ms >= 0 and self.std_ms >= 0):
            raise RecordError(
                f"a latency of {self.min_ms} / {self.p50_ms} / {self.p95_ms} / {self.max_ms} ms over {self.runs} runs",
                expected="0 <= min <= p50 <= p95 <= p99 <= max, finite, over at least one run",
                mend="measure again",
            )

    @property
    def spread(self) -> float:
        """How far runs lie apart, as a part of the median: the quartiles' distance, or 1.35 standard deviations."""
        # Of a normal distribution the quartiles are 1.35 standard deviations apart.
        iqr_ms = 1.35 * self.std_ms if self.iqr_ms is None else self.iqr_ms
        return iqr_ms / self.p50_ms if self.p50_ms > 0 else 0.0


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
    return latency_of(measure_together({"call": call}, warmup=warmup, runs=runs, clock=clock)["call"], warmup=warmup)


def measure_together(
    calls: Mapping[str, Callable[[], object]],
    *,
    warmup: int,
    runs: int,
    between: Callable[[], object] | None = None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, NDArray[np.float64]]:
    """Measure several calls side by side: each round runs every one once, so that they can be compared.

    What the machine does besides meets all of them alike. Every second round goes through them in reverse.

    Args:
        calls: what is measured, by name; results are dropped within the measured time, as a user's would be.
        warmup: unmeasured rounds first, from 0: caches fill, engines allocate.
        runs: measured rounds, from 1. Garbage collection is left on, as it is where the calls are used.
        between: run after each measured round, unmeasured.
        clock: monotonic nanoseconds.

    Returns:
        By name the durations in milliseconds, float64 ``[runs]``, in the rounds' order.

    Raises:
        UsageError: no runs, or a negative warm-up. What a call raises goes through.
    """
    if runs < 1 or warmup < 0:
        raise UsageError(
            f"{runs} runs after {warmup} of warm-up",
            expected="at least one run, and a warm-up from 0",
            mend="ask for more runs (20 or more give a meaningful p95)",
        )
    for _ in range(warmup):
        for call in calls.values():
            call()
    durations_ms = {name: np.empty(runs) for name in calls}
    order = list(calls.items())
    for index in range(runs):
        for name, call in order if index % 2 == 0 else reversed(order):
            start = clock()
            call()
            durations_ms[name][index] = (clock() - start) / 1e6
        if between is not None:
            between()
    return durations_ms


def latency_of(durations_ms: NDArray[np.float64], *, warmup: int) -> Latency:
    """The record of measured durations.

    Args:
        durations_ms: milliseconds, float64 ``[runs]``, at least one.
        warmup: runs before them that were not measured.

    Raises:
        RecordError: none, or one that is negative or not finite.
    """
    if len(durations_ms) == 0:
        raise RecordError("a latency of no runs", expected="at least one", mend="measure again")
    quarter, p50, three_quarters, p95, p99 = np.percentile(durations_ms, (25, 50, 75, 95, 99))
    return Latency(
        runs=len(durations_ms),
        warmup=warmup,
        min_ms=float(durations_ms.min()),
        p50_ms=float(p50),
        p95_ms=float(p95),
        max_ms=float(durations_ms.max()),
        mean_ms=float(durations_ms.mean()),
        std_ms=float(durations_ms.std()),
        p99_ms=float(p99),
        iqr_ms=float(three_quarters - quarter),
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
