from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections.abc import Callable

import msgspec
import pytest
import timm
import torch
from edgeiqa.profiles.cost import Cost, count_module
from edgeiqa.runtime.errors import MissingExtraError, ModelError, RecordError, UsageError
from torch import Tensor, nn
from torch.nn import functional


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return ((query @ key.transpose(-1, -2)) / 8).softmax(-1) @ value


class Attention(nn.Module):
    def __init__(self, attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.attend = attend

    def forward(self, tokens: Tensor) -> Tensor:
        return self.attend(tokens, tokens, tokens[..., :16])


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (3, 10, 12), {"conv": 8 * 3 * 9 * 10 * 12}),
        (nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), (8, 10, 12), {"conv": 8 * 9 * 5 * 6}),
        (nn.Conv2d(3, 8, 3, padding="same"), (3, 10, 12), {"_convolution_mode": 8 * 3 * 9 * 10 * 12}),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (4, 5, 7), {"conv": 4 * 6 * 4 * 5 * 7}),
        (nn.Linear(7, 5), (7,), {"linear": 35}),
        (nn.Linear(7, 5), (11, 7), {"linear": 35 * 11}),
        (nn.LayerNorm(6), (4, 6), {"layer_norm": 5 * 24}),
        (nn.LayerNorm(6, elementwise_affine=False), (4, 6), {"layer_norm": 4 * 24}),
        (nn.BatchNorm2d(4), (4, 3, 3), {"batch_norm": 2 * 36}),
        (nn.GroupNorm(2, 4), (4, 3, 3), {"group_norm": 5 * 36}),
        (nn.AdaptiveAvgPool2d(1), (4, 3, 3), {"adaptive_avg_pool2d": 36}),
        (nn.UpsamplingBilinear2d(scale_factor=2), (4, 3, 3), {"upsample_bilinear2d": 4 * 144}),
    ],
)
def test_one_layer_costs_its_closed_form(module: nn.Module, shape: tuple[int, ...], macs: dict[str, int]) -> None:
    cost = count_module(module, (torch.zeros(1, *shape),))
    assert cost.by_operator == macs
    assert cost.macs == sum(macs.values())
    assert cost.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert cost.uncounted == {}
    assert cost.convention == "strict"


def test_fused_attention_costs_what_it_costs_written_out() -> None:
    tokens = (torch.zeros(1, 2, 50, 64),)
    fused = count_module(Attention(functional.scaled_dot_product_attention), tokens)
    written_out = count_module(Attention(_attend), tokens)
    assert fused.by_operator == {"scaled_dot_product_attention": 2 * 50 * 50 * (64 + 16)}
    assert written_out.by_operator == {"matmul": fused.macs}


def test_the_fast_path_of_a_transformer_layer_hides_nothing() -> None:
    width, tokens = 64, 50
    layer = nn.TransformerEncoderLayer(width, 4, 128, batch_first=True)
    cost = count_module(layer, (torch.zeros(1, tokens, width),))
    assert cost.by_operator["linear"] == tokens * (4 * width * width + 2 * width * 128)
    assert cost.by_operator["scaled_dot_product_attention"] == 2 * tokens * tokens * width
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_product_with_a_bias_in_a_batch_is_counted() -> None:
    class Biased(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return torch.baddbmm(torch.zeros(1, 5, 5), tokens, tokens.transpose(1, 2))

    assert count_module(Biased(), (torch.zeros(1, 5, 6),)).by_operator == {"baddbmm": 5 * 6 * 5}


def test_what_is_not_counted_is_listed_with_how_often() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GELU(), nn.GELU(), nn.Hardswish(), nn.ReLU(), nn.Flatten())
    cost = count_module(module, (torch.zeros(1, 3, 4, 4),))
    assert cost.uncounted == {"aten::gelu": 2, "aten::hardswish": 1}


def test_a_batch_counts_as_one() -> None:
    module = nn.Conv2d(3, 8, 3)
    assert count_module(module, (torch.zeros(4, 3, 9, 9),)) == count_module(module, (torch.zeros(1, 3, 9, 9),))


