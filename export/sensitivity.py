"""Sensitivity: what each block of a network costs in score points when it is quantized."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..profiles.onnx_cost import count_graph
from ..runtime.engines.ort import OnnxRuntimeEngine
from ..runtime.errors import UsageError
from .activation_ranges import Views
from .float_graph import load_graph, plain_float
from .float_variant import float_variant
from .graph import graph_bytes
from .quant_blocks import blocks_of, quantizable
from .quant_recipe import QuantRecipe
from .quant_scope import float_nodes
from .quantize_onnx import quantize

if TYPE_CHECKING:
    import onnx

    from .convert import FloatMember

__all__ = ["NO_DISTORTION", "BlockSensitivity", "SensitivityReport", "measure_sensitivity", "measured_recipe"]

NO_DISTORTION = "none"
"""The kind of views of photographs as they are."""

_Scores = NDArray[np.float64]


class BlockSensitivity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One block. Errors are of mapped scores to those of the FP32 graph, in score points, less their mean.

    The mean is told apart as the shift: it is alike for all photographs, changes no order, and is taken back when the
    score map is fitted again. With it, the root mean square is that of rmse and shift.

    Attributes:
        block: as `quant_blocks.blocks_of` names it.
        macs_share: its part of the graph's multiply-adds, in [0, 1].
        alone_rmse: root mean square of the errors when it alone is quantized.
        alone_largest: largest absolute one.
        alone_shift: mean of what scores change by.
        without_rmse: root mean square when all are quantized but this one.
        without_largest: largest absolute one.
        without_shift: mean of what scores change by.
        gain: what keeping it float takes from the whole graph's error: ``whole_rmse - without_rmse``. Below 0 where
            its error cancels others'.
        alone_by_distortion: ``alone_rmse`` of each kind of distortion.
        without_by_distortion: ``without_rmse`` likewise.
    """

    block: str
    macs_share: float
    alone_rmse: float
    alone_largest: float
    alone_shift: float
    without_rmse: float
    without_largest: float
    without_shift: float
    gain: float
    alone_by_distortion: dict[str, float]
    without_by_distortion: dict[str, float]


class SensitivityReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A graph's blocks, ranked. Errors are as of `BlockSensitivity`.

    Attributes:
        recipe: by which the whole was quantized.
        engine: that ran the graphs, with its version.
        views: how many were scored, a photograph or a distorted version of one each.
        distortions: how many of each kind; ``none`` for photographs as they are.
        whole_rmse: root mean square of the errors when all is quantized, in score points, less their mean.
        whole_largest: largest absolute one.
        whole_shift: mean of what scores change by.
        whole_by_distortion: ``whole_rmse`` of each kind of distortion.
        blocks: those that the recipe quantizes, the greatest ``gain`` first, of equal ones the greatest ``alone_rmse``.
    """

    recipe: QuantRecipe
    engine: str
    views: int
    distortions: dict[str, int]
    whole_rmse: float
    whole_largest: float
    whole_shift: float
    whole_by_distortion: dict[str, float]
    blocks: tuple[BlockSensitivity, ...]

    @property
    def ranking(self) -> tuple[str, ...]:
        """The blocks' names, in their order."""
        return tuple(block.block for block in self.blocks)


def measured_recipe(recipe: QuantRecipe) -> QuantRecipe:
    """The recipe by which sensitivity is measured for another: OpenVINO's own form is measured as u8s8."""
    return msgspec.structs.replace(recipe, scheme="u8s8") if recipe.scheme == "openvino" else recipe


