"""The ConvNeXt-ensemble recipe's grid on frozen features: its tables, the curve of M members, and an ablation.

python benchmarks/frozen_grid.py recipes/vcip2025.toml --data DIR/mos.csv --images DIR/images --vectors vectors.npz

Eighty networks of 70 epochs are out of reach of a processor; the recipe's heads, losses, transforms, schedule and
choices are not. EfficientNet-Lite0 at 384x384 with ImageNet's weights looks once at each photograph and at eight
augmented versions of it (the recipe's augmentation, its crop scaled to the view; where it only mirrors, at both), and
what is trained is the head. Configurations, eight folds, 70 epochs with a restart every 10, losses, transforms and
checkpoints are the recipe's, by the product's own training loop; batches of 16 and the rate are not (the recipe has 4,
and 1e-5 for a whole network).

Table I is the best set-up of each fold, Table II the figures of each fold's member: out of fold, of one member a
photograph, and flattered by the choice. Rows of the ablation pair configurations over the same folds and seeds; the
choice of a checkpoint is judged by the ensembles on the selection part, which had no part in it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from edgeiqa.compress.augment import augment
from edgeiqa.compress.data.dataset import Dataset, read_csv
from edgeiqa.compress.data.items import Item, hash_files
from edgeiqa.compress.data.splits import Split, select_apart
from edgeiqa.compress.data.view_store import open_views
from edgeiqa.compress.fit import fit
from edgeiqa.compress.judging import HeldOut, predict
from edgeiqa.compress.keeping import kept_of
from edgeiqa.compress.labelled import ScoreObjective
from edgeiqa.compress.models.heads import build_head
from edgeiqa.compress.models.network import QualityNet, build
from edgeiqa.compress.models.systems import one_backbone
from edgeiqa.compress.models.test_time import with_test_time
from edgeiqa.compress.models.weights import LiteWeights, NoWeights
from edgeiqa.compress.mos_transform import resolve
from edgeiqa.compress.stages import Augmentation, Cosine, Stage
from edgeiqa.compress.teach import divide
from edgeiqa.compress.teach_records import MemberRecipe, TeachRecipe
from edgeiqa.compress.teach_results import agreement
from edgeiqa.profiles.cost import count_module
from edgeiqa.profiles.fit_score_map import fit_isotonic, fit_logistic4, fit_minmax, fit_sigmoid
from edgeiqa.profiles.member_choice import choose_members
from edgeiqa.profiles.metrics import Metric, evaluate, paired_difference
from edgeiqa.runtime.score_map import ScoreMap
from edgeiqa.runtime.splitmix import permutation
from edgeiqa.tools.verb_teach import read_recipe
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Key = tuple[str, int]
BACKBONE, SIDE, VERSIONS = "tf_efficientnet_lite0", 384, 8
HEAD_RATE, BATCH = 2e-3, 16
METRICS: tuple[Metric, ...] = ("srcc", "plcc", "rmse")
CUTS = ("flip", "five", "ten", "nine", "seeded")
PAIRS = (
    ("MOS transform (mse)", "transform-mse", "mse"),
    ("MOS transform (Huber and PLCC)", "transform-huber-plcc", "huber-plcc"),
    ("weighted mse for mse", "weighted", "mse"),
    ("Huber for mse, both with transform", "transform-huber", "transform-mse"),
    ("Huber and PLCC for mse", "huber-plcc", "mse"),
    ("MLP for the linear head, both with transform", "transform-mse-mlp", "transform-mse"),
    ("crops, rotations and translations beside flips", "mse", "flip-mse"),
    ("warm restarts for one cosine", "mse", "mse-no-restart"),
)


class HeadOnly(nn.Module):
    """What `fit` trains in place of a network: vectors float32 ``[n, C]`` to scores ``[n]``."""

    def __init__(self, member: MemberRecipe, width: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(member.seed)
            self.head = build_head(member.head, width)
        self.trunks, self.fusion = nn.ModuleList(), nn.Identity()

    def forward(self, vectors: Tensor) -> dict[str, Tensor]:
        return {"score": self.head(vectors)}


@dataclass(frozen=True)
class VersionsOfVectors:
    """Examples whose epochs draw one of the versions of each photograph's vector."""

    vectors: Vectors
    scores: Floats
    rows: NDArray[np.int64]

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def fingerprint(self) -> str:
        return "vectors"

    def draw(
        self,
        rows: NDArray[np.int64],
        epoch: int,
        whole: bool,  # noqa: ARG002 - the versions are drawn ahead
    ) -> tuple[Any, dict[str, NDArray[np.float32]]]:
        chosen = self.rows[rows]
        versions = np.random.default_rng([epoch, *chosen.tolist()]).integers(len(self.vectors), size=len(chosen))
        return [self.vectors[versions, chosen]], {"mos": self.scores[chosen].astype(np.float32)}

    def name(self, row: int) -> str:
        return str(self.rows[row])


