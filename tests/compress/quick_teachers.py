"""Teachers whose answers can be computed by hand, photographs for them, and a process that fills a cache and is killed.

As a script: ``quick_teachers.py CACHE PHOTOGRAPHS PAUSE``.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from edgeiqa.compress.data.crops import Crop
from edgeiqa.compress.data.distortions import Distortion
from edgeiqa.compress.data.items import Item
from edgeiqa.compress.teacher_cache import TeacherCache
from edgeiqa.compress.teacher_fill import fill
from edgeiqa.compress.teacher_members import Features, Teacher, TeacherMember, Views, range_map
from edgeiqa.runtime.preprocess import Preprocess, single_view
from numpy.typing import NDArray
from PIL import Image

WIDTHS = {"features.last": 5, "features.0": 3}
SMALL = single_view(12, 8)
LARGE = single_view(16, 16)


def means(views: Views) -> NDArray[np.float64]:
    """Mean of each item's pixels, 0 to 1."""
    return np.array([pixels.mean() / 255 for pixels in views["image"]], dtype=np.float64)


def member(name: str, seed: int = 0, *, preprocess: Preprocess = SMALL, pause: float = 0.0, **fields: Any) -> Any:
    """A member whose raw score is the view's mean plus ``seed / 100``; its features are lines through it."""
    features_of = fields.pop("features_of", lambda _name, values: values)

    def forward(views: Views) -> tuple[NDArray[np.float64], Features]:
        time.sleep(pause)
        raw = means(views) + seed / 100
        features = {
            name: (raw[:, None] * np.linspace(-3, 7, width)).astype(np.float32) for name, width in WIDTHS.items()
        }
        return raw, {name: features_of(name, values) for name, values in features.items()}

    options: dict[str, Any] = {
        "key": hashlib.sha256(f"{name} {seed}".encode()).hexdigest(),
        "score_map": range_map(0.0, 1.0),
        "low": 0.0,
        "high": 100.0,
        "feature_widths": WIDTHS,
        "count_macs": lambda: 1000,
        "forward": forward,
    }
    return TeacherMember(name=name, preprocess=preprocess, **(options | fields))


def teacher(*members: TeacherMember, **fields: Any) -> Teacher:
    return Teacher(name="quick", members=members or (member("one", 1), member("two", 2)), **fields)


def save_photographs(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{place:03}.png" for place in range(count)]
    for place, path in enumerate(paths):
        pixels = np.random.default_rng(place).integers(0, 60 + 5 * place, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def items_of(path: Path) -> list[Item]:
    """The whole photograph, a part of it, and a distorted version."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return [
        Item(path=path, sha256=sha256),
        Item(path=path, sha256=sha256, crop=Crop(x=3, y=2, width=30, height=20, flip=True)),
        Item(path=path, sha256=sha256, distortion=Distortion(kind="noise", severity=0.5, seed=4)),
    ]


def all_items(folder: Path) -> list[Item]:
    return [item for path in sorted(folder.glob("*.png")) for item in items_of(path)]


if __name__ == "__main__":
    at, photographs, wait = sys.argv[1:]
    slow = teacher(member("one", 1, pause=float(wait)), member("two", 2))
    with TeacherCache(Path(at)) as cache:
        fill(
            cache, slow, all_items(Path(photographs)), batch=2, threads=1, on_step=lambda *_: print("step", flush=True)
        )
