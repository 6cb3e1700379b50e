"""Options of ``export`` that say nothing of the kinds a call wants: refused, and not passed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import click
from click.core import ParameterSource

from ..export.kinds import Kind
from ..runtime.errors import UsageError

__all__ = ["is_plain", "refuse_unused"]


class _Use(NamedTuple):
    """Parameters, which kinds they are for, and what a call adds to have such a kind."""

    names: tuple[str, ...]
    serves: Callable[[Kind], bool]
    kinds: str
    mend: str


def is_plain(kind: Kind) -> bool:
    """Whether a kind is the network as it is, and so held to parity; graphs for TensorRT are not run here."""
    return kind.precision == "fp32" and kind.target != "tensorrt"


_USES = (
    _Use(
        (
            *("calibration", "calibration_count", "seed", "data", "split", "least_srcc", "max_srcc_drop"),
            *("max_swapped_share", "swap_margin", "max_change"),
        ),
        lambda kind: not is_plain(kind),
        "another precision than fp32, or tensorrt",
        "--precision int8",
    ),
    _Use(("recipe",), lambda kind: kind.precision == "int8", "int8", "--precision int8"),
    _Use(
        ("cpu",),
        lambda kind: (kind.target, kind.precision) == ("onnx", "int8"),
        "onnx int8",
        "--target onnx --precision int8",
    ),
    _Use(("capabilities",), lambda kind: kind.target == "tensorrt", "tensorrt", "--target tensorrt"),
    _Use(("store", "tolerance"), is_plain, "onnx or openvino in fp32", "--target onnx --precision fp32"),
)


def refuse_unused(kinds: Sequence[Kind]) -> None:
    """Refuse options of the call that serve none of its kinds; defaults of ``edgeiqa.toml`` may.

    Raises:
        UsageError: there is one.
    """
    context = click.get_current_context()
    given = {
        option.name: option.opts[-1]
        for option in context.command.params
        if option.name and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    }
    for use in _USES:
        out = [given[name] for name in use.names if name in given]
        if out and not any(use.serves(kind) for kind in kinds):
            raise UsageError(
                f"{', '.join(out)} for {', '.join(map(str, kinds))}",
                expected=f"{'them' if len(out) > 1 else 'it'} with {use.kinds}",
                mend=f"add {use.mend}, or leave {'them' if len(out) > 1 else 'it'} out",
            )
