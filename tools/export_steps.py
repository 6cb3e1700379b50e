"""From members in FP32 to a gated bundle of all the kinds that a call wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..export.calibration import CALIBRATION_COUNT, CalibrationRecord
from ..export.convert import ConversionOptions, FloatMember
from ..export.float_graph import load_graph, plain_float
from ..export.gate import PARITY_TOLERANCE, ParityTolerance, Reference, write_gated
from ..export.graph import graph_bytes, store_as_fp16
from ..export.kinds import Kind
from ..export.openvino_graph import to_openvino
from ..export.pack import CARD_NAME, Graph, PackedMember, Packing, Photograph, pack
from ..export.rank_gate import rank_refusal
from ..profiles.parity import ParityReport
from ..runtime.bundle import Bundle, refuse_existing
from ..runtime.errors import UsageError
from ..runtime.manifest import Artefact, Combine, Mean, Provenance, ScoreScale, StoredAs, Target
from ..runtime.scorer import Scorer
from .export_artefacts import (
    ArtefactReport,
    FloatBundle,
    RankLimits,
    calibrate,
    float_graphs,
    make_artefacts,
    open_scorer,
)
from .export_speed import compare_speed
from .packing import Trained, export_member, float_model, library_versions, torch_reference

if TYPE_CHECKING:
    from .export_photographs import ExportPhotographs

__all__ = [
    "Exported",
    "Quantization",
    "Source",
    "export_kinds",
    "parity_tolerance",
    "source_of_bundle",
    "source_of_trained",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What is exported.

    Attributes:
        floats: makes its members in FP32; called when another precision is wanted.
        combine: of the mapped scores.
        scale: the outer scale.
        golden: photographs to pack.
        reference: the networks before export, as the parity gate asks them.
        packed: each member's FP32 graphs for targets, its weights stored as said.
        provenance: of the bundle.
        card: its model card; empty for none.
    """

    floats: Callable[[], tuple[FloatMember, ...]]
    combine: Combine
    scale: ScoreScale
    golden: tuple[Photograph, ...]
    reference: Reference
    packed: Callable[[Sequence[Target], StoredAs], list[PackedMember]]
    provenance: Provenance
    card: str = ""


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
        bundle: that was written; None where no kind passed.
        parity: reports on what is FP32, against the networks.
        artefacts: reports on the other kinds.
        calibration: which images were chosen; None where none were needed.
        latencies_ms: median of each kind's graph, by its name, where an engine here runs it.
        speed: verdicts on each engine's precisions against each other.
    """

    bundle: Bundle | None
    parity: tuple[ParityReport, ...]
    artefacts: tuple[ArtefactReport, ...]
    calibration: CalibrationRecord | None
    latencies_ms: Mapping[str, float] = field(default_factory=dict)
    speed: tuple[str, ...] = ()


def parity_tolerance(scale: ScoreScale, store: StoredAs, points: float | None = None) -> ParityTolerance:
    """The parity gate's of FP32, its weights stored as said; in score points the one that is named."""
    usual = PARITY_TOLERANCE[store]
    return replace(usual, score_points=points or usual.score_points * (scale.high - scale.low) / 100)


def source_of_trained(
    members: Sequence[Trained], *, golden: Sequence[Photograph], combine: Combine | None = None
) -> Source:
    """Networks in torch, with score maps to one scale; their scores' mean unless said."""
    low, high = members[0].score_map.low, members[0].score_map.high
    return Source(
        floats=lambda: tuple(float_model(member) for member in members),
        combine=combine or Mean(),
        scale=ScoreScale(low=low, high=high),
        golden=tuple(golden),
        reference=torch_reference(members),
        packed=lambda targets, store: [export_member(member, targets, store) for member in members],
        provenance=Provenance(
            created=datetime.now(UTC).date().isoformat(),
            versions=library_versions(),
            notes={member.name: member.provenance for member in members},
        ),
    )


def source_of_bundle(bundle: Bundle, *, golden: Sequence[Photograph] = (), threads: int | None = None) -> Source:
    """A bundle's own graphs; its golden photographs, unless others are given.

    Raises:
        UsageError: it holds no FP32 graph in ONNX.
    """
    manifest = bundle.manifest
    floats = []
    for member in manifest.members:
        found = _float_artefact(member.artefacts)
        if found is None:
            held = ", ".join(f"{artefact.target} {artefact.precision}" for artefact in member.artefacts)
            raise UsageError(
                f"{manifest.name}, whose member {member.name} holds {held}",
                expected="an ONNX graph in FP32, from which others are made",
                mend="export the checkpoint: edgeiqa export CHECKPOINT",
            )
        floats.append(
            FloatMember(
                name=member.name,
                preprocess=member.preprocess,
                score_map=found.score_map,
                model=plain_float(bundle.read(found.files[0])),
                outputs=found.outputs,
                macs=found.macs,
                parameters=found.parameters,
            )
        )
    scorer = Scorer(bundle, engine="onnxruntime", precision="fp32", threads=threads)
    note = f"edgeiqa export {manifest.name}.eiqa"
    provenance = msgspec.structs.replace(
        manifest.provenance,
        commands=(*manifest.provenance.commands, note),
        versions={**manifest.provenance.versions, **library_versions()},
    )
    own = [Photograph(photo.name, bundle.read(photo.source)) for photo in manifest.golden]
    return Source(
        floats=lambda: tuple(floats),
        combine=manifest.combine,
        scale=manifest.scale,
        golden=tuple(golden or own),
        reference=scorer.run_views,
        packed=lambda targets, store: [_packed_again(member, targets, store) for member in floats],
        provenance=provenance,
        card=bundle.read(CARD_NAME).decode() if CARD_NAME in manifest.parts else "",
    )


