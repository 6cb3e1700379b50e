"""K-fold teacher ensembles: every member leaves one fold out, and nobody sees the selection part.

What a member says of the fold it left out is the only judgement of the photographs that does not flatter it: score maps
are fitted on those scores, students learn from them, and the report is made of them. The ensemble as a whole is judged
on the selection part.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import torch
from lightning.fabric import Fabric

from ..profiles.cost import count_module
from ..runtime.errors import DataError, UsageError
from .checkpoint import RECORD_NAME, Checkpoint, load_checkpoint, read_record, save_checkpoint
from .data.dataset import Dataset
from .data.items import Item, hash_files
from .data.splits import Split, split_folds
from .data.view_store import open_views, remove_views
from .fit import STATE_NAME, fit
from .judging import HeldOut, predict
from .keeping import remove_kept
from .labelled import LabelledExamples, ScoreObjective
from .models.backbones import feature_stages
from .models.network import build
from .models.records import System
from .models.systems import one_backbone
from .models.weights import load_backbone, without_place
from .mos_transform import resolve
from .run_files import write_record
from .teach_records import DataRecipe, MemberRecipe, TeachRecipe, TeachReport
from .teach_results import (
    OUT_OF_FOLD,
    SELECTION,
    NothingLearnedError,
    TeachData,
    Trained,
    agreement,
    best_of_folds,
    cross_fitted,
    fit_member_map,
    make_report,
    write_tables,
)
from .watch import SILENT, Watch

__all__ = [
    "CANDIDATES",
    "MEMBERS",
    "OUT_OF_FOLD",
    "REPORT",
    "SELECTION",
    "divide",
    "member_system",
    "require_weights",
    "teach",
]

MEMBERS, CANDIDATES, REPORT = "members", "candidates", "report.json"
_VIEWS = "views"
_LEAST_IN_A_FOLD = 10


def member_system(member: MemberRecipe) -> System:
    """The network of a member, short of its weights.

    Raises:
        ModelError: there is no such backbone, or it has no such stages.
    """
    stages = feature_stages(member.backbone) if member.features is None else member.features
    return one_backbone(
        member.backbone,
        member.width,
        member.height,
        head=member.head,
        pool=member.pool,
        stages=stages,
        decode=member.decode,
    )


def require_weights(recipe: TeachRecipe, folder: Path | None = None) -> None:
    """Load once all that the members start from: what is missing for the last one is said before the first is trained.

    Args:
        recipe: of the ensemble.
        folder: of a run that goes on: its finished members need nothing.

    Raises:
        ModelError: a backbone, size or weights that cannot be had.
        MissingExtraError: weights of a package that is not installed.
    """
    begun = [
        member
        for member in recipe.members
        if folder is None or not (_home(recipe, member, folder) / RECORD_NAME).is_file()
    ]
    starts = [(member_system(member).branches[0], member.width, member.height, member.weights) for member in begun]
    for start in dict.fromkeys(starts):
        load_backbone(*start)


def _home(recipe: TeachRecipe, member: MemberRecipe, folder: Path) -> Path:
    """Of a member; until a fold's member is chosen all are candidates."""
    home = folder / MEMBERS / member.name
    return home if not recipe.one_a_fold or home.is_dir() else folder / CANDIDATES / member.name


def _set_apart(recipe: TeachRecipe, trained: Sequence[Trained], folder: Path) -> None:
    """The folds' members leave the candidates; what loads a run looks at members alone."""
    if recipe.one_a_fold:
        for part in (MEMBERS, CANDIDATES):
            (folder / part).mkdir(exist_ok=True)
        chosen = {one.member.name for one in trained}
        # Chosen by a call that was killed, on a machine whose figures differ in their last digits.
        for home in (folder / MEMBERS).iterdir():
            if home.name not in chosen:
                home.rename(folder / CANDIDATES / home.name)
    for one in trained:
        home = _home(recipe, one.member, folder)
        if home.parent.name == CANDIDATES:
            home.rename(folder / MEMBERS / one.member.name)


