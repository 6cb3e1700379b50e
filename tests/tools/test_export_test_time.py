"""``edgeiqa export --test-time``: the same weights on several images of each view, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from edgeiqa.compress.checkpoint import load_checkpoint
from edgeiqa.compress.models.network import QualityNet
from edgeiqa.profiles.cost import count_module
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.errors import UsageError
from edgeiqa.runtime.preprocess import Crop, Flip
from edgeiqa.runtime.scorer import Scorer
from edgeiqa.runtime.splitmix import offsets
from edgeiqa.runtime.verify import verify
from edgeiqa.runtime.views import cut_views
from edgeiqa.tools.export_test_time import parse_test_time
from numpy.typing import NDArray
from PIL import Image

from .command import edgeiqa, files_in, require_refusal
from .teach_runs import save_labelled, teach_run

UNTRAINED = ("--size", "64x64", "--weights", "none")


def raw_of(network: QualityNet, image: NDArray[np.uint8]) -> float:
    with torch.no_grad():
        return float(network(torch.from_numpy(image.copy())[None])["score"])


def one_view(network: QualityNet, photo: Image.Image) -> NDArray[np.uint8]:
    return cut_views(photo, network.system.preprocess)["image"]


def test_a_run_scores_mirror_images_too(run_folder: Path, pair_bundle: Path, photos: Path, in_folder: Path) -> None:
    ran = edgeiqa("export", run_folder, "--test-time", "flip", "-o", "flipped.eiqa")
    assert (ran.code, ran.out) == (0, "flipped.eiqa\n"), ran.err
    assert "test-time augmentation, flip: 2 images instead of 1" in ran.err
    assert "edgeiqa calibrate BUNDLE --data mos.csv" in ran.err
    bundle = Bundle.open("flipped.eiqa")
    assert bundle.manifest.requires == ("flip",)
    plain = Bundle.open(pair_bundle).manifest
    assert plain.requires == ()
    photo = Image.open(photos / "06.jpg")
    raw = Scorer(bundle).raw(photo)
    for member, before in zip(bundle.manifest.members, plain.members, strict=True):
        record, network = load_checkpoint(run_folder / member.name)
        assert member.preprocess.views[0].operations == (*record.system.preprocess.views[0].operations, Flip())
        assert bundle.manifest.provenance.notes[member.name] == {**record.provenance, "test_time": "flip"}
        (artefact,) = member.artefacts
        assert artefact.score_map == record.score_map
        # The head is run once, a multiply-add a feature.
        head = network.head.output.weight.numel()
        macs, single = artefact.macs, before.artefacts[0].macs
        assert macs is not None and single is not None
        assert macs - head == 2 * (single - head)
        view = one_view(network, photo)
        one, other = raw_of(network, view), raw_of(network, view[:, ::-1])
        assert raw[member.name] == pytest.approx((one + other) / 2, rel=1e-4, abs=1e-4)
        assert abs(one - other) > 0.01
    assert verify(Scorer(bundle)).passed


def test_crops_of_a_checkpoint_at_their_own_size(run_folder: Path, photos: Path, in_folder: Path) -> None:
    assert edgeiqa("export", run_folder / "second", "--test-time", "nine", "-o", "nine.eiqa").code == 0
    bundle = Bundle.open("nine.eiqa")
    (member,) = bundle.manifest.members
    assert bundle.manifest.requires == ()
    assert member.preprocess.views[0].operations[-1] == Crop(width=56, height=56, at="grid", rows=3, columns=3)
    photo = Image.open(photos / "07.jpg")
    _, network = load_checkpoint(run_folder / "second")
    view = one_view(network, photo)
    crops = [view[top : top + 56, left : left + 56] for top in (0, 4, 8) for left in (0, 4, 8)]
    expected = np.mean([raw_of(network, crop) for crop in crops])
    assert Scorer(bundle).raw(photo)["second"] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_as_many_seeded_crops_as_are_asked_for(run_folder: Path, photos: Path, in_folder: Path) -> None:
    ran = edgeiqa("export", run_folder / "second", "--test-time", "seeded:3", "-o", "seeded.eiqa")
    assert ran.code == 0 and "test-time augmentation, seeded:3: 3 images instead of 1" in ran.err
    bundle = Bundle.open("seeded.eiqa")
    (member,) = bundle.manifest.members
    assert member.preprocess.views[0].operations[-1] == Crop(width=56, height=56, at="seeded", count=3)
    assert bundle.manifest.provenance.notes["second"]["test_time"] == "seeded:3"
    photo = Image.open(photos / "07.jpg")
    _, network = load_checkpoint(run_folder / "second")
    view = one_view(network, photo)
    places = [offsets(0, index, 0, 64 - 56 + 1, 64 - 56 + 1) for index in range(3)]
    crops = [view[top : top + 56, left : left + 56] for top, left in places]
    expected = np.mean([raw_of(network, crop) for crop in crops])
    assert Scorer(bundle).raw(photo)["second"] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_eight_seeded_crops_where_no_number_is_given() -> None:
    assert str(parse_test_time("seeded")) == "seeded:8" and str(parse_test_time("ten")) == "ten"


@pytest.mark.parametrize("text", ["", "mirror", "seeded:", "seeded:-1", "seeded:x", "seeded:2.5", "five:5", "Flip"])
def test_other_words_are_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(UsageError, match="flip, five, ten, nine, seeded, or seeded:N"):
        parse_test_time(text)


def test_int8_of_mirror_images_is_calibrated_and_gated(in_folder: Path) -> None:
    data = save_labelled(in_folder / "data", 60)
    parts: dict[str, int | str] = {f"{place:02}.jpg": place % 2 if place >= 32 else "selection" for place in range(60)}
    member = teach_run(in_folder / "made", data, parts) / "members" / "a"
    loose = ("--least-srcc", -1, "--max-srcc-drop", 2, "--calibration-count", 32)
    ran = edgeiqa("export", member, "--test-time", "flip", "--precision", "int8", *loose)
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "a.eiqa"), ran.err
    bundle = Bundle.open("a.eiqa")
    assert bundle.manifest.requires == ("flip",)
    assert bundle.manifest.members[0].preprocess.shapes == {"image": (2, 32, 32, 3)}
    assert verify(Scorer(bundle)).passed


@pytest.mark.usefixtures("no_work")
def test_every_image_is_held_to_the_budget(run_folder: Path, in_folder: Path) -> None:
    _, network = load_checkpoint(run_folder / "second")
    macs = count_module(network, (torch.zeros((1, 64, 64, 3), dtype=torch.uint8),), names=("image",)).macs
    flags = ("--budget", f"{round(1.5 * macs)}MACs", "--test-time", "flip")
    require_refusal(edgeiqa("export", run_folder / "second", *flags), "second: macs", code=1)
    assert files_in(in_folder) == set()


REFUSALS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "a bundle": (("{bundle}", "--test-time", "flip"), ("--test-time flip with small.eiqa", "checkpoints")),
    "a graph": (("net.onnx", "--test-time", "flip"), ("net.onnx, which holds no checkpoint",)),
    "several views": (("--system", "three-view", "--weights", "none", "--test-time", "ten"), ("a system of one view",)),
    "crops for a fixed size": (
        ("--backbone", "test_vit", *UNTRAINED, "--test-time", "five"),
        ("crops of 56x56 for test_vit", "use flip"),
    ),
    "crops too small": (
        ("--backbone", "test_efficientnet", "--size", "35x40", "--weights", "none", "--test-time", "nine"),
        ("crops of 31x35", "at least 32"),
    ),
    "another name": (("{run}", "--test-time", "mirror"), ("--test-time mirror", "flip, five, ten, nine, seeded")),
    "no crop": (("{run}", "--test-time", "seeded:0"), ("0 seeded crops", "1 to 256")),
    "more crops than a view has": (("{run}", "--test-time", "seeded:300"), ("300 seeded crops", "1 to 256")),
}


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("reason", list(REFUSALS))
def test_what_is_refused_before_any_work(run_folder: Path, small_bundle: Path, in_folder: Path, reason: str) -> None:
    arguments, words = REFUSALS[reason]
    given = [text.format(run=run_folder, bundle=small_bundle) for text in arguments]
    require_refusal(edgeiqa("export", *given), *words)
    assert files_in(in_folder) == set()
