"""What an artefact of an export says of how it was made, besides the rank gate's report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..export.convert import Conversion, FloatMember
from ..export.kinds import Kind
from ..export.pack import PackedMember, Packing, Photograph, with_artefacts
from ..export.rank_gate import run_refusal
from ..export.tensorrt_script import build_script, trtexec_line
from ..export.to_tensorrt import TensorRtResult
from ..profiles.refit_score_map import MapRefit
from ..profiles.signal_to_noise import SignalToNoise, measure_signal_to_noise
from ..runtime.engines.trt_build import BatchProfile
from ..runtime.errors import EngineError
from ..runtime.manifest import Artefact, GateRecord, Manifest, Member
from ..runtime.scorer import Scorer

__all__ = [
    "ENOUGH_DB",
    "build_scripts",
    "features_reach",
    "listen",
    "name_build_parts",
    "of_last_features",
    "records_of",
    "ways_to_build",
]

ENOUGH_DB = 20.0
"""Signal to noise of features that is told as reached or not; the rank gate decides."""

_BUILD = "tensorrt_build"


def records_of(
    converted: Mapping[str, Conversion],
    refits: Mapping[str, MapRefit],
    noise: Sequence[SignalToNoise],
    calibration: Mapping[str, Any],
) -> tuple[GateRecord, ...]:
    """What an artefact says: its maps, recipes, calibration images, features and engines.

    Args:
        converted: by member.
        refits: by member; empty where no map was fitted again.
        noise: of the features.
        calibration: record of the calibration images.
    """
    told: list[GateRecord] = []
    if refits:
        maps = {name: msgspec.to_builtins(refit) for name, refit in refits.items()}
        told.append(GateRecord(kind="score_map_refit", passed=True, report={"members": maps}))
    recipes = {name: msgspec.to_builtins(one.recipe) for name, one in converted.items() if one.recipe is not None}
    if recipes:
        # nncf is given a part of many images; the record is of all.
        ranges = {name: one.range_images for name, one in converted.items()}
        report = {"recipes": recipes, "calibration": calibration, "range_images": ranges}
        told.append(GateRecord(kind="quantization", passed=True, report=report))
    elif refits:
        # No ranges were set by these images, but the maps were fitted on them, and what overflows was found by them.
        told.append(GateRecord(kind="calibration", passed=True, report=dict(calibration)))
    # It is told and not held: `passed` is the rank gate's to say.
    heard = {
        "unit": "dB",
        "outputs": msgspec.to_builtins(noise),
        "enough_db": ENOUGH_DB,
        "reached": features_reach(noise),
    }
    told.append(GateRecord(kind="signal_to_noise", passed=True, report=heard))
    built = {name: one.tensorrt for name, one in converted.items() if one.tensorrt is not None}
    if built:
        whole = all(one.engine is not None for one in built.values())
        told.append(GateRecord(kind=_BUILD, passed=whole, report={name: _build(one) for name, one in built.items()}))
    return tuple(told)


def _build(result: TensorRtResult) -> dict[str, Any]:
    return {
        "case": result.case,
        "built": result.engine is not None,
        "reason": result.reason,
        "library": result.library,
        "batch": dataclasses.asdict(result.batch),
        "build_s": result.build_s,
        "layers": msgspec.to_builtins(result.layers),
    }


def of_last_features(noise: Sequence[SignalToNoise]) -> list[SignalToNoise]:
    """That of each member's last features, where it gives them."""
    return [one for one in noise if one.output.endswith(".features.last")]


def features_reach(noise: Sequence[SignalToNoise]) -> bool:
    """Whether the last features of every member reach `ENOUGH_DB`; False where there are none."""
    last = of_last_features(noise)
    return bool(last) and all(one.reaches(ENOUGH_DB) for one in last)


def listen(reference: Scorer, judged: Scorer, photos: Sequence[Photograph | Path]) -> tuple[SignalToNoise, ...]:
    """The signal to noise of every member's outputs, named ``MEMBER.OUTPUT``.

    Raises:
        GateError: an output of the judged side is not finite; it and the photograph are named.
        EngineError: the reference's is not.
    """

    def outputs(scorer: Scorer) -> Iterator[dict[str, NDArray[np.float32]]]:
        for photo in photos:
            source = photo.data if isinstance(photo, Photograph) else photo
            try:
                found = scorer.features(source)
            except EngineError as error:
                if scorer is reference:
                    raise
                raise run_refusal(f"{scorer.engine} {scorer.precision} on {photo.name}", error) from error
            yield {f"{member}.{name}": value for member, of_it in found.items() for name, value in of_it.items()}

    return measure_signal_to_noise(outputs(reference), outputs(judged))


def build_scripts(members: Sequence[FloatMember | PackedMember], kinds: Sequence[Kind]) -> dict[str, str]:
    """For a bundle with TensorRT graphs, the parts by which a device builds its own engines, by name."""
    if not any(kind.target == "tensorrt" for kind in kinds):
        return {}
    return {_script(member.name): build_script(member.preprocess.shapes, BatchProfile()) for member in members}


def _script(member: str) -> str:
    return f"tensorrt/{member}.build_engine.py"


def name_build_parts(packing: Packing) -> Packing:
    """The packing, its records of TensorRT's builds with the lines for a device: the parts' names are known now."""

    def named(member: Member, _: int, artefact: Artefact) -> Artefact:
        gates = tuple(
            _with_parts(gate, member.name, artefact, member.preprocess.shapes) if gate.kind == _BUILD else gate
            for gate in artefact.gates
        )
        return msgspec.structs.replace(artefact, gates=gates)

    return dataclasses.replace(packing, manifest=with_artefacts(packing.manifest, named))


def _with_parts(gate: GateRecord, member: str, artefact: Artefact, shapes: Mapping[str, tuple[int, ...]]) -> GateRecord:
    graph = artefact.files[0]
    engine = artefact.files[1] if len(artefact.files) > 1 else str(PurePosixPath(graph).with_suffix(".engine"))
    own = gate.report[member]
    trtexec = trtexec_line(shapes, BatchProfile(**own["batch"]), graph=graph, engine=engine)
    line = f"python {_script(member)} {graph} {engine}"
    report = {**gate.report, member: {**own, "script": line, "trtexec": trtexec}}
    return msgspec.structs.replace(gate, report=report)


def ways_to_build(manifest: Manifest) -> list[tuple[str, str]]:
    """For each graph of a bundle that has no engine, the script's line and ``trtexec``'s, in the unpacked folder."""
    found: dict[tuple[str, str], None] = {}
    for member in manifest.members:
        for artefact in member.artefacts:
            own = next((gate.report.get(member.name) for gate in artefact.gates if gate.kind == _BUILD), None)
            if own is not None and not own["built"]:
                found[own["script"], own["trtexec"]] = None
    return list(found)
