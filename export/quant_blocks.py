"""Blocks of a graph: the parts of the network that are kept float, or quantized, together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..runtime.errors import ExportError

if TYPE_CHECKING:
    import onnx

__all__ = ["blocks_of", "quantizable"]

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")

_BLOCK = re.compile(
    # timm: a stage and a block in it, by number or by name (`downsample`).
    r"(?:stages|layers|features)\.\d+\.(?:blocks\.\d+|[A-Za-z_]\w*|\d+)"
    r"|blocks(?:\.\d+)+|layer\d+\.\d+|s\d+\.b\d+|[A-Za-z_]\w*"
)


def quantizable(node: onnx.NodeProto) -> bool:
    """Whether it is an operator with products, whose arithmetic INT8 makes cheaper."""
    return node.op_type in _WEIGHTED


def blocks_of(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """The blocks of a graph, by the names that torch gave its weights.

    A node belongs to the block whose weights it reads; a node without named weights to that of the nodes around it.
    A block without a convolution or matrix product is none.

    Args:
        model: FP32, as `graph.to_onnx` makes it, or with its weights stored as FP16.

    Returns:
        Block name -> names of its nodes, both in the order in which they run: ``backbone.conv_stem``,
        ``backbone.blocks.2.1``, ``backbone.stages.0.downsample``, ``head``. With several branches their backbones are
        ``backbone0``, ``backbone1``, ... in the order of the system's record.

    Raises:
        ExportError: two nodes have one name, or no weight has a name that torch gave.
    """
    nodes = list(model.graph.node)
    names = [node.name for node in nodes]
    if len(set(names)) < len(names) or not all(names):
        raise ExportError("a graph with nodes of equal names", expected="a name for each", mend="export it again")
    several = any(name.startswith("network.trunks.1.") for node in nodes for name in node.input)
    stored = {tensor.name for tensor in model.graph.initializer}
    # Weights that are stored as FP16 have their names behind their Casts.
    constant = stored | {node.output[0] for node in nodes if node.op_type == "Cast" and node.input[0] in stored}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    # The exporter makes one tensor of all vectors of ones or zeros, under the name of the first.
    merged = {tensor.name for tensor in model.graph.initializer if len(readers.get(tensor.name, [])) > 1}
    merged = {tensor.name for tensor in model.graph.initializer if tensor.name in merged and _is_uniform(tensor)}

    def named(node: onnx.NodeProto) -> str | None:
        found = (_block_name(name, several) for name in node.input if name in constant - merged)
        return next((block for block in found if block is not None), None)

    place: dict[str, tuple[int, str]] = {}
    blocks: dict[str, list[onnx.NodeProto]] = {}
    for index, node in enumerate(nodes):
        if node.output[0] in constant:
            continue
        block = named(node)
        if block is None and node.op_type in _WEIGHTED:
            # The exporter transposes the weight of a linear layer under a new name; its bias is added behind it.
            after = {named(reader) for reader in readers.get(node.output[0], []) if reader.op_type == "Add"}
            block = next(iter(after)) if len(after) == 1 else None
        if block is None:
            # The one that ran last: of a residual sum, the block whose branch joins.
            before = [place[name] for name in node.input if name in place]
            block = max(before)[1] if before else None
        if block is not None:
            place.update(dict.fromkeys(node.output, (index, block)))
            blocks.setdefault(block, []).append(node)
    if not blocks:
        raise ExportError(
            "a graph without the names of torch's modules", expected="one that this package exported", mend="export it"
        )
    return {
        block: tuple(node.name for node in inside)
        for block, inside in blocks.items()
        if any(quantizable(node) for node in inside)
    }


def _is_uniform(tensor: onnx.TensorProto) -> bool:
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    return bool((values == values.flat[0]).all()) if values.size else True


def _block_name(tensor: str, several: bool) -> str | None:
    """Of the block that a weight of that name belongs to."""
    parts = re.fullmatch(r"network\.(?:trunks\.(\d+)\.model\.)?(.+)", tensor)
    if parts is None:
        return None
    branch, path = parts.groups()
    inside = _BLOCK.match(path)
    if inside is None:
        return None
    if branch is None:
        return inside[0]
    return f"backbone{branch if several else ''}.{inside[0]}"
