"""Each rule: a graph that breaks it and nothing else, for just the targets where it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from edgeiqa.export.lint import RULES, Finding, lint
from edgeiqa.export.lint_operators import IR_VERSIONS, LACKING, MICROSOFT, OPSETS
from edgeiqa.runtime.manifest import Target
from onnx import TensorProto, helper

from .lint_graphs import (
    Sketch,
    gelu_by_erf,
    gelu_by_tanh,
    layer_norm,
    layer_norm_in_parts,
    network,
    tokens,
)

TARGETS: tuple[Target, ...] = get_args(Target)


def linear(sketch: Sketch, value: str, operator: str = "Gemm", axis: int = 0, **attributes: Any) -> str:
    """A quantized product of ``[N, 8]`` with ``[8, 8]``."""
    return sketch.node(operator, sketch.quantize(value), sketch.weight((8, 8), axis=axis), **attributes)


def biased(dtype: Any) -> Callable[[Sketch], str]:
    return lambda sketch: sketch.node(
        "DequantizeLinear",
        sketch.constant(np.arange(8), dtype),
        sketch.constant(np.full(8, 5e-4)),
        sketch.constant(np.zeros(8), dtype),
        axis=0,
    )


def with_computed_scale(sketch: Sketch, value: str) -> str:
    scale = sketch.number("Max", sketch.node("ReduceMax", value, keepdims=0), 1e-3)
    zero = sketch.constant(0, np.int8)
    return sketch.node("DequantizeLinear", sketch.node("QuantizeLinear", value, scale, zero), scale, zero)


def with_two_branches(sketch: Sketch, value: str) -> str:
    shortcut = sketch.quantize(value)
    return sketch.node("Add", shortcut, sketch.quantize(sketch.node("Conv", shortcut, sketch.weight((8, 8, 1, 1)))))


def grouped(groups: int) -> Callable[[Sketch, str], str]:
    return lambda sketch, value: sketch.node(
        "Conv", sketch.quantize(value), sketch.weight((8, 8 // groups, 3, 3)), group=groups, pads=[1, 1, 1, 1]
    )


def half_layer_norm(sketch: Sketch, value: str) -> str:
    ones, zeros = sketch.constant(np.ones(8), np.float16), sketch.constant(np.zeros(8), np.float16)
    half = sketch.node("Cast", value, to=TensorProto.FLOAT16)
    return sketch.node("Cast", sketch.node("LayerNormalization", half, ones, zeros), to=TensorProto.FLOAT)


def in_type(element_type: int, operator: str = "Relu") -> Callable[[Sketch, str], str]:
    return lambda sketch, value: sketch.node(
        "Cast", sketch.node(operator, sketch.node("Cast", value, to=element_type)), to=TensorProto.FLOAT
    )


def with_function() -> onnx.ModelProto:
    model = network(lambda sketch, value: sketch.node("Mine", value, domain="mine"))
    relu = helper.make_node("Relu", ["x"], ["y"], name="inner")
    model.functions.append(helper.make_function("mine", "Mine", ["x"], ["y"], [relu], [helper.make_opsetid("", 20)]))
    return model


def with_branch() -> onnx.ModelProto:
    def body(sketch: Sketch, value: str) -> str:
        branches = [
            helper.make_graph(
                [helper.make_node(operator, [value], [f"{operator}.out"])],
                operator,
                [],
                [helper.make_tensor_value_info(f"{operator}.out", TensorProto.FLOAT, ["N", 8, 8, 8])],
            )
            for operator in ("Relu", "Neg")
        ]
        bright = sketch.number("Greater", sketch.node("ReduceMax", value, keepdims=0), 1.0)
        return sketch.node("If", bright, then_branch=branches[0], else_branch=branches[1])

    return network(body)


def with_weights_outside() -> onnx.ModelProto:
    model = network()
    kernel = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    onnx.external_data_helper.set_external_data(kernel, "weights.bin")
    kernel.ClearField("raw_data")
    kernel.data_location = TensorProto.EXTERNAL
    return model


Broken = Callable[[], onnx.ModelProto]
BROKEN: list[tuple[str, str, Broken]] = [
    ("defect", "a shape", lambda: network(head=lambda s, x: s.node("MatMul", x, s.constant(np.ones((9, 1)))))),
    ("defect", "a type", lambda: network(lambda s, x: s.node("Add", x, s.constant(1, np.int64)))),
    ("opset", "too new", lambda: network(opset=24)),
    ("other-opset", "without Gelu", lambda: network(opset=19)),
    ("ir-version", "too new", lambda: network(ir_version=11)),
    ("operator", "another domain's", lambda: network(lambda s, x: s.node("Foreign", x, domain="com.example"))),
    ("local-function", "one", with_function),
    ("control-flow", "a branch", with_branch),
    ("external-data", "a weight", with_weights_outside),
    ("dynamic-shape", "a symbol", lambda: network(size=("height", 8))),
    ("dynamic-shape", "an unknown size", lambda: network(size=(8, 0))),
    ("float64", "an activation", lambda: network(in_type(TensorProto.DOUBLE))),
    ("uint8", "a tensor inside", lambda: network(lambda s, x: recast(s, x, TensorProto.UINT8))),
    ("layer-norm-parts", "by Pow and Div", lambda: network(layer_norm_in_parts())),
    ("layer-norm-parts", "by Mul and Reciprocal", lambda: network(layer_norm_in_parts(square="Mul"))),
    ("gelu-parts", "by Erf", lambda: network(gelu_by_erf())),
    ("gelu-parts", "by Tanh", lambda: network(gelu_by_tanh())),
    ("half-layer-norm", "whole", lambda: network(tokens(half_layer_norm))),
    ("zero-point", "of an activation", lambda: network(activation=lambda s, x: s.quantize(x, zero=np.int8(5)))),
    ("zero-point", "of a weight", lambda: network(weight=lambda s: s.weight((8, 3, 3, 3), zero=np.int8(-1)))),
    ("quantized-type", "of an activation", lambda: network(activation=lambda s, x: s.quantize(x, zero=np.uint8(0)))),
    ("quantized-type", "of a weight", lambda: network(weight=lambda s: s.weight((8, 3, 3, 3), dtype=np.uint8))),
    ("scale", "negative", lambda: network(activation=lambda s, x: s.quantize(x, -0.05))),
    ("scale", "none", lambda: network(activation=lambda s, x: s.quantize(x, 0.0))),
    ("scale", "not a number", lambda: network(activation=lambda s, x: s.quantize(x, float("nan")))),
    ("scale", "infinite", lambda: network(activation=lambda s, x: s.quantize(x, float("inf")))),
    ("computed-scale", "one", lambda: network(with_computed_scale)),
    ("weight-axis", "Conv", lambda: network(weight=lambda s: s.weight((8, 3, 3, 3), axis=1))),
    ("weight-axis", "Conv, from the end", lambda: network(weight=lambda s: s.weight((8, 3, 3, 3), axis=-1))),
    ("weight-axis", "Gemm", lambda: network(after=lambda s, x: linear(s, x, axis=0))),
    ("weight-axis", "Gemm, transposed", lambda: network(after=lambda s, x: linear(s, x, axis=1, transB=1))),
    ("weight-axis", "MatMul", lambda: network(after=lambda s, x: linear(s, x, "MatMul", axis=0))),
    ("per-channel-activation", "of three", lambda: network(activation=lambda s, x: s.quantize(x, [0.05, 0.06, 0.07]))),
    ("quantized-bias", "int8", lambda: network(bias=biased(np.int8))),
    ("quantized-bias", "int32", lambda: network(bias=biased(np.int32))),
    ("lone-quantizer", "no dequantizer", lambda: network(lambda s, x: to_float(s, s.quantize(x, dequantize=False)))),
    ("lone-quantizer", "no quantizer", lambda: network(dequantized_integers)),
    ("quantized-input", "LayerNorm", lambda: network(tokens(lambda s, x: layer_norm(s, s.quantize(x))))),
    ("quantized-input", "Gelu", lambda: network(lambda s, x: s.node("Gelu", s.quantize(x)))),
    ("quantized-input", "Softmax", lambda: network(lambda s, x: s.node("Softmax", s.quantize(x)))),
    ("residual-add", "both branches", lambda: network(with_two_branches)),
    ("grouped-convolution", "of two", lambda: network(grouped(4))),
]
"""Rule, what is particular, graph: broken for each target where the rule holds, and no other rule with it."""

WITH_OTHERS: list[tuple[str, str, set[str], Broken]] = [
    ("operator", "every engine's lack", {"uint8"}, lambda: network(before=lambda s, _: pictures(s))),
    ("half-variance", "in parts", {"layer-norm-parts"}, lambda: network(layer_norm_in_parts(dtype=np.float16))),
    (
        "inner-quantizer",
        "inside a LayerNorm",
        {"layer-norm-parts"},
        lambda: network(layer_norm_in_parts(lambda s, x: s.quantize(x))),
    ),
    ("inner-quantizer", "inside a GELU", {"gelu-parts"}, lambda: network(gelu_by_erf(lambda s, x: s.quantize(x)))),
    ("inner-quantizer", "by Tanh", {"gelu-parts"}, lambda: network(gelu_by_tanh(lambda s, x: s.quantize(x)))),
    (
        "eight-bit-weights",
        "stored",
        {"quantized-type"},
        lambda: network(
            activation=lambda s, x: s.quantize(x, zero=np.uint8(0)),
            weight=lambda s: s.weight((8, 3, 3, 3), largest=65),
        ),
    ),
    (
        "eight-bit-weights",
        "behind a quantizer",
        {"quantized-type"},
        lambda: network(activation=lambda s, x: s.quantize(x, zero=np.uint8(0)), weight=quantized_here),
    ),
    # A product of pixels that TensorRT has no type for; the others' type is bfloat16, which ONNX admits from opset 22.
    ("element-type", "int16", {"other-opset"}, lambda: network(in_type(TensorProto.INT16, "Neg"), opset=19)),
    ("element-type", "bfloat16", {"other-opset", "opset"}, lambda: network(in_type(TensorProto.BFLOAT16), opset=22)),
]
"""Rule, what is particular, the rules that cannot but be broken with it, graph."""


def pictures(sketch: Sketch) -> str:
    """``ImageDecoder``, which is in ONNX and in no engine."""
    decoded = sketch.node("ImageDecoder", sketch.constant([255, 216], np.uint8))
    return sketch.node("Transpose", sketch.node("Unsqueeze", to_float(sketch, decoded), sketch.constant([0], np.int64)))


def to_float(sketch: Sketch, value: str) -> str:
    return sketch.node("Cast", value, to=TensorProto.FLOAT)


def recast(sketch: Sketch, value: str, element_type: int) -> str:
    return to_float(sketch, sketch.node("Cast", value, to=element_type))


def dequantized_integers(sketch: Sketch, value: str) -> str:
    whole = sketch.node("Cast", value, to=TensorProto.INT8)
    return sketch.node("DequantizeLinear", whole, sketch.constant(0.1), sketch.constant(0, np.int8))


def quantized_here(sketch: Sketch) -> str:
    """A float weight, up to 1.27, behind a quantizer with a scale of .01 and its dequantizer."""
    return sketch.quantize(sketch.constant(np.linspace(-1.27, 1.27, 216).reshape(8, 3, 3, 3)), np.full(8, 0.01), axis=0)


def words(value: object) -> str | None:
    """Of a parameter, for the test's name; None leaves it to pytest."""
    return value if isinstance(value, str) else None


