"""TensorRT artefacts in a bundle: their parts, their golden answers, and how they are judged where no GPU is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from edgeiqa.export.gate import PARITY_TOLERANCE, write_gated
from edgeiqa.export.pack import Graph, PackedMember, Packing, golden_photographs, pack, with_only
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.engines.engine import open_engine
from edgeiqa.runtime.errors import EngineError, ExportError, GateError
from edgeiqa.runtime.manifest import Mean, Provenance, ScoreScale
from edgeiqa.runtime.preprocess import Preprocess, Resize, View
from edgeiqa.runtime.score_map import ScoreMap, Sigmoid
from edgeiqa.runtime.scorer import Scorer
from edgeiqa.runtime.verify import verify
from numpy.typing import NDArray

from ..runtime.available import load_or_require_mend
from ..runtime.messages import require_message
from .tensorrt_graphs import SIDE, Kind, tiny

PREPROCESS = Preprocess(views=(View(name="image", operations=(Resize(width=SIDE, height=SIDE),)),))
SIGMOID = ScoreMap(steps=(Sigmoid(slope=2.0, centre=0.0, low=0.0, high=100.0),))
OUTPUTS = ("score", "features.last")
ADA, AMPERE = "TensorRT-RTX 1.7, compute capability 8.9", "TensorRT-RTX 1.7, compute capability 8.6"


def graph(target: str = "tensorrt", kind: Kind = "fp32", engine: bytes = b"", capability: str = "") -> Graph:
    precision = "int8" if kind == "int8" else "fp32"
    files = (tiny(kind), engine) if engine else (tiny(kind),)
    return Graph(target, precision, "fp32", files, OUTPUTS, capability=capability)  # type: ignore[arg-type]


def packed(*graphs: Graph) -> Packing:
    return pack(
        "tiny",
        [PackedMember("one", PREPROCESS, SIGMOID, graphs)],
        combine=Mean(),
        scale=ScoreScale(),
        golden=golden_photographs(),
        provenance=Provenance(created="2000-01-01", versions={}),
    )


def test_artefacts_of_one_graph_share_its_part() -> None:
    made = packed(
        graph("onnx"), graph(engine=b"for Ada", capability=ADA), graph(engine=b"for Ampere", capability=AMPERE)
    )
    plain, ada, ampere = made.manifest.members[0].artefacts
    assert plain.files == ada.files[:1] == ampere.files[:1] == ("graphs/one.onnx.fp32.onnx",)
    assert ada.files[1] == "graphs/one.tensorrt.fp32.TensorRT-RTX-1-7-compute-capability-8-9.engine"
    assert (made.parts[ada.files[1]], made.parts[ampere.files[1]]) == (b"for Ada", b"for Ampere")
    assert (plain.capability, ada.capability, ampere.capability) == ("", ADA, AMPERE)
    assert made.manifest.engine == "onnxruntime"


def test_graphs_that_differ_do_not() -> None:
    made = packed(graph("onnx", "int8"), graph(kind="fp32", capability=ADA), graph(kind="int8"))
    first, second, third = made.manifest.members[0].artefacts
    assert first.files == third.files != second.files
    assert made.parts[second.files[0]] == tiny("fp32")


def test_two_graphs_of_one_kind_are_refused() -> None:
    other = Graph("tensorrt", "fp32", "fp32", (tiny("fp16"),), OUTPUTS)
    with pytest.raises(ExportError) as caught:
        packed(graph(), other)
    require_message(caught, "two graphs of one for tensorrt fp32", "one for each", "leave one out")


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_golden_answers_are_onnxruntimes_and_say_so(kind: Kind, tmp_path: Path) -> None:
    made = packed(graph(kind=kind, engine=b"an engine", capability=ADA))
    (artefact,) = made.manifest.members[0].artefacts
    assert made.manifest.engine == "tensorrt"
    engine = open_engine("onnxruntime", artefact, [tiny(kind)], inputs=PREPROCESS.shapes, threads=1)
    bundle = Bundle.open(written(tmp_path, made))
    for golden, raw in zip(bundle.manifest.golden, artefact.golden_raw, strict=True):
        views = bundle.golden_views(golden, bundle.manifest.members[0])
        assert float(engine.run(views)["score"]) == pytest.approx(raw, abs=1e-5)
    (record,) = artefact.gates
    assert record.kind == "golden answers by onnxruntime"
    assert record.report["ran"] == "the artefact's ONNX graph"
    # So a machine without a GPU checks the bundle, and says what it cannot do.
    assert verify(Scorer(bundle, engine="onnxruntime")).passed
    load_or_require_mend("tensorrt", lambda: Scorer(bundle))


def written(folder: Path, made: Packing) -> Path:
    from edgeiqa.runtime.bundle import write_bundle

    return write_bundle(folder / "tiny.eiqa", made.manifest, made.parts).path


def test_a_graph_that_onnxruntime_cannot_run_is_refused() -> None:
    lacking = tiny("fp32").replace(b"Relu", b"Rule")
    with pytest.raises(EngineError):
        packed(Graph("tensorrt", "fp16", "fp32", (lacking,), OUTPUTS))


def test_each_artefact_is_gated_by_its_own_graph(tmp_path: Path) -> None:
    """onnxruntime would take the ONNX artefact of the same precision: here that is another network."""
    photos = golden_photographs()
    session = open_engine(
        "onnxruntime",
        packed(graph("onnx")).manifest.members[0].artefacts[0],
        [tiny("fp32")],
        inputs=PREPROCESS.shapes,
        threads=1,
    )

    def reference(_: str, views: Mapping[str, NDArray[np.uint8]]) -> float:
        return float(session.run(views)["score"])

    tolerance = PARITY_TOLERANCE["fp32"]
    both = packed(graph("onnx"), graph(engine=b"an engine", capability=ADA))
    bundle, reports = write_gated(tmp_path / "good.eiqa", both, reference, photos, tolerance=tolerance)
    assert [report.engine for report in reports] == ["onnxruntime"] * 4
    kinds = [gate.kind for gate in bundle.manifest.members[0].artefacts[1].gates]
    assert kinds == ["golden answers by onnxruntime", "parity", "parity"]
    # An INT8 graph that calls itself FP32.
    wrong = Graph("tensorrt", "fp32", "fp32", (tiny("int8"),), OUTPUTS)
    with pytest.raises(GateError) as caught:
        write_gated(tmp_path / "bad.eiqa", packed(graph("onnx"), wrong), reference, photos, tolerance=tolerance)
    require_message(caught, "tensorrt fp32")
    assert not (tmp_path / "bad.eiqa").exists()
    assert [artefact.target for artefact in with_only(bundle, 1).manifest.members[0].artefacts] == ["tensorrt"]
