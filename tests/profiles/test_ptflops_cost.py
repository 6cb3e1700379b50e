from __future__ import annotations

import sys

import pytest
import timm
import torch
from edgeiqa.profiles.cost import CONVENTIONS
from edgeiqa.profiles.ptflops_cost import Backend, count_ptflops
from edgeiqa.runtime.errors import MissingExtraError, ModelError, UsageError
from torch import Tensor, nn
from torch.nn import functional

IMAGE = (torch.zeros(1, 3, 10, 12),)
ELEMENTS = 8 * 10 * 12


@pytest.mark.parametrize(
    ("module", "pytorch", "aten"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), 28 * ELEMENTS, 28 * ELEMENTS),
        (nn.Conv2d(3, 8, 3, padding=1, bias=False), 27 * ELEMENTS, 27 * ELEMENTS),
        (nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8)), 5 * ELEMENTS, 3 * ELEMENTS),
        # As a layer, and as the function that it calls.
        (nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU()), 5 * ELEMENTS, 3 * ELEMENTS),
        (nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.Hardswish()), 3 * ELEMENTS, 3 * ELEMENTS),
    ],
)
def test_one_layer_costs_what_ptflops_gives_for_it(module: nn.Module, pytorch: int, aten: int) -> None:
    by_pytorch = count_ptflops(module, IMAGE, "pytorch")
    by_aten = count_ptflops(module, IMAGE, "aten")
    assert (by_pytorch.macs, by_pytorch.convention) == (pytorch, "ptflops-pytorch")
    assert (by_aten.macs, by_aten.convention) == (aten, "ptflops-aten")
    assert by_pytorch.by_operator == {"all": pytorch}


class Functional(nn.Module):
    """Products that no layer of a known type makes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 12))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = functional.linear(tokens, self.weight)
        return functional.scaled_dot_product_attention(tokens, tokens, tokens)


def test_what_the_conventions_say_they_leave_out() -> None:
    tokens = (torch.zeros(1, 2, 10, 12),)
    assert count_ptflops(Functional(), tokens, "pytorch").macs == 0
    # Attention is left out there too.
    assert count_ptflops(Functional(), tokens, "aten").macs == 2 * 10 * 12 * 8
    assert "linear products" in CONVENTIONS["ptflops-pytorch"] and "fused attention" in CONVENTIONS["ptflops-aten"]


class TwoViews(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1, bias=False)

    def forward(self, whole: Tensor, part: Tensor) -> dict[str, Tensor]:
        return {"score": self.conv(whole.float()).mean() + self.conv(part.float()).mean()}


@pytest.mark.parametrize("backend", ["pytorch", "aten"])
def test_several_views_and_a_batch(backend: Backend) -> None:
    views = (torch.zeros(4, 3, 10, 12, dtype=torch.uint8), torch.zeros(4, 3, 5, 6, dtype=torch.uint8))
    cost = count_ptflops(TwoViews(), views, backend)
    assert cost.macs == 24 * (120 + 30)
    assert cost.input_sizes == {"whole": (1, 3, 10, 12), "part": (1, 3, 5, 6)}


def test_frozen_parameters_count() -> None:
    assert count_ptflops(nn.Conv2d(3, 8, 1).requires_grad_(False), IMAGE).parameters == 32


def state(module: nn.Module) -> list[tuple[bool, int, int, frozenset[str]]]:
    return [
        (part.training, len(part._forward_hooks), len(part._forward_pre_hooks), frozenset(vars(part)))
        for part in module.modules()
    ]


@pytest.mark.parametrize("backend", ["pytorch", "aten"])
def test_the_module_is_as_it_was(backend: Backend, capfd: pytest.CaptureFixture[str]) -> None:
    module = timm.create_model("mobilenetv3_small_050").train()
    module.get_submodule("conv_stem").register_forward_hook(lambda *_: None)
    before, linear = state(module), functional.relu
    count_ptflops(module, (torch.zeros(1, 3, 64, 64),), backend)
    assert state(module) == before
    with pytest.raises(ModelError, match=r"MobileNetV3 could not be run by ptflops on .*\(1, 4, 64, 64\).*4 channels"):
        count_ptflops(module, (torch.zeros(1, 4, 64, 64),), backend)
    assert state(module) == before
    assert functional.relu is linear
    assert capfd.readouterr() == ("", "")


def test_an_input_that_is_no_batch_is_refused() -> None:
    with pytest.raises(UsageError, match=r"expected a tensor \[N"):
        count_ptflops(nn.Flatten(), (torch.tensor(1.0),))


def test_without_ptflops_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ptflops", None)
    with pytest.raises(MissingExtraError, match=r'pip install "edgeiqa\[compress\]"'):
        count_ptflops(nn.Flatten(), IMAGE)
