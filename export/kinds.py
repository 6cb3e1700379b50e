"""What a network can be exported to: each target's precisions, and why others are not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from ..runtime.errors import UsageError
from ..runtime.manifest import Precision, Target

__all__ = ["LACKING", "PRECISIONS", "USUAL_PRECISION", "Kind", "kinds_of"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A form of a graph, and the precision of its arithmetic."""

    target: Target
    precision: Precision

    def __str__(self) -> str:
        return f"{self.target} {self.precision}"


PRECISIONS: dict[Target, tuple[Precision, ...]] = {
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "bf16", "fp16", "int8"),
    "tensorrt": ("fp32", "fp16", "int8"),
}
"""By target, the precisions that can be made for it."""

LACKING: dict[Kind, str] = {
    Kind("onnx", "bf16"): "onnxruntime's CPU provider has no convolution and no matrix product in bf16",
    Kind("tensorrt", "bf16"): "convolutions in bf16 need ONNX opset 22, which TensorRT 10.3 does not read, and nothing "
    "but TensorRT runs such a graph, so that it could not be gated here",
}
"""Why others cannot."""

USUAL_PRECISION: dict[Target, Precision] = {"onnx": "fp32", "openvino": "fp32", "tensorrt": "fp16"}
"""By target, what is made where the call names no precision."""


def kinds_of(targets: Sequence[Target], precisions: Sequence[Precision]) -> tuple[Kind, ...]:
    """Every target in every precision; without precisions, each target in its usual one. Each once, targets first.

    Raises:
        UsageError: a target has no such precision.
    """
    if not precisions:
        return tuple(dict.fromkeys(Kind(target, USUAL_PRECISION[target]) for target in targets))
    kinds = tuple(dict.fromkeys(Kind(*pair) for pair in product(targets, precisions)))
    for kind in kinds:
        if kind in LACKING:
            raise UsageError(
                f"{kind}: {LACKING[kind]}",
                expected=f"{', '.join(PRECISIONS[kind.target])} for {kind.target}",
                mend="choose another --precision, or for bf16 --target openvino",
            )
    return kinds
