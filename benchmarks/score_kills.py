"""`edgeiqa score --resume` killed at random moments, and begun again until it is done.

python benchmarks/score_kills.py FOLDER [--kills 50] [--repeat 3] [--seed 0]

The photographs of FOLDER, each under several names, are scored once undisturbed. Then the same call is killed (kill -9)
after a random time again and again; whenever it finishes before that, what it wrote is compared with the undisturbed
file, byte by byte, and it begins anew, until there have been so many kills.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path

from edgeiqa.tools.options import find_photographs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draws = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index, photo in enumerate(find_photographs((options.folder,)) * options.repeat):
            shutil.copy(photo, folder / f"{index:05}{photo.suffix}")
        # A photograph that cannot be read has its line as well.
        (folder / "broken.jpg").write_bytes(b"no photograph")
        whole, cut = folder / "whole.jsonl", folder / "cut.jsonl"
        started = time.perf_counter()
        score(folder, whole).wait()
        longest = time.perf_counter() - started
        expected = whole.read_bytes()
        kills = finished = torn = 0
        at = []
        while kills < options.kills:
            running = score(folder, cut)
            try:
                running.wait(draws.uniform(0.0, longest))
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
                kills += 1
                data = cut.read_bytes() if cut.exists() else b""
                torn += not (data.endswith(b"\n") or not data)
                at.append(data.count(b"\n"))
                continue
            finished += compared(cut, expected)
            cut.unlink()
        score(folder, cut).wait()
        finished += compared(cut, expected)
    lines = len(expected.splitlines())
    print(f"{kills} kills, with {min(at)} to {max(at)} of {lines} lines written, {torn} in the middle of a line")
    print(f"{finished} finished files, each equal to the undisturbed one")


def score(folder: Path, file: Path) -> subprocess.Popen[bytes]:
    command = [str(Path(sysconfig.get_path("scripts")) / "edgeiqa"), "score", str(folder), "--resume", str(file)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def compared(file: Path, expected: bytes) -> int:
    found = file.read_bytes()
    paths = [json.loads(line)["path"] for line in found.splitlines()]
    assert len(set(paths)) == len(paths), "a photograph has two lines"
    assert found == expected, "not what an undisturbed run gives"
    return 1


if __name__ == "__main__":
    main()
