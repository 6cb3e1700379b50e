"""The example that scores frames: the newest one, at a rate."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import edgeiqa
import numpy as np
import pytest
from numpy.typing import NDArray

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "score_frames.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score_frames", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules["score_frames"] = module
    spec.loader.exec_module(module)
    return module


def frame(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (120, 160, 3), dtype=np.uint8)


def test_the_newest_frame_is_scored_at_the_rate(example: ModuleType) -> None:
    made: list[NDArray[np.uint8]] = []

    def camera() -> Iterator[NDArray[np.uint8]]:
        for seed in range(150):
            made.append(frame(seed))
            yield made[-1]
            time.sleep(0.01)

    scorer = edgeiqa.load()
    scored = list(example.score_frames(scorer, camera(), rate_hz=5.0))
    assert len(made) == 150
    # No score was dropped and none was taken twice; a loaded machine takes fewer.
    assert sum(one.frames for one in scored) == 150
    times = [one.at_s for one in scored]
    assert times == sorted(times)
    # At most 5 a second after the first, and the last frame's.
    assert 2 <= len(scored) <= 5 * times[-1] + 2
    ends = np.cumsum([one.frames for one in scored])
    for one, end in zip(scored, ends, strict=True):
        assert one.score == scorer.score(made[end - 1]).value
        assert one.age_ms > 0


def test_a_source_that_fails_says_so(example: ModuleType) -> None:
    def camera() -> Iterator[NDArray[np.uint8]]:
        yield frame(0)
        raise OSError("the camera was unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(example.score_frames(edgeiqa.load(), camera(), rate_hz=1000.0))


def test_it_runs_as_a_script(tmp_path: Path) -> None:
    """With a stand-in for OpenCV, which is no dependency: a video of ten frames."""
    (tmp_path / "cv2.py").write_text(
        "import numpy as np\n"
        "COLOR_BGR2RGB, CAP_PROP_FPS = 4, 5\n"
        "def cvtColor(frame, code):\n    return np.ascontiguousarray(frame[..., ::-1])\n"
        "class VideoCapture:\n"
        "    def __init__(self, source):\n        self.source, self.left = source, 10\n"
        "    def isOpened(self):\n        return self.source in ('clip.mp4', 0)\n"
        "    def get(self, what):\n        return {CAP_PROP_FPS: 25.0}[what]\n"
        "    def read(self):\n"
        "        self.left -= 1\n"
        "        return self.left >= 0, np.full((90, 120, 3), 10 * self.left % 256, np.uint8)\n"
    )
    code = f"import runpy, sys; sys.argv = sys.argv[1:]; sys.path.insert(0, {str(tmp_path)!r}); "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"

    def run(source: str, rate: float) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, str(EXAMPLE), source, "--rate", str(rate)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    # A camera.
    ran = run("0", 1000)
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert sum(line["frames"] for line in lines) == 10
    assert all(0 <= line["score"] <= 100 for line in lines)
    # A video of 25 frames a second: those that are due, at its own time.
    ran = run("clip.mp4", 10)
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["at_s"] for line in lines] == [0.0, 0.12, 0.2, 0.32]
    assert [line["frames"] for line in lines] == [1, 3, 2, 3]
    assert run("clip.mp4", 0).returncode == 2
    missing = run("none.mp4", 1)
    assert missing.returncode == 1 and "none.mp4: no camera" in missing.stderr
