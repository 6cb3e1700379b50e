"""``runs/``: each long piece of work in a folder of its own, which says in ``run.json`` what it is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ..runtime.errors import UsageError
from ..runtime.version import __version__

__all__ = ["RUN_NAME", "Run", "finish_run", "finished_runs", "goes_on", "newest_run", "read_run", "start_run"]

RUN_NAME = "run.json"
_PARTIAL_NAME = f"{RUN_NAME}.partial"


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a folder of ``runs/`` is.

    Attributes:
        kind: the verb that made it.
        created: when it was begun, ISO 8601, UTC.
        finished: when it was done, likewise; None while it is not.
        version: of edgeiqa.
        settings: all that decides its outcome; a run goes on only with the same ones.
    """

    kind: str
    created: str
    finished: str | None = None
    version: str = __version__
    settings: dict[str, Any]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def start_run(runs: Path, kind: str, label: str, settings: object, *, folder: Path | None = None) -> Path:
    """Begin a run in a new folder ``runs/KIND-LABEL-NUMBER``, or in a named one; there, go on with the run it holds.

    Without a label the new folder is ``runs/KIND-NUMBER``.

    Raises:
        UsageError: the named folder holds another run, or other files.
    """
    # As they come back from the file.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(settings))
    if folder is None:
        folder = _new_folder(runs, f"{kind}-{label}" if label else kind)
    elif goes_on(folder, kind, settings):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, Run(kind=kind, created=_now(), settings=plain))
    return folder


def goes_on(folder: Path, kind: str, settings: object) -> bool:
    """Whether a named folder holds this run already; False of a new or empty one. Nothing is written.

    Raises:
        UsageError: it holds another run, or other files.
    """
    if (folder / RUN_NAME).is_file():
        _require_same(folder, kind, msgspec.json.decode(msgspec.json.encode(settings)))
        return True
    # A process that was killed at its beginning leaves no more than that.
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= {_PARTIAL_NAME}):
        raise UsageError(
            f"{folder}, which holds files and no {RUN_NAME}" if folder.is_dir() else f"{folder}, a file",
            expected="a new folder, an empty one, or that of a run to go on with",
            mend="name another folder with -o",
        )
    return False


def _new_folder(runs: Path, name: str) -> Path:
    """Made here, so that two runs that begin at once do not share it."""
    number = 1
    while True:
        folder = runs / f"{name}-{number:03}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def _require_same(folder: Path, kind: str, settings: dict[str, Any]) -> None:
    found = read_run(folder)
    names = sorted(found.settings.keys() | settings.keys())
    differing = [name for name in names if found.settings.get(name) != settings.get(name)]
    if found.kind != kind:
        differing = ["kind", *differing]
    if differing:
        raise UsageError(
            f"{folder}, another run: its {', '.join(differing)} differ",
            expected="the settings it was begun with",
            mend=f"name another folder with -o, or go on with it by: edgeiqa {found.kind} --resume {folder}",
        )


def read_run(folder: Path) -> Run:
    """What a folder says of itself.

    Raises:
        UsageError: it is no run's, or its record is broken.
    """
    path = folder / RUN_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Run)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} ({error})", expected="the folder of a run", mend="name such a folder") from error


def finish_run(folder: Path) -> None:
    """Note that a run is done; noted before, the time stays."""
    run = read_run(folder)
    if run.finished is None:
        _write(folder, msgspec.structs.replace(run, finished=_now()))


def finished_runs(runs: Path) -> list[tuple[Path, Run]]:
    """The folders of ``runs`` that hold a finished run, the one that was finished last at the end.

    Raises:
        UsageError: a run's record is broken.
    """
    found = [(path.parent, read_run(path.parent)) for path in runs.glob(f"*/{RUN_NAME}")]
    done = [(folder, run) for folder, run in found if run.finished is not None]
    return sorted(done, key=lambda one: (one[1].finished or "", one[0]))


def newest_run(runs: Path, kind: str) -> Path | None:
    """The folder of the run of a kind that was finished last, if there is one."""
    return next((folder for folder, run in reversed(finished_runs(runs)) if run.kind == kind), None)


def _write(folder: Path, run: Run) -> None:
    partial = folder / _PARTIAL_NAME
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=2))
    partial.replace(folder / RUN_NAME)
