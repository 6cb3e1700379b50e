"""Artefacts in other precisions than FP32: converted, their score maps fitted again, and gated by rank."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..export.calibration import (
    CALIBRATION_COUNT,
    CalibrationCandidate,
    CalibrationImages,
    CalibrationRecord,
    check_calibration_images,
    choose_calibration,
    record_calibration,
)
from ..export.convert import Conversion, ConversionOptions, FloatMember, convert
from ..export.kinds import Kind
from ..export.pack import ANSWER_ENGINE, Graph, PackedMember, Photograph, pack
from ..export.quant_recipe import QuantRecipe
from ..export.rank_gate import gate_rank, rank_record, refit_maps
from ..profiles.rank import LEAST_SRCC, MAX_SRCC_DROP, RankReport
from ..profiles.refit_score_map import MapRefit
from ..profiles.signal_to_noise import SignalToNoise, measure_signal_to_noise
from ..runtime.bundle import write_bundle
from ..runtime.errors import EdgeIQAError
from ..runtime.manifest import Combine, GateRecord, Provenance, ScoreScale
from ..runtime.preprocess import Preprocess
from ..runtime.scorer import Scorer
from .export_photographs import ExportPhotographs, name_item, whole_photograph
from .show import say

if TYPE_CHECKING:
    from ..compress.data.items import Item

__all__ = ["ArtefactReport", "Calibration", "FloatBundle", "RankLimits", "calibrate", "make_artefacts", "open_scorer"]

_LISTENED = 32
"""Photographs on which the features' signal to noise is measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankLimits:
    """What the rank gate holds, as of `profiles.rank.check_rank`."""

    least_srcc: float = LEAST_SRCC
    max_srcc_drop: float = MAX_SRCC_DROP
    max_swapped_share: float | None = None
    max_change: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FloatBundle:
    """Members in FP32, and what their scores are combined and answered by.

    Attributes:
        members: from which other graphs are made.
        combine: of the mapped scores.
        scale: the outer scale.
        golden: photographs to pack.
    """

    members: tuple[FloatMember, ...]
    combine: Combine
    scale: ScoreScale
    golden: tuple[Photograph, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """The calibration images of every member: the same photographs for all, and for every target."""

    images: Mapping[str, CalibrationImages[Item]]
    record: CalibrationRecord


class ArtefactReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of one kind.

    Attributes:
        kind: target and precision.
        capability: what its engine is for.
        size_bytes: of its files, all members together.
        recipe: by which it was quantized; None of a float graph.
        rank: the gate's report; None where there is no graph.
        refits: the score maps that were fitted again, by member.
        signal_to_noise: of the features, all members together.
        notes: for a person.
        reason: why there is no graph, or why it failed; empty where it passed.
        seconds: that it took.
    """

    kind: str
    capability: str = ""
    size_bytes: int = 0
    recipe: QuantRecipe | None = None
    rank: RankReport | None = None
    refits: dict[str, MapRefit] = {}
    signal_to_noise: tuple[SignalToNoise, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether there is a graph, and it passed the gate."""
        return self.rank is not None and self.rank.passed


@contextmanager
def open_scorer(floats: FloatBundle, graphs: Mapping[str, Graph], threads: int | None = None) -> Iterator[Scorer]:
    """A scorer of one graph a member, as a bundle of them would score; what TensorRT runs, onnxruntime answers for."""
    members = [
        PackedMember(member.name, member.preprocess, member.score_map, (graphs[member.name],))
        for member in floats.members
    ]
    packing = pack(
        "judged",
        members,
        combine=floats.combine,
        scale=floats.scale,
        golden=floats.golden,
        provenance=Provenance(created="", versions={}),
    )
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(Path(folder) / "judged.eiqa", packing.manifest, packing.parts)
        target = members[0].graphs[0].target
        yield Scorer(bundle, engine=ANSWER_ENGINE[target], threads=threads)


def float_graphs(floats: FloatBundle) -> dict[str, Graph]:
    """Each member's FP32 graph in ONNX."""
    return {
        member.name: Graph(
            "onnx", "fp32", "fp32", (member.model,), member.outputs, macs=member.macs, parameters=member.parameters
        )
        for member in floats.members
    }


def calibrate(
    reference: Scorer,
    photographs: ExportPhotographs,
    *,
    count: int = CALIBRATION_COUNT,
    seed: int = 0,
    on_photo: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Choose calibration images by the reference's scores, alike for every target.

    Raises:
        DataError: too few photographs, or too few that differ.
        PhotoError: one cannot be read.
        UsageError: ``count`` is too small.
    """
    from ..compress.data.items import cut_items

    members = reference.bundle.manifest.members
    items = photographs.training
    raw: list[dict[str, float]] = [{} for _ in items]
    for place, member in enumerate(members):
        for index, views in enumerate(cut_items(items, member.preprocess)):
            raw[index][member.name] = reference.run_views(member.name, views)
            if on_photo is not None:
                on_photo(place * len(items) + index + 1, len(members) * len(items))
    candidates = [
        CalibrationCandidate(
            key=_key(item),
            score=reference.combine(scores)[0],
            distortion="" if item.distortion is None else item.distortion.kind,
        )
        for item, scores in zip(items, raw, strict=True)
    ]
    chosen = choose_calibration(candidates, count, seed)
    images = {
        member.name: CalibrationImages(
            [items[place] for place in chosen],
            partial(_cut, member.preprocess),
            name_item,
        )
        for member in members
    }
    check_calibration_images(images[members[0].name])
    record = record_calibration(candidates, chosen, wanted=count, seed=seed, source=photographs.source)
    return Calibration(images=images, record=record)


def _cut(preprocess: Preprocess, item: Item) -> Mapping[str, NDArray[np.uint8]]:
    from ..compress.data.items import cut_item

    return cut_item(item, preprocess)


def _key(item: Item) -> str:
    distortion = item.distortion
    return item.sha256 if distortion is None else f"{item.sha256} {msgspec.json.encode(distortion).decode()}"


def make_artefacts(
    floats: FloatBundle,
    kinds: Sequence[Kind],
    photographs: ExportPhotographs,
    calibration: Calibration,
    *,
    reference: Scorer,
    options: ConversionOptions,
    limits: RankLimits,
    go_on: bool = False,
) -> list[tuple[dict[str, Graph], ArtefactReport]]:
    """Convert, fit the score maps again, and gate.

    Args:
        floats: the members.
        kinds: wanted, none of them FP32 in ONNX.
        photographs: whose judged ones the gate sees.
        calibration: images for ranges and maps.
        reference: a scorer of the members in FP32.
        options: of the conversion.
        limits: of the gate.
        go_on: note what cannot be made, instead of raising.

    Returns:
        For each kind, by member the graph with its score map and the gates' records (empty where there is none), and
        the report, whether it passed or not.

    Raises:
        ExportError, MissingExtraError, UsageError: as `convert`, unless ``go_on``.
        GateError: the graph fails to run, unless ``go_on``.
        DataError, PhotoError: photographs are too few or cannot be read.
    """
    made = []
    # Distorted versions are held in memory, files are read when they are judged.
    judged = [item.path if item.distortion is None else whole_photograph(item) for item in photographs.judged]
    for kind in kinds:
        started = time.perf_counter()
        say(f"{kind}: converting")
        try:
            graphs, report = _make(floats, kind, judged, photographs, calibration, reference, options, limits)
        except EdgeIQAError as error:
            if not go_on:
                raise
            graphs, report = {}, ArtefactReport(kind=str(kind), reason=error.got)
        made.append((graphs, msgspec.structs.replace(report, seconds=time.perf_counter() - started)))
    return made


def _make(
    floats: FloatBundle,
    kind: Kind,
    judged: Sequence[Photograph | Path],
    photographs: ExportPhotographs,
    calibration: Calibration,
    reference: Scorer,
    options: ConversionOptions,
    limits: RankLimits,
) -> tuple[dict[str, Graph], ArtefactReport]:
    converted = {
        member.name: convert(member, kind, calibration.images[member.name], options) for member in floats.members
    }
    graphs = {name: conversion.graph for name, conversion in converted.items()}
    refits: dict[str, MapRefit] = {}
    if kind.precision != "fp32":
        say(f"{kind}: fitting the score map again")
        with open_scorer(floats, graphs, reference.threads) as scorer:
            refits = refit_maps(reference, scorer, calibration.images)
        graphs = {name: replace(graph, score_map=refits[name].score_map) for name, graph in graphs.items()}
    say(f"{kind}: the rank gate, on {len(judged)} photographs")
    with open_scorer(floats, graphs, reference.threads) as scorer:
        rank = gate_rank(
            reference,
            scorer,
            judged,
            mos=photographs.mos if floats.scale.comparable == "global" else None,
            **{name: getattr(limits, name) for name in RankLimits.__slots__},
        )
        noise = _listen(reference, scorer, judged[:_LISTENED])
    records = (rank_record(rank), *_records(converted, refits, calibration))
    graphs = {name: replace(graph, gates=records) for name, graph in graphs.items()}
    notes = dict.fromkeys(note for conversion in converted.values() for note in conversion.notes)
    first = next(iter(converted.values()))
    return graphs, ArtefactReport(
        kind=str(kind),
        capability=first.graph.capability,
        size_bytes=sum(len(file) for graph in graphs.values() for file in graph.files),
        recipe=first.recipe,
        rank=rank,
        refits=refits,
        signal_to_noise=noise,
        notes=tuple(notes),
        reason="; ".join(rank.failures),
    )


def _records(
    converted: Mapping[str, Conversion], refits: Mapping[str, MapRefit], calibration: Calibration
) -> tuple[GateRecord, ...]:
    """What else an artefact says of how it was made."""
    told: list[GateRecord] = []
    if refits:
        maps = {name: msgspec.to_builtins(refit) for name, refit in refits.items()}
        told.append(GateRecord(kind="score_map_refit", passed=True, report={"members": maps}))
    recipes = {name: msgspec.to_builtins(one.recipe) for name, one in converted.items() if one.recipe is not None}
    if recipes:
        report = {"recipes": recipes, "calibration": msgspec.to_builtins(calibration.record)}
        told.append(GateRecord(kind="quantization", passed=True, report=report))
    built = {name: one.tensorrt for name, one in converted.items() if one.tensorrt is not None}
    if built:
        report = {
            name: {"case": one.case, "library": one.library, "layers": msgspec.to_builtins(one.layers)}
            for name, one in built.items()
        }
        told.append(GateRecord(kind="tensorrt_build", passed=True, report=report))
    return tuple(told)


def _listen(reference: Scorer, judged: Scorer, photos: Sequence[Photograph | Path]) -> tuple[SignalToNoise, ...]:
    """The signal to noise of every member's outputs, on a few photographs."""

    def outputs(scorer: Scorer) -> Iterator[dict[str, NDArray[np.float32]]]:
        for photo in photos:
            source = photo.data if isinstance(photo, Photograph) else photo
            yield {
                f"{member}.{name}": value
                for member, found in scorer.features(source).items()
                for name, value in found.items()
            }

    return measure_signal_to_noise(outputs(reference), outputs(judged))
