"""A recipe in nncf's terms."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import MissingExtraError

if TYPE_CHECKING:
    from .activation_ranges import Views
    from .quant_recipe import QuantRecipe

__all__ = ["MOST_IMAGES", "Batched", "images_for_ranges", "nncf_settings", "quiet_nncf"]

MOST_IMAGES = 300
"""That nncf is given: its full bias correction holds the activations of a fifth of them, of one layer at a time."""


def images_for_ranges(recipe: QuantRecipe, images: int) -> int:
    """How many of so many calibration images set a graph's ranges: with nncf at most `MOST_IMAGES`, else all."""
    return min(images, MOST_IMAGES) if recipe.quantizer == "nncf" else images


class Batched:
    """Calibration images with a batch dimension, to be gone through again and again.

    Args:
        images: to take from.
        most: how many are taken, spread evenly over them all; None for all.
    """

    def __init__(self, images: Collection[Views], most: int | None = None) -> None:
        self._images = images
        count = len(images)
        self._taken = min(count, most or count)
        self._places = {index * count // self._taken for index in range(self._taken)}

    def __len__(self) -> int:
        return self._taken

    def __iter__(self) -> Iterator[dict[str, NDArray[np.uint8]]]:
        for place, views in enumerate(self._images):
            if place in self._places:
                yield {name: view[None] for name, view in views.items()}


@contextlib.contextmanager
def quiet_nncf() -> Iterator[Any]:
    """The library, its notices and progress bars turned off and nothing sent to its makers.

    Raises:
        MissingExtraError: it is not installed.
    """
    # nncf and OpenVINO's converter report their use to their makers but where these are set.
    silence = mock.patch.dict(os.environ, {"NNCF_CI": "1", "CI": "true"})
    try:
        with silence:
            import nncf
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"no {error.name}", expected="nncf", mend='pip install "edgeiqa[export]"') from None
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with silence, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield nncf
    finally:
        logger.setLevel(level)


def nncf_settings(recipe: QuantRecipe, images: int, kept: tuple[str, ...]) -> dict[str, Any]:
    """Arguments of ``nncf.quantize`` behind the model and the calibration images.

    Args:
        recipe: of nncf.
        images: how many calibration images there are.
        kept: names of the nodes that stay float.
    """
    import nncf
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        AdvancedSmoothQuantParameters,
        OverflowFix,
        QuantizationParameters,
    )
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    advanced = AdvancedQuantizationParameters(
        overflow_fix=OverflowFix.ENABLE if recipe.weight_bits == 7 else OverflowFix.DISABLE,
        disable_bias_correction=recipe.bias_correction == "none",
        activations_range_estimator_params=getattr(RangeEstimatorParametersSet, recipe.range_estimator.upper()),
        smooth_quant_alphas=AdvancedSmoothQuantParameters(
            convolution=-1, matmul=-1 if recipe.smooth_quant is None else recipe.smooth_quant
        ),
        # nncf gives the inputs of depthwise convolutions a scale a channel. onnxruntime's convolution refuses that, and
        # in OpenVINO it cut an EfficientNet-Lite's agreement with its own FP32 from .998 to .970.
        activations_quantization_params=QuantizationParameters(per_channel=False),
        weights_quantization_params=QuantizationParameters(per_channel=True),
    )
    return {
        "preset": nncf.QuantizationPreset.MIXED
        if recipe.activations == "asymmetric"
        else nncf.QuantizationPreset.PERFORMANCE,
        "subset_size": images,
        "fast_bias_correction": recipe.bias_correction != "full",
        "model_type": nncf.ModelType.TRANSFORMER if recipe.smooth_quant is not None else None,
        "ignored_scope": nncf.IgnoredScope(names=list(kept), validate=False) if kept else None,
        "advanced_parameters": advanced,
    }
