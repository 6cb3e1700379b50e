"""One photograph from a cold start: seconds and peak memory of `edgeiqa score`, and what takes them.

python benchmarks/cold_start.py PHOTO [--bundle FILE] [--engine onnxruntime] [--runs 15]

Each step is a process of its own that does all steps before it as well; rounds of all steps follow each other, and a
share is the median of the differences between a step and the one before it in the same round. The command stands last.
A child's peak is never told below this process's own, some 30 MiB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np

LIBRARIES = "import numpy, PIL.Image, PIL.ImageCms, msgspec"
IMPORTS = "import edgeiqa.tools.verb_score"
ENGINE = "import edgeiqa.runtime.engines.{module}"
LOAD = """from edgeiqa.runtime.scorer import load, busy_streams
s = load({bundle!r}, engine={engine!r}, streams=busy_streams())"""
READ = "from edgeiqa.runtime.reading import read_views; views = read_views({photo!r}, s.preprocesses)"
SCORE = "[s.run_views(m.name, views.views[m.preprocess]) for m in s.bundle.manifest.members]"
MODULES = {"onnxruntime": "ort", "openvino": "ov"}


def measured(command: list[str]) -> tuple[float, float]:
    """Wall seconds, and peak memory in MiB."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    if status:
        raise SystemExit(f"{command} failed")
    return wall_s, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--engine", choices=tuple(MODULES))
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    photo, bundle = str(options.photo), None if options.bundle is None else str(options.bundle)
    module = MODULES[options.engine or "onnxruntime"]
    lines = {
        "interpreter": "pass",
        "numpy, Pillow, msgspec": LIBRARIES,
        "edgeiqa and click": IMPORTS,
        "the engine's library": ENGINE.format(module=module),
        "bundle and graph loaded": LOAD.format(bundle=bundle, engine=options.engine),
        "photograph decoded, views cut": READ.format(photo=photo),
        "graph run": SCORE,
    }
    commands: dict[str, list[str]] = {}
    done: list[str] = []
    for name, line in lines.items():
        done.append(line)
        commands[name] = [sys.executable, "-c", "\n".join(done)]
    command = [str(Path(sysconfig.get_path("scripts")) / "edgeiqa"), "score", photo]
    if bundle is not None:
        command += ["--bundle", bundle]
    if options.engine is not None:
        command += ["--engine", options.engine]
    commands["edgeiqa score"] = command
    commands["edgeiqa score --json"] = [*command, "--json"]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for round_ in range(options.runs + 1):
        for name, step in commands.items():
            figures = measured(step)
            # The first round warms the disk's cache.
            if round_:
                found[name].append(figures)
    walls = {name: np.array([wall for wall, _ in figures]) * 1e3 for name, figures in found.items()}
    print("step | ms, with all before it | of which it | peak MiB")
    before = None
    for name in lines:
        added = walls[name] if before is None else walls[name] - walls[before]
        peak = np.median([peak for _, peak in found[name]])
        print(f"{name} | {np.median(walls[name]):.0f} | {np.median(added):.0f} | {peak:.0f}")
        before = name
    for name in list(commands)[len(lines) :]:
        quartiles = np.percentile(walls[name], [25, 50, 75])
        peak = np.median([peak for _, peak in found[name]])
        print(f"{name} | {quartiles[1]:.0f} (quartiles {quartiles[0]:.0f}, {quartiles[2]:.0f}) | | {peak:.0f}")


if __name__ == "__main__":
    main()
