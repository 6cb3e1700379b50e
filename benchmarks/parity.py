"""File-to-score parity of a bundle with the torch networks it was made of, on every engine.

python benchmarks/parity.py --run runs/default --data DIR/mos.csv --images DIR/images [--split test] [--bundle FILE]

Two references: the released weights (batch norms folded, rounded to the FP16 they are stored as), which shows the
engines and the graph; and the checkpoint's FP32 weights, which shows what storing them as FP16 moved as well.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from edgeiqa.compress.data.dataset import read_csv, select
from edgeiqa.export.gate import PARITY_TOLERANCE, Reference, Views, gate_parity
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.engines.engine import ENGINES
from edgeiqa.runtime.scorer import default_bundle
from edgeiqa.tools.default_bundle import released
from edgeiqa.tools.packing import find_checkpoints, load_trained, read_photographs, torch_reference


def remembered(reference: Reference) -> Reference:
    """The reference, asked once for each member's views: every engine is compared with the same numbers."""
    answers: dict[tuple[str, bytes], float] = {}

    def ask(name: str, views: Views) -> float:
        key = (name, hashlib.sha256(b"".join(view.tobytes() for view in views.values())).digest())
        if key not in answers:
            answers[key] = reference(name, views)
        return answers[key]

    return ask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--split")
    parser.add_argument("--bundle", type=Path)
    options = parser.parse_args()
    dataset = read_csv(options.data, options.images)
    if options.split:
        dataset = select(dataset, split=options.split)
    photos = read_photographs([photo.path for photo in dataset.photos])
    bundle = default_bundle() if options.bundle is None else Bundle.open(options.bundle)
    checkpoints = load_trained(find_checkpoints(options.run))
    references = {
        "released weights": remembered(torch_reference([released(member) for member in checkpoints])),
        "checkpoint's FP32 weights": remembered(torch_reference(checkpoints)),
    }
    for engine in ENGINES:
        for what, reference in references.items():
            scores, raw = gate_parity(
                bundle,
                reference,
                photos,
                engine=engine,
                precision=bundle.manifest.precision,
                tolerance=PARITY_TOLERANCE["fp16"],
            )
            print(
                f"{engine:12s} against torch with the {what:26s} {scores.photos} photographs: largest difference "
                f"{scores.max_abs_difference:.2e}, mean {scores.mean_abs_difference:.2e} score points; "
                f"raw {raw.max_abs_difference:.2e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
