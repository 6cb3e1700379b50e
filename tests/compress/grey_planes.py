"""Planes of grey whose opinion is their brightness, a tiny network, and one way to train it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from edgeiqa.compress.fit import fit
from edgeiqa.compress.judging import HeldOut
from edgeiqa.compress.labelled import LabelledExamples, ScoreObjective
from edgeiqa.compress.models.network import QualityNet, build
from edgeiqa.compress.models.records import Head, Linear
from edgeiqa.compress.models.systems import one_backbone
from edgeiqa.compress.models.weights import NoWeights
from edgeiqa.compress.stages import Constant, Stage
from lightning.fabric import Fabric
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

BACKBONE = "mobilenetv3_small_050"
SIDE, TRAINING, HELDOUT = 32, 32, 16

# With batch norms as they come, the network learns brightness in a few steps.
QUICK = Stage(
    epochs=2,
    batch=8,
    learning_rate=1e-3,
    head_learning_rate=1e-2,
    schedule=Constant(),
    freeze_batch_norm=True,
)
HEAD = msgspec.structs.replace(QUICK, name="head", parameters="head", epochs=1)


def planes(count: int = TRAINING + HELDOUT, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Views uint8 ``[count, 32, 32, 3]`` with a little noise, and their opinions in [0, 1]."""
    stream = np.random.default_rng(seed)
    mos = stream.random(count)
    noise = stream.integers(-8, 9, (count, SIDE, SIDE, 3))
    return np.clip(40 + 170 * mos[:, None, None, None] + noise, 0, 255).astype(np.uint8), mos


VIEWS, MOS = planes()
HELD = HeldOut((VIEWS,), np.arange(TRAINING, len(MOS)), MOS[TRAINING:])


def write_photographs(folder: Path, count: int, seed: int = 0) -> Path:
    """PNGs of planes, and ``mos.csv`` beside them on a scale from 0 to 100."""
    views, mos = planes(count, seed)
    folder.mkdir(parents=True, exist_ok=True)
    for index, view in enumerate(views):
        Image.fromarray(view).save(folder / f"{index:03}.png")
    rows = [f"{index:03}.png,{100 * score!r}" for index, score in enumerate(mos.tolist())]
    (folder / "mos.csv").write_text("\n".join(["image,mos", *rows]) + "\n")
    return folder / "mos.csv"


def examples(count: int = TRAINING, mos: NDArray[np.float64] = MOS) -> LabelledExamples:
    names = [f"plane {row}" for row in range(len(mos))]
    return LabelledExamples.of((VIEWS,), mos, np.arange(count), names=names, keys=names)


def network(head: Head | None = None, seed: int = 0) -> QualityNet:
    net = build(one_backbone(BACKBONE, SIDE, SIDE, head=head or Linear()), weights=NoWeights(seed=seed))
    net.set_output_bias(float(MOS[:TRAINING].mean()))
    return net


def fabric() -> Fabric:
    made = Fabric(accelerator="cpu", devices=1)
    made.launch()
    return made


class Upside(ScoreObjective):
    """The losses to the opinions; in a stage named ``worse`` to their opposites."""

    def __call__(
        self, outputs: dict[str, Tensor], targets: dict[str, Tensor], stage: Stage, seed: int
    ) -> dict[str, Tensor]:
        if stage.name == "worse":
            targets = {"mos": 1 - targets["mos"]}
        return super().__call__(outputs, targets, stage, seed)


def train(
    folder: Path, stages: Sequence[Stage] = (QUICK,), **options: Any
) -> tuple[QualityNet, list[dict[str, float]]]:
    """Fit a network to the first planes; the options are those of `fit`, and ``network``."""
    given: dict[str, Any] = {
        "network": options.pop("network", None) or network(),
        "objective": ScoreObjective(),
        "examples": examples(),
        "heldout": HELD,
        "seed": 3,
        "run": "a run",
        "fabric": fabric(),
    }
    given |= options
    history = fit(stages=stages, folder=folder, **given)
    return given["network"], history


def same_bits(one: QualityNet, other: QualityNet) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)
