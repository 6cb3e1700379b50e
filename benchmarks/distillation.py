"""A student on opinions alone, and distilled; and what each loss and each kind of transfer image brings.

python benchmarks/distillation.py few --data DIR/mos.csv --opinions 200 -o FEW.csv
python benchmarks/distillation.py train --teacher RUN --data DIR/mos.csv --images DIR/images -o OUT [--arms ARM ...]
python benchmarks/distillation.py judge --teacher RUN --data DIR/mos.csv --images DIR/images -o OUT [--arms ARM ...]

``train`` runs every arm (or those named) with its seeds, one after the other; what is finished is passed over, what was
cut off goes on. It tells figures on the selection part, by which arms are chosen. ``judge`` reads split=test, once, for
the ensemble, its best member and every finished arm (or those named), with paired differences to the arm ``opinions``.
All arms take the same number of steps of the same batch. ``few`` writes a table of test and of a seeded draw of the
others' opinions: with it as --data the rest of the folder, named by --unlabelled, are photographs without opinions.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import torch
from edgeiqa.compress.checkpoint import RECORD_NAME, load_checkpoint
from edgeiqa.compress.data.dataset import read_csv, select
from edgeiqa.compress.data.items import Item, hash_files
from edgeiqa.compress.data.view_store import open_views
from edgeiqa.compress.distill import distill
from edgeiqa.compress.distill_records import DistillLosses, DistillRecipe, DistillReport, Transfer
from edgeiqa.compress.judging import predict
from edgeiqa.compress.models.weights import LiteWeights, NoWeights, Weights
from edgeiqa.compress.stages import Augmentation, Stage
from edgeiqa.compress.teach_records import TeachReport
from edgeiqa.compress.teacher_cache import TeacherCache
from edgeiqa.compress.teacher_fill import fill
from edgeiqa.compress.teacher_targets import targets
from edgeiqa.compress.teachers import Teacher, load_teacher
from edgeiqa.profiles.metrics import evaluate, plcc, rmse, srcc
from edgeiqa.runtime.splitmix import permutation
from edgeiqa.tools.distill_inputs import find_photographs_of
from edgeiqa.tools.training import watching
from lightning.fabric import Fabric
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Metric = Callable[[Scores, Scores], float]
METRICS: dict[str, Metric] = {"srcc": srcc, "plcc": plcc, "rmse": rmse}
OPINIONS = DistillLosses(score=0.0, feature=0.0, mos=1.0, disagreement=None)
SCORE = DistillLosses(score=1.0, mos=1.0, feature=0.0)
FEATURE = msgspec.structs.replace(SCORE, feature=0.5)
RELATIONAL = msgspec.structs.replace(FEATURE, distance=1.0, angle=2.0)
RANK = msgspec.structs.replace(FEATURE, rank=1.0)
PLAIN, DISTORTED, FOUR = (Transfer(crops=10, distortions=number) for number in (0, 1, 4))

# arm: (losses, transfer, whether unlabelled photographs are added, seeds)
ARMS: dict[str, tuple[DistillLosses, Transfer, bool, tuple[int, ...]]] = {
    "opinions": (OPINIONS, PLAIN, False, (0, 1, 2)),
    "score": (SCORE, PLAIN, False, (0, 1, 2)),
    "score+feature": (FEATURE, PLAIN, False, (0, 1, 2)),
    "score+feature+relational": (RELATIONAL, PLAIN, False, (0,)),
    "score+feature+rank": (RANK, PLAIN, False, (0,)),
    "score, distortions": (SCORE, DISTORTED, False, (0,)),
    "score, four distortions": (SCORE, FOUR, False, (0,)),
    "score, distortions, unlabelled": (SCORE, DISTORTED, True, (0,)),
    "score, unlabelled": (SCORE, Transfer(crops=4), True, (0, 1, 2)),
}
BATCH = 16


def run_name(arm: str, seed: int) -> str:
    return f"{arm}-{seed}".replace(", ", "+")


def few(arguments: argparse.Namespace) -> None:
    with arguments.data.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    train = [row for row in rows if row["split"] == "train"]
    drawn = [train[place] for place in sorted(permutation(0, len(train))[: arguments.opinions])]
    with arguments.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows([*drawn, *(row for row in rows if row["split"] == "test")])


def recipe_of(arm: str, seed: int, photographs: int, arguments: argparse.Namespace) -> DistillRecipe:
    """The recipe of an arm that learns from so many photographs."""
    losses, transfer, _, _ = ARMS[arm]
    weights: Weights = LiteWeights() if arguments.weights == "lite" else NoWeights(seed=seed)
    return DistillRecipe(
        name=run_name(arm, seed),
        backbone=arguments.student,
        width=arguments.size,
        height=arguments.size,
        weights=weights,
        stages=(
            Stage(
                # More photographs, and distorted versions, make an epoch longer; the steps stay the same.
                epochs=round(arguments.steps * BATCH / (photographs * (1 + transfer.distortions))),
                batch=BATCH,
                augmentation=Augmentation(flip=False, whole_epochs=1),
            ),
        ),
        losses=losses,
        transfer=transfer,
        seed=seed,
    )


def train(arguments: argparse.Namespace) -> None:
    teacher = load_teacher(str(arguments.teacher))
    assert isinstance(teacher, Teacher)
    fabric = Fabric(accelerator="cpu")
    for arm in arguments.arms or ARMS:
        _, _, unlabelled, seeds = ARMS[arm]
        for seed in arguments.seeds or seeds:
            flags = {
                "data": arguments.data,
                "images": arguments.images,
                "unlabelled": tuple(arguments.unlabelled) if unlabelled else (),
                "split": "train",
                "score_range": (0.0, 100.0),
            }
            photographs = find_photographs_of(flags, Path("runs")).load(teacher, 0.15, seed, None)
            folder = arguments.output / run_name(arm, seed)
            recipe = recipe_of(arm, seed, len(photographs.training), arguments)
            with watching(folder) as progress:
                report = distill(
                    recipe,
                    photographs,
                    teacher if recipe.losses.teacher else None,
                    folder,
                    cache=arguments.cache or arguments.output / "cache",
                    fabric=fabric,
                    watch=progress,
                )
            tell_selection(arm, seed, report)


def tell_selection(arm: str, seed: int, report: DistillReport) -> None:
    assert report.accuracy is not None
    print(
        f"selection part: {arm}, seed {seed}: SRCC {report.accuracy.srcc.value:.4f} PLCC "
        f"{report.accuracy.plcc.value:.4f} RMSE {report.accuracy.rmse.value:.2f} after {report.steps} steps",
        flush=True,
    )


def judge(arguments: argparse.Namespace) -> None:
    dataset = select(read_csv(arguments.data, arguments.images), split="test")
    paths = [photo.path for photo in dataset.photos]
    items = [Item(path=path, sha256=sha) for path, sha in zip(paths, hash_files(paths), strict=True)]
    mos = dataset.mos
    rows = []
    teacher = load_teacher(str(arguments.teacher))
    assert isinstance(teacher, Teacher)
    with TeacherCache(arguments.output / "test-cache") as cache:
        fill(cache, teacher, items)
        said = targets(cache, teacher, items)
    best = msgspec.json.decode((arguments.teacher / "report.json").read_bytes(), type=TeachReport).best_member
    members = [member.name for member in teacher.members]
    rows.append(("ensemble", [100 * said.mean]))
    rows.append((f"its best member ({best})", [100 * said.scores[:, members.index(best)]]))
    arms: dict[str, list[Scores]] = defaultdict(list)
    for arm in arguments.arms or ARMS:
        for seed in arguments.seeds or ARMS[arm][3]:
            folder = arguments.output / run_name(arm, seed)
            if (folder / RECORD_NAME).is_file():
                record, network = load_checkpoint(folder)
                views = open_views(arguments.output / "test-views", items, record.system.preprocess)
                arms[arm].append(record.score_map.apply(predict(network, views)))
    rows += arms.items()
    result: dict[str, object] = {}
    for name, runs in rows:
        each = [evaluate(scores, mos) for scores in runs]
        told: dict[str, object] = {"seeds": [one.srcc.value for one in each]}
        shown = []
        for figure, metric in METRICS.items():
            mean = float(np.mean([getattr(one, figure).value for one in each]))
            low, high = interval_of_mean(metric, runs, mos)
            told |= {figure: mean, f"{figure}_low": low, f"{figure}_high": high}
            shown.append(f"{figure.upper()} {mean:.4f} [{low:.4f}, {high:.4f}]")
        print(f"{name:28} {' '.join(shown)}   (seeds: {' '.join(f'{one.srcc.value:.4f}' for one in each)})")
        result[name] = told
    for name, runs in arms.items():
        if name != "opinions" and "opinions" in arms:
            result[f"{name} - opinions"] = tell_difference(name, runs, arms["opinions"], mos)
    (arguments.output / "judged.json").write_text(json.dumps(result, indent=1))


def interval_of_mean(metric: Metric, runs: list[Scores], mos: Scores, resamples: int = 1000) -> tuple[float, float]:
    """Percentile bootstrap over photographs of the mean over seeds."""
    drawn = [float(np.mean([metric(run[rows], mos[rows]) for run in runs])) for rows in resampled(len(mos), resamples)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def tell_difference(name: str, runs: list[Scores], base: list[Scores], mos: Scores) -> Mapping[str, float]:
    """The mean over seeds of a figure minus that of the arm on opinions alone, on the same photographs."""
    told: dict[str, float] = {}
    for figure, metric in METRICS.items():

        def gain(rows: NDArray[np.int64], metric: Metric = metric) -> float:
            ours = np.mean([metric(run[rows], mos[rows]) for run in runs])
            return float(ours - np.mean([metric(run[rows], mos[rows]) for run in base]))

        drawn = [gain(rows) for rows in resampled(len(mos), 1000)]
        low, high = np.quantile(drawn, (0.025, 0.975))
        value = gain(np.arange(len(mos)))
        print(f"{name} minus opinions: {figure.upper()} {value:+.4f} [{low:+.4f}, {high:+.4f}]")
        told |= {figure: value, f"{figure}_low": float(low), f"{figure}_high": float(high)}
    return told


def resampled(count: int, resamples: int) -> list[NDArray[np.int64]]:
    stream = np.random.default_rng(0)
    return [stream.integers(0, count, count) for _ in range(resamples)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("few", "train", "judge"))
    parser.add_argument("--arms", nargs="*", default=[], help=", ".join(ARMS))
    parser.add_argument("--teacher", type=Path, help="For train and judge, like --images.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--opinions", type=int, default=200, help="How many few keeps.")
    parser.add_argument("--unlabelled", type=Path, nargs="*", default=[])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="Of the teacher's answers; OUT/cache unless given.")
    parser.add_argument("--seeds", type=int, nargs="*", help="Instead of the arm's own.")
    parser.add_argument("--student", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", choices=("lite", "none"), default="lite")
    parser.add_argument("--size", type=int, default=288)
    parser.add_argument("--steps", type=int, default=390)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    {"few": few, "train": train, "judge": judge}[arguments.action](arguments)


if __name__ == "__main__":
    main()
