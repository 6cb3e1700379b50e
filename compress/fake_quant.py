"""Fake quantizers: INT8 arithmetic simulated in a network that goes on learning.

Weights are rounded to 8 bits per output channel, the inputs of convolutions and matrix products to 8 bits per tensor,
as the quantized graphs of `export` have them. Scale, shift and everything else are float.

Only torch's own operations are used, so nothing is compiled and every device of torch can train.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..runtime.errors import UsageError
from .models.network import QualityNet

__all__ = ["FakeQuantization", "insert_fake_quantizers", "observe_ranges", "remove_fake_quantizers"]

_LEVELS = 127
"""Largest level of a signed byte; -128 is left out, so that the range is symmetric."""
_SLOWEST = 0.01
"""Share of a new batch in a running range, once a hundred batches were seen."""
_SMALLEST_STEP = 1e-12
_INPUT = "input_quantizer"
_SUM = "sum_quantizer"
_GATES = (
    "SqueezeExcite",
    "SqueezeExciteCl",
    "SEModule",
    "EffectiveSEModule",
    "GatherExcite",
    "EcaModule",
    "CecaModule",
)
"""Of timm's classes, some of which are there twice."""


class FakeQuantization(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is simulated.

    Attributes:
        activations: ``symmetric`` about zero, which every target can do, or ``asymmetric``, with a zero point: a level
            more for what is never negative, as OpenVINO and onnxruntime on x86 have it.
        float_gates: squeeze-excite stays float.
        float_sums: the sums of residual blocks stay float, as TensorRT has them; OpenVINO rounds them. Those of blocks
            without batch norms (transformers, ConvNeXt) always stay float: few channels of theirs are far larger than
            the rest.
        float_blocks: patterns of names of blocks that stay float, such as ``backbone.blocks.2.1``, ``head`` or
            ``backbone.blocks.5*``.
    """

    activations: Literal["symmetric", "asymmetric"] = "symmetric"
    float_gates: bool = True
    float_sums: bool = False
    float_blocks: tuple[str, ...] = ()


class _Weight(nn.Module):
    """A weight ``[out, ...]`` on the 8-bit grid of each output channel's largest magnitude."""

    def forward(self, weight: Tensor) -> Tensor:
        magnitude = weight.abs().flatten(1).amax(1).view(-1, *[1] * (weight.ndim - 1))
        return _rounded(weight, magnitude / _LEVELS, -_LEVELS, _LEVELS, each=weight[0].numel())


class _Activation(nn.Module):
    """A tensor ``[N, ...]`` on an 8-bit grid.

    In training its range is the mean over the batch of each image's extremes, which is what ranges are calibrated by
    after training as well; a running mean of it is kept, and is the range in evaluation. (B. Jacob et al.,
    "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, section
    3.1, with images' extremes instead of batches'.)
    """

    low: Tensor
    high: Tensor
    batches: Tensor

    def __init__(self, *, symmetric: bool) -> None:
        super().__init__()
        self._symmetric = symmetric
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, values: Tensor) -> Tensor:
        # Brain floats have no more levels than the grid.
        exact = values.float()
        low, high = self.low, self.high
        if self.training:
            images = exact.flatten(1)
            low, high = images.amin(1).mean(), images.amax(1).mean()
            self._note(low.detach(), high.detach())
        low, high = low.clamp_max(0.0), high.clamp_min(0.0)
        each = exact[0].numel()
        if self._symmetric:
            rounded = _rounded(exact, torch.maximum(-low, high) / _LEVELS, -_LEVELS, _LEVELS, each=each)
        else:
            step = (high - low) / 255
            zero = (-low / step.clamp_min(_SMALLEST_STEP)).round().detach()
            rounded = _rounded(exact, step, -zero, 255 - zero, each=each)
        return rounded.to(values.dtype)

    def _note(self, low: Tensor, high: Tensor) -> None:
        self.batches += 1
        share = (1.0 / self.batches).clamp_min(_SLOWEST).to(low.dtype)
        self.low += share * (low - self.low)
        self.high += share * (high - self.high)


def _rounded(values: Tensor, step: Tensor, lowest: Tensor | float, highest: Tensor | float, *, each: int) -> Tensor:
    """Values on a grid of a step, with gradients for both.

    The rounding counts as the identity. The step, and by it the extreme values that set it, get the gradient of the
    rounding error, scaled by ``1 / sqrt(each * 127)`` for a step that ``each`` values share: S. K. Esser et al.,
    "Learned Step Size Quantization", ICLR 2020, equations 1 to 3 and section 2.2. So a network learns to do without
    the outliers that make its grids coarse.
    """
    step = step.clamp_min(_SMALLEST_STEP)
    step = step.detach() + (step - step.detach()) / (each * _LEVELS) ** 0.5
    level = values / step
    level = level + (level.round() - level).detach()
    # torch's clamp halves the gradient of what lies on its bounds, and the extreme value always does.
    lies_within = (level >= lowest) & (level <= highest)
    lowest, highest = (torch.as_tensor(bound, dtype=level.dtype, device=level.device) for bound in (lowest, highest))
    return step * torch.where(lies_within, level, level.detach().clamp(lowest, highest))


