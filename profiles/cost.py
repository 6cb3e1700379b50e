"""Cost: what a network computes and holds, and how it was counted; and the count of a torch module.

The convention ``strict``: one multiply-add is one, the batch is one, and the operators counted are those that fvcore
has a handler for:

=====================================  ==============================================================
counted                                multiply-adds
=====================================  ==============================================================
conv, transposed conv                  output (transposed: input) positions x elements of the weight
linear, addmm, mm, matmul, bmm         rows x inner x columns
einsum                                 those of its products
batch_norm                             2 an element (1 without scale and shift); 5 when in training mode
layer_norm, group_norm, instance_norm  5 an element (4 without scale and shift)
adaptive_avg_pool2d                    1 an input element
upsample_nearest2d                     1 an output element
upsample_bilinear2d, grid_sampler      4 an output element
=====================================  ==============================================================

fvcore has no handler for three forms in which torch writes such products, and would miss a third of some transformers.
They are counted here as fvcore counts them when they are written out: fused attention under its own name
``scaled_dot_product_attention`` (the two products; what fvcore alone would give is the total less this entry),
``baddbmm``, and a convolution with ``padding="same"``. Module implementations that fuse a whole attention layer
(torch's "fast path") are switched off while it counts.

Left out, and listed in `Cost.uncounted` with how often they run: activations, softmax, additions and multiplications
element by element, means and the other pools, whatever has no handler. What moves or compares data (reshape, concat,
pad, clamp, relu ...) is neither counted nor listed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ..runtime.errors import MissingExtraError, ModelError, RecordError, UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["Convention", "Cost", "count_module"]

Convention = Literal["strict"]


class Cost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one forward of a network costs.

    Attributes:
        macs: multiply-adds, the sum of ``by_operator``.
        parameters: number of learned numbers; one that is shared counts once.
        convention: how multiply-adds were counted; see the module's text for ``strict``.
        input_sizes: by view name the shape of the tensor, its batch first.
        by_operator: multiply-adds by operator, in fvcore's names.
        uncounted: operators that ran and were not counted, with how often; torch's names (``aten::gelu``) of a module,
            ONNX's (``Gelu``) of a graph.

    Raises:
        RecordError: a negative number, or operators that do not add up to ``macs``.
    """

    macs: int
    parameters: int
    convention: Convention = "strict"
    input_sizes: dict[str, tuple[int, ...]]
    by_operator: dict[str, int]
    uncounted: dict[str, int]

    def __post_init__(self) -> None:
        numbers = (self.macs, self.parameters, *self.by_operator.values(), *self.uncounted.values())
        if min(numbers) < 0:
            raise RecordError(
                f"a cost with a negative number ({min(numbers)})",
                expected="numbers from 0",
                mend="count the network again",
            )
        if self.macs != sum(self.by_operator.values()):
            raise RecordError(
                f"a cost of {self.macs} MACs whose operators add up to {sum(self.by_operator.values())}",
                expected="a sum that agrees",
                mend="count the network again",
            )