def test_views_are_named_and_sized() -> None:
    class TwoViews(nn.Module):
        def forward(self, whole: Tensor, fragments: Tensor) -> Tensor:
            return whole.float().mean() + fragments.float().mean()

    views = (torch.zeros(2, 8, 6, 3, dtype=torch.uint8), torch.zeros(2, 4, 4, 3, dtype=torch.uint8))
    assert count_module(TwoViews(), views).input_sizes == {"whole": (1, 8, 6, 3), "fragments": (1, 4, 4, 3)}
    named = count_module(TwoViews(), views, names=("a", "b"))
    assert named.input_sizes == {"a": (1, 8, 6, 3), "b": (1, 4, 4, 3)}


def test_shared_parameters_count_once() -> None:
    layer = nn.Linear(4, 4)
    cost = count_module(nn.Sequential(layer, layer), (torch.zeros(1, 4),))
    assert (cost.parameters, cost.macs) == (20, 32)


def _flags_and_hooks(module: nn.Module) -> list[tuple[bool, int, int]]:
    return [(part.training, len(part._forward_hooks), len(part._forward_pre_hooks)) for part in module.modules()]


def test_the_module_is_as_it_was() -> None:
    norm = nn.BatchNorm2d(4)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Dropout(), nn.Flatten()).train()
    norm.eval()
    module[0].register_forward_hook(lambda *_: None)
    before = _flags_and_hooks(module)
    mean = module.state_dict()["1.running_mean"].clone()
    count_module(module, (torch.rand(1, 3, 8, 8),))
    assert _flags_and_hooks(module) == before
    assert torch.equal(module.state_dict()["1.running_mean"], mean)
    assert torch.is_grad_enabled()


def test_a_module_that_fails_is_as_it_was_and_the_error_says_on_what() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(10, 1)).train()
    before = _flags_and_hooks(module)
    with pytest.raises(ModelError, match=r"Sequential could not be run.*\(1, 3, 8, 8\).*mend"):
        count_module(module, (torch.zeros(1, 3, 8, 8),))
    assert _flags_and_hooks(module) == before
    assert torch.backends.mha.get_fastpath_enabled()


def test_nothing_is_logged_or_warned(caplog: pytest.LogCaptureFixture) -> None:
    module = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=1)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        count_module(module, (torch.zeros(1, 3, 32, 32),))
    assert caplog.records == []


@pytest.mark.parametrize("wrong", [torch.tensor(1.0), torch.zeros(0, 3), [1.0]])
def test_an_input_that_is_no_batch_is_refused(wrong: Tensor) -> None:
    with pytest.raises(UsageError, match=r"example input .*expected a tensor \[N"):
        count_module(nn.Flatten(), (wrong,))


@pytest.mark.parametrize("names", [("a",), ("a", "a"), ("a", "b", "c")])
def test_names_that_do_not_fit_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="2 example inputs with the names"):
        count_module(nn.Bilinear(3, 3, 1), (torch.zeros(1, 3), torch.zeros(1, 3)), names=names)


def test_without_fvcore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fvcore.nn", None)
    with pytest.raises(MissingExtraError, match=r'pip install "edgeiqa\[compress\]"'):
        count_module(nn.Flatten(), (torch.zeros(1, 3),))


@pytest.mark.parametrize(
    "name",
    [
        *("amounts", "budget", "bundle_cost", "cost", "cost_layers", "device", "latency", "measurement"),
        *("onnx_cost", "onnx_graph", "parity", "ptflops_cost", "torch_module"),
    ],
)
def test_no_heavy_library_is_imported_before_it_is_needed(name: str) -> None:
    heavy = {"torch", "fvcore", "ptflops", "onnx", "scipy"}
    code = f"import sys, edgeiqa.profiles.{name}; print({heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def test_a_cost_goes_through_json() -> None:
    cost = count_module(nn.Sequential(nn.Linear(7, 5), nn.GELU()), (torch.zeros(1, 7),))
    assert msgspec.json.decode(msgspec.json.encode(cost), type=Cost) == cost


@pytest.mark.parametrize(("macs", "parameters", "operators"), [(3, 0, {"conv": 2}), (-1, 0, {"conv": -1}), (0, -1, {})])
def test_a_cost_that_does_not_add_up_is_refused(macs: int, parameters: int, operators: dict[str, int]) -> None:
    with pytest.raises(RecordError):
        Cost(macs=macs, parameters=parameters, input_sizes={}, by_operator=operators, uncounted={})
