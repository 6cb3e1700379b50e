"""Running a torch module to count it: its inputs named and checked, and the module left as it was."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..runtime.errors import UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["check_inputs", "undisturbed"]

_COUNTERS = ("fvcore.", "ptflops.")


def check_inputs(
    module: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...], names: Sequence[str] | None
) -> tuple[tuple[torch.Tensor, ...], dict[str, tuple[int, ...]]]:
    """The first of each batch, and the shapes by name; names are by default those of ``forward``'s parameters.

    Raises:
        UsageError: inputs that are not tensors with a batch, or names that are not as many.
    """
    import torch

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
    return inputs, {name: tuple(tensor.shape) for name, tensor in zip(named, inputs, strict=True)}


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
def undisturbed(module: torch.nn.Module) -> Iterator[None]:
    """Put the module in eval mode, its attention written out; afterwards all is as it was, hooks of counters gone."""
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
            # fvcore leaves its hooks behind when the forward raises, ptflops' aten backend always.
            for hooks in (part._forward_pre_hooks, part._forward_hooks):
                for key in [key for key, hook in hooks.items() if _is_counters(hook)]:
                    del hooks[key]


def _is_counters(hook: object) -> bool:
    # A plain function names its own module, an object that of its type.
    return any((getattr(of, "__module__", None) or "").startswith(_COUNTERS) for of in (hook, type(hook)))
