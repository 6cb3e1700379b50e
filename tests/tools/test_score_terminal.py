"""``edgeiqa score`` with a terminal on stderr, and with a list that goes on while it is scored."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .grey import light_bundle, save_grey

COMMAND = [sys.executable, "-m", "edgeiqa.tools", "score"]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return light_bundle(tmp_path / "bundle")


def test_results_go_to_stdout_while_a_bar_is_on_the_terminal(tmp_path: Path, bundle: Path) -> None:
    paths = [save_grey(tmp_path / f"{level}.png", level) for level in (10, 20, 30)]
    mine, theirs = pty.openpty()
    try:
        ran = subprocess.run(
            [*COMMAND, *map(str, paths), "--bundle", str(bundle), "--json"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=120,
            check=False,
        )
    finally:
        os.close(theirs)
        os.close(mine)
    assert ran.returncode == 0
    assert [json.loads(line)["path"] for line in ran.stdout.splitlines()] == [str(path) for path in paths]


def test_a_list_that_goes_on_is_answered_as_it_comes_and_may_be_interrupted(tmp_path: Path, bundle: Path) -> None:
    paths = [save_grey(tmp_path / f"{level}.png", level) for level in (10, 20, 30)]
    process = subprocess.Popen(
        [*COMMAND, "-", "--bundle", str(bundle), "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Of a shell's background job interrupts are ignored, and so its children's would be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    try:
        # A writer that waits for each answer before it asks again.
        for path in paths:
            process.stdin.write(os.fsencode(path) + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["path"] == str(path)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read().decode().strip() == "interrupted"
    finally:
        process.kill()
        process.communicate()


def test_a_pipe_among_the_photographs_is_no_file(tmp_path: Path, bundle: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    photo = save_grey(tmp_path / "photo.png", 100)
    ran = subprocess.run(
        [*COMMAND, str(tmp_path / "pipe.png"), str(photo), "--bundle", str(bundle), "--json"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    pipe, whole = (json.loads(line) for line in ran.stdout.splitlines())
    assert ran.returncode == 1 and whole["error"] is None
    assert "pipe.png, which is no file" in pipe["error"]
