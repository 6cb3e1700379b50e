"""A plain fine-tune of one system on photographs with opinions: one loop, run by Lightning Fabric.

The recipe is data (`FinetuneRecipe`, a TOML file in ``recipes/``). Views are cut once by the runtime's preprocessing
and kept as uint8; crops and flips are drawn from streams seeded by (seed, epoch), and the state is written after every
epoch, so a killed run resumes to the same numbers.
"""

from __future__ import annotations

import csv
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from ..runtime.decode import open_photo
from ..runtime.errors import DataError, RecordError, UsageError
from ..runtime.preprocess import Preprocess
from ..runtime.views import cut_views
from .losses import huber_loss, plcc_loss
from .models.network import QualityNet, build
from .models.records import System
from .models.weights import Weights

__all__ = ["EpochFigures", "FinetuneRecipe", "finetune", "load_views", "predict"]

_RESUME_NAME = "resume.pt"


class FinetuneRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a system is fine-tuned.

    Attributes:
        epochs: over the training photographs.
        batch: photographs a step; the last, smaller batch of an epoch is left out.
        learning_rate: of the trunk, the peak of a one-cycle schedule.
        head_learning_rate: of fusion and head, likewise.
        weight_decay: of AdamW.
        crop: side in pixels of the square crops that training cuts from a view.
        full_size_epochs: how many last epochs see whole views, so that normalisation statistics are those of use.
        flip: whether half the batches are mirrored.
        huber_delta: in units of the [0, 1] score.
        plcc_weight: of one minus the batch's correlation, beside the Huber loss.
        seed: of order, crops and flips.
    """

    epochs: int
    batch: int = 16
    learning_rate: float = 2e-4
    head_learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    crop: int = 352
    full_size_epochs: int = 1
    flip: bool = True
    huber_delta: float = 0.1
    plcc_weight: float = 1.5
    seed: int = 0

    def __post_init__(self) -> None:
        whole = self.epochs >= 1 and self.batch >= 2 and self.crop >= 1 and 0 <= self.full_size_epochs <= self.epochs
        rates = self.learning_rate > 0 and self.head_learning_rate > 0 and self.huber_delta > 0
        if not (whole and rates and self.weight_decay >= 0 and self.plcc_weight >= 0 and self.seed >= 0):
            raise RecordError(
                f"{self}",
                expected="at least one epoch, batches of two or more, and positive rates",
                mend="correct the recipe",
            )


@dataclass(frozen=True, slots=True)
class EpochFigures:
    """One line of the log: the loss on the training photographs and the errors on those held out, in score points."""

    epoch: int
    loss: float
    seconds: float
    heldout_srcc: float
    heldout_plcc: float
    heldout_rmse: float


def load_views(paths: Sequence[Path], preprocess: Preprocess) -> tuple[NDArray[np.uint8], ...]:
    """Cut the views of photographs: a uint8 array ``[n, (T,) H, W, 3]`` a view, in the order of ``preprocess.views``.

    Raises:
        PhotoError: a photograph cannot be read.
    """

    def cut(path: Path) -> dict[str, NDArray[np.uint8]]:
        return cut_views(open_photo(path, preprocess).image, preprocess)

    arrays = tuple(np.empty((len(paths), *view.shape), dtype=np.uint8) for view in preprocess.views)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for row, cuts in enumerate(pool.map(cut, paths)):
            for array, view in zip(arrays, preprocess.views, strict=True):
                array[row] = cuts[view.name]
    return arrays


def predict(network: QualityNet, views: Sequence[NDArray[np.uint8]], *, batch: int = 16) -> NDArray[np.float64]:
    """Raw scores ``[n]`` of views ``[n, ...]``, in eval mode; the network's mode is restored."""
    training = network.training
    network.eval()
    device = next(network.parameters()).device
    scores: list[NDArray[np.float64]] = []
    with torch.no_grad():
        for start in range(0, len(views[0]), batch):
            inputs = [torch.from_numpy(view[start : start + batch]).to(device) for view in views]
            scores.append(network(*inputs)["score"].cpu().double().numpy())
    network.train(training)
    return np.concatenate(scores)


