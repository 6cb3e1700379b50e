"""The ``edgeiqa`` command: finds a verb's file in a table and loads it only when it is called."""

from __future__ import annotations

import importlib
import sys
import warnings

import click

from ..runtime.errors import EdgeIQAError
from ..runtime.version import __version__
from .settings_file import read_settings

__all__ = ["VERBS", "cli", "main", "run"]

# verb: (module of this folder, what --help says of it)
VERBS: dict[str, tuple[str, str]] = {
    "quickstart": ("verb_quickstart", "See the whole path in minutes, on sample photographs."),
    "score": ("verb_score", "Score photographs."),
    "evaluate": ("verb_evaluate", "Judge bundles against human scores."),
    "verify": ("verb_verify", "Replay a bundle's golden answers on this machine."),
    "info": ("verb_info", "Show what a bundle holds."),
    "unpack": ("verb_unpack", "Write a bundle's graphs and manifest into a folder, for C++ or Kotlin."),
    "profile": ("verb_profile", "Measure cost, latency and memory on this machine."),
    "teach": ("verb_teach", "Train a K-fold ensemble of teachers."),
    "plan": ("verb_plan", "Find the backbone, input size and views that fit a budget."),
    "distill": ("verb_distill", "Train a student on what a teacher says, inside a budget."),
    "cache": ("verb_cache", "Fill a teacher cache, or show what it holds."),
    "quantize": ("verb_quantize", "Find which blocks INT8 costs most, keep the fewest float, or fine-tune to bear it."),
    "export": ("verb_export", "Make a bundle from trained networks, gated by parity with torch and by rank."),
    "lint": ("verb_lint", "Say what an engine would refuse or spoil in a graph."),
    "calibrate": ("verb_calibrate", "Fit a bundle's score maps to your own scale."),
    "doctor": ("verb_doctor", "Say which engines, extras and CPU features this machine has."),
}


class _Verbs(click.Group):
    """Lists verbs from the table, and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f".{VERBS[cmd_name][0]}", __package__)
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Verbs"):
            formatter.write_dl([(name, about) for name, (_, about) in VERBS.items()])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]}, subcommand_metavar="VERB [ARGS]...")
@click.version_option(__version__, prog_name="edgeiqa")
@click.pass_context
def cli(context: click.Context) -> None:
    """No-reference image quality: from teachers to one small verified file that scores photographs on the device.

    edgeiqa.toml in the working folder sets defaults of options, a table a verb; the call's own options win.

    Results go to stdout, talk to stderr. Exit status: 0 done; 1 an honest no (a gate failed, a budget broken, a
    photograph unreadable); 2 the call cannot run.
    """
    context.default_map = read_settings(context)


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit with its status."""
    # What a photograph's metadata lack, or how large it is, moves no score; what cannot be read is an error.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    run(cli, "edgeiqa", arguments)


def run(command: click.Command, name: str, arguments: list[str] | None = None) -> None:
    """Run a command, answer its errors in three lines (got, expected, to mend), and exit with its status."""
    try:
        status = command.main(arguments, prog_name=name, standalone_mode=False)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else name
        click.echo(
            f"error: {error.format_message()}\n  expected: a call as {path} --help describes it\n"
            f"  to mend:  {path} --help",
            err=True,
        )
        status = error.exit_code
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        status = 130
    except EdgeIQAError as error:
        click.echo(f"error: {error.got}\n  expected: {error.expected}\n  to mend:  {error.mend}", err=True)
        status = error.exit_code
    except OSError as error:
        # A disk that is full, a folder that may not be written, a name too long.
        click.echo(
            f"error: {error}\n  expected: files and folders that may be read and written\n"
            "  to mend:  check the path, its permissions and the space on the disk",
            err=True,
        )
        status = 2
    sys.exit(status if isinstance(status, int) else 0)
