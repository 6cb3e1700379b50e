"""Which parameters learn, at which rates."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import torch
from edgeiqa.compress.optimisation import make_optimizer, set_rates, trainable
from edgeiqa.compress.stages import Stage
from torch import nn

from .grey_planes import network

STAGE = Stage(learning_rate=1e-3, head_learning_rate=1e-2, weight_decay=0.05)


def parameters_of(groups: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {id(parameter): group for group in groups for parameter in group["params"]}


def test_every_parameter_learns_once_and_biases_and_scales_are_not_decayed() -> None:
    net = network()
    groups = trainable(net, None, STAGE)
    grouped = parameters_of(groups)
    assert len(grouped) == sum(len(group["params"]) for group in groups) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        group = grouped[id(parameter)]
        assert group["weight_decay"] == (0.0 if parameter.ndim <= 1 else 0.05), name
        assert group["peak"] == (1e-3 if name.startswith("trunks") else 1e-2), name
        assert parameter.requires_grad


def test_the_head_alone() -> None:
    net = network()
    grouped = parameters_of(trainable(net, None, msgspec.structs.replace(STAGE, parameters="head")))
    learning = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert learning == {name for name, parameter in net.named_parameters() if id(parameter) in grouped}
    assert learning == {"head.output.weight", "head.output.bias"}
    # A later stage thaws what an earlier one froze.
    trainable(net, None, STAGE)
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_an_objective_with_parameters_learns_at_the_heads_rate() -> None:
    projection = nn.Linear(3, 4)
    for parameters in ("all", "head"):
        stage = msgspec.structs.replace(STAGE, parameters=parameters)
        grouped = parameters_of(trainable(network(), projection, stage))
        assert grouped[id(projection.weight)]["peak"] == grouped[id(projection.bias)]["peak"] == 1e-2
        assert grouped[id(projection.weight)]["weight_decay"] == 0.05
        assert grouped[id(projection.bias)]["weight_decay"] == 0.0


def test_layers_nearer_to_the_pixels_learn_slower() -> None:
    net = network()
    stage = msgspec.structs.replace(STAGE, layer_decay=0.5)
    groups = trainable(net, None, stage)
    grouped = parameters_of(groups)
    assert len(grouped) == len(list(net.parameters()))
    model: Any = net.trunks[0].model
    layers = [model.conv_stem, *(block for blocks in model.blocks for block in blocks), model.conv_head]
    for up, layer in enumerate(reversed(layers)):
        rates = [grouped[id(parameter)]["peak"] for parameter in layer.parameters()]
        assert rates == pytest.approx([1e-3 * 0.5**up] * len(rates)), up
    assert grouped[id(net.head.output.weight)]["peak"] == 1e-2


def test_an_optimizer_whose_rates_follow_a_factor() -> None:
    net = network()
    optimizer = make_optimizer(trainable(net, None, STAGE), STAGE)
    assert type(optimizer) is torch.optim.AdamW
    assert {group["lr"] for group in optimizer.param_groups} == {1e-3, 1e-2}
    for factor in (0.5, 0.1, 1.0):
        set_rates(optimizer, factor)
        assert {group["lr"] for group in optimizer.param_groups} == {1e-3 * factor, 1e-2 * factor}


def test_adam_follows_the_factor_too() -> None:
    stage = msgspec.structs.replace(STAGE, optimizer="adam")
    optimizer = make_optimizer(trainable(network(), None, stage), stage)
    assert type(optimizer) is torch.optim.Adam
    assert {group["lr"] for group in optimizer.param_groups} == {1e-3, 1e-2}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.05}
    set_rates(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {5e-4, 5e-3}


def test_a_step_without_a_gradient_shows_whose_weight_decay_it_is() -> None:
    for optimizer, wanted in (
        # Apart from the gradient: the weights shrink by rate times decay.
        ("adamw", torch.tensor([2.0, -0.5, 0.0]) * (1 - 1e-2 * 0.05)),
        # Added to the gradient, which Adam's first step divides by its own size: each goes the rate towards zero.
        ("adam", torch.tensor([1.99, -0.49, 0.0])),
    ):
        stage = msgspec.structs.replace(STAGE, optimizer=optimizer)
        net = network()
        weight = net.head.output.weight
        with torch.no_grad():
            weight.zero_()
            weight[0, :3] = torch.tensor([2.0, -0.5, 0.0])
        made = make_optimizer(trainable(net, None, stage), stage)
        weight.grad = torch.zeros_like(weight)
        made.step()
        torch.testing.assert_close(weight[0, :3].detach(), wanted, rtol=1e-5, atol=1e-7)


def test_adams_first_step_is_its_rate_whatever_the_gradient() -> None:
    stage = msgspec.structs.replace(STAGE, optimizer="adam", weight_decay=0.0)
    net = network()
    made = make_optimizer(trainable(net, None, stage), stage)
    weight = net.head.output.weight
    before = weight.detach().clone()
    weight.grad = torch.linspace(-3, 4, weight.numel()).reshape(weight.shape)
    made.step()
    torch.testing.assert_close(weight.detach(), before - 1e-2 * weight.grad.sign(), rtol=1e-5, atol=1e-6)
