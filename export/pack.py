"""Packing: members, their graphs and the golden answers become a manifest and its parts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..runtime.bundle import Bundle, encode_view, listed_parts, write_bundle
from ..runtime.decode import open_photo
from ..runtime.engines.engine import GraphEngine, available_threads, open_engine
from ..runtime.errors import ExportError, PhotoError
from ..runtime.manifest import (
    FORMAT,
    Artefact,
    Combine,
    Engine,
    GateRecord,
    Golden,
    Manifest,
    Member,
    Precision,
    Provenance,
    ScoreScale,
    StoredAs,
    Target,
    requirements,
)
from ..runtime.preprocess import Preprocess
from ..runtime.score_map import ScoreMap
from ..runtime.scorer import combine_raw
from ..runtime.views import cut_views

__all__ = [
    "ANSWER_ENGINE",
    "CARD_NAME",
    "GOLDEN_TOLERANCE",
    "TARGET_ENGINE",
    "Graph",
    "PackedMember",
    "Packing",
    "Photograph",
    "check_golden_names",
    "cut_photograph",
    "golden_photographs",
    "pack",
    "refit",
    "with_artefacts",
    "with_only",
]

GOLDEN_TOLERANCE: dict[Precision, float] = {"fp32": 0.05, "fp16": 0.5, "bf16": 1.0, "int8": 1.0}
"""Score points of a hundred by which a golden answer may differ on another machine."""

CARD_NAME = "card.md"
"""The part with the model card, where a bundle has one."""

TARGET_ENGINE: dict[Target, Engine] = {"onnx": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}
"""What runs a target's graphs."""

ANSWER_ENGINE: dict[Target, Engine] = {**TARGET_ENGINE, "tensorrt": "onnxruntime"}
"""What gives a target's golden answers where the bundle is made: TensorRT would need the device's GPU."""

_SUFFIXES: dict[Target, tuple[str, ...]] = {
    "onnx": (".onnx",),
    "openvino": (".xml", ".bin"),
    "tensorrt": (".onnx", ".engine"),
}


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph by name and content."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Graph:
    """One exported graph of a member.

    Attributes:
        target: its form.
        precision: of its arithmetic.
        stored_as: of its weights.
        files: content of its parts, in the order of `Artefact.files`.
        outputs: names, ``score`` first.
        macs: strict multiply-adds of one photograph.
        parameters: of the graph.
        capability: what the device must have, as of `Artefact`.
    """

    target: Target
    precision: Precision
    stored_as: StoredAs
    files: tuple[bytes, ...]
    outputs: tuple[str, ...]
    macs: int | None = None
    parameters: int | None = None
    capability: str = ""
    score_map: ScoreMap | None = None
    gates: tuple[GateRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class PackedMember:
    """One member with its graphs."""

    name: str
    preprocess: Preprocess
    score_map: ScoreMap
    graphs: tuple[Graph, ...]


@dataclass(frozen=True, slots=True)
class Packing:
    """A bundle that is not a file yet."""

    manifest: Manifest
    parts: dict[str, bytes]


def golden_photographs() -> tuple[Photograph, ...]:
    """The two photographs that are packed unless the caller gives others."""
    folder = resources.files(__package__) / "golden"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".jpg"))
    return tuple(Photograph(Path(name).stem, (folder / name).read_bytes()) for name in names)


