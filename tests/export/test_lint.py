"""The linter as a whole: clean graphs, what engines really do with broken ones, reports, and what is no graph."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from edgeiqa.export.graph import store_as_fp16
from edgeiqa.export.lint import RULES, Finding, LintReport, lint
from edgeiqa.runtime.errors import MissingExtraError, ModelError, RecordError
from edgeiqa.runtime.manifest import Target
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from .lint_graphs import Sketch, network
from .networks import Exported

TARGETS: tuple[Target, ...] = get_args(Target)
PIXELS = np.random.default_rng(5).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)


def by_definition(model: onnx.ModelProto) -> Any:
    """As ONNX's own reference computes it."""
    (score,) = ReferenceEvaluator(model).run(None, {"image": PIXELS})
    return score


def by_onnxruntime(model: onnx.ModelProto) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["score"], {"image": PIXELS})[0]


def by_openvino(model: onnx.ModelProto) -> Any:
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return compiled({"image": PIXELS})["score"]


@pytest.mark.parametrize("quantized", [True, False])
@pytest.mark.parametrize("target", TARGETS)
def test_a_clean_graph_passes_and_engines_run_it(quantized: bool, target: Target) -> None:
    model = network(quantized=quantized)
    before = model.SerializeToString()
    assert lint(model, target) == LintReport(target=target, passed=True, findings=())
    assert model.SerializeToString() == before
    expected = by_definition(model)
    for run in (by_onnxruntime, by_openvino):
        np.testing.assert_allclose(run(model), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["convnext", "vit"])
def test_what_edgeiqa_exports_is_clean_for_every_target(exported: Callable[[str], Exported], name: str) -> None:
    model = exported(name).model
    for graph in (model, store_as_fp16(model)):
        for target in TARGETS:
            assert lint(graph, target).findings == ()


def two_products(axis: int, operator: str) -> onnx.ModelProto:
    """Quantized on both sides, so that engines take it in whole numbers; scales from .001 to .02."""

    def weight(sketch: Sketch, shape: tuple[int, ...]) -> str:
        values = np.random.default_rng(1).integers(-60, 61, shape)
        scales = np.linspace(0.001, 0.02, shape[axis])
        zeros = np.zeros(shape[axis])
        parts = (sketch.constant(values, np.int8), sketch.constant(scales), sketch.constant(zeros, np.int8))
        return sketch.node("DequantizeLinear", *parts, axis=axis)

    def product(sketch: Sketch, value: str) -> str:
        shape = (8, 8, 1, 1) if operator == "Conv" else (8, 8)
        return sketch.quantize(sketch.node(operator, sketch.quantize(value), weight(sketch, shape)))

    return network(product) if operator == "Conv" else network(after=product)


@pytest.mark.parametrize(("operator", "right", "wrong"), [("Conv", 0, 1), ("Gemm", 1, 0)])
def test_a_wrong_axis_gives_wrong_scores_without_a_word(operator: str, right: int, wrong: int) -> None:
    """Why `weight-axis` is an error: onnxruntime takes the scales for the outputs', whatever the axis says.

    Of MatMul, too, up to 1.31; 1.32 computes that as it is defined.
    """
    for axis, sound in ((right, True), (wrong, False)):
        model = two_products(axis, operator)
        expected = by_definition(model)
        far = float(np.abs(by_onnxruntime(model) - expected).max())
        # One step of the last quantizer moves a score by .03.
        assert far < 0.04 if sound else far > 0.4
        assert lint(model, "onnx").passed == sound


def test_onnxruntime_refuses_per_channel_activations_as_the_linter_says() -> None:
    def body(sketch: Sketch, value: str) -> str:
        by_channel = sketch.quantize(value, np.linspace(0.05, 0.06, 8), np.uint8(0))
        return sketch.quantize(sketch.node("Conv", by_channel, sketch.weight((8, 8, 1, 1))), zero=np.uint8(128))

    model = network(body)
    assert [finding.rule for finding in lint(model, "onnx").findings] == ["per-channel-activation"]
    with pytest.raises(Exception, match="input zero point must be a scalar"):
        by_onnxruntime(model)


