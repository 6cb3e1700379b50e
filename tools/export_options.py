"""What decides an export besides what is exported: the recipe of INT8, the gate's limits, where engines are kept."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..export.convert import ConversionOptions
from ..export.quant_recipe import RECIPES, QuantRecipe
from ..export.tensorrt_library import find_library, parse_capabilities
from ..profiles.rank import LEAST_SRCC, MAX_SRCC_DROP
from ..runtime.decode import open_photo
from ..runtime.errors import PhotoError, UsageError
from ..runtime.preprocess import single_view
from .export_artefacts import RankLimits
from .options import find_photographs
from .show import say

__all__ = ["conversion_options", "parity_photographs", "parse_recipe", "rank_limits"]

ENGINE_CACHE = "tensorrt-engines"
MOST_PARITY = 32
"""Photographs of which the network in torch is asked, too: a large one takes seconds a photograph."""


def conversion_options(recipe: str | None, cpu: str, capabilities: str | None, runs: Path) -> ConversionOptions:
    """From flags; engines are kept in a folder of ``runs``.

    Raises:
        UsageError: there is no such recipe, or a compute capability is none, or none that the library here builds for.
    """
    wanted = () if capabilities is None else parse_capabilities(capabilities)
    if wanted:
        # It is asked again when an engine is built, minutes later.
        find_library(wanted)
    return ConversionOptions(
        recipe=None if recipe is None else parse_recipe(recipe),
        onnx_target="onnx-arm" if cpu == "arm" else "onnx",
        capabilities=wanted,
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


def rank_limits(
    least_srcc: float | None,
    max_srcc_drop: float | None,
    max_change: float | None,
    *,
    max_swapped_share: float | None = None,
    swap_margin: float | None = None,
) -> RankLimits:
    """Of the gate; None for the usual ones."""
    return RankLimits(
        least_srcc=LEAST_SRCC if least_srcc is None else least_srcc,
        max_srcc_drop=MAX_SRCC_DROP if max_srcc_drop is None else max_srcc_drop,
        swap_margin=swap_margin,
        max_swapped_share=max_swapped_share,
        max_change=max_change,
    )


def parity_photographs(images: Path) -> list[Path]:
    """Photographs on which FP32 is compared with the network: `MOST_PARITY` at most, from all over a folder.

    Each is opened once: one that cannot be is found before the networks are exported.

    Raises:
        UsageError: as `find_photographs`.
        PhotoError: one cannot be read; it is named.
    """
    found = find_photographs((images,))
    taken = [found[place * len(found) // MOST_PARITY] for place in range(MOST_PARITY)]
    if len(found) <= MOST_PARITY:
        taken = found
    else:
        say(f"{MOST_PARITY} of the {len(found)} photographs of {images.name} are compared with the network in FP32")
    for path in taken:
        try:
            open_photo(path, single_view(1, 1))
        except PhotoError as error:
            got = error.got if path.name in error.got else f"{path.name}: {error.got}"
            raise PhotoError(got, expected=error.expected, mend=error.mend) from error
    return taken