def rules_of(model: onnx.ModelProto, target: Target) -> set[str]:
    return {finding.rule for finding in lint(model, target).findings}


@pytest.mark.parametrize(("rule", "particular", "make"), BROKEN, ids=words)
@pytest.mark.parametrize("target", TARGETS)
def test_a_broken_graph_breaks_its_rule_alone(rule: str, particular: str, make: Broken, target: Target) -> None:
    held = target in RULES[rule].severity
    if particular == "no quantizer" or held:
        assert rules_of(make(), target) == ({rule} if held else set())
    else:
        assert rule not in rules_of(make(), target)


@pytest.mark.parametrize(("rule", "particular", "others", "make"), WITH_OTHERS, ids=words)
@pytest.mark.parametrize("target", TARGETS)
def test_a_graph_that_breaks_others_too(
    rule: str, particular: str, others: set[str], make: Broken, target: Target
) -> None:
    found = rules_of(make(), target)
    assert found - {rule} <= others
    # Of the two of a type, each is one target's.
    lacks = {"int16": target == "tensorrt", "bfloat16": target == "onnx"}.get(particular, True)
    assert (rule in found) == (target in RULES[rule].severity and lacks)


def test_every_rule_has_a_graph_that_breaks_it() -> None:
    tried = {rule for rule, *_ in BROKEN} | {rule for rule, *_ in WITH_OTHERS}
    assert tried == set(RULES)


