"""The linter: what an engine would refuse, compute wrongly or run slowly, told before it is asked.

A rule is a function over the graph; `RULES` says for which targets it holds and how much it weighs there. An *error* is
what the engine refuses, or what is known to spoil scores on it; a *warning* costs speed or exactness, or holds on some
devices only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from ..runtime.errors import ModelError, RecordError
from ..runtime.manifest import Target
from . import lint_rules_graph as graph_rules
from . import lint_rules_quantizers as quantizer_rules
from .lint_graph import Fault, LintGraph
from .lint_read import read_lint_graph

if TYPE_CHECKING:
    import onnx

__all__ = ["RULES", "Finding", "LintReport", "Rule", "Severity", "lint"]

Severity = Literal["error", "warning"]


class Finding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place where a rule is broken.

    Attributes:
        rule: its name in `RULES`.
        severity: for the target.
        node: by name, or a tensor's name; empty for the whole graph.
        got: what is there.
        expected: what the target takes.
        mend: the command or change that mends it.
    """

    rule: str
    severity: Severity
    node: str
    got: str
    expected: str
    mend: str


class LintReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the linter says of a graph.

    Attributes:
        target: for which.
        passed: whether no finding is an error.
        findings: by rule, in the order of `RULES`.

    Raises:
        RecordError: ``passed`` does not follow from the findings.
    """

    target: Target
    passed: bool
    findings: tuple[Finding, ...]

    def __post_init__(self) -> None:
        if self.passed == any(finding.severity == "error" for finding in self.findings):
            raise RecordError(
                f"a lint report with passed = {self.passed} of {len(self.findings)} findings",
                expected="passed where no finding is an error",
                mend="lint the graph again",
            )


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Attributes:
        find: the places that break it, from the graph and the target.
        severity: by target; where a target is not named, the rule does not hold.
    """

    find: Callable[[LintGraph, Target], Iterator[Fault]]
    severity: Mapping[Target, Severity]


_EVERYWHERE: Mapping[Target, Severity] = {"onnx": "error", "openvino": "error", "tensorrt": "error"}
_TENSORRT: Mapping[Target, Severity] = {"tensorrt": "error"}
_MIND: Mapping[Target, Severity] = {"onnx": "warning", "openvino": "warning", "tensorrt": "error"}
_HINT: Mapping[Target, Severity] = {"onnx": "warning", "openvino": "warning", "tensorrt": "warning"}

RULES: Mapping[str, Rule] = {
    "defect": Rule(graph_rules.find_defects, _EVERYWHERE),
    "opset": Rule(graph_rules.find_opset, _EVERYWHERE),
    "other-opset": Rule(graph_rules.find_other_opset, _HINT),
    "ir-version": Rule(graph_rules.find_ir_version, {"onnx": "error", "tensorrt": "error"}),
    "operator": Rule(graph_rules.find_operators, _EVERYWHERE),
    "local-function": Rule(
        graph_rules.find_local_functions, {"onnx": "warning", "openvino": "error", "tensorrt": "warning"}
    ),
    "control-flow": Rule(graph_rules.find_control_flow, _MIND),
    "external-data": Rule(graph_rules.find_external_data, _EVERYWHERE),
    "dynamic-shape": Rule(graph_rules.find_dynamic_shapes, _MIND),
    "float64": Rule(graph_rules.find_doubles, _MIND),
    "element-type": Rule(graph_rules.find_element_types, {"onnx": "error", "tensorrt": "error"}),
    "uint8": Rule(quantizer_rules.find_misplaced_uint8, _TENSORRT),
    "layer-norm-parts": Rule(graph_rules.find_layer_norm_parts, _MIND),
    "gelu-parts": Rule(graph_rules.find_gelu_parts, _MIND),
    "half-variance": Rule(graph_rules.find_half_variances, _EVERYWHERE),
    "half-layer-norm": Rule(graph_rules.find_half_layer_norms, _HINT),
    "zero-point": Rule(quantizer_rules.find_zero_points, _TENSORRT),
    "quantized-type": Rule(quantizer_rules.find_quantized_types, _TENSORRT),
    "scale": Rule(quantizer_rules.find_scales, _EVERYWHERE),
    "computed-scale": Rule(quantizer_rules.find_computed_scales, _TENSORRT),
    "weight-axis": Rule(quantizer_rules.find_weight_axes, _EVERYWHERE),
    "per-channel-activation": Rule(
        quantizer_rules.find_per_channel_activations, {"onnx": "error", "tensorrt": "error"}
    ),
    "quantized-bias": Rule(quantizer_rules.find_quantized_biases, _TENSORRT),
    "lone-quantizer": Rule(quantizer_rules.find_lone_quantizers, _MIND),
    "inner-quantizer": Rule(quantizer_rules.find_inner_quantizers, _TENSORRT),
    "quantized-input": Rule(quantizer_rules.find_quantized_inputs, {"tensorrt": "warning"}),
    "residual-add": Rule(quantizer_rules.find_residual_adds, {"tensorrt": "warning"}),
    "grouped-convolution": Rule(quantizer_rules.find_grouped_convolutions, {"tensorrt": "warning"}),
    "eight-bit-weights": Rule(quantizer_rules.find_eight_bit_weights, {"onnx": "warning"}),
}
"""By name, in the order of the report. docs/lint.md has the reasons and their sources."""


def lint(graph: bytes | onnx.ModelProto, target: Target) -> LintReport:
    """Check a graph against the rules of a target.

    Args:
        graph: an ONNX file's bytes, or the loaded model, which is left as it is.
        target: whose engine is to run it, or to be built from it.

    Returns:
        All findings; it passes where none of them is an error.

    Raises:
        MissingExtraError: onnx is not installed.
        ModelError: not an ONNX graph.
    """
    try:
        findings = tuple(_findings(graph, target))
    except UnicodeDecodeError as error:
        # protobuf reads strings when they are asked for, wherever they stand.
        raise ModelError(
            f"a graph with a name that is no UTF-8 ({error.reason} at byte {error.start})",
            expected="an ONNX graph that computes",
            mend="give a graph that edgeiqa export or torch.onnx.export wrote",
        ) from error
    passed = all(finding.severity != "error" for finding in findings)
    return LintReport(target=target, passed=passed, findings=findings)


def _findings(graph: bytes | onnx.ModelProto, target: Target) -> Iterator[Finding]:
    read = read_lint_graph(graph)
    for name, rule in RULES.items():
        if target in rule.severity:
            for fault in rule.find(read, target):
                yield Finding(
                    rule=name,
                    severity=rule.severity[target],
                    node=fault.node,
                    got=fault.got,
                    expected=fault.expected,
                    mend=fault.mend,
                )
