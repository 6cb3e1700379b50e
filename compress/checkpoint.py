"""Checkpoints: a trained network as a folder of two files, ``checkpoint.json`` and ``weights.safetensors``.

The record says everything that is needed to build the network again without the code that trained it; the weights hold
tensors and nothing that could run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ..runtime.errors import DataError, ModelError
from ..runtime.score_map import ScoreMap
from .models.network import QualityNet, build
from .models.records import System
from .models.weights import NoWeights

__all__ = ["RECORD_NAME", "WEIGHTS_NAME", "Checkpoint", "load_checkpoint", "read_record", "save_checkpoint"]

RECORD_NAME = "checkpoint.json"
WEIGHTS_NAME = "weights.safetensors"


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was trained, and how.

    Attributes:
        name: of the member or student.
        system: views, branches, fusion and head.
        score_map: raw output -> quality on the outer scale.
        provenance: recipe, data, seed, versions and figures, for people and for the bundle's card.
    """

    name: str
    system: System
    score_map: ScoreMap
    provenance: dict[str, Any]


def save_checkpoint(folder: Path, record: Checkpoint, network: QualityNet) -> None:
    """Write a checkpoint; each file is complete or absent, and the record, written last, says the weights are whole.

    Raises:
        DataError: the folder cannot be written, or its disk has no room.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    weights, text = folder / f"{WEIGHTS_NAME}.partial", folder / f"{RECORD_NAME}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # An older record must not stand beside newer weights.
        (folder / RECORD_NAME).unlink(missing_ok=True)
        save_file(state, weights)
        weights.replace(folder / WEIGHTS_NAME)
        text.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
        text.replace(folder / RECORD_NAME)
    # safetensors answers a full disk with an error of its own.
    except (OSError, SafetensorError) as error:
        for partial in (weights, text):
            partial.unlink(missing_ok=True)
        raise DataError(
            f"{folder} cannot be written ({error})",
            expected="room for a checkpoint",
            mend="free some room and give the same command again",
        ) from error


def read_record(folder: Path) -> Checkpoint:
    """Read a checkpoint's record.

    Raises:
        ModelError: the folder is no checkpoint, or its record is broken.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        here = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else "no such folder"
        raise ModelError(
            f"{folder}, which holds {here}",
            expected=f"a checkpoint folder with {RECORD_NAME} and {WEIGHTS_NAME}",
            mend="name the folder that a training wrote",
        )
    try:
        return msgspec.json.decode(path.read_bytes(), type=Checkpoint)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: {error}", expected="a checkpoint's record", mend="train again") from error


def load_checkpoint(folder: Path) -> tuple[Checkpoint, QualityNet]:
    """Build a checkpoint's network with its weights, in eval mode.

    Raises:
        ModelError: the folder is no checkpoint, or its weights do not fit its record.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    record = read_record(folder)
    network = build(record.system, weights=NoWeights(seed=0))
    try:
        network.load_state_dict(load_file(folder / WEIGHTS_NAME), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"{folder / WEIGHTS_NAME}: {error}",
            expected=f"the weights of {record.system.name}",
            mend="train again",
        ) from error
    return record, network.eval()