def count_module(
    module: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...], *, names: Sequence[str] | None = None
) -> Cost:
    """Count a torch module by tracing one forward (fvcore), in the convention ``strict``.

    The module is run once in eval mode without gradients; its training flags and hooks are as before afterwards, also
    when it fails. Weight standardisation (NF-Nets) is part of a torch forward and is counted, ``batch_norm`` in
    training mode; so are batch norms. An exported graph has neither once they are folded into the weights.

    Args:
        module: to be counted, on the device of the inputs.
        example_inputs: one tensor an input, ``[N, ...]`` of a dtype the module takes; the first of each batch is used.
        names: names of the inputs; by default those of ``forward``'s parameters.

    Raises:
        MissingExtraError: torch or fvcore is not installed.
        UsageError: inputs that are not tensors with a batch, or names that are not as many.
        ModelError: the module does not run on these inputs, or cannot be traced.
    """
    try:
        import torch
        from fvcore.nn import FlopCountAnalysis
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"no module {error.name!r}",
            expected="torch and fvcore, which count a torch module",
            mend='pip install "edgeiqa[compress]"',
        ) from error

    for tensor in example_inputs:
        if not isinstance(tensor, torch.Tensor) or tensor.ndim == 0 or len(tensor) == 0:
            got = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise UsageError(
                f"an example input {got}",
                expected="a tensor [N, ...] with N at least 1",
                mend="pass one tensor for each input of the module",
            )
    inputs = tuple(tensor[:1] for tensor in example_inputs)
    named = _input_names(module, len(inputs), names)
    sizes = {name: tuple(tensor.shape) for name, tensor in zip(named, inputs, strict=True)}

    with _undisturbed(module), torch.no_grad():
        analysis = FlopCountAnalysis(module, inputs)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        analysis.set_op_handle(**_MORE_PRODUCTS)
        # fvcore answers a shape it does not expect by an assertion, and the module may raise anything.
        try:
            by_operator = {name: int(macs) for name, macs in sorted(analysis.by_operator().items())}
        except Exception as error:
            raise ModelError(
                f"{type(module).__name__} could not be run and traced on {sizes}: {error!r}",
                expected="a module whose forward takes these inputs and can be traced by torch.jit",
                mend="pass inputs of the sizes and dtypes that the module takes",
            ) from error
        uncounted = {name: int(times) for name, times in sorted(analysis.unsupported_ops().items())}
    return Cost(
        macs=sum(by_operator.values()),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        input_sizes=sizes,
        by_operator=by_operator,
        uncounted=uncounted,
    )


def _input_names(module: torch.nn.Module, count: int, names: Sequence[str] | None) -> Sequence[str]:
    if names is None:
        parameters = inspect.signature(module.forward).parameters.values()
        names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:count]
        names += [f"input_{index}" for index in range(len(names), count)]
    if len(names) != count or len(set(names)) != count:
        raise UsageError(
            f"{count} example inputs with the names {list(names)}",
            expected="a name of its own for each",
            mend="give as many names as there are inputs",
        )
    return names


@contextmanager
def _undisturbed(module: torch.nn.Module) -> Iterator[None]:
    """Put the module in eval mode, its attention written out; afterwards all is as it was."""
    import torch

    training = [(part, part.training) for part in module.modules()]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    module.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for part, flag in training:
            part.training = flag
            # fvcore leaves its hooks behind when the forward raises.
            for hooks in (part._forward_pre_hooks, part._forward_hooks):
                for key in [key for key, hook in hooks.items() if type(hook).__module__.startswith("fvcore.")]:
                    del hooks[key]


def _shape(value: Any) -> list[int]:
    """Shape of a value of the traced graph."""
    from fvcore.nn.jit_handles import get_shape

    shape: list[int] | None = get_shape(value)
    if shape is None:
        raise TypeError("a traced value without a shape")
    return shape


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> int:  # noqa: ARG001  (fvcore's signature)
    """Fused attention's products: query ``[..., L, E]`` by key ``[..., S, E]``, weights by value ``[..., S, V]``."""
    query, key, value = (_shape(tensor) for tensor in inputs[:3])
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _baddbmm_macs(inputs: list[Any], outputs: list[Any]) -> int:  # noqa: ARG001
    """The product of ``a [B, M, K]`` and ``b [B, K, N]``, inputs 1 and 2."""
    return prod(_shape(inputs[1])) * _shape(inputs[2])[-1]


def _named_padding_conv_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """A convolution of weight ``[O, I / groups, ...]`` whose padding is given by name."""
    output = _shape(outputs[0])
    return output[0] * prod(_shape(inputs[1])) * prod(output[2:])


_MORE_PRODUCTS: dict[str, Callable[[list[Any], list[Any]], int]] = {
    "aten::scaled_dot_product_attention": _attention_macs,
    "aten::baddbmm": _baddbmm_macs,
    "aten::_convolution_mode": _named_padding_conv_macs,
}
