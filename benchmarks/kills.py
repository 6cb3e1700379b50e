"""Kill teach, cache fill and distill at random moments, let them go on, and compare with runs that nobody killed.

OMP_NUM_THREADS=1 python benchmarks/kills.py [--kills 20] [--seed 0] [--data mos.csv --images DIR] [--keep FOLDER]

Each command runs once as `python -m edgeiqa.tools ...`, and once more as a control, whose processor time is that over
which moments are drawn evenly. Then a fresh run is started, its process group killed (SIGKILL) at such a moment, and
started again, by --resume or by the same command, and killed again, until it is done; one that was killed after its
work was done is let go. So on until there were enough kills. Every other start, at random, writes its state after each
step, so that runs also go on from the middle of an epoch. Killed runs are forked from this process, as importing torch
takes longer than their work.

Compared are weights bit for bit, the tables of scores, logs and reports but for seconds, and the teacher cache row for
row. Linux, for /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from edgeiqa.compress import distill, fit, teach  # noqa: F401 - what the forked commands need is imported once
from edgeiqa.compress.checkpoint import RECORD_NAME, WEIGHTS_NAME
from edgeiqa.compress.fit import STATE_NAME
from edgeiqa.compress.teacher_cache import INDEX_NAME, TeacherCache
from edgeiqa.tools import run_pages, verb_cache, verb_distill, verb_teach  # noqa: F401
from edgeiqa.tools.command import main as edgeiqa_main
from edgeiqa.tools.runs import RUN_NAME
from PIL import Image
from safetensors.numpy import load_file

AFTER = "after the work"
MACHINE = ("--accelerator", "cpu", "--threads", "1")
BACKBONE = ("mobilenetv3_small_050", 32)
TEACH = """
name = "kills"
data = {{ folds = 2, selection_fraction = 0.2, score_range = [{low}, {high}] }}

[[members]]
name = "plain"
backbone = "{backbone}"
width = {side}
height = {side}
heldout_fold = 0
weights = {{ type = "none" }}
stages = [{{ epochs = 8, batch = 8, learning_rate = 3e-4, head_learning_rate = 3e-3, augmentation = {{ crop = 28 }} }}]

[[members]]
name = "staged"
backbone = "{backbone}"
width = {side}
height = {side}
heldout_fold = 1
weights = {{ type = "none", seed = 1 }}
head = {{ type = "mlp", hidden = 16, dropout = 0.1 }}
keep = "least_rmse"
seed = 1

[[members.stages]]
name = "head"
parameters = "head"
epochs = 2
batch = 8
head_learning_rate = 1e-2

[[members.stages]]
epochs = 8
batch = 8
learning_rate = 1e-3
head_learning_rate = 1e-2
freeze_batch_norm = true
patience = 2
schedule = {{ type = "cosine" }}
augmentation = {{ translation = 0.1, rotation_degrees = 3 }}
"""


@dataclass(frozen=True)
class Command:
    """A command that is killed.

    Attributes:
        name: for the table.
        arguments: from the folder it writes to.
        facts: what such a folder holds, by name, but for times.
        where: how far a folder is, given what it shall hold.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    facts: Callable[[Path], dict[str, object]]
    where: Callable[[Path, dict[str, object]], str]


@dataclass
class Outcome:
    """What came of the kills of a command."""

    seconds: float
    kills: int = 0
    runs: int = 0
    where: Counter[str] = field(default_factory=Counter)
    difference: str = ""


