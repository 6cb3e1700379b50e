"""``edgeiqa evaluate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray

from ..compress.data.dataset import Comparable, Dataset, read_csv, select
from ..profiles.metrics import Accuracy, Interval, SceneAccuracy, paired_difference, per_scene
from ..profiles.metrics import evaluate as judge
from ..runtime.bundle import Bundle
from ..runtime.errors import DataError
from ..runtime.scorer import Scorer, busy_streams, default_bundle
from .options import PathArgument, dataset_options, engine_options, json_option, require_libraries
from .show import print_json, print_table, say, with_progress

if TYPE_CHECKING:
    from ..runtime.manifest import ScoreScale

__all__ = ["evaluate"]


@click.command()
@click.argument("bundles", nargs=-1, type=PathArgument, metavar="[BUNDLE]...")
@dataset_options
@click.option(
    "--comparable",
    type=click.Choice(["global", "scene"]),
    default="global",
    show_default=True,
    help="Whether any two MOS compare, or only those of one scene.",
)
@click.option("--resamples", type=click.IntRange(min=100), default=1000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the bootstrap.")
@engine_options
@json_option
def evaluate(
    bundles: tuple[Path, ...],
    data: Path,
    images: Path | None,
    split: str | None,
    score_range: tuple[float, float],
    comparable: Comparable,
    resamples: int,
    seed: int,
    engine: str | None,
    precision: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Judge bundles against human scores: SRCC, PLCC, KRCC, MAE, RMSE with 95 % bootstrap intervals.

    Several bundles stand side by side, with each one's paired difference to the first. No BUNDLE: the default one. MAE
    and RMSE are on the bundle's scale, to which the opinions are mapped. Photographs that cannot be read are left out
    and counted as failed, and the exit status is 1.
    """
    require_libraries(("scipy",), "evaluate")
    dataset = read_csv(data, images or data.parent, score_range=score_range, comparable=comparable)
    if split is not None:
        dataset = select(dataset, split=split)
    opened = [Bundle.open(path) for path in bundles] or [default_bundle()]
    first: NDArray[np.float64] | None = None
    rows = []
    failed = 0
    for bundle in opened:
        if bundle.manifest.scale.comparable == "scene" and comparable == "global":
            raise DataError(
                f"{bundle.path}, whose scores compare only inside a scene",
                expected="--comparable scene, and a column scene",
                mend="give --comparable scene",
            )
        scorer = Scorer(bundle, engine=engine, precision=precision, threads=threads, streams=busy_streams(threads))
        predictions = _predictions(scorer, dataset)
        read = np.isfinite(predictions)
        failed = max(failed, int((~read).sum()))
        mos = _on_scale(dataset, bundle.manifest.scale)
        accuracy = _judge(predictions, mos, read, dataset, resamples, seed)
        difference = None
        if first is not None and comparable == "global":
            both = read & np.isfinite(first)
            difference = paired_difference(predictions[both], first[both], mos[both], resamples=resamples, seed=seed)
        first = predictions if first is None else first
        if as_json:
            print_json(_json_object(bundle, scorer, accuracy, difference))
        else:
            rows.append(_row(bundle, accuracy, difference))
    if not as_json:
        title = f"{len(dataset.photos)} photographs of {data}{f', split {split}' if split else ''}"
        columns = ["bundle", "n", "failed", "SRCC", "PLCC", "KRCC", "MAE", "RMSE", "SRCC - first"]
        print_table(columns, rows, title=title)
    if failed:
        say(f"{failed} of {len(dataset.photos)} photographs could not be read")
        sys.exit(1)


def _predictions(scorer: Scorer, dataset: Dataset) -> NDArray[np.float64]:
    """Scores of all photographs, NaN where one cannot be read (which is said)."""
    paths = [photo.path for photo in dataset.photos]
    predictions = np.full(len(paths), np.nan)
    scores = with_progress(scorer.score_many(paths), len(paths), f"scoring by {scorer.bundle.manifest.name}")
    for row, score in enumerate(scores):
        if score.value is None:
            say(f"left out: {score.error}")
        else:
            predictions[row] = score.value
    return predictions


def _on_scale(dataset: Dataset, scale: ScoreScale) -> NDArray[np.float64]:
    return scale.low + (scale.high - scale.low) * dataset.unit_mos


def _judge(
    predictions: NDArray[np.float64],
    mos: NDArray[np.float64],
    read: NDArray[np.bool_],
    dataset: Dataset,
    resamples: int,
    seed: int,
) -> Accuracy | SceneAccuracy:
    failed = int((~read).sum())
    if not read.any():
        raise DataError(f"{failed} photographs, none readable", expected="photographs", mend="check --images")
    if dataset.comparable == "global":
        return judge(predictions[read], mos[read], failed=failed, resamples=resamples, seed=seed)
    scenes = [str(photo.scene) for photo, here in zip(dataset.photos, read, strict=True) if here]
    return per_scene(predictions[read], mos[read], scenes, failed=failed, resamples=resamples, seed=seed)


def _figures(accuracy: Accuracy | SceneAccuracy) -> dict[str, Interval | None]:
    names = ("srcc", "plcc", "krcc", "mae", "rmse")
    return {name: getattr(accuracy, name, None) for name in names}


def _json_object(
    bundle: Bundle, scorer: Scorer, accuracy: Accuracy | SceneAccuracy, difference: Interval | None
) -> dict[str, object]:
    figures = _figures(accuracy)
    return {
        "bundle": bundle.manifest.name,
        "path": str(bundle.path),
        "engine": scorer.engine,
        "precision": scorer.precision,
        "n": accuracy.n,
        **{name: None if figure is None else figure.value for name, figure in figures.items()},
        "failed": accuracy.failed,
        "intervals": {name: None if f is None else [f.low, f.high] for name, f in figures.items()},
        "srcc_minus_first": difference,
    }


def _row(bundle: Bundle, accuracy: Accuracy | SceneAccuracy, difference: Interval | None) -> list[str]:
    cells = []
    for name, figure in _figures(accuracy).items():
        digits = 2 if name in ("mae", "rmse") else 3
        cells.append("-" if figure is None else _written(figure, digits))
    return [
        bundle.manifest.name,
        str(accuracy.n),
        str(accuracy.failed),
        *cells,
        "" if difference is None else _written(difference, 3, sign="+"),
    ]


def _written(figure: Interval, digits: int, sign: str = "") -> str:
    return f"{figure.value:{sign}.{digits}f} [{figure.low:{sign}.{digits}f}, {figure.high:{sign}.{digits}f}]"