def teach(
    recipe: TeachRecipe,
    dataset: Dataset,
    folder: Path,
    *,
    fabric: Fabric | Callable[[str | None], Fabric],
    split: Split | None = None,
    watch: Watch = SILENT,
) -> TeachReport:
    """Train an ensemble, or go on with one that was cut off; members that are finished are passed over.

    The folder then holds ``members/NAME/`` (a checkpoint each, with the score map that was fitted on the fold it left
    out), ``out_of_fold.csv`` (image, sha256, mos, fold, member, raw, score), ``selection.csv`` (image, sha256, mos, a
    column a member, ensemble) and ``report.json``. Where the recipe asks for one member a fold, those that were not
    chosen are in ``candidates/NAME/``. Scores are 0 to 100, raw ones as the network gives them. Of a fold
    that nobody left out, a row says the fold and no member.

    The out-of-fold scores in the table and in the report are cross-fitted: the fold is divided in five, and each fifth
    is mapped by a sigmoid that was fitted on the others; the member's own map is fitted on all five.

    Args:
        recipe: the ensemble.
        dataset: all photographs; those of other splits are for the caller to leave out (`data.dataset.select`).
        folder: of the run.
        fabric: launched, or a function that gives one for a member's precision (None: the run's own).
        split: what `divide` gives; made if it is not given.
        watch: told of progress.

    Raises:
        DataError: too few photographs for the folds, a loss that is not finite, a fold on which a member learned
            nothing, a disk without room.
        ModelError: a backbone, size or weights that cannot be had.
        UsageError: the folder holds another run.
    """
    data = TeachData(dataset, split or divide(recipe, dataset), hash_files([photo.path for photo in dataset.photos]))
    folder.mkdir(parents=True, exist_ok=True)
    candidates = []
    for member in recipe.members:
        made = fabric if isinstance(fabric, Fabric) else fabric(member.precision)
        try:
            candidates.append(_teach_member(recipe, member, data, folder, made, watch))
        except NothingLearnedError as error:
            # One of many set-ups: the others of its fold may have.
            if not recipe.one_a_fold:
                raise
            watch.say(f"{member.name} is no candidate: {error.got}")
    trained = best_of_folds(recipe, candidates) if recipe.one_a_fold else candidates
    report = make_report(recipe, data, trained, candidates if recipe.one_a_fold else ())
    # Every process has opened the views that the first one now removes.
    made.barrier()
    if made.is_global_zero:
        _set_apart(recipe, trained, folder)
        write_tables(data, trained, folder)
        write_record(folder / REPORT, report)
        remove_views(folder / _VIEWS)
    return report


def divide(recipe: TeachRecipe, dataset: Dataset) -> Split:
    """The folds and the selection part of a recipe.

    Raises:
        DataError: too few photographs for them, or for a batch.
    """
    plan = recipe.data
    split = split_folds(dataset, plan.folds, plan.selection_fraction, plan.seed)
    least, reserved = min(len(fold) for fold in split.folds), len(split.selection)
    if min(least, reserved) < _LEAST_IN_A_FOLD:
        ways = ["give more photographs"]
        if reserved < _LEAST_IN_A_FOLD:
            ways.append("ask for a larger selection part (--selection)")
        if least < _LEAST_IN_A_FOLD and plan.folds > 2:
            ways.append(f"ask for fewer folds (--folds {max(2, plan.folds // 2)})")
        raise DataError(
            f"{len(dataset.photos)} photographs, which leave {least} for the smallest of {plan.folds} folds and "
            f"{reserved} for a selection part of {plan.selection_fraction:g}",
            expected=f"at least {_LEAST_IN_A_FOLD} in each, as score maps are fitted on a fold",
            mend=", or ".join(ways),
        )
    total = sum(len(fold) for fold in split.folds)
    for member in recipe.members:
        training = total - len(split.folds[member.heldout_fold])
        batch = max(stage.batch for stage in member.stages)
        if training < batch:
            raise DataError(
                f"{training} photographs for {member.name} to learn from",
                expected=f"at least one batch of {batch}",
                mend="give more photographs, or a smaller batch (--batch)",
            )
    return split


