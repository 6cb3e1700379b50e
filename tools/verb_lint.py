"""``edgeiqa lint``."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import click
import msgspec

from ..runtime.bundle import Bundle
from ..runtime.errors import UsageError
from ..runtime.manifest import Target
from .options import PathArgument, json_option, require_libraries
from .show import print_json, print_table

if TYPE_CHECKING:
    from ..export.lint import LintReport

__all__ = ["lint"]


@click.command()
@click.argument("graph", type=PathArgument)
@click.option(
    "--target",
    type=click.Choice(get_args(Target)),
    help="Whose engine is to run it. [default: what each graph of a bundle is for]",
)
@json_option
def lint(graph: Path, target: str | None, as_json: bool) -> None:
    """Say what an engine would refuse, compute wrongly or run slowly in GRAPH, and what mends it.

    GRAPH is an ONNX file, or a bundle (every ONNX graph in it). Exit status 1 if there is an error; warnings alone
    leave it 0.
    """
    from ..export.lint import lint as check

    require_libraries(("onnx",), "export")
    reports = [(name, check(data, its_target)) for name, its_target, data in _graphs(graph, target)]
    passed = all(report.passed for _, report in reports)
    if as_json:
        graphs = [{"graph": name, **msgspec.to_builtins(report)} for name, report in reports]
        print_json({"passed": passed, "graphs": graphs})
    else:
        for name, report in reports:
            _print_report(name, report)
    if not passed:
        sys.exit(1)


def _graphs(path: Path, target: str | None) -> Iterator[tuple[str, Target, bytes]]:
    """Each ONNX graph with its name and its target."""
    if path.suffix != ".eiqa" and not zipfile.is_zipfile(path):
        data = path.read_bytes()
        if target is None:
            raise UsageError(
                f"{path} without --target",
                expected=f"one of {', '.join(get_args(Target))}: a graph alone does not say what is to run it",
                mend=f"edgeiqa lint {path} --target onnx",
            )
        yield str(path), cast(Target, target), data
        return
    bundle = Bundle.open(path)
    found = [
        (name, artefact.target)
        for member in bundle.manifest.members
        for artefact in member.artefacts
        for name in artefact.files
        if name.endswith(".onnx")
    ]
    if not found:
        raise UsageError(
            f"{path}, which holds no ONNX graph",
            expected="a bundle with one",
            mend="make it again with edgeiqa export --target onnx, beside its other targets",
        )
    for name, its_target in found:
        yield name, cast(Target, target or its_target), bundle.read(name)


def _print_report(name: str, report: LintReport) -> None:
    errors = sum(finding.severity == "error" for finding in report.findings)
    warnings = len(report.findings) - errors
    verdict = f"{name} for {report.target}: {_count(errors, 'error')}, {_count(warnings, 'warning')}"
    if not report.findings:
        click.echo(verdict)
        return
    print_table(
        ["rule", "", "where", "got", "expected"],
        [
            [finding.rule, finding.severity, finding.node or "the graph", finding.got, finding.expected]
            for finding in report.findings
        ],
        title=verdict,
    )
    for rule, mend in dict.fromkeys((finding.rule, finding.mend) for finding in report.findings):
        click.echo(f"  to mend {rule}: {mend}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
