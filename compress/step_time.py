"""What a training step takes here: taken with random weights and noise for photographs, before anything is begun."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from lightning.fabric import Fabric

from .models.network import build
from .models.records import System
from .models.weights import NoWeights
from .optimisation import make_optimizer, trainable
from .stages import Stage

__all__ = ["StepTime", "measure_step"]


@dataclass(frozen=True, slots=True)
class StepTime:
    """Of one training step, and of one photograph that is only looked at.

    Attributes:
        step_seconds: of a batch, forwards, backwards and the optimizer's.
        look_seconds: of one photograph, forwards.
        parameters: of the network.
        state_bytes: of what is stored to resume: weights and both moments of AdamW.
        device_bytes: most that was allocated on the device; None of a CPU, and where the device does not say it.
    """

    step_seconds: float
    look_seconds: float
    parameters: int
    state_bytes: int
    device_bytes: int | None


def measure_step(system: System, stage: Stage, fabric: Fabric) -> StepTime:
    """Take two steps, the second by the clock.

    Raises:
        ModelError: the network cannot be built at this size.
    """
    counted = fabric.device.type == "cuda"
    if counted:
        torch.cuda.reset_peak_memory_stats(fabric.device)
    network = build(system, weights=NoWeights())
    network.to(memory_format=torch.channels_last)
    network.to(fabric.device)
    optimizer = make_optimizer(trainable(network, None, stage), stage)
    stream = np.random.default_rng(0)
    batch = max(2, stage.batch // fabric.world_size)
    crop = stage.augmentation.crop
    views = []
    for view in system.preprocess.views:
        *several, height, width, colours = system.preprocess.shapes[view.name]
        sides = (height, width) if crop is None else (min(crop, height), min(crop, width))
        pixels = stream.integers(0, 256, (batch, *several, *sides, colours), dtype=np.uint8)
        views.append(fabric.to_device(torch.from_numpy(pixels)))
    taken = []
    for _ in range(2):
        started = time.perf_counter()
        with fabric.autocast():
            score = network(*views)["score"]
        score.float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        _wait_for(fabric.device)
        taken.append(time.perf_counter() - started)
    network.eval()
    started = time.perf_counter()
    with torch.inference_mode(), fabric.autocast():
        network(*views)
        _wait_for(fabric.device)
    looked = (time.perf_counter() - started) / batch
    parameters = sum(parameter.numel() for parameter in network.parameters())
    device_bytes = torch.cuda.max_memory_allocated(fabric.device) if counted else None
    return StepTime(taken[-1], looked, parameters, 3 * 4 * parameters, device_bytes)


def _wait_for(device: torch.device) -> None:
    """Until an accelerator has done what it was given, which it is only given in no time."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
