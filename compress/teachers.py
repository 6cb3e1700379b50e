"""Teachers by name: a run, checkpoints, a factory, timm, torchvision, a bundle, a graph, a table of scores.

A teacher is anything that gives scores. What each kind needs beyond the base installation is imported only for it.
"""

from __future__ import annotations

import csv
import importlib
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..runtime.errors import DataError, MissingExtraError, ModelError, UsageError
from ..runtime.scorer import ensemble_bundle
from .graph_teachers import bundle_teacher, onnx_teacher
from .teacher_members import (
    Features,
    Part,
    ScoreTable,
    Teacher,
    TeacherMember,
    TorchTeacher,
    Views,
    read_score_table,
)

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "Features",
    "Part",
    "ScoreTable",
    "Teacher",
    "TeacherMember",
    "TorchTeacher",
    "Views",
    "load_teacher",
    "load_teachers",
]

OUT_OF_FOLD_NAME = "out_of_fold.csv"
SELECTION_NAME = "selection.csv"
_RECORD_NAME = "checkpoint.json"
_RUN_NAME = "run.json"
_KINDS = (
    "a run of edgeiqa teach, a checkpoint's folder or a folder of them, MODULE:FACTORY, timm:NAME@FILE, "
    "torchvision:NAME@FILE, NAME.eiqa, NAME.onnx, NAME.csv, or default"
)


class _Run(msgspec.Struct, frozen=True, kw_only=True):
    """What is read here of what a run says of itself."""

    kind: str
    finished: str | None = None


class _Query(msgspec.Struct, frozen=True, kw_only=True):
    """What may stand behind ``?`` in a teacher's name."""

    size: tuple[int, int] | None = None
    raw_range: tuple[float, float] | None = None
    stages: tuple[int, ...] = ()


def load_teacher(spec: str, *, device: str = "auto", threads: int | None = None) -> Teacher | ScoreTable:
    """Load what a user named as the teacher.

    - a folder of a teach run: its members, and the fold of every photograph they were trained on;
    - a checkpoint's folder, or a folder of checkpoints;
    - ``MODULE:FACTORY``: a callable without arguments that returns a `TorchTeacher`; modules are also looked for in the
      working folder;
    - ``timm:NAME@FILE``, ``torchvision:NAME@FILE``: a network of one output with the user's weights;
    - ``NAME.eiqa``: a bundle, and ``default``: the ensemble that ships in the package; ``NAME.onnx``: a graph of the
      project's contract;
    - ``NAME.csv``: scores of whole photographs, columns ``image`` and ``score``.

    Behind a network of timm or torchvision, a graph or a table there may be, joined by ``&``: ``?size=WIDTHxHEIGHT`` of
    the input (not of a table), ``?range=LOW,HIGH`` of the scores (0,1 if not given; of a table 0,100), ``?stages=1,3``
    whose pooled features are wanted (timm).

    Args:
        spec: what the user named.
        device: of torch networks: ``auto``, ``cpu``, ``cuda``, ...; graphs run on the CPU.
        threads: processors for graphs; all if None.

    Returns:
        A `Teacher`, or a `ScoreTable` for a CSV.

    Raises:
        UsageError: the name is none of these, asks for what its kind does not take, or is a teach run's that has no
            member yet.
        ModelError, BundleError, EngineError: it cannot be loaded.
        DataError: a table is not as stated, or a run whose parts do not agree.
        MissingExtraError: a library that it needs is not installed.
    """
    if not spec:
        raise UsageError("a teacher without a name", expected=_KINDS, mend="name one of these")
    whole = Path(spec)
    name, query = (spec, _Query()) if whole.exists() else _parsed(spec)
    path, library = Path(name), re.fullmatch(r"(timm|torchvision):([^@]*)(?:@(.*))?", name, re.DOTALL)
    if spec == "default" and not whole.exists():
        return bundle_teacher(ensemble_bundle().path, threads=threads)
    if path.is_dir():
        _require_query(spec, query, ())
        return _from_folder(path, device)
    if library is not None and not whole.exists():
        return _from_library(spec, library[1], library[2], library[3], query, device)
    if path.suffix == ".eiqa":
        _require_query(spec, query, ())
        return bundle_teacher(path, threads=threads)
    if path.suffix == ".onnx":
        _require_query(spec, query, ("size", "raw_range"))
        return onnx_teacher(path, size=query.size, raw_range=query.raw_range or (0.0, 1.0), threads=threads)
    if path.suffix == ".csv":
        _require_query(spec, query, ("raw_range",))
        return read_score_table(path, query.raw_range or (0.0, 100.0))
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
        _require_query(spec, query, ())
        return _from_factory(name, device)
    raise UsageError(
        f"teacher {spec!r}{'' if whole.exists() else ', which is not there'}", expected=_KINDS, mend="name one of these"
    )


