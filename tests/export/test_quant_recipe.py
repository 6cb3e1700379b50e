"""Recipes: what cannot be asked for is refused, each family and target has one, families are told apart."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import onnx
import pytest
from edgeiqa.export.quant_recipe import (
    RECIPES,
    Family,
    QuantRecipe,
    QuantTarget,
    default_recipe,
    family_of,
)
from edgeiqa.runtime.errors import RecordError, UsageError

from .quantizing import load, tiny


def test_every_family_has_a_recipe_for_every_target() -> None:
    schemes = {"onnx": "u8s8", "onnx-arm": "s8s8", "openvino": "openvino", "tensorrt": "tensorrt"}
    assert set(schemes) == set(get_args(QuantTarget))
    for family in get_args(Family):
        for target, scheme in schemes.items():
            recipe = default_recipe(family, target)  # type: ignore[arg-type]
            assert recipe.scheme == scheme
            assert RECIPES[recipe.name] is recipe
            assert (recipe.activations == "symmetric") == (target == "tensorrt")
            assert msgspec.json.decode(msgspec.json.encode(recipe), type=QuantRecipe) == recipe
    # And with 7-bit weights for both engines on x86.
    assert len(RECIPES) == len(get_args(Family)) * (len(schemes) + 2)
    for target in schemes:
        mobile = default_recipe("mobilenetv3", target)  # type: ignore[arg-type]
        assert mobile.float_gates
        assert set(mobile.float_operators) == {"HardSwish", "HardSigmoid"}
        assert mobile.bias_correction == "full"


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_seven_bit_weights_by_name(target: str) -> None:
    plain, seven = RECIPES[f"convnext-{target}"], RECIPES[f"convnext-{target}-7bit"]
    assert seven == msgspec.structs.replace(plain, name=f"convnext-{target}-7bit", weight_bits=7)
    assert (plain.processor, seven.processor) == ("x86-64 with VNNI", "x86-64")


def test_which_processors_a_recipe_is_for() -> None:
    assert (RECIPES["vit-onnx-arm"].processor, RECIPES["vit-tensorrt"].processor) == ("Arm", "")


def test_an_unknown_family() -> None:
    with pytest.raises(UsageError, match="no INT8 recipe for resnet on onnx"):
        default_recipe("resnet", "onnx")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "without a name"),
        ({"scheme": "tensorrt", "activations": "asymmetric"}, "asymmetric"),
        ({"scheme": "s8s8", "weight_bits": 7}, "7-bit"),
        ({"scheme": "tensorrt", "weight_bits": 7}, "7-bit"),
        ({"scheme": "openvino", "quantizer": "onnxruntime", "bias_correction": "none"}, "onnxruntime's quantizer"),
        ({"quantizer": "onnxruntime", "bias_correction": "fast"}, "onnxruntime's quantizer"),
        (
            {"quantizer": "onnxruntime", "bias_correction": "none", "range_estimator": "histogram"},
            "onnxruntime's quantizer",
        ),
        ({"smooth_quant": 1.5}, "strength of 1.5"),
    ],
)
def test_what_does_not_go_together(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(RecordError, match=said):
        QuantRecipe(**{"name": "test", "scheme": "u8s8", **fields})


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("tf_efficientnet_lite0", "efficientnet_lite"),
        ("efficientnet_lite2.in1k", "efficientnet_lite"),
        ("mobilenetv3_large_100", "mobilenetv3"),
        ("convnext_small.fb_in22k", "convnext"),
        ("vit_small_patch14_dinov2", "vit"),
        ("swin_tiny_patch4_window7_224", "vit"),
        ("resnet18", "other"),
        ("efficientnet_b0", "other"),
    ],
)
def test_families_by_name(name: str, family: str) -> None:
    assert family_of(name) == family


@pytest.mark.parametrize(
    ("operators", "family"),
    [
        ("Conv HardSwish Relu HardSigmoid Mul Add", "mobilenetv3"),
        ("Conv LayerNormalization Gelu MatMul Add", "convnext"),
        ("Conv Relu Add", "other"),
        ("Conv Sigmoid Mul Add", "other"),
        ("MatMul Relu", "other"),
        # Two families in one graph.
        ("Conv LayerNormalization Gelu HardSwish Relu", "other"),
    ],
)
def test_families_by_operators(operators: str, family: str) -> None:
    nodes = [onnx.helper.make_node(operator, [], []) for operator in operators.split()]
    assert family_of(onnx.helper.make_model(onnx.helper.make_graph(nodes, "graph", [], []))) == family


def test_families_by_graph() -> None:
    assert family_of(load(tiny("plain"))) == "efficientnet_lite"
    assert family_of(load(tiny("transformer"))) == "vit"
