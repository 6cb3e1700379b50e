"""The cost of a torch module as ptflops counts it, to be shown beside *strict*: most papers' figures are ptflops'.

What its two backends leave out, `profiles.cost.CONVENTIONS` says; they do not list it. ptflops gives a total and no
layers. Its figures change with the module's code (a product called as a function is not seen by the pytorch backend)
and with its version, and budgets are held in them only where a budget names them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, Literal

from ..runtime.errors import MissingExtraError, ModelError
from .cost import Convention, Cost, count_module
from .torch_module import check_inputs, undisturbed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

__all__ = ["Backend", "count_in", "count_ptflops"]

Backend = Literal["pytorch", "aten"]


def count_in(
    convention: Convention,
    module: torch.nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    *,
    names: Sequence[str] | None = None,
) -> Cost:
    """Count a torch module in any convention; as `profiles.cost.count_module` and `count_ptflops`, which see."""
    if convention == "strict":
        return count_module(module, example_inputs, names=names)
    return count_ptflops(module, example_inputs, "aten" if convention == "ptflops-aten" else "pytorch", names=names)


def count_ptflops(
    module: torch.nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    backend: Backend = "pytorch",
    *,
    names: Sequence[str] | None = None,
) -> Cost:
    """Count a torch module by ptflops, in the convention ``ptflops-pytorch`` or ``ptflops-aten``.

    The module is run once in eval mode without gradients, and is as it was afterwards, also when it fails.

    Args:
        module: to be counted, on the device of the inputs.
        example_inputs: one tensor an input, ``[N, ...]``; the first of each batch is used.
        backend: of ptflops.
        names: names of the inputs; by default those of ``forward``'s parameters.

    Returns:
        A cost whose one operator is ``all``, as ptflops tells no others; nothing is listed as uncounted. Parameters
        are all of the module's, frozen ones too.

    Raises:
        MissingExtraError: torch or ptflops is not installed.
        UsageError: inputs that are not tensors with a batch, or names that are not as many.
        ModelError: the module does not run on these inputs.
    """
    try:
        import torch
        from ptflops import get_model_complexity_info
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"no module {error.name!r}",
            expected="torch and ptflops",
            mend='pip install "edgeiqa[compress]"',
        ) from error

    inputs, sizes = check_inputs(module, example_inputs, names)

    class FirstOfAll(torch.nn.Module):
        """The module with all inputs but the first bound: ptflops takes one tensor, or names, for its inputs."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, first: torch.Tensor) -> Any:
            return self.module(first, *inputs[1:])

    said = io.StringIO()
    # It prints what goes wrong and returns None.
    quiet = redirect_stdout(said), redirect_stderr(said)
    with undisturbed(module), _unlabelled(module.modules()), torch.no_grad(), quiet[0], quiet[1]:
        macs, _ = get_model_complexity_info(
            FirstOfAll(),
            tuple(inputs[0].shape[1:]),
            print_per_layer_stat=False,
            as_strings=False,
            input_constructor=lambda _: inputs[0],
            backend=backend,
        )
    if macs is None:
        lines = [line for line in said.getvalue().splitlines() if line.strip()]
        raise ModelError(
            f"{type(module).__name__} could not be run by ptflops on {sizes}: {lines[1] if len(lines) > 1 else lines}",
            expected="a module whose forward takes these inputs",
            mend="pass inputs of the sizes and dtypes that the module takes",
        )
    return Cost(
        macs=int(macs),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        convention="ptflops-pytorch" if backend == "pytorch" else "ptflops-aten",
        input_sizes=sizes,
        by_operator={"all": int(macs)},
        uncounted={},
    )


@contextmanager
def _unlabelled(parts: Iterable[torch.nn.Module]) -> Iterator[None]:
    """Take off the modules what ptflops hangs on them."""
    before = [(part, set(vars(part))) for part in parts]
    try:
        yield
    finally:
        for part, names in before:
            for name in set(vars(part)) - names:
                delattr(part, name)
