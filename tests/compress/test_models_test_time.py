"""Test-time augmentation: the images that are cut, the score of them together, what they cost, and what is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from edgeiqa.compress.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgeiqa.compress.input_size import count_system
from edgeiqa.compress.models import Attention, Branch, Head, Mlp, NoWeights, QualityNet, System, build, one_backbone
from edgeiqa.compress.models.systems import three_view
from edgeiqa.compress.models.test_time import TEST_TIME, with_test_time
from edgeiqa.profiles.cost import Cost, count_module
from edgeiqa.runtime.errors import EdgeIQAError, ModelError, RecordError, UsageError
from edgeiqa.runtime.preprocess import Crop, DctDecode, Flip, Patches, Preprocess, Resize, View
from edgeiqa.runtime.score_map import ScoreMap
from edgeiqa.runtime.splitmix import offsets
from edgeiqa.runtime.views import cut_views
from numpy.typing import NDArray
from PIL import Image
from torch import nn

WIDTH, HEIGHT = 96, 64
# Of 7/8.
ACROSS, DOWN = 84, 56


def plain(head: Head | None = None) -> System:
    return one_backbone("test_efficientnet", WIDTH, HEIGHT, head=head, stages=(1,))


def loaded(system: System, weights: QualityNet) -> QualityNet:
    """The system's network with the weights of another."""
    network = build(system, weights=NoWeights(seed=9))
    network.load_state_dict(weights.state_dict(), strict=True)
    return network.eval()