def test_every_finding_says_where_what_and_how_to_mend_it() -> None:
    everything = [(rule, make) for rule, _, make in BROKEN] + [(rule, make) for rule, _, _, make in WITH_OTHERS]
    for rule, make in everything:
        model = make()
        names = {node.name for node in model.graph.node} | {value.name for value in model.graph.input}
        for target in RULES[rule].severity:
            for finding in lint(model, target).findings:
                assert isinstance(finding, Finding)
                assert finding.severity == RULES[finding.rule].severity[target]
                assert min(map(len, (finding.got, finding.expected, finding.mend))) > 3
                if rule in ("zero-point", "weight-axis", "residual-add", "gelu-parts", "dynamic-shape"):
                    assert finding.node in names


@pytest.mark.parametrize(
    ("particular", "make"),
    [
        ("an int8 activation, 8 bits", lambda: network(weight=lambda s: s.weight((8, 3, 3, 3), largest=127))),
        (
            "a uint8 activation, 7 bits",
            lambda: network(
                activation=lambda s, x: s.quantize(x, zero=np.uint8(0)),
                weight=lambda s: s.weight((8, 3, 3, 3), largest=64),
            ),
        ),
        (
            "a depthwise convolution, 8 bits",
            lambda: network(
                lambda s, x: s.node(
                    "Conv", s.quantize(x, zero=np.uint8(0)), s.weight((8, 1, 1, 1), largest=127), group=8
                )
            ),
        ),
    ],
)
def test_weights_that_do_not_saturate(particular: str, make: Broken) -> None:
    assert rules_of(make(), "onnx") == set()


