"""Small networks of which nothing is left at its initial value, their exports, and photographs."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from edgeiqa.compress.models import Branch, Mlp, NoWeights, QualityNet, System, build, for_export, one_backbone
from edgeiqa.compress.models.network import output_names
from edgeiqa.export.graph import graph_bytes, to_onnx
from edgeiqa.export.pack import Photograph
from edgeiqa.runtime.preprocess import Patches, Preprocess, Resize, View
from numpy.typing import NDArray
from PIL import Image


def two_view() -> System:
    """Nine patches through one backbone, the whole through another."""
    patches = View(name="patches", operations=(Resize(width=192, height=96), Patches(rows=3, columns=3)))
    whole = View(name="whole", operations=(Resize(width=64, height=32),))
    return System(
        name="two-view",
        preprocess=Preprocess(views=(patches, whole)),
        branches=(
            Branch(name="near", backbone="mobilenetv3_small_050", views=("patches",)),
            Branch(name="far", backbone="convnext_atto", views=("whole",), stages=(0, 3)),
        ),
        head=Mlp(hidden=16),
    )


SYSTEMS = {
    "lite0": lambda: one_backbone("tf_efficientnet_lite0", 64, 64, stages=(1, 4)),
    "convnext": lambda: one_backbone("convnext_atto", 64, 96),
    "vit": lambda: one_backbone("vit_tiny_patch16_224", 224, 224, stages=(11,)),
    "mobilenet": lambda: one_backbone("mobilenetv3_small_050", 64, 64),
    "two-view": two_view,
}


@dataclass(frozen=True)
class Exported:
    """A network and its graph."""

    network: QualityNet
    model: onnx.ModelProto
    outputs: tuple[str, ...]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self.network.system.preprocess.shapes

    @property
    def data(self) -> bytes:
        return graph_bytes(self.model)


def stir(network: torch.nn.Module) -> None:
    """Move statistics and vectors, so that none can be lost or swapped unnoticed; matrices are random already."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif tensor.is_floating_point() and tensor.ndim <= 1:
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))


def small(name: str) -> QualityNet:
    network = build(SYSTEMS[name](), weights=NoWeights(seed=3))
    stir(network)
    return network


def export(network: QualityNet) -> Exported:
    outputs = output_names(network.system)
    return Exported(network, to_onnx(for_export(network), network.system.preprocess.shapes, outputs), outputs)


def noise(shapes: Mapping[str, tuple[int, ...]], batch: int, seed: int = 0) -> dict[str, NDArray[np.uint8]]:
    """Pixels of noise for each view, ``[batch, ...]``, each photograph of a brightness of its own."""
    generator = np.random.default_rng(seed)
    return {
        name: np.stack([generator.integers(0, 256 // (place + 1), shape, dtype=np.uint8) for place in range(batch)])
        for name, shape in shapes.items()
    }


def require_near(got: Any, expected: Any, what: str = "", relative: float = 1e-4, absolute: float = 1e-5) -> None:
    """Equal to float32's rounding over some dozens of layers; ``absolute`` is a share of the largest expected value."""
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got, expected, rtol=relative, atol=absolute * scale, err_msg=what)


@torch.no_grad()
def in_torch(network: Any, views: dict[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
    outputs = network(*(torch.from_numpy(view) for view in views.values()))
    return {name: value.numpy() for name, value in outputs.items()}


def photograph(name: str, seed: int = 0, width: int = 160, height: int = 120) -> Photograph:
    """Coloured waves and noise, as a JPEG."""
    generator = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 6, height))
    waves = np.stack([np.sin(x * (1 + seed)), np.cos(y + seed), np.sin(x + y)], axis=2)
    pixels = 128 + 90 * waves + generator.normal(0, 12, waves.shape)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return Photograph(name, file.getvalue())
