"""A recipe as written, for a few steps: parameters, multiply-adds, the loss, seconds and memory of one member.

python benchmarks/recipe_steps.py recipes/vcip2025.toml --data DIR/mos.csv --images DIR/images [--member NAME]

The member starts from random weights, so that it runs where the hub cannot be reached; all else is the recipe's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from edgeiqa.compress.data.dataset import read_csv
from edgeiqa.compress.data.items import Item, hash_files
from edgeiqa.compress.data.view_store import open_views
from edgeiqa.compress.fit import fit
from edgeiqa.compress.judging import HeldOut
from edgeiqa.compress.labelled import LabelledExamples, ScoreObjective
from edgeiqa.compress.models.network import build
from edgeiqa.compress.models.weights import NoWeights
from edgeiqa.compress.mos_transform import resolve
from edgeiqa.compress.teach import member_system
from edgeiqa.profiles.cost import count_module
from edgeiqa.profiles.latency import peak_rss_mib
from edgeiqa.tools.verb_teach import read_recipe
from lightning.fabric import Fabric

PHOTOGRAPHS = 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--member", help="[default: the recipe's first]")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--precision", default="32-true", help="Fabric's name of the arithmetic.")
    options = parser.parse_args()
    recipe = read_recipe(options.recipe)
    member = next(one for one in recipe.members if options.member in (None, one.name))
    whole = read_csv(options.data, options.images, score_range=recipe.data.score_range)
    dataset = replace(whole, photos=whole.photos[:PHOTOGRAPHS])
    paths = [photo.path for photo in dataset.photos]
    keys = hash_files(paths)
    system = member_system(member)
    network = build(system, weights=NoWeights(), seed=member.seed)
    mos = dataset.unit_mos
    transform = None if member.mos_transform is None else resolve(member.mos_transform, mos)
    targets = mos if transform is None else transform.forward(mos)
    network.set_output_bias(float(targets.mean()))
    learned, held = np.arange(PHOTOGRAPHS - 3), np.arange(PHOTOGRAPHS - 3, PHOTOGRAPHS)
    with tempfile.TemporaryDirectory() as folder:
        items = [Item(path=path, sha256=key) for path, key in zip(paths, keys, strict=True)]
        views = open_views(Path(folder) / "views", items, system.preprocess)
        started = time.perf_counter()
        history = fit(
            network,
            ScoreObjective(),
            member.stages,
            LabelledExamples.of(views, targets, learned, names=[str(path) for path in paths], keys=keys),
            HeldOut(views, held, targets[held], transform),
            seed=member.seed,
            folder=Path(folder) / "run",
            run=msgspec.json.encode(member).decode(),
            fabric=Fabric(accelerator="cpu", devices=1, precision=options.precision),
            keep=member.keep,
            opinions=mos[learned],
            most_steps=options.steps,
        )
        seconds = time.perf_counter() - started
    trunks = [parameter for name, parameter in network.named_parameters() if name.startswith("trunks")]
    parameters = sum(parameter.numel() for parameter in trunks)
    shapes = system.preprocess.shapes
    inputs = tuple(torch.zeros((1, *shapes[view.name]), dtype=torch.uint8) for view in system.preprocess.views)
    macs = count_module(network, inputs).macs
    print(f"{member.name}: trunk {parameters / 1e6:.1f} M parameters, {macs / 1e9:.1f} GMACs a photograph")
    print(
        f"{options.steps} steps of {member.stages[0].batch} in {seconds:.0f} s, {peak_rss_mib():.0f} MiB: {history[-1]}"
    )


if __name__ == "__main__":
    main()
