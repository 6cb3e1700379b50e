"""Graphs of a whole bundle, ready to score before there is a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..export.convert import FloatMember
from ..export.pack import ANSWER_ENGINE, Graph, PackedMember, Photograph, pack
from ..export.rank_gate import run_refusal
from ..runtime.bundle import Bundle, write_bundle
from ..runtime.engines.engine import available_threads, open_engine
from ..runtime.errors import EngineError
from ..runtime.manifest import Artefact, Combine, Provenance, ScoreScale
from ..runtime.scorer import Scorer

__all__ = ["FloatBundle", "float_graphs", "open_judged", "open_scorer", "temporary_bundle"]


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


@contextmanager
def temporary_bundle(floats: FloatBundle, graphs: Mapping[str, Sequence[Graph]]) -> Iterator[Bundle]:
    """A bundle of each member's graphs, by its name; the file is there as long as the context is."""
    packing = pack(
        "temporary",
        [
            PackedMember(member.name, member.preprocess, member.score_map, tuple(graphs[member.name]))
            for member in floats.members
        ],
        combine=floats.combine,
        scale=floats.scale,
        golden=floats.golden,
        provenance=Provenance(created="", versions={}),
    )
    with tempfile.TemporaryDirectory() as folder:
        yield write_bundle(Path(folder) / "temporary.eiqa", packing.manifest, packing.parts)


@contextmanager
def open_scorer(floats: FloatBundle, graphs: Mapping[str, Graph], threads: int | None = None) -> Iterator[Scorer]:
    """A scorer of one graph a member, as a bundle of them would score; what TensorRT runs, onnxruntime answers for."""
    with temporary_bundle(floats, {name: (graph,) for name, graph in graphs.items()}) as bundle:
        target = bundle.manifest.members[0].artefacts[0].target
        yield Scorer(bundle, engine=ANSWER_ENGINE[target], threads=threads)


def float_graphs(floats: FloatBundle) -> dict[str, Graph]:
    """Each member's FP32 graph in ONNX."""
    return {
        member.name: Graph(
            "onnx", "fp32", "fp32", (member.model,), member.outputs, macs=member.macs, parameters=member.parameters
        )
        for member in floats.members
    }


@contextmanager
def open_judged(floats: FloatBundle, graphs: Mapping[str, Graph], threads: int) -> Iterator[Scorer]:
    """As `open_scorer`, of graphs that are to be judged.

    Raises:
        GateError: a graph loads, and fails on a golden photograph.
        EngineError: the engine refuses a graph.
    """
    with ExitStack() as stack:
        try:
            scorer = stack.enter_context(open_scorer(floats, graphs, threads))
        except EngineError as error:
            _require_loads(floats, graphs)
            first = next(iter(graphs.values()))
            what = f"{ANSWER_ENGINE[first.target]} {first.precision} on the golden photographs"
            raise run_refusal(what, error) from error
        yield scorer


def _require_loads(floats: FloatBundle, graphs: Mapping[str, Graph]) -> None:
    """Load graphs without running them; `EngineError` of one that its engine refuses."""
    for member in floats.members:
        graph = graphs[member.name]
        artefact = Artefact(
            target=graph.target,
            precision=graph.precision,
            stored_as=graph.stored_as,
            files=("graph",),
            outputs=graph.outputs,
            score_map=member.score_map,
            golden_raw=(),
            golden_tolerance=1.0,
        )
        open_engine(
            ANSWER_ENGINE[graph.target],
            artefact,
            graph.files,
            inputs=member.preprocess.shapes,
            threads=available_threads(),
        )
