from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from edgeiqa.profiles.cost import Cost, count_module
from edgeiqa.profiles.onnx_cost import count_graph
from edgeiqa.runtime.errors import ModelError
from onnx import parser

Sizes = dict[str, tuple[str, tuple[int, ...]]]


def graph(inputs: str, body: str, stored: Sizes | None = None, domains: str = "") -> onnx.ModelProto:
    """A graph of ``body``, whose tensor ``out`` is its output, with stored tensors of these types and shapes."""
    text = f'<ir_version: 9, opset_import: ["" : 20{domains}]> g ({inputs}) => (out) {{ {body} }}'
    model: onnx.ModelProto = parser.parse_model(text)
    for name, (kind, shape) in (stored or {}).items():
        values = np.ones(shape, dtype=kind)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


IMAGE = "float[N, 4, 10, 12] x"
TWICE = "twice = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> () "
CONV: Sizes = {"w": ("f4", (8, 4, 3, 3)), "b": ("f4", (8,))}


@pytest.mark.parametrize(
    ("inputs", "body", "stored", "by_operator", "parameters"),
    [
        (
            IMAGE,
            "out = Conv <pads: ints = [1, 1, 1, 1]> (x, w, b)",
            CONV,
            {"conv": 8 * 4 * 9 * 120},
            8 * 4 * 9 + 8,
        ),
        (
            IMAGE,
            "out = Conv <pads: ints = [1, 1, 1, 1], strides: ints = [2, 2], group: int = 4> (x, w)",
            {"w": ("f4", (4, 1, 3, 3))},
            {"conv": 4 * 9 * 5 * 6},
            36,
        ),
        (
            IMAGE,
            "out = ConvTranspose <strides: ints = [2, 2]> (x, w)",
            {"w": ("f4", (4, 6, 2, 2))},
            {"conv": 4 * 6 * 4 * 120},
            96,
        ),
        (
            "float[N, 7] x",
            "out = Gemm <transB: int = 1> (x, w, b)",
            {"w": ("f4", (5, 7)), "b": ("f4", (5,))},
            {"linear": 35},
            40,
        ),
        (
            "float[N, 11, 7] x",
            "y = MatMul (x, w) out = Add (y, b)",
            {"w": ("f4", (7, 5)), "b": ("f4", (5,))},
            {"matmul": 385},
            40,
        ),
        ("float[N, 2, 50, 64] x, float[N, 2, 64, 50] y", "out = MatMul (x, y)", {}, {"matmul": 2 * 50 * 64 * 50}, 0),
        (
            "float[N, 5, 6] x, float[N, 7, 6] y",
            'out = Einsum <equation: string = "bik, bjk -> bij"> (x, y)',
            {},
            {"einsum": 5 * 6 * 7},
            0,
        ),
        (
            "float[N, 5] x, float[N, 7] y",
            'out = Einsum <equation: string = "bi,bj->bij"> (x, y)',
            {},
            {"einsum": 17},
            0,
        ),
        (
            "float[N, 4, 6] x",
            "out = LayerNormalization (x, s, b)",
            {"s": ("f4", (6,)), "b": ("f4", (6,))},
            {"layer_norm": 5 * 24},
            12,
        ),
        (
            IMAGE,
            "out = BatchNormalization (x, s, b, m, v)",
            dict.fromkeys("sbmv", ("f4", (4,))),
            {"batch_norm": 2 * 480},
            8,
        ),
        (
            IMAGE,
            "out = InstanceNormalization (x, s, b)",
            {"s": ("f4", (4,)), "b": ("f4", (4,))},
            {"instance_norm": 5 * 480},
            8,
        ),
        (IMAGE, "out = GlobalAveragePool (x)", {}, {"adaptive_avg_pool2d": 480}, 0),
        (
            IMAGE,
            TWICE + 'out = Resize <mode: string = "linear"> (x, , twice)',
            {},
            {"upsample": 4 * 4 * 480},
            0,
        ),
    ],
)
def test_one_layer_costs_its_closed_form(
    inputs: str, body: str, stored: Sizes, by_operator: dict[str, int], parameters: int
) -> None:
    cost = count_graph(graph(inputs, body, stored))
    assert cost.by_operator == by_operator
    assert cost.macs == sum(by_operator.values())
    assert cost.parameters == parameters
    assert cost.convention == "strict"


