"""How far scores move by threads, streams, order, neighbours and engine.

python benchmarks/same_score.py BUNDLE PHOTOS... [--precision fp32] [--engines onnxruntime openvino]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.scorer import Scorer
from edgeiqa.tools.options import find_photographs
from numpy.typing import NDArray


def scores(scorer: Scorer, photos: list[Path], *, isolate_s: float | None = None) -> NDArray[np.float64]:
    return np.array([score.value for score in scorer.score_many(photos, isolate_s=isolate_s)], dtype=np.float64)


def alone(scorer: Scorer, photos: list[Path]) -> NDArray[np.float64]:
    return np.array([scorer.score(photo).value for photo in photos], dtype=np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--engines", nargs="+", default=["onnxruntime", "openvino"])
    options = parser.parse_args()
    bundle = Bundle.open(options.bundle)
    photos = find_photographs(tuple(options.photos))
    shuffled = np.random.default_rng(0).permutation(len(photos))
    first = None
    for engine in options.engines:
        made = {
            (threads, streams): Scorer(
                bundle, engine=engine, precision=options.precision, threads=threads, streams=streams
            )
            for threads, streams in ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1))
        }
        reference = alone(made[1, 1], photos)
        first = reference if first is None else first
        print(f"{engine} {options.precision}, {len(photos)} photographs; largest difference in points")
        for (threads, streams), scorer in made.items():
            moved = np.abs(scores(scorer, photos) - reference).max()
            print(f"  {threads} threads, {streams} streams, together, from 1 thread and alone: {moved:.6f}")
        mixed = np.empty_like(reference)
        mixed[shuffled] = scores(made[1, 4], [photos[place] for place in shuffled])
        print(f"  in another order: {np.abs(mixed - reference).max():.6f}")
        print(f"  isolated: {np.abs(scores(made[1, 2], photos, isolate_s=60) - reference).max():.6f}")
        print(f"  from {options.engines[0]}: {np.abs(reference - first).max():.6f}")


if __name__ == "__main__":
    main()
