"""What precision an engine's layers really have: that a graph with quantizers was accepted does not make it INT8.

Two sources. TensorRT's *engine inspector* reads an engine that is loaded, which takes a GPU. The *builder* of
TensorRT-RTX, told to be verbose, prints the same listing of the engine that it has just made, without one: layer by
layer the types of inputs, constants and outputs, and the ONNX nodes it came from. Which kernel computes a layer is
chosen when a GPU loads the engine; the types stay.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ..runtime.engines.trt_build import BuiltEngine
from .tensorrt_library import TensorRtLibrary

if TYPE_CHECKING:
    import onnx

__all__ = ["EngineLayers", "LayerPrecision", "ProductPrecision", "inspect_engine", "read_json_listing", "read_listing"]

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""ONNX operators that multiply activations: nearly all of the time, and what quantization is for."""

Operand = tuple[str, tuple[int, ...]]
"""Type and shape of a tensor."""

_INT8_WEIGHTS = "int8 weights"
_NOT_TOLD = "not told"

_MOVES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})

# How TensorRT's listings of all versions write a type: what is called here. Longer words first.
_TYPES = {
    "bfloat16": "bf16",
    "bf16": "bf16",
    "float16": "fp16",
    "fp16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "fp32": "fp32",
    "fp8": "fp8",
    "fp4": "fp4",
    "uint8": "uint8",
    "int64": "int64",
    "int32": "int32",
    "int8": "int8",
    "int4": "int4",
    "bool": "bool",
    "float": "fp32",
}
_TYPE = re.compile("|".join(_TYPES), re.IGNORECASE)

_LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w*), Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<constants>.*?)\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: .*?Metadata: ?(?P<metadata>.*)$"
)
_TENSOR = re.compile(r"\{ Name: .*?, Dimensions: \[(?P<shape>[^\]]*)\].*?Datatype: (?P<type>\w+)")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")


class LayerPrecision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One layer of an engine.

    Attributes:
        name: of the layer.
        kind: the library's word for it: ``correlation`` and ``gemm`` are products, ``kgen`` a fused kernel.
        nodes: names of the ONNX nodes it came from.
        inputs: types of its inputs.
        weights: type of its largest constant that is at least a matrix; empty where it has none.
        outputs: types of its outputs.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    weights: str
    outputs: tuple[str, ...]


class ProductPrecision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One product of the graph (a convolution, a matrix product) as the engine computes it.

    Attributes:
        node: its name in the ONNX graph.
        operator: its ONNX operator.
        layer: the engine's layer that computes it.
        precision: of what is multiplied: ``int8``, ``fp16``, ...; ``int8 weights`` where the activation is wider,
            ``not told`` where the layer has no operands.
        quantized: whether the graph has quantizers on both of its operands.
    """

    node: str
    operator: str
    layer: str
    precision: str
    quantized: bool


class EngineLayers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The layers of an engine and what the graph's products became.

    Attributes:
        source: who told: the engine inspector, the builder, or nobody.
        reason: why it was not the inspector; empty where it was.
        layers: of the engine, in order.
        products: of the graph that the engine names, in the graph's order.
        missing: products of the graph that no layer names: folded into constants, or not told.
    """

    source: Literal["engine inspector", "builder", "none"]
    reason: str
    layers: tuple[LayerPrecision, ...] = ()
    products: tuple[ProductPrecision, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many products are computed in each precision, the most frequent first."""
        return dict(Counter(product.precision for product in self.products).most_common())

    @property
    def quantized(self) -> tuple[int, int]:
        """Of the products that the graph quantizes: how many multiply INT8 by INT8, and of how many."""
        asked = [product for product in self.products if product.quantized]
        return sum(product.precision == "int8" for product in asked), len(asked)

    @property
    def lacks_int8(self) -> bool:
        """Whether it is known that no product multiplies INT8, not even weights alone.

        Of products that no layer names, the engine's other layers tell.
        """
        seen = {product.precision for product in self.products}
        if self.missing:
            seen.update(map(_precision, self.layers))
        known = seen - {_NOT_TOLD}
        return bool(known) and known.isdisjoint(("int8", _INT8_WEIGHTS))

    def summary(self) -> str:
        """The products in one line, with who says so."""
        if self.source == "none":
            return f"the engine's layers are not known: {self.reason}"
        told = ", ".join(f"{count} in {precision}" for precision, count in self.counts.items()) or "none"
        done, asked = self.quantized
        of_asked = f"; {done} of the {asked} that the graph quantizes multiply INT8 by INT8" if asked else ""
        source = "by the engine inspector" if not self.reason else f"by the builder's listing ({self.reason})"
        return f"{len(self.products)} products of the engine: {told}{of_asked}; {source}"


def inspect_engine(built: BuiltEngine, library: TensorRtLibrary, model: onnx.ModelProto) -> EngineLayers:
    """What the engine's layers are: by the engine inspector where a GPU loads it, else by the builder's listing.

    Args:
        built: the engine.
        library: that built it.
        model: the graph it was built from.
    """
    told, reason = _ask_inspector(built, library)
    layers = read_json_listing(told)
    if layers:
        return _judged(layers, model, "engine inspector", "")
    reason = reason or "the engine inspector told nothing"
    layers = read_listing(built.layers)
    if layers:
        return _judged(layers, model, "builder", reason)
    return EngineLayers(source="none", reason=f"{reason}, and the builder printed no listing that can be read")


def _ask_inspector(built: BuiltEngine, library: TensorRtLibrary) -> tuple[str, str]:
    """The inspector's JSON, or why there is none."""
    if library.gpu is None:
        return "", "the engine inspector needs a GPU to load the engine, and this machine has none"
    trt = library.module
    engine = trt.Runtime(trt.Logger(trt.Logger.INTERNAL_ERROR)).deserialize_cuda_engine(built.data)
    if engine is None:
        return "", f"the {library.gpu} of this machine does not load the engine"
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON)), ""


