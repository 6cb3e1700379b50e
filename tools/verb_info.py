"""``edgeiqa info``."""

from __future__ import annotations

from pathlib import Path

import click

from ..runtime.bundle import Bundle
from ..runtime.errors import UsageError
from ..runtime.manifest import Artefact, GateRecord, WeightedMean
from ..runtime.preprocess import Preprocess
from ..runtime.score_map import ScoreMap
from ..runtime.scorer import default_bundle
from .options import PathArgument, json_option
from .show import print_json, print_table

__all__ = ["info"]

# That are told one by one; an isotonic map may have thousands.
_MOST_BREAKPOINTS = 8


@click.command()
@click.argument("bundle", required=False, type=PathArgument)
@click.option("--card", is_flag=True, help="Print the model card instead.")
@json_option
def info(bundle: Path | None, card: bool, as_json: bool) -> None:
    """Show what a bundle holds: members, preprocessing, graphs, cost, gates. Without BUNDLE: the default one."""
    opened = default_bundle() if bundle is None else Bundle.open(bundle)
    manifest = opened.manifest
    if card:
        if "card.md" not in manifest.parts:
            raise UsageError(
                f"{opened.path}, which has no model card",
                expected="a bundle with one",
                mend="leave --card out to see what the bundle holds",
            )
        click.echo(opened.read("card.md").decode())
        return
    if as_json:
        print_json(manifest)
        return
    scale = manifest.scale
    click.echo(f"{manifest.name}  format {manifest.format}  {opened.size_bytes / 1e6:.2f} MB  {opened.path}")
    click.echo(
        f"scores {scale.low:g} to {scale.high:g}, {'higher' if scale.higher_is_better else 'lower'} is better, "
        f"comparable {'anywhere' if scale.comparable == 'global' else 'inside a scene only'}"
    )
    combine = type(manifest.combine).__name__
    weights = f" {manifest.combine.weights}" if isinstance(manifest.combine, WeightedMean) else ""
    count = "1 member" if len(manifest.members) == 1 else f"{len(manifest.members)} members"
    click.echo(f"{count}, combined by {combine}{weights}; {manifest.engine} in {manifest.precision}")
    click.echo(f"golden photographs: {', '.join(photo.name for photo in manifest.golden)}")
    for member in manifest.members:
        click.echo(f"\n{member.name}: {describe_preprocess(member.preprocess)}")
        print_table(
            ["graph", "size", "GMACs", "parameters", "weights", "outputs", "gates"],
            [_row(opened, artefact) for artefact in member.artefacts],
        )
        for artefact in member.artefacts:
            click.echo(f"  {artefact.target} {artefact.precision} score map: {describe_map(artefact.score_map)}")
    provenance = manifest.provenance
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    click.echo(f"made {provenance.created} with {versions}")
    for label, text in (("data", provenance.data), ("citation", provenance.citation), ("licence", provenance.licence)):
        if text:
            click.echo(f"{label}: {text}")
    for command in provenance.commands:
        click.echo(f"by: {command}")


def _row(bundle: Bundle, artefact: Artefact) -> list[str]:
    size = sum(bundle.manifest.parts[name].size_bytes for name in artefact.files)
    return [
        f"{artefact.target} {artefact.precision} {artefact.capability}".strip(),
        f"{size / 1e6:.2f} MB",
        "-" if artefact.macs is None else f"{artefact.macs / 1e9:.3f}",
        "-" if artefact.parameters is None else f"{artefact.parameters / 1e6:.3f} M",
        artefact.stored_as,
        " ".join(artefact.outputs),
        ", ".join(map(_gate, artefact.gates)),
    ]


def _gate(gate: GateRecord) -> str:
    """A record in a few words; one of an engine tells whether it was built, which nothing failed by."""
    if gate.kind == "tensorrt_build":
        return "engine built" if gate.passed else "engine not built"
    unit = gate.report.get("unit")
    return f"{gate.kind}{f' ({unit})' if unit else ''} {'passed' if gate.passed else 'FAILED'}"


def describe_map(score_map: ScoreMap) -> str:
    """A `ScoreMap` in one line, for a person."""
    steps = []
    for step in score_map.steps:
        fields = [(name, getattr(step, name)) for name in step.__struct_fields__]
        steps.append(f"{type(step).__name__} {' '.join(f'{name}={_parameter(value)}' for name, value in fields)}")
    fitted = f", fitted on {score_map.fitted_on}" if score_map.fitted_on else ", fitted on nothing"
    return f"{' > '.join(steps) or 'identity'}, to [{score_map.low:g}, {score_map.high:g}]{fitted}"


def _parameter(value: float | tuple[float, ...]) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if len(value) <= _MOST_BREAKPOINTS:
        return str(value)
    return f"({value[0]:.4g} .. {value[-1]:.4g}, {len(value)} numbers)"


def describe_preprocess(preprocess: Preprocess) -> str:
    """A `Preprocess` in one line, for a person."""
    views = []
    for view in preprocess.views:
        steps = []
        for operation in view.operations:
            fields = {name: getattr(operation, name) for name in operation.__struct_fields__}
            size = f"{fields.pop('width')}x{fields.pop('height')} " if "width" in fields else ""
            written = " ".join(f"{name}={value}" for name, value in fields.items())
            steps.append(f"{type(operation).__name__.lower()} {size}{written}".rstrip())
        views.append(f"{view.name} = {' > '.join(steps)}")
    decode = (
        "full decode"
        if not hasattr(preprocess.decode, "margin")
        else f"DCT decode, margin {preprocess.decode.margin:g}"
    )
    return f"{decode}; EXIF {preprocess.exif}; colour {preprocess.colour}; alpha {preprocess.alpha}; {'; '.join(views)}"