def insert_fake_quantizers(network: QualityNet, settings: FakeQuantization) -> tuple[str, ...]:
    """Round weights, inputs of convolutions and matrix products, and sums of residual blocks, in place.

    The ranges of activations are empty until `observe_ranges`, or a step of training, sets them. They are buffers, so a
    state dictionary holds them.

    Args:
        network: without fake quantizers.
        settings: what is simulated.

    Returns:
        Names of the quantized layers, as `QuantRecipe.float_blocks` names things: ``backbone.blocks.0.0.conv_dw``, ...,
        ``head.output``.

    Raises:
        UsageError: a pattern matches no block, or nothing is left to quantize.
    """
    symmetric = settings.activations == "symmetric"
    several = len(network.trunks) > 1
    names = {name: _shown(name, several) for name, _ in network.named_modules() if name}
    known = {ancestor for name in names.values() for ancestor in _ancestors(name)}
    for pattern in settings.float_blocks:
        if not fnmatch.filter(known, pattern):
            tops = sorted({".".join(name.split(".")[:2]) for name in known})
            raise UsageError(
                f"a block named {pattern}, which the network does not have",
                expected=f"names or patterns such as {', '.join(tops)}",
                mend="correct --float-block",
            )
    gates = [
        name for name, module in network.named_modules() if settings.float_gates and type(module).__name__ in _GATES
    ]

    def stays_float(name: str) -> bool:
        if any(name == gate or name.startswith(f"{gate}.") for gate in gates):
            return True
        return any(
            fnmatch.fnmatchcase(ancestor, pattern)
            for ancestor in _ancestors(names[name])
            for pattern in settings.float_blocks
        )

    quantized: list[str] = []
    for name, module in list(network.named_modules()):
        if not name or stays_float(name):
            continue
        if isinstance(module, nn.Conv2d | nn.Linear):
            parametrize.register_parametrization(module, "weight", _Weight())
            module.add_module(_INPUT, _Activation(symmetric=symmetric))
            module.register_forward_pre_hook(_round_input)
            quantized.append(names[name])
        elif not settings.float_sums and _is_residual(module):
            module.add_module(_SUM, _Activation(symmetric=symmetric))
            module.register_forward_hook(_round_output)
    if not quantized:
        raise UsageError(
            f"float blocks {', '.join(settings.float_blocks)}: all of the network",
            expected="some layer to quantize",
            mend="leave a --float-block out",
        )
    return tuple(quantized)


def _shown(name: str, several: bool) -> str:
    parts = name.split(".")
    if len(parts) < 3 or parts[0] != "trunks" or parts[2] != "model":
        return name
    return ".".join([f"backbone{parts[1]}" if several else "backbone", *parts[3:]])


def _ancestors(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _is_residual(module: nn.Module) -> bool:
    """Whether it is a block that adds its input to its output: timm's have a place for stochastic depth before that."""
    adds = hasattr(module, "drop_path") or hasattr(module, "drop_path2")
    return adds and any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())


def _round_input(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (getattr(module, _INPUT)(given[0]), *given[1:])


def _round_output(module: Any, _: Any, output: Any) -> Any:
    return getattr(module, _SUM)(output) if isinstance(output, Tensor) else output


@contextmanager
def _observing(network: QualityNet) -> Iterator[None]:
    """Quantizers as in training, all else as in use."""
    was_training = network.training
    network.eval()
    for module in network.modules():
        if isinstance(module, _Activation):
            module.train()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(was_training)


def observe_ranges(
    network: QualityNet, views: Sequence[NDArray[np.uint8]], rows: NDArray[np.int64], *, batch: int = 16
) -> None:
    """Set the ranges of activations from photographs, anew.

    Args:
        network: with fake quantizers.
        views: uint8 ``[N, ...]`` each.
        rows: which of the N, int64 ``[n]``.
        batch: photographs at once.
    """
    for module in network.modules():
        if isinstance(module, _Activation):
            for buffer in module.buffers():
                buffer.zero_()
    device = next(network.parameters()).device
    with _observing(network):
        for start in range(0, len(rows), batch):
            chosen = rows[start : start + batch]
            network(*[torch.from_numpy(np.array(view[chosen])).to(device) for view in views])


def remove_fake_quantizers(network: QualityNet) -> None:
    """Leave the float network with the weights as they are before rounding, in place."""
    for module in list(network.modules()):
        hooks: Any = module
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
        for place, name, hook in (
            (hooks._forward_pre_hooks, _INPUT, _round_input),
            (hooks._forward_hooks, _SUM, _round_output),
        ):
            if name in cast("dict[str, nn.Module]", module._modules):
                del module._modules[name]
                for key in [key for key, found in place.items() if found is hook]:
                    del place[key]
