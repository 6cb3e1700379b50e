"""onnxruntime's CPU engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..manifest import Precision
from .engine import GraphEngine, GraphInput

__all__ = ["OnnxRuntimeEngine", "declared_inputs", "session_options"]

_ERRORS_ONLY = 3


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """The options that every session is made with."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # A member's threads would spin on while the next member's graph wants their cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def declared_inputs(session: onnxruntime.InferenceSession) -> dict[str, GraphInput]:
    """A session's inputs, as its graph declares them."""
    return {
        node.name: GraphInput(
            node.type == "tensor(uint8)", tuple(side if isinstance(side, int) else None for side in node.shape)
        )
        for node in session.get_inputs()
    }


class OnnxRuntimeEngine(GraphEngine):
    """ONNX graphs by onnxruntime's CPU provider; the precision is the one the graph's types say."""

    name = "onnxruntime"
    version = onnxruntime.__version__

    def _load(
        self,
        files: Sequence[bytes],
        precision: Precision,  # noqa: ARG002 - typed in the graph; the CPU provider has no switch that lowers it unasked
        threads: int,
    ) -> tuple[Mapping[str, GraphInput], Sequence[str]]:
        self._session = onnxruntime.InferenceSession(
            files[0], session_options(threads), providers=["CPUExecutionProvider"]
        )
        return declared_inputs(self._session), [node.name for node in self._session.get_outputs()]

    def _infer(self, batch: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        return dict(zip(outputs, self._session.run(list(outputs), dict(batch)), strict=True))
