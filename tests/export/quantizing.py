"""Small networks, calibration images of noise, short recipes, and what the tests read from quantized graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from edgeiqa.export.graph import graph_bytes, to_onnx
from edgeiqa.export.quant_recipe import QuantRecipe
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from .networks import noise, stir

Views = Mapping[str, NDArray[np.uint8]]


class Noise:
    """Photographs of noise, made anew each time they are asked for; counts how often that was."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]] | None = None, count: int = 6) -> None:
        self.shapes, self.count, self.asked = shapes or SHAPES, count, 0

    def __len__(self) -> int:
        return self.count

    def __contains__(self, _: object) -> bool:
        return False

    def __iter__(self) -> Iterator[Views]:
        for seed in range(self.count):
            self.asked += 1
            yield {name: pixels[seed % 3] for name, pixels in noise(self.shapes, 3, seed).items()}


class _Residual(nn.Module):
    """An inverted residual with ReLU6, or with squeeze-excite and hard-swish."""

    def __init__(self, inside: int, outside: int, gate: bool) -> None:
        super().__init__()
        self.conv_pw = nn.Conv2d(inside, 48, 1)
        self.conv_dw = nn.Conv2d(48, 48, 3, padding=1, groups=48)
        self.conv_pwl = nn.Conv2d(48, outside, 1)
        self.act: nn.Module = nn.Hardswish() if gate else nn.ReLU6()
        self.se = nn.ModuleDict({"reduce": nn.Conv2d(48, 16, 1), "expand": nn.Conv2d(16, 48, 1)}) if gate else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.conv_dw(self.act(self.conv_pw(x))))
        if self.se is not None:
            squeezed = nn.functional.relu(self.se["reduce"](y.mean((2, 3), keepdim=True)))
            y = y * nn.functional.hardsigmoid(self.se["expand"](squeezed))
        y = self.conv_pwl(y)
        return x + y if x.shape == y.shape else y


class _Attention(nn.Module):
    """A transformer's block of one head, with layer scale left out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        weights = (queries @ keys.transpose(1, 2) * queries.shape[-1] ** -0.5).softmax(-1)
        x = x + self.proj(weights @ values)
        wide: Tensor = self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))
        return x + wide


class _Tiny(nn.Module):
    """A network of a few layers, whose parts have the names that those of a `QualityNet` have."""

    def __init__(self, *, gate: bool = False, attention: bool = False) -> None:
        super().__init__()
        model = nn.Module()
        model.conv_stem = nn.Conv2d(3, 24, 3, stride=2, padding=1)
        model.blocks = nn.ModuleList(
            _Attention(24) if attention else nn.ModuleList([_Residual(24, 24, gate), _Residual(24, 24, False)])
            for _ in range(2)
        )
        trunk = nn.Module()
        trunk.model = model
        self.trunks = nn.ModuleList([trunk])
        self.head = nn.ModuleDict({"output": nn.Linear(24, 1)})
        self.attention = attention

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        model: Any = self.trunks[0].model
        x = model.conv_stem((image.float() * (1 / 127.5) - 1).permute(0, 3, 1, 2))
        x = x.flatten(2).transpose(1, 2) if self.attention else nn.functional.relu6(x)
        for block in model.blocks:
            for part in [block] if self.attention else block:
                x = part(x)
        last = x.mean(1) if self.attention else x.mean((2, 3))
        return {"score": self.head["output"](last).squeeze(1), "features.last": last}


SHAPES = {"image": (16, 24, 3)}


@cache
def tiny(kind: str) -> bytes:
    """The graph of a small network: ``plain`` (ReLU6), ``gated`` (squeeze-excite, hard-swish), ``transformer``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = _Tiny(gate=kind == "gated", attention=kind == "transformer")
    stir(network)
    return graph_bytes(to_onnx(network, SHAPES, ["score", "features.last"]))


def recipe(scheme: str, **fields: Any) -> QuantRecipe:
    """Short: no bias correction, extremes of all images."""
    usual = {"bias_correction": "none", "range_estimator": "minmax"}
    return QuantRecipe(name="test", scheme=scheme, **{**usual, **fields})  # type: ignore[arg-type]


def load(data: bytes) -> onnx.ModelProto:
    return onnx.load_model_from_string(data)


def constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def pairs(model: onnx.ModelProto, operator: str) -> list[tuple[onnx.NodeProto, NDArray[Any], NDArray[Any]]]:
    """Each QuantizeLinear or DequantizeLinear, its scale and its zero point."""
    known = constants(model)
    return [(node, known[node.input[1]], known[node.input[2]]) for node in model.graph.node if node.op_type == operator]


def quantized_weights(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Of each convolution and product with INT8 weights by its node's name: the integers."""
    known = constants(model)
    stored = {n.output[0]: known[n.input[0]] for n, _, _ in pairs(model, "DequantizeLinear") if n.input[0] in known}
    return {
        node.name: stored[node.input[1]]
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in stored
    }


def run(data: bytes, views: Mapping[str, NDArray[Any]], *, plainly: bool = False) -> dict[str, NDArray[np.float32]]:
    """All outputs; ``plainly``: every node as it stands, nothing merged into integer kernels."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if plainly:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(views)), strict=True))


def signal_to_noise_db(got: NDArray[Any], expected: NDArray[Any]) -> float:
    error = np.square(np.asarray(got, np.float64) - expected).mean()
    return float(10 * np.log10(np.square(np.asarray(expected, np.float64)).mean() / max(error, 1e-30)))
