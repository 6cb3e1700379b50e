from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgeiqa.profiles.onnx_graph import read_static_graph
from edgeiqa.runtime.errors import MissingExtraError, ModelError, UsageError
from onnx import TensorProto, helper, numpy_helper, parser

SMALL = """
<ir_version: 9, opset_import: ["" : 20]>
small (uint8[N, 4, 6, 3] image) => (float score)
<float[5, 3, 1, 1] weight = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}>
{
    pixels = Cast <to: int = 1> (image)
    planes = Transpose <perm: ints = [0, 3, 1, 2]> (pixels)
    map = Conv (planes, weight)
    score = ReduceMean <keepdims: int = 0> (map)
}
"""


def small() -> onnx.ModelProto:
    model: onnx.ModelProto = parser.parse_model(SMALL)
    return model


def test_the_symbolic_batch_is_set_everywhere() -> None:
    one, four = read_static_graph(small(), 1), read_static_graph(small(), 4)
    assert one.inputs == {"image": (1, 4, 6, 3)}
    assert (one.shapes["planes"], one.shapes["map"]) == ((1, 3, 4, 6), (1, 5, 4, 6))
    assert (four.inputs["image"], four.shapes["map"]) == ((4, 4, 6, 3), (4, 5, 4, 6))


def test_what_does_not_depend_on_the_pixels_is_constant() -> None:
    graph = read_static_graph(
        parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 20]>
        g (float[N, 6] image) => (float[N, 2, 3] out)
        <int64[2] rest = {2, 3}, float16[6] half = {1, 2, 3, 4, 5, 6}>
        {
            shape = Shape <start: int = 0, end: int = 1> (image)
            whole = Concat <axis: int = 0> (shape, rest)
            single = Cast <to: int = 1> (half)
            shifted = Add (image, single)
            out = Reshape (shifted, whole)
        }"""),
        1,
    )
    assert graph.constants == {"rest", "half", "shape", "whole", "single"}
    assert graph.weight_like == {"half"}
    assert graph.stored == {"rest": 2, "half": 6}
    assert graph.shapes["out"] == (1, 2, 3)


def test_the_caller_keeps_the_model() -> None:
    model = small()
    before = model.SerializeToString()
    read_static_graph(model, 1)
    assert model.SerializeToString() == before


def test_a_path_its_text_its_bytes_and_the_model_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    onnx.save(small(), path)
    graphs = [read_static_graph(source, 1) for source in (path, str(path), path.read_bytes(), small())]
    assert graphs.count(graphs[0]) == 4


def test_shape_arithmetic_that_inference_gives_up_on_is_folded() -> None:
    # The window count as exporters write it for windowed attention: a scalar product, reshaped and joined.
    model = parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 20]>
        g (float[N, 4, 6] image) => (float[A, B, C] out)
        <int64[1] all = {-1}, int64[1] columns = {3}, int64 times = {4}>
        {
            shape = Shape <start: int = 0, end: int = 1> (image)
            batch = Squeeze (shape)
            windows = Mul (batch, times)
            line = Reshape (windows, all)
            whole = Concat <axis: int = 0> (line, all, columns)
            rows = Reshape (image, whole)
            out = MatMul (rows, weight)
        }""")
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((3, 5), np.float32), "weight"))
    assert read_static_graph(model, 1).shapes["out"] == (4, 2, 5)
    assert read_static_graph(model, 2).shapes["out"] == (8, 2, 5)


def test_local_functions_are_inlined() -> None:
    model = parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 20, "mine" : 1]>
        g (float[N, 6] image) => (float[N, 6] out) { out = mine.twice (image) }
        <domain: "mine", opset_import: ["" : 20]>
        twice (x) => (y) { half = Relu (x)
            y = Add (half, half) }""")
    assert [node.operator for node in read_static_graph(model, 1).nodes] == ["Relu", "Add"]


def test_an_engines_own_operator_keeps_its_domain() -> None:
    model = parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 20, "com.microsoft" : 1]>
        g (float[N, 6] image) => (float[N, 6] out) { out = com.microsoft.FastGelu (image) }""")
    assert [node.operator for node in read_static_graph(model, 1).nodes] == ["com.microsoft::FastGelu"]


def test_large_external_weights_need_not_be_there(tmp_path: Path) -> None:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["image", "weight"], ["out"])],
            "g",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 100])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 50])],
            [numpy_helper.from_array(np.zeros((100, 50), np.float32), "weight")],
        )
    )
    onnx.save(model, tmp_path / "g.onnx", save_as_external_data=True, location="g.data", size_threshold=1024)
    (tmp_path / "g.data").unlink()
    graph = read_static_graph(tmp_path / "g.onnx", 1)
    assert (graph.stored, graph.shapes["out"]) == ({"weight": 5000}, (1, 50))


def test_small_external_tensors_are_read(tmp_path: Path) -> None:
    model = parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 20]>
        g (float[N, 6] image) => (float[A, B, C] out) <int64[3] shape = {-1, 2, 3}> { out = Reshape (image, shape) }""")
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([-1, 2, 3]), "shape"))
    onnx.save(model, tmp_path / "g.onnx", save_as_external_data=True, location="g.data", size_threshold=0)
    assert read_static_graph(tmp_path / "g.onnx", 1).shapes["out"] == (1, 2, 3)
    (tmp_path / "g.data").unlink()
    with pytest.raises(ModelError, match=r"stored tensor 'shape'.*in one folder"):
        read_static_graph(tmp_path / "g.onnx", 1)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.onnx: No such file"):
        read_static_graph(tmp_path / "none.onnx", 1)


@pytest.mark.parametrize("data", [b"", b"not onnx at all", b"\x00" * 100])
def test_bytes_that_are_no_graph_are_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        read_static_graph(data, 1)


def test_a_cut_off_file_is_refused() -> None:
    data = small().SerializeToString()
    with pytest.raises(ModelError, match="not ONNX"):
        read_static_graph(data[: len(data) // 2], 1)


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_under_one_is_refused(batch: int) -> None:
    with pytest.raises(UsageError, match=f"a batch of {batch}"):
        read_static_graph(small(), batch)


def test_a_fixed_batch_is_not_changed() -> None:
    fixed = parser.parse_model(SMALL.replace("uint8[N,", "uint8[4,"))
    assert read_static_graph(fixed, 4).inputs == {"image": (4, 4, 6, 3)}
    with pytest.raises(UsageError, match=r"'image' with a fixed batch of 4.*batch=4"):
        read_static_graph(fixed, 1)


def test_a_dynamic_size_is_refused() -> None:
    dynamic = small()
    dynamic.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "H"
    with pytest.raises(ModelError, match=r"'image' with a dynamic size besides its batch: \(1, 0, 6, 3\)"):
        read_static_graph(dynamic, 1)


def test_control_flow_is_refused() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["y"])],
        "branch",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
                helper.make_node("If", ["yes"], ["out"], name="choose", then_branch=branch, else_branch=branch),
            ],
            "g",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
    )
    with pytest.raises(ModelError, match=r"control flow \(If 'choose'\)"):
        read_static_graph(model, 1)


def test_shapes_that_contradict_each_other_are_refused() -> None:
    wrong = parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 20]>
        g (float[N, 4] a, float[N, 5] b) => (float[N, M] out) { out = Add (a, b) }""")
    with pytest.raises(ModelError, match="shapes cannot be inferred"):
        read_static_graph(wrong, 1)


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r'pip install "edgeiqa\[export\]"'):
        read_static_graph(b"", 1)
