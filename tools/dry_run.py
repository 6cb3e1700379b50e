"""``--dry-run``: time, memory and disk of a training, from steps that are taken here and thrown away."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .show import print_json

if TYPE_CHECKING:
    import numpy as np
    from lightning.fabric import Fabric
    from numpy.typing import NDArray

    from ..compress.data.dataset import Dataset
    from ..compress.distill import TransferPhotographs
    from ..compress.distill_records import DistillRecipe
    from ..compress.stages import Stage
    from ..compress.step_time import StepTime
    from ..compress.teach_records import TeachRecipe
    from ..compress.teacher_members import ScoreTable, Teacher

__all__ = ["Expected", "distill_estimate", "free_bytes", "teach_estimate", "tell_estimate"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What a run is expected to take.

    Attributes:
        seconds: of training and of judging each epoch; the teacher's, where there is one, included.
        teacher_seconds: of filling the teacher cache; 0 where it is full or there is none.
        peak_rss_mib: largest resident set while the steps were taken; None where the system does not say it.
        peak_device_mib: most memory of the accelerator that they took; None without one that says it.
        disk_bytes: at the most at one time: views, states, checkpoints (those of its best epochs that a training keeps
            until it ends, too), and what the teacher cache grows by.
        free_bytes: on the disk of the run's folder.
        lines: for people, a line a network.
    """

    seconds: float
    teacher_seconds: float
    peak_rss_mib: float | None
    peak_device_mib: float | None
    disk_bytes: int
    free_bytes: int
    lines: tuple[str, ...]


