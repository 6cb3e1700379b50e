"""From a float member to a graph of a kind: what the artefact says of itself, and what is refused."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
from edgeiqa.export import convert as convert_module
from edgeiqa.export import nncf_settings, quantize_onnx, tensorrt_library
from edgeiqa.export.convert import ConversionOptions, FloatMember, convert, recipe_for, require_recipe
from edgeiqa.export.kinds import Kind
from edgeiqa.export.quant_recipe import RECIPES, QuantRecipe, QuantTarget
from edgeiqa.export.quantize_onnx import quantize
from edgeiqa.runtime.engines import ort
from edgeiqa.runtime.errors import GateError, UsageError
from edgeiqa.runtime.preprocess import single_view
from edgeiqa.runtime.score_map import ScoreMap

from ..runtime.messages import require_message
from .networks import noise
from .quantizing import SHAPES, Noise, recipe, tiny

MEMBER = FloatMember(
    name="one",
    preprocess=single_view(24, 16),
    score_map=ScoreMap(),
    model=tiny("plain"),
    outputs=("score", "features.last"),
)
PRODUCTS = ("Conv", "Gemm", "MatMul")


def options(chosen: QuantRecipe | None = None, target: QuantTarget = "onnx", **fields: object) -> ConversionOptions:
    return ConversionOptions(recipe=chosen, onnx_target=target, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "chosen", "target", "capability"),
    [
        (Kind("onnx", "int8"), recipe("u8s8"), "onnx", "x86-64 with VNNI"),
        (Kind("onnx", "int8"), recipe("u8s8", weight_bits=7), "onnx", "x86-64"),
        (Kind("onnx", "int8"), recipe("s8s8"), "onnx-arm", "Arm"),
        (Kind("openvino", "int8"), recipe("openvino"), "onnx", "x86-64 with VNNI"),
        (Kind("openvino", "int8"), recipe("openvino", weight_bits=7), "onnx", "x86-64"),
    ],
)
def test_an_int8_graph_says_its_weights_and_its_processors(
    kind: Kind, chosen: QuantRecipe, target: QuantTarget, capability: str
) -> None:
    made = convert(MEMBER, kind, Noise(), options(chosen, target))
    assert (made.graph.capability, made.graph.stored_as) == (capability, "int8")
    assert (made.recipe, made.range_images) == (chosen, 6)
    # The linter warns of 8-bit weights, and what helps is not cut off.
    notes = [note for note in made.notes if note.startswith("eight-bit-weights: uint8 activations with weights up to ")]
    assert len(notes) == (chosen.scheme == "u8s8" and chosen.weight_bits == 8)
    assert all("; expected weights up to 64" in note and "; to mend: " in note for note in notes)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_float_graphs_run_on_any_processor(precision: str) -> None:
    made = convert(MEMBER, Kind("onnx", precision), Noise(), options())  # type: ignore[arg-type]
    assert (made.graph.capability, made.graph.stored_as, made.range_images) == ("", precision, None)


def test_exact_products_give_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine is told where sums saturate changes no score where they do not."""
    graph = quantize(MEMBER.model, Noise(), recipe("u8s8", activations="asymmetric"), threads=1)
    scores = []
    for saturate in (ort.sums_saturate(), True):
        monkeypatch.setattr(ort, "sums_saturate", lambda told=saturate: told)
        session = onnxruntime.InferenceSession(graph, ort.session_options(1), providers=["CPUExecutionProvider"])
        scores.append(session.run(["score"], dict(noise(SHAPES, 8, seed=3)))[0].tolist())
    assert scores[0] == scores[1]
    assert len(set(scores[0])) > 1


@pytest.mark.parametrize(
    ("name", "kind", "target", "mend"),
    [
        ("efficientnet_lite-onnx", "onnx", "onnx-arm", "--target onnx --cpu x86"),
        ("efficientnet_lite-onnx-7bit", "onnx", "onnx-arm", "--target onnx --cpu x86"),
        ("efficientnet_lite-onnx-arm", "onnx", "onnx", "--target onnx --cpu arm"),
        ("efficientnet_lite-tensorrt", "onnx", "onnx", "--target tensorrt"),
        ("efficientnet_lite-onnx", "openvino", "onnx", "--target onnx --cpu x86"),
        ("efficientnet_lite-openvino", "tensorrt", "onnx", "--target openvino"),
    ],
)
def test_a_recipe_of_another_target_is_refused(name: str, kind: str, target: QuantTarget, mend: str) -> None:
    wanted, told = Kind(kind, "int8"), options(RECIPES[name], target)  # type: ignore[arg-type]
    for refused in (
        lambda: recipe_for(MEMBER, wanted, told),
        lambda: require_recipe(wanted, told),
        lambda: convert(MEMBER, wanted, Noise(), told),
    ):
        with pytest.raises(UsageError) as caught:
            refused()
        require_message(caught, f"recipe {name!r} of the scheme", "of the scheme", mend)
    # Where it is not INT8 that is wanted, the recipe is of no concern.
    require_recipe(Kind("onnx", "fp16"), told)


def test_how_many_images_set_the_ranges_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (nncf_settings, quantize_onnx, convert_module):
        monkeypatch.setattr(module, "MOST_IMAGES", 4)
    images = Noise()
    made = convert(MEMBER, Kind("onnx", "int8"), images, options(recipe("u8s8")))
    assert made.range_images == 4
    (note,) = [note for note in made.notes if note.startswith("ranges from")]
    assert "4 of the 6 calibration images" in note
    made = convert(MEMBER, Kind("onnx", "int8"), images, options(recipe("u8s8", quantizer="onnxruntime")))
    assert made.range_images == 6
    assert not [note for note in made.notes if note.startswith("ranges from")]


# --- TensorRT: accepted is not INT8 -----------------------------------------------------------------------------------

TENSORRT = Kind("tensorrt", "int8")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_library, "find_gpu", lambda: None)


@pytest.mark.usefixtures("no_gpu")
def test_an_engine_with_some_blocks_float_says_how_many_are_int8(tmp_path: Path) -> None:
    chosen = recipe("tensorrt", float_blocks=("backbone.blocks.1.*",))
    made = convert(MEMBER, TENSORRT, Noise(), options(chosen, capabilities=(86,), engine_cache=tmp_path))
    assert made.tensorrt is not None and made.tensorrt.layers is not None
    done, asked = made.tensorrt.layers.quantized
    assert 0 < done <= asked < len(made.tensorrt.layers.products)
    assert f"{done} of the {asked} that the graph quantizes multiply INT8 by INT8; by the builder's listing" in str(
        made.notes
    )
    # A GPU's capability is the engine's, no processor's.
    assert "compute capability 8.6" in made.graph.capability and "x86" not in made.graph.capability


@pytest.mark.usefixtures("no_gpu")
def test_an_engine_without_int8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert_module, "quantize", lambda model, *_, **__: model)
    with pytest.raises(GateError) as caught:
        convert(MEMBER, TENSORRT, Noise(), options(recipe("tensorrt"), capabilities=(86,)))
    require_message(caught, "no product in INT8: 14 products of the engine: 14 in fp32", "multiply INT8", "fp16")
    # Of FP32 nothing else is asked.
    made = convert(MEMBER, Kind("tensorrt", "fp32"), Noise(), options(capabilities=(86,)))
    assert "products of the engine: 14 in fp32" in str(made.notes)
