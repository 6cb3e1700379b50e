"""From a member's FP32 graph to a graph of a target and precision."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import ExportError, GateError
from ..runtime.manifest import Precision, StoredAs
from ..runtime.preprocess import Preprocess
from ..runtime.score_map import ScoreMap
from .half import to_fp16
from .kinds import Kind
from .lint import Finding, lint
from .nncf_settings import MOST_IMAGES, images_for_ranges
from .openvino_graph import to_openvino
from .pack import Graph
from .quant_recipe import Family, QuantRecipe, QuantTarget, default_recipe, family_of, require_scheme
from .quantize_onnx import quantize
from .quantize_openvino import quantize_openvino
from .to_tensorrt import TensorRtResult, to_tensorrt

__all__ = ["Conversion", "ConversionOptions", "FloatMember", "convert", "recipe_for", "require_recipe"]

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
        range_images: how many of the calibration images set its ranges; None of a float graph.
        notes: what a person should know: layers kept in FP32, findings of the linter, what was built and what was not.
        tensorrt: what came of the builder; None for other targets.
    """

    graph: Graph
    recipe: QuantRecipe | None = None
    range_images: int | None = None
    notes: tuple[str, ...] = ()
    tensorrt: TensorRtResult | None = None


def recipe_for(member: FloatMember, kind: Kind, options: ConversionOptions) -> QuantRecipe:
    """The recipe that `convert` quantizes by.

    Raises:
        UsageError: the recipe that is named is of another target.
    """
    require_recipe(kind, options)
    return options.recipe or default_recipe(_family(member), _quant_target(kind, options))


def require_recipe(kind: Kind, options: ConversionOptions) -> None:
    """Check what `recipe_for` would refuse, before anything is made; a kind that is not INT8 has no recipe.

    Raises:
        UsageError: the recipe that is named is of another target.
    """
    if options.recipe is not None and kind.precision == "int8":
        require_scheme(options.recipe, _quant_target(kind, options))


def _quant_target(kind: Kind, options: ConversionOptions) -> QuantTarget:
    return options.onnx_target if kind.target == "onnx" else kind.target


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
        GateError: TensorRT accepted an INT8 graph and multiplies nothing of it in INT8.
        MissingExtraError: a library is not installed.
        UsageError: a recipe of another target.
    """
    recipe = recipe_for(member, kind, options) if kind.precision == "int8" else None
    ranges = None if recipe is None else images_for_ranges(recipe, len(images))
    notes = _range_notes(ranges, len(images))
    files: tuple[bytes, ...]
    if kind.target == "openvino":
        if recipe is not None:
            files = quantize_openvino(member.model, images, recipe, threads=options.threads)
        else:
            # The precision is the one that the engine is told; FP16 weights lose nothing that bf16 or FP16 would keep.
            files = to_openvino(member.model, store_fp16=kind.precision != "fp32", for_bf16=kind.precision == "bf16")
        graph = _graph(member, kind, files, "" if recipe is None else recipe.processor)
        return Conversion(graph=graph, recipe=recipe, range_images=ranges, notes=notes)
    model, kept = _typed(member, kind.precision, images, recipe, options)
    report = lint(model, kind.target)
    if not report.passed:
        first = next(finding for finding in report.findings if finding.severity == "error")
        raise ExportError(
            f"{kind}: {first.rule} at {first.node or 'the graph'}: {first.got}",
            expected=first.expected,
            mend=first.mend,
        )
    notes += (*kept, *map(_lint_note, report.findings))
    if kind.target == "onnx":
        graph = _graph(member, kind, (model,), "" if recipe is None else recipe.processor)
        return Conversion(graph=graph, recipe=recipe, range_images=ranges, notes=notes)
    built = to_tensorrt(model, capabilities=options.capabilities, cache=options.engine_cache)
    if recipe is not None:
        _require_int8(kind, built)
    files = (model,) if built.engine is None else (model, built.engine)
    graph = _graph(member, kind, files, built.capability)
    notes += _build_notes(built)
    return Conversion(graph=graph, recipe=recipe, range_images=ranges, notes=notes, tensorrt=built)


def _range_notes(taken: int | None, images: int) -> tuple[str, ...]:
    if taken is None or taken == images:
        return ()
    return (
        f"ranges from {taken} of the {images} calibration images, spread evenly: nncf's memory grows with their "
        f"number, and it is given at most {MOST_IMAGES}",
    )


def _lint_note(finding: Finding) -> str:
    return f"{finding.rule}: {finding.got}; expected {finding.expected}; to mend: {finding.mend}"


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


_STORED_AS: dict[Precision, StoredAs] = {"fp32": "fp32", "fp16": "fp16", "bf16": "fp16", "int8": "int8"}


def _graph(member: FloatMember, kind: Kind, files: tuple[bytes, ...], capability: str) -> Graph:
    return Graph(
        kind.target,
        kind.precision,
        _STORED_AS[kind.precision],
        files,
        member.outputs,
        macs=member.macs,
        parameters=member.parameters,
        capability=capability,
    )


def _require_int8(kind: Kind, built: TensorRtResult) -> None:
    if built.layers is not None and built.layers.lacks_int8:
        raise GateError(
            f"{kind}: TensorRT accepted the graph, and its engine has no product in INT8: {built.layers.summary()}",
            expected="convolutions and matrix products that multiply INT8",
            mend="keep less float in the recipe, or use --precision fp16, which is what this engine would be at best",
        )


def _build_notes(built: TensorRtResult) -> tuple[str, ...]:
    if built.layers is None:
        return (str(built), f"on the device: python build_engine.py, or {built.trtexec}")
    return (str(built), built.layers.summary())
