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
from ..export.convert import Conversion, ConversionOptions, convert
from ..export.kinds import Kind
from ..export.pack import Graph
from ..export.quant_recipe import QuantRecipe
from ..export.rank_gate import gate_rank, rank_record, rank_refusal, refit_maps
from ..profiles.rank import LEAST_SRCC, MAX_SRCC_DROP, RankReport
from ..profiles.refit_score_map import MapRefit
from ..profiles.signal_to_noise import SignalToNoise
from ..runtime.errors import EngineError, ExportError, GateError, MissingExtraError
from ..runtime.preprocess import Preprocess
from ..runtime.scorer import Scorer
from .export_photographs import ExportPhotographs, name_item, whole_photograph
from .export_records import listen, records_of
from .export_scorers import FloatBundle, open_judged
from .show import say

if TYPE_CHECKING:
    from ..compress.data.items import Item

__all__ = [
    "ArtefactReport",
    "Calibration",
    "RankLimits",
    "calibrate",
    "make_artefacts",
    "refusal_of",
]

_LISTENED = 32
"""Photographs on which the features' signal to noise is measured."""
_LONGEST_NAME = 200
"""Of a file of a distorted version, in bytes; file systems take 255."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankLimits:
    """What the rank gate holds, as of `profiles.rank.check_rank`."""

    least_srcc: float = LEAST_SRCC
    max_srcc_drop: float = MAX_SRCC_DROP
    swap_margin: float | None = None
    max_swapped_share: float | None = None
    max_change: float | None = None


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
        rank: the gate's report; None where there is no graph, and where what it gives is not finite.
        failed: whether the gate refuses it; without ``rank``, since the graph fails to run or no map can be fitted.
        refits: the score maps that were fitted again, by member.
        signal_to_noise: of the features, all members together.
        notes: for a person.
        engine_lacks: why no TensorRT engine was built of the graph; empty where one was, and for other targets.
        reason: why there is no graph, or why it failed; empty where it passed.
        expected: what would have been right; empty where it passed, and where ``rank`` says.
        mend: what mends it; empty likewise.
        seconds: that it took.
    """

    kind: str
    capability: str = ""
    size_bytes: int = 0
    recipe: QuantRecipe | None = None
    rank: RankReport | None = None
    failed: bool = False
    refits: dict[str, MapRefit] = {}
    signal_to_noise: tuple[SignalToNoise, ...] = ()
    notes: tuple[str, ...] = ()
    engine_lacks: str = ""
    reason: str = ""
    expected: str = ""
    mend: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether there is a graph, and it passed the gate."""
        return self.rank is not None and self.rank.passed


def refusal_of(report: ArtefactReport) -> GateError:
    """The error of a report that has not passed."""
    if report.rank is not None:
        return rank_refusal(report.kind, report.rank)
    return GateError(f"{report.kind}: {report.reason}", expected=report.expected, mend=report.mend)


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
        ExportError, MissingExtraError: as `convert`, unless ``go_on``.
        EngineError: an engine refuses the graph, unless ``go_on``.
        UsageError: as `convert`; what the caller named is wrong, whatever comes of other kinds.
        DataError, PhotoError: photographs are too few or cannot be read.
    """
    made = []
    with _as_files(photographs.judged) as judged:
        for kind in kinds:
            started = time.perf_counter()
            say(f"{kind}: converting")
            graphs: dict[str, Graph] = {}
            try:
                graphs, report = _make(floats, kind, judged, photographs, calibration, reference, options, limits)
            except GateError as error:
                report = ArtefactReport(
                    kind=str(kind), failed=True, reason=error.got, expected=error.expected, mend=error.mend
                )
            except (ExportError, EngineError, MissingExtraError) as error:
                if not go_on:
                    raise
                report = ArtefactReport(kind=str(kind), reason=error.got, expected=error.expected, mend=error.mend)
            made.append((graphs, msgspec.structs.replace(report, seconds=time.perf_counter() - started)))
    return made


@contextmanager
def _as_files(items: Sequence[Item]) -> Iterator[list[Path]]:
    """The items as files, which are read when they are judged: of distorted versions PNGs in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for place, item in enumerate(items):
            if item.distortion is None:
                paths.append(item.path)
                continue
            photo = whole_photograph(item)
            name = photo.name.encode()[-_LONGEST_NAME:].decode(errors="ignore")
            # Reports name a photograph by its file.
            paths.append(Path(folder) / str(place) / name)
            paths[-1].parent.mkdir()
            paths[-1].write_bytes(photo.data)
        yield paths


def _make(
    floats: FloatBundle,
    kind: Kind,
    judged: Sequence[Path],
    photographs: ExportPhotographs,
    calibration: Calibration,
    reference: Scorer,
    options: ConversionOptions,
    limits: RankLimits,
) -> tuple[dict[str, Graph], ArtefactReport]:
    """A kind's graphs and report.

    Raises:
        GateError: a graph fails to run, gives what is not finite, or no score map can be fitted to it.
    """
    converted = {
        member.name: convert(member, kind, calibration.images[member.name], options) for member in floats.members
    }
    graphs = {name: conversion.graph for name, conversion in converted.items()}
    refits: dict[str, MapRefit] = {}
    if kind.precision != "fp32":
        say(f"{kind}: fitting the score map again")
        with open_judged(floats, graphs, reference.threads) as scorer:
            refits = refit_maps(reference, scorer, calibration.images)
        graphs = {name: replace(graph, score_map=refits[name].score_map) for name, graph in graphs.items()}
    say(f"{kind}: the rank gate, on {len(judged)} photographs")
    with open_judged(floats, graphs, reference.threads) as scorer:
        rank = gate_rank(
            reference,
            scorer,
            judged,
            mos=photographs.mos if floats.scale.comparable == "global" else None,
            versions=photographs.versions,
            **{name: getattr(limits, name) for name in RankLimits.__slots__},
        )
        noise = listen(reference, scorer, judged[:_LISTENED])
    records = (rank_record(rank), *records_of(converted, refits, noise, msgspec.to_builtins(calibration.record)))
    graphs = {name: replace(graph, gates=records) for name, graph in graphs.items()}
    first = next(iter(converted.values()))
    lacks = [one.tensorrt.reason for one in converted.values() if one.tensorrt is not None]
    return graphs, ArtefactReport(
        kind=str(kind),
        capability=first.graph.capability,
        size_bytes=sum(len(file) for graph in graphs.values() for file in graph.files),
        recipe=first.recipe,
        rank=rank,
        failed=not rank.passed,
        refits=refits,
        signal_to_noise=noise,
        notes=_notes(converted),
        engine_lacks=next(filter(None, lacks), ""),
        reason="; ".join(rank.failures),
    )


def _notes(converted: Mapping[str, Conversion]) -> tuple[str, ...]:
    """Each once, without TensorRT's line for a graph of no name: `export_records.ways_to_build` has one with names."""
    return tuple(
        dict.fromkeys(
            note
            for one in converted.values()
            for note in one.notes
            if one.tensorrt is None or one.tensorrt.trtexec not in note
        )
    )
