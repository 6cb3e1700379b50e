"""A student that INT8 spoils, a short fine-tuning of it, and a process that dies in one.

As a script: ``quick_quantization.py PHOTOGRAPHS CHECKPOINT RUN STEP`` fine-tunes and kills itself after that step.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import torch
from edgeiqa.compress.checkpoint import Checkpoint, save_checkpoint
from edgeiqa.compress.distill_plan import TransferPhotographs
from edgeiqa.compress.distill_records import Transfer
from edgeiqa.compress.models.network import QualityNet, build
from edgeiqa.compress.models.systems import one_backbone
from edgeiqa.compress.models.weights import NoWeights
from edgeiqa.compress.quant_aware import quantization_aware
from edgeiqa.compress.quant_aware_records import FINE_TUNING, QuantAwareRecipe, QuantAwareReport
from edgeiqa.runtime.score_map import ScoreMap, Sigmoid
from lightning.fabric import Fabric

from .quick_students import Watching, planes

SIDE = 64
STAGE = msgspec.structs.replace(FINE_TUNING, epochs=2, batch=8, learning_rate=1e-4, head_learning_rate=1e-4)
RECIPE = QuantAwareRecipe(stages=(STAGE,), transfer=Transfer(crops=1, distortions=1), calibration=16, seed=5)


def _blocks(network: QualityNet) -> Any:
    model: Any = network.trunks[0].model
    return model.blocks[1]


def stretch(network: QualityNet, factor: float) -> None:
    """Make one channel of each block's hidden ReLUs so much larger, and its reader's weights as much smaller.

    The network is the same in FP32, as ReLU(k x) = k ReLU(x); on an 8-bit grid the other channels vanish.
    """
    with torch.no_grad():
        for block in _blocks(network):
            for norm, reader in ((block.bn1, block.conv_dw), (block.bn2, block.conv_pwl)):
                norm.weight[0] *= factor
                norm.bias[0] *= factor
                if reader.groups > 1:
                    reader.weight[0] /= factor
                else:
                    reader.weight[:, 0] /= factor


def hostile(factor: float = 30.0) -> QualityNet:
    """A network whose scores are .1 of a dark plane, .9 of a bright one, by a head on random features."""
    network = build(one_backbone("mobilenetv3_small_050", SIDE, SIDE, stages=(1,)), weights=NoWeights(seed=1))
    greys = torch.tensor([30, 225], dtype=torch.uint8)[:, None, None, None].expand(2, SIDE, SIDE, 3)
    with torch.no_grad():
        for block in _blocks(network):
            # So that the channel is not dead.
            block.bn1.bias[0] += 1.0
            block.bn2.bias[0] += 1.0
        dark, bright = network(greys)["features.last"]
        network.head.output.weight[0] = 0.8 * (bright - dark) / (bright - dark).square().sum()
        network.head.output.bias[0] = 0.1 - network.head.output.weight[0] @ dark
    stretch(network, factor)
    return network


def save_hostile(folder: Path, name: str = "hostile", factor: float = 30.0) -> Path:
    network = hostile(factor)
    score_map = ScoreMap(steps=(Sigmoid(slope=4.0, centre=0.5, low=0.0, high=100.0),), low=0.0, high=100.0)
    record = Checkpoint(name=name, system=network.system, score_map=score_map, provenance={"created": "2026-01-01"})
    save_checkpoint(folder, record, network)
    return folder


def run(
    what: QuantAwareRecipe, checkpoint: Path, photographs: TransferPhotographs, folder: Path, **options: Any
) -> QuantAwareReport:
    fabric = Fabric(accelerator="cpu")
    fabric.launch()
    return quantization_aware(what, checkpoint, photographs, folder, fabric=fabric, **options)


if __name__ == "__main__":
    images, start, run_at, step = sys.argv[1:]
    torch.set_num_threads(1)
    run(RECIPE, Path(start), planes(Path(images)), Path(run_at), watch=Watching("step", int(step)))
