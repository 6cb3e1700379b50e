"""What changed since an older profile, beyond the noise of both."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from ..runtime.errors import EdgeIQAError, UsageError
from .full_profile import Profile
from .latency import Latency

__all__ = ["BaselineReport", "Change", "compare_with_baseline", "read_baseline"]

# Loading and first scores happen once, and memory depends on how the allocator happens to be asked.
_ONCE_NOISE = 0.25
_MEMORY_NOISE = 0.05
_LEAST_NOISE = 0.02


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One quantity, before and now.

    Attributes:
        quantity: its name in `Profile`, with dots.
        before: in the quantity's unit; of a latency the median.
        now: likewise.
        ratio: now / before; None where before is 0.
        noise: how far the ratio may be from 1 without meaning anything; 0 of what is counted.
        changed: the ratio is further from 1 than that.
    """

    quantity: str
    before: float
    now: float
    ratio: float | None
    noise: float
    changed: bool


class BaselineReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A profile against an older one.

    Attributes:
        changes: of every quantity that both have.
        differing: conditions that are not the same, so that the figures may differ for that reason alone.
        machine_ratio: time of the fixed calibration loop, now / before; what it is from 1 is part of each noise.
    """

    changes: tuple[Change, ...]
    differing: tuple[str, ...]
    machine_ratio: float | None


def read_baseline(path: Path) -> Profile:
    """Read what ``edgeiqa profile --json`` wrote.

    Raises:
        UsageError: the file cannot be read, or is no profile.
    """
    try:
        return Profile.from_json(path.read_bytes())
    except (OSError, EdgeIQAError) as error:
        got = error.got if isinstance(error, EdgeIQAError) else error.strerror
        raise UsageError(
            f"the baseline {path}: {got}",
            expected="a file that edgeiqa profile --json wrote",
            mend="write one with: edgeiqa profile --json > baseline.json",
        ) from error


def compare_with_baseline(before: Profile, now: Profile) -> BaselineReport:
    """Compare two profiles.

    A latency changed when its medians' ratio is further from 1 than the spreads of both and what the machine's speed
    changed allow: the root of the sum of their squares, 2 % at least. The machine's speed is a fixed loop's: by its
    median, and where one of the profiles was noisy also by its mean, which shows how much of the time others had.
    """
    machine: float | None = None
    drift = 0.0
    if before.noise is not None and now.noise is not None:
        then, today = before.noise.calibration, now.noise.calibration
        machine = _ratio(then.p50_ms, today.p50_ms)
        drift = _apart(machine)
        if before.noise.noisy or now.noise.noisy:
            drift = math.hypot(drift, _apart(_ratio(then.mean_ms, today.mean_ms)))
    changes = []
    for name in ("macs", "parameters", "size_bytes", "peak_rss_mib", "load_ms", "first_score_ms"):
        old, new = getattr(before, name), getattr(now, name)
        if old is not None and new is not None:
            noise = {"peak_rss_mib": _MEMORY_NOISE}.get(name, 0.0)
            if name.endswith("_ms"):
                noise = math.hypot(_ONCE_NOISE, drift)
            changes.append(_change(name, float(old), float(new), noise))
    old_latencies, new_latencies = _latencies(before), _latencies(now)
    for name, new_latency in new_latencies.items():
        if name in old_latencies:
            old_latency = old_latencies[name]
            noise = max(_LEAST_NOISE, math.hypot(old_latency.spread, new_latency.spread, drift))
            changes.append(_change(f"{name}.p50_ms", old_latency.p50_ms, new_latency.p50_ms, noise))
    return BaselineReport(changes=tuple(changes), differing=_differing(before, now), machine_ratio=machine)


def _change(quantity: str, before: float, now: float, noise: float) -> Change:
    ratio = now / before if before else None
    changed = before != now if ratio is None else _apart(ratio) > noise
    return Change(quantity=quantity, before=before, now=now, ratio=ratio, noise=noise, changed=changed)


def _ratio(before: float, now: float) -> float:
    return now / before if before > 0 else 1.0


def _apart(ratio: float) -> float:
    """How far a ratio is from 1, either way round: half as long is as much of a change as twice as long."""
    return max(ratio, 1 / ratio) - 1 if ratio > 0 else math.inf


def _latencies(profile: Profile) -> dict[str, Latency]:
    found = {"graph": profile.graph, "file_to_score": profile.file_to_score}
    if profile.stages is not None:
        stages = profile.stages
        found |= {
            "stages.decode": stages.decode,
            "stages.views": stages.views,
            **{f"stages.graph_by_member.{name}": latency for name, latency in stages.graph_by_member.items()},
        }
    for contender in profile.precisions.contenders if profile.precisions is not None else ():
        found[f"precisions.{contender.name}"] = contender.latency
    return {name: latency for name, latency in found.items() if latency is not None}


def _differing(before: Profile, now: Profile) -> tuple[str, ...]:
    """Conditions in words, each as ``what: before, now``."""
    pairs: list[tuple[str, object, object]] = [
        ("cpu", before.host.cpu, now.host.cpu),
        ("cores", before.host.cores, now.host.cores),
        ("os", before.host.os, now.host.os),
        ("python", before.host.python, now.host.python),
        ("subject", before.subject, now.subject),
        ("engine", f"{before.engine} {before.engine_version}", f"{now.engine} {now.engine_version}"),
        ("precision", before.precision, now.precision),
        ("threads", before.threads, now.threads),
        (
            "photograph",
            f"{before.photo_width}x{before.photo_height}",
            f"{now.photo_width}x{now.photo_height}",
        ),
        ("noisy", bool(before.noise and before.noise.noisy), bool(now.noise and now.noise.noisy)),
    ]
    return tuple(f"{what}: {old} before, {new} now" for what, old, new in pairs if old != new)
