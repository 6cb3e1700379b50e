"""The network: its outputs, its normalisation, its fusions, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from edgeiqa.compress.models import (
    HALF,
    Attention,
    Branch,
    Concat,
    Fusion,
    Gated,
    Linear,
    Mean,
    Mlp,
    Normalisation,
    NoWeights,
    QualityNet,
    System,
    build,
    for_export,
    one_backbone,
    output_names,
)
from edgeiqa.compress.models.fusion import build_fusion
from edgeiqa.runtime.errors import ModelError
from edgeiqa.runtime.preprocess import Patches, Preprocess, Resize, View, single_view
from torch import Tensor, nn


def pixels(net: QualityNet, count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = net.system.preprocess.shapes.values()
    return [torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator) for shape in shapes]


@torch.no_grad()
def run(net: QualityNet, *views: Tensor) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = net(*views)
    return outputs


def patches_and_whole(fusion: Fusion) -> System:
    """Two branches of one width: one looks at nine patches and the whole, one at the whole."""
    views = (
        View(name="patches", operations=(Resize(width=192, height=96), Patches(rows=3, columns=3))),
        View(name="whole", operations=(Resize(width=64, height=32),)),
    )
    branches = (
        Branch(name="first", backbone="convnext_atto", views=("patches", "whole"), stages=(2,)),
        Branch(name="second", backbone="convnext_atto", views=("whole",)),
    )
    return System(name="x", preprocess=Preprocess(views=views), branches=branches, fusion=fusion, head=Mlp(hidden=8))


@pytest.mark.parametrize(
    ("backbone", "size", "stages", "widths"),
    [
        ("tf_efficientnet_lite0", (96, 64), (0, 1, 2, 3, 4), (1280, 16, 24, 40, 112, 320)),
        ("convnext_atto", (91, 51), (0, 1, 2, 3), (320, 40, 80, 160, 320)),
        ("mobilenetv3_large_100", (96, 64), (1, 4), (1280, 24, 960)),
        ("vit_tiny_patch16_224", (64, 96), (3, 11), (192, 192, 192)),
        ("swin_tiny_patch4_window7_224", (224, 224), (0, 3), (768, 96, 768)),
        ("nf_regnet_b1", (64, 64), (0, 4), (960, 40, 960)),
    ],
)
def test_outputs_by_name_shape_and_type(
    backbone: str, size: tuple[int, int], stages: tuple[int, ...], widths: tuple[int, ...]
) -> None:
    net = build(one_backbone(backbone, *size, stages=stages), weights=NoWeights())
    views = pixels(net, 2)
    outputs = run(net, *views)
    assert tuple(outputs) == output_names(net.system) == ("score", "features.last", *(f"features.{s}" for s in stages))
    assert [tuple(output.shape) for output in outputs.values()] == [(2,), *((2, width) for width in widths)]
    assert {output.dtype for output in outputs.values()} == {torch.float32}
    # Taking the stages out must not change what comes after them.
    without = run(build(one_backbone(backbone, *size), weights=NoWeights()), *views)
    torch.testing.assert_close(without["features.last"], outputs["features.last"])


def test_pixels_are_normalised_as_the_record_says() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
    branch = Branch(
        name="i", backbone="convnext_atto", views=("image",), normalisation=Normalisation(mean=mean, std=std)
    )
    net = build(System(name="x", preprocess=single_view(64, 32), branches=(branch,)), weights=NoWeights())
    seen: list[Tensor] = []
    net.trunks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    (view,) = pixels(net, 1)
    run(net, view)
    expected = (view / 255 - torch.tensor(mean)) / torch.tensor(std)
    assert seen[0].shape == (1, 3, 32, 64)
    torch.testing.assert_close(seen[0], expected.permute(0, 3, 1, 2), rtol=1e-5, atol=1e-5)


def test_a_photograph_scores_the_same_alone_and_in_a_batch() -> None:
    net = build(patches_and_whole(Gated()), weights=NoWeights())
    views = pixels(net, 3)
    together = run(net, *views)["score"]
    alone = torch.cat([run(net, *(view[i : i + 1] for view in views))["score"] for i in range(3)])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-6)
    assert together.std() > 0


@pytest.mark.parametrize("fusion", [Mean(), Concat(), Gated(), Attention(heads=4)])
def test_several_branches_and_images(fusion: Fusion) -> None:
    net = build(patches_and_whole(fusion), weights=NoWeights())
    outputs = run(net, *pixels(net, 2))
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {
        "score": (2,),
        "features.first.last": (2, 640),
        "features.first.2": (2, 320),
        "features.second.last": (2, 320),
    }


def test_the_vector_of_a_view_is_the_mean_of_its_images() -> None:
    net = build(patches_and_whole(Concat()), weights=NoWeights())
    patches, whole = pixels(net, 1)
    together = run(net, patches, whole)["features.first.last"][:, :320]
    each = [run(net, patches[:, [i] * 9], whole)["features.first.last"][:, :320] for i in range(9)]
    torch.testing.assert_close(torch.stack(each).mean(0), together, rtol=1e-4, atol=1e-5)


def test_fusions_in_closed_form() -> None:
    a, b = torch.randn(2, 4), torch.randn(2, 3, 4)
    torch.testing.assert_close(build_fusion(Mean(), [4, 4])([a, b]), (a + b.mean(1)) / 2)
    torch.testing.assert_close(build_fusion(Concat(), [4, 4])([a, b]), torch.cat([a, b.mean(1)], 1))
    # The gate starts even; a gate that is sure of one vector gives that one.
    gated = build_fusion(Gated(), [4, 4])
    torch.testing.assert_close(gated([a, b]), (a + b.mean(1)) / 2)
    sure = torch.tensor([[9.0, -9.0, 0.0, 0.0]]), torch.tensor([[-9.0, 9.0, 0.0, 0.0]])
    gate = gated.get_submodule("gate")
    assert isinstance(gate, nn.Linear)
    nn.init.constant_(gate.weight[:, 0], 100.0)
    torch.testing.assert_close(gated(list(sure)), sure[0])


def test_attention_sees_every_image_and_no_order() -> None:
    fusion = build_fusion(Attention(heads=2), [8, 8])
    a, b = torch.randn(2, 8), torch.randn(2, 5, 8)
    fused = fusion([a, b])
    assert fused.shape == (2, 8)
    torch.testing.assert_close(fusion([b.flip(1), a]), fused)
    averaged = fusion([a, b.mean(1)])
    assert not torch.allclose(averaged, fused, atol=1e-3)
    same = a.unsqueeze(1).expand(2, 5, 8)
    torch.testing.assert_close(fusion([a, same]), fusion([a]))


def test_pool_average_leaves_out_what_only_the_head_uses() -> None:
    def parameters(backbone: str, pool: str) -> int:
        record = Branch(name="i", backbone=backbone, views=("image",), pool=pool)  # type: ignore[arg-type]
        system = System(name="x", preprocess=single_view(64, 64), branches=(record,))
        return sum(p.numel() for p in build(system, weights=NoWeights()).trunks.parameters())

    assert parameters("mobilenetv3_large_100", "average") == 2_971_952  # torchvision's mobilenet_v3_large().features
    assert parameters("mobilenetv3_large_100", "head") == 2_971_952 + 960 * 1280 + 1280
    # ConvNeXt's head holds a norm of 320 channels; EfficientNet's convolution of 1280 is not its head's.
    assert parameters("convnext_atto", "head") - parameters("convnext_atto", "average") == 2 * 320
    assert parameters("tf_efficientnet_lite0", "head") == parameters("tf_efficientnet_lite0", "average")


def test_pool_average_is_the_mean_over_positions() -> None:
    for backbone in ("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto"):
        record = Branch(name="i", backbone=backbone, views=("image",), pool="average")
        net = build(System(name="x", preprocess=single_view(224, 224), branches=(record,)), weights=NoWeights())
        model: object = net.trunks[0].get_submodule("model")
        seen: list[Tensor] = []
        forward = model.forward_features  # type: ignore[attr-defined]
        model.forward_features = lambda x, f=forward, s=seen: s.append(f(x)) or s[0]  # type: ignore[attr-defined]
        features = run(net, *pixels(net, 1))["features.last"]
        maps = seen[0]
        expected = {
            "vit_tiny_patch16_224": lambda m: m[:, 1:].mean(1),
            "swin_tiny_patch4_window7_224": lambda m: m.mean((1, 2)),
            "convnext_atto": lambda m: m.mean((2, 3)),
        }[backbone](maps)
        torch.testing.assert_close(features, expected)


def test_a_seed_gives_one_network_and_leaves_the_global_generator_alone() -> None:
    system = patches_and_whole(Attention())
    before = torch.get_rng_state()
    one, same, other = (build(system, weights=NoWeights(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    key = "trunks.0.model.stages.0.blocks.0.conv_dw.weight"
    assert not torch.equal(one.state_dict()[key], other.state_dict()[key])
    # Two branches of one backbone must not be the same network.
    assert not torch.equal(one.state_dict()[key], one.state_dict()[key.replace("trunks.0", "trunks.1")])
    heads = [build(system, weights=NoWeights(), seed=seed).head.state_dict() for seed in (0, 1)]
    assert not torch.equal(heads[0]["output.weight"], heads[1]["output.weight"])


def test_training_starts_from_the_given_score() -> None:
    net = build(one_backbone("convnext_atto", 64, 64, head=Mlp(hidden=4, dropout=0.3)), weights=NoWeights())
    net.set_output_bias(0.6)
    scores = net.train()(*pixels(net, 4))["score"]
    assert torch.equal(scores, torch.full((4,), 0.6))
    scores.sum().backward()
    assert net.head.output.weight.grad is not None and net.head.output.weight.grad.abs().sum() > 0


def test_a_square_vision_transformer_takes_training_crops() -> None:
    net = build(one_backbone("vit_tiny_patch16_224", 64, 64), weights=NoWeights())
    assert run(net, torch.zeros(1, 48, 48, 3, dtype=torch.uint8))["score"].shape == (1,)


def test_for_export_scores_the_same_without_standardised_weights() -> None:
    net = build(one_backbone("nf_regnet_b1", 64, 64), weights=NoWeights())
    plain = for_export(net)
    views = pixels(net, 2)
    torch.testing.assert_close(run(plain, *views)["features.last"], run(net, *views)["features.last"])
    kinds = {type(module).__name__ for module in plain.modules()}
    assert "ScaledStdConv2d" not in kinds and "Conv2d" in kinds
    assert any(type(module).__name__ == "ScaledStdConv2d" for module in net.modules())


def test_for_export_gives_a_vision_transformer_the_position_embedding_of_its_size() -> None:
    """Resized at every call, it would be an operator in the graph that some engines refuse."""
    net = build(one_backbone("test_vit", 48, 48, stages=(0,)), weights=NoWeights())
    plain = for_export(net)
    views = pixels(net, 2)
    for name, value in run(net, *views).items():
        torch.testing.assert_close(run(plain, *views)[name], value)
    program = torch.export.export(plain, tuple(views), dynamic_shapes={"views": ({0: torch.export.Dim("N")},)})
    assert not [node.target for node in program.graph.nodes if "upsample" in str(node.target)]


def test_exports_with_a_symbolic_batch_and_casts_first() -> None:
    net = build(patches_and_whole(Gated()), weights=NoWeights())
    batch = torch.export.Dim("N", min=1, max=64)
    views = tuple(pixels(net, 2))
    program = torch.export.export(net, views, dynamic_shapes={"views": tuple({0: batch} for _ in views)})
    inputs = [node for node in program.graph.nodes if node.op == "placeholder" and node.name.startswith("views")]
    assert len(inputs) == 2
    targets = {str(user.target) for node in inputs for user in node.users}
    # A symbolic size and assertions are read off the input too; the exporter drops them where nothing needs them.
    assert targets - {"aten.sym_size.int", "aten._assert_tensor_metadata.default"} == {"aten.to.dtype"}
    others = pixels(net, 5, seed=1)
    want, got = run(net, *others), program.module()(*others)
    assert list(got) == list(output_names(net.system))
    for name in want:
        torch.testing.assert_close(got[name], want[name])


@pytest.mark.parametrize(
    ("system", "got", "expected"),
    [
        (
            lambda: one_backbone("convnext_tinny", 64, 64),
            "'convnext_tinny'",
            "convnext_tiny",
        ),
        (
            lambda: one_backbone("convnext_tiny.fb_in23k", 64, 64),
            "fb_in23k",
            "convnext_tiny.fb_in22k",
        ),
        (
            lambda: one_backbone("vit_small_patch14_dinov2", 340, 340),
            "340x340: Input height (340) should be divisible by patch size (14)",
            "a size",
        ),
        (
            lambda: one_backbone("convnext_atto", 64, 64, stages=(7,)),
            "stages (7,)",
            "stages that the backbone has",
        ),
        (
            lambda: one_backbone("convnext_atto", 2, 2),
            "2x2",
            "a size",
        ),
        (
            lambda: System(
                name="x",
                preprocess=Preprocess(
                    views=(
                        View(name="a", operations=(Resize(width=64, height=64),)),
                        View(name="b", operations=(Resize(width=96, height=64),)),
                    )
                ),
                branches=(Branch(name="i", backbone="vit_tiny_patch16_224", views=("a", "b")),),
            ),
            "several sizes",
            "one size",
        ),
        (
            lambda: System(
                name="x",
                preprocess=single_view(64, 64),
                branches=tuple(
                    Branch(name=name, backbone=name, views=("image",)) for name in ("convnext_atto", "convnext_pico")
                ),
                fusion=Mean(),
                head=Linear(),
            ),
            "widths [320, 512]",
            "one width",
        ),
        (
            lambda: System(
                name="x",
                preprocess=single_view(64, 64),
                branches=(Branch(name="i", backbone="convnext_atto", views=("image",)),),
                fusion=Attention(heads=7),
            ),
            "7 attention heads",
            "divides the width",
        ),
    ],
)
def test_what_cannot_be_built_says_why(system, got: str, expected: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ModelError) as caught:
        build(system(), weights=NoWeights())
    assert got in caught.value.got
    assert expected in caught.value.expected
    assert caught.value.mend


def test_normalisation_is_timms_own() -> None:
    assert one_backbone("tf_efficientnet_lite0", 64, 64).branches[0].normalisation == HALF
    assert one_backbone("convnext_atto", 64, 64).branches[0].normalisation.mean == (0.485, 0.456, 0.406)
