"""What the teacher cache saves: an epoch of a student with it and without, in one run on this machine.

python benchmarks/teacher_cache.py [--teacher runs/teach-...] [--photographs DIR] [--large]

Without ``--teacher`` it is the default bundle. With ``--large``: eight ConvNeXt-Large at 910x512 (one is built, with
random weights, and looks at two images; the others cost the same) beside a ConvNeXt-Small at 704x384.
Without the cache each epoch runs every member on every image; with it, only the student.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from edgeiqa.compress.data.items import Item, hash_files, list_photographs
from edgeiqa.compress.input_size import count_system
from edgeiqa.compress.models.network import build
from edgeiqa.compress.models.systems import one_backbone
from edgeiqa.compress.models.weights import NoWeights
from edgeiqa.compress.stages import Stage
from edgeiqa.compress.step_time import measure_step
from edgeiqa.compress.teacher_cache import TeacherCache
from edgeiqa.compress.teacher_fill import fill
from edgeiqa.compress.teacher_targets import speaking_features, targets
from edgeiqa.compress.teachers import Teacher, load_teacher
from edgeiqa.tools.sample_photographs import sample_photographs
from lightning.fabric import Fabric


def ensemble(arguments: argparse.Namespace, folder: Path) -> None:
    """Measured: seconds an image of the teacher, and of the student's step with cached answers read."""
    teacher = load_teacher(str(arguments.teacher), threads=arguments.threads)
    assert isinstance(teacher, Teacher)
    paths = list_photographs(arguments.photographs)[:16] if arguments.photographs else sample_photographs()
    items = [Item(path=path, sha256=sha) for path, sha in zip(paths, hash_files(paths), strict=True)]
    system = one_backbone("tf_efficientnet_lite0", arguments.size, arguments.size)
    with TeacherCache(folder / "cache") as cache:
        fill(cache, teacher, items[:1])
        started = time.perf_counter()
        fill(cache, teacher, items[1:], threads=arguments.threads)
        looked = (time.perf_counter() - started) / (len(items) - 1)
        said = targets(cache, teacher, items)
        started = time.perf_counter()
        for place in range(len(teacher.members)):
            rows = np.flatnonzero(said.mask[:, place])
            if rows.size:
                speaking_features(cache, teacher, said, rows, place)
        read = (time.perf_counter() - started) / len(items)
    step = measure_step(system, Stage(batch=16), Fabric(accelerator="cpu"))
    student = step.step_seconds / 16
    macs = teacher.macs_per_item
    own = 3 * count_system(system).macs
    print(f"teacher {teacher.name}, {len(teacher.members)} members: {looked:.3f} s an image (decode, views, networks)")
    print(f"student {system.name}: {student:.3f} s an image of a step; its answers from the cache {1e3 * read:.2f} ms")
    print(f"an epoch without the cache takes {(looked + student) / (student + read):.1f} times one with it")
    if macs is not None:
        print(f"by multiply-adds (a step is three times the forward pass): {(macs + own) / own:.1f} times")


def large() -> None:
    """By multiply-adds, and by a few images: eight ConvNeXt-Large at 910x512, a ConvNeXt-Small at 704x384."""
    teacher, student = one_backbone("convnext_large", 910, 512), one_backbone("convnext_small", 704, 384)
    member_macs, student_macs = count_system(teacher).macs, count_system(student).macs
    network = build(teacher, weights=NoWeights()).eval()
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 512, 910, 3), dtype=np.uint8))
    taken = []
    with torch.inference_mode():
        for _ in range(3):
            started = time.perf_counter()
            network(image)
            taken.append(time.perf_counter() - started)
    del network
    member = statistics.median(taken[1:])
    step = measure_step(student, Stage(batch=2), Fabric(accelerator="cpu"))
    own = step.step_seconds / 2
    print(f"ConvNeXt-Large 910x512: {member_macs / 1e9:.1f} GMACs, {member:.2f} s an image; eight {8 * member:.1f} s")
    print(f"a training step of ConvNeXt-Small at 704x384: {3 * student_macs / 1e9:.1f} GMACs, {own:.2f} s an image")
    macs = (8 * member_macs + 3 * student_macs) / (3 * student_macs)
    print(f"an epoch without the cache takes {macs:.1f} times one with it by multiply-adds, ", end="")
    print(f"{(8 * member + own) / own:.1f} times by the clock")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="default")
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.large:
        large()
        return
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ensemble(arguments, Path(folder))


if __name__ == "__main__":
    main()
