"""The page of a quickstart: what came of it, and what so short a run can and cannot show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..compress.data.distortions import distort
from ..runtime.version import __version__
from .quickstart_steps import describe_parity
from .report.budget_bars import budget_bars
from .report.page import write_page
from .report.quickstart_report import ScoredPicture, quickstart_page
from .run_pages import PAGE
from .thumbnails import thumbnail

if TYPE_CHECKING:
    from .quickstart_steps import Outcome, Rung

__all__ = ["PAGE", "write_quickstart_page"]

# What of a log is drawn: its other values are for those who train in earnest.
_CURVES = ("epoch", "loss", "heldout_srcc", "heldout_rmse")


def write_quickstart_page(folder: Path, outcome: Outcome, seconds: float) -> None:
    """Write ``report.html`` of a quickstart that took so many seconds."""
    recipe, report, measured = outcome.recipe, outcome.report, outcome.measurement
    page = quickstart_page(
        "Quickstart",
        summary=(
            f"A student, {recipe.backbone} at {recipe.width}x{recipe.height}, learned from the default ensemble in "
            f"{report.steps} steps on {report.items} views of {report.photographs} photographs, was exported to a "
            f"bundle, verified and measured. All of it took {seconds:.0f} seconds."
        ),
        pictures=[
            ScoredPicture(
                name=photo.name,
                data_uri=_thumbnail(photo.path),
                teacher=photo.teacher,
                student=photo.student,
                credit=photo.credit,
                note="held out" if photo.held_out else "learned from",
            )
            for photo in outcome.photographs
        ],
        distorted=_distorted(outcome),
        training=[{name: line[name] for name in _CURVES if name in line} for line in report.history],
        severities={
            kind: [(rung.severity, rung.teacher, rung.student) for rung in rungs]
            for kind, rungs in _by_kind(outcome).items()
        },
        budget=budget_bars(
            outcome.budget,
            {"macs": measured.macs, "parameters": measured.parameters, "size_bytes": measured.size_bytes},
        ),
        facts=_facts(outcome),
        limits=_limits(outcome),
    )
    write_page(folder / PAGE, page)


def _thumbnail(path: Path) -> str:
    with Image.open(path) as image:
        return thumbnail(image)


def _by_kind(outcome: Outcome) -> dict[str, list[Rung]]:
    """The rungs of each kind of distortion, from the photograph as it is."""
    whole = [rung for rung in outcome.ladder if rung.distortion is None]
    climbed: dict[str, list[Rung]] = {}
    for rung in outcome.ladder:
        if rung.distortion is not None:
            climbed.setdefault(rung.distortion.kind, [*whole]).append(rung)
    return climbed


def _distorted(outcome: Outcome) -> list[ScoredPicture]:
    """The photograph that was held out, under each kind at its greatest severity."""
    with Image.open(outcome.heldout.path) as image:
        whole = image.convert("RGB")
    return [
        ScoredPicture(
            name=f"{kind}, severity {rungs[-1].severity:g}",
            data_uri=thumbnail(whole if rungs[-1].distortion is None else distort(whole, rungs[-1].distortion)),
            teacher=rungs[-1].teacher,
            student=rungs[-1].student,
            credit=outcome.heldout.credit,
        )
        for kind, rungs in _by_kind(outcome).items()
    ]


def _facts(outcome: Outcome) -> dict[str, str]:
    recipe, report, measured = outcome.recipe, outcome.report, outcome.measurement
    agreement = report.agreement
    facts = {
        "student": f"{recipe.backbone} at {recipe.width}x{recipe.height}",
        "its weights began": "random" if _is_random(outcome) else "from ImageNet (extra lite)",
        "rank agreement with the teacher": "not known: one of them gave one score to all"
        if agreement is None
        else f"SRCC {agreement.value:.3f} on {len(outcome.ladder)} versions of {outcome.heldout.name}",
        "compute": _written(measured.macs, "million multiply-adds a photograph"),
        "parameters": _written(measured.parameters, "million"),
        "file": _written(measured.size_bytes, "MB"),
        "parity with torch": describe_parity(outcome.parity),
        "golden answers": "replayed here within their tolerances"
        if outcome.verification.passed
        else "NOT replayed: this machine gives other answers",
        "engine": f"{measured.engine} {measured.engine_version}, {measured.precision}, {measured.threads} threads",
        "processor": measured.host.cpu,
    }
    for name, latency in (("graph alone", measured.graph), ("file to score", measured.file_to_score)):
        if latency is not None:
            facts[name] = f"{latency.p50_ms:.1f} ms, 95th percentile {latency.p95_ms:.1f} ms, of {latency.runs} runs"
    if measured.peak_rss_mib is not None:
        facts["peak memory"] = f"{measured.peak_rss_mib:.0f} MiB, in a process that scores with it"
    facts["seed"] = str(recipe.seed)
    facts["edgeiqa"] = __version__
    return facts


def _written(value: int | None, unit: str) -> str:
    """In millions."""
    return "not known" if value is None else f"{value / 1e6:.2f} {unit}"


def _is_random(outcome: Outcome) -> bool:
    from ..compress.models.weights import NoWeights

    return isinstance(outcome.recipe.weights, NoWeights)


def _limits(outcome: Outcome) -> str:
    heldout, report = outcome.heldout.name, outcome.report
    agreement = (
        "gave one score to all"
        if report.agreement is None
        else f"orders them as the teacher does with a rank correlation (SRCC) of {report.agreement.value:.3f}"
    )
    paragraphs = [
        "It shows that the whole path works on this machine: a student within a stated budget learned from a teacher, "
        "was exported, gives the answers of the network it was exported from, and scores photographs without torch.",
        f"It shows how far the student agrees with its teacher, not with people: no person's opinion was used. On "
        f"{len(outcome.ladder)} versions of {heldout}, which it did not learn from, the student {agreement}. That is "
        "one photograph and six synthetic distortions, the same kinds at the same severities that it learned from; "
        "another --seed holds out another photograph and gives another figure. The levels of its scores, not their "
        f"order, were fitted to the teacher's on {heldout}: they lie closer there than elsewhere.",
        "It cannot show how good the student is. The teacher was fine-tuned on phone photographs and may itself be "
        "wrong about strong synthetic distortions: where its curve rises with severity, the student was taught so. A "
        "student of use needs thousands of photographs of your own kind and hours: edgeiqa distill, and edgeiqa "
        "evaluate against people's opinions.",
    ]
    if _is_random(outcome):
        paragraphs.insert(
            0,
            "The student began from RANDOM WEIGHTS, so most of these minutes went into learning to see at all. "
            'pip install "edgeiqa[lite]" gives one that begins with ImageNet\'s.',
        )
    return "\n\n".join(paragraphs)
