"""Trainings in two processes on the CPU; each leaves what it saw: ``python -m tests.compress.two_processes FOLDER``."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import torch
from edgeiqa.compress.stages import Augmentation, ScoreLosses, Stage
from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy

from .grey_planes import HEAD, QUICK, Upside, train

replace = msgspec.structs.replace

# Nothing that differs between processes: no flips, and batch norms as they come. Huber's gradient of the bias is a
# balance of signs that may come to nothing but rounding, of which Adam would make a whole step.
SQUARES = ScoreLosses(mse=20.0, huber=0.0)
EXACT = tuple(
    replace(stage, epochs=1, augmentation=Augmentation(flip=False), losses=SQUARES) for stage in (HEAD, QUICK)
)
# Statistics of each process's own, all that is drawn, and the decisions that all processes must take alike.
LIVELY = (HEAD, replace(QUICK, name="worse", epochs=5, freeze_batch_norm=False, patience=2))


def fits(folder: Path, fabric: Fabric) -> dict[str, Any]:
    """The figures and weights of two trainings, the second with a state after every step."""
    seen: dict[str, Any] = {}
    lively: dict[str, Any] = {"objective": Upside(), "save_every_s": 0.0}
    runs: list[tuple[str, tuple[Stage, ...], dict[str, Any]]] = [
        ("exact", EXACT, {"keep": "least_rmse"}),
        ("lively", LIVELY, lively),
    ]
    for name, stages, options in runs:
        told: list[int] = []
        network, history = train(
            folder / name, stages, fabric=fabric, on_step=lambda step, told=told: told.append(step.done), **options
        )
        weights = hashlib.sha256(b"".join(part.numpy().tobytes() for part in network.state_dict().values()))
        seen[name] = {"history": history, "weights": weights.hexdigest(), "told": told}
    return seen


def main() -> None:
    """Both processes run this; Fabric starts the second one."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    fabric = Fabric(accelerator="cpu", devices=2, strategy=DDPStrategy(find_unused_parameters=True))
    fabric.launch()
    seen = fits(folder, fabric)
    # Again: from the state, on every process.
    again = fits(folder, fabric)
    seen["again"] = again["lively"]
    (folder / f"process-{fabric.global_rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
