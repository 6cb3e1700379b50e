"""``edgeiqa cache``: the teacher cache, filled ahead of a distillation and looked at."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..runtime.errors import UsageError
from .dry_run import free_bytes
from .options import PathArgument, json_option
from .show import print_json, print_table, say
from .training import watching

if TYPE_CHECKING:
    from ..compress.teacher_cache import TeacherCache
    from ..compress.teacher_fill import Estimate
    from ..compress.teacher_members import Teacher

__all__ = ["DEFAULT_FOLDER", "cache", "describe_estimate"]

DEFAULT_FOLDER = Path("runs") / "cache"

_MEASURED_ITEMS = 2


@click.group()
def cache() -> None:
    """Look at the teacher cache, or fill it: every member's scores and features of every image, paid for once."""


@cache.command()
@click.argument("folder", metavar="[DIR]", required=False, type=PathArgument, default=DEFAULT_FOLDER)
@json_option
def info(folder: Path, as_json: bool) -> None:
    """Show what the teacher cache in DIR holds; in runs/cache if none is named.

    A member is stale when a later one of its name has other weights or other preprocessing.
    """
    from ..compress.teacher_cache import TeacherCache

    with TeacherCache(folder, create=False) as opened:
        found = opened.info()
    if as_json:
        print_json(found)
        return
    click.echo(f"{folder}: {found.photographs} photographs, {found.items} items, {found.size_bytes / 1e6:.1f} MB")
    print_table(
        ["member", "key", "items", "photographs", "MB", "features", "folds", "stale"],
        [
            [
                member.name,
                member.key[:16],
                str(member.items),
                str(member.photographs),
                f"{member.size_bytes / 1e6:.1f}",
                f"{sum(member.features.values())} in {len(member.features)}",
                " ".join(f"{fold}:{count}" for fold, count in member.folds.items()),
                "yes" if member.stale else "",
            ]
            for member in found.members
        ],
    )


@cache.command()
@click.argument("member", metavar="MEMBER")
@click.argument("folder", metavar="[DIR]", required=False, type=PathArgument, default=DEFAULT_FOLDER)
def remove(member: str, folder: Path) -> None:
    """Remove a MEMBER, named by the beginning of its key, from the cache in DIR; from runs/cache if none is named."""
    from ..compress.teacher_cache import TeacherCache

    with TeacherCache(folder, create=False) as opened:
        listed = opened.info().members
        keys = [one.key for one in listed if one.key.startswith(member)]
        if len(keys) != 1 or not member:
            raise UsageError(
                f"member {member!r}, the beginning of {len(keys)} keys",
                expected=f"that of one of {', '.join(f'{one.key[:16]} ({one.name})' for one in listed) or 'none'}",
                mend=f"edgeiqa cache info {folder} lists them",
            )
        freed = opened.remove(keys[0])
    say(f"{freed / 1e6:.1f} MB freed")


