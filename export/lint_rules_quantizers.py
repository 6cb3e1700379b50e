"""Rules about quantizers: zero points, types, scales, and what they may stand around."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.manifest import Target
from .lint_graph import Fault, LintGraph, Quantizer, attributes_of, label, operand, result, type_name
from .lint_patterns import find_gelus, find_layer_norms

if TYPE_CHECKING:
    import onnx

__all__ = [
    "find_computed_scales",
    "find_eight_bit_weights",
    "find_grouped_convolutions",
    "find_inner_quantizers",
    "find_lone_quantizers",
    "find_misplaced_uint8",
    "find_per_channel_activations",
    "find_quantized_biases",
    "find_quantized_inputs",
    "find_quantized_types",
    "find_residual_adds",
    "find_scales",
    "find_weight_axes",
    "find_zero_points",
]

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_KEPT_FLOAT = frozenset(
    {"LayerNormalization", "Gelu", "Softmax", "BiasGelu", "FastGelu", "SkipLayerNormalization", "LogSoftmax"}
)
_SEVEN_BITS = 64
"""Two products of an unsigned byte and a signed one of up to this fit 16 bits: 2 * 255 * 64 < 2**15."""


def _quantize_again(target: Target) -> str:
    return f"edgeiqa export --target {target} --precision int8"


def find_zero_points(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """Zero points other than 0."""
    for quantizer in graph.quantizers:
        if not quantizer.zero_point:
            continue
        values = graph.values(quantizer.zero_point)
        if values is not None and not np.any(values):
            continue
        got = (
            "a zero point that is not stored"
            if values is None
            else f"zero point {float(values[values != 0].reshape(-1)[0]):g}"
        )
        yield Fault(
            label(quantizer.node), got, "zero point 0: symmetric quantization alone is taken", _quantize_again(target)
        )


def find_quantized_types(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """Quantized to anything but signed INT8; what is int32 is a bias, which has its own rule."""
    from onnx import TensorProto

    for quantizer in graph.quantizers:
        if quantizer.element_type not in (TensorProto.INT8, TensorProto.INT32, TensorProto.UNDEFINED):
            yield Fault(
                label(quantizer.node),
                f"{type_name(quantizer.element_type)}",
                "int8 on both sides, activations and weights",
                _quantize_again(target),
            )


def find_misplaced_uint8(graph: LintGraph, target: Target) -> Iterator[Fault]:  # noqa: ARG001
    """uint8 anywhere but from an input into a Cast; quantizers' types have their own rule."""
    from onnx import TensorProto

    quantized = {name for quantizer in graph.quantizers for name in (*quantizer.node.input, *quantizer.node.output)}
    expected = "uint8 in an input that a Cast alone reads, and nowhere else"
    mend = "let the network's forward turn each view into float before anything else, and export it by edgeiqa export"
    for value in graph.inputs:
        if graph.types.get(value.name) == TensorProto.UINT8:
            for node in graph.consumers.get(value.name, ()):
                if node.op_type != "Cast":
                    yield Fault(label(node), f"{node.op_type} of the uint8 input {value.name}", expected, mend)
    inputs = {value.name for value in graph.inputs}
    for name, element_type in graph.types.items():
        if element_type == TensorProto.UINT8 and name not in inputs and name not in quantized:
            maker = graph.producers.get(name)
            yield Fault(name if maker is None else label(maker), f"the uint8 tensor {name}", expected, mend)


