"""The one training loop: stages over examples towards an objective, run by Lightning Fabric, resumable at any step.

Order, augmentation and dropout of a step are drawn from streams seeded by (seed, stage, epoch, step), and the state is
written after every epoch and every few minutes, so a run that was killed resumes to the same numbers: to the bit on a
CPU with the same number of threads.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from ..runtime.errors import DataError, UsageError
from .augment import augment
from .data.cross_sampling import draw_epoch
from .examples import Examples, Objective, Step
from .judging import HeldOut, heldout_figures, predict
from .keeping import Best, better, chosen, kept_name
from .models.network import QualityNet
from .optimisation import make_optimizer, set_rates, trainable
from .run_state import read_state, save_state, write_metrics
from .stages import Keep, Stage, rate_factor

__all__ = ["STATE_NAME", "Examples", "Step", "fit"]

STATE_NAME = "resume.pt"
_RANGES = 5


def fit(
    network: QualityNet,
    objective: Objective,
    stages: Sequence[Stage],
    examples: Examples,
    heldout: HeldOut | None,
    *,
    seed: int,
    folder: Path,
    run: str,
    fabric: Fabric,
    keep: Keep = "last",
    save_every_s: float = 300.0,
    most_steps: int | None = None,
    opinions: NDArray[np.float64] | None = None,
    on_step: Callable[[Step], None] | None = None,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """Train a network in place, and leave it in eval mode.

    Args:
        network: with the weights it starts from.
        objective: gives the terms of the loss; if it is a module, its parameters learn too.
        stages: one after the other, each with an optimizer of its own.
        examples: to draw from.
        heldout: what each epoch is judged on; None for nothing, and then ``keep`` is ``last``.
        seed: of order, augmentation and dropout.
        folder: of the run: ``resume.pt`` is there while it goes on and read when the call is repeated;
            ``metrics.csv`` has a line an epoch.
        run: says what this run is; a state that another run left is refused.
        fabric: launched; its device, precision and processes are used.
        keep: which weights the network has at the end; a stage's patience goes by the same figures, by the RMSE for
            ``last``.
        save_every_s: seconds between two states inside an epoch.
        most_steps: end after so many steps in all; for a trial.
        opinions: of the examples, in [0, 1], float64 ``[count]``, by which a stage with cross-sampling draws.
        on_step: called after each step, on the first process.
        on_epoch: called with each epoch's line of the log, on the first process; twice for an epoch at whose end the
            run was killed.

    Returns:
        A line an epoch: stage, epoch, loss and its terms, the trunk's last learning rate, seconds, and what
        `judging.heldout_figures` says.

    Raises:
        DataError: fewer photographs than one batch, a loss or weights that are not finite (the last good state is
            kept), a disk without room.
        UsageError: the folder holds the state of another run, or a broken one; a batch that the processes cannot
            share evenly; a stage with cross-sampling and no opinions.
    """
    # The number is that of the state's form.
    told = f"2 {run} {examples.fingerprint} {most_steps} {keep}"
    if heldout is not None and (keep != "last" or any(stage.patience is not None for stage in stages)):
        # What is held out decides then, too.
        told += f" {heldout.digest}"
    return _Training(
        network=network,
        objective=objective,
        stages=tuple(stages),
        examples=examples,
        heldout=heldout,
        seed=seed,
        folder=folder,
        run=hashlib.sha256(told.encode()).hexdigest(),
        fabric=fabric,
        keep=keep if heldout is not None else "last",
        save_every_s=save_every_s,
        most_steps=most_steps,
        opinions=opinions,
        on_step=on_step,
        on_epoch=on_epoch,
    ).go()


class _Training:
    """The loop's state. What is stored is in `_write_state`; all else follows from the arguments."""

    def __init__(self, **given: Any) -> None:
        self.network: QualityNet = given["network"]
        self.objective: Objective = given["objective"]
        self.stages: tuple[Stage, ...] = given["stages"]
        self.examples: Examples = given["examples"]
        self.heldout: HeldOut | None = given["heldout"]
        self.seed: int = given["seed"]
        self.folder: Path = given["folder"]
        self.run: str = given["run"]
        self.fabric: Fabric = given["fabric"]
        self.keep: Keep = given["keep"]
        self.save_every_s: float = given["save_every_s"]
        self.opinions: NDArray[np.float64] | None = given["opinions"]
        self.on_step: Callable[[Step], None] | None = given["on_step"]
        self.on_epoch: Callable[[Mapping[str, float]], None] | None = given["on_epoch"]
        self.stage_index, self.epoch, self.step, self.done = 0, 0, 0, 0
        for stage in self.stages:
            if self.photographs_an_epoch(stage) < stage.batch:
                raise DataError(
                    f"{self.photographs_an_epoch(stage)} training photographs",
                    expected=f"at least one batch of {stage.batch}",
                    mend="give more photographs, or a smaller batch",
                )
            if stage.batch % self.fabric.world_size:
                raise UsageError(
                    f"batches of {stage.batch} for {self.fabric.world_size} processes",
                    expected="as many photographs for each of them",
                    mend="a batch that is a multiple of the number of processes",
                )
        self.planned = sum(stage.epochs * self.steps_an_epoch(stage) for stage in self.stages)
        limit: int | None = given["most_steps"]
        self.total = self.planned if limit is None else min(self.planned, limit)
        self.rows = np.arange(0)
        self.sums: dict[str, float] = {}
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Best] = {}
        self.stale = 0

    def photographs_an_epoch(self, stage: Stage) -> int:
        # Which are drawn does not change how many.
        return self.examples.count if stage.sampling is None else len(self.order(stage))

    def steps_an_epoch(self, stage: Stage) -> int:
        return self.photographs_an_epoch(stage) // stage.batch

    def order(self, stage: Stage) -> NDArray[np.int64]:
        stream = np.random.default_rng([self.seed, self.stage_index, self.epoch])
        if stage.sampling is None:
            return stream.permutation(self.examples.count)
        if self.opinions is None:
            raise UsageError(
                "a stage with cross-sampling, of images whose opinions are not all known",
                expected="opinions, by which it draws",
                mend="leave sampling out of the stages of a student",
            )
        return draw_epoch(self.opinions, stage.sampling, stream)

    def go(self) -> list[dict[str, float]]:
        self.folder.mkdir(parents=True, exist_ok=True)
        # Convolutions of channels-last tensors take .6 of the time on a CPU.
        self.network.to(memory_format=torch.channels_last)
        self.network.to(self.fabric.device)
        if isinstance(self.objective, nn.Module):
            self.objective.to(self.fabric.device)
        state = self._read_state()
        # Before the first process writes a newer one.
        self.fabric.barrier()
        while self.stage_index < len(self.stages) and self.done < self.total:
            self._run_stage(state)
            state = None
            if self.done < self.total:
                self.stage_index, self.epoch, self.step, self.stale = self.stage_index + 1, 0, 0, 0
        kept = chosen(self.best, self.history, self.keep)
        if kept is not None:
            self.fabric.barrier()
            path = self.folder / kept_name(kept.figure)
            self.network.load_state_dict(read_state(path, self.fabric, mend=self._mend()))
        self.network.requires_grad_(True).eval()
        return self.history

    def _run_stage(self, state: dict[str, Any] | None) -> None:
        stage = self.stages[self.stage_index]
        parameters = trainable(self.network, self.objective, stage)
        raw_optimizer = make_optimizer(parameters, stage)
        if state is not None and state["optimizer"] is not None:
            raw_optimizer.load_state_dict(state["optimizer"])
        wrapped = self.fabric.setup_module(self.network)
        optimizer = self.fabric.setup_optimizers(raw_optimizer)
        steps = self.steps_an_epoch(stage)
        saved = time.monotonic()
        while self.epoch < stage.epochs and self.done < self.total:
            started = time.monotonic()
            order = self.order(stage)
            _set_training(self.network, stage)
            while self.step < steps and self.done < self.total:
                set_rates(optimizer, self._rate(stage, self.step))
                self._take_step(stage, wrapped, optimizer, order[self.step * stage.batch :][: stage.batch])
                if time.monotonic() - saved >= self.save_every_s:
                    self.seconds, started = self.seconds + time.monotonic() - started, time.monotonic()
                    self._write_state(raw_optimizer)
                    saved = time.monotonic()
            self.seconds += time.monotonic() - started
            ended = self._end_epoch(stage)
            # Told before it is kept: what is told twice can be put right, what is never told cannot.
            if self.on_epoch is not None and self.fabric.is_global_zero:
                self.on_epoch(self.history[-1])
            self._write_state(raw_optimizer)
            saved = time.monotonic()
            if ended:
                break

    def _take_step(self, stage: Stage, wrapped: Any, optimizer: Any, rows: NDArray[np.int64]) -> None:
        fabric = self.fabric
        step_seed = [self.seed, self.stage_index, self.epoch, self.step, fabric.global_rank]
        drawn = int(np.random.default_rng([*step_seed, 1]).integers(2**62))
        _seed(fabric.device, drawn)
        whole = self.epoch >= stage.epochs - stage.augmentation.whole_epochs
        views, targets = self.examples.draw(rows[fabric.global_rank :: fabric.world_size], len(self.history), whole)
        inputs = [
            torch.from_numpy(np.array(view))
            if whole
            else augment(view, stage.augmentation, np.random.default_rng([*step_seed, 0]))
            for view in views
        ]
        outputs = wrapped(*[fabric.to_device(view) for view in inputs])
        on_device = {name: fabric.to_device(torch.from_numpy(target)) for name, target in targets.items()}
        if fabric.world_size > 1:
            # Every process sees the whole batch's outputs, so that correlations and pairs are those of the batch; DDP's
            # mean over processes undoes the sum that the gathering's backward pass makes.
            outputs = {name: _gathered(fabric, output, sync_grads=True) for name, output in outputs.items()}
            on_device = {name: _gathered(fabric, target, sync_grads=False) for name, target in on_device.items()}
        # The draw of a step is the same on every process.
        shared = int(np.random.default_rng([*step_seed[:-1], 2]).integers(2**62))
        terms = self.objective(outputs, on_device, stage, shared)
        loss = torch.stack(list(terms.values())).sum()
        if not bool(torch.isfinite(loss)):
            shown = ", ".join(f"{name} {float(term.detach()):.4g}" for name, term in terms.items())
            self._stop(f"a loss that is not finite ({shown})", rows)
        optimizer.zero_grad()
        fabric.backward(loss)
        if stage.gradient_clip is not None:
            # Under 16-bit arithmetic the scaler passes over steps of infinite gradients.
            fabric.clip_gradients(wrapped, optimizer, max_norm=stage.gradient_clip, error_if_nonfinite=False)
        optimizer.step()
        for name, term in {"loss": loss, **terms}.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(term.detach())
        self.rows = rows
        self.step, self.done = self.step + 1, self.done + 1
        if self.on_step is not None and fabric.is_global_zero:
            self.on_step(Step(self.done, self.total, self.epoch, self.sums["loss"] / self.step))

    def _rate(self, stage: Stage, step: int) -> float:
        steps = self.steps_an_epoch(stage)
        at = self.epoch * steps + step
        return rate_factor(stage.schedule, at, steps=stage.epochs * steps, steps_an_epoch=steps)

    def _require_finite(self) -> None:
        """A finite loss does not make a finite gradient: weights that are broken must not take a good state's place."""
        objective = self.objective.state_dict() if isinstance(self.objective, nn.Module) else {}
        tensors = [*self.network.state_dict().values(), *objective.values()]
        if self.step and not bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all()):
            self.step -= 1
            self._stop("weights that are not finite", self.rows)

    def _stop(self, got: str, rows: NDArray[np.int64]) -> NoReturn:
        names = ", ".join(self.examples.name(int(row)) for row in rows)
        kept = self.folder / STATE_NAME
        left = f"the last good state is kept in {kept}" if kept.is_file() else "nothing had been kept yet"
        raise DataError(
            f"{got} in stage {self.stage_index + 1}, epoch {self.epoch + 1}, step {self.step + 1}, on the batch: "
            f"{names}",
            expected="finite numbers",
            mend=f"lower the learning rates, or set a gradient clip, in a new run; {left}",
        )

    def _end_epoch(self, stage: Stage) -> bool:
        """Judge, note, and say whether the stage ends here."""
        self._require_finite()
        self._share_buffers()
        line: dict[str, float] = {"stage": self.stage_index + 1, "epoch": len(self.history) + 1}
        line |= {name: total / self.step for name, total in self.sums.items()}
        line["learning_rate"] = stage.learning_rate * self._rate(stage, self.step - 1)
        started = time.monotonic()
        if self.heldout is not None:
            raw = predict(self.network, self.heldout.views, self.heldout.rows)
            ranges = _RANGES if self.keep == "least_range_mse" else None
            line |= heldout_figures(raw, self.heldout, stage.losses, ranges=ranges)
        line["seconds"] = self.seconds + time.monotonic() - started
        # Every process must take the same decisions.
        line = self.fabric.broadcast(line)
        self.history.append(line)
        self.sums, self.seconds, self.step, self.epoch = {}, 0.0, 0, self.epoch + 1
        if self.heldout is None:
            return False
        found = better(self.best, self.history, self.keep)
        self.stale = 0 if found else self.stale + 1
        for one in found:
            self.best[one.figure] = one
            if self.keep != "last":
                save_state(self.fabric, self.network.state_dict(), self.folder / kept_name(one.figure))
        return stage.patience is not None and self.stale >= stage.patience

    def _share_buffers(self) -> None:
        """Each process's batch norms have seen its own part of the batches: the first one's statistics are kept."""
        if self.fabric.world_size > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, 0)

    def _write_state(self, optimizer: torch.optim.Optimizer) -> None:
        self._require_finite()
        objective = self.objective.state_dict() if isinstance(self.objective, nn.Module) else {}
        state = {
            "run": self.run,
            "places": (self.stage_index, self.epoch, self.step, self.done, self.stale),
            "sums": self.sums,
            "seconds": self.seconds,
            "history": self.history,
            "best": [(one.figure, one.value, one.epoch) for one in self.best.values()],
            "network": self.network.state_dict(),
            "objective": objective,
            "optimizer": optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        # Before the state, after the last of which a run that goes on writes nothing more.
        if self.fabric.is_global_zero and self.history:
            write_metrics(self.folder / "metrics.csv", self.history)
        save_state(self.fabric, state, self.folder / STATE_NAME)

    def _mend(self) -> str:
        return f"name another folder, or delete {self.folder / STATE_NAME} to start again"

    def _read_state(self) -> dict[str, Any] | None:
        path = self.folder / STATE_NAME
        if not path.is_file():
            return None
        state = read_state(path, self.fabric, mend=self._mend())
        if state.get("run") != self.run:
            raise UsageError(
                f"{path}, the state of another run",
                expected="one of the same system, weights, recipe and photographs",
                mend=self._mend(),
            )
        self.network.load_state_dict(state["network"])
        if isinstance(self.objective, nn.Module):
            self.objective.load_state_dict(state["objective"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.stage_index, self.epoch, self.step, self.done, self.stale = state["places"]
        self.sums, self.seconds, self.history = state["sums"], state["seconds"], state["history"]
        self.best = {one[0]: Best(*one) for one in state["best"]}
        stage = self.stages[self.stage_index]
        if stage.patience is not None and self.stale >= stage.patience:
            self.epoch = stage.epochs
        return state


def _gathered(fabric: Fabric, tensor: Tensor, *, sync_grads: bool) -> Tensor:
    """``[n, ...]`` of each process to the batch ``[world * n, ...]``."""
    return cast("Tensor", fabric.all_gather(tensor, sync_grads=sync_grads)).flatten(0, 1)


def _seed(device: torch.device, drawn: int) -> None:
    # `torch.manual_seed` seeds every kind of device: for one that is not there it keeps each call, with its stack.
    torch.default_generator.manual_seed(drawn)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(drawn)


def _set_training(network: QualityNet, stage: Stage) -> None:
    network.train()
    if stage.parameters == "head":
        for trunk in network.trunks:
            trunk.eval()
    if stage.freeze_batch_norm:
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
