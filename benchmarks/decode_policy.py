"""What the decode policy moves and saves: the same bundle with full and DCT-scaled decodes.

python benchmarks/decode_policy.py FOLDER [--bundle FILE]

The bundle's members are given each policy in turn; scores are compared with those of the full decode, and the time of
decoding and cutting views (one thread) is taken in the same run.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import msgspec
import numpy as np
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.decode import open_photo
from edgeiqa.runtime.preprocess import DctDecode, FullDecode
from edgeiqa.runtime.scorer import Scorer, default_bundle
from edgeiqa.runtime.views import cut_views
from edgeiqa.tools.options import find_photographs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bundle", type=Path)
    options = parser.parse_args()
    bundle = default_bundle() if options.bundle is None else Bundle.open(options.bundle)
    photos = find_photographs((options.folder,))
    scorer = Scorer(bundle)
    policies = [("full", FullDecode())] + [(f"dct, margin {m:g}", DctDecode(margin=m)) for m in (1.0, 1.5, 2.0, 3.0)]
    reference: np.ndarray[tuple[int], np.dtype[np.float64]] | None = None
    full_ms = 0.0
    for name, policy in policies:
        scores, spent = [], []
        for photo in photos:
            started = time.perf_counter()
            views = {}
            for member in bundle.manifest.members:
                preprocess = msgspec.structs.replace(member.preprocess, decode=policy)
                if preprocess not in views:
                    views[preprocess] = cut_views(open_photo(photo, preprocess).image, preprocess)
            spent.append(1e3 * (time.perf_counter() - started))
            raw = {
                member.name: scorer.run_views(
                    member.name, views[msgspec.structs.replace(member.preprocess, decode=policy)]
                )
                for member in bundle.manifest.members
            }
            scores.append(scorer.combine(raw)[0])
        values, median_ms = np.array(scores), float(np.median(spent))
        if reference is None:
            reference, full_ms = values, median_ms
        moved = np.abs(values - reference)
        print(
            f"{name:16s} decode and views {median_ms:6.1f} ms ({full_ms / median_ms:.1f} x as fast as full); "
            f"scores moved by {moved.mean():.2f} on average, {moved.max():.2f} at most"
        )


if __name__ == "__main__":
    main()