def find_weight_axes(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """Scales of a weight along another axis than its outputs."""
    for node, index, quantizer, axis in _quantized_weights(graph):
        scales = graph.size(quantizer.scale)
        outputs = _output_axis(graph, node, index)
        if scales is None or scales == 1 or axis is None or outputs is None or axis == outputs:
            continue
        yield Fault(
            label(node),
            f"{node.op_type} with {scales} scales along axis {axis} of its weight",
            f"one scale, or one for each output: axis {outputs}",
            _quantize_again(target),
        )


def _quantized_weights(graph: LintGraph) -> Iterator[tuple[onnx.NodeProto, int, Quantizer, int | None]]:
    """Products with a quantized weight: the node, which of its inputs, and the scales' axis as the node sees it."""
    for node in graph.nodes:
        if node.op_type not in _PRODUCTS:
            continue
        for index in range(min(2, len(node.input))):
            name = node.input[index]
            permutation: list[int] | None = None
            made = graph.producers.get(name)
            if made is not None and made.op_type == "Transpose" and name not in graph.dequantizers:
                name = operand(made, 0)
                permutation = list(attributes_of(made).get("perm", range(len(graph.shapes.get(name, ())))[::-1]))
            quantizer = graph.dequantizers.get(name)
            if quantizer is None or not quantizer.constant:
                continue
            rank = len(graph.shapes.get(quantizer.source, ()))
            axis = quantizer.axis % rank if rank else None
            if permutation is not None and axis is not None:
                axis = permutation.index(axis) if axis in permutation else None
            yield node, index, quantizer, axis


def _output_axis(graph: LintGraph, node: onnx.NodeProto, index: int) -> int | None:
    """The axis of a product's operand that becomes an axis of its outputs; None where the rank is not known."""
    attributes = attributes_of(node)
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return int(attributes.get("transA", 0)) if index == 0 else 1 - int(attributes.get("transB", 0))
    rank = len(graph.shapes.get(node.input[index], ()))
    return None if rank < 2 else rank - 2 + index


def find_per_channel_activations(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """Activations with a scale for each channel."""
    for quantizer in graph.quantizers:
        scales = graph.size(quantizer.scale)
        if quantizer.quantizes and not quantizer.constant and scales is not None and scales > 1:
            yield Fault(
                label(quantizer.node),
                f"an activation with {scales} scales along axis {quantizer.axis}",
                "one scale for the tensor",
                _quantize_again(target),
            )


def find_quantized_biases(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """Biases that are stored as int8 or int32 with a scale."""
    for node in graph.nodes:
        quantizer = graph.dequantizers.get(operand(node, 2))
        if node.op_type in _PRODUCTS and quantizer is not None:
            yield Fault(
                label(node), f"a bias in {type_name(quantizer.element_type)}", "a float bias", _quantize_again(target)
            )


def find_scales(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """Scales that are not positive finite numbers."""
    for quantizer in graph.quantizers:
        values = graph.values(quantizer.scale)
        if values is None:
            continue
        numbers = values.astype(np.float64).reshape(-1)
        bad = numbers[~(np.isfinite(numbers) & (numbers > 0))]
        if bad.size:
            yield Fault(
                label(quantizer.node),
                f"scale {bad[0]:g}",
                "positive finite scales",
                f"{_quantize_again(target)}, with calibration images that differ",
            )


def find_computed_scales(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """Scales that are computed from the input."""
    for quantizer in graph.quantizers:
        if quantizer.scale not in graph.constants:
            yield Fault(
                label(quantizer.node), "a scale that is computed when it runs", "stored scales", _quantize_again(target)
            )


def find_lone_quantizers(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """A quantizer whose output no dequantizer reads, and a dequantizer of an activation that none quantized."""
    made = {result(quantizer.node) for quantizer in graph.quantizers if quantizer.quantizes}
    for quantizer in graph.quantizers:
        node = quantizer.node
        if quantizer.quantizes:
            readers = list(graph.reached(result(node)))
            strangers = sorted({reader.op_type for reader in readers if not _takes_quantized(reader)})
            if readers and not strangers:
                continue
            got = f"a quantized tensor that {', '.join(strangers) or 'nothing'} reads"
        else:
            source = graph.origin(quantizer.source)
            maker = graph.producers.get(source)
            if source in made or source in graph.constants or (maker is not None and _takes_quantized(maker)):
                continue
            got = "a dequantizer of what no quantizer made"
        yield Fault(
            label(node), got, "each quantizer with a dequantizer, and none between them", _quantize_again(target)
        )


def _takes_quantized(node: onnx.NodeProto) -> bool:
    return node.op_type.startswith(("DequantizeLinear", "QLinear", "QGemm")) or "Integer" in node.op_type


def find_inner_quantizers(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """Quantizers between the parts of a LayerNorm or a GELU."""
    for what, found in (("LayerNorm", find_layer_norms(graph)), ("GELU", find_gelus(graph))):
        for parts in found:
            if parts.quantizers:
                yield Fault(
                    label(parts.node),
                    f"a {what} in parts, with {', '.join(map(label, parts.quantizers))} inside",
                    f"all of the {what} in float; a quantizer after it is fine",
                    f"{_quantize_again(target)}, which keeps it whole and float",
                )


def find_quantized_inputs(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """LayerNorm, GELU and softmax of quantized inputs: they compute in float, and rounded numbers gain nothing."""
    for node in graph.nodes:
        if node.op_type in _KEPT_FLOAT and any(name in graph.dequantizers for name in node.input):
            yield Fault(
                label(node),
                f"{node.op_type} of quantized inputs",
                f"{node.op_type} of float inputs; a quantizer after it is fine",
                f"{_quantize_again(target)} by nncf, which puts no quantizer there",
            )


def find_residual_adds(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """Additions with both branches quantized, which keep a convolution from being fused with the addition."""
    for node in graph.nodes:
        branches = [name for name in node.input if name not in graph.constants]
        if node.op_type == "Add" and len(branches) == 2 and all(name in graph.dequantizers for name in branches):
            yield Fault(
                label(node),
                "an addition with both branches quantized",
                "the shortcut quantized, and the branch that a convolution ends left float",
                _quantize_again(target),
            )


def find_grouped_convolutions(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """Quantized convolutions in groups that are not of multiples of four channels; depthwise ones have own kernels."""
    for node in graph.nodes:
        channels = _channels_of_groups(graph, node)
        if channels is None or not any(name in graph.dequantizers for name in node.input[:2]):
            continue
        groups, inputs, outputs = channels
        if (inputs, outputs) != (1, 1) and (inputs % 4 or outputs % 4):
            yield Fault(
                label(node),
                f"{groups} groups with {inputs} channels in and {outputs} out, quantized",
                "groups of a multiple of 4 channels, or in float",
                f"{_quantize_again(target)}, which keeps these float",
            )


def _channels_of_groups(graph: LintGraph, node: onnx.NodeProto) -> tuple[int, int, int] | None:
    """Of a convolution in groups: how many, and each one's channels in and out; None for any other node."""
    groups = int(attributes_of(node).get("group", 1))
    sides = [side for side in graph.shapes.get(operand(node, 1), ())[:2] if isinstance(side, int)]
    if node.op_type != "Conv" or groups < 2 or len(sides) < 2:
        return None
    return groups, sides[1], sides[0] // groups


def find_eight_bit_weights(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """uint8 activations with int8 weights of the full range: their products saturate on x86 without VNNI."""
    from onnx import TensorProto

    found: list[tuple[onnx.NodeProto, int]] = []
    for node, index, quantizer, _ in _quantized_weights(graph):
        activation = graph.dequantizers.get(operand(node, 1 - index))
        if (
            activation is None
            or activation.element_type != TensorProto.UINT8
            or quantizer.element_type != TensorProto.INT8
            # onnxruntime's depthwise kernel widens to 16 bits before it multiplies.
            or (_channels_of_groups(graph, node) or ())[1:] == (1, 1)
        ):
            continue
        largest = _largest_weight(graph, quantizer)
        if largest > _SEVEN_BITS:
            found.append((node, largest))
    if found:
        node, _ = found[0]
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        yield Fault(
            label(node) + more,
            f"uint8 activations with weights up to {max(largest for _, largest in found)}",
            f"weights up to {_SEVEN_BITS} (7 bits), or CPUs with VNNI: others saturate sums of 16 bits",
            f"{_quantize_again(target)} by a recipe with weight_bits 7, or run it only where edgeiqa doctor says VNNI",
        )


def _largest_weight(graph: LintGraph, quantizer: Quantizer) -> int:
    """Of the quantized weight's absolute values; 0 where they are not at hand."""
    values = graph.values(quantizer.source)
    if values is not None:
        return int(np.abs(values.astype(np.int16)).max(initial=0))
    # A float weight behind a quantizer of its own.
    made = graph.producers.get(quantizer.source)
    if made is None or made.op_type != "QuantizeLinear":
        return 0
    weight, scale = graph.values(operand(made, 0)), graph.values(quantizer.scale)
    if weight is None or scale is None:
        return 0
    if scale.size > 1:
        scale = scale.reshape([-1 if side == quantizer.axis % weight.ndim else 1 for side in range(weight.ndim)])
    return int(np.rint(np.abs(weight.astype(np.float64) / scale)).clip(0, 128).max(initial=0))