@dataclass(frozen=True)
class Said:
    """Of one candidate: opinions in [0, 1] of its fold's rows, of the selection part, and of that part's cuts."""

    member: MemberRecipe
    rows: NDArray[np.int64]
    fold: Floats
    selection: Floats
    cuts: dict[str, Floats]
    checkpoint: str
    epoch: int


@dataclass(frozen=True)
class Outcome:
    mos: Floats
    selection: NDArray[np.int64]
    said: dict[Key, Said]

    @property
    def folds(self) -> list[int]:
        return sorted({fold for _, fold in self.said})

    def chosen(self, compared: Sequence[str] = ("mse-no-restart", "mse-last-epoch")) -> list[Key]:
        def rank(key: Key) -> float:
            one = self.said[key]
            return agreement(one.fold, self.mos[one.rows])

        names = [name for name, fold in self.said if fold == 0 and name not in compared]
        return [max(((name, fold) for name in names), key=rank) for fold in self.folds]


def look(network: QualityNet, pixels: NDArray[np.uint8] | Tensor) -> Vectors:
    """Vectors ``[n, C]`` of views; of several images a view their mean."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(pixels), 16):
            part = pixels[start : start + 16]
            batch = part if isinstance(part, Tensor) else torch.from_numpy(np.array(part))
            found.append(network(batch)["features.last"].numpy())
    return np.concatenate(found)


def versions_of(network: QualityNet, view: NDArray[np.uint8], how: Augmentation, crop: float) -> Vectors:
    """``[V, n, C]``: the view and its mirror image where it is only mirrored, else `VERSIONS` drawn ones."""
    if how.crop is None and not how.rotation_degrees and not how.translation:
        return np.stack([look(network, view), look(network, view[:, :, ::-1])])
    scaled = msgspec.structs.replace(how, crop=None if how.crop is None else round(SIDE * crop))
    found = []
    for version in range(VERSIONS):
        # A crop's place is a batch's: small batches have places of their own.
        parts = [
            look(network, augment(np.array(view[at : at + 4]), scaled, np.random.default_rng([version, at])))
            for at in range(0, len(view), 4)
        ]
        found.append(np.concatenate(parts))
    return np.stack(found)


def train(
    member: MemberRecipe,
    vectors: dict[str, Vectors],
    cuts: dict[str, Vectors],
    mos: Floats,
    split: Split,
    fabric: Fabric,
) -> Said:
    held = np.array(split.folds[member.heldout_fold])
    learned = np.array(sorted(row for at, fold in enumerate(split.folds) if at != member.heldout_fold for row in fold))
    selection = np.array(split.selection)
    transform = None if member.mos_transform is None else resolve(member.mos_transform, mos[learned])
    targets = mos if transform is None else transform.forward(mos)
    (given,) = member.stages
    stage = msgspec.structs.replace(
        given,
        parameters="head",
        batch=BATCH,
        head_learning_rate=HEAD_RATE,
        augmentation=Augmentation(flip=False),
    )
    network: Any = HeadOnly(member, vectors["whole"].shape[-1])
    with torch.no_grad():
        network.head.output.weight.zero_()
        network.head.output.bias.fill_(float(targets[learned].mean()))
    whole: Any = vectors["whole"]
    kind = "flip" if given.augmentation.crop is None else "crop"
    with tempfile.TemporaryDirectory() as folder:
        history = fit(
            network,
            ScoreObjective(),
            (stage,),
            VersionsOfVectors(vectors[kind], targets, learned),
            HeldOut((whole,), held, targets[held], transform),
            seed=member.seed,
            folder=Path(folder),
            run=member.name,
            fabric=fabric,
            keep=member.keep,
        )

    def opinions(views: Any, rows: NDArray[np.int64] | None = None) -> Floats:
        raw = predict(network, (views,), rows)
        return raw if transform is None else transform.apply(raw)

    kept = kept_of(history, member.keep)
    return Said(
        member=member,
        rows=held,
        fold=opinions(whole, held),
        selection=opinions(whole, selection),
        cuts={name: opinions(cut) for name, cut in cuts.items()},
        checkpoint="last" if kept is None else kept.figure,
        epoch=len(history) if kept is None else kept.epoch + 1,
    )


def sigmoid(raw: Floats, mos: Floats) -> ScoreMap:
    return fit_sigmoid(raw, mos, 0.0, 100.0)


MAPS: dict[str, Callable[[Floats, Floats], ScoreMap]] = {
    "none (raw x 100)": lambda _raw, _mos: ScoreMap(),
    "min-max": lambda raw, _mos: fit_minmax(raw, 0.0, 100.0),
    "four-parameter logistic": lambda raw, mos: fit_logistic4(raw, mos, 0.0, 100.0),
    "isotonic": lambda raw, mos: fit_isotonic(raw, mos, 0.0, 100.0),
}


def crossed(raw: Floats, mos: Floats, fit_map: Callable[[Floats, Floats], ScoreMap]) -> Floats:
    """Each fifth mapped by what was fitted on the others."""
    order, mapped = np.array(permutation(0, len(raw))), np.empty(len(raw))
    for part in range(5):
        judged = order[part::5]
        fitted = np.setdiff1d(order, judged)
        mapped[judged] = fit_map(100 * raw[fitted], mos[fitted]).apply(100 * raw[judged])
    return mapped


def pooled(run: Outcome, keys: Sequence[Key], fit_map: Callable[[Floats, Floats], ScoreMap] = sigmoid) -> Floats:
    parts = [run.said[key] for key in keys]
    return np.concatenate([crossed(one.fold, run.mos[one.rows], fit_map) for one in parts])


def of_selection(run: Outcome, keys: Sequence[Key], cut: str | None = None) -> Floats:
    """The ensemble's scores of the selection part: the mean of the members', each by a sigmoid fitted on its fold."""
    scores = []
    for key in keys:
        one = run.said[key]
        said = one.selection if cut is None else one.cuts[cut]
        scores.append(sigmoid(100 * one.fold, run.mos[one.rows]).apply(100 * said))
    return np.asarray(np.mean(scores, axis=0))


def changes(one: Floats, other: Floats, mos: Floats) -> str:
    parts = [paired_difference(one, other, mos, metric=metric) for metric in METRICS]
    return " | ".join(f"{part.value:+.3f} [{part.low:+.3f}, {part.high:+.3f}]" for part in parts)


def figures(scores: Floats, mos: Floats, *, intervals: bool = False) -> str:
    judged = evaluate(scores, mos)
    parts = [judged.plcc, judged.srcc, judged.rmse]
    if intervals:
        return " | ".join(f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in parts)
    return " | ".join(f"{one.value:.3f}" for one in parts)


def tables(run: Outcome) -> None:
    print("\nTable I\n\n| fold | best set-up | source | checkpoint | epoch | PLCC | SRCC | RMSE |")
    print("|---|---|---|---|---|---|---|---|")
    keys = run.chosen()
    for name, fold in keys:
        one = run.said[name, fold]
        mos = run.mos[one.rows]
        said = figures(crossed(one.fold, mos, sigmoid), mos)
        print(f"| {fold} | {name} | {one.member.source} | {one.checkpoint} | {one.epoch} | {said} |")
    print("\nTable II\n\n| fold | PLCC | SRCC | RMSE |\n|---|---|---|---|")
    each = []
    for key in keys:
        one = run.said[key]
        mos = run.mos[one.rows]
        mapped = crossed(one.fold, mos, sigmoid)
        judged = evaluate(mapped, mos)
        each.append([judged.plcc.value, judged.srcc.value, judged.rmse.value])
        print(f"| {key[1]} | {figures(mapped, mos)} |")
    print(f"| average | {' | '.join(f'{value:.3f}' for value in np.mean(each, axis=0))} |")
    mos = np.concatenate([run.mos[run.said[key].rows] for key in keys])
    print(f"| pooled | {figures(pooled(run, keys), mos, intervals=True)} |")
    part = run.mos[run.selection]
    print(f"| ensemble, selection part | {figures(of_selection(run, keys), part, intervals=True)} |")
    print("\nEvery configuration\n\n| configuration | source | pooled PLCC | SRCC | RMSE | folds won |")
    print("|---|---|---|---|---|---|")
    for name in dict.fromkeys(name for name, _ in run.said):
        of_it = [(name, fold) for fold in run.folds]
        won = sum(one == name for one, _ in keys)
        source = run.said[name, 0].member.source
        print(f"| {name} | {source} | {figures(pooled(run, of_it), mos)} | {won} |")


def curve(run: Outcome) -> None:
    keys = run.chosen()
    scores = np.stack([of_selection(run, [key]) for key in keys])
    names = [f"{name} {fold}" for name, fold in keys]
    print("\nM of K, selection part\n\n| M | greedy SRCC | exhaustive SRCC | members |\n|---|---|---|---|")
    found = [choose_members(names, scores, run.mos[run.selection], how=how) for how in ("greedy", "exhaustive")]
    for greedy, best in zip(*(choice.curve for choice in found), strict=True):
        both = f"{greedy.accuracy.srcc.value:.3f} | {best.accuracy.srcc.value:.3f}"
        print(f"| {len(best.members)} | {both} | {', '.join(best.members)} |")


def ablation(run: Outcome) -> None:
    mos = np.concatenate([run.mos[run.said["mse", fold].rows] for fold in run.folds])
    part = run.mos[run.selection]
    print("\nAblation\n\n| with minus without | out of fold: SRCC | PLCC | RMSE |\n|---|---|---|---|")
    for name, one, other in PAIRS:
        both = [pooled(run, [(which, fold) for fold in run.folds]) for which in (one, other)]
        print(f"| {name} | {changes(both[0], both[1], mos)} |")
    keys = run.chosen()
    for name, fit_map in MAPS.items():
        print(f"| {name} for the sigmoid | {changes(pooled(run, keys, fit_map), pooled(run, keys), mos)} |")
    print("\n| with minus without | ensembles, selection part: SRCC | PLCC | RMSE |\n|---|---|---|---|")
    for name, one, other in (("two checkpoints for the last epoch", "mse", "mse-last-epoch"), *PAIRS):
        both = [of_selection(run, [(which, fold) for fold in run.folds]) for which in (one, other)]
        print(f"| {name} | {changes(both[0], both[1], part)} |")
    plain = of_selection(run, [("mse", fold) for fold in run.folds])
    print(f"| the best set-up a fold for mse in all | {changes(of_selection(run, keys), plain, part)} |")
    for cut in CUTS:
        print(f"| {cut} for the view alone | {changes(of_selection(run, keys, cut), of_selection(run, keys), part)} |")


def members_of(recipe: TeachRecipe) -> list[MemberRecipe]:
    """The grid's, and two rows beside "mse" that take the restarts and the choice of a checkpoint away."""
    plain = [member for member in recipe.members if member.configuration == "mse"]

    def beside(name: str, **changed: Any) -> list[MemberRecipe]:
        return [
            msgspec.structs.replace(
                one, name=f"{name}-{one.heldout_fold}", configuration=name, source="ours", **changed
            )
            for one in plain
        ]

    (stage,) = plain[0].stages
    cosine: Stage = msgspec.structs.replace(stage, schedule=Cosine(minimum=0.01))
    return [
        *recipe.members,
        *beside("mse-no-restart", stages=(cosine,)),
        *beside("mse-last-epoch", keep="last"),
    ]


