"""Files that were damaged in seeded ways, scored among whole ones: what was answered.

python benchmarks/mutated_photographs.py [FOLDER] [--count 10000] [--seed 0] [--isolate SECONDS]

The files are those of the attacks' tests, and the photographs of FOLDER. A crash would end this process; a photograph
that takes longer than --slow seconds is named.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from edgeiqa.runtime.scorer import Score, Scorer, busy_streams, load
from edgeiqa.tools.options import find_photographs

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.attacks.mutations import mutate, real_files

BATCH = 250


def damaged(files: dict[str, bytes], folder: Path, numbers: range, seed: int) -> Iterator[tuple[str, Path]]:
    """Each number's file: drawn and damaged by its own generator, so that one can be made again alone."""
    names = sorted(files)
    for number in numbers:
        generator = np.random.default_rng([seed, number])
        name = names[int(generator.integers(len(names)))]
        path = folder / f"{number:06}{Path(name).suffix}"
        path.write_bytes(mutate(files[name], generator))
        yield name, path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--isolate", type=float, metavar="SECONDS")
    parser.add_argument("--slow", type=float, default=5.0)
    options = parser.parse_args()
    files = real_files()
    if options.folder is not None:
        files |= {path.name: path.read_bytes() for path in find_photographs((options.folder,))}
    scorer = load(streams=busy_streams())
    answers: Counter[tuple[str, str]] = Counter()
    reasons: Counter[str] = Counter()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = {}
        for index, data in enumerate(files.values()):
            path = folder / f"whole{index}"
            path.write_bytes(data)
            whole[path] = scorer.score(path)
        for first in range(0, options.count, BATCH):
            numbers = range(first, min(first + BATCH, options.count))
            made = list(damaged(files, folder, numbers, options.seed))
            check(scorer, made, whole, options, answers, reasons)
            for _, path in made:
                path.unlink()
    kinds = sorted({kind for kind, _ in answers})
    print("kind | scored | refused")
    for kind in kinds:
        print(f"{kind} | {answers[kind, 'scored']} | {answers[kind, 'refused']}")
    seconds = time.perf_counter() - started
    print(f"{sum(answers.values())} of {options.count} answered in {seconds:.0f} s; whole ones unchanged")
    for reason, count in reasons.most_common(12):
        print(f"{count:6d} {reason}")


def check(
    scorer: Scorer,
    made: list[tuple[str, Path]],
    whole: Mapping[Path, Score],
    options: argparse.Namespace,
    answers: Counter[tuple[str, str]],
    reasons: Counter[str],
) -> None:
    """Score damaged photographs with whole ones between them."""
    between = list(whole)
    order: list[tuple[str, Path]] = []
    for index, item in enumerate(made):
        order.append(item)
        if index % 10 == 0:
            order.append(("", between[index // 10 % len(between)]))
    before = time.perf_counter()
    scores = scorer.score_many([path for _, path in order], isolate_s=options.isolate)
    for (name, path), score in zip(order, scores, strict=True):
        now = time.perf_counter()
        if now - before > options.slow:
            print(f"{path.name} of {name}: {now - before:.1f} s", flush=True)
        before = now
        if not name:
            assert score.value == whole[path].value, f"{path}: a neighbour changed its score"
            continue
        kind = Path(name).suffix.lstrip(".").lower()
        answers[kind, "refused" if score.value is None else "scored"] += 1
        if score.error is not None:
            reasons[score.error.replace(str(path), "FILE").split(";")[0][:100]] += 1


if __name__ == "__main__":
    main()
