"""Write the page of a profile: what was measured, the plan of its budget as far as it is counted, known accuracy."""

from __future__ import annotations

import importlib.util
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..profiles.budget import Budget
from ..profiles.device import load_device
from ..profiles.full_profile import Profile
from ..runtime.bundle import Bundle
from ..runtime.errors import EdgeIQAError
from ..runtime.preprocess import Resize
from .bundle_ways_out import bundle_ways_out
from .show import say
from .verb_plan import CACHE_NAME, go_on_command

if TYPE_CHECKING:
    from ..compress.plan import Plan
    from .report.plan_charts import Choice
    from .report.profile_outlook import Outlook, OwnFigure

__all__ = ["own_figures", "share_of_pixels", "write_profile_page"]

_COMPRESS = ("torch", "timm", "fvcore")


def write_profile_page(
    path: Path,
    measured: Profile,
    bundle: Bundle,
    *,
    budget: Budget | None,
    budget_text: str | None,
    device: str | None,
    image: tuple[int, int],
    runs: Path,
) -> None:
    """Write the page; what it cannot show is said in it, and on stderr.

    Args:
        path: of the page.
        measured: with its violations.
        bundle: that was measured.
        budget: that it was held against; None for none.
        budget_text: of the call's ``--budget``.
        device: of the call's ``--device``.
        image: width and height of the photographs that the plan is for.
        runs: folder of the plan's counts.

    Raises:
        OSError: it cannot be written.
    """
    from .report.page import write_page
    from .report.profile_report import profile_page

    outlook = _outlook(measured, bundle, budget, budget_text, device, image, runs)
    ways_out = () if budget is None else bundle_ways_out(bundle, measured, budget)
    write_page(path, profile_page(measured, budget=budget, ways_out=ways_out, outlook=outlook))
    say(str(path))


def _outlook(
    measured: Profile,
    bundle: Bundle,
    budget: Budget | None,
    budget_text: str | None,
    device: str | None,
    image: tuple[int, int],
    runs: Path,
) -> Outlook:
    from ..compress.known_accuracy import known_accuracy
    from .report.plan_charts import Choice
    from .report.profile_outlook import THIS_BUNDLE, Outlook

    known, own = known_accuracy().quality, own_figures(bundle)
    missing = [name for name in _COMPRESS if importlib.util.find_spec(name) is None]
    if missing:
        why = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
        mend = 'pip install "edgeiqa[compress]"'
        no_plan = f"No plan of what else would fit: {why}. To have it: {mend}"
        say(no_plan)
        return Outlook(
            no_plan=no_plan,
            no_top1=f"No backbones against their cost: {why}. To have them: {mend}",
            known=known,
            own=own,
        )
    top1, no_top1 = _top1(runs)
    share = share_of_pixels(bundle, image)
    here = (
        None
        if share is None or not measured.macs
        else Choice(measured.subject, THIS_BUNDLE, measured.macs / 1e9, 100 * share)
    )
    found, no_plan = _plan(budget, budget_text, device, image, runs)
    if found is None:
        say(no_plan)
    go_on = "" if found is None else go_on_command(found, budget_text, device)
    return Outlook(
        plan=found,
        go_on=go_on,
        no_plan=no_plan,
        here=here,
        top1=top1,
        no_top1=no_top1,
        known=known,
        own=own,
    )


def _plan(
    budget: Budget | None, budget_text: str | None, device: str | None, image: tuple[int, int], runs: Path
) -> tuple[Plan | None, str]:
    """The plan from what is counted already; without one, why, and the command that makes it."""
    if budget is None or budget.macs is None:
        return None, (
            "No plan of what else would fit: no budget bounds multiply-adds. To have it: name one, such as "
            "--budget 50GMACs"
        )
    from ..compress.plan import plan
    from ..compress.plan_counts import CountCache, UncountedError

    words = ["edgeiqa", "plan"]
    words += ["--budget", budget_text] if budget_text is not None else []
    words += ["--device", device] if device is not None else []
    words += ["--image", f"{image[0]}x{image[1]}"]
    words += ["--runs", str(runs)] if runs != Path("runs") else []
    try:
        cache = CountCache(runs / CACHE_NAME, only_known=True)
        return plan(budget, image=image, device=None if device is None else load_device(device), cache=cache), ""
    except EdgeIQAError as error:
        mend = shlex.join(words) if isinstance(error, UncountedError) else error.mend
        return None, f"No plan of what else would fit: {error.got}. To have it: {mend}"


def _top1(runs: Path) -> tuple[list[Choice], str]:
    """Backbones whose cost is counted already: their top-1 against the multiply-adds at the size of that figure."""
    from ..compress.known_accuracy import known_accuracy
    from ..compress.plan_counts import CountCache
    from .report.plan_charts import Choice
    from .report.plan_report import family

    try:
        cache = CountCache(runs / CACHE_NAME, only_known=True)
    except EdgeIQAError as error:
        return [], f"No backbones against their cost: {error.got}. To have them: {error.mend}"
    choices = []
    for backbone, figure in known_accuracy().imagenet.backbones.items():
        sounding = cache.known_sounding(backbone)
        if sounding is not None:
            macs = sounding.macs(figure.size**2)
            choices.append(Choice(f"{backbone} {figure.size}x{figure.size}", family(backbone), macs / 1e9, figure.top1))
    why = f"No backbones against their cost: none is counted in {runs / CACHE_NAME}. To have them: edgeiqa plan"
    return choices, "" if choices else why


def own_figures(bundle: Bundle) -> list[OwnFigure]:
    """What a bundle's manifest tells of its members' agreement with people.

    Notes are for people, and anything may stand there. Read is what the default bundle has: of a member ``selection``
    with ``n`` photographs and ``srcc``.
    """
    from .report.profile_outlook import OwnFigure

    found = []
    for member in bundle.manifest.members:
        note = bundle.manifest.provenance.notes.get(member.name)
        selection = note.get("selection") if isinstance(note, Mapping) else None
        if not isinstance(selection, Mapping):
            continue
        try:
            count, srcc = msgspec.convert((selection.get("n"), selection.get("srcc")), tuple[int, float])
        except msgspec.ValidationError:
            continue
        if count > 2 and -1 <= srcc <= 1:
            data = bundle.manifest.provenance.data or "data that it does not name"
            found.append(
                OwnFigure(
                    member=member.name,
                    data=f"selection part of {data}",
                    photographs=count,
                    srcc=srcc,
                    macs=member.artefacts[0].macs,
                )
            )
    return found


def share_of_pixels(bundle: Bundle, image: tuple[int, int]) -> float | None:
    """The part of a photograph's pixels that reaches a bundle's networks, as `plan` counts it; the most of the members.

    Args:
        bundle: opened.
        image: width and height of the photograph.

    Returns:
        In (0, 1]; None where a member looks otherwise than at the whole photograph, resized once.
    """
    shares = []
    for member in bundle.manifest.members:
        views = member.preprocess.views
        operations = views[0].operations if len(views) == 1 else ()
        if len(operations) != 1 or not isinstance(operations[0], Resize) or operations[0].fit != "stretch":
            return None
        resize = operations[0]
        shares.append(min(1.0, resize.width * resize.height / math.prod(image)))
    return max(shares)