def test_openvino_refuses_local_functions_as_the_linter_says() -> None:
    model = network(lambda sketch, value: sketch.node("Mine", value, domain="mine"))
    model.functions.append(
        helper.make_function(
            "mine",
            "Mine",
            ["x"],
            ["y"],
            [helper.make_node("Relu", ["x"], ["y"])],
            [helper.make_opsetid("", 20)],
        )
    )
    assert [lint(model, target).passed for target in ("onnx", "openvino")] == [True, False]
    by_onnxruntime(model)
    with pytest.raises(Exception, match="Mine"):
        by_openvino(model)


class InParts(nn.Module):
    """A LayerNorm and a GELU as a network writes them by hand."""

    def __init__(self, approximate: str) -> None:
        super().__init__()
        self.gelu = nn.GELU(approximate=approximate)

    def forward(self, view: torch.Tensor) -> torch.Tensor:
        value = view.float() / 255
        centred = value - value.mean(-1, keepdim=True)
        normed = centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-6)
        score: torch.Tensor = self.gelu(normed).mean((1, 2, 3))
        return score


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_what_torch_writes_in_parts_is_found(approximate: str) -> None:
    program = torch.onnx.export(
        InParts(approximate).eval(),
        (torch.zeros((2, 8, 8, 3), dtype=torch.uint8),),
        input_names=["image"],
        output_names=["score"],
        dynamic_shapes=({0: torch.export.Dim("N", min=1, max=64)},),
        opset_version=18,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    report = lint(program.model_proto, "tensorrt")
    assert {finding.rule for finding in report.findings} == {"layer-norm-parts", "gelu-parts", "other-opset"}
    assert not report.passed and lint(program.model_proto, "onnx").passed


def test_bfloat16_in_opset_20_is_taken_for_tensorrt_alone() -> None:
    """ONNX admits it to convolutions from opset 22, TensorRT takes it before."""

    def body(sketch: Sketch, value: str) -> str:
        kernel = sketch.node("Cast", sketch.constant(np.ones((8, 8, 1, 1))), to=TensorProto.BFLOAT16)
        product = sketch.node("Conv", sketch.node("Cast", value, to=TensorProto.BFLOAT16), kernel)
        return sketch.node("Cast", product, to=TensorProto.FLOAT)

    model = network(body, quantized=False)
    assert lint(model, "tensorrt").findings == ()
    assert [finding.rule for finding in lint(model, "onnx").findings] == ["element-type"]


def test_a_report_makes_the_round_trip_and_its_verdict_must_follow() -> None:
    model = network(lambda sketch, value: sketch.node("Add", value, sketch.quantize(value, 0.05, np.int8(7))))
    report = lint(model, "tensorrt")
    finding, dequantizer = report.findings
    assert (finding.rule, finding.severity, finding.got) == ("zero-point", "error", "zero point 7")
    assert finding.node.startswith("quantizelinear") and dequantizer.node.startswith("dequantizelinear")
    assert "edgeiqa export --target tensorrt --precision int8" in finding.mend
    assert msgspec.json.decode(msgspec.json.encode(report), type=LintReport) == report
    with pytest.raises(RecordError):
        msgspec.structs.replace(report, passed=True)
    with pytest.raises(RecordError):
        LintReport(target="onnx", passed=False, findings=())


def test_warnings_alone_pass() -> None:
    report = lint(network(opset=19), "onnx")
    assert report.passed and [finding.severity for finding in report.findings] == ["warning"]


def test_findings_are_in_the_order_of_the_rules() -> None:
    model = network(lambda s, x: s.node("Gelu", s.quantize(x, zero=np.int8(3))), opset=21, ir_version=11)
    rules = [finding.rule for finding in lint(model, "tensorrt").findings]
    assert set(rules) == {"opset", "ir-version", "zero-point", "quantized-input"}
    assert rules == sorted(rules, key=list(RULES).index)


def test_the_page_names_every_rule_and_what_it_weighs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "lint.md").read_text()
    rows = {row.split("|")[1].strip(" `"): row.split("|")[2:5] for row in page.splitlines() if row.startswith("| `")}
    assert list(rows) == list(RULES)
    for name, rule in RULES.items():
        assert [cell.strip() for cell in rows[name]] == [rule.severity.get(target, "") for target in TARGETS], name


def bare(nodes: list[onnx.NodeProto], functions: list[onnx.FunctionProto] | None = None) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "bare",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("mine", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions or [])


def doubling(index: int, inner: str) -> onnx.FunctionProto:
    """A function that calls another one twice."""
    nodes = [helper.make_node(inner, ["x"], ["m"], domain="mine"), helper.make_node(inner, ["m"], ["y"], domain="mine")]
    return helper.make_function("mine", f"F{index}", ["x"], ["y"], nodes, [helper.make_opsetid("mine", 1)])


