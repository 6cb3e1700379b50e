"""Gates: what a packing must pass before it becomes a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..profiles.parity import ParityReport, check_parity, hash_photos
from ..runtime.bundle import Bundle, refuse_existing, write_bundle
from ..runtime.errors import GateError
from ..runtime.manifest import GateRecord, Manifest, StoredAs
from ..runtime.scorer import Scorer
from .pack import ANSWER_ENGINE, Packing, Photograph, cut_photograph, with_only
from .rank_gate import photograph_bytes

__all__ = [
    "PARITY_TOLERANCE",
    "Accept",
    "ParityTolerance",
    "Reference",
    "Views",
    "gate_parity",
    "judge_parity",
    "parity_refusal",
    "write_gated",
    "write_judged",
]

Views = Mapping[str, NDArray[np.uint8]]
Reference = Callable[[str, Views], float]
"""Raw score of one member (by name) for one photograph's views, from the network before export."""
Accept = Callable[[Manifest, int], None]
"""Called with what would be written and the bytes of its file; what it raises goes through, and nothing is written."""


@dataclass(frozen=True, slots=True)
class ParityTolerance:
    """Largest differences that the parity gate lets pass.

    Attributes:
        score_points: of a combined score.
        raw_share: of a raw score, as a share of the range of a member's raw scores over the photographs (the narrowest
            member's): a network whose scores hardly differ does not pass for that alone.
        raw_noise: of a raw score, as a share of the largest or of 1: what passes always.
    """

    score_points: float
    raw_share: float
    raw_noise: float


PARITY_TOLERANCE: dict[StoredAs, ParityTolerance] = {
    "fp32": ParityTolerance(score_points=0.05, raw_share=0.01, raw_noise=2e-5),
    "fp16": ParityTolerance(score_points=0.25, raw_share=0.25, raw_noise=5e-3),
}
"""By how the weights are stored: FP16 rounds each to 11 bits, which moves scores although the arithmetic is FP32."""


def gate_parity(
    bundle: Bundle,
    reference: Reference,
    photos: Sequence[Photograph | Path],
    *,
    engine: str,
    precision: str,
    tolerance: ParityTolerance,
) -> tuple[ParityReport, ParityReport]:
    """The parity gate: photographs through the runtime's own path, file in and score out, against the network.

    Both sides cut the views by the one implementation of preprocessing; the network's raw scores go through the same
    score maps. Raw scores are compared too: a map that flattens or clips would hide their difference.

    Args:
        bundle: with the graphs to judge.
        reference: the network before export.
        photos: at least one; files are read one at a time.
        engine: to judge.
        precision: likewise.
        tolerance: largest differences that pass.

    Returns:
        The report on combined scores, in score points, and the one on every member's raw scores.

    Raises:
        PhotoError: a photograph cannot be read; it is named.
        GateError: a member gives all photographs the same raw score.
    """
    scorer = Scorer(bundle, engine=engine, precision=precision)
    scores: tuple[list[float], list[float]] = ([], [])
    raws: tuple[list[float], list[float]] = ([], [])
    raw_names: list[str] = []
    for named in photos:
        photo = Photograph(named.name, photograph_bytes(named))
        expected = {
            member.name: reference(member.name, cut_photograph(photo, member.preprocess))
            for member in bundle.manifest.members
        }
        got = scorer.raw(photo.data)
        raws[0].extend(expected.values())
        raws[1].extend(got[name] for name in expected)
        raw_names += [f"{photo.name}: {name}" for name in expected]
        scores[0].append(scorer.combine(expected)[0])
        scores[1].append(scorer.combine(got)[0])
    images_sha256 = hash_photos(photograph_bytes(photo) for photo in photos)
    return (
        check_parity(
            *scores,
            [photo.name for photo in photos],
            tolerance.score_points,
            engine=engine,
            precision=precision,
            images_sha256=images_sha256,
        ),
        check_parity(
            *raws,
            raw_names,
            _raw_tolerance(raws[0], len(bundle.manifest.members), tolerance),
            engine=engine,
            precision=precision,
            images_sha256=images_sha256,
            unit="raw",
        ),
    )


def _raw_tolerance(raw: Sequence[float], members: int, tolerance: ParityTolerance) -> float:
    """Of raw scores ``[photographs * members]``; those that are not finite fail by themselves.

    Raises:
        GateError: a member gives several photographs the very same raw score, so that nothing can be compared.
    """
    by_member = np.array(raw, dtype=np.float64).reshape(-1, members)
    finite = by_member[np.isfinite(by_member).all(axis=1)]
    if not len(finite):
        return tolerance.raw_noise
    ranges = np.ptp(finite, axis=0)
    if len(finite) > 1 and not ranges.all():
        raise GateError(
            f"the same raw score, {finite[0, int(ranges.argmin())]:g}, for all {len(finite)} photographs",
            expected="a network whose score depends on the photograph",
            mend="train its head, or give --images with photographs that differ",
        )
    return max(tolerance.raw_share * float(ranges.min()), tolerance.raw_noise * max(1.0, float(np.abs(finite).max())))


