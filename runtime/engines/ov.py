"""OpenVINO's CPU engine."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from queue import SimpleQueue

import numpy as np
import openvino
from numpy.typing import NDArray

from ..errors import EngineError
from ..manifest import INT8_ON_X86, Artefact, Precision
from .cpu import lacks_vnni
from .engine import GraphEngine, GraphInput

__all__ = ["OpenVinoEngine", "compile_settings", "read_graph"]

# OpenVINO computes in bf16 by itself on CPUs that have it; scores would then differ between machines, so it is told.
_HINTS: dict[Precision, str] = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}


def compile_settings(precision: Precision, threads: int, streams: int = 1) -> dict[str, str | int]:
    """The settings that every graph is compiled with.

    Args:
        precision: of the arithmetic.
        threads: of each stream.
        streams: runs at once.
    """
    told: dict[str, str | int] = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads * streams,
        "PERFORMANCE_HINT": "LATENCY",
    }
    return told if streams == 1 else {**told, "NUM_STREAMS": streams}


def read_graph(core: openvino.Core, files: Sequence[bytes]) -> openvino.Model:
    """Read an artefact's parts: an ONNX file, or xml and bin."""
    if len(files) == 1:
        return core.read_model(files[0])
    return core.read_model(files[0], openvino.Tensor(np.frombuffer(files[1], dtype=np.uint8)))


def _require_arithmetic(compiled: openvino.CompiledModel, precision: Precision) -> None:
    """Raise where OpenVINO took another precision than it was told: it does not say so itself."""
    names = {"f32": openvino.Type.f32, "f16": openvino.Type.f16, "bf16": openvino.Type.bf16}
    told, taken = names[_HINTS[precision]], compiled.get_property("INFERENCE_PRECISION_HINT")
    if taken != told:
        raise EngineError(
            f"OpenVINO, which computes in {taken.to_string()} on this processor where it is told {told.to_string()}",
            expected=f"a processor with {precision}",
            mend="choose another --precision",
        )


def _declared(port: openvino.Output) -> GraphInput:
    return GraphInput(
        port.element_type == openvino.Type.u8,
        tuple(None if side.is_dynamic else side.get_length() for side in port.partial_shape),
    )


class OpenVinoEngine(GraphEngine):
    """OpenVINO graphs (xml and bin) and ONNX graphs on the CPU."""

    name = "openvino"
    version = openvino.__version__.split("-")[0]

    @classmethod
    def require_processor(cls, artefact: Artefact) -> None:
        """Refuse 8-bit weights on x86 without VNNI, where OpenVINO's sums saturate; it has no switch for exact ones.

        Where the system does not tell what the processor has, it runs; `verify` compares the golden answers.

        Raises:
            EngineError: it is such a graph and such a processor.
        """
        if artefact.precision == "int8" and artefact.capability != INT8_ON_X86 and lacks_vnni():
            raise EngineError(
                "an INT8 graph with 8-bit weights on an x86 processor without VNNI, where OpenVINO's sums saturate",
                expected="a processor with VNNI, or 7-bit weights",
                mend="run an ONNX graph with --engine onnxruntime, which computes it exactly, or FP32 with --precision "
                "fp32; or export with 7-bit weights: --recipe FAMILY-openvino-7bit",
            )

    def _load(
        self, files: Sequence[bytes], precision: Precision, threads: int
    ) -> tuple[Mapping[str, GraphInput], Sequence[str]]:
        core = openvino.Core()
        settings = compile_settings(precision, threads, self.streams)
        compiled, key = None, ""
        if self.cache is not None:
            key = self.cache.key(self.name, openvino.__version__, (settings, sorted(self.inputs.items())), files)
            kept = self.cache.read(key)
            if kept is not None:
                # What OpenVINO does not take again is made again.
                with contextlib.suppress(RuntimeError):
                    compiled = core.import_model(kept, "CPU", settings)
        if compiled is None:
            graph = read_graph(core, files)
            inputs = {port.get_any_name(): _declared(port) for port in graph.inputs}
            # What is not as it should be is left for the caller to refuse.
            fitting = {name: [1, *shape] for name, shape in self.inputs.items() if name in inputs}
            if all(inputs[name].takes(tuple(shape)) for name, shape in fitting.items()):
                graph.reshape(fitting)
            compiled = core.compile_model(graph, "CPU", settings)
            if self.cache is not None:
                self.cache.write(key, compiled.export_model().getvalue())
        else:
            inputs = {port.get_any_name(): _declared(port) for port in compiled.inputs}
        _require_arithmetic(compiled, precision)
        self._requests: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        for _ in range(self.streams):
            self._requests.put(compiled.create_infer_request())
        self._ports = {name: port for port in compiled.outputs for name in port.get_names()}
        return inputs, list(self._ports)

    def _infer(self, batch: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        # A request serves one run at a time.
        request = self._requests.get()
        try:
            results = request.infer(dict(batch), share_inputs=True)
            # Its buffers are written again by the next photograph.
            return {name: np.array(results[self._ports[name]]) for name in outputs}
        finally:
            self._requests.put(request)