def pack(
    name: str,
    members: Sequence[PackedMember],
    *,
    combine: Combine,
    scale: ScoreScale,
    golden: Sequence[Photograph],
    provenance: Provenance,
    card: str = "",
    texts: Mapping[str, str] | None = None,
) -> Packing:
    """Lay out a bundle: cut the golden views, run every graph on them in its own engine, list the parts.

    The first graph of the first member names the bundle's engine and precision.

    Args:
        name: of the bundle.
        members: with their graphs; all with the same targets, precisions and capabilities, in the same order.
        combine: of the mapped scores.
        scale: the outer scale.
        golden: photographs to pack with their answers; at least one.
        provenance: for people.
        card: the model card, Markdown; it becomes ``card.md``.
        texts: further parts for people and devices, by path.

    Raises:
        ExportError: members without graphs or with different ones, no golden photograph, or as of `check_golden_names`.
        EngineError: an engine refuses its graph.
        PhotoError: a golden photograph cannot be read.
    """
    kinds = [[(graph.target, graph.precision, graph.capability) for graph in member.graphs] for member in members]
    if not members or not golden or not kinds[0] or any(kind != kinds[0] for kind in kinds):
        raise ExportError(
            f"{len(golden)} golden photographs and members with graphs {kinds}",
            expected="golden photographs, and members that all have the same targets and precisions",
            mend="export every member to each target and precision",
        )
    check_golden_names(golden)
    parts = {name: text.encode() for name, text in (texts or {}).items()}
    if card:
        parts[CARD_NAME] = card.encode()
    views: dict[str, list[dict[str, NDArray[np.uint8]]]] = {member.name: [] for member in members}
    photos: list[Golden] = []
    for photo in golden:
        source = f"golden/{photo.name}.jpg"
        parts[source] = photo.data
        owners: dict[Preprocess, str] = {}
        named: dict[str, dict[str, str]] = {}
        for member in members:
            cut = cut_photograph(photo, member.preprocess)
            views[member.name].append(cut)
            owner = owners.setdefault(member.preprocess, member.name)
            named[member.name] = {view: f"golden/{photo.name}.{owner}.{view}.png" for view in cut}
            if owner == member.name:
                parts.update({named[owner][view]: encode_view(pixels) for view, pixels in cut.items()})
        photos.append(Golden(name=photo.name, source=source, views=named, score=scale.low))
    packed = []
    for member in members:
        artefacts = []
        for graph in member.graphs:
            files = _put_files(parts, member.name, graph)
            artefacts.append(_answered(member, graph, files, views[member.name]))
        packed.append(Member(name=member.name, preprocess=member.preprocess, artefacts=tuple(artefacts)))
    first = members[0].graphs[0]
    manifest = Manifest(
        format=FORMAT,
        requires=requirements(packed),
        name=name,
        engine=TARGET_ENGINE[first.target],
        precision=first.precision,
        members=tuple(packed),
        combine=combine,
        scale=scale,
        golden=tuple(photos),
        provenance=provenance,
        parts=listed_parts(parts),
    )
    return Packing(_with_golden_scores(manifest), parts)


def _put_files(parts: dict[str, bytes], member: str, graph: Graph) -> tuple[str, ...]:
    """Lay a graph's files down among the parts; a file that the member's other graphs have too is there once."""
    stem = f"graphs/{member}.{graph.target}.{graph.precision}"
    if graph.capability:
        stem += "." + re.sub(r"[^A-Za-z0-9]+", "-", graph.capability).strip("-")
    files = []
    # A TensorRT artefact may be the ONNX graph alone.
    for suffix, data in zip(_SUFFIXES[graph.target], graph.files, strict=graph.target != "tensorrt"):
        like = (name for name in parts if name.startswith(f"graphs/{member}.") and name.endswith(suffix))
        files.append(next((name for name in like if parts[name] == data), stem + suffix))
        if parts.setdefault(files[-1], data) != data:
            raise ExportError(
                f"two graphs of {member} for {graph.target} {graph.precision} {graph.capability}",
                expected="one for each target, precision and capability",
                mend="leave one out",
            )
    return tuple(files)


def check_golden_names(golden: Sequence[Photograph]) -> None:
    """Golden photographs' names become names of parts.

    Raises:
        ExportError: two are the same but for case, or one has other characters than a part may have.
    """
    names = [photo.name for photo in golden]
    plain = all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", name) for name in names)
    if not plain or len({name.lower() for name in names}) < len(names):
        raise ExportError(
            f"golden photographs named {names}",
            expected="a name of its own for each, of letters, digits, . _ -",
            mend="rename the files",
        )


def cut_photograph(photo: Photograph, preprocess: Preprocess) -> dict[str, NDArray[np.uint8]]:
    """A photograph's views; `PhotoError` names it where it cannot be read."""
    try:
        return cut_views(open_photo(photo.data, preprocess).image, preprocess)
    except PhotoError as error:
        raise PhotoError(f"{photo.name}: {error.got}", expected=error.expected, mend=error.mend) from error