def read_listing(text: str) -> tuple[LayerPrecision, ...]:
    """Layers from the text that TensorRT-RTX's builder prints; those without inputs and outputs are left out."""
    found = []
    for line in text.splitlines():
        match = _LAYER.match(line.strip())
        if match is None:
            continue
        inputs, constants, outputs = (_operands(match[part]) for part in ("inputs", "constants", "outputs"))
        if inputs or outputs:
            nodes = tuple(dict.fromkeys(_NODE.findall(match["metadata"])))
            found.append(_layer(match["name"], match["kind"], nodes, inputs, constants, outputs))
    return tuple(found)


def _operands(text: str) -> list[Operand]:
    return [
        (_type(match["type"]), tuple(int(side) for side in match["shape"].split(",") if side))
        for match in _TENSOR.finditer(text)
    ]


def read_json_listing(text: str) -> tuple[LayerPrecision, ...]:
    """Layers from the engine inspector's JSON, of TensorRT 10 (``Format/Datatype``) or later (``Datatype``)."""
    try:
        told = json.loads(text)
    except ValueError:
        return ()
    listed = told.get("Layers", []) if isinstance(told, dict) else []
    found = []
    # Of an engine that was built without detail the layers are names alone.
    for layer in [layer for layer in listed if isinstance(layer, dict)]:
        inputs, constants, outputs = (
            _json_operands(layer.get(part, [])) for part in ("Inputs", "Constants", "Outputs")
        )
        weights = layer.get("Weights")
        if isinstance(weights, dict) and weights.get("Count"):
            # TensorRT tells a kernel's weights by their number.
            constants.append((_type(str(weights.get("Type", ""))), (2, int(weights["Count"]))))
        if inputs or outputs:
            nodes = tuple(dict.fromkeys(_NODE.findall(str(layer.get("Metadata", "")))))
            name, kind = str(layer.get("Name", "")), str(layer.get("LayerType", ""))
            found.append(_layer(name, kind, nodes, inputs, constants, outputs))
    return tuple(found)


def _json_operands(tensors: Sequence[Any]) -> list[Operand]:
    found = []
    for tensor in tensors:
        told = tensor.get("Datatype") or tensor.get("DataType") or tensor.get("Format/Datatype") or ""
        found.append((_type(str(told)), tuple(int(side) for side in tensor.get("Dimensions", []))))
    return found


def _type(text: str) -> str:
    match = _TYPE.search(text)
    return _TYPES[match[0].lower()] if match else text


def _layer(
    name: str,
    kind: str,
    nodes: tuple[str, ...],
    inputs: Sequence[Operand],
    constants: Sequence[Operand],
    outputs: Sequence[Operand],
) -> LayerPrecision:
    # Scales and biases have one side above 1; so has the matrix of a layer with one output, which is then the largest.
    matrices = [constant for constant in constants if sum(side > 1 for side in constant[1]) >= 2]
    if not matrices and len(inputs) == 1:
        matrices = [constant for constant in constants if len(constant[1]) >= 2]
    weights = max(matrices, key=lambda constant: _elements(constant[1]))[0] if matrices else ""
    types = [tuple(kind for kind, _ in operands) for operands in (inputs, outputs)]
    return LayerPrecision(name=name, kind=kind, nodes=nodes, inputs=types[0], weights=weights, outputs=types[1])


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def _judged(
    layers: tuple[LayerPrecision, ...],
    model: onnx.ModelProto,
    source: Literal["engine inspector", "builder"],
    reason: str,
) -> EngineLayers:
    """Find each product's layer."""
    naming: dict[str, list[LayerPrecision]] = {}
    for layer in layers:
        for node in layer.nodes:
            naming.setdefault(node, []).append(layer)
    makers = {output: node for node in model.graph.node for output in node.output}
    products, missing = [], []
    for node in model.graph.node:
        if node.op_type not in PRODUCTS:
            continue
        # A product's bias and its quantizers may be in fused kernels beside it, which name it too.
        named = sorted(naming.get(node.name, []), key=lambda layer: layer.kind == "kgen")
        if not named:
            missing.append(node.name)
            continue
        products.append(
            ProductPrecision(
                node=node.name,
                operator=node.op_type,
                layer=named[0].name,
                precision=_precision(named[0]),
                quantized=all(_is_dequantized(name, makers) for name in node.input[:2]),
            )
        )
    return EngineLayers(source=source, reason=reason, layers=layers, products=tuple(products), missing=tuple(missing))


def _precision(layer: LayerPrecision) -> str:
    operands = (*layer.inputs[:1], layer.weights) if layer.weights else layer.inputs[:2]
    if len(set(operands)) <= 1:
        return "".join(operands[:1]) or _NOT_TOLD
    if layer.weights == "int8":
        return _INT8_WEIGHTS
    return " x ".join(operands)


def _is_dequantized(name: str, makers: dict[str, Any]) -> bool:
    node = makers.get(name)
    while node is not None and node.op_type in _MOVES:
        node = makers.get(node.input[0])
    return node is not None and node.op_type == "DequantizeLinear"