@pytest.mark.parametrize(
    "make",
    [
        lambda: network(weight=lambda s: s.weight((8, 3, 3, 3), scale=0.01)),
        lambda: network(after=lambda s, x: linear(s, x, axis=1)),
        lambda: network(after=lambda s, x: linear(s, x, axis=0, transB=1)),
        lambda: network(after=lambda s, x: linear(s, x, "MatMul", axis=1)),
        lambda: network(after=lambda s, x: linear(s, x, "MatMul", axis=-1)),
        # Transposed on its way: its first axis becomes the last.
        lambda: network(
            after=lambda s, x: s.node("MatMul", s.quantize(x), s.node("Transpose", s.weight((8, 8)), perm=[1, 0]))
        ),
        lambda: network(grouped(2)),
        lambda: network(grouped(8)),
        # One branch of an addition, a quantizer after a GELU or a softmax, a quantized tensor that is only moved.
        lambda: network(lambda s, x: s.node("Add", x, s.quantize(x))),
        lambda: network(lambda s, x: s.quantize(s.node("Gelu", x))),
        lambda: network(lambda s, x: s.quantize(s.node("Softmax", x))),
        lambda: network(tokens(lambda s, x: s.quantize(layer_norm(s, x)))),
        lambda: network(
            lambda s, x: s.node(
                "DequantizeLinear",
                s.node("Transpose", s.quantize(x, dequantize=False), perm=[0, 1, 3, 2]),
                s.constant(0.05),
                s.constant(0, np.int8),
            )
        ),
        # A standard deviation that is a feature, and a tanh that is an activation.
        lambda: network(deviations),
        lambda: network(lambda s, x: s.number("Mul", s.number("Add", s.node("Tanh", x), 1.0), 0.5)),
    ],
)
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_right_is_not_found(make: Broken, target: Target) -> None:
    assert lint(make(), target).findings == ()


def deviations(sketch: Sketch, value: str) -> str:
    """Each pixel and the deviation of its channel, which pools of quality networks hold."""
    axes = sketch.constant([2, 3], np.int64)
    centred = sketch.node("Sub", value, sketch.node("ReduceMean", value, axes))
    variance = sketch.node("ReduceMean", sketch.number("Pow", centred, 2.0), axes)
    return sketch.node("Add", value, sketch.node("Sqrt", sketch.number("Add", variance, 1e-6)))


@pytest.mark.parametrize("target", TARGETS)
def test_versions_at_their_bounds(target: Target) -> None:
    lowest, highest = OPSETS[target]

    def found(**versions: Any) -> set[str]:
        return rules_of(network(quantized=False, **versions), target)

    assert "opset" in found(opset=highest + 1) and "opset" in found(opset=lowest - 1)
    assert "opset" not in found(opset=highest) and "opset" not in found(opset=lowest)
    assert found(opset=20) == set()
    if target in IR_VERSIONS:
        assert found(ir_version=IR_VERSIONS[target]) == set()
        assert found(ir_version=IR_VERSIONS[target] + 1) == {"ir-version"}


@pytest.mark.parametrize("target", TARGETS)
def test_operators_of_the_tables(target: Target) -> None:
    def finds(operator: str, domain: str = "") -> bool:
        model = network(lambda s, x: s.node(operator, x, domain=domain), quantized=False)
        return any(finding.rule == "operator" and operator in finding.got for finding in lint(model, target).findings)

    assert all(map(finds, LACKING[target]))
    assert not finds("LayerNormalization") and not finds("Gelu") and not finds("HardSwish")
    assert not any(finds(operator, "com.microsoft") for operator in MICROSOFT[target])
    assert finds("NotThere", "com.microsoft") and finds("Gelu", "com.example")
    # What stands in the tables of lacks is in ONNX, under that name.
    assert LACKING[target] <= {schema.name for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain}


def test_a_function_is_looked_into() -> None:
    model = with_function()
    model.functions[0].node[0].op_type = "Unique"
    assert {"operator", "local-function"} <= rules_of(model, "tensorrt")
