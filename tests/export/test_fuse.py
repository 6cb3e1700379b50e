"""Folding batch normalisation and rounding weights: the same answers from plainer weights, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from edgeiqa.compress.models import NoWeights, build, for_export, one_backbone
from edgeiqa.export.fuse import fold_batch_norms, round_to_fp16
from edgeiqa.export.graph import graph_bytes, is_stored_as_fp16, store_as_fp16, to_onnx
from edgeiqa.runtime.errors import ExportError
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from timm.layers.std_conv import ScaledStdConv2d, StdConv2d
from torch import Tensor, nn

from .networks import in_torch, noise, require_near, small, stir

SHAPE = {"image": (12, 12, 3)}


def norms(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def require_same(before: nn.Module, after: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    pixels = noise(shapes, 2)
    expected, got = in_torch(before, pixels), in_torch(after, pixels)
    assert list(got) == list(expected)
    for name, value in expected.items():
        require_near(got[name], value, name, absolute=1e-4)


@pytest.mark.parametrize("name", ["lite0", "mobilenet", "two-view"])
def test_no_batch_normalisation_is_left_and_the_outputs_are_the_same(name: str) -> None:
    network = small(name)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    count = len(norms(network))
    shapes = network.system.preprocess.shapes
    folded = fold_batch_norms(network, shapes)
    assert count > 10 and not norms(folded)
    require_same(network, folded, shapes)
    # The network itself is left alone.
    assert len(norms(network)) == count
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_activations_inside_the_normalisation_stay() -> None:
    """timm's normalisations carry their activation, which must not go with them."""
    network = small("mobilenet")
    folded = fold_batch_norms(network, network.system.preprocess.shapes)
    names = {type(module).__name__ for module in folded.modules()}
    assert {"ReLU", "Hardswish"} & names


@pytest.mark.parametrize("plain", [False, True])
def test_standardised_convolutions_are_left_as_they_are(plain: bool) -> None:
    network = build(one_backbone("nf_regnet_b0", 64, 64), weights=NoWeights(seed=3))
    stir(network)
    source: nn.Module = for_export(network) if plain else network
    shapes = network.system.preprocess.shapes
    folded = fold_batch_norms(source, shapes)
    kept = [sum(isinstance(m, ScaledStdConv2d) for m in side.modules()) for side in (source, folded)]
    assert kept[0] == kept[1] and (kept[0] == 0) == plain
    require_same(network, folded, shapes)


class Small(nn.Module):
    """Convolution and normalisation, joined as `_join` says."""

    def __init__(self, convolution: type[nn.Conv2d] = nn.Conv2d) -> None:
        super().__init__()
        # Weights of their own, whatever was drawn before.
        torch.manual_seed(0)
        self.first = convolution(3, 8, 3, padding=1, bias=False)
        self.second = nn.Conv2d(8, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.other = nn.BatchNorm2d(8, affine=False)
        stir(self)
        self.eval()

    def join(self, x: Any) -> Any:
        return self.other(self.second(torch.relu(self.norm(self.first(x)))))

    def forward(self, view: Tensor) -> dict[str, Tensor]:
        return {"score": self.join(view.float().permute(0, 3, 1, 2) / 255).mean((1, 2, 3))}


class SharedNorm(Small):
    def join(self, x: Any) -> Any:
        return self.norm(self.second(torch.relu(self.norm(self.first(x)))))


class SharedConvolution(Small):
    def join(self, x: Any) -> Any:
        y = self.norm(self.second(torch.relu(self.first(x))))
        return self.other(self.second(y))


class TwoNorms(Small):
    def join(self, x: Any) -> Any:
        y = self.first(x)
        return self.norm(y) - self.other(y)


class NormOfOther(Small):
    """Of what no convolution gives."""

    def join(self, x: Any) -> Any:
        return self.norm(self.first(x) * 2)


class ByKeyword(Small):
    def join(self, x: Any) -> Any:
        return self.norm(input=self.first(x))


class WithoutStatistics(Small):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8, track_running_stats=False)


