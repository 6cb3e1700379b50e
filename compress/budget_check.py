"""A student's budget before it is trained, and what to do where it is broken."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from ..profiles.amounts import Amount, AmountKind, format_amount
from ..profiles.budget import Budget
from ..profiles.cost import Convention, Cost
from ..runtime.errors import BudgetError, ModelError, UsageError
from ..runtime.preprocess import Resize
from .input_size import count_system, solve_input_size
from .models.backbones import backbone_normalisation
from .models.records import System

__all__ = ["LEAST_BYTES_A_PARAMETER", "STUDENTS", "check_budget", "ways_out"]

LEAST_BYTES_A_PARAMETER = 1
"""Of a file: INT8 weights, the fewest that `plan` looks at."""

STUDENTS: dict[str, tuple[int, int]] = {
    "convnext_small": (173_481, 49_455_457),
    "convnext_tiny": (89_079, 27_820_897),
    "convnext_nano": (48_926, 14_953_201),
    "convnext_pico": (27_385, 8_533_185),
    "convnext_femto": (15_643, 4_833_169),
    "tf_efficientnet_lite2": (11_829, 4_812_353),
    "convnext_atto": (10_996, 3_374_841),
    "tf_efficientnet_lite0": (7_920, 3_372_289),
    "mobilenetv3_large_100": (4_579, 4_203_313),
    "mobilenetv3_small_100": (1_205, 1_518_881),
}
"""Backbones that are proposed in place of one that is too dear, from the dearest to the cheapest: strict multiply-adds
a pixel of an input of 128x128, and parameters, both with a linear head. One that is proposed is counted first."""


def ways_out(
    system: System,
    budget: Budget,
    *,
    image: tuple[int, int] = (3840, 2160),
    members: int = 1,
    bytes_a_parameter: float = LEAST_BYTES_A_PARAMETER,
) -> tuple[str, str, str]:
    """What could be changed about a system that breaks a budget, with numbers: its input, its backbone, its members.

    Args:
        system: one member.
        budget: of which multiply-adds, parameters and bytes are looked at.
        image: width and height of the photographs.
        members: how many such systems score a photograph.
        bytes_a_parameter: of the file.

    Raises:
        ModelError: the system cannot be built.
    """
    cost = count_system(system, budget.convention)
    return _ways_out(system, cost, _of_parameters(budget, bytes_a_parameter), image, members)


def _ways_out(system: System, cost: Cost, budget: Budget, image: tuple[int, int], members: int) -> tuple[str, str, str]:
    allowed = _allowed(budget, members)
    return (
        _smaller_input(system, cost, allowed, image, members),
        _smaller_student(system, allowed, members, budget.convention),
        _fewer_members(cost, budget, members),
    )


def _of_parameters(budget: Budget, bytes_a_parameter: float) -> Budget:
    """The budget with the parameters that its bytes leave room for."""
    if budget.size_bytes is None:
        return budget
    most = max(1, int(budget.size_bytes / bytes_a_parameter))
    return msgspec.structs.replace(budget, parameters=min(most, budget.parameters or most))


def check_budget(system: System, budget: Budget, image: tuple[int, int] = (3840, 2160), *, members: int = 1) -> Cost:
    """Hold what is known before training against a budget: multiply-adds, parameters, and the least bytes of them.

    Args:
        system: one member.
        budget: its other limits need a measurement of the trained model and are left to that. Multiply-adds are counted
            in its convention. Bytes are held against one a parameter, which INT8 takes and no file goes below.
        image: width and height of the photographs.
        members: how many such systems score a photograph.

    Returns:
        The cost of one member.

    Raises:
        BudgetError: the members together exceed a limit; the mend is what `ways_out` says.
        ModelError: the system cannot be built.
    """
    cost = count_system(system, budget.convention)
    parameters = members * cost.parameters
    exceeded = budget.exceeded_by(
        {
            "macs": members * cost.macs,
            "parameters": parameters,
            "size_bytes": LEAST_BYTES_A_PARAMETER * parameters,
        }
    )
    if exceeded:
        times = f", {members} members" if members > 1 else ""
        if any(violation.quantity == "size_bytes" for violation in exceeded):
            times += " (bytes: at least, in INT8)"
        raise BudgetError(
            f"{system.name}{times}: {'; '.join(violation.describe() for violation in exceeded)}",
            expected=f"a student within the budget {budget.name}",
            mend="; or ".join(_ways_out(system, cost, _of_parameters(budget, LEAST_BYTES_A_PARAMETER), image, members)),
        )
    return cost


@dataclass(frozen=True, slots=True)
class _Allowed:
    """Limits of one member; infinite where there is none."""

    macs: float
    parameters: float

    def keeps(self, macs: float, parameters: float) -> bool:
        return macs <= self.macs and parameters <= self.parameters


def _allowed(budget: Budget, members: int) -> _Allowed:
    macs, parameters = (math.inf if limit is None else limit // members for limit in (budget.macs, budget.parameters))
    return _Allowed(macs, parameters)


def _written(kind: AmountKind, value: float) -> str:
    return format_amount(Amount(kind, int(value)))


def _resized(system: System, width: int, height: int) -> System | None:
    """The system at another size; None unless one resize makes its one view."""
    views = system.preprocess.views
    if len(views) != 1 or len(views[0].operations) != 1 or not isinstance(views[0].operations[0], Resize):
        return None
    resize = msgspec.structs.replace(views[0].operations[0], width=width, height=height)
    view = msgspec.structs.replace(views[0], operations=(resize,))
    old, new = f"{views[0].shape[1]}x{views[0].shape[0]}", f"{width}x{height}"
    return msgspec.structs.replace(
        system,
        name=system.name.replace(old, new),
        preprocess=msgspec.structs.replace(system.preprocess, views=(view,)),
    )


def _smaller_input(system: System, cost: Cost, allowed: _Allowed, image: tuple[int, int], members: int) -> str:
    if cost.parameters > allowed.parameters or cost.macs <= allowed.macs:
        return f"a smaller input does not help: {_written('parameters', cost.parameters)} at every size"
    if _resized(system, 224, 224) is None:
        return f"smaller views: those of {system.name} are stated in its record"

    def at_size(width: int, height: int) -> System:
        resized = _resized(system, width, height)
        assert resized is not None
        return resized

    if cost.convention != "strict":
        return f"a smaller input: sizes are solved in strict, and this budget is in {cost.convention}"
    if allowed.macs < 1:
        return "a smaller input does not help: the limit leaves no multiply-add to a member"
    try:
        solved = solve_input_size(at_size, macs_limit=int(allowed.macs), image=image)
    except BudgetError as error:
        return f"a smaller input does not help: {error.got}"
    except (UsageError, ModelError) as error:
        return f"a smaller input: none can be found, {error.got}"
    each = " a member" if members > 1 else ""
    return f"a smaller input, --size {solved.width}x{solved.height} ({_written('macs', solved.macs)}{each})"


def _smaller_student(system: System, allowed: _Allowed, members: int, convention: Convention) -> str:
    size = " and ".join(f"{shape[-2]}x{shape[-3]}" for shape in dict.fromkeys(system.preprocess.shapes.values()))
    for backbone in STUDENTS:
        student = _with_backbone(system, backbone)
        if convention == "strict" and not _may_fit(student, allowed):
            continue
        try:
            cost = count_system(student, convention)
        except ModelError:
            # Of a width or a stride that the rest of the system does not go with.
            continue
        if allowed.keeps(cost.macs, cost.parameters):
            each = " a member" if members > 1 else ""
            return (
                f"a smaller student, --student {backbone} at {size} ({_written('macs', cost.macs)}, "
                f"{_written('parameters', cost.parameters)}{each})"
            )
    return f"a smaller student: of {', '.join(STUDENTS)} none fits at {size}"


def _with_backbone(system: System, backbone: str) -> System:
    normalisation = backbone_normalisation(backbone)
    branches = tuple(
        msgspec.structs.replace(branch, backbone=backbone, stages=(), normalisation=normalisation)
        for branch in system.branches
    )
    return msgspec.structs.replace(system, branches=branches)


def _may_fit(student: System, allowed: _Allowed) -> bool:
    """Whether its backbones' costs a pixel leave it open that a system fits."""
    macs = parameters = 0.0
    for branch in student.branches:
        macs_a_pixel, branch_parameters = STUDENTS[branch.backbone]
        macs += macs_a_pixel * sum(math.prod(student.preprocess.shapes[view][:-1]) for view in branch.views)
        parameters += branch_parameters
    # A size that is no multiple of the strides costs a little more or less than its share, and so do other heads.
    return allowed.keeps(0.9 * macs, 0.9 * parameters)


def _fewer_members(cost: Cost, budget: Budget, members: int) -> str:
    each = f"{_written('macs', cost.macs)} and {_written('parameters', cost.parameters)}"
    if members == 1:
        return f"fewer members do not help: there is one, of {each}"
    fitting = max((n for n in range(1, members) if _allowed(budget, n).keeps(cost.macs, cost.parameters)), default=0)
    if fitting == 0:
        return f"fewer members do not help: one alone is {each}"
    return f"fewer members: {fitting} of {members} fit, each of {each}"