def load_teachers(specs: Sequence[str], *, device: str = "auto", threads: int | None = None) -> Teacher | ScoreTable:
    """Load one teacher, or several as one: all their members side by side, of which the mean of the scores is taken.

    Args:
        specs: at least one, each as `load_teacher` takes it.
        device: likewise.
        threads: likewise.

    Raises:
        UsageError: none; or beside others a table of scores, or a teach run whose division of the photographs into
            folds is not that of the others: it could not be said who may speak of a photograph.
        DataError: one network twice.
        EdgeIQAError: as `load_teacher`.
    """
    if not specs:
        raise UsageError("no teacher", expected=_KINDS, mend="name one of these")
    loaded = [load_teacher(spec, device=device, threads=threads) for spec in specs]
    if len(loaded) == 1:
        return loaded[0]
    teachers = [teacher for teacher in loaded if isinstance(teacher, Teacher)]
    if len(teachers) < len(loaded):
        raise UsageError(
            f"a table of scores among the teachers {', '.join(specs)}",
            expected="a table alone, or teachers that run",
            mend="leave the table out, or name it alone",
        )
    first = teachers[0]
    if any((one.folds_known, dict(one.folds)) != (first.folds_known, dict(first.folds)) for one in teachers):
        raise UsageError(
            f"the teachers {', '.join(specs)}, which do not know the same folds of the same photographs",
            expected="runs of edgeiqa teach on one division of one data set, or teachers that are none",
            mend="name one of them, or teach all the members in one run",
        )
    return Teacher(
        name=" + ".join(teacher.name for teacher in teachers),
        members=tuple(member for teacher in teachers for member in teacher.members),
        folds=first.folds,
        folds_known=first.folds_known,
    )


def _parsed(spec: str) -> tuple[str, _Query]:
    name, mark, text = spec.partition("?")
    if not mark:
        return name, _Query()
    fields: dict[str, object] = {}
    for part in text.split("&"):
        key, _, value = part.partition("=")
        if key == "size" and (found := re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", value)):
            fields["size"] = (int(found[1]), int(found[2]))
        elif key == "range" and (bounds := _bounds(value)) is not None:
            fields["raw_range"] = bounds
        elif key == "stages" and re.fullmatch(r"\d{1,3}(,\d{1,3})*", value):
            fields["stages"] = tuple(sorted({int(stage) for stage in value.split(",")}))
        else:
            raise UsageError(
                f"{part!r} in the teacher {spec!r}",
                expected="size=WIDTHxHEIGHT, range=LOW,HIGH or stages=I,J, joined by &",
                mend="correct it, such as ?size=910x512&range=0,100",
            )
    return name, msgspec.convert(fields, _Query)


def _bounds(text: str) -> tuple[float, float] | None:
    try:
        low, high = (float(side) for side in text.split(","))
    except ValueError:
        return None
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _require_query(spec: str, query: _Query, allowed: tuple[str, ...]) -> None:
    asked = [name for name in query.__struct_fields__ if getattr(query, name)]
    odd = [name.removeprefix("raw_") for name in asked if name not in allowed]
    if odd:
        takes = " and ".join(name.removeprefix("raw_") for name in allowed) or "nothing"
        raise UsageError(
            f"{', '.join(odd)} in the teacher {spec!r}",
            expected=f"{takes} behind the ? of this kind of teacher",
            mend=f"leave {', '.join(odd)} out",
        )


def _torch_teachers() -> ModuleType:
    try:
        from . import torch_teachers
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"no {error.name}, which this kind of teacher needs",
            expected="the extra compress",
            mend='pip install "edgeiqa[compress]"',
        ) from error
    return torch_teachers


def _from_library(spec: str, library: str, name: str, file: str | None, query: _Query, device: str) -> Teacher:
    if not name or not file:
        raise UsageError(
            f"teacher {spec!r} without {'a name' if not name else 'weights'}",
            expected=f"{library}:NAME@FILE, a network of one output and its weights",
            mend="name the file of the trained weights; without one the network would be random",
        )
    torch_teachers = _torch_teachers()
    raw_range = query.raw_range or (0.0, 1.0)
    if library == "timm":
        network = torch_teachers.timm_network(
            name, Path(file), size=query.size, stages=query.stages, raw_range=raw_range
        )
    else:
        _require_query(spec, query, ("size", "raw_range"))
        network = torch_teachers.torchvision_network(name, Path(file), size=query.size, raw_range=raw_range)
    member = torch_teachers.torch_member(network, name, torch_teachers.choose_device(device))
    return Teacher(name=name, members=(member,))


