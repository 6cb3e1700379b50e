"""The baseline that a fine-tune must beat: ridge regression on frozen ImageNet features of the same backbones.

python benchmarks/ridge.py --data DIR/mos.csv --images DIR/images [--bundle FILE]

Features: mean and standard deviation over positions of four stages, and the pooled head, of EfficientNet-Lite0 and
-Lite1 at 384x384. Ridge on split=train (strength by leave-one-out on it), judged on split=test beside
the bundle, paired.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from edgeiqa.compress.data.dataset import Dataset, read_csv, select
from edgeiqa.compress.data.items import Item, hash_files
from edgeiqa.compress.data.view_store import open_views
from edgeiqa.compress.models.network import build
from edgeiqa.compress.models.systems import one_backbone
from edgeiqa.compress.models.weights import LiteWeights
from edgeiqa.profiles.metrics import evaluate, paired_difference
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.scorer import Scorer, default_bundle
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

BACKBONES = ("tf_efficientnet_lite0", "tf_efficientnet_lite1")


def features(backbone: str, dataset: Dataset, batch: int = 16) -> NDArray[np.float64]:
    system = one_backbone(backbone, 384, 384)
    network = build(system, weights=LiteWeights())
    model: Any = network.trunks[0].model
    normalise: Any = network.normalise[0]
    paths = [photo.path for photo in dataset.photos]
    items = [Item(path=path, sha256=sha256) for path, sha256 in zip(paths, hash_files(paths), strict=True)]
    rows = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        (views,) = open_views(Path(folder), items, system.preprocess)
        for start in range(0, len(views), batch):
            pixels = normalise(torch.from_numpy(np.array(views[start : start + batch])))
            last, stages = model.forward_intermediates(pixels, indices=(1, 2, 3, 4))
            pooled = [model.forward_head(last, pre_logits=True)]
            pooled += [part for stage in stages for part in (stage.mean((2, 3)), stage.std((2, 3)))]
            rows.append(torch.cat(pooled, 1).double().numpy())
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    options = parser.parse_args()
    dataset = read_csv(options.data, options.images)
    training, test = select(dataset, split="train"), select(dataset, split="test")
    both = {backbone: (features(backbone, training), features(backbone, test)) for backbone in BACKBONES}
    both["both"] = (np.hstack([x for x, _ in both.values()]), np.hstack([x for _, x in both.values()]))
    predictions = {}
    for name, (x, x_test) in both.items():
        ridge = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(1, 6, 21)))
        ridge.fit(x, training.mos)
        predictions[f"ridge on frozen {name}"] = np.asarray(ridge.predict(x_test), dtype=np.float64)
    scorer = Scorer(default_bundle() if options.bundle is None else Bundle.open(options.bundle))
    paths = [photo.path for photo in test.photos]
    bundle = np.array([score.value for score in scorer.score_many(paths)], dtype=np.float64)
    for name, predicted in {**predictions, scorer.bundle.manifest.name: bundle}.items():
        figures = evaluate(predicted, test.mos)
        print(f"{name:40s} n={figures.n}", end="")
        for metric in ("srcc", "plcc", "rmse"):
            interval = getattr(figures, metric)
            print(f"  {metric} {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]", end="")
        print()
    for name, predicted in predictions.items():
        gain = paired_difference(bundle, predicted, test.mos)
        print(
            f"SRCC of {scorer.bundle.manifest.name} minus {name}: {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        )


if __name__ == "__main__":
    main()
