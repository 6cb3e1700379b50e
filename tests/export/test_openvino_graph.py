"""OpenVINO's form of a graph: the same answers as onnxruntime's, half the bytes with FP16, nothing of the machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from edgeiqa.export.openvino_graph import to_openvino
from edgeiqa.export.pack import TARGET_ENGINE
from edgeiqa.runtime.engines.engine import GraphEngine, open_engine
from edgeiqa.runtime.engines.ov import _require_arithmetic
from edgeiqa.runtime.errors import EngineError, ExportError, MissingExtraError
from edgeiqa.runtime.manifest import Artefact, Precision, Target
from edgeiqa.runtime.score_map import ScoreMap
from numpy.typing import NDArray

from .networks import SYSTEMS, Exported, noise, require_near


def engine(made: Exported, target: Target, files: tuple[bytes, ...], precision: Precision = "fp32") -> GraphEngine:
    artefact = Artefact(
        target=target,
        precision=precision,
        stored_as="fp32",
        files=("graph", "weights")[: len(files)],
        outputs=made.outputs,
        score_map=ScoreMap(),
        golden_raw=(),
        golden_tolerance=0.05,
    )
    return open_engine(TARGET_ENGINE[target], artefact, files, inputs=made.shapes, threads=1)


@pytest.mark.parametrize(("name", "for_bf16"), [*((name, False) for name in SYSTEMS), ("convnext", True)])
def test_openvino_agrees_with_onnxruntime(exported: Callable[[str], Exported], name: str, for_bf16: bool) -> None:
    made = exported(name)
    files = to_openvino(made.data, store_fp16=False, for_bf16=for_bf16)
    ours = engine(made, "openvino", files)
    theirs = engine(made, "onnx", (made.data,))
    for seed in range(2):
        views = {view: pixels[0] for view, pixels in noise(made.shapes, 1, seed).items()}
        expected = theirs.run(views, made.outputs)
        for output, value in ours.run(views, made.outputs).items():
            require_near(value, expected[output], output, absolute=1e-4)


def test_fp16_halves_the_weights(exported: Callable[[str], Exported]) -> None:
    made = exported("convnext")
    xml, weights = to_openvino(made.data, store_fp16=False)
    stored_xml, stored = to_openvino(made.data, store_fp16=True)
    assert len(stored) < 0.51 * len(weights)
    views = {view: pixels[0] for view, pixels in noise(made.shapes, 1).items()}
    whole = float(engine(made, "openvino", (xml, weights)).run(views)["score"])
    half = float(engine(made, "openvino", (stored_xml, stored)).run(views)["score"])
    # Rounded weights, FP32 arithmetic: near, and not the same.
    assert 0 < abs(whole - half) < 5e-3 * max(1.0, abs(whole))


def test_bf16_gives_scores_of_more_than_eight_bits(exported: Callable[[str], Exported]) -> None:
    made = exported("convnext")
    views = [{view: pixels[0] for view, pixels in noise(made.shapes, 1, seed).items()} for seed in range(6)]

    def scores(for_bf16: bool) -> NDArray[np.float32]:
        files = to_openvino(made.data, store_fp16=True, for_bf16=for_bf16)
        opened = engine(made, "openvino", files, "bf16")
        return np.array([opened.run(view)["score"] for view in views], dtype=np.float32)

    try:
        rounded, fine = scores(False), scores(True)
    except EngineError as error:
        # A processor without bf16, where OpenVINO takes another precision than it is told.
        assert "bf16" in str(error)
        return
    low_bits = rounded.view(np.uint32) & 0xFFFF, fine.view(np.uint32) & 0xFFFF
    assert (low_bits[0] == 0).all() and (low_bits[1] != 0).any()
    exact = engine(made, "onnx", (made.data,))
    expected = np.array([exact.run(view)["score"] for view in views])
    assert np.abs(fine - expected).max() < 0.05 * max(1.0, np.abs(expected).max())


def test_no_trace_of_the_machine(exported: Callable[[str], Exported]) -> None:
    xml, _ = to_openvino(exported("two-view").data, store_fp16=False)
    folders = {str(Path.home()), str(Path.cwd()), sys.prefix, "site-packages", "/tmp"}
    assert not [folder for folder in folders if folder != "/" and folder.encode() in xml]


def test_a_graph_that_openvino_refuses() -> None:
    with pytest.raises(ExportError, match="OpenVINO refused") as caught:
        to_openvino(b"not a graph", store_fp16=False)
    assert "--target onnx" in caught.value.mend


def test_openvino_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match="openvino") as caught:
        to_openvino(b"", store_fp16=False)
    assert caught.value.mend == 'pip install "edgeiqa[export]"'


@pytest.mark.parametrize(("told", "taken"), [("fp16", "bf16"), ("bf16", "f32"), ("int8", "bf16")])
def test_openvino_that_takes_another_precision_than_it_was_told_is_refused(told: Any, taken: str) -> None:
    """Told f16, OpenVINO computes in bf16 on processors that have no f16, and says so only when it is asked."""

    class Compiled:
        def get_property(self, name: str) -> Any:
            assert name == "INFERENCE_PRECISION_HINT"
            return getattr(openvino.Type, taken)

    with pytest.raises(EngineError) as caught:
        _require_arithmetic(Compiled(), told)
    assert taken in str(caught.value) and told in str(caught.value) and "--precision" in str(caught.value)
