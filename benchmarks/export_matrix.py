"""Every graph of a bundle against its FP32 graph and against people, on photographs that no stage saw.

edgeiqa export RUN --all -o all.eiqa
python benchmarks/export_matrix.py all.eiqa --data DIR/mos.csv --images DIR/images --split test

`edgeiqa export --all` gates on the selection part and says sizes and times; this reads the test part, once, for the
documentation. Graphs for TensorRT are scored by onnxruntime, which runs the same ONNX file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from edgeiqa.compress.data.dataset import read_csv, select
from edgeiqa.export.pack import ANSWER_ENGINE, with_only
from edgeiqa.profiles.metrics import evaluate
from edgeiqa.profiles.parity import hash_photos
from edgeiqa.profiles.rank import check_rank
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.scorer import Scorer
from numpy.typing import NDArray


def scores_of(scorer: Scorer, paths: list[Path]) -> NDArray[np.float64]:
    return np.array([scorer.combine(scorer.raw(path))[0] for path in paths])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--split")
    arguments = parser.parse_args()
    whole = read_csv(arguments.data, arguments.images)
    dataset = whole if arguments.split is None else select(whole, split=arguments.split)
    paths = [photo.path for photo in dataset.photos]
    names = [path.name for path in paths]
    sha256 = hash_photos(path.read_bytes() for path in paths)
    print("bundle | kind | MB | SRCC, PLCC, RMSE to people | SRCC to FP32 | SRCC lost | pairs swapped | largest (p99)")
    for path in arguments.bundles:
        bundle = Bundle.open(path)
        reference = scores_of(Scorer(bundle, engine="onnxruntime", precision="fp32"), paths)
        # An ensemble's members have the same kinds in the same order.
        for place, artefact in enumerate(bundle.manifest.members[0].artefacts):
            alone = Scorer(
                with_only(bundle, place), engine=ANSWER_ENGINE[artefact.target], precision=artefact.precision
            )
            found = scores_of(alone, paths)
            people = evaluate(found, dataset.mos)
            rank = check_rank(
                reference,
                found,
                names,
                mos=dataset.mos,
                engine=alone.engine,
                precision=alone.precision,
                images_sha256=sha256,
            )
            drop = rank.srcc_drop
            assert drop is not None and rank.srcc is not None and rank.swapped_share is not None
            files = {name for member in bundle.manifest.members for name in member.artefacts[place].files}
            size = sum(bundle.manifest.parts[name].size_bytes for name in files)
            print(
                f"{path.stem} | {artefact.target} {artefact.precision} | {size / 1e6:.2f} | {people.srcc.value:.4f} "
                f"[{people.srcc.low:.3f}, {people.srcc.high:.3f}], {people.plcc.value:.4f}, {people.rmse.value:.2f} | "
                f"{rank.srcc:.4f} | {drop.value:+.4f} [{drop.low:+.4f}, {drop.high:+.4f}] | {rank.swapped_share:.2%} | "
                f"{rank.largest_change:.2f} ({rank.p99_change:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
