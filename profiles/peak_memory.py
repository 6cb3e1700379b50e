"""Peak memory of scoring one photograph, in a process of its own that does nothing else.

``python -m edgeiqa.profiles.peak_memory BUNDLE PHOTO ENGINE PRECISION THREADS`` is that process.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from ..runtime.bundle import Bundle
from ..runtime.errors import UsageError
from ..runtime.scorer import Scorer
from .latency import peak_rss_mib

__all__ = ["measure_peak_memory"]


def measure_peak_memory(
    bundle: Path, photo: Path | bytes, *, engine: str, precision: str, threads: int, limit_s: float = 300.0
) -> float:
    """The largest resident set of a new process that loads a bundle and scores one photograph, in MiB.

    Args:
        bundle: its file.
        photo: a path, or the bytes of a file.
        engine: that runs it.
        precision: of its arithmetic.
        threads: of the engine.
        limit_s: after which the process is ended.

    Raises:
        UsageError: it could not be measured: the process failed, took longer, or the system does not tell.
    """
    with tempfile.TemporaryDirectory(prefix="edgeiqa-") as folder:
        path = photo if isinstance(photo, Path) else Path(folder) / "photo"
        if not isinstance(photo, Path):
            path.write_bytes(photo)
        try:
            # -P: a file beside the caller must not be taken for a module.
            ran = subprocess.run(  # noqa: S603
                [sys.executable, "-P", "-m", __name__, str(bundle), str(path), engine, precision, str(threads)],
                capture_output=True,
                timeout=limit_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _unmeasured(
                str(error) if isinstance(error, OSError) else f"it took longer than {limit_s:g} s"
            ) from None
    if ran.returncode != 0:
        lines = ran.stderr.decode(errors="replace").strip().splitlines()
        raise _unmeasured(f"exit status {ran.returncode}{': ' + lines[-1] if lines else ''}")
    try:
        peak = msgspec.json.decode(ran.stdout, type=float | None)
    except msgspec.MsgspecError:
        raise _unmeasured("it answered something else") from None
    if peak is None:
        raise _unmeasured("this system does not tell")
    return peak


def _unmeasured(why: str) -> UsageError:
    return UsageError(
        f"no peak memory of a process that scores: {why}",
        expected="a process that scores one photograph",
        mend="see whether edgeiqa score works with these options",
    )


def _score_once(bundle: str, photo: str, engine: str, precision: str, threads: str) -> None:
    Scorer(Bundle.open(bundle), engine=engine, precision=precision, threads=int(threads)).score(Path(photo))
    sys.stdout.write(msgspec.json.encode(peak_rss_mib()).decode())


if __name__ == "__main__":
    _score_once(*sys.argv[1:])
