"""onnxruntime's CPU engine."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..manifest import Precision
from .compiled import CompiledCache
from .engine import GraphEngine, GraphInput

__all__ = ["OnnxRuntimeEngine", "declared_inputs", "session_options", "sums_saturate"]

_ERRORS_ONLY = 3

# An ONNX model of one node: MatMulInteger of uint8 [2, 8] by eight weights of 127 (0x7f).
_PROBE = (
    b'\x08\n\x12\x00:\\\n\x18\n\x01x\n\x01w\x12\x01y"\rMatMulInteger\x12\x01p*\x13\x08\x08\x08\x01\x10\x03B\x01wJ\x08'
    b"\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7fZ\x13\n\x01x\x12\x0e\n\x0c\x08\x02\x12\x08\n\x02\x08\x02\n\x02\x08\x08"
    b"b\x13\n\x01y\x12\x0e\n\x0c\x08\x06\x12\x08\n\x02\x08\x02\n\x02\x08\x01B\x04\n\x00\x10\x14"
)


def session_options(threads: int, *, is_int8: bool = True) -> onnxruntime.SessionOptions:
    """The options that every session is made with.

    Args:
        threads: of the session.
        is_int8: whether the graph may multiply INT8; asking the processor about that takes 10 ms.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # A member's threads would spin on while the next member's graph wants their cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if is_int8 and sums_saturate():
        # INT8 weights beyond 64 are then multiplied as uint8, which is exact, and slower.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


@cache
def sums_saturate() -> bool:
    """Whether onnxruntime, left alone, saturates the sums of uint8 times int8 on this processor: x86 without VNNI.

    It is asked for a sum that it would get wrong, as not every system tells what a processor has.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(_PROBE, options, providers=["CPUExecutionProvider"])
    largest = np.full((2, 8), 255, dtype=np.uint8)
    (sums,) = session.run(None, {"x": largest})
    return bool((sums != 8 * 255 * 127).any())


def declared_inputs(session: onnxruntime.InferenceSession) -> dict[str, GraphInput]:
    """A session's inputs, as its graph declares them."""
    return {
        node.name: GraphInput(
            node.type == "tensor(uint8)", tuple(side if isinstance(side, int) else None for side in node.shape)
        )
        for node in session.get_inputs()
    }


def _sessions(graph: bytes, options: onnxruntime.SessionOptions, count: int) -> list[onnxruntime.InferenceSession]:
    return [onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"]) for _ in range(count)]


class OnnxRuntimeEngine(GraphEngine):
    """ONNX graphs by onnxruntime's CPU provider; the precision is the one the graph's types say.

    INT8 scores are the same on x86 processors without VNNI, where they take longer (`session_options`). A graph that
    was optimised and kept gives the same scores, to the bit.
    """

    name = "onnxruntime"
    version = onnxruntime.__version__

    def _load(
        self,
        files: Sequence[bytes],
        precision: Precision,  # typed in the graph; the CPU provider has no switch that lowers it unasked
        threads: int,
    ) -> tuple[Mapping[str, GraphInput], Sequence[str]]:
        is_int8 = precision == "int8"
        # A session's threads are shared by whoever runs it: one of one thread runs in the caller's, of which there may
        # be many; where a run has several, each stream has a session, and the weights, of its own.
        count = 1 if threads == 1 else self.streams
        made: list[onnxruntime.InferenceSession] = []
        optimised = None if self.cache is None else self._optimised(files[0], self.cache, is_int8=is_int8)
        if optimised is not None:
            options = session_options(threads, is_int8=is_int8)
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            # What onnxruntime does not take again (it has an error type for each refusal) is loaded as it came.
            with contextlib.suppress(Exception):
                made = _sessions(optimised, options, count)
        if not made:
            made = _sessions(files[0], session_options(threads, is_int8=is_int8), count)
        self._sessions: SimpleQueue[onnxruntime.InferenceSession] = SimpleQueue()
        for session in made * (self.streams // count):
            self._sessions.put(session)
        return declared_inputs(made[0]), [node.name for node in made[0].get_outputs()]

    def _optimised(self, graph: bytes, cache: CompiledCache, *, is_int8: bool) -> bytes | None:
        """The graph as onnxruntime's optimiser leaves it for this processor, kept from an earlier start or made."""
        key = cache.key(self.name, self.version, "optimised", [graph])
        kept = cache.read(key)
        if kept is not None:
            return kept
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "optimised.onnx"
                options = session_options(1, is_int8=is_int8)
                options.optimized_model_filepath = str(path)
                onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
                made = path.read_bytes()
        # No folder for what is passing.
        except OSError:
            return None
        cache.write(key, made)
        return made

    def _infer(self, batch: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        session = self._sessions.get()
        try:
            return dict(zip(outputs, session.run(list(outputs), dict(batch)), strict=True))
        finally:
            self._sessions.put(session)
