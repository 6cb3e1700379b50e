"""Distillation: a student learns what a teacher says of photographs, crops of them and distorted versions.

The teacher speaks once, into its cache; every later student and epoch reads what it said.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from lightning.fabric import Fabric

from ..profiles.cost import count_module
from .checkpoint import RECORD_NAME, Checkpoint, save_checkpoint
from .data.items import Item
from .data.view_store import open_views, remove_views
from .distill_plan import (
    TransferPhotographs,
    hold_out,
    judged_items,
    learned_items,
    require_distillable,
    student_system,
)
from .distill_records import DistillRecipe, DistillReport
from .distillation import DistillObjective, TransferExamples, TransferSet
from .fit import STATE_NAME, fit
from .judging import HeldOut, predict
from .keeping import remove_kept
from .models.network import QualityNet, build, output_names
from .models.records import System
from .models.weights import without_place
from .run_files import write_record
from .student_results import HIGH, LOW, accuracy_of, fit_student_map, read_finished, write_selection
from .teach import REPORT, SELECTION
from .teacher_cache import TeacherCache
from .teacher_fill import estimate, fill
from .teacher_members import ScoreTable, Teacher
from .teacher_targets import Targets, table_targets, targets
from .watch import SILENT, Watch

__all__ = [
    "TransferPhotographs",
    "distill",
    "feature_widths",
    "hold_out",
    "require_distillable",
    "student_system",
]

_VIEWS = "views"
_WORTH_MEASURING = 200
"""Items from which on a teacher looks at one first, to say how long all of them will take."""


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
    require_distillable(recipe, photographs, teacher)
    items, judged = learned_items(recipe, photographs), judged_items(recipe, photographs, teacher)
    folder.mkdir(parents=True, exist_ok=True)
    opened = TeacherCache(cache) if isinstance(teacher, Teacher) else None
    try:
        said, said_of_judged = _ask(teacher, opened, items, judged, photographs, fabric, watch)
        # People saw the photographs, not their distorted versions.
        mos = np.array(
            [np.nan if item.distortion is not None else photographs.mos.get(item.sha256, np.nan) for item in items]
        )
        running = teacher if isinstance(teacher, Teacher) else None
        transfer = TransferSet(items=items, mos=mos, said=said, teacher=running, cache=opened)
        return _train(recipe, photographs, transfer, judged, said_of_judged, teacher, folder, fabric, most_steps, watch)
    finally:
        if opened is not None:
            opened.close()


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
        names = [photographs.images[item.sha256] for item in both]
        said = table_targets(teacher, both, names, left_out=photographs.left_out)
        return _part(said, slice(len(items))), _part(said, slice(len(items), None))
    assert cache is not None
    if fabric.is_global_zero:
        if not teacher.folds_known and photographs.mos:
            watch.say(
                f"which photographs {teacher.name} was trained on is not known: of those, its scores repeat labels "
                "that it has seen"
            )
        told = estimate(cache, teacher, [*items, *judged], only_speakers=True)
        if told.items_to_do >= _WORTH_MEASURING:
            told = estimate(cache, teacher, [*items, *judged], only_speakers=True, measure=1)
        if told.items_to_do:
            lasts = "" if told.seconds is None else f", about {max(1, round(told.seconds / 60))} min"
            macs = "" if told.macs is None else f", {told.macs / 1e12:.3f} TMACs"
            watch.say(
                f"teacher {teacher.name}, {len(teacher.members)} members: {told.items_to_do} of {told.items} items to "
                f"look at{macs}{lasts}, {told.bytes / 1e6:.1f} MB for the cache {cache.folder}"
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
    facts: dict[str, Any] = {
        "recipe": msgspec.to_builtins(msgspec.structs.replace(recipe, weights=without_place(recipe.weights))),
        "teacher": "none" if teacher is None else _named(teacher),
        "training_photographs": len(photographs.training),
        "most_steps": most_steps,
        "transfer_fingerprint": _fingerprint(transfer, judged, teacher),
    }
    finished = read_finished(folder, facts) if (folder / RECORD_NAME).is_file() else None
    network = _build(recipe, system, transfer) if finished is None else finished[1]
    # After the weights, which may not be there: cutting takes longer.
    views = open_views(folder / _VIEWS, [*transfer.items, *judged], system.preprocess, on_item=watch.cut)
    rows = np.arange(len(transfer.items), len(transfer.items) + len(judged))
    by_people = photographs.judged_by_people
    truth = (
        np.array([photographs.mos[item.sha256] for item in judged])
        if by_people or said_of_judged is None
        else said_of_judged.mean
    )
    examples = TransferExamples(views, transfer, seed=recipe.seed, features=recipe.losses.features)
    if finished is not None:
        record = finished[0]
        # As it is after a training, so that its scores are the same to the bit.
        network.to(memory_format=torch.channels_last)
        network.to(fabric.device)
        history = [dict(line) for line in record.provenance["history"]]
        watch.say(f"{recipe.name}: finished already")
        raw = predict(network, views, rows)
    else:
        log = fit(
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
        # A correlation that is none (one score for all) has no number in JSON.
        history = [{name: value for name, value in line.items() if math.isfinite(value)} for line in log]
        raw = predict(network, views, rows)
        record = Checkpoint(
            name=recipe.name,
            system=system,
            score_map=fit_student_map(raw, truth, "opinions" if by_people else "the teacher's scores", watch),
            provenance={
                **facts,
                "created": datetime.now(UTC).date().isoformat(),
                "versions": {name: version(name) for name in ("edgeiqa", "torch", "timm", "lightning", "pillow")},
                "history": history,
            },
        )
        if fabric.is_global_zero:
            save_checkpoint(folder, record, network)
        fabric.barrier()
    student = record.score_map.apply(raw)
    said = None if said_of_judged is None else LOW + (HIGH - LOW) * said_of_judged.mean
    people = LOW + (HIGH - LOW) * truth if by_people else None
    agreement = accuracy_of(student, said)
    shapes = system.preprocess.shapes
    inputs = tuple(torch.zeros((1, *shapes[view.name]), dtype=torch.uint8) for view in system.preprocess.views)
    report = DistillReport(
        student=recipe.name,
        teacher=facts["teacher"],
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        macs=count_module(network.cpu(), inputs).macs,
        photographs=len(photographs.training),
        items=len(transfer.items),
        steps=_steps(recipe, history, examples.count, most_steps),
        heldout=len(photographs.heldout),
        judged=len(judged),
        heldout_is="selection part" if by_people else "unlabelled photographs",
        accuracy=accuracy_of(student, people),
        teacher_accuracy=None if said is None else accuracy_of(said, people),
        agreement=None if agreement is None else agreement.srcc,
        history=tuple(history),
    )
    # Every process has opened the views that the first one now removes.
    fabric.barrier()
    if fabric.is_global_zero:
        write_selection(folder / SELECTION, judged, photographs.images, people, said, student)
        write_record(folder / REPORT, report)
        (folder / STATE_NAME).unlink(missing_ok=True)
        remove_kept(folder)
        remove_views(folder / _VIEWS)
    return report


def _fingerprint(transfer: TransferSet, judged: Sequence[Item], teacher: Teacher | ScoreTable | None) -> str:
    """Of what is learned from and judged, and of who says so; a teacher's scores may differ in their last bits."""
    digest = hashlib.sha256()
    for item in (*transfer.items, *judged):
        digest.update(item.key.encode())
    digest.update(transfer.mos.tobytes())
    if isinstance(teacher, Teacher):
        for member in teacher.members:
            digest.update(member.key.encode())
    elif transfer.said is not None:
        digest.update(transfer.said.scores.tobytes())
    return digest.hexdigest()


def _steps(recipe: DistillRecipe, history: Sequence[Mapping[str, float]], count: int, most_steps: int | None) -> int:
    """Taken in the epochs of the log; the last one may have been cut short."""
    steps = sum(count // recipe.stages[int(line["stage"]) - 1].batch for line in history)
    return steps if most_steps is None else min(steps, most_steps)


def _build(recipe: DistillRecipe, system: System, transfer: TransferSet) -> QualityNet:
    network = build(system, weights=recipe.weights, seed=recipe.seed)
    known = transfer.mos[np.isfinite(transfer.mos)]
    mean = known if transfer.said is None else transfer.said.mean
    network.set_output_bias(float(mean.mean()))
    return network


def _named(teacher: Teacher | ScoreTable) -> str:
    return teacher.name if isinstance(teacher, Teacher) else teacher.path.name
