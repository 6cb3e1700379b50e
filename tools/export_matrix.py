"""The matrix of an export: a row for each target and precision, with what is known of it and why the rest is not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import msgspec

from ..export.kinds import LACKING, Kind
from ..export.pack import TARGET_ENGINE
from ..profiles.metrics import Interval
from ..profiles.rank import RankReport
from ..profiles.signal_to_noise import SignalToNoise
from ..runtime.engines.cuda import find_gpu
from ..runtime.manifest import Precision, Target
from .export_artefacts import ArtefactReport
from .export_flags import is_plain
from .export_records import features_reach, of_last_features
from .export_steps import Exported

__all__ = ["MatrixRow", "matrix_of"]

Status = Literal["passed", "failed", "not made", "not judged"]

_TARGETS: tuple[Target, ...] = ("onnx", "openvino", "tensorrt")
_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16", "int8")


class MatrixRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One target and precision. Figures that are not there are None, and ``lacks`` says why.

    Attributes:
        target: of the graph.
        precision: likewise.
        status: what came of it.
        size_bytes: of its files, all members together.
        latency_ms: median of its graph, of one photograph, all threads.
        srcc: of its scores to FP32's, in [-1, 1].
        srcc_drop: SRCC to opinions that is lost, with its interval.
        swapped_share: of pairs that change order by more than the margin, in [0, 1].
        largest_change: of a score, in score points.
        p99_change: its 99th percentile, likewise.
        features_db: signal to noise of the last features, of the member that has the least.
        lacks: why a figure is not there, in a few words, by its name.
        verdict: for people: the status and why.
    """

    target: Target
    precision: Precision
    status: Status
    size_bytes: int | None = None
    latency_ms: float | None = None
    srcc: float | None = None
    srcc_drop: Interval | None = None
    swapped_share: float | None = None
    largest_change: float | None = None
    p99_change: float | None = None
    features_db: float | None = None
    lacks: dict[str, str]
    verdict: str

    @property
    def kind(self) -> Kind:
        """Target and precision."""
        return Kind(self.target, self.precision)


_RANKED = ("srcc", "srcc_drop", "swapped_share", "largest_change", "p99_change", "features_db")
_FIGURES = ("size_bytes", "latency_ms", *_RANKED)


def matrix_of(exported: Exported, *, lacking: Collection[Target] = ()) -> tuple[MatrixRow, ...]:
    """The rows of an export.

    Args:
        exported: what came of it.
        lacking: targets of which all precisions are listed, those too that cannot be made.
    """
    reports = {report.kind: report for report in exported.artefacts}
    rows = [
        _plain(kind, exported) if is_plain(kind) else _judged(kind, reports.get(str(kind))) for kind in exported.kinds
    ]
    if lacking:
        rows += [_without(kind, "not made", why) for kind, why in LACKING.items() if kind.target in lacking]
        rows.sort(key=lambda row: (_TARGETS.index(row.target), _PRECISIONS.index(row.precision)))
    # What is not there to be taken is no advice.
    unfit = [row.kind for row in rows if row.status != "passed"]
    return tuple(_with_speed(row, exported, unfit) for row in rows)


def _without(kind: Kind, status: Status, why: str) -> MatrixRow:
    """A row of no figures."""
    return MatrixRow(
        target=kind.target,
        precision=kind.precision,
        status=status,
        lacks=dict.fromkeys(_FIGURES, status),
        verdict=f"{'FAILED' if status == 'failed' else status}: {why}",
    )


