"""Parameters and strict MACs (fvcore) of the published systems, against published and measured figures."""

from __future__ import annotations

import pytest
import torch
from edgeiqa.compress.models import (
    Mlp,
    NoWeights,
    QualityNet,
    build,
    challenge_baseline,
    one_backbone,
    three_scale,
    three_view,
)
from fvcore.nn import FlopCountAnalysis


def parameters(net: QualityNet) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@torch.no_grad()
def macs(net: QualityNet) -> int:
    views = tuple(torch.zeros(1, *shape, dtype=torch.uint8) for shape in net.system.preprocess.shapes.values())
    count = FlopCountAnalysis(net, views).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return int(count.total())


def test_convnext_large() -> None:
    # Counted at 224x128 and scaled by pixels to 896x512: of 910 columns, the strides use 896 in the two last stages,
    # where nearly all of it is. Counted at 910x512 directly: 315.15 G.
    net = build(one_backbone("convnext_large", 224, 128), weights=NoWeights())
    assert sum(p.numel() for p in net.trunks.parameters()) == 196_230_336
    assert macs(net) * 16 == pytest.approx(315.1e9, rel=0.003)


def test_convnext_small_at_704x384() -> None:
    net = build(one_backbone("convnext_small", 704, 384), weights=NoWeights())
    assert macs(net) == pytest.approx(46.90e9, rel=1e-4)


def test_challenge_baseline() -> None:
    net = build(challenge_baseline(), weights=NoWeights())
    assert net.system.preprocess.shapes == {"image": (720, 1280, 3)}
    assert parameters(net) == 3_218_225
    # Torchvision's figure is 4.099 G with its head: its squeeze-excite averages by AdaptiveAvgPool2d, which fvcore
    # counts, timm's by mean, which it does not. The layers are the same.
    assert macs(net) == pytest.approx(4.087e9, rel=1e-3)


def test_three_view() -> None:
    net = build(three_view(), weights=NoWeights())
    assert net.system.preprocess.shapes == dict.fromkeys(("resized", "fragments", "centre"), (480, 480, 3))
    assert parameters(net) == 82_853_231
    assert macs(net) == pytest.approx(69.71e9, rel=1e-4)


def test_three_scale() -> None:
    net = build(three_scale(), weights=NoWeights())
    assert net.system.preprocess.shapes == dict.fromkeys(("scale1", "scale2", "scale3"), (720, 720, 3))
    one = build(one_backbone("nf_regnet_b1", 720, 720), weights=NoWeights())
    branch = macs(one)
    assert branch == pytest.approx(6.327e9, rel=3e-4)
    assert macs(net) == pytest.approx(3 * branch, rel=1e-4)
    # One set of weights for the three scales; the gate adds a norm (2 x 960) and a linear function (961).
    assert parameters(net) == parameters(one) + 2 * 960 + 961


@pytest.mark.parametrize(
    ("width", "hidden", "expected"),
    [(1536, 256, 1536 * 256 + 256 + 257), (960, 256, 246_273), (2304, 128, 295_169)],
)
def test_heads(width: int, hidden: int, expected: int) -> None:
    from edgeiqa.compress.models.heads import build_head

    head = build_head(Mlp(hidden=hidden, dropout=0.3), width)
    assert sum(parameter.numel() for parameter in head.parameters()) == expected
    assert head.eval()(torch.randn(3, width)).shape == (3,)