def test_affine_or_not_and_with_or_without_bias() -> None:
    network = Small()
    folded: Any = fold_batch_norms(network, SHAPE)
    assert not norms(folded)
    assert folded.first.bias is not None
    require_same(network, folded, SHAPE)


@pytest.mark.parametrize("kind", [SharedNorm, SharedConvolution, TwoNorms, NormOfOther, ByKeyword, WithoutStatistics])
def test_pairs_that_cannot_be_folded_are_left(kind: type[Small]) -> None:
    network = kind()
    folded = fold_batch_norms(network, SHAPE)
    assert norms(folded)
    require_same(network, folded, SHAPE)


class Skip(Small):
    """The convolution's own output is used too: folded, it would be another."""

    def join(self, x: Any) -> Any:
        y = self.first(x)
        return self.norm(y) + y


@pytest.mark.parametrize("network", [Skip(), Small(StdConv2d)])
def test_a_fold_that_would_change_the_answers_is_refused(network: Small) -> None:
    with pytest.raises(ExportError, match="score, moved by") as caught:
        fold_batch_norms(network, SHAPE)
    assert "--store fp32" in caught.value.mend
    assert len(norms(network)) == 2


def test_a_network_in_training_is_folded_as_it_scores() -> None:
    network = small("mobilenet").train()
    folded = fold_batch_norms(network, network.system.preprocess.shapes)
    assert network.training and not folded.training
    require_same(network.eval(), folded, network.system.preprocess.shapes)


def test_only_matrices_are_rounded() -> None:
    network = small("convnext")
    rounded = round_to_fp16(network)
    before = dict(network.named_parameters())
    changed = 0
    for name, parameter in rounded.named_parameters():
        if is_stored_as_fp16(tuple(parameter.shape)):
            assert torch.equal(parameter, before[name].half().float())
            changed += int(not torch.equal(parameter, before[name]))
        else:
            assert torch.equal(parameter, before[name])
    assert changed > 10
    assert all(parameter.dtype == torch.float32 for parameter in rounded.parameters())


@pytest.mark.parametrize("largest", [7e4, float("nan")])
def test_a_weight_beyond_fp16_is_refused_and_not_made_infinite(largest: float) -> None:
    network = small("convnext")
    weight = next(p for p in network.parameters() if is_stored_as_fp16(tuple(p.shape)))
    with torch.no_grad():
        weight.view(-1)[5] = largest
    with pytest.raises(ExportError, match="an element of") as caught:
        round_to_fp16(network)
    assert "--store fp32" in caught.value.mend


@pytest.mark.parametrize("name", ["lite0", "convnext"])
def test_folded_and_rounded_weights_are_stored_to_the_bit(name: str) -> None:
    network = small(name)
    shapes = network.system.preprocess.shapes
    judged = round_to_fp16(fold_batch_norms(for_export(network), shapes))
    model = to_onnx(judged, shapes, ["score"])
    stored = store_as_fp16(model)
    plain = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    halves = [tensor for tensor in stored.graph.initializer if tensor.data_type == TensorProto.FLOAT16]
    assert len(halves) > 20
    for tensor in halves:
        back = numpy_helper.to_array(tensor).astype(np.float32)
        np.testing.assert_array_equal(back, plain[tensor.name.removesuffix(".fp16")], err_msg=tensor.name)
    assert len(graph_bytes(stored)) < 0.55 * len(graph_bytes(model))
    pixels = noise(shapes, 2)
    np.testing.assert_allclose(answers(stored, pixels), answers(model, pixels), rtol=1e-6, atol=1e-6)


def answers(model: onnx.ModelProto, pixels: dict[str, NDArray[np.uint8]]) -> Any:
    session = onnxruntime.InferenceSession(graph_bytes(model), providers=["CPUExecutionProvider"])
    return session.run(["score"], pixels)[0]
