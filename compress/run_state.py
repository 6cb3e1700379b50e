"""What a training keeps on the disk: its state, whole or not at all, and its log."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from ..runtime.errors import DataError, UsageError

__all__ = ["read_state", "save_state", "write_metrics"]


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Gives a partial file's path, which takes the name in the end: it is written whole, or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    # torch's writer answers a full disk with a RuntimeError.
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free
        raise DataError(
            f"{path} cannot be written ({error}); {free / 1e6:.0f} MB are free there",
            expected="room for the state of the training",
            mend="free some room and give the same command again; it goes on from the last state that was written",
        ) from error


def save_state(fabric: Fabric, value: Any, path: Path) -> None:
    """Write on the first process; the others go on, as they need not come here at the same time.

    Raises:
        DataError: the disk has no room; what was there before is kept.
    """
    if fabric.is_global_zero:
        with _writing(path) as partial:
            torch.save(value, partial)


def read_state(path: Path, fabric: Fabric, *, mend: str) -> dict[str, Any]:
    """What `save_state` wrote, on the process's device.

    Raises:
        UsageError: it cannot be read; ``mend`` says what to do.
    """
    # torch.load raises what pickle, zip and struct raise.
    try:
        state = torch.load(path, map_location=fabric.device, weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"it holds a {type(state).__name__}")
    except Exception as error:
        raise UsageError(
            f"{path}, which cannot be read ({type(error).__name__}: {error})",
            expected="a run's state",
            mend=mend,
        ) from error
    return state


def write_metrics(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write the log anew: what the state says, whatever was written before a kill.

    Raises:
        DataError: as `save_state`.
    """
    names = list(dict.fromkeys(name for line in history for name in line))
    with _writing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(history)
