"""What an exported graph is: versions, names, shapes, whole operators, no trace of its maker, the network's answers."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from edgeiqa.export.graph import IR_VERSION, OPSET, graph_bytes, store_as_fp16, to_onnx
from edgeiqa.runtime.errors import ExportError, MissingExtraError
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from .networks import SYSTEMS, Exported, export, in_torch, noise, require_near, small

every_network = pytest.mark.parametrize("name", list(SYSTEMS))


class Answers(nn.Module):
    """A network whose forward is given."""

    def __init__(self, forward: Callable[..., dict[str, Tensor]]) -> None:
        super().__init__()
        self._forward = forward

    def forward(self, *views: Tensor) -> dict[str, Tensor]:
        return self._forward(*views)


class Weighted(nn.Module):
    """The mean of the pixels times the sum of a weight, in a way that no optimizer folds."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, view: Tensor) -> dict[str, Tensor]:
        products = mean(view).reshape(-1, *[1] * self.weight.ndim) * self.weight
        return {"score": products.flatten(1).sum(1)}


def mean(view: Tensor) -> Tensor:
    return view.float().mean((1, 2, 3))


def session(data: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def sides(value: onnx.ValueInfoProto) -> list[str | int]:
    return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]


@every_network
def test_versions_inputs_and_outputs(exported: Callable[[str], Exported], name: str) -> None:
    made = exported(name)
    model = made.model
    assert (OPSET, IR_VERSION) == (20, 10)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 20}
    assert model.ir_version == 10
    assert not model.functions
    assert [value.name for value in model.graph.input] == list(made.shapes)
    for value in model.graph.input:
        assert value.type.tensor_type.elem_type == TensorProto.UINT8
        assert sides(value) == ["N", *made.shapes[value.name]]
    assert [value.name for value in model.graph.output] == list(made.outputs)
    assert made.outputs[0] == "score"
    for value in model.graph.output:
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
        assert sides(value)[0] == "N"
    assert sides(model.graph.output[0]) == ["N"]
    assert all(len(sides(value)) == 2 for value in list(model.graph.output)[1:])


@every_network
def test_pixels_are_read_by_a_cast_alone(exported: Callable[[str], Exported], name: str) -> None:
    made = exported(name)
    for view in made.shapes:
        readers = [node for node in made.model.graph.node if view in node.input]
        assert [node.op_type for node in readers] == ["Cast"]
        assert next(a.i for a in readers[0].attribute if a.name == "to") == TensorProto.FLOAT


@every_network
def test_the_batch_changes_nothing_and_torch_agrees(exported: Callable[[str], Exported], name: str) -> None:
    made = exported(name)
    three = noise(made.shapes, 3)
    run = session(made.data)
    together = dict(zip(made.outputs, run.run(list(made.outputs), three), strict=True))
    alone = [
        dict(zip(made.outputs, run.run(list(made.outputs), {n: v[i : i + 1] for n, v in three.items()}), strict=True))
        for i in range(3)
    ]
    expected = in_torch(made.network, three)
    for output in made.outputs:
        assert together[output].shape == expected[output].shape
        require_near(np.concatenate([one[output] for one in alone]), together[output], output)
        require_near(together[output], expected[output], output)
    # Were it a constant, all of the above would hold of a graph that looks at nothing.
    assert np.ptp(together["score"]) > 1e-4


def test_layer_normalisation_and_gelu_stay_whole(exported: Callable[[str], Exported]) -> None:
    made = exported("convnext")
    operators = Counter(node.op_type for node in made.model.graph.node)
    modules = Counter(type(module).__name__ for module in made.network.modules())
    assert operators["LayerNormalization"] == modules["LayerNorm2d"] > 10
    assert operators["Gelu"] == modules["GELU"] > 10
    assert not operators.keys() & {"Erf", "Tanh", "Pow", "Sqrt", "Div", "ReduceVariance"}


@every_network
def test_no_trace_of_the_machine(exported: Callable[[str], Exported], name: str) -> None:
    made = exported(name)
    require_no_trace(made.data)
    assert made.model.producer_name == "edgeiqa"
    assert not made.model.doc_string and not made.model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in made.model.graph.node)


def require_no_trace(data: bytes) -> None:
    folders = {str(Path.home()), str(Path.cwd()), sys.prefix, str(Path(torch.__file__).parent), "site-packages", ".py"}
    assert not [folder for folder in folders if folder != "/" and folder.encode() in data]


def test_no_trace_inside_a_branch_of_the_graph() -> None:
    def forward(view: Tensor) -> dict[str, Tensor]:
        bright: Any = torch.cond(mean(view).sum() > 5, lambda x: x + 1, lambda x: x * 2, (mean(view),))
        return {"score": bright}

    model = to_onnx(Answers(forward), {"image": (4, 4, 3)}, ["score"])
    assert "If" in {node.op_type for node in model.graph.node}
    require_no_trace(graph_bytes(model))


def test_two_exports_give_the_same_bytes(exported: Callable[[str], Exported]) -> None:
    assert export(small("convnext")).data == exported("convnext").data