def _float_artefact(artefacts: Sequence[Artefact]) -> Artefact | None:
    return next((one for one in artefacts if (one.target, one.precision) == ("onnx", "fp32")), None)


def _packed_again(member: FloatMember, targets: Sequence[Target], store: StoredAs) -> PackedMember:
    """The FP32 graphs of a member that is an ONNX graph already."""
    graphs = []
    for target in targets:
        if target == "openvino":
            files: tuple[bytes, ...] = to_openvino(member.model, store_fp16=store == "fp16")
        else:
            files = (graph_bytes(store_as_fp16(load_graph(member.model))) if store == "fp16" else member.model,)
        graphs.append(
            Graph(target, "fp32", store, files, member.outputs, macs=member.macs, parameters=member.parameters)
        )
    return PackedMember(member.name, member.preprocess, member.score_map, tuple(graphs))


def export_kinds(
    path: Path,
    source: Source,
    kinds: Sequence[Kind],
    *,
    photos: Sequence[Photograph],
    tolerance: float | None = None,
    store: StoredAs = "fp32",
    quantization: Quantization | None = None,
    overwrite: bool = False,
    accept: Callable[[Packing], None] | None = None,
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
        accept: called with what would be written, before the parity gate; what it raises goes through.
        tell: called with the reports before a gate refuses.

    Raises:
        GateError: a kind fails its gate; nothing is written.
        UsageError: the file exists and may not be replaced, or kinds need what is not given.
        ExportError, MissingExtraError, DataError, PhotoError: a kind cannot be made.
    """
    refuse_existing(path, overwrite=overwrite)
    plain = [kind for kind in kinds if kind.precision == "fp32" and kind.target != "tensorrt"]
    others = [kind for kind in kinds if kind not in plain]
    exported = Exported(bundle=None, parity=(), artefacts=(), calibration=None)
    graphs: dict[Kind, Mapping[str, Graph]] = {}
    members: Sequence[FloatMember | PackedMember] = ()
    if others:
        if quantization is None:
            raise UsageError(f"{others[0]} without photographs", expected="photographs", mend="name a folder")
        members = source.floats()
        floats = FloatBundle(members=members, combine=source.combine, scale=source.scale, golden=source.golden)
        made, record = _quantized(floats, others, quantization)
        reports = tuple(report for _, report in made)
        latencies_ms, speed = compare_speed(
            floats, {kind: by for kind, (by, _) in zip(others, made, strict=True) if by}
        )
        exported = replace(exported, artefacts=reports, calibration=record, latencies_ms=latencies_ms, speed=speed)
        failed = [report for report in reports if not report.passed]
        if failed and not quantization.go_on:
            tell(exported)
            assert failed[0].rank is not None
            raise rank_refusal(failed[0].kind, failed[0].rank)
        graphs |= {kind: by for kind, (by, report) in zip(others, made, strict=True) if report.passed}
    if plain:
        packed = members = source.packed([kind.target for kind in plain], store)
        for place, kind in enumerate(plain):
            graphs[kind] = {member.name: member.graphs[place] for member in packed}
    kept = [kind for kind in kinds if kind in graphs]
    if not kept:
        return exported
    packing = pack(
        path.stem,
        [
            PackedMember(
                member.name,
                member.preprocess,
                member.score_map,
                tuple(graphs[kind][member.name] for kind in kept),
            )
            for member in members
        ],
        combine=source.combine,
        scale=source.scale,
        golden=source.golden,
        provenance=source.provenance,
        card=source.card,
        texts=_build_scripts(members, kept),
    )
    if accept is not None:
        accept(packing)
    limit = parity_tolerance(source.scale, store, tolerance)
    bundle, parity = write_gated(path, packing, source.reference, photos, tolerance=limit, overwrite=overwrite)
    return replace(exported, bundle=bundle, parity=parity)


def _quantized(
    floats: FloatBundle, kinds: Sequence[Kind], quantization: Quantization
) -> tuple[list[tuple[dict[str, Graph], ArtefactReport]], CalibrationRecord]:
    photographs = quantization.photographs()
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


def _build_scripts(members: Sequence[FloatMember | PackedMember], kinds: Sequence[Kind]) -> dict[str, str]:
    """For a bundle with TensorRT graphs, by which a device builds its own engines."""
    if not any(kind.target == "tensorrt" for kind in kinds):
        return {}
    from ..export.tensorrt_script import build_script
    from ..runtime.engines.trt_build import BatchProfile

    return {
        f"tensorrt/{member.name}.build_engine.py": build_script(member.preprocess.shapes, BatchProfile())
        for member in members
    }