def measure_sensitivity(
    member: FloatMember,
    images: Collection[Views],
    recipe: QuantRecipe,
    *,
    views: Collection[Views],
    distortions: Sequence[str],
    threads: int,
    on_graph: Callable[[int, int], None] | None = None,
) -> SensitivityReport:
    """Measure each block's score error when it alone is quantized, and when it alone is not.

    The graph is quantized once; the others are made of it by `float_variant`, so that a block's ranges and corrected
    biases are those that it has in the whole. Graphs are run by onnxruntime, and scores mapped by the FP32 score map.

    Args:
        member: in FP32.
        images: calibration images.
        recipe: of the whole; of the scheme openvino, `measured_recipe` is taken.
        views: that are scored, at least one, gone through once for each graph: two graphs a block, and two more.
        distortions: kind of each view's distortion, ``none`` for none.
        threads: of onnxruntime.
        on_graph: called with how many graphs have been run, and of how many.

    Raises:
        UsageError: no views, not as many kinds, or a recipe that quantizes no block.
        ExportError, MissingExtraError: as `quantize`.
        EngineError: a view is not the graph's, or a graph's score is not finite.
    """
    if not len(views) or len(views) != len(distortions):
        raise UsageError(
            f"{len(views)} views and {len(distortions)} kinds of distortion",
            expected="some views, each with the kind of its distortion",
            mend="name photographs",
        )
    recipe = measured_recipe(recipe)
    plain = load_graph(plain_float(member.model))
    kept = set(float_nodes(plain, recipe))
    weighted = {node.name for node in plain.graph.node if quantizable(node)}
    blocks = blocks_of(plain)
    judged = [block for block, nodes in blocks.items() if weighted.intersection(nodes) - kept]
    if not judged:
        raise UsageError(
            f"recipe {recipe.name!r}, which keeps every block float",
            expected="one that quantizes some",
            mend="change it",
        )
    nodes_of = _all_nodes(plain, blocks)
    everything = {node.name for node in plain.graph.node}
    quantized = load_graph(quantize(member.model, images, recipe, threads=threads))
    total, done = 2 * len(judged) + 2, 0

    def scores(model: bytes) -> _Scores:
        nonlocal done
        engine = OnnxRuntimeEngine(
            [model], inputs=member.preprocess.shapes, outputs=("score",), precision="int8", threads=threads
        )
        raw = np.array([float(engine.run(view)["score"]) for view in views])
        done += 1
        if on_graph is not None:
            on_graph(done, total)
        return member.score_map.apply(raw)

    def variant(floats: set[str]) -> _Scores:
        return scores(graph_bytes(float_variant(quantized, plain, floats)))

    reference = scores(graph_bytes(plain))
    whole = _Errors(variant(set()) - reference, distortions)
    measured = []
    shares = _macs_shares(plain, blocks)
    for block in judged:
        alone = _Errors(variant(everything - nodes_of[block]) - reference, distortions)
        without = _Errors(variant(nodes_of[block]) - reference, distortions)
        measured.append(
            BlockSensitivity(
                block=block,
                macs_share=shares[block],
                alone_rmse=alone.rmse,
                alone_largest=alone.largest,
                alone_shift=alone.shift,
                without_rmse=without.rmse,
                without_largest=without.largest,
                without_shift=without.shift,
                gain=whole.rmse - without.rmse,
                alone_by_distortion=alone.by_distortion,
                without_by_distortion=without.by_distortion,
            )
        )
    return SensitivityReport(
        recipe=recipe,
        engine=f"{OnnxRuntimeEngine.name} {OnnxRuntimeEngine.version}",
        views=len(views),
        distortions=dict(Counter(distortions)),
        whole_rmse=whole.rmse,
        whole_largest=whole.largest,
        whole_shift=whole.shift,
        whole_by_distortion=whole.by_distortion,
        blocks=tuple(sorted(measured, key=lambda block: (-block.gain, -block.alone_rmse))),
    )


class _Errors:
    """Of one graph's scores, over all views and by kind of distortion, less what is alike for all."""

    def __init__(self, changes: _Scores, distortions: Sequence[str]) -> None:
        self.shift = float(changes.mean())
        errors = changes - self.shift
        self.rmse = _rmse(errors)
        self.largest = float(np.abs(errors).max())
        kinds = np.array(distortions)
        self.by_distortion = {kind: _rmse(errors[kinds == kind]) for kind in dict.fromkeys(distortions)}


def _rmse(errors: _Scores) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def _all_nodes(plain: onnx.ModelProto, blocks: Mapping[str, tuple[str, ...]]) -> dict[str, set[str]]:
    """The blocks with the nodes that belong to none: to the first block that reads them, else to one that they read.

    Else a quantizer at such a node, before the first convolution say, would belong to nobody.
    """
    owner = {name: block for block, nodes in blocks.items() for name in nodes}
    makers = {tensor: node.name for node in plain.graph.node for tensor in node.output}
    readers: dict[str, list[str]] = {}
    for node in plain.graph.node:
        for tensor in node.input:
            if tensor in makers:
                readers.setdefault(makers[tensor], []).append(node.name)
    for node in reversed(plain.graph.node):
        found = [owner[name] for name in readers.get(node.name, []) if name in owner]
        if found:
            owner.setdefault(node.name, found[0])
    for node in plain.graph.node:
        found = [owner[makers[tensor]] for tensor in node.input if makers.get(tensor) in owner]
        if found:
            owner.setdefault(node.name, found[-1])
    nodes_of: dict[str, set[str]] = {block: set() for block in blocks}
    for name, block in owner.items():
        nodes_of[block].add(name)
    return nodes_of


def _macs_shares(plain: onnx.ModelProto, blocks: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    cost = count_graph(plain)
    macs = {layer.name: layer.macs for layer in cost.by_layer}
    return {block: sum(macs.get(name, 0) for name in nodes) / cost.macs for block, nodes in blocks.items()}
