"""Distillation: a student learns what a teacher says of photographs, crops of them and distorted versions.

The teacher speaks once, into its cache; every later student and epoch reads what it said.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from ..profiles.cost import count_module
from ..profiles.fit_score_map import fit_sigmoid
from ..profiles.metrics import Accuracy, evaluate
from ..runtime.errors import DataError, UsageError
from ..runtime.score_map import Affine, ScoreMap
from ..runtime.splitmix import permutation
from .checkpoint import RECORD_NAME, Checkpoint, load_checkpoint, save_checkpoint
from .data.items import Item, Photograph
from .data.transfer import transfer_items
from .data.view_store import open_views
from .distill_records import DistillRecipe, DistillReport, Transfer
from .distillation import DistillObjective, TransferExamples, TransferSet
from .fit import STATE_NAME, HeldOut, fit, predict
from .models.backbones import feature_stages
from .models.network import QualityNet, build, output_names
from .models.records import System
from .models.systems import one_backbone
from .teach import REPORT, SELECTION
from .teacher_cache import TeacherCache
from .teacher_fill import estimate, fill
from .teacher_members import ScoreTable, Teacher
from .teacher_targets import Targets, table_targets, targets
from .watch import SILENT, Watch

__all__ = ["TransferPhotographs", "distill", "feature_widths", "hold_out", "student_system"]

_VIEWS = "views"
_LOW, _HIGH = 0.0, 100.0
_LEAST_JUDGED = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferPhotographs:
    """The photographs of a distillation, no content twice.

    Attributes:
        training: that are learned from.
        heldout: that are only judged.
        mos: opinions in [0, 1] by sha256, for those that have one.
        images: names by sha256, as tables have them.
    """

    training: tuple[Photograph, ...]
    heldout: tuple[Photograph, ...]
    mos: Mapping[str, float]
    images: Mapping[str, str]

    @property
    def judged_by_people(self) -> bool:
        """Whether all that is held out has opinions."""
        return bool(self.heldout) and all(photo.sha256 in self.mos for photo in self.heldout)


def hold_out(
    photographs: Sequence[Photograph], *, fraction: float, seed: int
) -> tuple[list[Photograph], list[Photograph]]:
    """Divide unlabelled photographs into those that are learned from and at least one that is only judged.

    Raises:
        DataError: there are fewer than two.
    """
    if len(photographs) < 2:
        raise DataError(
            f"{len(photographs)} photographs", expected="at least two: one is only judged", mend="give more photographs"
        )
    order = permutation(seed, len(photographs))
    apart = set(order[: max(1, round(fraction * len(photographs)))])
    return (
        [photo for place, photo in enumerate(photographs) if place not in apart],
        [photo for place, photo in enumerate(photographs) if place in apart],
    )


def student_system(recipe: DistillRecipe) -> System:
    """The student, short of its weights.

    Raises:
        ModelError: there is no such backbone, or it has no such stages.
    """
    stages = feature_stages(recipe.backbone) if recipe.features is None else recipe.features
    return one_backbone(
        recipe.backbone, recipe.width, recipe.height, head=recipe.head, stages=stages, decode=recipe.decode
    )


def feature_widths(network: QualityNet) -> dict[str, int]:
    """Width of each of a network's feature outputs, by name."""
    widths: list[int] = []
    for branch, trunk in zip(network.system.branches, network.trunks, strict=True):
        each: Any = trunk
        widths += [len(branch.views) * width for width in (each.width, *each.stage_widths)]
    return dict(zip(output_names(network.system)[1:], widths, strict=True))