def photograph() -> NDArray[np.uint8]:
    """Of the view's own size, so that the view is the photograph; unlike its mirror image."""
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    picture[:, : WIDTH // 3] //= 4
    return picture


@torch.no_grad()
def outputs(network: QualityNet, image: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = network(torch.from_numpy(image.copy())[None])
    return found


def at_photograph(network: QualityNet) -> dict[str, torch.Tensor]:
    view = cut_views(Image.fromarray(photograph()), network.system.preprocess)
    return outputs(network, view["image"])


def by_hand(name: str) -> list[NDArray[np.uint8]]:
    """The images that a name stands for, cut without the runtime."""
    whole = photograph()
    slack_x, slack_y = WIDTH - ACROSS, HEIGHT - DOWN
    corners = [(0, 0), (0, slack_x), (slack_y, 0), (slack_y, slack_x), (slack_y // 2, slack_x // 2)]
    places = {
        "five": corners,
        "ten": corners,
        "nine": [(y, x) for y in (0, slack_y // 2, slack_y) for x in (0, slack_x // 2, slack_x)],
        "seeded": [offsets(0, index, 0, slack_y + 1, slack_x + 1) for index in range(8)],
    }
    images = (
        [whole] if name == "flip" else [whole[top : top + DOWN, left : left + ACROSS] for top, left in places[name]]
    )
    return images + [image[:, ::-1] for image in images] if name in ("flip", "ten") else images


@pytest.mark.parametrize(("name", "count"), [("flip", 2), ("five", 5), ("ten", 10), ("nine", 9), ("seeded", 8)])
def test_the_score_of_a_linear_head_is_the_mean_of_the_images_scores(name: str, count: int) -> None:
    network = build(plain(), weights=NoWeights())
    system = with_test_time(network.system, name)
    side = (HEIGHT, WIDTH) if name == "flip" else (DOWN, ACROSS)
    assert system.preprocess.shapes == {"image": (count, *side, 3)}
    assert msgspec.structs.replace(system, preprocess=network.system.preprocess) == network.system
    together = at_photograph(loaded(system, network))
    each = [outputs(network, image) for image in by_hand(name)]
    assert len(each) == count
    for output, value in together.items():
        torch.testing.assert_close(value, torch.stack([one[output] for one in each]).mean(0), rtol=1e-5, atol=1e-5)
    # Or one image alone would pass.
    assert torch.stack([one["features.last"] for one in each]).std(0).max() > 1e-3


def test_every_name_is_tested_above_and_makes_a_record_that_survives_json() -> None:
    assert list(TEST_TIME) == ["flip", "five", "ten", "nine", "seeded"]
    for name in TEST_TIME:
        system = with_test_time(plain(), name)
        assert msgspec.json.decode(msgspec.json.encode(system), type=System) == system


def test_the_score_of_an_mlp_is_that_of_the_mean_vector_and_not_the_mean_of_scores() -> None:
    network = build(plain(Mlp(hidden=8, activation="relu")), weights=NoWeights())
    with torch.no_grad():
        # One unit, with its bend between what the two images give it.
        hidden = next(module for module in network.head.modules() if isinstance(module, nn.Linear))
        first, second = (outputs(network, image)["features.last"][0] for image in by_hand("flip"))
        apart = first - second
        hidden.weight.zero_()
        hidden.bias.zero_()
        hidden.weight[0] = apart / apart.dot(apart)
        hidden.bias[0] = -hidden.weight[0].dot((first + second) / 2)
        network.head.output.weight.fill_(1.0)
        network.head.output.bias.zero_()
    scores = [float(outputs(network, image)["score"]) for image in by_hand("flip")]
    assert scores == pytest.approx([0.5, 0.0], abs=1e-4)
    together = float(at_photograph(loaded(with_test_time(network.system, "flip"), network))["score"])
    assert together == pytest.approx(0.0, abs=1e-4)


def cost(system: System) -> Cost:
    network = build(system, weights=NoWeights())
    (shape,) = system.preprocess.shapes.values()
    return count_module(network, (torch.zeros((1, *shape), dtype=torch.uint8),), names=("image",))


@pytest.mark.parametrize("name", list(TEST_TIME))
def test_every_image_is_counted(name: str) -> None:
    system = with_test_time(plain(), name)
    images, height, width, _ = system.preprocess.shapes["image"]
    one = cost(one_backbone("test_efficientnet", width, height, stages=(1,)))
    # The head runs once, on the mean vector: a multiply-add a feature.
    head = build(plain(), weights=NoWeights()).head.output.weight.numel()
    counted = cost(system)
    assert counted.macs - head == images * (one.macs - head)
    assert counted.parameters == one.parameters
    assert count_system(system).macs == counted.macs


def test_a_share_and_a_count_of_ones_own() -> None:
    record = with_test_time(plain(), "seeded", count=3, share=0.55)
    # 52.8 and 35.2, half up.
    assert record.preprocess.views[0].operations[-1] == Crop(width=53, height=35, at="seeded", count=3)
    assert with_test_time(plain(), "five", share=0.5).preprocess.shapes == {"image": (5, 32, 48, 3)}


def test_what_comes_before_stays_as_it_is() -> None:
    cut = (Resize(width=128, height=128), Patches(rows=2, columns=2))
    preprocess = Preprocess(views=(View(name="image", operations=cut),), decode=DctDecode(margin=2.0), colour="raw")
    system = msgspec.structs.replace(plain(), preprocess=preprocess)
    changed = with_test_time(system, "flip").preprocess
    assert changed.views[0].operations == (*cut, Flip())
    assert changed.shapes == {"image": (8, 64, 64, 3)}
    assert (changed.decode, changed.colour) == (DctDecode(margin=2.0), "raw")


def test_attention_sees_every_image() -> None:
    system = msgspec.structs.replace(plain(), fusion=Attention(heads=4))
    network = build(system, weights=NoWeights())
    together = at_photograph(loaded(with_test_time(system, "flip"), network))
    both = [outputs(network, image)["features.last"] for image in by_hand("flip")]
    with torch.no_grad():
        expected = network.head(network.fusion([torch.stack(both, 1)]))
    torch.testing.assert_close(together["score"], expected, rtol=1e-5, atol=1e-5)


def test_a_vision_transformer_takes_mirror_images(tmp_path: Path) -> None:
    """Of both kinds: squares may change size, others may not."""
    for size in ((64, 64), (64, 48)):
        network = build(one_backbone("test_vit", *size), weights=NoWeights())
        system = with_test_time(network.system, "flip")
        checkpoint = Checkpoint(name="vit", system=system, score_map=ScoreMap(), provenance={})
        save_checkpoint(tmp_path / str(size), checkpoint, network)
        _, again = load_checkpoint(tmp_path / str(size))
        picture = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
        expected = (outputs(network, picture)["score"] + outputs(network, picture[:, ::-1])["score"]) / 2
        found = outputs(again, np.stack([picture, picture[:, ::-1]]))["score"]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def two_branches() -> System:
    branches = tuple(
        Branch(name=f"b{place}", backbone=name, views=("image",))
        for place, name in enumerate(("test_efficientnet", "swin_tiny_patch4_window7_224"))
    )
    return msgspec.structs.replace(plain(), branches=branches)


@pytest.mark.parametrize(
    ("system", "name", "options", "kind", "words"),
    [
        (plain, "mirror", {}, UsageError, ("'mirror'", "flip, five, ten, nine, seeded", "name one")),
        (plain, "five", {"share": 1.0}, UsageError, ("1.0", "(0, 1)", "share")),
        (plain, "five", {"share": 0.0}, UsageError, ("0.0", "(0, 1)", "share")),
        (plain, "five", {"share": float("nan")}, UsageError, ("nan", "(0, 1)", "share")),
        (plain, "seeded", {"count": 257}, RecordError, ("257 seeded", "1 to 256", "")),
        (plain, "nine", {"share": 0.49}, ModelError, ("47x31", "at least 32", "a larger share")),
        (three_view, "flip", {}, ModelError, ("resized, fragments, centre", "one view", "as it is")),
        (
            lambda: one_backbone("test_vit", 96, 96),
            "ten",
            {},
            ModelError,
            ("crops of 84x84 for test_vit", "the view's size", "flip"),
        ),
        (two_branches, "nine", {}, ModelError, ("for swin_tiny_patch4_window7_224", "the view's size", "flip")),
        (
            lambda: one_backbone("test_efficientnet", 4096, 4096),
            "five",
            {},
            RecordError,
            (f"{5 * 3584 * 3584} pixels", "64000000", ""),
        ),
    ],
)
def test_what_is_refused(system, name: str, options, kind: type[EdgeIQAError], words: tuple[str, str, str]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(kind) as caught:
        with_test_time(system(), name, **options)
    for part, word in zip((caught.value.got, caught.value.expected, caught.value.mend), words, strict=True):
        assert part and word in part