def make_photographs(folder: Path, count: int = 64) -> Path:
    """Photographs of waves, whose opinion is their brightness; returns their table."""
    stream = np.random.default_rng(0)
    across, down = np.meshgrid(np.linspace(0, 6, 96), np.linspace(0, 4, 72))
    (folder / "images").mkdir(parents=True)
    lines = ["image,mos"]
    for index in range(count):
        mos, phases = stream.uniform(5, 95), stream.uniform(0, 6, 3)
        waves = np.stack([np.sin(across + phases[0]), np.cos(down + phases[1]), np.sin(across + down + phases[2])], 2)
        pixels = 20 + 2 * mos + 20 * waves + stream.normal(0, 4, waves.shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{index:02}.jpg", quality=90)
        lines.append(f"{index:02}.jpg,{mos:.3f}")
    table = folder / "mos.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def without_times(value: Any) -> Any:
    """JSON without what times say."""
    if isinstance(value, dict):
        return {name: without_times(part) for name, part in value.items() if name not in ("seconds", "created")}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def run_facts(folder: Path) -> dict[str, object]:
    """What the folder of a teach or distill run holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts)
    found: dict[str, object] = {"the list of files": [path.relative_to(folder).as_posix() for path in files]}
    for path in files:
        name = path.relative_to(folder).as_posix()
        if path.name == WEIGHTS_NAME:
            for tensor, array in load_file(path).items():
                found[f"{name}: {tensor}"] = (array.dtype.str, array.shape, array.tobytes())
        elif path.name == "metrics.csv":
            lines = list(csv.DictReader(io.StringIO(path.read_text())))
            found[name] = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
        elif path.suffix == ".csv":
            found[name] = path.read_text()
        elif path.name in (RECORD_NAME, "report.json"):
            found[name] = without_times(json.loads(path.read_text()))
    return found


def cache_facts(folder: Path) -> dict[str, object]:
    """What a teacher cache holds, row for row; reading it checks each row's sum."""
    with contextlib.closing(sqlite3.connect(folder / INDEX_NAME)) as index:
        columns = "member_key, item_key, image_sha256, fold, crop, distortion, raw"
        rows = index.execute(f"SELECT {columns} FROM entries ORDER BY member_key, item_key").fetchall()
    found: dict[str, object] = {"the rows of the index": rows}
    with TeacherCache(folder, create=False) as cache:
        for member in dict.fromkeys(row[0] for row in rows):
            keys = [row[1] for row in rows if row[0] == member]
            raw, features = cache.read(member, keys)
            found[f"raw scores of {member[:8]}"] = raw.tobytes()
            found |= {f"{name} of {member[:8]}": values.tobytes() for name, values in features.items()}
    return found


def where_run_is(folder: Path, wanted: dict[str, object]) -> str:
    """How far the folder of a teach or distill run is."""
    records = [folder / name for name in wanted if name.endswith(RECORD_NAME)]
    finished = [path for path in records if path.is_file()]
    if len(finished) == len(records):
        return AFTER
    begun = finished or next(folder.rglob(STATE_NAME), None) is not None
    return "with a state" if begun else "before a first state"


def where_cache_is(folder: Path, wanted: dict[str, object]) -> str:
    """How far a cache is."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"{folder.as_uri()}/{INDEX_NAME}?mode=ro", uri=True)) as index,
    ):
        (rows,) = index.execute("SELECT COUNT(*) FROM entries").fetchone()
        if rows:
            return AFTER if rows == len(cast("list[object]", wanted["the rows of the index"])) else "with rows"
    return "before first rows"


def commands(data: Path, images: Path, recipe: Path, teacher: Path, score_range: tuple[float, float]) -> list[Command]:
    """The three, in the order in which they need each other; the teacher is the first one's uninterrupted run."""
    labelled = ["--data", str(data), "--images", str(images)]
    backbone, side = BACKBONE

    def teach_arguments(folder: Path) -> list[str]:
        return ["teach", "--recipe", str(recipe), *labelled, "-o", str(folder), *MACHINE]

    def cache_arguments(folder: Path) -> list[str]:
        transfer = ("--crops", "3", "--distortions", "2", "--batch", "8")
        return ["cache", "fill", str(teacher), "--images", str(images), "-o", str(folder), *transfer, *MACHINE]

    def distill_arguments(folder: Path) -> list[str]:
        student = ("--student", backbone, "--size", f"{side}x{side}", "--weights", "none")
        stage = ("--epochs", "6", "--batch", "8", "--crops", "2", "--distortions", "1", "--learning-rate", "1e-3")
        losses = ("--cosine-weight", "0.1", "--distance-weight", "0.1", "--angle-weight", "0.1", "--rank-weight", "1")
        places = ("--cache", str(folder / "cache"), "-o", str(folder / "run"))
        bounds = ("--score-range", *map(str, score_range))
        return ["distill", "--teacher", str(teacher), *labelled, *bounds, *student, *stage, *losses, *places, *MACHINE]

    def distill_facts(folder: Path) -> dict[str, object]:
        return run_facts(folder / "run") | cache_facts(folder / "cache")

    return [
        Command("teach", teach_arguments, run_facts, where_run_is),
        Command("cache fill", cache_arguments, cache_facts, where_cache_is),
        Command("distill", distill_arguments, distill_facts, lambda folder, facts: where_run_is(folder / "run", facts)),
    ]


def start(arguments: list[str], log: Path, *, state_each_step: bool) -> int:
    """Run a command in a forked process, the leader of a group of its own; returns its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        with contextlib.suppress(OSError):
            os.setpgid(process, process)
        return process
    status = 70
    try:
        os.setpgid(0, 0)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        if state_each_step:
            assert fit.fit.__kwdefaults__ is not None
            fit.fit.__kwdefaults__["save_every_s"] = 0.0
        edgeiqa_main(arguments)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(process: int, within_s: float | None) -> tuple[int | None, float]:
    """The exit status of a process, None if it was killed after so much processor time; and that time in seconds."""
    while True:
        found, status, used = os.wait4(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        if within_s is not None and processor_seconds(process) >= within_s:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return None, within_s
        time.sleep(0.005)


def processor_seconds(process: int) -> float:
    """Used by a process so far: its share of the machine does not matter, as its duration's would."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_difference(wanted: dict[str, object], found: dict[str, object]) -> str:
    """The name of the first fact that differs; empty if none does."""
    names = [*wanted, *(name for name in found if name not in wanted)]
    return next((name for name in names if wanted.get(name) != found.get(name)), "")


def fresh_folders(folder: Path, name: str) -> Iterator[Path]:
    number = 0
    while True:
        number += 1
        made = folder / f"{name.replace(' ', '-')}-{number:03}"
        made.parent.mkdir(parents=True, exist_ok=True)
        yield made


def again(command: Command, folder: Path, resume: bool) -> list[str]:
    """The command that goes on with a folder."""
    arguments = command.arguments(folder)
    run = Path(arguments[arguments.index("-o") + 1])
    if resume and (run / RUN_NAME).is_file():
        return [arguments[0], "--resume", str(run), *MACHINE]
    return arguments


def judge(command: Command, reference: Path, folder: Path, kills: int, seed: Sequence[int]) -> Outcome:
    """Kill a command so often, and compare every run that was finished."""
    stream = np.random.default_rng(seed)
    wanted = command.facts(reference)
    fresh = fresh_folders(folder, command.name)
    log = folder / f"{command.name}.log"
    here = next(fresh)
    status, seconds = ended(start(command.arguments(here), log, state_each_step=False), None)
    outcome = Outcome(seconds)
    if status != 0:
        outcome.difference = f"the control ended with status {status}: {log.read_text()[-2000:]}"
        return outcome
    outcome.difference = first_difference(wanted, command.facts(here))
    while not outcome.difference and outcome.kills < kills:
        here, where = next(fresh), ""
        arguments = command.arguments(here)
        while True:
            process = start(arguments, log, state_each_step=stream.random() < 0.5)
            lives = where == AFTER or outcome.kills >= kills
            status, _ = ended(process, None if lives else stream.uniform(0, outcome.seconds))
            if status is not None:
                break
            where = command.where(here, wanted)
            outcome.kills += 1
            outcome.where[where] += 1
            arguments = again(command, here, stream.random() < 0.5)
        outcome.runs += 1
        if status != 0:
            outcome.difference = f"{here} ended with status {status}: {log.read_text()[-2000:]}"
        else:
            outcome.difference = first_difference(wanted, command.facts(here))
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="CSV with opinions, of at most a hundred photographs or so")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--score-range", type=float, nargs=2, default=(0.0, 100.0))
    parser.add_argument("--only", choices=("teach", "cache fill", "distill"), help="of the commands")
    parser.add_argument("--keep", type=Path, help="a folder for all runs, which is kept")
    options = parser.parse_args()
    began = time.monotonic()
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = (options.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        data = options.data or make_photographs(folder / "photographs")
        images = options.images or (data.parent if options.data else data.parent / "images")
        recipe = folder / "teach.toml"
        low, high = options.score_range
        recipe.write_text(TEACH.format(backbone=BACKBONE[0], side=BACKBONE[1], low=low, high=high))
        teacher = folder / "reference-teach"
        print(
            "| command | uninterrupted | kills | runs | where they fell | resumed results |\n|---|---|---|---|---|---|"
        )
        for place, command in enumerate(commands(data.resolve(), images.resolve(), recipe, teacher, (low, high))):
            reference = folder / f"reference-{command.name.replace(' ', '-')}"
            whole = [sys.executable, "-m", "edgeiqa.tools", *command.arguments(reference)]
            ran = subprocess.run(whole, capture_output=True, text=True, check=False)
            if ran.returncode != 0:
                print(f"{command.name}: {ran.stderr}", file=sys.stderr)
                return 1
            if options.only not in (None, command.name):
                continue
            outcome = judge(command, reference, folder, options.kills, [options.seed, place])
            failed = failed or bool(outcome.difference)
            where = ", ".join(f"{count} {place}" for place, count in sorted(outcome.where.items()))
            print(
                f"| {command.name} | {outcome.seconds:.1f} s | {outcome.kills} | {outcome.runs} | {where} | "
                f"{f'DIFFER: {outcome.difference}' if outcome.difference else 'equal'} |",
                flush=True,
            )
    print(f"{time.monotonic() - began:.0f} s in all")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