def look_at_all(
    dataset: Dataset, split: Split, how: Augmentation, crop: float
) -> tuple[dict[str, Vectors], dict[str, Vectors]]:
    system = one_backbone(BACKBONE, SIDE, SIDE)
    network = build(system, weights=LiteWeights()).eval().to(memory_format=torch.channels_last)
    paths = [photo.path for photo in dataset.photos]
    items = [Item(path=path, sha256=sha) for path, sha in zip(paths, hash_files(paths), strict=True)]
    cuts = {}
    with tempfile.TemporaryDirectory() as folder:
        (view,) = open_views(Path(folder), items, system.preprocess)
        vectors = {
            "whole": look(network, view),
            "flip": versions_of(network, view, Augmentation(), crop),
            "crop": versions_of(network, view, how, crop),
        }
        for name in CUTS:
            several = build(with_test_time(system, name), weights=NoWeights())
            several.load_state_dict(network.state_dict())
            several.eval()
            (shape,) = several.system.preprocess.shapes.values()
            pixels = torch.zeros((1, *shape), dtype=torch.uint8)
            part = [items[row] for row in split.selection]
            (images,) = open_views(Path(folder) / name, part, several.system.preprocess)
            cuts[name] = look(several, images)
            print(f"{name}: {shape}, {count_module(several, (pixels,)).macs / 1e9:.3f} GMACs", flush=True)
    return vectors, cuts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--vectors", type=Path, help="Read from here, or written to it.")
    options = parser.parse_args()
    recipe = read_recipe(options.recipe)
    dataset = select_apart(read_csv(options.data, options.images), options.split)
    split = divide(recipe, dataset)
    first = recipe.members[0]
    how = first.stages[0].augmentation
    if options.vectors is None or not options.vectors.is_file():
        vectors, cuts = look_at_all(dataset, split, how, (how.crop or first.height) / first.height)
        if options.vectors is not None:
            kept: dict[str, Any] = {**vectors, **{f"cut-{name}": cut for name, cut in cuts.items()}}
            np.savez(options.vectors, **kept)
    else:
        kept = dict(np.load(options.vectors))
        vectors = {name: array for name, array in kept.items() if not name.startswith("cut-")}
        cuts = {name.removeprefix("cut-"): array for name, array in kept.items() if name.startswith("cut-")}
    fabric = Fabric(accelerator="cpu", devices=1)
    mos, said = dataset.unit_mos, {}
    for member in members_of(recipe):
        said[member.configuration, member.heldout_fold] = train(member, vectors, cuts, mos, split, fabric)
        print(f"{member.name}: trained", flush=True)
    run = Outcome(100 * mos, np.array(split.selection), said)
    tables(run)
    curve(run)
    ablation(run)


if __name__ == "__main__":
    main()
