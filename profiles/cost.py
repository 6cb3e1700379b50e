"""Cost: what a network computes and holds, and how it was counted; and the count of a torch module.

The convention ``strict``, which budgets enforce: one multiply-add is one, the batch is one, and the operators counted
are those that fvcore has a handler for:

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

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ..runtime.errors import MissingExtraError, ModelError, RecordError, UsageError
from .cost_layers import LayerCost, module_layers, noting_activations, without_notes
from .torch_module import check_inputs, undisturbed

if TYPE_CHECKING:
    import torch

__all__ = ["CONVENTIONS", "Convention", "Cost", "count_module", "total_cost"]

Convention = Literal["strict", "ptflops-pytorch", "ptflops-aten"]

CONVENTIONS: dict[Convention, str] = {
    "strict": (
        "fvcore's handlers and the forms of products they miss, of a module or a graph; leaves out activations, "
        "softmax, additions and multiplications element by element, and pools other than the adaptive average one, "
        "and lists them"
    ),
    "ptflops-pytorch": (
        "ptflops' pytorch backend, a hook a layer; counts biases, norms, and activations and pools (those that are "
        "layers twice, as the layer and as the function that it calls), and leaves out what is called as a function "
        "without a layer: linear products (those of torchvision's Swin), fused attention, hard swish, convolutions "
        "with standardised weights (NF-Nets), layers of a type of one's own"
    ),
    "ptflops-aten": (
        "ptflops' aten backend, a hook on torch's dispatcher; counts convolutions and matrix products with their "
        "biases, and leaves out fused attention, norms, activations, pools and resizing"
    ),
}
"""What each convention counts and leaves out. No two of them compare."""


class Cost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one forward of a network costs.

    Attributes:
        macs: multiply-adds, the sum of ``by_operator``.
        parameters: number of learned numbers; one that is shared counts once.
        convention: how multiply-adds were counted; see `CONVENTIONS`, and the module's text for ``strict``.
        input_sizes: by view name the shape of the tensor, its batch first.
        by_operator: multiply-adds by operator, in fvcore's names.
        uncounted: operators that ran and were not counted, with how often; torch's names (``aten::gelu``) of a module,
            ONNX's (``Gelu``) of a graph.
        by_layer: the layers; of a module those with counted operators or weights, of a graph every node that computes
            on pixels. Empty where they were not told apart.

    Raises:
        RecordError: a negative number, or operators or layers that do not add up.
    """

    macs: int
    parameters: int
    convention: Convention = "strict"
    input_sizes: dict[str, tuple[int, ...]]
    by_operator: dict[str, int]
    uncounted: dict[str, int]
    by_layer: tuple[LayerCost, ...] = ()

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
        of_layers = (sum(layer.macs for layer in self.by_layer), sum(layer.parameters for layer in self.by_layer))
        if self.by_layer and of_layers != (self.macs, self.parameters):
            raise RecordError(
                f"a cost of {self.macs} MACs and {self.parameters} parameters whose layers add up to {of_layers}",
                expected="sums that agree",
                mend="count the network again",
            )

    @property
    def activations(self) -> int:
        """Elements of the outputs of all operators that are counted; those of products are most of a network's."""
        return sum(layer.activations for layer in self.by_layer if layer.macs)

    @property
    def weight_bytes(self) -> int:
        """Of the parameters as they are stored."""
        return sum(layer.weight_bytes for layer in self.by_layer)


def total_cost(costs: Mapping[str, Cost]) -> Cost:
    """What several networks cost together, each run once: the members of an ensemble.

    A cost of one network covers all its views and their test-time crops already: they are dimensions of its inputs.

    Args:
        costs: by member name, which is put before the names of views and layers (``first/image``).

    Raises:
        UsageError: no cost, or costs in several conventions.
    """
    conventions = {cost.convention for cost in costs.values()}
    if len(conventions) != 1:
        raise UsageError(
            f"{len(costs)} costs in the conventions {sorted(conventions)}",
            expected="at least one, all in one convention",
            mend="count them in the same one",
        )
    by_operator: Counter[str] = Counter()
    uncounted: Counter[str] = Counter()
    for cost in costs.values():
        by_operator.update(cost.by_operator)
        uncounted.update(cost.uncounted)
    return Cost(
        macs=sum(cost.macs for cost in costs.values()),
        parameters=sum(cost.parameters for cost in costs.values()),
        convention=conventions.pop(),
        input_sizes={
            f"{name}/{view}": shape for name, cost in costs.items() for view, shape in cost.input_sizes.items()
        },
        by_operator=dict(sorted(by_operator.items())),
        uncounted=dict(sorted(uncounted.items())),
        # Layers that do not add up would be a false sum where one cost has none.
        by_layer=tuple(
            msgspec.structs.replace(layer, name=f"{name}/{layer.name}")
            for name, cost in costs.items()
            for layer in cost.by_layer
            if all(other.by_layer for other in costs.values())
        ),
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

        with warnings.catch_warnings():
            # It scripts a function when it is imported, which torch has begun to advise against.
            warnings.simplefilter("ignore", FutureWarning)
            from fvcore.nn import FlopCountAnalysis
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"no module {error.name!r}",
            expected="torch and fvcore, which count a torch module",
            mend='pip install "edgeiqa[compress]"',
        ) from error

    inputs, sizes = check_inputs(module, example_inputs, names)
    with undisturbed(module), torch.no_grad():
        analysis = FlopCountAnalysis(module, inputs)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        handles = {**_fvcore_handles(), **_MORE_PRODUCTS}
        analysis.set_op_handle(
            **{kind: noting_activations(kind.partition("::")[2], handle) for kind, handle in handles.items()}
        )
        # fvcore answers a shape it does not expect by an assertion, and the module may raise anything.
        try:
            by_operator = without_notes(analysis.by_operator())
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
        by_layer=module_layers(module, analysis.by_module_and_operator()),
    )


def _fvcore_handles() -> dict[str, Callable[[list[Any], list[Any]], Any]]:
    # Private, and the only place that has them; its newest release is of 2022.
    from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS

    return dict(_DEFAULT_SUPPORTED_OPS)


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
