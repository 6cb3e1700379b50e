"""How a graph is quantized, as data; and which recipe each family of backbones gets for each target."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ..runtime.errors import UsageError, require_field
from ..runtime.manifest import INT8_ON_ARM, INT8_ON_VNNI, INT8_ON_X86

if TYPE_CHECKING:
    import onnx

__all__ = ["RECIPES", "Family", "QuantRecipe", "QuantTarget", "default_recipe", "family_of", "require_scheme"]

Scheme = Literal["openvino", "u8s8", "s8s8", "tensorrt"]
QuantTarget = Literal["onnx", "onnx-arm", "openvino", "tensorrt"]
Family = Literal["efficientnet_lite", "mobilenetv3", "convnext", "vit", "other"]

_ON_X86: tuple[Scheme, ...] = ("u8s8", "openvino")


class QuantRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a graph is quantized.

    Attributes:
        name: of the recipe.
        scheme: whose rules the quantized graph keeps. ``openvino``: OpenVINO's own form. ``u8s8``: onnxruntime on x86,
            activations uint8 per tensor, weights int8 per output channel. ``s8s8``: onnxruntime on Arm, activations
            int8 per tensor. ``tensorrt``: as s8s8 with zero points of 0, no operator that TensorRT wants float, no
            quantized bias, residual sums with one quantized branch.
        quantizer: the library that does it: ``nncf``, or ``onnxruntime`` (not for the scheme openvino).
        range_estimator: of the activations' ranges over the calibration images: ``minmax``, the extremes of all;
            ``mean_minmax``, the mean over images of each one's extremes; ``histogram``, the range of the least
            quantization error (nncf only).
        activations: ``symmetric`` about zero, or ``asymmetric``, with a zero point (not for tensorrt).
        bias_correction: of the shift that quantized weights give a layer's outputs: ``none``, ``fast`` (by each
            layer's mean), ``full`` (layer by layer through the part already quantized); none with onnxruntime.
        weight_bits: 8, or 7 (u8s8 and openvino) for x86 CPUs without VNNI, whose sums of pairs of products saturate at
            16 bits.
        float_operators: names of ONNX operators that stay float.
        float_gates: squeeze-excite stays float: all from the pooling to the multiplication.
        float_blocks: names of blocks that stay float, as `quant_blocks.blocks_of` names them.
        smooth_quant: strength from 0 to 1 with which transformers' outlying channels are moved from the activations
            into the weights (G. Xiao et al., "SmoothQuant", ICML 2023, equation 4); None: not at all. nncf only.
    """

    name: str
    scheme: Scheme
    quantizer: Literal["nncf", "onnxruntime"] = "nncf"
    range_estimator: Literal["minmax", "mean_minmax", "histogram"] = "mean_minmax"
    activations: Literal["symmetric", "asymmetric"] = "symmetric"
    bias_correction: Literal["none", "fast", "full"] = "fast"
    weight_bits: Literal[8, 7] = 8
    float_operators: tuple[str, ...] = ()
    float_gates: bool = False
    float_blocks: tuple[str, ...] = ()
    smooth_quant: float | None = None

    def __post_init__(self) -> None:
        require_field(bool(self.name), "a recipe without a name", "a name")
        if self.quantizer == "onnxruntime":
            plain = self.bias_correction == "none" and self.smooth_quant is None and self.range_estimator != "histogram"
            require_field(
                plain and self.scheme != "openvino",
                f"recipe {self.name!r} of onnxruntime's quantizer with bias correction, SmoothQuant, histograms or the "
                "scheme openvino",
                "one without them",
                "use nncf, or leave them out",
            )
        if self.scheme == "tensorrt":
            require_field(self.activations == "symmetric", "asymmetric activations with tensorrt", "symmetric ones")
        if self.weight_bits == 7:
            names = " and ".join(_ON_X86)
            require_field(self.scheme in _ON_X86, f"7-bit weights with {self.scheme}", f"them only with {names}")
        if self.smooth_quant is not None:
            require_field(
                0 <= self.smooth_quant <= 1, f"a SmoothQuant strength of {self.smooth_quant}", "one from 0 to 1"
            )

    @property
    def processor(self) -> str:
        """Which processors its graphs are made for, as `Artefact.capability` has it; empty of those for a GPU."""
        if self.scheme == "tensorrt":
            return ""
        if self.scheme == "s8s8":
            return INT8_ON_ARM
        return INT8_ON_VNNI if self.weight_bits == 8 else INT8_ON_X86