def _teach_member(
    recipe: TeachRecipe, member: MemberRecipe, data: TeachData, folder: Path, fabric: Fabric, watch: Watch
) -> Trained:
    home = _home(recipe, member, folder)
    heldout = data.rows(data.split.folds[member.heldout_fold])
    selection = data.rows(data.split.selection)
    training = data.rows(*(fold for place, fold in enumerate(data.split.folds) if place != member.heldout_fold))
    system = member_system(member)
    items = [Item(path=photo.path, sha256=sha) for photo, sha in zip(data.dataset.photos, data.sha256, strict=True)]
    mos = data.dataset.unit_mos
    transform = None if member.mos_transform is None else resolve(member.mos_transform, mos[training])
    targets = mos if transform is None else transform.forward(mos)
    facts: dict[str, Any] = {
        "recipe": msgspec.to_builtins(msgspec.structs.replace(member, weights=without_place(member.weights))),
        "data": msgspec.to_builtins(recipe.data),
        "heldout_fold": member.heldout_fold,
        "training_photographs": len(training),
        "data_fingerprint": data.fingerprint,
    }
    if (home / RECORD_NAME).is_file():
        record, network = _finished(home, facts)
        # As it is after a training, so that its scores are the same to the bit.
        network.to(memory_format=torch.channels_last)
        network.to(fabric.device)
        views = open_views(folder / _VIEWS, items, system.preprocess, on_item=watch.cut)
        watch.say(f"{member.name}: finished already")
    else:
        watch.say(
            f"{member.name}: {member.backbone} {member.width}x{member.height}, {len(training)} photographs to learn "
            f"from, {len(heldout)} held out, {len(selection)} in the selection part"
        )
        network = build(system, weights=member.weights, seed=member.seed)
        network.set_output_bias(float(targets[training].mean()))
        # After the weights, which may not be there: cutting takes longer.
        views = open_views(folder / _VIEWS, items, system.preprocess, on_item=watch.cut)
        history = fit(
            network,
            ScoreObjective(),
            member.stages,
            LabelledExamples.of(
                views,
                targets,
                training,
                names=[photo.image for photo in data.dataset.photos],
                keys=[item.key for item in items],
            ),
            HeldOut(views, heldout, targets[heldout], transform),
            seed=member.seed,
            folder=home,
            run=msgspec.json.encode((member, recipe.data)).decode(),
            fabric=fabric,
            keep=member.keep,
            opinions=mos[training],
            on_step=lambda step: watch.step(member.name, step),
            on_epoch=lambda line: watch.epoch(member.name, line),
        )
        raw = predict(network, views, heldout)
        # Here too, before the state is thrown away, as it also asks that the member has learned something.
        cross_fitted(raw, mos[heldout], member, transform)
        record = Checkpoint(
            name=member.name,
            system=system,
            score_map=fit_member_map(
                raw,
                mos[heldout],
                member,
                transform,
                f"{len(heldout)} out-of-fold photographs (fold {member.heldout_fold} of {recipe.data.folds})",
            ),
            provenance={
                **facts,
                "created": datetime.now(UTC).date().isoformat(),
                "versions": {name: version(name) for name in ("edgeiqa", "torch", "timm", "lightning", "pillow")},
                # A correlation that is none (one score for all) has no number in JSON.
                "history": [{name: value for name, value in line.items() if math.isfinite(value)} for line in history],
            },
        )
        if fabric.is_global_zero:
            save_checkpoint(home, record, network)
        fabric.barrier()
    if fabric.is_global_zero:
        # Also what a process left that was killed between the checkpoint and this.
        (home / STATE_NAME).unlink(missing_ok=True)
        remove_kept(home)
    raw, raw_of_selection = predict(network, views, heldout), predict(network, views, selection)
    return Trained(
        member=member,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        # Last, as it moves the network to the CPU.
        macs=_macs(network, system),
        rows=heldout,
        raw=raw,
        cross_fitted=cross_fitted(raw, mos[heldout], member, transform),
        selection=record.score_map.apply(raw_of_selection),
        history=record.provenance["history"],
        agreement=agreement(raw if transform is None else transform.apply(raw), mos[heldout]),
    )


def _finished(home: Path, facts: dict[str, Any]) -> tuple[Checkpoint, Any]:
    found = read_record(home).provenance
    # Through JSON, as the record was.
    wanted = msgspec.json.decode(msgspec.json.encode(facts))
    for name, kind in (("recipe", MemberRecipe), ("data", DataRecipe)):
        # A field that has come since has its default.
        with contextlib.suppress(msgspec.ValidationError):
            found[name] = msgspec.to_builtins(msgspec.convert(found.get(name), kind))
    found = msgspec.json.decode(msgspec.json.encode(found))
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        raise UsageError(
            f"{home}, a finished member of another run (its {', '.join(differing)} differ)",
            expected="a member of this recipe and data",
            mend="name another folder with -o, or delete this member",
        )
    return load_checkpoint(home)


def _macs(network: Any, system: System) -> int:
    shapes = system.preprocess.shapes
    inputs = [torch.zeros((1, *shapes[view.name]), dtype=torch.uint8) for view in system.preprocess.views]
    return count_module(network.cpu(), tuple(inputs)).macs