NO_GRAPHS: dict[str, tuple[bytes | onnx.ModelProto, str]] = {
    "nothing": (b"", "without nodes"),
    "text": (b"a photograph of a cat", "not ONNX"),
    "a photograph": (b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(100), "not ONNX"),
    "cut off": (network().SerializeToString()[:-300], "not ONNX"),
    "names that are no text": (network().SerializeToString().replace(b"Relu", b"Rel\x80"), "not UTF-8"),
    "no nodes": (bare([]), "without nodes"),
    "an unknown tensor": (bare([helper.make_node("Relu", ["y"], ["score"])]), "reads 'y', which nothing before"),
    "a circle": (
        bare([helper.make_node("Cast", ["b"], ["score"], to=1), helper.make_node("Cast", ["score"], ["b"], to=1)]),
        "reads 'b'",
    ),
    "made twice": (
        bare([helper.make_node("Relu", ["x"], ["score"]), helper.make_node("Relu", ["score"], ["score"])]),
        "makes 'score', which is there",
    ),
    "no output": (bare([helper.make_node("Relu", ["x"], ["y"])]), "an output 'score'"),
    "a function of itself": (
        bare([helper.make_node("F0", ["x"], ["score"], domain="mine")], [doubling(0, "F0")]),
        "call themselves: F0",
    ),
    "functions without end": (
        bare(
            [helper.make_node("F40", ["x"], ["score"], domain="mine")],
            [doubling(index, f"F{index - 1}") for index in range(1, 41)],
        ),
        "unfold into",
    ),
}


@pytest.mark.parametrize("name", list(NO_GRAPHS))
def test_what_is_no_graph_is_refused(name: str) -> None:
    graph, words = NO_GRAPHS[name]
    with pytest.raises(ModelError) as raised:
        lint(graph, "onnx")
    assert words in raised.value.got
    assert raised.value.exit_code == 2


def test_a_stored_tensor_of_too_few_bytes_is_refused() -> None:
    model = network()
    scale = next(tensor for tensor in model.graph.initializer if not tensor.dims and tensor.data_type == 1)
    broken = next(t for t in model.graph.initializer if list(t.dims) == [8] and t.data_type == TensorProto.INT8)
    assert scale.name != broken.name
    broken.raw_data = broken.raw_data[:3]
    with pytest.raises(ModelError, match="cannot be read"):
        lint(model, "tensorrt")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_graph_of_operators_without_their_inputs_is_answered(data: st.DataObject) -> None:
    """Operators that the rules look at, with too few or too many operands, of the one input or of what came before."""
    operators = [
        *("QuantizeLinear", "DequantizeLinear", "Conv", "ConvTranspose", "Gemm", "MatMul", "Transpose", "Add", "Mul"),
        *("Sqrt", "Erf", "Tanh", "Div", "ReduceMean", "Sub", "Pow", "LayerNormalization", "Gelu", "Softmax", "Cast"),
        *("Identity", "Reshape", "Constant", "QLinearConv"),
    ]
    made = ["x", ""]
    nodes = []
    for index in range(data.draw(st.integers(1, 8))):
        inputs = data.draw(st.lists(st.sampled_from(made), max_size=4))
        outputs = [f"t{index}"] if data.draw(st.integers(0, 9)) else []
        nodes.append(helper.make_node(data.draw(st.sampled_from(operators)), inputs, outputs))
        made += outputs
    nodes.append(helper.make_node("Identity", ["x"], ["score"]))
    for target in TARGETS:
        report = lint(bare(nodes), target)
        assert all(isinstance(finding, Finding) for finding in report.findings)


CLEAN = network().SerializeToString()


@settings(max_examples=200, deadline=None)
@example(CLEAN.index(b"sketch"), b"\x80")
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=4))
def test_a_file_with_other_bytes_in_it_is_answered_or_refused(place: int, other: bytes) -> None:
    data = bytearray(CLEAN)
    place %= len(data)
    data[place : place + len(other)] = other
    try:
        report = lint(bytes(data), "tensorrt")
    except ModelError:
        return
    assert report.target == "tensorrt"


def test_without_onnx_it_says_which_extra_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError) as raised:
        lint(CLEAN, "onnx")
    assert "edgeiqa[export]" in raised.value.mend