# By measurement on photographs: full correction and histograms moved the scores of EfficientNet-Lite least.
_LITE = {"bias_correction": "full", "range_estimator": "histogram"}
# NNCF's own figures for MobileNetV3 on ImageNet: 57.9 top-1 in FP32, 42.2 with fast bias correction, 56.7 with these.
_MOBILE = {**_LITE, "float_operators": ("HardSwish", "HardSigmoid"), "float_gates": True}
_CONVNEXT = {
    "bias_correction": "fast",
    "range_estimator": "histogram",
    "float_operators": ("LayerNormalization", "Gelu"),
}
_VIT = {
    "bias_correction": "fast",
    "range_estimator": "mean_minmax",
    "float_operators": ("LayerNormalization", "Gelu", "Softmax"),
    "smooth_quant": 0.95,
}
_OTHER = {
    **_LITE,
    "float_operators": ("LayerNormalization", "Gelu", "Softmax", "HardSwish", "HardSigmoid"),
    "float_gates": True,
}
_FAMILIES: dict[Family, dict[str, Any]] = {
    "efficientnet_lite": _LITE,
    "mobilenetv3": _MOBILE,
    "convnext": _CONVNEXT,
    "vit": _VIT,
    "other": _OTHER,
}
_SCHEMES: dict[QuantTarget, dict[str, Any]] = {
    "onnx": {"scheme": "u8s8", "activations": "asymmetric"},
    "onnx-arm": {"scheme": "s8s8", "activations": "asymmetric"},
    "openvino": {"scheme": "openvino", "activations": "asymmetric"},
    # Ranges that begin at zero lose half their steps there, and histograms that were fitted to the other half.
    "tensorrt": {"scheme": "tensorrt", "activations": "symmetric", "range_estimator": "mean_minmax"},
}

_CALLS: dict[QuantTarget, str] = {
    "onnx": "--target onnx --cpu x86",
    "onnx-arm": "--target onnx --cpu arm",
    "openvino": "--target openvino",
    "tensorrt": "--target tensorrt",
}

_EIGHT_BITS = {
    f"{family}-{target}": QuantRecipe(name=f"{family}-{target}", **{**of_family, **of_target})
    for family, of_family in _FAMILIES.items()
    for target, of_target in _SCHEMES.items()
}

RECIPES: dict[str, QuantRecipe] = _EIGHT_BITS | {
    f"{name}-7bit": msgspec.structs.replace(recipe, name=f"{name}-7bit", weight_bits=7)
    for name, recipe in _EIGHT_BITS.items()
    if recipe.scheme in _ON_X86
}
"""By ``<family>-<target>``; with 7-bit weights by ``<family>-onnx-7bit`` and ``<family>-openvino-7bit``."""


def default_recipe(family: Family, target: QuantTarget) -> QuantRecipe:
    """The recipe of a family of backbones for a target: ``onnx`` is onnxruntime on x86, ``onnx-arm`` on Arm.

    Raises:
        UsageError: there is no such family or target.
    """
    name = f"{family}-{target}"
    if name not in RECIPES:
        raise UsageError(
            f"no INT8 recipe for {family} on {target}", expected=f"one of {', '.join(RECIPES)}", mend="name a recipe"
        )
    return RECIPES[name]


def require_scheme(recipe: QuantRecipe, target: QuantTarget) -> None:
    """Refuse a recipe whose graphs the target's engine would not take, or would take and compute slowly or wrongly.

    Raises:
        UsageError: its scheme is another target's.
    """
    wanted = _SCHEMES[target]["scheme"]
    if recipe.scheme != wanted:
        others = [_CALLS[other] for other, fields in _SCHEMES.items() if fields["scheme"] == recipe.scheme]
        raise UsageError(
            f"recipe {recipe.name!r} of the scheme {recipe.scheme} for {_CALLS[target]}",
            expected=f"one of the scheme {wanted}",
            mend=f"leave --recipe out, name one that ends in -{target}, or export with {' or '.join(others)}",
        )


def family_of(backbone: str | onnx.ModelProto) -> Family:
    """The family of a backbone, by its name in timm, or by the operators of its graph.

    A graph of several families is ``other``, as is whatever is none of the rest.
    """
    if isinstance(backbone, str):
        return next((family for pattern, family in _NAMES if re.match(pattern, backbone)), "other")
    operators = {node.op_type for node in backbone.graph.node}
    # Sums, products and poolings are in all of them, a GELU may be the head's; these tell them apart.
    marks = operators & {"LayerNormalization", "Softmax", "HardSwish", "Sigmoid", "Clip", "Relu"}
    if "Conv" not in operators:
        return "other"
    return _MARKS.get(frozenset(marks), "other")


_NAMES: tuple[tuple[str, Family], ...] = (
    (r"(tf_)?efficientnet_lite", "efficientnet_lite"),
    (r"(tf_)?mobilenetv3", "mobilenetv3"),
    (r"convnext", "convnext"),
    (r"(vit|deit3?|beit|swin|eva)", "vit"),
)
_MARKS: dict[frozenset[str], Family] = {
    frozenset({"Clip"}): "efficientnet_lite",
    frozenset({"HardSwish", "Relu"}): "mobilenetv3",
    frozenset({"LayerNormalization"}): "convnext",
    frozenset({"LayerNormalization", "Softmax"}): "vit",
}
