"""Noise: whether the machine was busy with something else while it measured."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from .latency import Latency, latency_of

__all__ = ["Noise", "NoiseWatch"]

# From here on a difference of a few per cent between two measurements means nothing.
_MOST_SPREAD = 0.10
_MOST_SLOWED = 1.30
_MOST_STEAL = 0.01
_MOST_OTHERS = 0.15
_MOST_SWITCHES_PER_SECOND = 50.0

_LOOP = 20_000
_LEAST_SECONDS = 0.2


class Noise(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What disturbed a measurement; None is what the system does not tell.

    Attributes:
        noisy: at least one reason was found.
        reasons: in words; empty when the machine was quiet.
        seconds: that were watched.
        calibration: a fixed loop of integer arithmetic on one core, run between the measured runs; on a quiet machine
            always as long.
        steal_share: part of the time in which the cores of this process belonged to another virtual machine, 0 to 1.
        other_cores: how many of these cores other processes kept busy, on average.
        involuntary_switches_per_second: how often a thread of this process had to leave its core to another one's.
    """

    noisy: bool
    reasons: tuple[str, ...]
    seconds: float
    calibration: Latency
    steal_share: float | None = None
    other_cores: float | None = None
    involuntary_switches_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class _Reading:
    """Counters of one moment; None where the system has none.

    Attributes:
        wall: seconds.
        own: seconds of this process on any core.
        cores: that it may use.
        kernel: seconds for which these were busy, and for which they were another machine's.
        switches: involuntary ones of this process.
    """

    wall: float
    own: float
    cores: int
    kernel: tuple[float, float] | None
    switches: int | None


class NoiseWatch:
    """Watches the machine from its making until `finish`; call `tick` between measured runs."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        """Begin.

        Args:
            stat: the kernel's counters of each core, as Linux has them.
        """
        self._stat = stat
        self._loops_ms: list[float] = []
        # Engines may change what this thread may use: the cores of the beginning are watched to the end.
        self._cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
        self._begin = _read(stat, self._cores)

    def tick(self) -> None:
        """Run the calibration loop once (about a millisecond)."""
        start = time.perf_counter_ns()
        value = 0
        for index in range(_LOOP):
            value = (value * 5 + index) & 0xFFFF
        self._loops_ms.append((time.perf_counter_ns() - start) / 1e6)

    def finish(self) -> Noise:
        """What was seen since the beginning, or since the watch was made."""
        if not self._loops_ms:
            self.tick()
        return _judge(self._begin, _read(self._stat, self._cores), latency_of(np.array(self._loops_ms), warmup=0))


def _judge(begin: _Reading, end: _Reading, calibration: Latency) -> Noise:
    seconds = max(end.wall - begin.wall, 1e-9)
    core_seconds = seconds * end.cores
    steal: float | None = None
    others: float | None = None
    switches: float | None = None
    # Counters tick every hundredth of a second: of a shorter time they say nothing.
    if seconds >= _LEAST_SECONDS and begin.kernel is not None and end.kernel is not None:
        (busy_before, steal_before), (busy, stolen) = begin.kernel, end.kernel
        steal = max(0.0, stolen - steal_before) / core_seconds
        others = max(0.0, (busy - busy_before) - (end.own - begin.own)) / seconds
    if begin.switches is not None and end.switches is not None:
        switches = (end.switches - begin.switches) / seconds
    slowed = calibration.p95_ms / calibration.min_ms if calibration.min_ms > 0 else 1.0
    reasons = []
    if calibration.runs >= 4 and calibration.spread > _MOST_SPREAD:
        reasons.append(f"a fixed loop varied by {calibration.spread:.0%} between its quartiles")
    if calibration.runs >= 4 and slowed > _MOST_SLOWED:
        reasons.append(f"a fixed loop took up to {slowed:.2f} times its shortest time (95th percentile)")
    if steal is not None and steal > _MOST_STEAL:
        reasons.append(f"another virtual machine had the cores for {steal:.1%} of the time")
    if others is not None and others > _MOST_OTHERS * end.cores:
        reasons.append(f"other processes kept {others:.1f} of {end.cores} cores busy")
    if switches is not None and switches > _MOST_SWITCHES_PER_SECOND:
        reasons.append(f"threads had to leave their core {switches:.0f} times a second")
    return Noise(
        noisy=bool(reasons),
        reasons=tuple(reasons),
        seconds=seconds,
        calibration=calibration,
        steal_share=steal,
        other_cores=others,
        involuntary_switches_per_second=switches,
    )


def _read(stat: Path, cores: set[int]) -> _Reading:
    kernel: tuple[float, float] | None
    try:
        kernel = _busy_and_steal(stat.read_text(encoding="ascii", errors="replace"), cores)
    except (OSError, ValueError):
        kernel = None
    return _Reading(
        wall=time.monotonic(),
        own=time.process_time(),
        cores=len(cores),
        kernel=kernel,
        switches=_involuntary_switches(),
    )


def _busy_and_steal(text: str, cores: set[int]) -> tuple[float, float]:
    """Seconds for which some cores were busy, and for which they were another machine's, since the system started.

    Source: proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal, in ticks; guests' time is in user's.
    """
    ticks_per_second = os.sysconf("SC_CLK_TCK")
    busy = steal = found = 0
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if name.startswith("cpu") and name[3:].isdecimal() and int(name[3:]) in cores:
            user, nice, system, _, _, irq, softirq, stolen = (int(field) for field in rest.split()[:8])
            busy += user + nice + system + irq + softirq
            steal += stolen
            found += 1
    if found != len(cores):
        raise ValueError("not every core is listed")
    return busy / ticks_per_second, steal / ticks_per_second


def _involuntary_switches() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
