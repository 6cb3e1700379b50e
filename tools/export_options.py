"""What decides an export besides what is exported: the recipe of INT8, the gate's limits, where engines are kept."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..export.convert import ConversionOptions
from ..export.quant_recipe import RECIPES, QuantRecipe
from ..export.tensorrt_library import parse_capabilities
from ..profiles.rank import LEAST_SRCC, MAX_SRCC_DROP
from ..runtime.errors import UsageError
from .export_artefacts import RankLimits

__all__ = ["conversion_options", "parse_recipe", "rank_limits"]

ENGINE_CACHE = "tensorrt-engines"


def conversion_options(recipe: str | None, cpu: str, capabilities: str | None, runs: Path) -> ConversionOptions:
    """From flags; engines are kept in a folder of ``runs``.

    Raises:
        UsageError: there is no such recipe, or a compute capability is none.
    """
    return ConversionOptions(
        recipe=None if recipe is None else parse_recipe(recipe),
        onnx_target="onnx-arm" if cpu == "arm" else "onnx",
        capabilities=() if capabilities is None else parse_capabilities(capabilities),
        engine_cache=runs / ENGINE_CACHE,
    )


def parse_recipe(text: str) -> QuantRecipe:
    """A recipe by name, or the JSON file of one.

    Raises:
        UsageError: it is neither.
    """
    if text in RECIPES:
        return RECIPES[text]
    path = Path(text)
    if not path.is_file():
        raise UsageError(
            f"--recipe {text}", expected=f"a JSON file, or one of {', '.join(RECIPES)}", mend="name one of these"
        )
    try:
        return msgspec.json.decode(path.read_bytes(), type=QuantRecipe)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} ({error})", expected="a recipe, as edgeiqa quantize writes it", mend="correct the file"
        ) from error


def rank_limits(least_srcc: float | None, max_srcc_drop: float | None, max_change: float | None) -> RankLimits:
    """Of the gate; None for the usual ones."""
    return RankLimits(
        least_srcc=LEAST_SRCC if least_srcc is None else least_srcc,
        max_srcc_drop=MAX_SRCC_DROP if max_srcc_drop is None else max_srcc_drop,
        max_change=max_change,
    )