def test_the_network_is_left_as_it_was() -> None:
    class Trained(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5))

        def forward(self, view: Tensor) -> dict[str, Tensor]:
            return {"score": self.layers(view.float().permute(0, 3, 1, 2)).mean((1, 2, 3))}

    network = Trained().train()
    network.layers[0].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    model = to_onnx(network, {"image": (8, 8, 3)}, ["score"])
    assert [module.training for module in network.modules()] == [True, True, False, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    pixels = noise({"image": (8, 8, 3)}, 2)
    # Exported as it is in eval mode: running statistics, no dropout.
    (score,) = session(graph_bytes(model)).run(["score"], pixels)
    np.testing.assert_allclose(score, in_torch(network.eval(), pixels)["score"], rtol=1e-4)


def test_outputs_that_are_not_asked_for_are_left_out(exported: Callable[[str], Exported]) -> None:
    made = exported("convnext")
    assert {value.name for value in made.model.graph.output} == {"score", "features.last"}
    model = to_onnx(Answers(lambda view: {"score": mean(view), "more": view.float()}), {"image": (4, 4, 3)}, ["score"])
    assert [value.name for value in model.graph.output] == ["score"]


REFUSED: dict[str, tuple[Callable[..., dict[str, Tensor]], str]] = {
    "a decision by the pixels": (
        lambda view: {"score": mean(view) * (2 if mean(view).sum() > 3 else 1)},
        "could not export the network: .*data-dependent",
    ),
    "no such output": (lambda view: {"other": mean(view)}, "KeyError: 'score'"),
    "a score of the whole batch": (lambda view: {"score": mean(view).mean()[None]}, r"shapes \{'score': \[1\]\}"),
    "a batch of two": (lambda view: {"score": view.float().reshape(2, -1).mean(1)}, r"shapes \{'score': \[2\]\}"),
    "a column": (lambda view: {"score": mean(view)[:, None]}, r"shapes \{'score': \['N', 1\]\}"),
    "arithmetic on bytes": (lambda view: {"score": mean(view // 2)}, r"read by \{'image': \['Div'\]\}"),
    "a crash": (lambda view: {"score": mean(view) @ torch.ones(7, 7)}, "could not export the network"),
}


@pytest.mark.parametrize("reason", list(REFUSED))
def test_a_network_that_cannot_be_exported(reason: str) -> None:
    forward, message = REFUSED[reason]
    with pytest.raises(ExportError, match=message) as caught:
        to_onnx(Answers(forward), {"image": (4, 4, 3)}, ["score"])
    assert caught.value.expected and caught.value.mend
    assert caught.value.exit_code == 2


def test_a_view_named_like_an_output_is_refused() -> None:
    with pytest.raises(ExportError, match="score"):
        to_onnx(Answers(lambda view: {"score": mean(view)}), {"score": (4, 4, 3)}, ["score"])


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "torch"])
def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=library) as caught:
        to_onnx(Answers(lambda view: {"score": mean(view)}), {"image": (4, 4, 3)}, ["score"])
    assert caught.value.mend == 'pip install "edgeiqa[compress,export]"'


def with_weight(weight: Tensor) -> onnx.ModelProto:
    return to_onnx(Weighted(weight), {"image": (4, 4, 3)}, ["score"])


def test_what_is_stored_as_fp16_is_cast_back() -> None:
    weight = torch.linspace(-1, 2, 600).reshape(20, 30)
    model = with_weight(weight)
    stored = store_as_fp16(model)
    halves = {t.name: t for t in stored.graph.initializer if t.data_type == TensorProto.FLOAT16}
    assert list(halves) == ["network.weight.fp16"]
    np.testing.assert_array_equal(numpy_helper.to_array(halves["network.weight.fp16"]), weight.half().numpy())
    pixels = noise({"image": (4, 4, 3)}, 2)
    (got,) = session(graph_bytes(stored)).run(["score"], pixels)
    expected = pixels["image"].astype(np.float64).mean((1, 2, 3)) * weight.half().double().sum().item()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)
    assert [t.data_type for t in model.graph.initializer if t.name == "network.weight"] == [TensorProto.FLOAT]


@pytest.mark.parametrize("shape", [(600,), (1, 600, 1, 1), (1, 600), (15, 16)])
def test_vectors_and_small_tensors_stay_fp32(shape: tuple[int, ...]) -> None:
    stored = store_as_fp16(with_weight(torch.linspace(-1, 1, int(np.prod(shape))).reshape(shape)))
    assert all(tensor.data_type != TensorProto.FLOAT16 for tensor in stored.graph.initializer)


@pytest.mark.parametrize("largest", [65505.0, 1e30, float("inf"), float("nan")])
def test_a_weight_beyond_fp16(largest: float) -> None:
    weight = torch.ones(20, 30)
    weight[3, 4] = -largest
    with pytest.raises(ExportError, match=r"network\.weight") as caught:
        store_as_fp16(with_weight(weight))
    assert "65504" in caught.value.expected
    assert "--store fp32" in caught.value.mend


def test_the_largest_weight_of_fp16_is_stored() -> None:
    weight = torch.ones(20, 30)
    weight[3, 4] = -65504.0
    assert any(
        tensor.data_type == TensorProto.FLOAT16 for tensor in store_as_fp16(with_weight(weight)).graph.initializer
    )
