"""The ladder from a teacher to what ships: the accuracy and cost of each bundle, and what each step lost or gained.

python benchmarks/ladder.py "teacher=ensemble.eiqa" "student, FP32=student.eiqa" "student, INT8=student8.eiqa" \
    --data DIR/mos.csv --images DIR/images --split test

SRCC, PLCC and RMSE with 95 % bootstrap intervals over photographs; differences are paired. Milliseconds are of one
thread, file to score, the median over 40 of the photographs, each bundle by turns.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from edgeiqa.compress.data.dataset import read_csv, select
from edgeiqa.profiles.bundle_cost import count_bundle
from edgeiqa.profiles.metrics import Interval, Metric, evaluate, paired_difference
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.scorer import Scorer
from numpy.typing import NDArray

METRICS: tuple[Metric, ...] = ("srcc", "plcc", "rmse")


def shown(one: Interval, sign: str = "") -> str:
    return f"{one.value:{sign}.3f} [{one.low:{sign}.3f}, {one.high:{sign}.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--split")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    whole = read_csv(options.data, options.images)
    dataset = whole if options.split is None else select(whole, split=options.split)
    paths = [photo.path for photo in dataset.photos]
    files = {name: Path(file) for name, _, file in (step.rpartition("=") for step in options.steps)}
    scorers = {name: Scorer(Bundle.open(file), threads=1) for name, file in files.items()}
    scores = {name: np.array([scorer.score(path).value for path in paths]) for name, scorer in scorers.items()}
    spent: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(options.rounds):
        for name, scorer in scorers.items():
            for path in paths[:40]:
                started = time.perf_counter()
                scorer.score(path)
                spent[name].append(1000 * (time.perf_counter() - started))
    print(f"{len(paths)} photographs\n\n| | SRCC | PLCC | RMSE | GMACs | MB | ms |\n|---|---|---|---|---|---|---|")
    for name, file in files.items():
        judged = evaluate(scores[name], dataset.mos)
        macs = count_bundle(Bundle.open(file)).macs / 1e9
        figures = " | ".join(shown(getattr(judged, metric)) for metric in METRICS)
        size = file.stat().st_size / 1e6
        print(f"| {name} | {figures} | {macs:.2f} | {size:.1f} | {np.median(spent[name]):.1f} |")
    print("\n| step | SRCC | PLCC | RMSE |\n|---|---|---|---|")
    names = list(files)
    for before, after in [*pairwise(names), *([(names[0], names[-1])] if len(names) > 2 else [])]:
        print(f"| {after} minus {before} | {' | '.join(changes(scores[after], scores[before], dataset.mos))} |")


def changes(after: NDArray[np.float64], before: NDArray[np.float64], mos: NDArray[np.float64]) -> list[str]:
    return [shown(paired_difference(after, before, mos, metric=metric), "+") for metric in METRICS]


if __name__ == "__main__":
    main()
