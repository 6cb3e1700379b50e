"""What is exported: networks in torch, or the graphs of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from ..export.convert import FloatMember
from ..export.float_graph import load_graph, plain_float
from ..export.gate import Reference
from ..export.graph import graph_bytes, store_as_fp16
from ..export.openvino_graph import to_openvino
from ..export.pack import CARD_NAME, Graph, PackedMember, Photograph
from ..runtime.bundle import Bundle
from ..runtime.errors import UsageError
from ..runtime.manifest import Artefact, Combine, Mean, Provenance, ScoreScale, StoredAs, Target
from ..runtime.scorer import Scorer
from .packing import Trained, export_member, float_model, library_versions, torch_reference

__all__ = ["Source", "source_of_bundle", "source_of_trained"]


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