def _answered(
    member: PackedMember, graph: Graph, files: tuple[str, ...], views: Sequence[Mapping[str, NDArray[np.uint8]]]
) -> Artefact:
    """The graph's artefact, with its own answers to the golden views."""
    artefact = Artefact(
        target=graph.target,
        precision=graph.precision,
        stored_as=graph.stored_as,
        files=files,
        outputs=graph.outputs,
        score_map=graph.score_map or member.score_map,
        golden_raw=(),
        golden_tolerance=GOLDEN_TOLERANCE[graph.precision] * (member.score_map.high - member.score_map.low) / 100,
        macs=graph.macs,
        parameters=graph.parameters,
        capability=graph.capability,
    )
    engine: GraphEngine = open_engine(
        ANSWER_ENGINE[graph.target],
        artefact,
        graph.files,
        inputs=member.preprocess.shapes,
        threads=available_threads(),
    )
    gates = graph.gates
    if ANSWER_ENGINE[graph.target] != TARGET_ENGINE[graph.target]:
        report = {
            "unit": "raw",
            "engine": engine.name,
            "engine_version": engine.version,
            "ran": "the artefact's ONNX graph",
        }
        gates += (GateRecord(kind=f"golden answers by {engine.name}", passed=True, report=report),)
    return msgspec.structs.replace(
        artefact, golden_raw=tuple(float(engine.run(cut)["score"]) for cut in views), gates=gates
    )


def _is_of_maps(gate: GateRecord) -> bool:
    return gate.kind in ("rank", "score_map_refit") or gate.report.get("unit") == "score points"


def with_artefacts(manifest: Manifest, change: Callable[[Member, int, Artefact], Artefact]) -> Manifest:
    """The manifest with every artefact changed; ``change`` is told its member and its place among that one's."""
    members = tuple(
        msgspec.structs.replace(
            member,
            artefacts=tuple(change(member, place, artefact) for place, artefact in enumerate(member.artefacts)),
        )
        for member in manifest.members
    )
    # Score maps may have come that an older reader does not know, or gone.
    return msgspec.structs.replace(manifest, members=members, requires=requirements(members))


def with_only(bundle: Bundle, place: int) -> Bundle:
    """A bundle that shows of each member one artefact alone, for what judges that artefact and no other.

    A scorer takes an artefact by engine and precision, and `ANSWER_ENGINE` runs the graphs of two targets.
    """
    members = tuple(
        msgspec.structs.replace(member, artefacts=member.artefacts[place : place + 1])
        for member in bundle.manifest.members
    )
    return dataclasses.replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, members=members))


def _with_golden_scores(manifest: Manifest) -> Manifest:
    artefacts = {member.name: member.artefacts[0] for member in manifest.members}
    golden = tuple(
        msgspec.structs.replace(
            photo,
            score=combine_raw(manifest, artefacts, {name: a.golden_raw[index] for name, a in artefacts.items()})[0],
        )
        for index, photo in enumerate(manifest.golden)
    )
    return msgspec.structs.replace(manifest, golden=golden)


def refit(
    path: Path,
    bundle: Bundle,
    maps: Mapping[tuple[int, str], ScoreMap],
    *,
    low: float,
    high: float,
    name: str,
    note: str,
    overwrite: bool = False,
) -> Bundle:
    """A bundle with other score maps and another scale; its graphs, golden views and raw answers stay.

    Args:
        path: of the bundle to write.
        bundle: to start from.
        maps: by place among a member's artefacts, and member.
        low: of the new scale.
        high: likewise.
        name: of the new bundle.
        note: what was done, for its provenance and at the head of its card.
        overwrite: replace a file that is there.

    Raises:
        UsageError: the file exists and may not be replaced.
    """
    manifest = bundle.manifest
    widening = (high - low) / (manifest.scale.high - manifest.scale.low)

    def refitted(member: Member, place: int, artefact: Artefact) -> Artefact:
        return msgspec.structs.replace(
            artefact,
            score_map=maps[place, member.name],
            golden_tolerance=artefact.golden_tolerance * widening,
            # What was judged in points of the old maps says nothing of the new ones; raw scores stay.
            gates=tuple(gate for gate in artefact.gates if not _is_of_maps(gate)),
        )

    scale = msgspec.structs.replace(manifest.scale, low=low, high=high)
    provenance = msgspec.structs.replace(manifest.provenance, commands=(*manifest.provenance.commands, note))
    mapped = with_artefacts(manifest, refitted)
    mapped = msgspec.structs.replace(mapped, name=name, scale=scale, provenance=provenance)
    parts = {part: bundle.read(part) for part in manifest.parts}
    card = parts.get(CARD_NAME, b"").decode()
    parts[CARD_NAME] = f"# {name}\n\n{note}. What follows is the card of {manifest.name} as it was.\n\n{card}".encode()
    return write_bundle(path, _with_golden_scores(mapped), parts, overwrite=overwrite)
