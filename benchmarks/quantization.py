"""What each part of an INT8 recipe brings: one part changed at a time, each graph judged as the rank gate judges it.

python benchmarks/quantization.py CHECKPOINT [--target onnx] [--calibration-count 256] [--images DIR --data CSV]

CHECKPOINT is a run's, or a folder with its own --calibration and --images. Photographs are those of `edgeiqa export`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from edgeiqa.export.convert import ConversionOptions, recipe_for
from edgeiqa.export.kinds import Kind
from edgeiqa.export.pack import golden_photographs
from edgeiqa.export.quant_recipe import QuantRecipe
from edgeiqa.runtime.errors import EdgeIQAError
from edgeiqa.runtime.manifest import Mean, ScoreScale
from edgeiqa.tools.export_artefacts import RankLimits, calibrate, make_artefacts
from edgeiqa.tools.export_photographs import find_export_photographs
from edgeiqa.tools.export_scorers import FloatBundle, float_graphs, open_scorer
from edgeiqa.tools.packing import find_checkpoints, float_model, load_trained

PLAIN_ORT: dict[str, Any] = {"quantizer": "onnxruntime", "bias_correction": "none", "smooth_quant": None}


def recipes(base: QuantRecipe) -> Iterator[tuple[str, QuantRecipe]]:
    """The default, and what differs from it in one part; what a scheme does not allow is left out."""
    changes: dict[str, dict[str, Any]] = {
        "default": {},
        "minmax": {"range_estimator": "minmax"},
        "mean_minmax": {"range_estimator": "mean_minmax"},
        "histogram": {"range_estimator": "histogram"},
        "no bias correction": {"bias_correction": "none"},
        "fast bias correction": {"bias_correction": "fast"},
        "full bias correction": {"bias_correction": "full"},
        "symmetric": {"activations": "symmetric"},
        "7-bit weights": {"weight_bits": 7},
        "float Add": {"float_operators": (*base.float_operators, "Add")},
        "no SmoothQuant": {"smooth_quant": None},
        "onnxruntime, minmax": {**PLAIN_ORT, "range_estimator": "minmax"},
        "onnxruntime, mean_minmax": {**PLAIN_ORT, "range_estimator": "mean_minmax"},
    }
    for name, change in changes.items():
        try:
            recipe = msgspec.structs.replace(base, name=name, **change)
        except EdgeIQAError:
            continue
        if name == "default" or msgspec.structs.replace(recipe, name=base.name) != base:
            yield name, recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--target", choices=("onnx", "openvino", "tensorrt"), default="onnx")
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--calibration-count", type=int, default=256)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--only", nargs="*", help="Names of recipes.")
    arguments = parser.parse_args()
    folders = find_checkpoints(arguments.checkpoint)
    members = tuple(float_model(member) for member in load_trained(folders))
    low, high = members[0].score_map.low, members[0].score_map.high
    floats = FloatBundle(
        members=members, combine=Mean(), scale=ScoreScale(low=low, high=high), golden=golden_photographs()
    )
    photographs = find_export_photographs(
        folders,
        calibration=arguments.calibration,
        images=arguments.images,
        data=arguments.data,
        split=arguments.split,
        most=arguments.calibration_count,
        seed=0,
    )
    kind = Kind(arguments.target, "int8")
    limits = RankLimits(least_srcc=-1.0, max_srcc_drop=2.0)
    with open_scorer(floats, float_graphs(floats)) as reference:
        calibration = calibrate(reference, photographs, count=arguments.calibration_count)
        options = ConversionOptions(threads=reference.threads)
        print("recipe | SRCC to FP32 | SRCC lost | largest change | p99 | swapped | MB | s")
        for name, recipe in recipes(recipe_for(members[0], kind, options)):
            if arguments.only and name not in arguments.only:
                continue
            ((_, report),) = make_artefacts(
                floats,
                [kind],
                photographs,
                calibration,
                reference=reference,
                options=replace(options, recipe=recipe),
                limits=limits,
                go_on=True,
            )
            rank = report.rank
            if rank is None or rank.srcc is None:
                print(f"{name} | {report.reason}", flush=True)
                continue
            lost = "" if rank.srcc_drop is None else f"{rank.srcc_drop.value:+.4f}"
            print(
                f"{name} | {rank.srcc:.4f} | {lost} | {rank.largest_change:.2f} | {rank.p99_change:.2f} | "
                f"{rank.swapped_share:.2%} | {report.size_bytes / 1e6:.2f} | {report.seconds:.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