def finetune(
    system: System,
    weights: Weights,
    recipe: FinetuneRecipe,
    *,
    training: tuple[Sequence[NDArray[np.uint8]], NDArray[np.float64]],
    heldout: tuple[Sequence[NDArray[np.uint8]], NDArray[np.float64]],
    folder: Path,
    device: str = "auto",
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    on_step: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[EpochFigures], None] | None = None,
) -> QualityNet:
    """Fine-tune a system and return it in eval mode.

    Args:
        system: what to build.
        weights: where its trunk starts.
        recipe: how.
        training: views ``[n, ...]`` of the training photographs and their MOS in [0, 1], float64 ``[n]``.
        heldout: likewise, of the fold that is only judged.
        folder: of the run; ``resume.pt`` is written there after each epoch and read when the call is repeated, and
            ``metrics.csv`` holds a line an epoch.
        device: Fabric's accelerator name.
        precision: Fabric's precision name.
        on_step: called with (steps done, steps in all).
        on_epoch: called with each epoch's figures.

    Raises:
        DataError: fewer training photographs than one batch, or a loss that is not finite.
        UsageError: the folder holds the state of another run, or a broken one.
    """
    views, mos = training
    steps_an_epoch = len(mos) // recipe.batch
    if steps_an_epoch == 0:
        raise DataError(
            f"{len(mos)} training photographs",
            expected=f"at least one batch of {recipe.batch}",
            mend="give more photographs, or a smaller batch",
        )
    fabric = Fabric(accelerator=device, devices=1, precision=precision)
    torch.manual_seed(recipe.seed)
    network = build(system, weights=weights)
    network.set_output_bias(float(mos.mean()))
    head = list(network.fusion.parameters()) + list(network.head.parameters())
    head_ids = {id(parameter) for parameter in head}
    trunk = [parameter for parameter in network.parameters() if id(parameter) not in head_ids]
    optimizer = torch.optim.AdamW(
        [{"params": trunk, "lr": recipe.learning_rate}, {"params": head, "lr": recipe.head_learning_rate}],
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [recipe.learning_rate, recipe.head_learning_rate],
        total_steps=recipe.epochs * steps_an_epoch,
    )
    wrapped, optimizer = fabric.setup(network, optimizer)
    run = _fingerprint(system, weights, recipe, views, mos)
    first_epoch = _resume(folder, run, network, optimizer, schedule)
    for epoch in range(first_epoch, recipe.epochs):
        started = time.perf_counter()
        stream = np.random.default_rng([recipe.seed, epoch])
        torch.manual_seed(recipe.seed * 1_000_003 + epoch)
        order = stream.permutation(len(mos))
        whole_views = epoch >= recipe.epochs - recipe.full_size_epochs
        total = 0.0
        wrapped.train()
        for step in range(steps_an_epoch):
            rows = order[step * recipe.batch : (step + 1) * recipe.batch]
            inputs = [
                fabric.to_device(torch.from_numpy(view[rows] if whole_views else _augment(view[rows], recipe, stream)))
                for view in views
            ]
            target = fabric.to_device(torch.from_numpy(mos[rows]).float())
            score = wrapped(*inputs)["score"].float()
            loss = huber_loss(score, target, delta=recipe.huber_delta)
            loss = loss + recipe.plcc_weight * plcc_loss(score, target)
            if not bool(torch.isfinite(loss)):
                raise DataError(
                    f"a loss of {loss.item()} in epoch {epoch}, step {step}, rows {rows.tolist()}",
                    expected="a finite loss",
                    mend=f"lower learning_rate; the state after epoch {epoch - 1} is kept in {folder / _RESUME_NAME}",
                )
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
            if on_step is not None:
                on_step(epoch * steps_an_epoch + step + 1, recipe.epochs * steps_an_epoch)
        figures = _figures(epoch, total / steps_an_epoch, started, predict(network, heldout[0]), heldout[1])
        _write_state(folder, run, epoch, network, optimizer, schedule)
        _log(folder, figures)
        if on_epoch is not None:
            on_epoch(figures)
    return network.eval()


def _augment(view: NDArray[np.uint8], recipe: FinetuneRecipe, stream: np.random.Generator) -> NDArray[np.uint8]:
    height, width = view.shape[-3:-1]
    side_y, side_x = min(recipe.crop, height), min(recipe.crop, width)
    top, left = int(stream.integers(height - side_y + 1)), int(stream.integers(width - side_x + 1))
    view = view[..., top : top + side_y, left : left + side_x, :]
    if recipe.flip and stream.random() < 0.5:
        view = view[..., ::-1, :]
    return np.ascontiguousarray(view)


def _figures(
    epoch: int, loss: float, started: float, raw: NDArray[np.float64], mos: NDArray[np.float64]
) -> EpochFigures:
    from ..profiles.metrics import plcc, rmse, srcc

    return EpochFigures(
        epoch=epoch,
        loss=loss,
        seconds=time.perf_counter() - started,
        heldout_srcc=srcc(raw, mos),
        heldout_plcc=plcc(raw, mos),
        heldout_rmse=rmse(100 * raw, 100 * mos),
    )


def _fingerprint(
    system: System,
    weights: Weights,
    recipe: FinetuneRecipe,
    views: Sequence[NDArray[np.uint8]],
    mos: NDArray[np.float64],
) -> str:
    """What a run is: two runs with the same fingerprint go the same way."""
    digest = hashlib.sha256(msgspec.json.encode((system, weights, recipe)))
    for array in (*views, mos):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _write_state(folder: Path, run: str, epoch: int, network: QualityNet, optimizer: Any, schedule: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{_RESUME_NAME}.partial"
    state = {
        "run": run,
        "epoch": epoch,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
    }
    torch.save(state, partial)
    partial.replace(folder / _RESUME_NAME)


def _resume(folder: Path, run: str, network: QualityNet, optimizer: Any, schedule: Any) -> int:
    path = folder / _RESUME_NAME
    if not path.is_file():
        return 0
    mend = f"name another folder, or delete {path} to start again"
    # torch.load raises what pickle, zip and struct raise.
    try:
        state = torch.load(path, map_location=next(network.parameters()).device, weights_only=True)
        found, epoch = state["run"], int(state["epoch"])
    except Exception as error:
        raise UsageError(
            f"{path}, which cannot be read ({type(error).__name__}: {error})", expected="a run's state", mend=mend
        ) from error
    if found != run:
        raise UsageError(
            f"{path}, the state of another run",
            expected="one of the same system, weights, recipe and photographs",
            mend=mend,
        )
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return epoch + 1


def _log(folder: Path, figures: EpochFigures) -> None:
    path = folder / "metrics.csv"
    names = EpochFigures.__slots__
    fresh = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(names)
        writer.writerow([getattr(figures, name) for name in names])
