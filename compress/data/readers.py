"""The data sets that are read as they are distributed, and the command that turns one into a CSV.

``python -m edgeiqa.compress.data.readers koniq10k ROOT -o mos.csv``
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ...runtime.errors import EdgeIQAError, UsageError
from .dataset import Dataset, write_csv

__all__ = ["READERS", "Reader", "main"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """Where a data set's reader is; it is loaded only when it is called.

    Attributes:
        module: of this folder.
        function: takes the folder of the data set.
        about: what ``--help`` says of it.
        options: the function's keywords, each with what it may be; the first is what it is when it is not given.
    """

    module: str
    function: str
    about: str
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def load(self) -> Callable[..., Dataset]:
        """Import the function."""
        function: Callable[..., Dataset] = getattr(
            importlib.import_module(f".{self.module}", __package__), self.function
        )
        return function


READERS: dict[str, Reader] = {
    "clive": Reader(module="clive", function="read_clive", about="LIVE In the Wild (needs scipy)"),
    "koniq10k": Reader(
        module="koniq10k",
        function="read_koniq10k",
        about="KonIQ-10k",
        options={"scale": ("zscore", "categories")},
    ),
    "uhd_iqa": Reader(module="uhd_iqa", function="read_uhd_iqa", about="UHD-IQA, the database or its challenge"),
    "spaq": Reader(module="spaq", function="read_spaq", about="SPAQ"),
    "kadid10k": Reader(module="kadid10k", function="read_kadid10k", about="KADID-10k"),
    "tid2013": Reader(module="tid2013", function="read_tid2013", about="TID2013"),
    "piq23": Reader(
        module="piq23",
        function="read_piq23",
        about="PIQ23, whose scores compare inside a scene alone",
        options={"attribute": ("Overall", "Details", "Exposure"), "split": ("device", "scene", "none")},
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Read a data set, write its CSV, and say how the commands take it.

    Returns:
        The exit status: 0, or 2 after three lines on stderr (got, expected, to mend).
    """
    try:
        called = _parser().parse_args(arguments)
        reader = READERS[called.reader]
        if called.output.exists() and not called.overwrite:
            raise UsageError(
                f"{called.output}, which is there", expected="a new file", mend="name another, or --overwrite"
            )
        dataset = reader.load()(called.root, **{option: getattr(called, option) for option in reader.options})
        write_csv(dataset, called.output)
    except EdgeIQAError as error:
        _say(error.got, error.expected, error.mend)
        return error.exit_code
    except OSError as error:
        _say(
            str(error),
            "files and folders that may be read and written",
            "check the path, its permissions and the space on the disk",
        )
        return 2
    sys.stdout.write(_summary(dataset, called.output))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m edgeiqa.compress.data.readers", description="Turn a data set into a CSV.")
    readers = parser.add_subparsers(dest="reader", required=True, metavar="DATASET")
    for name, reader in READERS.items():
        one = readers.add_parser(name, help=reader.about, description=reader.about)
        one.add_argument("root", type=Path, metavar="ROOT", help="the folder it is unpacked in")
        one.add_argument("-o", "--output", type=Path, required=True, metavar="CSV", help="the table to write")
        one.add_argument("--overwrite", action="store_true", help="replace the table")
        for option, choices in reader.options.items():
            one.add_argument(f"--{option}", choices=choices, default=choices[0], help=f"default: {choices[0]}")
    return parser


class _Parser(argparse.ArgumentParser):
    """Refuses a call as everything here refuses: what was got, what was expected, what mends it."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, expected="a call as --help describes it", mend=f"{self.prog} --help")


def _say(got: str, expected: str, mend: str) -> None:
    sys.stderr.write(f"error: {got}\n  expected: {expected}\n  to mend:  {mend}\n")


def _summary(dataset: Dataset, output: Path) -> str:
    """What was written, the options of the commands that read it, and what to cite."""
    splits: Counter[Any] = Counter(photo.split for photo in dataset.photos)
    parts = ", ".join(f"{count} {split or 'in no split'}" for split, count in splits.items())
    low, high = dataset.score_range
    options = ["--data", str(output), "--images", str(dataset.root), "--score-range", f"{low:g}", f"{high:g}"]
    if dataset.comparable != "global":
        options += ["--comparable", dataset.comparable]
    return f"{len(dataset.photos)} photographs ({parts})\n{shlex.join(options)}\ncite: {dataset.citation}\n"


if __name__ == "__main__":
    sys.exit(main())
