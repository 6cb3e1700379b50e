"""``edgeiqa unpack``."""

from __future__ import annotations

from pathlib import Path

import click

from ..runtime.bundle import Bundle
from ..runtime.scorer import default_bundle
from .options import PathArgument

__all__ = ["unpack"]


@click.command()
@click.argument("bundle", required=False, type=PathArgument)
@click.option("-o", "--output", required=True, type=PathArgument, help="A new or empty folder.")
def unpack(bundle: Path | None, output: Path) -> None:
    """Write a bundle's graphs, golden photographs and manifest.json into a folder. Without BUNDLE: the default one.

    A port in another language needs just these: docs/bundle-format.md says how a photograph becomes a score.
    """
    opened = default_bundle() if bundle is None else Bundle.open(bundle)
    for path in opened.unpack(output):
        click.echo(path)
