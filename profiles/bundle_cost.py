"""The cost of a bundle, by layer, from its graphs."""

from __future__ import annotations

from ..runtime.bundle import Bundle
from ..runtime.errors import ModelError
from .cost import Cost, total_cost
from .onnx_cost import count_graph

__all__ = ["count_bundle"]


def count_bundle(bundle: Bundle) -> Cost:
    """Strict cost of one score: every member, every view and every test-time crop of it.

    Raises:
        MissingExtraError: onnx is not installed.
        ModelError: a member has no ONNX graph, or one that cannot be counted.
    """
    costs: dict[str, Cost] = {}
    for member in bundle.manifest.members:
        graph = next((artefact for artefact in member.artefacts if artefact.target == "onnx"), None)
        if graph is None:
            raise ModelError(
                f"member {member.name!r}, which has no ONNX graph",
                expected="an ONNX graph of each member: an OpenVINO graph is not counted",
                mend="export it with --target onnx as well",
            )
        costs[member.name] = count_graph(bundle.read(graph.files[0]))
    return total_cost(costs)
