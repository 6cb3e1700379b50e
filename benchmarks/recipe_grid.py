"""What a run of a grid recipe says: its tables, the curve of M members, and an ablation with paired intervals.

edgeiqa teach --recipe recipes/vcip2025_lite0.toml --data DIR/mos.csv --images DIR/images -o RUN
python benchmarks/recipe_grid.py RUN --data DIR/mos.csv --images DIR/images

Table I is the best set-up of each fold, Table II the figures of each fold's member (out of fold, of one member a
photograph: not the ensemble's). The ablation pairs configurations over the same folds and seeds: pooled out-of-fold
scores, each fifth of a fold mapped by what was fitted on the others. The choice of a checkpoint flatters the fold that
it was made on, so that row is judged by the ensembles of the two on the selection part, as are test-time crops.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from edgeiqa.compress.checkpoint import Checkpoint, load_checkpoint
from edgeiqa.compress.data.dataset import Dataset, read_csv
from edgeiqa.compress.data.items import Item, hash_files
from edgeiqa.compress.data.splits import select_apart
from edgeiqa.compress.data.view_store import open_views
from edgeiqa.compress.judging import predict
from edgeiqa.compress.models.network import QualityNet, build
from edgeiqa.compress.models.test_time import with_test_time
from edgeiqa.compress.models.weights import NoWeights
from edgeiqa.compress.teach import CANDIDATES, MEMBERS, REPORT, divide
from edgeiqa.compress.teach_records import DataRecipe, MemberRecipe, TeachRecipe, TeachReport
from edgeiqa.profiles.cost import count_module
from edgeiqa.profiles.fit_score_map import fit_isotonic, fit_logistic4, fit_minmax, fit_sigmoid
from edgeiqa.profiles.member_choice import choose_members
from edgeiqa.profiles.metrics import Metric, evaluate, paired_difference
from edgeiqa.runtime.score_map import InversePiecewiseLinear, ScoreMap
from edgeiqa.runtime.splitmix import permutation
from numpy.typing import NDArray

Floats = NDArray[np.float64]
METRICS: tuple[Metric, ...] = ("srcc", "plcc", "rmse")
PAIRS = (
    ("MOS transform (mse)", "transform-mse", "mse"),
    ("MOS transform (Huber and PLCC)", "transform-huber-plcc", "huber-plcc"),
    ("weighted mse for mse", "weighted", "mse"),
    ("Huber for mse, both with transform", "transform-huber", "transform-mse"),
    ("Huber and PLCC for mse", "huber-plcc", "mse"),
    ("MLP for the linear head, both with transform", "transform-mse-mlp", "transform-mse"),
    ("crops, rotations and translations beside flips", "mse", "flip-mse"),
    ("a restart for one cosine", "mse", "mse-no-restart"),
)
CHOICES = (("two checkpoints for the last epoch", "mse", "mse-last-epoch"),)


@dataclass(frozen=True)
class Said:
    """Raw scores of one candidate, behind the inverse of its MOS transform: of its fold, and of the selection part."""

    record: Checkpoint
    network: QualityNet
    rows: NDArray[np.int64]
    fold: Floats
    selection: Floats


@dataclass(frozen=True)
class Run:
    """What was read of a run."""

    dataset: Dataset
    report: TeachReport
    selection: NDArray[np.int64]
    said: dict[tuple[str, int], Said]

    @property
    def mos(self) -> Floats:
        return 100 * self.dataset.unit_mos


def opinions(record: Checkpoint, raw: Floats) -> Floats:
    first = record.score_map.steps[0]
    return first.apply(raw) if isinstance(first, InversePiecewiseLinear) else raw


def read_run(folder: Path, data: Path, images: Path) -> Run:
    report = msgspec.json.decode((folder / REPORT).read_bytes(), type=TeachReport)
    homes = {home.name: home for part in (MEMBERS, CANDIDATES) for home in (folder / part).glob("*")}
    first = load_checkpoint(homes[report.candidates[0].member])[0]
    plan = msgspec.convert(first.provenance["data"], DataRecipe)
    dataset = select_apart(read_csv(data, images, score_range=plan.score_range), plan.split or "train")
    member = msgspec.convert(first.provenance["recipe"], MemberRecipe)
    split = divide(TeachRecipe(name="run", data=plan, members=(member,)), dataset)
    said = {}
    with tempfile.TemporaryDirectory() as kept:
        views = cut(dataset, first, Path(kept))
        selection = np.array(split.selection)
        for one in report.candidates:
            record, network = load_checkpoint(homes[one.member])
            rows = np.array(split.folds[one.fold])
            raw = [opinions(record, predict(network, views, part)) for part in (rows, selection)]
            said[one.configuration, one.fold] = Said(record, network, rows, *raw)
    return Run(dataset, report, selection, said)


def cut(dataset: Dataset, record: Checkpoint, folder: Path) -> tuple[NDArray[np.uint8], ...]:
    paths = [photo.path for photo in dataset.photos]
    items = [Item(path=path, sha256=sha) for path, sha in zip(paths, hash_files(paths), strict=True)]
    return tuple(open_views(folder, items, record.system.preprocess))


def sigmoid(raw: Floats, mos: Floats) -> ScoreMap:
    return fit_sigmoid(raw, mos, 0.0, 100.0)


MAPS: dict[str, Callable[[Floats, Floats], ScoreMap]] = {
    "none (raw x 100)": lambda _raw, _mos: ScoreMap(),
    "min-max": lambda raw, _mos: fit_minmax(raw, 0.0, 100.0),
    "four-parameter logistic": lambda raw, mos: fit_logistic4(raw, mos, 0.0, 100.0),
    "isotonic": lambda raw, mos: fit_isotonic(raw, mos, 0.0, 100.0),
    "sigmoid": sigmoid,
}


def crossed(raw: Floats, mos: Floats, fit: Callable[[Floats, Floats], ScoreMap]) -> Floats:
    """Each fifth mapped by what was fitted on the others."""
    order, mapped = np.array(permutation(0, len(raw))), np.empty(len(raw))
    for part in range(5):
        judged = order[part::5]
        fitted = np.setdiff1d(order, judged)
        mapped[judged] = fit(100 * raw[fitted], mos[fitted]).apply(100 * raw[judged])
    return mapped


def pooled(run: Run, chosen: list[tuple[str, int]], fit: Callable[[Floats, Floats], ScoreMap]) -> tuple[Floats, Floats]:
    parts = [run.said[key] for key in chosen]
    return (
        np.concatenate([crossed(one.fold, run.mos[one.rows], fit) for one in parts]),
        np.concatenate([run.mos[one.rows] for one in parts]),
    )


def of_selection(run: Run, chosen: list[tuple[str, int]], said: Callable[[Said], Floats]) -> Floats:
    """The ensemble's scores of the selection part: the mean of the members', each by a sigmoid fitted on its fold."""
    scores = [
        sigmoid(100 * run.said[key].fold, run.mos[run.said[key].rows]).apply(100 * said(run.said[key]))
        for key in chosen
    ]
    return np.asarray(np.mean(scores, axis=0))


def tell(name: str, one: Floats, other: Floats, mos: Floats) -> None:
    parts = []
    for metric in METRICS:
        found = paired_difference(one, other, mos, metric=metric)
        parts.append(f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]")
    print(f"| {name} | {' | '.join(parts)} |")


def tables(run: Run) -> None:
    print("\nTable I\n\n| fold | best set-up | checkpoint | epoch | PLCC | SRCC | RMSE |")
    print("|---|---|---|---|---|---|---|")
    chosen = sorted((one for one in run.report.candidates if one.chosen), key=lambda one: one.fold)
    for one in chosen:
        fold = one.out_of_fold
        figures = f"{fold['plcc']:.3f} | {fold['srcc']:.3f} | {fold['rmse']:.2f}"
        print(f"| {one.fold} | {one.configuration} | {one.checkpoint or 'last'} | {one.epoch} | {figures} |")
    report = run.report
    print("\nTable II\n\n| fold | PLCC | SRCC | RMSE | selection SRCC |\n|---|---|---|---|---|")
    for member in report.members:
        judged = member.out_of_fold
        values = f"{judged.plcc.value:.3f} | {judged.srcc.value:.3f} | {judged.rmse.value:.2f}"
        print(f"| {member.fold} | {values} | {member.selection.srcc.value:.3f} |")
    average = report.average
    print(f"| average | {average['plcc']:.3f} | {average['srcc']:.3f} | {average['rmse']:.2f} | |")
    for name, accuracy, column in (("pooled", report.pooled, ""), ("ensemble, selection part", report.ensemble, "")):
        both = [f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in (accuracy.plcc, accuracy.srcc)]
        print(f"| {name} | {both[0]} | {both[1]} | {accuracy.rmse.value:.2f} | {column} |")
    print("\nEvery configuration, mean over folds\n")
    print("| configuration | PLCC | SRCC | RMSE | folds won |\n|---|---|---|---|---|")
    for name in dict.fromkeys(one.configuration for one in report.candidates):
        rows = [one for one in report.candidates if one.configuration == name]
        means = [float(np.mean([one.out_of_fold[metric] for one in rows])) for metric in ("plcc", "srcc", "rmse")]
        won = sum(one.chosen for one in rows)
        print(f"| {name} | {means[0]:.3f} | {means[1]:.3f} | {means[2]:.2f} | {won} |")


def curve(run: Run) -> None:
    keys = [(one.configuration, one.fold) for one in run.report.candidates if one.chosen]
    scores = np.stack([of_selection(run, [key], lambda one: one.selection) for key in keys])
    print("\nM of K, selection part\n\n| M | greedy SRCC | members | exhaustive SRCC | members |")
    print("|---|---|---|---|---|")
    found = [
        choose_members([f"{name}-{fold}" for name, fold in keys], scores, run.mos[run.selection], how=how)
        for how in ("greedy", "exhaustive")
    ]
    for greedy, exhaustive in zip(*(choice.curve for choice in found), strict=True):
        columns = [f"{one.accuracy.srcc.value:.3f} | {', '.join(one.members)}" for one in (greedy, exhaustive)]
        print(f"| {len(greedy.members)} | {' | '.join(columns)} |")


def ablation(run: Run) -> None:
    folds = sorted({fold for _, fold in run.said})
    there = {name for name, _ in run.said}
    print("\nAblation, out of fold\n\n| with minus without | SRCC | PLCC | RMSE |\n|---|---|---|---|")
    for name, one, other in PAIRS:
        if {one, other} <= there:
            (a, mos), (b, _) = (pooled(run, [(which, fold) for fold in folds], sigmoid) for which in (one, other))
            tell(name, a, b, mos)
    chosen = [(one.configuration, one.fold) for one in run.report.candidates if one.chosen]
    by_sigmoid, mos = pooled(run, chosen, sigmoid)
    for name, fit in MAPS.items():
        if fit is not sigmoid:
            tell(f"{name} for the sigmoid", pooled(run, chosen, fit)[0], by_sigmoid, mos)
    print("\nAblation, ensembles on the selection part\n")
    print("| with minus without | SRCC | PLCC | RMSE |\n|---|---|---|---|")
    mos = run.mos[run.selection]
    for name, one, other in (*CHOICES, *PAIRS):
        if {one, other} <= there:
            both = [
                of_selection(run, [(which, fold) for fold in folds], lambda said: said.selection)
                for which in (one, other)
            ]
            tell(name, both[0], both[1], mos)
    best = of_selection(run, chosen, lambda said: said.selection)
    plain = of_selection(run, [("mse", fold) for fold in folds], lambda said: said.selection)
    tell("the best set-up a fold for mse in all", best, plain, mos)


def test_time(run: Run) -> None:
    chosen = [(one.configuration, one.fold) for one in run.report.candidates if one.chosen]
    mos = run.mos[run.selection]
    plain = of_selection(run, chosen, lambda said: said.selection)
    print("\nTest-time crops, the ensemble on the selection part\n")
    print("| cut | MACs a member | SRCC | minus whole views: SRCC | PLCC | RMSE |\n|---|---|---|---|---|---|")
    for name in ("flip", "five", "ten", "nine", "seeded"):
        scores, macs = [], 0
        with tempfile.TemporaryDirectory() as kept:
            for key in chosen:
                said = run.said[key]
                system = with_test_time(said.record.system, name)
                record = msgspec.structs.replace(said.record, system=system)
                network = build(system, weights=NoWeights())
                network.load_state_dict(said.network.state_dict())
                network.eval()
                views = cut(run.dataset, record, Path(kept))
                fold, selection = (
                    opinions(record, predict(network, views, rows)) for rows in (said.rows, run.selection)
                )
                scores.append(sigmoid(100 * fold, run.mos[said.rows]).apply(100 * selection))
                if not macs:
                    from torch import uint8, zeros

                    shape = system.preprocess.shapes[system.preprocess.views[0].name]
                    macs = count_module(network, (zeros((1, *shape), dtype=uint8),)).macs
        mean = np.mean(scores, axis=0)
        parts = [paired_difference(mean, plain, mos, metric=metric) for metric in METRICS]
        shown = " | ".join(f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]" for one in parts)
        print(f"| {name} | {macs / 1e9:.3f} G | {evaluate(mean, mos).srcc.value:.3f} | {shown} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    options = parser.parse_args()
    run = read_run(options.run, options.data, options.images)
    tables(run)
    curve(run)
    ablation(run)
    test_time(run)


if __name__ == "__main__":
    main()
