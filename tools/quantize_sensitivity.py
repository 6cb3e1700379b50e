"""``edgeiqa quantize --sensitivity`` and ``--auto-mixed``: which blocks INT8 costs most, and the fewest to spare it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..export.auto_mixed import MixedSearch, fewest_float_blocks
from ..export.calibration import CALIBRATION_COUNT, CalibrationRecord
from ..export.convert import ConversionOptions, FloatMember, recipe_for
from ..export.kinds import Kind
from ..export.pack import golden_photographs
from ..export.quant_recipe import QuantRecipe
from ..export.sensitivity import NO_DISTORTION, SensitivityReport, measure_sensitivity
from ..runtime.bundle import Bundle
from ..runtime.errors import GateError, UsageError
from ..runtime.manifest import Mean, Target
from ..runtime.scorer import Scorer
from .export_artefacts import Calibration, RankLimits, calibrate, make_artefacts
from .export_inputs import find_members, only_bundle
from .export_photographs import ExportPhotographs, find_export_photographs
from .export_scorers import FloatBundle, float_graphs, open_scorer
from .export_source import Source, source_of_bundle, source_of_trained
from .show import say

if TYPE_CHECKING:
    from ..compress.data.items import Item

__all__ = ["SENSITIVITY_VIEWS", "Sensitivity", "SensitivityCall", "choose_views", "mixed_recipe", "run_sensitivity"]

SENSITIVITY_VIEWS = 64
_VERSIONS = 4
"""Views of each photograph: as it is, and distorted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SensitivityCall:
    """What is measured, and on what.

    Attributes:
        network: a checkpoint, a run with one, or a bundle; None for the newest run.
        member: which of several networks.
        target: whose recipe is measured, and which the search quantizes for.
        auto_mixed: search the fewest blocks to keep float, too.
        calibration: folder of photographs of the training side; None for the run's.
        images: folder of photographs that are judged; None for the run's selection part.
        data: table with their opinions.
        split: of the table.
        calibration_count: of calibration images.
        count: of views whose scores are compared.
        seed: of all draws.
        options: of the conversion; its recipe, where it has one.
        limits: of the rank gate.
        hold_drop: whether its limit of the SRCC lost to opinions was asked for, and not the usual one.
        runs: folder of runs.
        threads: of the engine and of reading files; None for all processors.
    """

    network: Path | None = None
    member: str | None = None
    target: Target = "onnx"
    auto_mixed: bool = False
    calibration: Path | None = None
    images: Path | None = None
    data: Path | None = None
    split: str | None = None
    calibration_count: int = CALIBRATION_COUNT
    count: int = SENSITIVITY_VIEWS
    seed: int = 0
    options: ConversionOptions = field(default_factory=ConversionOptions)
    limits: RankLimits = field(default_factory=RankLimits)
    hold_drop: bool = False
    runs: Path = Path("runs")
    threads: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensitivity:
    """What came of it.

    Attributes:
        member: the network's name.
        report: its blocks, ranked.
        calibration: which images set the ranges.
        source: where photographs come from, for people.
        search: for the fewest float blocks; None where there was none.
        recipe: that keeps them float, of the target; None where there was no search, or nothing passes.
    """

    member: str
    report: SensitivityReport
    calibration: CalibrationRecord
    source: str
    search: MixedSearch | None = None
    recipe: QuantRecipe | None = None


def run_sensitivity(call: SensitivityCall) -> Sensitivity:
    """Measure each block's sensitivity; with ``auto_mixed`` also search which blocks must stay float for the gate.

    Raises:
        UsageError: there is no such network, or several and none is named; photographs or a recipe are not as stated.
        DataError, PhotoError: photographs are too few or cannot be read.
        ExportError, MissingExtraError: a graph cannot be made.
        EngineError: a graph fails to run.
    """
    network, folders = _network(call)
    photographs = find_export_photographs(
        folders,
        calibration=call.calibration,
        images=call.images,
        data=call.data,
        split=call.split,
        most=call.calibration_count,
        seed=call.seed,
        gated=call.auto_mixed,
        hold_drop=call.hold_drop,
        threads=call.threads,
    )
    items = choose_views(photographs.judged, count=call.count, seed=call.seed)
    floats = network()
    with open_scorer(floats, float_graphs(floats), call.threads) as reference:
        calibration = calibrate(reference, photographs, count=call.calibration_count, seed=call.seed)
        found = _measure(call, floats, items, calibration, photographs.source, reference.threads)
        if call.auto_mixed:
            found = _search(call, found, floats, photographs, calibration, reference)
    return found