def test_attention_as_one_operator_costs_its_two_products() -> None:
    query, value = "float[N, 2, 50, 64] q, float[N, 2, 50, 64] k", "float[N, 2, 50, 16] v"
    model = graph(f"{query}, {value}", "out = Attention (q, k, v)")
    model.opset_import[0].version = 23
    assert count_graph(model).by_operator == {"scaled_dot_product_attention": 2 * 50 * 50 * (64 + 16)}
    model = graph(
        "float[N, 50, 128] q, float[N, 50, 128] k, float[N, 50, 32] v",
        "out = Attention <q_num_heads: int = 2, kv_num_heads: int = 2> (q, k, v)",
    )
    model.opset_import[0].version = 23
    assert count_graph(model).by_operator == {"scaled_dot_product_attention": 2 * 50 * 50 * (64 + 16)}


def test_weights_that_are_stored_in_fp16_cost_what_they_cost_in_fp32() -> None:
    cast = "w = Cast <to: int = 1> (wh) b = Cast <to: int = 1> (bh) out = Conv (x, w, b)"
    half = graph(IMAGE, cast, {"wh": ("f2", (8, 4, 3, 3)), "bh": ("f2", (8,))})
    stored_half, stored_full = count_graph(half), count_graph(graph(IMAGE, "out = Conv (x, w, b)", CONV))
    assert (stored_half.macs, stored_half.parameters) == (stored_full.macs, stored_full.parameters)
    assert 2 * stored_half.weight_bytes == stored_full.weight_bytes == 4 * stored_full.parameters


def test_a_quantized_convolution_costs_what_it_costs_in_fp32() -> None:
    quantized = graph(
        IMAGE,
        """
        xq = QuantizeLinear (x, one, zero)
        xd = DequantizeLinear (xq, one, zero)
        w = DequantizeLinear <axis: int = 0> (wq, scales, zeros)
        b = DequantizeLinear (bq, one)
        out = Conv (xd, w, b)
        """,
        {
            **{"one": ("f4", ()), "zero": ("i1", ()), "scales": ("f4", (8,)), "zeros": ("i1", (8,))},
            **{"wq": ("i1", (8, 4, 3, 3)), "bq": ("i4", (8,))},
        },
    )
    cost, float_cost = count_graph(quantized), count_graph(graph(IMAGE, "out = Conv (x, w, b)", CONV))
    assert (cost.by_operator, cost.parameters) == (float_cost.by_operator, float_cost.parameters)
    assert cost.uncounted == {"DequantizeLinear": 1, "QuantizeLinear": 1}


def test_an_integer_convolution_costs_what_it_costs_in_fp32() -> None:
    integer = graph(
        "uint8[N, 4, 10, 12] x",
        "out = QLinearConv (x, one, zero, w, one, zero, one, zero, b)",
        {"one": ("f4", ()), "zero": ("u1", ()), "w": ("u1", (8, 4, 3, 3)), "b": ("i4", (8,))},
    )
    cost, float_cost = count_graph(integer), count_graph(graph(IMAGE, "out = Conv (x, w, b)", CONV))
    assert (cost.by_operator, cost.parameters) == (float_cost.by_operator, float_cost.parameters)


def test_work_on_weights_alone_is_not_counted() -> None:
    model = graph(
        "float[N, 7] x",
        "scaled = Mul (w, gain) flipped = Transpose <perm: ints = [1, 0]> (scaled) out = MatMul (x, flipped)",
        {"w": ("f4", (5, 7)), "gain": ("f4", (5, 1))},
    )
    cost = count_graph(model)
    assert (cost.by_operator, cost.uncounted, cost.parameters) == ({"matmul": 35}, {}, 40)


def test_the_normalisation_of_the_pixels_holds_no_parameters() -> None:
    model = graph(
        "uint8[N, 10, 12, 3] photo",
        """
        pixels = Cast <to: int = 1> (photo)
        scaled = Mul (pixels, byte)
        centred = Sub (scaled, mean)
        normal = Div (centred, std)
        planes = Transpose <perm: ints = [0, 3, 1, 2]> (normal)
        map = Conv (planes, w)
        out = Mul (map, gamma)
        """,
        {
            **{"byte": ("f4", ()), "mean": ("f4", (3,)), "std": ("f4", (3,))},
            **{"w": ("f4", (8, 3, 1, 1)), "gamma": ("f4", (8, 1, 1))},
        },
    )
    cost = count_graph(model)
    assert cost.parameters == 8 * 3 + 8
    assert cost.input_sizes == {"photo": (1, 10, 12, 3)}
    assert cost.uncounted == {"Div": 1, "Mul": 2, "Sub": 1}