def _from_factory(spec: str, device: str) -> Teacher:
    torch_teachers = _torch_teachers()
    module_name, _, factory_name = spec.partition(":")
    mend = f"write a function {factory_name}() in {module_name}.py that returns a TorchTeacher"
    # What a user's module raises when it is imported or called is the user's to read.
    try:
        with _working_folder_searched():
            factory: Callable[[], object] = getattr(importlib.import_module(module_name), factory_name)
        made = factory()
    except Exception as error:
        raise ModelError(
            f"teacher {spec}: {type(error).__name__}: {error}",
            expected="an importable module with that factory, a callable without arguments",
            mend=mend,
        ) from error
    if not isinstance(made, TorchTeacher):
        raise ModelError(
            f"teacher {spec}, which returned {type(made).__name__}",
            expected="an edgeiqa.compress.teachers.TorchTeacher",
            mend=mend,
        )
    member = torch_teachers.torch_member(made, made.name or factory_name, torch_teachers.choose_device(device))
    return Teacher(name=member.name, members=(member,))


@contextmanager
def _working_folder_searched() -> Iterator[None]:
    """Search the working folder for modules too, after all else; an installed command does not."""
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _from_folder(folder: Path, device: str) -> Teacher:
    is_run = (folder / "members").is_dir()
    inside = folder / "members" if is_run else folder
    checkpoints = (
        [inside]
        if (inside / _RECORD_NAME).is_file()
        else sorted(entry for entry in inside.iterdir() if (entry / _RECORD_NAME).is_file())
    )
    if not checkpoints:
        if _is_unfinished(folder):
            raise UsageError(
                f"{folder}, a run of edgeiqa teach that is not finished",
                expected="a finished run, or a checkpoint's folder",
                mend=f"let it finish: edgeiqa teach --resume {folder}",
            )
        raise ModelError(
            f"{folder}, which holds {sorted(entry.name for entry in inside.iterdir())[:10]}",
            expected=f"a run of edgeiqa teach (members/NAME/{_RECORD_NAME}), a checkpoint, or a folder of checkpoints",
            mend="name the folder that a training wrote",
        )
    folds = _read_folds(folder) if is_run else {}
    torch_teachers = _torch_teachers()
    chosen = torch_teachers.choose_device(device)
    members: tuple[TeacherMember, ...] = tuple(torch_teachers.checkpoint_member(path, chosen) for path in checkpoints)
    if is_run:
        _require_heldout(folder, members)
    return Teacher(name=folder.resolve().name, members=members, folds=folds, folds_known=is_run)


def _is_unfinished(folder: Path) -> bool:
    """Whether a folder without members is a teach run's all the same; those of a grid are candidates until its end."""
    if (folder / "candidates").is_dir():
        return True
    try:
        run = msgspec.json.decode((folder / _RUN_NAME).read_bytes(), type=_Run)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return run.kind == "teach" and run.finished is None


def _read_folds(run: Path) -> dict[str, Part]:
    """The part of every photograph of a teach run, by the sha256 of its bytes."""
    folds: dict[str, Part] = {}
    for name in (OUT_OF_FOLD_NAME, SELECTION_NAME):
        for row in _rows(run / name):
            part: Part = "selection" if name == SELECTION_NAME else _fold(run / name, row)
            if folds.setdefault(row["sha256"], part) != part:
                raise DataError(
                    f"{run}: the photograph {row['image']} in the parts {folds[row['sha256']]} and {part}",
                    expected="each photograph in one part",
                    mend="run edgeiqa teach again",
                )
    return folds


def _rows(path: Path) -> Iterator[dict[str, str]]:
    mend = "let edgeiqa teach finish the run (the same command resumes it)"
    wanted = {"image", "sha256"} | ({"fold", "member"} if path.name == OUT_OF_FOLD_NAME else set())
    expected = f"a table with the columns {', '.join(sorted(wanted))}"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if not wanted <= set(reader.fieldnames or ()):
                raise DataError(f"{path} with the columns {reader.fieldnames}", expected=expected, mend=mend)
            for row in reader:
                if not re.fullmatch("[0-9a-f]{64}", row["sha256"] or ""):
                    raise DataError(
                        f"{path}, line {reader.line_num}: sha256 {row['sha256']!r}", expected="64 hex digits", mend=mend
                    )
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error})", expected=expected, mend=mend) from error


def _fold(path: Path, row: dict[str, str]) -> int:
    if not re.fullmatch(r"\d{1,3}", row["fold"] or ""):
        raise DataError(
            f"{path}: the fold {row['fold']!r} of {row['image']}",
            expected="a fold's number",
            mend="run edgeiqa teach again",
        )
    return int(row["fold"])


def _require_heldout(run: Path, members: tuple[TeacherMember, ...]) -> None:
    """Check that a run's members say of themselves what its table of out-of-fold scores says of them."""
    path = run / OUT_OF_FOLD_NAME
    said: dict[str, set[int]] = {}
    for row in _rows(path):
        # A fold that no member left out has rows without a member.
        if row["member"]:
            said.setdefault(row["member"], set()).add(_fold(path, row))
    here: dict[str, set[int]] = {
        member.name: set() if member.heldout_fold is None else {member.heldout_fold} for member in members
    }
    if said != here:
        raise DataError(
            f"{run}, whose members held out the folds {here}, but whose {path.name} says {said}",
            expected="the same",
            mend="restore the members that are missing, or run edgeiqa teach again",
        )