def choose_views(judged: Sequence[Item], *, count: int, seed: int) -> tuple[Item, ...]:
    """Photographs as they are, and drawn distortions of each, four views a photograph; of few photographs more.

    Args:
        judged: at least one; of what is distorted already the photograph is taken.
        count: of views.
        seed: of the choice and of the distortions, in [0, 2**63).

    Returns:
        ``count`` different views, a photograph's one after the other.

    Raises:
        UsageError: no photographs, or ``count`` is not positive.
    """
    from ..compress.data.distortions import draw_distortion
    from ..runtime.splitmix import permutation

    photographs = list({item.sha256: replace(item, distortion=None, crop=None) for item in judged}.values())
    if count < 1 or not photographs:
        raise UsageError(
            f"{count} views of {len(photographs)} photographs", expected="at least one of each", mend="name photographs"
        )
    taken = permutation(seed, len(photographs))[: max(1, count // _VERSIONS)]
    versions = [count // len(taken) + (place < count % len(taken)) for place in range(len(taken))]
    return tuple(
        replace(
            photographs[place],
            distortion=draw_distortion(seed, photographs[place].sha256, version - 1) if version else None,
        )
        for place, of_it in zip(taken, versions, strict=True)
        for version in range(of_it)
    )


def mixed_recipe(recipe: QuantRecipe, float_blocks: Sequence[str]) -> QuantRecipe:
    """The recipe with further blocks float."""
    if not float_blocks:
        return recipe
    kept = tuple(dict.fromkeys((*recipe.float_blocks, *float_blocks)))
    return msgspec.structs.replace(recipe, name=f"{recipe.name}-mixed", float_blocks=kept)


def _network(call: SensitivityCall) -> tuple[Callable[[], FloatBundle], list[Path]]:
    """What makes one network in FP32, and the folder of its checkpoint."""
    inputs = () if call.network is None else (call.network,)
    path = only_bundle(inputs)
    if path is None:
        trained, folders = find_members(inputs, None, None, None, None, call.runs)
        place = _place([member.name for member in trained], call.member)
        source = source_of_trained([trained[place]], golden=golden_photographs())
        return (lambda: _alone(source, source.floats()[0])), [folders[place]]
    source = source_of_bundle(Bundle.open(path), threads=call.threads)
    members = source.floats()
    member = members[_place([one.name for one in members], call.member)]
    return (lambda: _alone(source, member)), []


def _alone(source: Source, member: FloatMember) -> FloatBundle:
    return FloatBundle(members=(member,), combine=Mean(), scale=source.scale, golden=source.golden)


def _place(names: Sequence[str], wanted: str | None) -> int:
    if (wanted is None and len(names) > 1) or (wanted is not None and wanted not in names):
        raise UsageError(
            f"{len(names)} networks, {', '.join(names)}" + ("" if wanted is None else f", and --member {wanted}"),
            expected="one, as each has blocks of its own",
            mend=f"--member {names[0]}, say",
        )
    return 0 if wanted is None else names.index(wanted)


def _measure(
    call: SensitivityCall,
    floats: FloatBundle,
    items: Sequence[Item],
    calibration: Calibration,
    source: str,
    threads: int,
) -> Sensitivity:
    from ..compress.data.items import cut_items

    (member,) = floats.members
    say(f"{member.name}: each block quantized alone and left out alone, on {len(items)} views")
    report = measure_sensitivity(
        member,
        calibration.images[member.name],
        recipe_for(member, Kind(call.target, "int8"), call.options),
        views=list(cut_items(items, member.preprocess)),
        distortions=[NO_DISTORTION if item.distortion is None else item.distortion.kind for item in items],
        threads=threads,
        on_graph=_tell_sometimes,
    )
    return Sensitivity(member=member.name, report=report, calibration=calibration.record, source=source)


def _tell_sometimes(done: int, total: int) -> None:
    if done % 10 == 0 or done == total:
        say(f"{done} of {total} graphs run")


def _search(
    call: SensitivityCall,
    found: Sensitivity,
    floats: FloatBundle,
    photographs: ExportPhotographs,
    calibration: Calibration,
    reference: Scorer,
) -> Sensitivity:
    """Quantize for the target with fewer and fewer blocks float, as `export` would, and gate each."""
    (member,) = floats.members
    kind = Kind(call.target, "int8")
    recipe = recipe_for(member, kind, call.options)
    options = replace(call.options, threads=reference.threads)

    def passes(blocks: tuple[str, ...]) -> bool:
        say(f"float: {', '.join(blocks) or 'no block'}")
        mixed = replace(options, recipe=mixed_recipe(recipe, blocks))
        try:
            ((_, artefact),) = make_artefacts(
                floats, [kind], photographs, calibration, reference=reference, options=mixed, limits=call.limits
            )
            reason = artefact.reason
        except GateError as error:
            reason = error.got
        say(f"failed: {reason}" if reason else "passed")
        return not reason

    search = fewest_float_blocks(found.report.ranking, passes)
    kept = search.float_blocks
    return replace(found, search=search, recipe=None if kept is None else mixed_recipe(recipe, kept))
