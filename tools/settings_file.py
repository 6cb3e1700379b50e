"""``edgeiqa.toml`` in the working folder: defaults of options, a table a verb."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from ..runtime.errors import UsageError
from .show import say

__all__ = ["SETTINGS_NAME", "read_settings"]

SETTINGS_NAME = "edgeiqa.toml"


def read_settings(context: click.Context) -> dict[str, Any]:
    """Defaults for every verb that the file names, as `click.Context.default_map` has them.

    Keys are the long names of options, with or without hyphens between words. Values are strings, numbers, booleans, or
    lists for an option that takes several values or may be repeated; one string will do for the latter. Paths are
    relative to the working folder. What the file says for the verb that is called is said on stderr.

    Args:
        context: of the command, a group.

    Returns:
        By verb, then by parameter; a group of verbs has a table for each of its own. Empty without a file.

    Raises:
        UsageError: it is no TOML, or names a verb or an option that there is not, or a value of another kind.
    """
    path = Path(SETTINGS_NAME)
    if not path.is_file():
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"{path}: {error}",
            expected="TOML with a table a verb, such as [distill]",
            mend=f"correct it, or move {path} away",
        ) from error
    group = context.command
    assert isinstance(group, click.Group)
    settings = {verb: _of_verb(group, verb, table, context) for verb, table in tables.items()}
    called = context.invoked_subcommand
    if called is not None and tables.get(called):
        shown = ", ".join(f"{name} = {value!r}" for name, value in tables[called].items())
        say(f"{path}: {shown}, where the call does not say otherwise")
    return settings


def _of_verb(group: click.Group, verb: str, table: object, context: click.Context) -> dict[str, Any]:
    command = group.get_command(context, verb)
    if command is None:
        raise _unknown(f"[{verb}]", "a verb", verb, group.list_commands(context))
    if not isinstance(table, dict):
        raise UsageError(
            f"{SETTINGS_NAME}: {verb} = {table!r}",
            expected=f"a table [{verb}] of options",
            mend=f"write the option below a line [{verb}]",
        )
    if isinstance(command, click.Group):
        return {name: _of_verb(command, name, inner, context) for name, inner in table.items()}
    options = _options(command)
    defaults: dict[str, Any] = {}
    for name, value in table.items():
        option = options.get(name.replace("_", "-"))
        if option is None or option.name is None:
            raise _unknown(f"{name} in [{verb}]", f"an option of {verb}", name.replace("_", "-"), options)
        if option.multiple and isinstance(value, str):
            value = [value]
        _require_kind(option, f"{name} = {value!r} in [{verb}]", value)
        if option.name in defaults:
            raise UsageError(f"{SETTINGS_NAME}: {name} in [{verb}] twice", expected="it once", mend="remove one line")
        defaults[option.name] = value
    return defaults


def _options(command: click.Command) -> dict[str, click.Option]:
    """By long name; an option that shows something and ends the call is none to be set."""
    return {
        name.removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option) and not option.is_eager
        for name in option.opts
        if name.startswith("--")
    }


def _require_kind(option: click.Option, what: str, value: object) -> None:
    several = option.multiple or option.nargs != 1
    if option.is_flag:
        right, expected = isinstance(value, bool), "true or false"
    elif several:
        right = isinstance(value, list) and all(_is_plain(part) for part in value)
        right = right and (option.multiple or (isinstance(value, list) and len(value) == option.nargs))
        expected = "a list in brackets" if option.multiple else f"a list of {option.nargs} values in brackets"
    else:
        right, expected = _is_plain(value), "a string or a number"
    if not right:
        raise UsageError(f"{SETTINGS_NAME}: {what}", expected=expected, mend="correct the line")


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _unknown(what: str, kind: str, name: str, known: Iterable[str]) -> UsageError:
    near = difflib.get_close_matches(name, list(known), n=3)
    return UsageError(
        f"{SETTINGS_NAME}: {what}, which is not {kind}",
        expected=f"one of: {', '.join(near or known)}",
        mend="correct or remove the line",
    )