def free_bytes(folder: Path) -> int:
    """On the disk that a folder lies on, or will lie on where it is not there yet."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.is_dir())).free


def teach_estimate(
    recipe: TeachRecipe, dataset: Dataset, fabric: Callable[[str | None], Fabric], folder: Path
) -> Expected:
    """Take two steps of every network in every kind of stage, and reckon.

    Args:
        recipe: of the ensemble.
        dataset: all photographs.
        fabric: from a member's precision to a Fabric.
        folder: where the run will lie.

    Raises:
        DataError: too few photographs for the folds.
        ModelError: a network that cannot be built.
    """
    from ..compress.data.view_store import store_bytes
    from ..compress.keeping import CRITERIA
    from ..compress.step_time import measure_step
    from ..compress.teach import divide, member_system
    from ..profiles.latency import peak_rss_mib

    split = divide(recipe, dataset)
    mos = dataset.unit_mos
    seconds, weights, going_on, lines = 0.0, 0, 0, []
    stores = {}
    # Members of one network differ in their folds and seeds, which cost nothing.
    measured: dict[tuple[object, ...], StepTime] = {}
    for member in recipe.members:
        system = member_system(member)
        stores[system.preprocess] = store_bytes(len(dataset.photos), system.preprocess)
        heldout = len(split.folds[member.heldout_fold])
        others = (fold for place, fold in enumerate(split.folds) if place != member.heldout_fold)
        opinions = mos[[row for fold in others for row in fold]]
        spent, parameters, states = 0.0, 0, 0
        for stage in member.stages:
            alike = (system, member.precision, stage.parameters, stage.batch, stage.augmentation.crop)
            if alike not in measured:
                measured[alike] = measure_step(system, stage, fabric(member.precision))
            taken = measured[alike]
            steps = _photographs_an_epoch(stage, opinions) // stage.batch
            spent += stage.epochs * (steps * taken.step_seconds + heldout * taken.look_seconds)
            parameters, states = taken.parameters, 2 * taken.state_bytes
        # One member is trained at a time, and what only its training needs is removed after it.
        going_on = max(going_on, states + 4 * parameters * len(CRITERIA[member.keep]))
        weights += 4 * parameters
        seconds += spent
        lines.append(f"{member.name}: {member.backbone} {member.width}x{member.height}, {_time(spent)}")
    return Expected(
        seconds=seconds,
        teacher_seconds=0.0,
        peak_rss_mib=peak_rss_mib(),
        peak_device_mib=_device_mib(measured.values()),
        disk_bytes=sum(stores.values()) + weights + going_on,
        free_bytes=free_bytes(folder),
        lines=tuple(lines),
    )


def _photographs_an_epoch(stage: Stage, opinions: NDArray[np.float64]) -> int:
    """All that are learned from, or as many as a stage with cross-sampling draws by their opinions in [0, 1]."""
    from ..compress.data.cross_sampling import draws, range_counts

    if stage.sampling is None:
        return len(opinions)
    return sum(draws(range_counts(opinions, stage.sampling.ranges), stage.sampling))


def distill_estimate(
    recipe: DistillRecipe,
    photographs: TransferPhotographs,
    teacher: Teacher | ScoreTable | None,
    cache: Path,
    fabric: Fabric,
    most_steps: int | None,
    folder: Path,
) -> Expected:
    """Take two steps of the student, let the teacher look at two items, and reckon; the run will lie in ``folder``.

    Raises:
        ModelError: a student that cannot be built.
    """
    from ..compress.data.view_store import store_bytes
    from ..compress.distill_plan import judged_items, learned_items, student_system
    from ..compress.distillation import group_items
    from ..compress.step_time import measure_step
    from ..compress.teacher_cache import TeacherCache
    from ..compress.teacher_fill import estimate
    from ..compress.teacher_members import Teacher as RunningTeacher
    from ..profiles.latency import peak_rss_mib

    system = student_system(recipe)
    both = (*photographs.training, *photographs.heldout)
    items, judged = learned_items(recipe, photographs), judged_items(recipe, photographs, teacher)
    groups = len(group_items(items))
    seconds, kept, left = 0.0, 0, most_steps
    measured = []
    for stage in recipe.stages:
        taken = measure_step(system, stage, fabric)
        measured.append(taken)
        steps = stage.epochs * (groups // stage.batch)
        if left is not None:
            steps = min(steps, left)
            left -= steps
        epochs = steps / max(1, groups // stage.batch)
        seconds += steps * taken.step_seconds + epochs * len(judged) * taken.look_seconds
        kept = max(kept, 4 * taken.parameters + 2 * taken.state_bytes)
    teacher_seconds, disk = 0.0, kept + store_bytes(len(items) + len(judged), system.preprocess)
    lines = [f"{recipe.name}: {len(items)} items of {len(both)} photographs, {_time(seconds)}"]
    if isinstance(teacher, RunningTeacher):
        # An empty folder is made a cache when it is opened.
        there = cache if cache.is_dir() and any(cache.iterdir()) else None
        with tempfile.TemporaryDirectory() as empty, TeacherCache(there or Path(empty)) as opened:
            told = estimate(opened, teacher, [*items, *judged], only_speakers=True, measure=2)
        teacher_seconds, disk = told.seconds or 0.0, disk + told.bytes
        lines.append(f"teacher {teacher.name}: {told.items_to_do} of {told.items} items, {_time(teacher_seconds)}")
    return Expected(
        seconds=seconds + teacher_seconds,
        teacher_seconds=teacher_seconds,
        peak_rss_mib=peak_rss_mib(),
        peak_device_mib=_device_mib(measured),
        disk_bytes=disk,
        free_bytes=free_bytes(folder),
        lines=tuple(lines),
    )


def tell_estimate(expected: Expected, as_json: bool) -> None:
    """Say it on stdout."""
    if as_json:
        print_json(expected)
        return
    for line in expected.lines:
        click.echo(line)
    memory = "not known here" if expected.peak_rss_mib is None else f"{expected.peak_rss_mib / 1024:.1f} GiB"
    if expected.peak_device_mib is not None:
        memory += f", and {expected.peak_device_mib / 1024:.1f} GiB of the accelerator's"
    click.echo(f"time {_time(expected.seconds)}, as two steps of each took here; memory {memory}")
    click.echo(f"disk {expected.disk_bytes / 1e9:.2f} GB of {expected.free_bytes / 1e9:.1f} GB free")


def _device_mib(measured: Iterable[StepTime]) -> float | None:
    said = [taken.device_bytes for taken in measured if taken.device_bytes is not None]
    return max(said) / 2**20 if said else None


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
