"""``edgeiqa calibrate``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from ..compress.data.dataset import Dataset, read_csv, select
from ..compress.data.splits import split_folds
from ..export.pack import ANSWER_ENGINE, TARGET_ENGINE, refit, with_only
from ..profiles.fit_score_map import fit_isotonic, fit_logistic4, fit_minmax, fit_sigmoid
from ..profiles.metrics import mae, plcc, rmse, srcc
from ..runtime.bundle import Bundle, refuse_existing
from ..runtime.errors import DataError
from ..runtime.manifest import Artefact, Manifest
from ..runtime.score_map import ScoreMap
from ..runtime.scorer import Scorer, combine_raw
from .options import PathArgument, dataset_options, json_option, require_libraries, require_name
from .show import print_json, print_table, with_progress

__all__ = ["calibrate"]

_FOLDS = 5
_LEAST_PHOTOS = 3 * _FOLDS


def _fit_extremes(
    raw: NDArray[np.float64], _mos: NDArray[np.float64], low: float, high: float, *, fitted_on: str
) -> ScoreMap:
    return fit_minmax(raw, low, high, fitted_on=fitted_on)


_FITS: dict[str, Callable[..., ScoreMap]] = {
    "sigmoid": fit_sigmoid,
    "logistic": fit_logistic4,
    "isotonic": fit_isotonic,
    "minmax": _fit_extremes,
}


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the bundle's graphs as all members have it, and its raw scores of every photograph."""

    engine: str
    precision: str
    artefacts: dict[str, Artefact]
    raw: dict[str, NDArray[np.float64]]


@click.command()
@click.argument("bundle", type=PathArgument)
@dataset_options
@click.option(
    "--map", "map_name", type=click.Choice(list(_FITS)), default="sigmoid", show_default=True, help="Curve to fit."
)
@click.option("-o", "--output", type=PathArgument, help="NAME.eiqa. [default: BUNDLE-calibrated.eiqa here]")
@click.option("--overwrite", is_flag=True, help="Replace the output.")
@json_option
def calibrate(
    bundle: Path,
    data: Path,
    images: Path | None,
    split: str | None,
    score_range: tuple[float, float],
    map_name: str,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Fit the score maps of BUNDLE to your own scale, and show the errors before and after.

    The scale of the output is --score-range. The figures after are cross-fitted: each photograph is judged by maps that
    were fitted on the other four fifths. No map ever falls, so no ranking of a single network is inverted; isotonic
    gives some photographs the same score.
    """
    require_libraries(("scipy",), "evaluate")
    output = output or Path(f"{bundle.stem}-calibrated.eiqa")
    require_name(output)
    refuse_existing(output, overwrite=overwrite)
    opened = Bundle.open(bundle)
    if opened.manifest.scale.comparable == "scene":
        raise DataError(
            f"{bundle}, whose scores compare only inside a scene",
            expected="scores that compare anywhere",
            mend="use it as it is",
        )
    dataset = read_csv(data, images or data.parent, score_range=score_range)
    if split is not None:
        dataset = select(dataset, split=split)
    if len(dataset.photos) < _LEAST_PHOTOS:
        raise DataError(
            f"{len(dataset.photos)} photographs with opinions",
            expected=f"at least {_LEAST_PHOTOS}: fewer do not settle a curve, nor show what it gains",
            mend="give more photographs",
        )
    kinds = [_raw_scores(opened, place, dataset) for place in range(len(opened.manifest.members[0].artefacts))]
    fitted_on = f"{len(dataset.photos)} photographs of {data.name}{f', split {split}' if split else ''}"
    maps = {
        (place, name): _fit(map_name, raw, dataset.mos, score_range, fitted_on)
        for place, kind in enumerate(kinds)
        for name, raw in kind.raw.items()
    }
    manifest = opened.manifest
    usual = next(kind for kind in kinds if (kind.engine, kind.precision) == (manifest.engine, manifest.precision))
    before, after = _figures(manifest, usual, dataset, map_name, score_range)
    note = f"score maps ({map_name}) fitted by edgeiqa calibrate on {fitted_on}"
    low, high = score_range
    written = refit(output, opened, maps, low=low, high=high, name=output.stem, note=note, overwrite=overwrite)
    if as_json:
        print_json(
            {"bundle": str(output), "size_bytes": written.size_bytes, "before": before, "after_cross_fitted": after}
        )
        return
    rows = [
        [when, *(f"{value:.3f}" for value in figures.values())]
        for when, figures in (("before", before), ("after, cross-fitted", after))
    ]
    print_table(
        ["score maps", *(name.upper() for name in before)], rows, title=f"{opened.manifest.name} on {fitted_on}"
    )
    click.echo(output)


def _raw_scores(bundle: Bundle, place: int, dataset: Dataset) -> _Kind:
    """Of the members' artefacts at a place, by what answers for their target here."""
    alone = with_only(bundle, place)
    artefact = alone.manifest.members[0].artefacts[0]
    scorer = Scorer(alone, engine=ANSWER_ENGINE[artefact.target], precision=artefact.precision)
    raw: dict[str, list[float]] = {name: [] for name in scorer.artefacts}
    paths = [photo.path for photo in dataset.photos]
    what = f"scoring by {scorer.engine} in {scorer.precision}"
    for path in with_progress(paths, len(paths), what):
        for name, value in scorer.raw(path).items():
            raw[name].append(value)
    engine = TARGET_ENGINE[artefact.target]
    return _Kind(engine, scorer.precision, scorer.artefacts, {name: np.array(values) for name, values in raw.items()})


def _fit(
    map_name: str,
    raw: NDArray[np.float64],
    mos: NDArray[np.float64],
    score_range: tuple[float, float],
    fitted_on: str,
) -> ScoreMap:
    return _FITS[map_name](raw, mos, *score_range, fitted_on=fitted_on)


def _figures(
    manifest: Manifest, kind: _Kind, dataset: Dataset, map_name: str, score_range: tuple[float, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """Errors of the combined score as the bundle is, and with maps fitted on the other folds."""
    everything = np.arange(len(dataset.photos))
    old = {name: artefact.score_map for name, artefact in kind.artefacts.items()}
    before = _combined(manifest, kind, old, everything)
    low, high = score_range
    scale = manifest.scale
    # The old scale is carried to the new one by its ends, so that the errors are in the same unit.
    before = low + (high - low) * (before - scale.low) / (scale.high - scale.low)
    after = np.empty(len(everything))
    for fold in split_folds(dataset, _FOLDS, selection_fraction=0.0).folds:
        rows = np.array(fold)
        others = np.setdiff1d(everything, rows)
        maps = {
            name: _fit(map_name, raw[others], dataset.mos[others], score_range, "") for name, raw in kind.raw.items()
        }
        after[rows] = _combined(manifest, kind, maps, rows)
    return _errors(before, dataset.mos), _errors(after, dataset.mos)


def _combined(
    manifest: Manifest, kind: _Kind, maps: Mapping[str, ScoreMap], rows: NDArray[np.intp]
) -> NDArray[np.float64]:
    artefacts = {
        name: msgspec.structs.replace(artefact, score_map=maps[name]) for name, artefact in kind.artefacts.items()
    }
    return np.array(
        [combine_raw(manifest, artefacts, {name: raw[row] for name, raw in kind.raw.items()})[0] for row in rows]
    )


def _errors(scores: NDArray[np.float64], mos: NDArray[np.float64]) -> dict[str, float]:
    return {metric.__name__: metric(scores, mos) for metric in (srcc, plcc, mae, rmse)}
