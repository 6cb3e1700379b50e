"""Quantization-aware fine-tuning: a network learns to give its answers in INT8, for when calibration is not enough.

INT8 is simulated (see `fake_quant`) while the network goes on learning from its own answers in FP32 and from opinions.
What comes out is an ordinary checkpoint of FP32 weights that bear rounding: `export` quantizes it as any other.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from ..profiles.fit_score_map import fit_sigmoid
from ..profiles.metrics import Accuracy
from ..runtime.errors import DataError, UsageError
from ..runtime.score_map import ScoreMap
from .checkpoint import RECORD_NAME, Checkpoint, load_checkpoint, save_checkpoint
from .data.items import Item
from .data.transfer import transfer_items
from .data.view_store import open_views, remove_views
from .distill_plan import TransferPhotographs
from .distillation import TransferSet, group_items
from .fake_quant import insert_fake_quantizers, observe_ranges, remove_fake_quantizers
from .fit import STATE_NAME, fit
from .judging import HeldOut, predict
from .keeping import remove_kept
from .models.network import QualityNet
from .quant_aware_learning import OwnAnswers, QuantAwareObjective, feature_variances, weights_digest
from .quant_aware_records import QuantAwareRecipe, QuantAwareReport
from .run_files import write_record
from .student_results import HIGH, LOW, accuracy_of, read_finished, write_selection
from .teach import REPORT, SELECTION
from .watch import SILENT, Watch

__all__ = ["quantization_aware", "require_quantization_aware"]

_VIEWS = "views"
_LEAST_JUDGED = 12


def require_quantization_aware(recipe: QuantAwareRecipe, photographs: TransferPhotographs) -> None:
    """Refuse what cannot end well: nothing is computed and nothing written.

    Raises:
        DataError: too few photographs for a batch, or none to judge by.
        UsageError: losses to opinions alone, and no opinions.
    """
    losses = recipe.losses
    spoken_of = any(photo.sha256 in photographs.mos for photo in photographs.training)
    if max(losses.score, losses.rank) == 0 and not spoken_of:
        raise UsageError(
            "a loss to opinions alone, and photographs without opinions",
            expected="something to learn: the network's own scores, or opinions",
            mend="--score-weight 1, or --data mos.csv",
        )
    batch = max(stage.batch for stage in recipe.stages)
    count = len(group_items(_learned(recipe, photographs)))
    if count < batch or not photographs.heldout:
        raise DataError(
            f"{len(photographs.training)} photographs to learn from, {count} with their distorted versions, and "
            f"{len(photographs.heldout)} to judge by",
            expected=f"at least one batch of {batch}, and one to judge by",
            mend="give more photographs, --distortions 2, or a smaller --batch",
        )


def _learned(recipe: QuantAwareRecipe, photographs: TransferPhotographs) -> list[Item]:
    plan = recipe.transfer
    return transfer_items(
        photographs.training, crops=plan.crops, distortions=plan.distortions, ladder=plan.ladder, seed=plan.seed
    )


def _judged(recipe: QuantAwareRecipe, photographs: TransferPhotographs) -> list[Item]:
    """Whole photographs where people judged all of them, else distorted versions too, the more the fewer there are."""
    if photographs.judged_by_people:
        return [Item(path=photo.path, sha256=photo.sha256) for photo in photographs.heldout]
    plan = recipe.transfer
    versions = max(plan.distortions, -(-_LEAST_JUDGED // max(1, len(photographs.heldout))) - 1)
    return transfer_items(photographs.heldout, crops=1, distortions=versions, seed=plan.seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Judged:
    """What is held out.

    Attributes:
        rows: of the views.
        truth: in [0, 1]: opinions, or the scores that the network gave before.
        by_people: whether it is opinions.
        raw: scores of the network before it learns, in FP32.
    """

    rows: NDArray[np.int64]
    truth: NDArray[np.float64]
    by_people: bool
    raw: NDArray[np.float64]


def quantization_aware(
    recipe: QuantAwareRecipe,
    checkpoint: Path,
    photographs: TransferPhotographs,
    folder: Path,
    *,
    fabric: Fabric,
    most_steps: int | None = None,
    watch: Watch = SILENT,
) -> QuantAwareReport:
    """Fine-tune a checkpoint's network under simulated INT8, or go on with a run that was cut off.

    The folder then holds a checkpoint of the same system, ``report.json``, ``selection.csv`` (image, sha256, kind,
    severity, mos, teacher, student, of what was held out; the teacher is the network as it was, the student as it is,
    both in FP32) and the logs.

    Args:
        recipe: how it learns.
        checkpoint: its folder; it is only read.
        photographs: what from.
        folder: of the run.
        fabric: launched.
        most_steps: end after so many; for a trial.
        watch: told of progress.

    Raises:
        DataError: too few photographs, too little room on the disk, a loss that is not finite.
        ModelError: the folder is no checkpoint.
        UsageError: the folder holds another run, nothing is there to learn, or nothing is left to quantize.
    """
    require_quantization_aware(recipe, photographs)
    before, reference = load_checkpoint(checkpoint)
    items, judged = _learned(recipe, photographs), _judged(recipe, photographs)
    # People saw the photographs, not their distorted versions.
    mos = np.array(
        [np.nan if item.distortion is not None else photographs.mos.get(item.sha256, np.nan) for item in items]
    )
    transfer = TransferSet(items=items, mos=mos, said=None)
    facts: dict[str, Any] = {
        "recipe": msgspec.to_builtins(recipe),
        "quantization_aware": True,
        "teacher": before.name,
        "teacher_weights": weights_digest(reference),
        "training_photographs": len(photographs.training),
        "most_steps": most_steps,
        "transfer_fingerprint": _fingerprint(transfer, judged),
    }
    network = copy.deepcopy(reference)
    # Names are checked before anything is written.
    quantized = insert_fake_quantizers(network, recipe.quantization)
    if (folder / RECORD_NAME).is_file():
        record, _ = read_finished(folder, facts)
        report = msgspec.convert(
            {**record.provenance["figures"], "history": record.provenance["history"]}, QuantAwareReport
        )
        watch.say(f"{record.name}: finished already")
        _tidy(folder, report, fabric)
        return report
    folder.mkdir(parents=True, exist_ok=True)
    views = open_views(folder / _VIEWS, [*items, *judged], before.system.preprocess, on_item=watch.cut)
    held = _hold(before, reference.to(fabric.device), views, judged, len(items), photographs)
    chosen = np.linspace(0, len(items) - 1, min(recipe.calibration, len(items))).astype(np.int64)
    observe_ranges(network.to(fabric.device), views, chosen)
    int8_before = predict(network, views, held.rows)
    for module in network.modules():
        # Its own answers are given without.
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    examples = OwnAnswers(views, transfer, reference, seed=recipe.seed)
    log = fit(
        network,
        QuantAwareObjective(recipe.losses, feature_variances(reference, views, chosen)),
        recipe.stages,
        examples,
        HeldOut(views, held.rows, held.truth),
        seed=recipe.seed,
        folder=folder,
        run=msgspec.json.encode(recipe).decode(),
        fabric=fabric,
        keep=recipe.keep,
        most_steps=most_steps,
        on_step=lambda step: watch.step(before.name, step),
        on_epoch=lambda line: watch.epoch(before.name, line),
    )
    # A correlation that is none (one score for all) has no number in JSON.
    history = [{name: value for name, value in line.items() if math.isfinite(value)} for line in log]
    int8 = predict(network, views, held.rows)
    remove_fake_quantizers(network)
    raw = predict(network, views, held.rows)
    score_map = _fit_map(before, raw, held, watch)
    people = LOW + (HIGH - LOW) * held.truth if held.by_people else None
    own = LOW + (HIGH - LOW) * _unit(before, held.raw)

    def agreement(scores: NDArray[np.float64]) -> Any:
        found = accuracy_of(scores, held.raw)
        return None if found is None else found.srcc

    def accuracy(scores: NDArray[np.float64], of: Checkpoint | None = None) -> Accuracy | None:
        return accuracy_of(score_map.apply(scores) if of is None else of.score_map.apply(scores), people)

    report = QuantAwareReport(
        student=before.name,
        quantized=len(quantized),
        photographs=len(photographs.training),
        items=len(items),
        steps=_steps(recipe, history, examples.count, most_steps),
        heldout=len(photographs.heldout),
        judged=len(judged),
        heldout_is="selection part" if held.by_people else "unlabelled photographs",
        int8_before=agreement(int8_before),
        int8_after=agreement(int8),
        fp32_after=agreement(raw),
        change_before=_mean_change(_unit(before, int8_before), _unit(before, held.raw)),
        change_after=_mean_change(_unit(before, int8), _unit(before, held.raw)),
        accuracy_before=accuracy(held.raw, before),
        accuracy=accuracy(raw),
        accuracy_int8_before=accuracy(int8_before, before),
        accuracy_int8=accuracy(int8),
        history=tuple(history),
    )
    if fabric.is_global_zero:
        write_selection(folder / SELECTION, judged, photographs.images, people, own, score_map.apply(raw))
        figures = msgspec.to_builtins(report)
        figures.pop("history")
        record = Checkpoint(
            name=before.name,
            system=before.system,
            score_map=score_map,
            provenance={
                **facts,
                "created": datetime.now(UTC).date().isoformat(),
                "versions": {name: version(name) for name in ("edgeiqa", "torch", "timm", "lightning", "pillow")},
                "figures": figures,
                "history": history,
                "before": before.provenance,
            },
        )
        save_checkpoint(folder, record, network)
    _tidy(folder, report, fabric)
    return report


def _hold(
    before: Checkpoint,
    reference: QualityNet,
    views: Sequence[NDArray[np.uint8]],
    judged: Sequence[Item],
    first: int,
    photographs: TransferPhotographs,
) -> _Judged:
    rows = np.arange(first, first + len(judged))
    raw = predict(reference, views, rows)
    by_people = photographs.judged_by_people
    truth = np.array([photographs.mos[item.sha256] for item in judged]) if by_people else _unit(before, raw)
    return _Judged(rows=rows, truth=truth, by_people=by_people, raw=raw)


def _fit_map(before: Checkpoint, raw: NDArray[np.float64], held: _Judged, watch: Watch) -> ScoreMap:
    """The map fitted again; where that cannot be, the one that it had: its raw scores were to stay what they are."""
    whose = "opinions" if held.by_people else "its scores before quantization-aware training"
    truth = LOW + (HIGH - LOW) * held.truth
    try:
        return fit_sigmoid(raw, truth, LOW, HIGH, fitted_on=f"{whose} on {len(raw)} held-out images")
    except DataError as error:
        watch.say(f"its raw scores do not rise with {whose} ({error.got}): its map stays as it was")
        return before.score_map


def _unit(record: Checkpoint, raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mapped scores, in [0, 1]."""
    scores = record.score_map
    return (scores.apply(raw) - scores.low) / (scores.high - scores.low)


def _mean_change(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Mean absolute difference, in points of a hundred."""
    return float(100 * np.abs(one - other).mean())


def _fingerprint(transfer: TransferSet, judged: Sequence[Item]) -> str:
    """Of what is learned from and judged."""
    digest = hashlib.sha256()
    for item in (*transfer.items, *judged):
        digest.update(item.key.encode())
    digest.update(transfer.mos.tobytes())
    return digest.hexdigest()


def _steps(recipe: QuantAwareRecipe, history: Sequence[dict[str, float]], count: int, most_steps: int | None) -> int:
    """Taken in the epochs of the log; the last one may have been cut short."""
    steps = sum(count // recipe.stages[int(line["stage"]) - 1].batch for line in history)
    return steps if most_steps is None else min(steps, most_steps)


def _tidy(folder: Path, report: QuantAwareReport, fabric: Fabric) -> None:
    """Write the report, and remove what only a training that goes on needs."""
    fabric.barrier()
    if fabric.is_global_zero:
        write_record(folder / REPORT, report)
        (folder / STATE_NAME).unlink(missing_ok=True)
        remove_kept(folder)
        remove_views(folder / _VIEWS)
