"""Which parameters of a network learn in a stage, at which rates."""

from __future__ import annotations

from typing import Any

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay  # type: ignore[attr-defined]
from torch import nn

from .models.network import QualityNet
from .stages import Stage

__all__ = ["make_optimizer", "set_rates", "trainable"]

_PEAK = "peak"


def trainable(network: QualityNet, objective: Any, stage: Stage) -> list[dict[str, Any]]:
    """Groups of parameters with their peak rates and weight decay; all others are frozen.

    Biases and the scales of norms are not decayed. With a layer decay d, a trunk's layer i of n (as timm groups them)
    learns at ``d ** (n - i)`` times the stage's rate (K. Clark et al., "ELECTRA", 2020).
    """
    learns = stage.parameters == "all"
    for parameter in network.parameters():
        parameter.requires_grad_(learns)
    groups: list[dict[str, Any]] = []
    if learns:
        for trunk in network.trunks:
            for group in _trunk_groups(trunk.model, stage):
                rate = stage.learning_rate * group.get("lr_scale", 1.0)
                groups.append({"params": group["params"], "weight_decay": group["weight_decay"], _PEAK: rate})
    tops: list[nn.Module] = [network.fusion, network.head]
    if isinstance(objective, nn.Module):
        tops.append(objective)
    for top in tops:
        top.requires_grad_(True)
        for group in param_groups_weight_decay(top, stage.weight_decay):
            if group["params"]:
                groups.append({**group, _PEAK: stage.head_learning_rate})
    return groups


def _trunk_groups(model: Any, stage: Stage) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]]
    if stage.layer_decay < 1:
        groups = param_groups_layer_decay(model, weight_decay=stage.weight_decay, layer_decay=stage.layer_decay)
    else:
        groups = param_groups_weight_decay(model, stage.weight_decay)
    return groups


def make_optimizer(groups: list[dict[str, Any]], stage: Stage) -> torch.optim.Optimizer:
    """The stage's AdamW or Adam over the groups, at their peak rates."""
    kind = torch.optim.AdamW if stage.optimizer == "adamw" else torch.optim.Adam
    return kind([{**group, "lr": group[_PEAK]} for group in groups], lr=stage.learning_rate)


def set_rates(optimizer: Any, factor: float) -> None:
    """Every group's rate: its peak times the factor."""
    for group in optimizer.param_groups:
        group["lr"] = group[_PEAK] * factor
