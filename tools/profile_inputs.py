"""Which bundle ``edgeiqa profile`` measures when none is named."""

from __future__ import annotations

from pathlib import Path

from ..runtime.bundle import Bundle
from ..runtime.scorer import default_bundle
from .runs import finished_runs, newest_run, read_run
from .show import say

__all__ = ["choose_bundle", "newest_bundle"]

_KINDS = ("quickstart", "distill")


def newest_bundle(runs: Path) -> Path | None:
    """The bundle in the folder of the run, of a kind that makes students, that was finished last.

    Runs that hold no bundle are passed over (`edgeiqa distill` makes a checkpoint, `edgeiqa export -o` puts a bundle
    where it is told). Of several bundles in one run the one that was written last is taken.

    Raises:
        UsageError: a run's record is broken.
    """
    for folder, run in reversed(finished_runs(runs)):
        bundles = sorted(folder.glob("*.eiqa"), key=lambda path: path.stat().st_mtime_ns)
        if run.kind in _KINDS and bundles:
            return bundles[-1]
    return None


def choose_bundle(named: Path | None, runs: Path) -> Bundle:
    """The bundle that is named; else the newest student's in ``runs``, else the default one. Says which, if not named.

    Raises:
        BundleError: it must not be used.
        UsageError: a run's record is broken.
    """
    if named is not None:
        return Bundle.open(named)
    newest, student = newest_bundle(runs), newest_run(runs, "distill")
    if student is not None and not any(student.glob("*.eiqa")):
        finished = read_run(student).finished or ""
        if newest is None or finished > (read_run(newest.parent).finished or ""):
            say(
                f"the newest student, {student}, is not measured, as its folder holds no bundle: "
                f"edgeiqa export {student} -o {student / 'student.eiqa'}, or name the bundle that was exported"
            )
    if newest is not None:
        say(f"no BUNDLE named: {newest}, the newest student with a bundle in {runs}")
        return Bundle.open(newest)
    say(f"no BUNDLE named, and no finished run in {runs} holds one: the default bundle")
    return default_bundle()