def distill(
    recipe: DistillRecipe,
    photographs: TransferPhotographs,
    teacher: Teacher | ScoreTable | None,
    folder: Path,
    *,
    cache: Path,
    fabric: Fabric,
    most_steps: int | None = None,
    watch: Watch = SILENT,
) -> DistillReport:
    """Train a student, or go on with one that was cut off.

    The folder then holds the student's checkpoint, ``report.json``, ``selection.csv`` (image, sha256, mos, teacher,
    student, of what was held out) and the logs.

    Args:
        recipe: the student and how it learns.
        photographs: what from.
        teacher: None to learn from opinions alone.
        folder: of the run.
        cache: folder of the teacher cache; made if it is not there.
        fabric: launched.
        most_steps: end after so many; for a trial.
        watch: told of progress.

    Raises:
        DataError: nothing to learn from, too little room on the disk, a loss that is not finite, a table of scores
            that says nothing of what is asked.
        ModelError: a student that cannot be built, or whose features cannot be paired with the teacher's.
        UsageError: the folder holds another run, or losses to a teacher without one.
    """
    _require_teacher(recipe, photographs, teacher)
    plan = recipe.transfer
    items = transfer_items(photographs.training, crops=plan.crops, distortions=plan.distortions, seed=plan.seed)
    judged = (
        [Item(path=photo.path, sha256=photo.sha256) for photo in photographs.heldout]
        if photographs.judged_by_people
        else transfer_items(
            photographs.heldout, crops=1, distortions=_distortions_judged(plan, photographs), seed=plan.seed
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    opened = TeacherCache(cache) if isinstance(teacher, Teacher) else None
    try:
        said, said_of_judged = _ask(teacher, opened, items, judged, photographs, fabric, watch)
        mos = np.array([photographs.mos.get(item.sha256, np.nan) for item in items])
        running = teacher if isinstance(teacher, Teacher) else None
        transfer = TransferSet(items=items, mos=mos, said=said, teacher=running, cache=opened)
        return _train(recipe, photographs, transfer, judged, said_of_judged, teacher, folder, fabric, most_steps, watch)
    finally:
        if opened is not None:
            opened.close()


def _distortions_judged(plan: Transfer, photographs: TransferPhotographs) -> int:
    """Of few photographs more distorted versions, so that there is an order to agree on."""
    return max(plan.distortions, -(-_LEAST_JUDGED // max(1, len(photographs.heldout))) - 1)


def _require_teacher(
    recipe: DistillRecipe, photographs: TransferPhotographs, teacher: Teacher | ScoreTable | None
) -> None:
    if teacher is None and recipe.losses.teacher:
        raise UsageError(
            "losses to a teacher, and none",
            expected="a teacher, or a loss to opinions alone",
            mend="name a teacher with --teacher, or: --score-weight 0 --feature-weight 0 --mos-weight 1",
        )
    if isinstance(teacher, ScoreTable) and recipe.losses.features:
        raise UsageError(
            f"losses to the features of {teacher.path}, a table of scores",
            expected="a teacher with features",
            mend="--feature-weight 0, or a teacher that runs",
        )
    if not recipe.losses.teacher and not any(photo.sha256 in photographs.mos for photo in photographs.training):
        raise UsageError(
            "a loss to opinions alone, and photographs without opinions",
            expected="photographs with opinions",
            mend="--data mos.csv",
        )


def _ask(
    teacher: Teacher | ScoreTable | None,
    cache: TeacherCache | None,
    items: Sequence[Item],
    judged: Sequence[Item],
    photographs: TransferPhotographs,
    fabric: Fabric,
    watch: Watch,
) -> tuple[Targets | None, Targets | None]:
    if teacher is None:
        return None, None
    if isinstance(teacher, ScoreTable):
        both = [*items, *judged]
        said = table_targets(teacher, both, [photographs.images[item.sha256] for item in both])
        return _part(said, slice(len(items))), _part(said, slice(len(items), None))
    assert cache is not None
    if fabric.is_global_zero:
        told = estimate(cache, teacher, [*items, *judged], only_speakers=True)
        if told.items_to_do:
            macs = "" if told.macs is None else f", {told.macs / 1e12:.3f} TMACs"
            watch.say(
                f"teacher {teacher.name}, {len(teacher.members)} members: {told.items_to_do} of {told.items} items to "
                f"look at{macs}, {told.bytes / 1e6:.1f} MB for the cache {cache.folder}"
            )
        fill(cache, teacher, [*items, *judged], only_speakers=True, on_step=watch.ask)
    fabric.barrier()
    return targets(cache, teacher, items), targets(cache, teacher, judged)


def _part(said: Targets, rows: slice) -> Targets:
    return replace(
        said,
        keys=said.keys[rows],
        mean=said.mean[rows],
        spread=said.spread[rows],
        scores=said.scores[rows],
        mask=said.mask[rows],
    )


def _train(
    recipe: DistillRecipe,
    photographs: TransferPhotographs,
    transfer: TransferSet,
    judged: Sequence[Item],
    said_of_judged: Targets | None,
    teacher: Teacher | ScoreTable | None,
    folder: Path,
    fabric: Fabric,
    most_steps: int | None,
    watch: Watch,
) -> DistillReport:
    system = student_system(recipe)
    views = open_views(folder / _VIEWS, [*transfer.items, *judged], system.preprocess, on_item=watch.cut)
    rows = np.arange(len(transfer.items), len(transfer.items) + len(judged))
    by_people = photographs.judged_by_people
    truth = (
        np.array([photographs.mos[item.sha256] for item in judged])
        if by_people or said_of_judged is None
        else said_of_judged.mean
    )
    examples = TransferExamples(views, transfer, seed=recipe.seed, features=recipe.losses.features)
    if (folder / RECORD_NAME).is_file():
        record, network = load_checkpoint(folder)
        history = [dict(line) for line in record.provenance["history"]]
        watch.say(f"{recipe.name}: finished already")
    else:
        network = _build(recipe, system, transfer)
        history = fit(
            network,
            DistillObjective(recipe.losses, feature_widths(network), transfer, seed=recipe.seed),
            recipe.stages,
            examples,
            HeldOut(views, rows, truth),
            seed=recipe.seed,
            folder=folder,
            run=msgspec.json.encode(recipe).decode(),
            fabric=fabric,
            keep=recipe.keep,
            most_steps=most_steps,
            on_step=lambda step: watch.step(recipe.name, step),
            on_epoch=lambda line: watch.epoch(recipe.name, line),
        )
        raw = predict(network, views, rows)
        record = Checkpoint(
            name=recipe.name,
            system=system,
            score_map=_student_map(raw, truth, "opinions" if by_people else "the teacher's scores", watch),
            provenance={
                "recipe": msgspec.to_builtins(recipe),
                "teacher": "none" if teacher is None else _named(teacher),
                "training_photographs": len(photographs.training),
                "created": datetime.now(UTC).date().isoformat(),
                "versions": {name: version(name) for name in ("edgeiqa", "torch", "timm", "lightning", "pillow")},
                "history": history,
            },
        )
        if fabric.is_global_zero:
            save_checkpoint(folder, record, network)
        fabric.barrier()
    student = record.score_map.apply(predict(network, views, rows))
    said = None if said_of_judged is None else _LOW + (_HIGH - _LOW) * said_of_judged.mean
    people = _LOW + (_HIGH - _LOW) * truth if by_people else None
    agreement = _accuracy(student, said)
    shapes = system.preprocess.shapes
    inputs = tuple(torch.zeros((1, *shapes[view.name]), dtype=torch.uint8) for view in system.preprocess.views)
    report = DistillReport(
        student=recipe.name,
        teacher="none" if teacher is None else _named(teacher),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        macs=count_module(network.cpu(), inputs).macs,
        photographs=len(photographs.training),
        items=len(transfer.items),
        steps=sum(stage.epochs * (examples.count // stage.batch) for stage in recipe.stages)
        if most_steps is None
        else most_steps,
        heldout=len(photographs.heldout),
        heldout_is="selection part" if by_people else "unlabelled photographs",
        accuracy=_accuracy(student, people),
        teacher_accuracy=None if said is None else _accuracy(said, people),
        agreement=None if agreement is None else agreement.srcc,
        history=tuple(history),
    )
    if fabric.is_global_zero:
        _write_table(folder / SELECTION, judged, photographs, people, said, student)
        partial = folder / f"{REPORT}.partial"
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
        partial.replace(folder / REPORT)
        for name in (STATE_NAME, "best.pt"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / _VIEWS, ignore_errors=True)
    return report


def _build(recipe: DistillRecipe, system: System, transfer: TransferSet) -> QualityNet:
    torch.manual_seed(recipe.seed)
    network = build(system, weights=recipe.weights)
    known = transfer.mos[np.isfinite(transfer.mos)]
    mean = known if transfer.said is None else transfer.said.mean
    network.set_output_bias(float(mean.mean()))
    return network


def _named(teacher: Teacher | ScoreTable) -> str:
    return teacher.name if isinstance(teacher, Teacher) else teacher.path.name


def _student_map(raw: NDArray[np.float64], truth: NDArray[np.float64], whose: str, watch: Watch) -> ScoreMap:
    fitted_on = f"{whose} on {len(raw)} held-out images"
    try:
        return fit_sigmoid(raw, _LOW + (_HIGH - _LOW) * truth, _LOW, _HIGH, fitted_on=fitted_on)
    except DataError as error:
        watch.say(
            f"its raw scores of {fitted_on} do not rise with them ({error.got}): its map is the straight line from "
            "[0, 1], which it was trained towards"
        )
        step = Affine(scale=_HIGH - _LOW, offset=_LOW)
        return ScoreMap(steps=(step,), low=_LOW, high=_HIGH, fitted_on="nothing")


def _accuracy(scores: NDArray[np.float64], truth: NDArray[np.float64] | None) -> Accuracy | None:
    """None too of fewer than three images, and where one side gives one score to all: there is no correlation."""
    if truth is None:
        return None
    try:
        return evaluate(scores, truth)
    except DataError:
        return None


def _write_table(
    path: Path,
    judged: Sequence[Item],
    photographs: TransferPhotographs,
    people: NDArray[np.float64] | None,
    said: NDArray[np.float64] | None,
    student: NDArray[np.float64],
) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "sha256", "kind", "severity", "mos", "teacher", "student"])
        for row, item in enumerate(judged):
            kind = ("", "") if item.distortion is None else (item.distortion.kind, repr(item.distortion.severity))
            known = ["" if scores is None else repr(float(scores[row])) for scores in (people, said, student)]
            writer.writerow([photographs.images[item.sha256], item.sha256, *kind, *known])
    partial.replace(path)
