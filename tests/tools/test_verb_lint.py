"""``edgeiqa lint``: a graph or a bundle, a table or JSON, and the exit status that a script goes by."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from edgeiqa.export.lint import LintReport
from edgeiqa.runtime.bundle import Bundle, write_bundle

from ..export.lint_graphs import Sketch, network
from .command import edgeiqa, files_in, require_refusal, rewritten


def shifted(sketch: Sketch, value: str) -> str:
    """Quantized with a zero point of 7, before a Gelu."""
    return sketch.node("Gelu", sketch.quantize(value, 0.05, np.int8(7)))


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Two errors and a warning for TensorRT, nothing for the others."""
    path = tmp_path / "graph.onnx"
    path.write_bytes(network(shifted).SerializeToString())
    return path


def with_graph(bundle: Path, target: Path, data: bytes) -> Path:
    """A copy of a bundle with another ONNX graph in it, of the right hash."""
    opened = Bundle.open(bundle)
    parts = {name: data if name.endswith(".onnx") else opened.read(name) for name in opened.manifest.parts}
    return write_bundle(target, opened.manifest, parts).path


def test_a_clean_graph(graph: Path) -> None:
    ran = edgeiqa("lint", graph, "--target", "onnx")
    assert (ran.code, ran.out, ran.err) == (0, f"{graph} for onnx: 0 errors, 0 warnings\n", "")


def test_errors_with_their_mends(graph: Path) -> None:
    ran = edgeiqa("lint", graph, "--target", "tensorrt")
    assert (ran.code, ran.err) == (1, "")
    lines = [line.strip() for line in ran.out.splitlines()]
    assert lines[0] == f"{graph} for tensorrt: 2 errors, 1 warning"
    assert ["rule", "where", "got", "expected"] in map(str.split, lines)
    rows = [line.split() for line in lines if line.startswith(("zero-point", "quantized-input"))]
    assert [row[:2] for row in rows] == [["zero-point", "error"]] * 2 + [["quantized-input", "warning"]]
    assert rows[0][2].startswith("quantizelinear") and rows[2][2].startswith("gelu")
    mends = [line for line in lines if line.startswith("to mend")]
    assert mends[0] == "to mend zero-point: edgeiqa export --target tensorrt --precision int8"
    # Two places, one mend.
    assert len(mends) == 2
    assert files_in(graph.parent) == {graph.name}


def test_warnings_alone_leave_the_status_0(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(network(opset=19).SerializeToString())
    ran = edgeiqa("lint", path, "--target", "openvino")
    assert ran.code == 0
    assert "0 errors, 1 warning" in ran.out and "other-opset" in ran.out and "opset 19" in ran.out


def test_json_is_the_reports(graph: Path) -> None:
    ran = edgeiqa("lint", graph, "--target", "tensorrt", "--json")
    assert ran.code == 1
    answer = ran.object
    (only,) = answer["graphs"]
    assert (answer["passed"], only.pop("graph")) == (False, str(graph))
    report = msgspec.convert(only, LintReport)
    assert (report.target, report.passed) == ("tensorrt", False)
    assert [finding.rule for finding in report.findings] == ["zero-point", "zero-point", "quantized-input"]


def test_every_graph_of_a_bundle_for_its_own_target(small_bundle: Path, pair_bundle: Path) -> None:
    ran = edgeiqa("lint", small_bundle, "--json")
    # The OpenVINO graph beside it is no ONNX.
    assert ran.code == 0
    assert [(entry["target"], entry["findings"]) for entry in ran.object["graphs"]] == [("onnx", [])]
    names = [name for name in Bundle.open(pair_bundle).manifest.parts if name.endswith(".onnx")]
    ran = edgeiqa("lint", pair_bundle)
    assert ran.code == 0
    assert ran.out == "".join(f"{name} for onnx: 0 errors, 0 warnings\n" for name in names)


@pytest.mark.parametrize("target", ["openvino", "tensorrt"])
def test_a_bundle_for_another_target(small_bundle: Path, target: str) -> None:
    ran = edgeiqa("lint", small_bundle, "--target", target, "--json")
    assert ran.code == 0
    assert [(entry["target"], entry["findings"]) for entry in ran.object["graphs"]] == [(target, [])]


def test_a_bundle_with_a_bad_graph(small_bundle: Path, tmp_path: Path) -> None:
    # A bundle under any name is one.
    bad = with_graph(small_bundle, tmp_path / "bad.zip", network(shifted).SerializeToString())
    assert edgeiqa("lint", bad).code == 0
    ran = edgeiqa("lint", bad, "--target", "tensorrt")
    assert ran.code == 1 and "zero point 7" in ran.out


def test_a_bundle_without_an_onnx_graph(small_bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(small_bundle)
    (member,) = opened.manifest.members
    kept = tuple(artefact for artefact in member.artefacts if artefact.target == "openvino")
    manifest = msgspec.structs.replace(
        opened.manifest, engine="openvino", members=(msgspec.structs.replace(member, artefacts=kept),)
    )
    parts = {name: opened.read(name) for name in opened.manifest.parts if not name.endswith(".onnx")}
    path = write_bundle(tmp_path / "other.eiqa", manifest, parts).path
    require_refusal(edgeiqa("lint", path), "no ONNX graph", "edgeiqa export --target onnx")


def test_what_is_no_graph(small_bundle: Path, graph: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.onnx").write_bytes(b"\xff\xd8\xff\xe0" + bytes(60))
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("photo.onnx", "empty.onnx"):
        require_refusal(edgeiqa("lint", tmp_path / name, "--target", "onnx"), "ONNX", "torch.onnx.export")
    require_refusal(edgeiqa("lint", tmp_path / "none.onnx", "--target", "onnx"), "none.onnx")
    require_refusal(edgeiqa("lint", tmp_path, "--target", "onnx"), str(tmp_path))
    require_refusal(edgeiqa("lint", tmp_path / "none.eiqa"), "none.eiqa", "not there")
    require_refusal(edgeiqa("lint", graph), "without --target", "onnx, openvino, tensorrt")
    (name,) = (name for name in Bundle.open(small_bundle).manifest.parts if name.endswith(".onnx"))
    broken = rewritten(small_bundle, tmp_path / "broken.eiqa", parts={name: graph.read_bytes()})
    require_refusal(edgeiqa("lint", broken), name, "edgeiqa export")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("lint",), "Missing argument 'GRAPH'"), (("lint", "a.onnx", "--target", "tflite"), "'tflite' is not one of")],
)
def test_a_call_that_click_refuses(arguments: tuple[str, ...], words: str) -> None:
    ran = edgeiqa(*arguments)
    assert (ran.code, ran.out) == (2, "") and words in ran.err


def test_without_onnx_it_names_the_extra(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None if name == "onnx" else sys.modules)
    require_refusal(edgeiqa("lint", graph, "--target", "onnx"), "no onnx", "edgeiqa[export]")