def _plain(kind: Kind, exported: Exported) -> MatrixRow:
    """FP32, which parity with the network judges; in ONNX it is what all others are compared with."""
    if str(kind) not in exported.plain_bytes:
        return _without(kind, "not judged", "another kind was refused before it")
    is_reference = kind.target == "onnx" and exported.stored_as == "fp32"
    found = {(report.engine, report.unit): report for report in exported.parity}
    parity = found.get((TARGET_ENGINE[kind.target], "score points"))
    if str(kind) in exported.refused:
        status: Status = "failed"
        verdict = f"FAILED: {exported.refused[str(kind)].removeprefix(f'{kind}: ')}"
    elif parity is None:
        status, verdict = "not judged", "not judged: refused before its gate"
    else:
        status = "passed"
        photographs = f"{parity.photos} photograph" + ("s" if parity.photos > 1 else "")
        verdict = f"passed; {parity.max_abs_difference:.1g} points from the network on {photographs}"
    return MatrixRow(
        target=kind.target,
        precision=kind.precision,
        status=status,
        size_bytes=exported.plain_bytes[str(kind)],
        lacks=dict.fromkeys(_RANKED, "reference" if is_reference else "by parity"),
        verdict=verdict,
    )


def _judged(kind: Kind, report: ArtefactReport | None) -> MatrixRow:
    """A kind that the rank gate judges."""
    if report is None:
        return _without(kind, "not judged", "the export ended before it")
    if report.rank is None:
        status: Status = "failed" if report.failed else "not made"
        # What failed has its mend in the refusal, which is the same for all that fail.
        return _without(kind, status, report.reason + ("" if report.failed else f" (to mend: {report.mend})"))
    rank = report.rank
    db, no_db = _features_db(report.signal_to_noise)
    verdict = f"FAILED: {report.reason}" if report.failed else "passed"
    if report.engine_lacks:
        verdict += f"; engine not built: {report.engine_lacks}"
    row = MatrixRow(
        target=kind.target,
        precision=kind.precision,
        status="failed" if report.failed else "passed",
        size_bytes=report.size_bytes,
        srcc=rank.srcc,
        srcc_drop=rank.srcc_drop,
        swapped_share=rank.swapped_share,
        largest_change=rank.largest_change,
        p99_change=rank.p99_change,
        features_db=db,
        lacks={},
        verdict=verdict,
    )
    lacks = {name: _why_no_figure(name, rank) for name in _RANKED if getattr(row, name) is None}
    if db is None:
        lacks["features_db"] = no_db
    return msgspec.structs.replace(row, lacks=lacks)


def _why_no_figure(name: str, rank: RankReport) -> str:
    if rank.not_finite:
        return "not finite"
    return "no opinions" if name == "srcc_drop" and rank.max_srcc_drop is None else "no order"


def _features_db(noise: Sequence[SignalToNoise]) -> tuple[float | None, str]:
    """Of the last features, the least of all members, and why there is none."""
    last = of_last_features(noise)
    if not last:
        return None, "no features"
    found = [one.db for one in last if one.db is not None]
    if found:
        return min(found), ""
    return None, "the same" if features_reach(noise) else "not finite"


def _with_speed(row: MatrixRow, exported: Exported, unfit: Collection[Kind]) -> MatrixRow:
    """The row with its latency, and a word on what is faster."""
    if row.status in ("not made", "not judged") or row.size_bytes is None:
        return row
    speed = exported.speed
    latency = speed.latencies_ms.get(str(row.kind))
    verdict = row.verdict
    lacks = dict(row.lacks)
    if latency is None and row.target == "tensorrt":
        lacks["latency_ms"] = "no GPU here" if find_gpu() is None else "not timed"
        if lacks["latency_ms"] == "not timed":
            verdict += "; its speed: edgeiqa profile --engine tensorrt"
    elif latency is None:
        lacks["latency_ms"] = "not timed"
        verdict += f"; not timed: {speed.left_out.get(f'{TARGET_ENGINE[row.target]} {row.precision}', 'not compared')}"
    faster = speed.faster_than(row.kind, unfit) if row.status == "passed" else None
    if faster is not None:
        verdict += f"; {faster.faster.split()[1]} is {faster.ratio:.2f}x as fast here"
    return msgspec.structs.replace(row, latency_ms=latency, lacks=lacks, verdict=verdict)
