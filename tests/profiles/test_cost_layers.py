from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import timm
import torch
from edgeiqa.profiles.cost import Cost, count_module, total_cost
from edgeiqa.profiles.cost_layers import LayerCost, sum_by_operator
from edgeiqa.profiles.onnx_cost import count_graph
from edgeiqa.runtime.errors import RecordError, UsageError
from onnx import parser
from torch import Tensor, nn

IMAGE = (torch.zeros(1, 3, 10, 12),)


def layer(**changes: Any) -> LayerCost:
    numbers = {
        "macs": 2,
        "parameters": 1,
        "activations": 3,
        "weight_bytes": 4,
        "activation_bytes": 12,
    }
    return LayerCost(**{"name": "a", "operator": "conv", **numbers, **changes})


def cost(macs: int = 2, parameters: int = 1, **changes: Any) -> Cost:
    fields = {"input_sizes": {"image": (1, 3, 4, 4)}, "by_operator": {"conv": macs}, "uncounted": {"aten::gelu": 1}}
    return Cost(macs=macs, parameters=parameters, **{**fields, **changes})


class Scaled(nn.Module):
    """A convolution, a learned scale whose product is not counted, and two layers that share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.first = nn.Conv2d(8, 8, 1, bias=False)
        self.second = nn.Conv2d(8, 8, 1, bias=False)
        self.second.weight = self.first.weight

    def forward(self, image: Tensor) -> Tensor:
        features = self.conv(image) * self.scale
        mean: Tensor = self.second(self.first(features)) @ features.transpose(2, 3)
        return mean


def test_the_layers_of_a_module() -> None:
    counted = count_module(Scaled(), IMAGE)
    size, square = 8 * 10 * 12, 8 * 10 * 10
    assert [(one.name, one.operator, one.macs, one.parameters, one.activations) for one in counted.by_layer] == [
        ("", "matmul", square * 12, 8, square),
        ("conv", "conv", 27 * size, 8 * 27 + 8, size),
        ("first", "conv", 8 * size, 64, size),
        ("second", "conv", 8 * size, 0, size),
    ]
    assert [one.weight_bytes for one in counted.by_layer] == [32, 4 * 224, 256, 0]
    assert [one.activation_bytes for one in counted.by_layer] == [4 * one.activations for one in counted.by_layer]
    assert (counted.activations, counted.weight_bytes) == (3 * size + square, 4 * counted.parameters)


def test_weights_of_work_that_is_not_counted_are_a_layer_of_their_own() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 1, 1, dtype=torch.float16))

        def forward(self, image: Tensor) -> Tensor:
            return image * self.weight

    counted = count_module(Scale(), IMAGE)
    assert counted.by_layer == (
        LayerCost(
            name="", operator="uncounted", macs=0, parameters=3, activations=0, weight_bytes=6, activation_bytes=0
        ),
    )
    assert counted.uncounted == {"aten::mul": 1}


def test_a_layer_that_runs_twice_costs_twice() -> None:
    shared = nn.Linear(4, 4)
    (only,) = count_module(nn.Sequential(shared, shared), (torch.zeros(1, 4),)).by_layer
    assert (only.name, only.macs, only.parameters, only.activations) == ("0", 32, 20, 8)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224", "nf_regnet_b0"])
def test_layers_and_operators_add_up_to_the_whole(name: str) -> None:
    sized: dict[str, Any] = {"img_size": 64} if name.startswith("vit") else {}
    counted = count_module(timm.create_model(name, num_classes=1, **sized), (torch.zeros(1, 3, 64, 64),))
    sums = sum_by_operator(counted.by_layer)
    assert {operator: one.macs for operator, one in sums.items() if one.macs} == counted.by_operator
    assert sum(one.parameters for one in sums.values()) == counted.parameters
    assert list(sums.values()) == sorted(sums.values(), key=lambda one: (-one.macs, one.name))
    assert counted.weight_bytes == 4 * counted.parameters


def graph(stored: dict[str, np.ndarray[Any, Any]], body: str) -> onnx.ModelProto:
    text = (
        f'<ir_version: 10, opset_import: ["" : 21]> g (float[N, 4, 10, 12] x) => (float[N, 8, 10, 12] out) {{ {body} }}'
    )
    model: onnx.ModelProto = parser.parse_model(text)
    for name, values in stored.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


def test_the_nodes_of_a_graph() -> None:
    weights = {"w": np.ones((8, 4, 1, 1), np.float32), "b": np.ones(8, np.float32)}
    model = graph(weights, "y = Conv (x, w, b) z = Gelu (y) out = Conv <group: int = 8> (z, v)")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((8, 1, 1, 1), np.float32), "v"))
    model.graph.node[0].name = "stem"
    counted = count_graph(model)
    elements = 8 * 120
    assert [(one.name, one.operator, one.macs, one.parameters, one.weight_bytes) for one in counted.by_layer] == [
        ("stem", "Conv", 4 * elements, 40, 160),
        ("z", "Gelu", 0, 0, 0),
        ("out", "Conv", elements, 8, 32),
    ]
    assert {one.activations for one in counted.by_layer} == {elements}
    assert {one.activation_bytes for one in counted.by_layer} == {4 * elements}
    # Of operators that are counted: a Gelu is none.
    assert counted.activations == 2 * elements


@pytest.mark.parametrize(("kind", "size"), [("f2", 2), ("i1", 1)])
def test_weights_are_as_large_as_they_are_stored(kind: str, size: int) -> None:
    weights = {"wq": np.ones((8, 4, 1, 1), kind), "one": np.ones((), "f4"), "zero": np.zeros((), "i1")}
    widen = "Cast <to: int = 1> (wq)" if kind == "f2" else "DequantizeLinear (wq, one, zero)"
    (only,) = count_graph(graph(weights, f"w = {widen} out = Conv (x, w)")).by_layer
    assert (only.parameters, only.weight_bytes) == (32, 32 * size)


def test_weights_of_four_bits_are_packed() -> None:
    model = graph({"one": np.ones((), "f4")}, "w = DequantizeLinear (wq, one) out = Conv (x, w)")
    packed = onnx.helper.make_tensor("wq", onnx.TensorProto.INT4, (8, 4, 1, 1), bytes(16), raw=True)
    model.graph.initializer.append(packed)
    (only,) = count_graph(model).by_layer
    assert (only.parameters, only.weight_bytes) == (32, 16)


def test_members_are_added_up_under_their_names() -> None:
    both = total_cost({"a": cost(by_layer=(layer(name="conv"),)), "b": cost(by_layer=(layer(name="conv"),))})
    assert (both.macs, both.parameters, both.activations, both.weight_bytes) == (4, 2, 6, 8)
    assert both.by_operator == {"conv": 4}
    assert both.uncounted == {"aten::gelu": 2}
    assert set(both.input_sizes) == {"a/image", "b/image"}
    assert [one.name for one in both.by_layer] == ["a/conv", "b/conv"]


def test_layers_that_one_member_lacks_are_left_out_altogether() -> None:
    assert total_cost({"a": cost(by_layer=(layer(),)), "b": cost()}).by_layer == ()


def test_conventions_do_not_mix() -> None:
    with pytest.raises(UsageError, match=r"ptflops-aten.*strict.*one convention"):
        total_cost({"a": cost(), "b": cost(convention="ptflops-aten")})
    with pytest.raises(UsageError, match="0 costs"):
        total_cost({})


@pytest.mark.parametrize("wrong", [{"macs": 3}, {"parameters": 0}])
def test_layers_that_do_not_add_up_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(RecordError, match="layers add up to"):
        cost(by_layer=(layer(**wrong),))


def test_a_layer_with_a_negative_number_is_refused() -> None:
    with pytest.raises(RecordError, match="'a' with a negative number"):
        layer(activation_bytes=-1)


def test_layers_go_through_json_and_older_records_have_none() -> None:
    counted = count_module(Scaled(), IMAGE)
    assert msgspec.json.decode(msgspec.json.encode(counted), type=Cost) == counted
    older = {name: value for name, value in msgspec.to_builtins(counted).items() if name != "by_layer"}
    assert msgspec.convert(older, Cost).by_layer == ()
