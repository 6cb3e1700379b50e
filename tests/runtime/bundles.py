"""Bundles for tests, of the committed graphs whose answers can be computed by hand."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from edgeiqa.runtime.bundle import Bundle, encode_view, listed_parts, write_bundle
from edgeiqa.runtime.decode import open_photo
from edgeiqa.runtime.manifest import (
    Artefact,
    Combine,
    Golden,
    Manifest,
    Mean,
    Member,
    Precision,
    Provenance,
    ScoreScale,
    StoredAs,
    Target,
)
from edgeiqa.runtime.preprocess import Crop, Preprocess, Resize, View, single_view
from edgeiqa.runtime.score_map import Affine, ScoreMap
from edgeiqa.runtime.views import cut_views
from numpy.typing import NDArray
from PIL import Image

GRAPHS = Path(__file__).parent / "fixtures"
VIEW_8X8 = single_view(8, 8)
TWO_VIEWS = Preprocess(
    views=(
        View(name="whole", operations=(Resize(width=8, height=8),)),
        View(name="five", operations=(Crop(width=4, height=4, at="five"),)),
    )
)
PERCENT = ScoreMap(steps=(Affine(scale=100.0),), low=0.0, high=100.0)


def graph(name: str) -> bytes:
    """A committed graph, by its file's name."""
    return (GRAPHS / name).read_bytes()


def pixels(width: int = 40, height: int = 30, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth picture, uint8 ``[H, W, 3]``, the same on every machine."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    channels = [(x * (3 + seed) + y * 2 + 40 * seed) % 256, (x + y * 3) % 256, (x * y // 4 + 17 * seed) % 256]
    return np.stack(channels, axis=-1).astype(np.uint8)


def encoded(picture: NDArray[np.uint8], kind: str = "PNG", **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


def mean_of(views: Mapping[str, NDArray[np.uint8]]) -> float:
    """The raw score that ``tiny`` and ``two_views`` compute: the views' mean, 0 to 1."""
    return float(np.mean([view.mean() for view in views.values()]) / 255)


def artefact(
    files: Sequence[str] = ("one.onnx",),
    *,
    target: Target = "onnx",
    precision: Precision = "fp32",
    stored_as: StoredAs = "fp32",
    score_map: ScoreMap = PERCENT,
    golden_raw: Sequence[float] = (),
    outputs: Sequence[str] = ("score",),
) -> Artefact:
    return Artefact(
        target=target,
        precision=precision,
        stored_as=stored_as,
        files=tuple(files),
        outputs=tuple(outputs),
        score_map=score_map,
        golden_raw=tuple(golden_raw),
        golden_tolerance=0.01,
    )


@dataclass(frozen=True)
class Ingredients:
    """One member to be."""

    name: str = "one"
    score_map: ScoreMap = PERCENT
    graph: str = "tiny.onnx"
    preprocess: Preprocess = VIEW_8X8
    outputs: tuple[str, ...] = ("score",)
    precisions: tuple[Precision, ...] = ("fp32",)
    openvino: bool = False


@dataclass(frozen=True)
class Recipe:
    """A bundle to be."""

    members: tuple[Ingredients, ...] = (Ingredients(),)
    combine: Combine = field(default_factory=Mean)
    photos: Mapping[str, bytes] = field(
        default_factory=lambda: {
            "golden/smooth.png": encoded(pixels()),
            "golden/tall.jpg": encoded(pixels(17, 33, seed=2), "JPEG", quality=90),
        }
    )


def bake(recipe: Recipe) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest and the parts of a bundle, with right golden answers (of graphs that give the views' mean)."""
    parts: dict[str, bytes] = dict(recipe.photos)
    views: dict[str, dict[str, dict[str, str]]] = {photo: {} for photo in recipe.photos}
    raw: dict[str, list[float]] = {}
    for member in recipe.members:
        raw[member.name] = []
        for photo, data in recipe.photos.items():
            cut = cut_views(open_photo(data, member.preprocess).image, member.preprocess)
            raw[member.name].append(mean_of(cut))
            views[photo][member.name] = {view: f"{photo}.{member.name}.{view}.png" for view in cut}
            for view, tensor in cut.items():
                parts[views[photo][member.name][view]] = encode_view(tensor)
        parts[f"{member.name}.onnx"] = graph(member.graph)
        if member.openvino:
            parts[f"{member.name}.xml"], parts[f"{member.name}.bin"] = graph("tiny.xml"), graph("tiny.bin")
    members = tuple(_member(member, raw[member.name]) for member in recipe.members)
    scores = [
        recipe.combine(np.array([float(member.score_map.apply(raw[member.name][index])) for member in recipe.members]))
        for index in range(len(recipe.photos))
    ]
    golden = tuple(
        Golden(name=photo.split("/")[-1], source=photo, views=views[photo], score=score)
        for photo, score in zip(recipe.photos, scores, strict=True)
    )
    manifest = Manifest(
        format="1.0",
        name="tiny",
        engine="onnxruntime",
        precision="fp32",
        members=members,
        combine=recipe.combine,
        scale=ScoreScale(),
        golden=golden,
        provenance=Provenance(created="2000-01-01", versions={}),
        parts=listed_parts(parts),
    )
    return manifest, parts


def build(path: Path, recipe: Recipe | None = None, *, overwrite: bool = False) -> Bundle:
    """Write a bundle of a recipe, opened."""
    manifest, parts = bake(recipe or Recipe())
    return write_bundle(path, manifest, parts, overwrite=overwrite)


def changed(struct: Any, **fields: Any) -> Any:
    """A record with other fields, checked as any new one."""
    return type(struct)(**{**msgspec.structs.asdict(struct), **fields})


def _member(member: Ingredients, raw: Sequence[float]) -> Member:
    common: dict[str, Any] = {"score_map": member.score_map, "golden_raw": raw, "outputs": member.outputs}
    artefacts = [artefact([f"{member.name}.onnx"], precision=kind, **common) for kind in member.precisions]
    if member.openvino:
        artefacts.append(artefact([f"{member.name}.xml", f"{member.name}.bin"], target="openvino", **common))
    return Member(name=member.name, preprocess=member.preprocess, artefacts=tuple(artefacts))