def test_shared_weights_count_once_and_compute_twice() -> None:
    cost = count_graph(graph("float[N, 4] x", "y = MatMul (x, w) out = MatMul (y, w)", {"w": ("f4", (4, 4))}))
    assert (cost.macs, cost.parameters) == (32, 16)


def test_shapes_and_single_numbers_are_no_parameters() -> None:
    model = graph(
        "float[N, 6] x",
        "y = Reshape (x, shape) z = Mul (y, half) out = Clip (z, low)",
        {"shape": ("i8", (3,)), "half": ("f4", ()), "low": ("f4", ())},
    )
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.array([-1, 2, 3]), "shape"))
    cost = count_graph(model)
    assert (cost.parameters, cost.macs, cost.uncounted) == (0, 0, {"Mul": 1})


def test_what_is_not_counted_is_listed_with_how_often() -> None:
    model = graph(
        "float[N, 4] x",
        "a = Gelu (x) b = Gelu (a) c = Softmax (b) d = Relu (c) out = com.microsoft.FastGelu (d)",
        domains=', "com.microsoft" : 1',
    )
    assert count_graph(model).uncounted == {"Gelu": 2, "Softmax": 1, "com.microsoft::FastGelu": 1}


def test_a_product_of_three_is_listed_rather_than_guessed() -> None:
    model = graph("float[N, 4] x", 'out = Einsum <equation: string = "bi,bi,bi->b"> (x, x, x)')
    assert (count_graph(model).macs, count_graph(model).uncounted) == (0, {"Einsum": 1})


def test_a_product_whose_size_is_unknown_is_an_error_and_not_zero() -> None:
    model = graph(
        "float[N, 4] x",
        "y = com.microsoft.Unheard (x) out = MatMul (y, w)",
        {"w": ("f4", (4, 4))},
        domains=', "com.microsoft" : 1',
    )
    with pytest.raises(ModelError, match=r"MatMul .*no known shape"):
        count_graph(model)


def test_a_larger_batch_costs_as_many_times() -> None:
    model = graph(IMAGE, "out = Conv (x, w, b)", CONV)
    assert count_graph(model, batch=3).macs == 3 * count_graph(model).macs


def test_no_torch_is_imported(tmp_path: Path) -> None:
    onnx.save(graph(IMAGE, "out = Conv (x, w, b)", CONV), tmp_path / "g.onnx")
    code = (
        "import sys; from edgeiqa.profiles.onnx_cost import count_graph;"
        "cost = count_graph(sys.argv[1]); print(cost.macs, 'torch' in sys.modules, 'fvcore' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "g.onnx")], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == [str(8 * 4 * 9 * 80), "False", "False"]


class OnPixels(torch.nn.Module):
    """A network with its normalisation, from uint8 ``[N, H, W, 3]``."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        score: torch.Tensor = self.network((image.float() / 127.5 - 1).permute(0, 3, 1, 2))
        return score


def without_batch_norm(cost: Cost) -> int:
    return cost.macs - cost.by_operator.get("batch_norm", 0)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mobilenetv3_small_100", 96),
        ("tf_efficientnet_lite0", 96),
        ("convnext_atto", 96),
        ("vit_tiny_patch16_224", 224),
        ("repvit_m0_9", 96),
        ("nf_regnet_b0", 96),
        ("mobilenetv4_conv_small", 96),
        ("fastvit_t8", 96),
        ("resnet18", 96),
        ("convnextv2_atto", 96),
    ],
)
def test_a_graph_costs_what_the_module_costs(name: str, size: int) -> None:
    module = OnPixels(timm.create_model(name, num_classes=1)).eval()
    # The exporter merges tensors that are equal, as biases are before training.
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1)
    image = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, (image,), dynamo=True, opset_version=20, dynamic_shapes=({0: "N"},), optimize=False, verbose=False
        )
    assert program is not None
    torch_cost = count_module(module, (image,))
    plain = count_graph(program.model_proto)
    # Weight standardisation is work on weights alone.
    expected = without_batch_norm(torch_cost) if name.startswith("nf_") else torch_cost.macs
    assert plain.macs == pytest.approx(expected, rel=0.01)
    assert plain.parameters == torch_cost.parameters
    assert plain.input_sizes == torch_cost.input_sizes

    program.optimize()
    folded = count_graph(program.model_proto)
    assert folded.macs <= plain.macs
    assert without_batch_norm(folded) == pytest.approx(without_batch_norm(torch_cost), rel=0.01)
    # Of a folded batch norm's scale and shift one bias is left.
    assert folded.parameters == pytest.approx(torch_cost.parameters, rel=0.01)
