"""What an export that is over its budget is told to do: only what would make it smaller."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from edgeiqa.compress.models import one_backbone
from edgeiqa.profiles.budget import Budget, parse_budget
from edgeiqa.runtime.errors import BudgetError
from edgeiqa.runtime.manifest import Manifest, Precision, StoredAs, Target
from edgeiqa.tools.export_budget import hold_exported, hold_graphs

from ..runtime.bundles import Recipe, bake

SYSTEM = one_backbone("mobilenetv3_small_050", 64, 64)
MEMBERS: list[Any] = [SimpleNamespace(name="one", network=SimpleNamespace(system=SYSTEM))]
SIZE = 4_000_000


def manifest(*kinds: tuple[Target, Precision, StoredAs]) -> Manifest:
    made, _ = bake(Recipe())
    (member,) = made.members
    artefacts = tuple(
        msgspec.structs.replace(member.artefacts[0], target=target, precision=precision, stored_as=stored_as)
        for target, precision, stored_as in kinds
    )
    member = msgspec.structs.replace(member, artefacts=artefacts)
    return msgspec.structs.replace(made, members=(member,))


def refusals(made: Manifest, budget: Budget) -> list[str]:
    with pytest.raises(BudgetError) as with_networks:
        hold_exported(MEMBERS, made, SIZE, budget)
    with pytest.raises(BudgetError) as of_a_bundle:
        hold_graphs(made, SIZE, budget)
    return [with_networks.value.mend, of_a_bundle.value.mend]


@pytest.mark.parametrize(
    ("kinds", "half", "int8"),
    [
        ([("onnx", "fp32", "fp32")], True, True),
        ([("onnx", "fp32", "fp16")], False, True),
        ([("openvino", "bf16", "fp16")], False, True),
        ([("tensorrt", "fp32", "fp32")], False, True),
        ([("onnx", "int8", "int8")], False, False),
        ([("onnx", "int8", "int8"), ("openvino", "int8", "int8")], False, False),
        ([("onnx", "int8", "int8"), ("openvino", "fp32", "fp32")], True, True),
    ],
)
def test_only_what_helps_is_offered(kinds: list[tuple[Any, Any, Any]], half: bool, int8: bool) -> None:
    for mend in refusals(manifest(*kinds), parse_budget("1MB")):
        assert ("--store fp16" in mend) == half
        assert ("--precision int8" in mend) == int8
        assert "a smaller student" in mend


def test_half_the_bytes_are_those_of_the_graphs_alone() -> None:
    made = manifest(("onnx", "fp32", "fp32"))
    graph = made.parts[made.members[0].artefacts[0].files[0]]
    parts = made.parts | {made.members[0].artefacts[0].files[0]: msgspec.structs.replace(graph, size_bytes=3_000_000)}
    for mend in refusals(msgspec.structs.replace(made, parts=parts), parse_budget("1MB")):
        assert "--store fp16 (about 2.5 MB)" in mend


def test_fewer_bytes_are_not_offered_where_it_is_not_the_bytes() -> None:
    made = manifest(("onnx", "fp32", "fp32"))
    (member,) = made.members
    artefact = msgspec.structs.replace(member.artefacts[0], macs=2_000_000_000)
    made = msgspec.structs.replace(made, members=(msgspec.structs.replace(member, artefacts=(artefact,)),))
    for mend in refusals(made, parse_budget("1GMACs")):
        assert "--store" not in mend and "--precision" not in mend
