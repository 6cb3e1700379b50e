"""Time by layer, from the engine's own profiler, beside the multiply-adds and bytes of each layer.

Multiply-adds here are those of products alone (convolutions, matrix products), computed from the shapes that the engine
gives for what it ran; a layer whose products the engine does not tell has none, and is named in `LayerProfile.untold`.
They are compared with what the bundle's graph costs (`profiles.cost`, which counts norms and pools too).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import prod

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..runtime.bundle import Bundle
from ..runtime.manifest import Artefact, Precision
from .engine_counters import ExecutedLayer, Shape, run_with_counters

__all__ = ["LayerProfile", "LayerTime", "count_product_macs", "profile_layers", "summarise_layers"]


class LayerTime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One layer as the engine ran it.

    Attributes:
        name: the engine's.
        engine_type: its kind of layer.
        kernel: the implementation; empty where the engine does not tell.
        precision: of its arithmetic; None where that is none of ours.
        time_ms: median over the runs.
        spread: the quartiles' distance as a part of the median.
        share: of the time of all layers, 0 to 1.
        macs: multiply-adds of its products; None where it has none, or the engine does not tell them.
        bytes_moved: of inputs, weights and outputs, each once.
        output: shape of its first output.
        fused: names of the graph's nodes that it stands for, where the engine tells.
    """

    name: str
    engine_type: str
    kernel: str
    precision: Precision | None
    time_ms: float
    spread: float
    share: float
    macs: int | None
    bytes_moved: int
    output: tuple[int, ...]
    fused: tuple[str, ...] = ()


class LayerProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A member's graph by layers.

    Attributes:
        member: of the bundle.
        runs: measured with the profiler on, which costs a little time itself.
        total_ms: sum of the layers' medians.
        layers: in the order in which they ran; empty where the engine has no counters.
        macs: sum over the layers that tell theirs.
        graph_macs: strict multiply-adds of the graph; None where the bundle does not say them.
        untold: kinds of layers that may hold products which the engine does not tell: kind -> share of the time.
    """

    member: str
    runs: int
    total_ms: float
    layers: tuple[LayerTime, ...]
    macs: int
    graph_macs: int | None
    untold: dict[str, float]


def profile_layers(
    bundle: Bundle,
    artefacts: Mapping[str, Artefact],
    views: Mapping[str, Mapping[str, NDArray[np.uint8]]],
    *,
    engine: str,
    threads: int,
    warmup: int,
    runs: int,
) -> tuple[LayerProfile, ...]:
    """Profile each member's graph by layers.

    Args:
        bundle: opened.
        artefacts: by member name, as `runtime.scorer.choose_artefact` chose them.
        views: by member name, by view name, uint8 without the batch.
        engine: which must be installed.
        threads: of the engine.
        warmup: runs that are not read.
        runs: that are read, from 1.

    Raises:
        UsageError: an engine whose profiler is not known here.
    """
    profiles = []
    for member in bundle.manifest.members:
        artefact = artefacts[member.name]
        executed = run_with_counters(
            engine,
            [bundle.read(name) for name in artefact.files],
            {name: view[None] for name, view in views[member.name].items()},
            precision=artefact.precision,
            threads=threads,
            warmup=warmup,
            runs=runs,
        )
        profiles.append(summarise_layers(member.name, executed, artefact.macs, runs))
    return tuple(profiles)


def summarise_layers(
    member: str, executed: tuple[ExecutedLayer, ...], graph_macs: int | None, runs: int
) -> LayerProfile:
    """Medians, shares and multiply-adds of what an engine ran."""
    medians = [float(np.median(layer.times_ms)) for layer in executed]
    total_ms = sum(medians)
    layers = []
    untold: dict[str, float] = defaultdict(float)
    for layer, median in zip(executed, medians, strict=True):
        quarter, three_quarters = np.percentile(layer.times_ms, (25, 75))
        share = median / total_ms if total_ms > 0 else 0.0
        macs = count_product_macs(layer.engine_type, layer.inputs, layer.outputs)
        if macs is None and layer.engine_type in _MAY_HOLD_PRODUCTS:
            untold[layer.engine_type] += share
        layers.append(
            LayerTime(
                name=layer.name,
                engine_type=layer.engine_type,
                kernel=layer.kernel,
                precision=layer.precision,
                time_ms=median,
                spread=float(three_quarters - quarter) / median if median > 0 else 0.0,
                share=share,
                macs=macs,
                bytes_moved=layer.bytes_moved,
                output=layer.outputs[0] if layer.outputs else (),
                fused=layer.fused,
            )
        )
    return LayerProfile(
        member=member,
        runs=runs,
        total_ms=total_ms,
        layers=tuple(layers),
        macs=sum(layer.macs or 0 for layer in layers),
        graph_macs=graph_macs,
        untold=dict(untold),
    )


# kind: where its weight stands among the inputs, and how many of the weight's sides are not summed over.
_CONVOLUTIONS = {
    "Conv": (1, 1),
    "FusedConv": (1, 1),
    "NhwcFusedConv": (1, 1),
    "ConvInteger": (1, 1),
    "QLinearConv": (3, 1),
    "Convolution": (1, 1),
    "GroupConvolution": (1, 2),
}
_TRANSPOSED = {
    "ConvTranspose": (1, 1),
    "Deconvolution": (1, 1),
    "ConvolutionBackpropData": (1, 1),
    "GroupConvolutionBackpropData": (1, 2),
}
_PRODUCTS = frozenset(
    {
        *("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulInteger", "QLinearMatMul", "QGemm", "FullyConnected"),
        *("MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
    }
)
_MAY_HOLD_PRODUCTS = frozenset(
    {
        *_CONVOLUTIONS,
        *_TRANSPOSED,
        *_PRODUCTS,
        *("Attention", "MultiHeadAttention", "QAttention", "GroupQueryAttention", "Einsum", "LSTM", "GRU", "RNN"),
        *("ScaledDotProductAttention", "MHA", "Subgraph", "RNNSeq", "RNNCell", "QKVProjection", "LLMMLP"),
        *("DeformableConvolution", "BinaryConvolution", "GatherMatmul"),
    }
)


def count_product_macs(engine_type: str, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> int | None:
    """Multiply-adds of a layer's products; None where it has none, or its shapes do not tell them.

    Args:
        engine_type: onnxruntime's or OpenVINO's kind of layer.
        inputs: shapes, weights among them.
        outputs: shapes.
    """
    if not inputs or not outputs:
        return None
    data, result = inputs[0], outputs[0]
    if engine_type in _CONVOLUTIONS or engine_type in _TRANSPOSED:
        index, kept = (_CONVOLUTIONS | _TRANSPOSED)[engine_type]
        if len(inputs) <= index or len(inputs[index]) not in (len(data), len(data) + 1):
            return None
        weight = inputs[index]
        # OpenVINO puts the groups before the weight's other sides.
        if len(weight) == len(data) + 1:
            kept = 2
        return prod(data if engine_type in _TRANSPOSED else result) * prod(weight[kept:])
    if engine_type in _PRODUCTS and len(data) >= 2 and len(result) >= 2:
        rows = result[-2]
        # Either side of the first factor may be the one that is summed over.
        return prod(result) * (data[-1] if data[-2] == rows else data[-2])
    return None
