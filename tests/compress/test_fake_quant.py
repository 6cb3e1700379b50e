"""Fake quantizers: their arithmetic in closed form, their gradients, where they sit, and that they leave no trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from edgeiqa.compress import fake_quant
from edgeiqa.compress.fake_quant import FakeQuantization, insert_fake_quantizers, observe_ranges, remove_fake_quantizers
from edgeiqa.compress.models.network import QualityNet, build
from edgeiqa.compress.models.systems import one_backbone
from edgeiqa.compress.models.weights import NoWeights
from edgeiqa.runtime.errors import UsageError
from hypothesis import given, settings
from hypothesis import strategies as st

SIDE = 64
VIEWS = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
ROWS = np.arange(6)
FAMILIES = ("mobilenetv3_small_050", "test_convnext", "test_resnet", "test_nfnet")


def network(backbone: str = "mobilenetv3_small_050") -> QualityNet:
    return build(one_backbone(backbone, SIDE, SIDE, stages=(1,)), weights=NoWeights(seed=0))


def answers(net: QualityNet) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return dict(net(torch.from_numpy(VIEWS)))


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=24),
    st.sampled_from([True, False]),
)
@settings(max_examples=60, deadline=None)
def test_a_value_moves_by_half_a_step_at_most(values: list[float], symmetric: bool) -> None:
    """On 255 levels from -m to m, or 256 from the lowest to the highest value and zero among them."""
    tensor = torch.tensor([values])
    quantizer = fake_quant._Activation(symmetric=symmetric)
    got = quantizer(tensor)
    low, high = min(0.0, min(values)), max(0.0, max(values))
    step = max(-low, high) / 127 if symmetric else (high - low) / 255
    # The zero point is whole, so the range may lie half a step aside.
    slack = 1e-5 * max(1.0, -low, high)
    assert float((got - tensor).abs().max()) <= (0.5 if symmetric else 1.0) * step + slack
    assert len(got.unique()) <= 256
    assert torch.all(got[tensor == 0] == 0)
    # What is never negative has twice the levels with a zero point.
    quantizer.eval()
    torch.testing.assert_close(quantizer(tensor), got, rtol=1e-5, atol=slack)


def test_levels_of_a_known_tensor() -> None:
    quantizer = fake_quant._Activation(symmetric=True)
    got = quantizer(torch.tensor([[-127.0, 0.4, 0.6, 99.7]]))
    torch.testing.assert_close(got, torch.tensor([[-127.0, 0.0, 1.0, 100.0]]))
    # A second image: the range is the mean of the images' extremes, and what lies outside is cut off.
    got = quantizer(torch.tensor([[-127.0, 127.0], [0.0, 127.0]]))
    torch.testing.assert_close(got, torch.tensor([[-127.0, 127.0], [0.0, 127.0]]))
    got = quantizer(torch.tensor([[10.0, 254.0], [0.0, 0.0]]))
    torch.testing.assert_close(got, torch.tensor([[10.0, 127.0], [0.0, 0.0]]))
    # Of three batches each has a third.
    assert float(quantizer.high) == pytest.approx((99.7 + 127 + 127) / 3)
    assert float(quantizer.low) == pytest.approx((-127 - 63.5 + 5) / 3)
    weight = fake_quant._Weight()(torch.tensor([[[[1.27, 0.014]]], [[[127.0, 1.4]]], [[[0.0, 0.0]]]]))
    torch.testing.assert_close(weight, torch.tensor([[[[1.27, 0.01]]], [[[127.0, 1.0]]], [[[0.0, 0.0]]]]))


def test_gradients_pass_the_rounding_and_pull_at_the_outlier() -> None:
    """What sets the step gets the rounding error's gradient; what is cut off gets none."""
    values = torch.tensor([[0.3, 1.2, 127.0]], requires_grad=True)
    quantizer = fake_quant._Activation(symmetric=True)
    quantizer(values).sum().backward()
    assert values.grad is not None
    # d(step * round(x / step)) / dstep = round(x / step) - x / step, summed, times 1 / sqrt(3 * 127), of which the
    # largest value has 1 / 127.
    outlier = (-0.3 - 0.2 + 0.0) / (3 * 127) ** 0.5 / 127
    torch.testing.assert_close(values.grad, torch.tensor([[1.0, 1.0, 1.0 + outlier]]), rtol=1e-4, atol=1e-6)
    fixed = quantizer.eval()
    beyond = torch.tensor([[5.0, 1e6]], requires_grad=True)
    fixed(beyond).sum().backward()
    torch.testing.assert_close(beyond.grad, torch.tensor([[1.0, 0.0]]))


