"""From members in FP32 to a gated bundle of all the kinds that a call wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..export.calibration import CALIBRATION_COUNT, CalibrationRecord
from ..export.convert import ConversionOptions, FloatMember
from ..export.gate import PARITY_TOLERANCE, Accept, ParityTolerance, judge_parity, parity_refusal, write_judged
from ..export.kinds import Kind
from ..export.pack import Graph, PackedMember, Packing, Photograph, pack
from ..profiles.parity import ParityReport
from ..runtime.bundle import Bundle, refuse_existing
from ..runtime.errors import GateError, HonestNoError, UsageError
from ..runtime.manifest import ScoreScale, StoredAs
from .export_artefacts import (
    ArtefactReport,
    RankLimits,
    calibrate,
    make_artefacts,
    refusal_of,
)
from .export_flags import is_plain
from .export_records import build_scripts, name_build_parts
from .export_scorers import FloatBundle, float_graphs, open_scorer
from .export_source import Source
from .export_speed import Speed, compare_speed

if TYPE_CHECKING:
    from .export_photographs import ExportPhotographs

__all__ = [
    "Exported",
    "Quantization",
    "export_kinds",
    "parity_tolerance",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantization:
    """What other precisions than FP32 need.

    Attributes:
        photographs: finds them; called when they are needed.
        count: of calibration images.
        seed: of their choice.
        options: of the conversion.
        limits: of the rank gate.
        go_on: leave out what cannot be made or fails the gate, instead of refusing the whole bundle.
    """

    photographs: Callable[[], ExportPhotographs]
    count: int = CALIBRATION_COUNT
    seed: int = 0
    options: ConversionOptions = field(default_factory=ConversionOptions)
    limits: RankLimits = field(default_factory=RankLimits)
    go_on: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What came of an export.

    Attributes:
        kinds: that were wanted.
        bundle: that was written; None where no kind passed.
        parity: reports on what is FP32, against the networks.
        refused: why a kind failed that gate, by its name.
        artefacts: reports on the other kinds.
        calibration: which images were chosen; None where none were needed.
        plain_bytes: size of the files of what is FP32, all members together, by the kind's name.
        stored_as: of its weights.
        speed: of each engine's precisions against each other.
    """

    kinds: tuple[Kind, ...] = ()
    bundle: Bundle | None = None
    parity: tuple[ParityReport, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    artefacts: tuple[ArtefactReport, ...] = ()
    calibration: CalibrationRecord | None = None
    plain_bytes: Mapping[str, int] = field(default_factory=dict)
    stored_as: StoredAs = "fp32"
    speed: Speed = field(default_factory=Speed)


def parity_tolerance(scale: ScoreScale, store: StoredAs, points: float | None = None) -> ParityTolerance:
    """The parity gate's of FP32, its weights stored as said; in score points the one that is named."""
    usual = PARITY_TOLERANCE[store]
    return replace(usual, score_points=points or usual.score_points * (scale.high - scale.low) / 100)


def export_kinds(
    path: Path,
    source: Source,
    kinds: Sequence[Kind],
    *,
    photos: Sequence[Photograph | Path],
    tolerance: float | None = None,
    store: StoredAs = "fp32",
    quantization: Quantization | None = None,
    overwrite: bool = False,
    accept: Accept | None = None,
    tell: Callable[[Exported], None] = lambda _: None,
) -> Exported:
    """Export to a bundle named like its file; the first kind is the one that it is scored by.

    FP32 in ONNX and OpenVINO passes the parity gate against the network; every other kind the rank gate against FP32.

    Args:
        path: of the bundle.
        source: what is exported.
        kinds: wanted, at least one.
        photos: for the parity gate.
        tolerance: of it in score points; None for that of ``store``, for a scale of a hundred points.
        store: of FP32's weights.
        quantization: needed where a kind is neither.
        overwrite: whether the file may be replaced.
        accept: called with what would be written, with its parts' bytes before the parity gate, with the file's before
            that is there; what it raises goes through.
        tell: called with the reports before a gate or a budget refuses, where there are other kinds than FP32.

    Raises:
        GateError: a kind fails its gate, or with `Quantization.go_on` all do; nothing is written.
        UsageError: the file exists and may not be replaced, or kinds need what is not given.
        ExportError, MissingExtraError, DataError, PhotoError: a kind cannot be made.
    """
    refuse_existing(path, overwrite=overwrite)
    exported = Exported(kinds=tuple(kinds), stored_as=store)
    others = [kind for kind in kinds if not is_plain(kind)]
    go_on = quantization is not None and quantization.go_on
    graphs: dict[Kind, Mapping[str, Graph]] = {}
    members: Sequence[FloatMember | PackedMember] = ()
    try:
        if others:
            if quantization is None:
                raise UsageError(f"{others[0]} without photographs", expected="photographs", mend="name a folder")
            # One that cannot be read is found before the networks are exported, which takes minutes for large ones.
            photographs = quantization.photographs()
            members = source.floats()
            floats = FloatBundle(members=members, combine=source.combine, scale=source.scale, golden=source.golden)
            made, record = _quantized(floats, others, quantization, photographs)
            speed = compare_speed(
                floats,
                {kind: by for kind, (by, _) in zip(others, made, strict=True) if by},
                {kind.target for kind in kinds},
            )
            reports = tuple(report for _, report in made)
            exported = replace(exported, artefacts=reports, calibration=record, speed=speed)
            failed = [report for report in reports if not report.passed]
            if failed and not go_on:
                raise refusal_of(failed[0])
            graphs |= {kind: by for kind, (by, report) in zip(others, made, strict=True) if report.passed}
        if plain := [kind for kind in kinds if is_plain(kind)]:
            packed = members = source.packed([kind.target for kind in plain], store)
            for place, kind in enumerate(plain):
                graphs[kind] = {member.name: member.graphs[place] for member in packed}
            exported = replace(exported, plain_bytes={str(kind): _size(graphs[kind]) for kind in plain})
        packing = _pack(path.stem, source, members, graphs, kinds)
        if accept is not None:
            accept(packing.manifest, sum(len(part) for part in packing.parts.values()))
        kept = [kind for kind in kinds if kind in graphs]
        limit = parity_tolerance(source.scale, store, tolerance)
        parity = dict(zip(kept, judge_parity(packing, source.reference, photos, tolerance=limit), strict=True))
        refusals = {
            kind: parity_refusal(str(kind), next(report for report in reports if not report.passed))
            for kind, reports in parity.items()
            if not all(report.passed for report in reports)
        }
        exported = replace(
            exported,
            parity=tuple(report for reports in parity.values() for report in reports),
            refused={str(kind): error.got for kind, error in refusals.items()},
        )
        if refusals:
            # All other kinds were judged against FP32 in ONNX.
            if not go_on or Kind("onnx", "fp32") in refusals:
                raise next(iter(refusals.values()))
            packing = _pack(path.stem, source, members, {k: v for k, v in graphs.items() if k not in refusals}, kinds)
        gates = [reports for kind, reports in parity.items() if kind not in refusals]
        return replace(exported, bundle=write_judged(path, packing, gates, overwrite=overwrite, accept=accept))
    except HonestNoError:
        if others:
            tell(exported)
        raise


def _quantized(
    floats: FloatBundle, kinds: Sequence[Kind], quantization: Quantization, photographs: ExportPhotographs
) -> tuple[list[tuple[dict[str, Graph], ArtefactReport]], CalibrationRecord]:
    with open_scorer(floats, float_graphs(floats)) as reference:
        calibration = calibrate(reference, photographs, count=quantization.count, seed=quantization.seed)
        made = make_artefacts(
            floats,
            kinds,
            photographs,
            calibration,
            reference=reference,
            options=replace(quantization.options, threads=reference.threads),
            limits=quantization.limits,
            go_on=quantization.go_on,
        )
    return made, calibration.record


def _size(graphs: Mapping[str, Graph]) -> int:
    return sum(len(file) for graph in graphs.values() for file in graph.files)


def _pack(
    name: str,
    source: Source,
    members: Sequence[FloatMember | PackedMember],
    graphs: Mapping[Kind, Mapping[str, Graph]],
    wanted: Sequence[Kind],
) -> Packing:
    """Lay out a bundle of the kinds that there are.

    Raises:
        GateError: there is none.
    """
    kinds = [kind for kind in wanted if kind in graphs]
    if not kinds:
        raise GateError(
            f"none of {', '.join(map(str, wanted))}: each failed its gate or could not be made",
            expected="at least one that passes",
            mend="as the table says of each; nothing was written",
        )
    packing = pack(
        name,
        [
            PackedMember(
                member.name,
                member.preprocess,
                member.score_map,
                tuple(graphs[kind][member.name] for kind in kinds),
            )
            for member in members
        ],
        combine=source.combine,
        scale=source.scale,
        golden=source.golden,
        provenance=source.provenance,
        card=source.card,
        texts=build_scripts(members, kinds),
    )
    return name_build_parts(packing)
