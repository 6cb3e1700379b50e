"""What is folded into a network's weights before export, so that the graph holds just the weights that were judged."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ExportError
from .graph import is_stored_as_fp16, require_fp16_range

if TYPE_CHECKING:
    import torch

__all__ = ["fold_batch_norms", "round_to_fp16"]


def fold_batch_norms(network: torch.nn.Module, inputs: Mapping[str, tuple[int, ...]]) -> torch.nn.Module:
    """A copy of a network in eval mode whose batch normalisations are folded into the convolutions before them.

    Which convolution feeds a normalisation is seen in one forward pass: its output tensor is the normalisation's input.
    A pair of which either runs more than once, or whose convolution feeds several of them, is left as it is.

    Args:
        network: left as it is.
        inputs: view name -> shape without the batch, in the order of its ``forward``.

    Returns:
        The copy; its outputs are the network's to float32's rounding.

    Raises:
        ExportError: they are not, on pixels of noise.
    """
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    folded = copy.deepcopy(network).eval()
    producers: dict[int, str] = {}
    held: list[Any] = []
    runs: Counter[str] = Counter()
    pairs: list[tuple[str, str]] = []
    hooks = []

    def produced(name: str) -> Any:
        def hook(_module: Any, _arguments: Any, output: torch.Tensor) -> None:
            # Held, so that no later tensor gets its identity.
            held.append(output)
            producers[id(output)] = name
            runs[name] += 1

        return hook

    def consumed(name: str) -> Any:
        def hook(_module: Any, arguments: tuple[Any, ...]) -> None:
            runs[name] += 1
            producer = producers.get(id(arguments[0])) if arguments else None
            if producer is not None:
                pairs.append((producer, name))

        return hook

    for name, module in folded.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            hooks.append(module.register_forward_hook(produced(name)))
        elif isinstance(module, torch.nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(consumed(name)))
    with torch.no_grad():
        folded(*(torch.zeros((1, *shape), dtype=torch.uint8) for shape in inputs.values()))
    for handle in hooks:
        handle.remove()
    feeds = Counter(conv for conv, _ in pairs)
    for conv_name, norm_name in pairs:
        conv: Any = folded.get_submodule(conv_name)
        norm: Any = folded.get_submodule(norm_name)
        if runs[conv_name] != 1 or runs[norm_name] != 1 or feeds[conv_name] != 1 or norm.running_mean is None:
            continue
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        # timm's normalisations carry their activation.
        rest = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]
        folded.set_submodule(norm_name, torch.nn.Sequential(*rest))
    _require_equal(network, folded, inputs)
    return folded


def _require_equal(
    network: torch.nn.Module, folded: torch.nn.Module, inputs: Mapping[str, tuple[int, ...]], tolerance: float = 1e-3
) -> None:
    """Raise unless both give the same outputs: a convolution may compute its weights anew at every call."""
    import torch

    generator = torch.Generator().manual_seed(0)
    example = [torch.randint(0, 256, (1, *shape), dtype=torch.uint8, generator=generator) for shape in inputs.values()]
    original = copy.deepcopy(network).eval()
    with torch.no_grad():
        before, after = original(*example), folded(*example)
    for name, value in before.items():
        difference = float((after[name] - value).abs().max())
        if not difference <= tolerance * max(1.0, float(value.abs().max())):
            raise ExportError(
                f"output {name}, moved by {difference:.3g} when batch normalisation was folded",
                expected="the same output",
                mend="store the weights as FP32 (--store fp32), where nothing is folded here",
            )


def round_to_fp16(network: torch.nn.Module) -> torch.nn.Module:
    """A copy of a network whose large weights are rounded to FP16's values and kept as FP32.

    They are those that `store_as_fp16` stores as FP16, which then loses nothing.

    Raises:
        ExportError: a weight is beyond FP16's range.
    """
    import torch

    rounded = copy.deepcopy(network)
    with torch.no_grad():
        for name, parameter in rounded.named_parameters():
            if is_stored_as_fp16(tuple(parameter.shape)):
                require_fp16_range(name, float(parameter.abs().max()))
                parameter.copy_(parameter.half().float())
    return rounded