@pytest.mark.parametrize("backbone", FAMILIES)
def test_a_network_is_near_itself_and_can_learn(backbone: str) -> None:
    net = network(backbone)
    before = answers(net)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    names = insert_fake_quantizers(net, FakeQuantization())
    assert "head.output" in names and all(name.startswith(("backbone.", "head.")) for name in names)
    observe_ranges(net, (VIEWS,), ROWS)
    rounded = answers(net)
    for name, value in before.items():
        change = float((rounded[name] - value).norm() / value.norm())
        assert 0 < change < 0.3, (name, change)
    net.train()
    net(torch.from_numpy(VIEWS))["score"].sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
    remove_fake_quantizers(net.eval())
    assert net.state_dict().keys() == state.keys()
    net.load_state_dict(state)
    assert all(torch.equal(value, before[name]) for name, value in answers(net).items())


def test_without_fake_quantizers_it_is_what_it_was_to_the_bit() -> None:
    net = network()
    before = answers(net)
    insert_fake_quantizers(net, FakeQuantization())
    observe_ranges(net, (VIEWS,), ROWS)
    remove_fake_quantizers(net)
    assert all(torch.equal(value, before[name]) for name, value in answers(net).items())


def quantized(net: QualityNet) -> set[str]:
    return {
        name.rpartition(".")[0] for name, module in net.named_modules() if isinstance(module, fake_quant._Activation)
    }


def test_where_they_sit() -> None:
    plain = network()
    residual = {f"trunks.0.model.blocks.{place}" for place in ("0.0", "1.0", "1.1", "2.1", "3.0")}
    insert_fake_quantizers(plain, FakeQuantization())
    assert residual <= quantized(plain)
    assert not [name for name in quantized(plain) if ".se" in name]
    gates = network()
    names = insert_fake_quantizers(gates, FakeQuantization(float_gates=False, float_sums=True))
    assert "backbone.blocks.0.0.se.conv_reduce" in names and not residual & quantized(gates)
    some = network()
    blocks = ("backbone.blocks.0*", "head", "backbone.conv_stem")
    left = insert_fake_quantizers(some, FakeQuantization(float_blocks=blocks))
    kept = {name for name in insert_fake_quantizers(network(), FakeQuantization()) if name not in left}
    assert {"head.output", "backbone.conv_stem", "backbone.blocks.0.0.conv_dw"} <= kept
    assert all(name.startswith(("backbone.blocks.0", "head.", "backbone.conv_stem")) for name in kept)
    # A stream of layer-normalised blocks stays float.
    convnext = network("test_convnext")
    insert_fake_quantizers(convnext, FakeQuantization())
    assert not [name for name, _ in convnext.named_modules() if name.endswith(fake_quant._SUM)]


def test_blocks_that_are_not_there_and_all_of_them() -> None:
    with pytest.raises(UsageError, match=r"a block named backbone\.block\.0") as raised:
        insert_fake_quantizers(network(), FakeQuantization(float_blocks=("backbone.block.0",)))
    assert "backbone.blocks" in str(raised.value.expected)
    with pytest.raises(UsageError, match="all of the network"):
        insert_fake_quantizers(network(), FakeQuantization(float_blocks=("*",)))


def test_ranges_are_learned_in_training_and_kept_in_use() -> None:
    net = network()
    insert_fake_quantizers(net, FakeQuantization())
    observe_ranges(net, (VIEWS,), ROWS, batch=4)
    buffers: dict[str, Any] = {name: tensor.clone() for name, tensor in net.named_buffers() if name.endswith("high")}
    answers(net)
    assert all(torch.equal(net.get_buffer(name), tensor) for name, tensor in buffers.items())
    observe_ranges(net, (VIEWS // 2,), ROWS)
    first = "trunks.0.model.conv_stem.input_quantizer.high"
    assert net.get_buffer(first) < buffers[first]
    net.train()
    with torch.no_grad():
        net(torch.from_numpy(VIEWS))
    assert not torch.equal(net.get_buffer(first), buffers[first])
