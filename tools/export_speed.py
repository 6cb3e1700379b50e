"""Is it worth it? The kinds of an export side by side, and against what the engine offers besides."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..export.kinds import Kind
from ..export.pack import TARGET_ENGINE, Graph, PackedMember, pack
from ..profiles.comparison import compare_precisions
from ..runtime.bundle import write_bundle
from ..runtime.decode import open_photo
from ..runtime.engines.engine import available_threads
from ..runtime.manifest import Provenance, Target
from ..runtime.views import cut_views
from .export_artefacts import FloatBundle, float_graphs

__all__ = ["compare_speed"]

_WARM_UP, _RUNS = 5, 30
_RUN_HERE: tuple[Target, ...] = ("onnx", "openvino")


def compare_speed(
    floats: FloatBundle, graphs: Mapping[Kind, Mapping[str, Graph]]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Measure the graphs of each engine in the same rounds, on a golden photograph, all threads.

    FP32 is always among them, and for OpenVINO also what it offers from the FP32 graph (bf16), whether it was asked for
    or not: it may be faster than INT8.

    Returns:
        The median of each kind in ms by its name, and a sentence for each two of an engine.
    """
    latencies: dict[str, float] = {}
    verdicts: list[str] = []
    for target in _RUN_HERE:
        kinds = [kind for kind in graphs if kind.target == target]
        if not kinds:
            continue
        base = float_graphs(floats)
        packing = pack(
            "side-by-side",
            [
                PackedMember(
                    member.name,
                    member.preprocess,
                    member.score_map,
                    (base[member.name], *(graphs[kind][member.name] for kind in kinds if kind != Kind("onnx", "fp32"))),
                )
                for member in floats.members
            ],
            combine=floats.combine,
            scale=floats.scale,
            golden=floats.golden,
            provenance=Provenance(created="", versions={}),
        )
        views = {
            member.name: cut_views(open_photo(floats.golden[0].data, member.preprocess).image, member.preprocess)
            for member in floats.members
        }
        engine = TARGET_ENGINE[target]
        with tempfile.TemporaryDirectory() as folder:
            bundle = write_bundle(Path(folder) / "side-by-side.eiqa", packing.manifest, packing.parts)
            compared = compare_precisions(
                bundle,
                views,
                engine=engine,
                precision="fp32",
                threads=available_threads(),
                warmup=_WARM_UP,
                runs=_RUNS,
            )
        for contender in compared.contenders:
            latencies[f"{target} {contender.precision}"] = contender.latency.p50_ms
        verdicts += [verdict.text for verdict in compared.verdicts]
    return latencies, tuple(verdicts)
