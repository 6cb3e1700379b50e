"""The command as a whole: its verbs, their help, its way of refusing."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from edgeiqa.runtime.version import __version__
from edgeiqa.tools.command import VERBS

from .command import edgeiqa, require_refusal


def test_the_verbs_of_this_version() -> None:
    assert list(VERBS) == [
        "quickstart",
        *("score", "evaluate", "verify", "info", "unpack", "profile"),
        *("teach", "plan", "distill", "cache", "quantize", "export", "lint", "calibrate", "doctor"),
    ]


@pytest.mark.parametrize("verb", list(VERBS))
def test_help_of_every_verb(verb: str) -> None:
    ran = edgeiqa(verb, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: edgeiqa {verb} ")
    assert "Show this message and exit." in ran.out
    assert edgeiqa(verb, "-h").out == ran.out


def test_help_of_the_command_names_every_verb_and_the_exit_statuses() -> None:
    ran = edgeiqa("--help")
    assert ran.code == 0
    for verb, (_, about) in VERBS.items():
        assert verb in ran.out and about.split()[0] in ran.out
    assert "Exit status" in ran.out


def test_version() -> None:
    assert edgeiqa("--version").out == f"edgeiqa, version {__version__}\n"
    assert version("edgeiqa") == __version__


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Usage: edgeiqa"),
        (("quantise",), "No such command 'quantise'"),
        (("score",), "Missing argument 'PATH...'"),
        (("score", "--bogus", "a.jpg"), "No such option"),
        (("score", "--threads", "0", "a.jpg"), "0 is not in the range"),
        (("score", "--engine", "tflite", "a.jpg"), "'tflite' is not one of"),
        (("export", "--target", "coreml"), "'coreml' is not one of"),
        (("export", "--tolerance", "0"), "is not in the range"),
        (("profile", "--runs", "none"), "is not a valid integer"),
        (("calibrate", "a.eiqa"), "Missing option"),
        (("evaluate", "--images", "photos"), "Missing option '--data'"),
        (("unpack",), "Missing option '-o'"),
    ],
)
def test_a_call_that_click_refuses(arguments: tuple[str, ...], words: str) -> None:
    ran = edgeiqa(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err and "Traceback" not in ran.err


def test_the_module_is_the_command(tmp_path: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgeiqa.tools", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    helped = call("--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout == edgeiqa("--help").out
    refused = call("score", "missing.jpg", "--json")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "error: missing.jpg, which is not there\n  expected: a file or folder\n  to mend:  correct the path\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_path_that_the_system_refuses() -> None:
    require_refusal(edgeiqa("score", "a" * 5000), "too long")


def test_what_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(click.Group, "invoke", lambda self, ctx: interrupted(ctx))
    assert edgeiqa("doctor").code == 130
