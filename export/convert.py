"""From a member's FP32 graph to a graph of a target and precision."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import ExportError
from ..runtime.manifest import Precision
from ..runtime.preprocess import Preprocess
from ..runtime.score_map import ScoreMap
from .half import to_fp16
from .kinds import Kind
from .lint import lint
from .openvino_graph import to_openvino
from .pack import Graph
from .quant_recipe import Family, QuantRecipe, QuantTarget, default_recipe, family_of
from .quantize_onnx import quantize
from .quantize_openvino import quantize_openvino
from .to_tensorrt import TensorRtResult, to_tensorrt

__all__ = ["Conversion", "ConversionOptions", "FloatMember", "convert", "recipe_for"]

Views = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True, slots=True)
class FloatMember:
    """A member in FP32, from which its other graphs are made.

    Attributes:
        name: of the member.
        preprocess: of its photographs.
        score_map: of its raw score in FP32.
        model: its ONNX graph, FP32.
        outputs: names, ``score`` first.
        macs: strict multiply-adds of one photograph.
        parameters: of the graph.
    """

    name: str
    preprocess: Preprocess
    score_map: ScoreMap
    model: bytes
    outputs: tuple[str, ...]
    macs: int | None = None
    parameters: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversionOptions:
    """What decides a conversion besides the graph.

    Attributes:
        recipe: of INT8; None for the default of the graph's family and the target.
        onnx_target: which processors an ONNX graph in INT8 is for.
        capabilities: compute capabilities of a TensorRT engine; empty for the usual ones.
        engine_cache: folder of TensorRT engines; None for none.
        threads: of what runs the calibration images.
    """

    recipe: QuantRecipe | None = None
    onnx_target: QuantTarget = "onnx"
    capabilities: tuple[int, ...] = ()
    engine_cache: Path | None = None
    threads: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversion:
    """A graph of a kind.

    Attributes:
        graph: to pack.
        recipe: by which it was quantized; None of a float graph.
        notes: what a person should know: layers kept in FP32, findings of the linter, what was built and what was not.
        tensorrt: what came of the builder; None for other targets.
    """

    graph: Graph
    recipe: QuantRecipe | None = None
    notes: tuple[str, ...] = ()
    tensorrt: TensorRtResult | None = None


def recipe_for(member: FloatMember, kind: Kind, options: ConversionOptions) -> QuantRecipe:
    """The recipe that `convert` quantizes by.

    Raises:
        UsageError: the recipe that is named is of another target.
    """
    target: QuantTarget = options.onnx_target if kind.target == "onnx" else kind.target
    if options.recipe is None:
        return default_recipe(_family(member), target)
    return options.recipe


def _family(member: FloatMember) -> Family:
    import onnx

    return family_of(onnx.load_model_from_string(member.model))


def convert(member: FloatMember, kind: Kind, images: Collection[Views], options: ConversionOptions) -> Conversion:
    """Convert a member's graph.

    Args:
        member: in FP32.
        kind: wanted.
        images: calibration images of the member: INT8 ranges, and which FP16 values overflow.
        options: the recipe, and what TensorRT needs.

    Raises:
        ExportError: the graph cannot be converted, or breaks a rule of the target.
        MissingExtraError: a library is not installed.
        UsageError: a recipe of another target.
    """
    recipe = recipe_for(member, kind, options) if kind.precision == "int8" else None
    if kind.target == "openvino":
        files: tuple[bytes, ...]
        if recipe is not None:
            files = quantize_openvino(member.model, images, recipe, threads=options.threads)
        else:
            # The precision is the one that the engine is told; FP16 weights lose nothing that bf16 or FP16 would keep.
            files = to_openvino(member.model, store_fp16=kind.precision != "fp32")
        return Conversion(graph=_graph(member, kind, files), recipe=recipe)
    model, notes = _typed(member, kind.precision, images, recipe, options)
    report = lint(model, kind.target)
    if not report.passed:
        first = next(finding for finding in report.findings if finding.severity == "error")
        raise ExportError(
            f"{kind}: {first.rule} at {first.node or 'the graph'}: {first.got}",
            expected=first.expected,
            mend=first.mend,
        )
    notes += tuple(f"{finding.rule}: {finding.got}" for finding in report.findings)
    if kind.target == "onnx":
        return Conversion(graph=_graph(member, kind, (model,)), recipe=recipe, notes=notes)
    built = to_tensorrt(model, capabilities=options.capabilities, cache=options.engine_cache)
    files = (model,) if built.engine is None else (model, built.engine)
    graph = _graph(member, kind, files, capability=built.capability)
    return Conversion(graph=graph, recipe=recipe, notes=(*notes, *_build_notes(built)), tensorrt=built)


def _typed(
    member: FloatMember,
    precision: Precision,
    images: Collection[Views],
    recipe: QuantRecipe | None,
    options: ConversionOptions,
) -> tuple[bytes, tuple[str, ...]]:
    """The ONNX graph whose types say the precision, and notes."""
    if recipe is not None:
        return quantize(member.model, images, recipe, threads=options.threads), ()
    if precision == "fp32":
        return member.model, ()
    half = to_fp16(member.model, images, threads=options.threads)
    kept = tuple(f"{name} stays FP32: {why}" for name, why in half.kept.items())
    return half.data, kept


def _graph(member: FloatMember, kind: Kind, files: tuple[bytes, ...], capability: str = "") -> Graph:
    return Graph(
        kind.target,
        kind.precision,
        "fp32" if kind.precision in ("fp32", "int8") else "fp16",
        files,
        member.outputs,
        macs=member.macs,
        parameters=member.parameters,
        capability=capability,
    )


def _build_notes(built: TensorRtResult) -> tuple[str, ...]:
    if built.layers is None:
        return (str(built), f"on the device: python build_engine.py, or {built.trtexec}")
    counted = ", ".join(f"{number} in {precision}" for precision, number in built.layers.counts.items())
    told = built.layers.source + (f" ({built.layers.reason})" if built.layers.reason else "")
    return (str(built), f"products of the engine: {counted}, says the {told}")
