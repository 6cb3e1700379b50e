"""Calling the ``edgeiqa`` command as its users do, in this process, and what it must say when it refuses."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from edgeiqa.tools.command import main
from PIL import Image, ImageFilter


@dataclass(frozen=True)
class Ran:
    """What a call of the command gave."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Standard output as lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def object(self) -> Any:
        """Standard output as one line of JSON."""
        (only,) = self.lines
        return only


def edgeiqa(*arguments: object) -> Ran:
    """Run ``edgeiqa ARGUMENTS`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    assert isinstance(code, int)
    return Ran(code, out.getvalue(), err.getvalue())


def require_refusal(ran: Ran, *words: str, code: int = 2) -> None:
    """Nothing on stdout; on stderr what was got, what was expected and what mends it, with these words among it."""
    assert (ran.code, ran.out) == (code, ""), ran
    *_, got, expected, mend = ran.err.splitlines()
    for line, start in ((got, "error: "), (expected, "  expected: "), (mend, "  to mend:  ")):
        assert line.startswith(start) and len(line) > len(start) + 2, ran.err
    missing = [word for word in words if word not in ran.err]
    assert not missing, (missing, ran.err)


def files_in(folder: Path) -> set[str]:
    """Every file and folder below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def save_photo(path: Path, seed: int, blur: float = 0.0, size: tuple[int, int] = (120, 90)) -> Path:
    """Coloured waves with noise, blurred."""
    width, height = size
    generator = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 6, height))
    waves = np.stack([np.sin(x * (1 + seed % 4)), np.cos(y + seed), np.sin(x + y)], axis=2)
    pixels = 90 + 8 * (seed % 8) + 70 * waves + generator.normal(0, 5 + 5 * (seed % 5), waves.shape)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(blur))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=92)
    return path


def write_table(path: Path, rows: Iterable[tuple[object, ...]], header: str = "image,mos") -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def rewritten(
    bundle: Path,
    target: Path,
    change: Callable[[dict[str, Any]], None] | None = None,
    parts: dict[str, bytes] | None = None,
) -> Path:
    """A copy of a bundle with another manifest, or with other bytes in parts; the parts' hashes stay the old ones."""
    with zipfile.ZipFile(bundle) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(content["manifest.json"])
    if change is not None:
        change(manifest)
    content |= {"manifest.json": json.dumps(manifest).encode()} | (parts or {})
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return target
