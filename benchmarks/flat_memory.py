"""Peak memory of `edgeiqa score` over few photographs and over many.

python benchmarks/flat_memory.py FOLDER [--counts 100 5000] [--arguments ...]

The photographs of FOLDER are given again and again, as a list on stdin.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sysconfig
import time
from itertools import cycle, islice
from pathlib import Path

from edgeiqa.tools.options import find_photographs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 5000])
    parser.add_argument("--arguments", nargs=argparse.REMAINDER, default=[], help="Of edgeiqa score; the last option.")
    options = parser.parse_args()
    photos = find_photographs((options.folder,))
    first = None
    for count in options.counts:
        command = [str(Path(sysconfig.get_path("scripts")) / "edgeiqa"), "score", "-", "--json", *options.arguments]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert process.stdin is not None
        for photo in islice(cycle(photos), count):
            process.stdin.write(os.fsencode(photo) + b"\n")
        process.stdin.close()
        _, status, usage = os.wait4(process.pid, 0)
        peak = usage.ru_maxrss / 1024
        first = first or peak
        seconds = time.perf_counter() - started
        print(f"{count} photographs: peak {peak:.1f} MiB, {peak / first:.3f} x; {seconds:.1f} s; exit {status >> 8}")


if __name__ == "__main__":
    main()
