"""Rules about the graph itself: versions, operators, shapes, types, and operators that should be whole."""

from __future__ import annotations

from collections.abc import Iterator

from ..runtime.manifest import Target
from .graph import IR_VERSION, OPSET
from .lint_graph import Fault, LintGraph, domain_of, label, operand, type_name
from .lint_operators import IR_VERSIONS, LACKING, MICROSOFT, OPSETS
from .lint_patterns import find_gelus, find_layer_norms

__all__ = [
    "find_control_flow",
    "find_defects",
    "find_doubles",
    "find_dynamic_shapes",
    "find_element_types",
    "find_external_data",
    "find_gelu_parts",
    "find_half_layer_norms",
    "find_half_variances",
    "find_ir_version",
    "find_layer_norm_parts",
    "find_local_functions",
    "find_operators",
    "find_opset",
    "find_other_opset",
]

_EXPORT_AGAIN = "edgeiqa export --target {}"


def find_defects(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """What ONNX's own check of types and shapes refuses."""
    if graph.defect:
        yield Fault("", graph.defect, "a graph that onnx.shape_inference takes", _EXPORT_AGAIN.format(target))


def find_opset(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """An opset that the engine does not read."""
    lowest, highest = OPSETS[target]
    version = graph.opsets.get("", 0)
    # Without a version of ONNX's own, it uses none of its operators.
    if version and not lowest <= version <= highest:
        yield Fault("", f"opset {version}", f"opset {lowest} to {highest}, best {OPSET}", _EXPORT_AGAIN.format(target))


def find_other_opset(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """An opset that is read, and is not the one of edgeiqa's own graphs."""
    lowest, highest = OPSETS[target]
    version = graph.opsets.get("", 0)
    if lowest <= version <= highest and version != OPSET:
        yield Fault(
            "",
            f"opset {version}",
            f"opset {OPSET}, which holds LayerNormalization and Gelu whole and which every target reads",
            f"export with opset_version={OPSET}: torch.onnx.export(..., dynamo=True)",
        )


def find_ir_version(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """A newer form of file than the engine reads."""
    version = graph.model.ir_version
    if version > IR_VERSIONS[target]:
        yield Fault(
            "",
            f"IR version {version}",
            f"at most {IR_VERSIONS[target]}",
            f"edgeiqa export, which writes {IR_VERSION}, or set model.ir_version = {IR_VERSION}",
        )


def find_operators(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """Operators that the engine has not."""
    seen: set[tuple[str, str]] = set()
    own = "write the network without it"
    foreign = f"{_EXPORT_AGAIN.format(target)} from the network itself: what an engine optimised fits that engine alone"
    for node in graph.nodes:
        kind = (domain_of(node.domain), node.op_type)
        if not kind[0]:
            lacking = node.op_type in LACKING[target]
        else:
            lacking = kind[0] != "com.microsoft" or node.op_type not in MICROSOFT[target]
        if lacking and kind not in seen:
            seen.add(kind)
            yield Fault(
                label(node),
                "::".join(kind).removeprefix("::"),
                f"operators that the engine for {target} has",
                foreign if kind[0] else own,
            )


def find_local_functions(graph: LintGraph, target: Target) -> Iterator[Fault]:  # noqa: ARG001
    """Functions of the file's own."""
    for function in graph.model.functions:
        yield Fault(
            function.name,
            f"the local function {function.domain}::{function.name}",
            "plain operators, which every engine and quantizer sees",
            "onnx.inliner.inline_local_functions(model), or edgeiqa export",
        )


def find_control_flow(graph: LintGraph, target: Target) -> Iterator[Fault]:  # noqa: ARG001
    """Branches and loops."""
    for node in graph.nodes:
        if any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute):
            yield Fault(
                label(node),
                f"control flow ({node.op_type})",
                "work that does not depend on the photograph; what is inside is neither counted nor quantized",
                "export the network without branches and loops",
            )


def find_external_data(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """Weights in another file, which neither a bundle nor a graph passed as bytes has."""
    from onnx import external_data_helper

    outside = [name for name, tensor in graph.stored.items() if external_data_helper.uses_external_data(tensor)]
    if outside:
        more = f" and {len(outside) - 1} more" if len(outside) > 1 else ""
        yield Fault(
            outside[0] + more,
            "weights in another file",
            "one file with everything inside",
            f"onnx.save(onnx.load(GRAPH), FILE) for a graph under 2 GB, or {_EXPORT_AGAIN.format(target)}",
        )


def find_dynamic_shapes(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """Inputs with a side that is not fixed, besides the batch."""
    for value in graph.inputs:
        sides = graph.shapes.get(value.name)
        # 0 is what some exporters write for a size that they do not know.
        if sides is None or any(not isinstance(side, int) or side < 1 for side in sides[1:]):
            shape = "no shape" if sides is None else str([side or "?" for side in sides])
            yield Fault(
                value.name,
                f"the input {value.name} of {shape}",
                "fixed sizes, but for the batch in front",
                f"{_EXPORT_AGAIN.format(target)}, whose views have fixed sizes",
            )


def find_doubles(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """float64 tensors."""
    from onnx import TensorProto

    found = [name for name, element_type in graph.types.items() if element_type == TensorProto.DOUBLE]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        yield Fault(
            found[0] + more,
            "float64 tensors",
            "float32 or less",
            f"network.float(), and {_EXPORT_AGAIN.format(target)}",
        )


def find_element_types(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """Types of activations that the engine does not compute with; quantized ones and float64 have their own rules."""
    from onnx import TensorProto

    if target == "tensorrt":
        lacking = {TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64, TensorProto.INT16, TensorProto.STRING}
        lacking |= {TensorProto.COMPLEX64, TensorProto.COMPLEX128}
    else:
        lacking = {TensorProto.BFLOAT16, TensorProto.COMPLEX64, TensorProto.COMPLEX128}
    quantizers = {name for quantizer in graph.quantizers for name in (*quantizer.node.input, *quantizer.node.output)}
    for node in graph.nodes:
        for name in node.output:
            if name in graph.constants or name in quantizers or node.op_type == "Cast":
                continue
            if graph.types.get(name) in lacking:
                yield Fault(
                    label(node),
                    f"{node.op_type} in {type_name(graph.types[name])}",
                    f"a type that the engine for {target} computes with",
                    f"{_EXPORT_AGAIN.format(target)} --precision fp32",
                )


def find_layer_norm_parts(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """LayerNorms that are not one operator."""
    for parts in find_layer_norms(graph):
        yield Fault(
            label(parts.node),
            "a LayerNorm in parts (ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div)",
            "LayerNormalization, which engines run as one and keep in float",
            f"{_EXPORT_AGAIN.format(target)}: opset {OPSET} keeps it whole",
        )


def find_gelu_parts(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """GELUs that are not one operator."""
    for parts in find_gelus(graph):
        yield Fault(
            label(parts.node),
            f"a GELU in parts (by {parts.node.op_type})",
            "Gelu, which engines run as one and keep in float",
            f"{_EXPORT_AGAIN.format(target)}: opset {OPSET} keeps it whole",
        )


def find_half_variances(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """LayerNorms in parts whose variance is computed in FP16, where squares over 65504 overflow."""
    from onnx import TensorProto

    for parts in find_layer_norms(graph):
        if graph.types.get(parts.variance) == TensorProto.FLOAT16:
            yield Fault(
                label(parts.node),
                "a variance in float16, whose squares overflow beyond 256",
                "LayerNormalization whole, or its parts in float32",
                f"edgeiqa export --target {target} --precision fp16, which keeps them so",
            )


def find_half_layer_norms(graph: LintGraph, target: Target) -> Iterator[Fault]:
    """LayerNormalization with an FP16 input."""
    from onnx import TensorProto

    for node in graph.nodes:
        if node.op_type == "LayerNormalization" and graph.types.get(operand(node, 0)) == TensorProto.FLOAT16:
            yield Fault(
                label(node),
                "LayerNormalization in float16",
                "float32 around it, unless the rank gate passed it so",
                f"edgeiqa export --target {target} --precision fp16, which guards what overflows",
            )