@cache.command()
@click.argument("teachers", metavar="TEACHER...", nargs=-1, required=True)
@click.option("--images", type=PathArgument, required=True, help="Folder of photographs.")
@click.option(
    "-o", "--output", type=PathArgument, default=DEFAULT_FOLDER, show_default=True, help="Folder of the cache."
)
@click.option("--crops", type=click.IntRange(min=1), default=1, show_default=True, help="Of each; the first is whole.")
@click.option(
    "--distortions", type=click.IntRange(min=0), default=0, show_default=True, help="Distorted versions of each."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of crops and distortions.")
@click.option(
    "--only-speakers", is_flag=True, help="Leave out members on photographs whose labels they were trained on."
)
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Items kept at a time.")
@click.option("--accelerator", default="auto", show_default=True, help="Of torch networks: cpu, cuda, ...")
@click.option("--threads", type=click.IntRange(min=1), help="That cut views and run graphs. [default: all processors]")
@click.option("--dry-run", is_flag=True, help="Say what it takes: time, disk, MACs. Nothing is written.")
@json_option
def fill(
    teachers: tuple[str, ...],
    images: Path,
    output: Path,
    crops: int,
    distortions: int,
    seed: int,
    only_speakers: bool,
    batch: int,
    accelerator: str,
    threads: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Let TEACHER speak of photographs and keep what it says; a fill that was cut off goes on when it is repeated.

    TEACHER is a run of edgeiqa teach, a folder of checkpoints, MODULE:FACTORY, timm:NAME@FILE, torchvision:NAME@FILE, a
    bundle (NAME.eiqa, or default), or an ONNX graph; of several, all members speak. Photographs that cannot be read are
    left out, and the exit status is 1.
    """
    from ..compress.data.items import list_photographs, read_photographs
    from ..compress.data.transfer import transfer_items
    from ..compress.teacher_fill import estimate
    from ..compress.teacher_fill import fill as fill_cache
    from ..compress.teachers import ScoreTable, load_teachers

    loaded = load_teachers(teachers, device=accelerator, threads=threads)
    if isinstance(loaded, ScoreTable):
        raise UsageError(
            f"{loaded.path}, a table of scores",
            expected="a teacher that runs",
            mend="give the table to edgeiqa distill --teacher: it needs no cache",
        )
    photographs, unreadable = read_photographs(list_photographs(images), threads=threads)
    for _, reason in unreadable:
        say(f"left out: {reason}")
    items = transfer_items(photographs, crops=crops, distortions=distortions, seed=seed)
    if not items:
        raise UsageError(f"{images}, of which no image can be read", expected="photographs", mend="name another folder")
    with _opened(output, dry_run) as opened:
        told = estimate(opened, loaded, items, only_speakers=only_speakers, measure=_MEASURED_ITEMS, threads=threads)
        # Of the disk that is meant, also where the cache is not there yet.
        told = replace(told, free_bytes=free_bytes(output))
        if not as_json:
            click.echo(describe_estimate(loaded, told))
        if not dry_run:
            with watching(output) as progress:
                fill_cache(
                    opened,
                    loaded,
                    items,
                    only_speakers=only_speakers,
                    on_step=progress.ask,
                    batch=batch,
                    threads=threads,
                )
    if as_json:
        facts = {"teacher": loaded.name, "members": [member.name for member in loaded.members]}
        print_json(facts | {"folds_known": loaded.folds_known, "unreadable": len(unreadable)} | asdict(told))
    elif not dry_run:
        click.echo(f"{output}: {told.runs} answers added, of {told.items_to_do} items")
    if unreadable:
        say(f"{len(unreadable)} of {len(photographs) + len(unreadable)} photographs could not be read")
        sys.exit(1)


def describe_estimate(teacher: Teacher, told: Estimate) -> str:
    """What filling a cache takes, in a few lines for a person."""
    count = len(teacher.members)
    macs = "MACs not counted (no library onnx here)" if told.macs is None else f"{told.macs / 1e12:.3f} TMACs"
    lasts = "" if told.seconds is None else f", about {_time(told.seconds)} as measured on the first items"
    lines = [
        f"teacher {teacher.name}: {count} member{'' if count == 1 else 's'}",
        f"{told.items} items, of which {told.items_to_do} are to do: {told.runs} runs, {macs}{lasts}",
        f"{told.bytes / 1e6:.1f} MB on the disk, which has {told.free_bytes / 1e9:.1f} GB free",
    ]
    if not teacher.folds_known:
        lines.append(
            "which photographs it was trained on is not known: on those, its scores repeat the labels that it saw"
        )
    return "\n".join(lines)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


@contextmanager
def _opened(folder: Path, dry_run: bool) -> Iterator[TeacherCache]:
    """The cache in a folder; for a dry run where there is none, an empty one elsewhere that tells what is to do."""
    from ..compress.teacher_cache import TeacherCache

    if dry_run and (not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))):
        with tempfile.TemporaryDirectory() as empty, TeacherCache(Path(empty)) as opened:
            yield opened
    else:
        with TeacherCache(folder, create=not dry_run) as opened:
            yield opened