def parity_refusal(what: str, report: ParityReport) -> GateError:
    """The error of a report that has not passed; ``what`` names the artefact."""
    differ = f"{report.not_finite} not finite, and so" if report.not_finite else f"{report.max_abs_difference:.3g}"
    wider = "give a wider --tolerance" if report.unit == "score points" else "judge on more photographs (--images)"
    return GateError(
        f"{what}: {report.unit} {differ} away from the network on {report.worst_photo}",
        expected=f"a difference of at most {report.tolerance:g}",
        mend=f"{wider} if that is good enough, else report the network with the versions of torch and onnxscript; "
        "nothing was written",
    )


def judge_parity(
    packing: Packing, reference: Reference, photos: Sequence[Photograph | Path], *, tolerance: ParityTolerance
) -> tuple[tuple[ParityReport, ...], ...]:
    """The parity gate on a packing's artefacts, each in its `ANSWER_ENGINE`.

    What has passed the rank gate is not held to the parity that no other precision than FP32 has.

    Returns:
        By place among a member's artefacts, the report on scores and the one on raw scores, passed or not; none of what
        has passed the rank gate.

    Raises:
        GateError, PhotoError: as `gate_parity`.
    """
    gates: list[tuple[ParityReport, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        ungated = write_bundle(Path(folder) / "ungated.eiqa", packing.manifest, packing.parts)
        for place, kind in enumerate(packing.manifest.members[0].artefacts):
            if any(gate.kind == "rank" and gate.passed for gate in kind.gates):
                gates.append(())
                continue
            reports = gate_parity(
                with_only(ungated, place),
                reference,
                photos,
                engine=ANSWER_ENGINE[kind.target],
                precision=kind.precision,
                tolerance=tolerance,
            )
            gates.append(reports)
    return tuple(gates)


def write_judged(
    path: Path,
    packing: Packing,
    gates: Sequence[Sequence[ParityReport]],
    *,
    overwrite: bool = False,
    accept: Accept | None = None,
) -> Bundle:
    """Write a bundle with its parity reports in it.

    Args:
        path: of the file.
        packing: whose artefacts have passed.
        gates: what `judge_parity` gave.
        overwrite: replace a file that is there.
        accept: called before the file is there; with it, the bundle is written twice, for its size.

    Raises:
        UsageError: the file exists and may not be replaced.
    """
    refuse_existing(path, overwrite=overwrite)
    records = [
        tuple(GateRecord(kind="parity", passed=report.passed, report=msgspec.to_builtins(report)) for report in reports)
        for reports in gates
    ]
    members = tuple(
        msgspec.structs.replace(
            member,
            artefacts=tuple(
                msgspec.structs.replace(artefact, gates=(*artefact.gates, *judged))
                for artefact, judged in zip(member.artefacts, records, strict=True)
            ),
        )
        for member in packing.manifest.members
    )
    gated = msgspec.structs.replace(packing.manifest, members=members)
    if accept is not None:
        # Not beside the output: what is refused leaves nothing, and a file that is to be replaced stays.
        with tempfile.TemporaryDirectory() as folder:
            whole = write_bundle(Path(folder) / "whole.eiqa", gated, packing.parts)
            accept(whole.manifest, whole.size_bytes)
    return write_bundle(path, gated, packing.parts, overwrite=overwrite)


def write_gated(
    path: Path,
    packing: Packing,
    reference: Reference,
    photos: Sequence[Photograph | Path],
    *,
    tolerance: ParityTolerance,
    overwrite: bool = False,
) -> tuple[Bundle, tuple[ParityReport, ...]]:
    """`judge_parity`, then `write_judged` if all have passed.

    Returns:
        The bundle, and for each artefact of a member its report on scores and its report on raw scores.

    Raises:
        GateError: an artefact is further from the network than the tolerance; nothing is written.
        UsageError: the file exists and may not be replaced.
    """
    refuse_existing(path, overwrite=overwrite)
    gates = judge_parity(packing, reference, photos, tolerance=tolerance)
    for artefact, reports in zip(packing.manifest.members[0].artefacts, gates, strict=True):
        for report in reports:
            if not report.passed:
                raise parity_refusal(f"{artefact.target} {artefact.precision}", report)
    bundle = write_judged(path, packing, gates, overwrite=overwrite)
    return bundle, tuple(report for reports in gates for report in reports)
