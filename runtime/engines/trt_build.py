"""From an ONNX graph to a TensorRT engine: the calls that TensorRT 10.3, TensorRT 11 and TensorRT-RTX share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import EngineError, require_field

__all__ = ["BatchProfile", "BuiltEngine", "build_engine"]


@dataclass(frozen=True, slots=True)
class BatchProfile:
    """The batches an engine takes, and the one its kernels are chosen for; all other sides are fixed."""

    smallest: int = 1
    typical: int = 4
    largest: int = 8

    def __post_init__(self) -> None:
        require_field(
            1 <= self.smallest <= self.typical <= self.largest,
            f"a batch profile {self}",
            "1 <= smallest <= typical <= largest",
        )

    def __str__(self) -> str:
        return f"{self.smallest}-{self.typical}-{self.largest}"


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine as its builder gave it.

    Attributes:
        data: the serialized engine.
        build_s: seconds from the graph to the engine.
        layers: the builder's own listing of the engine's layers; empty where it printed none.
    """

    data: bytes
    build_s: float
    layers: str


def build_engine(
    trt: Any, graph: bytes, *, batch: BatchProfile, capabilities: Sequence[int] = (), title: str = "TensorRT"
) -> BuiltEngine:
    """Build an engine, strongly typed: every type is the one that the graph says.

    TF32, which TensorRT would use for FP32 products by itself, is off: it rounds their inputs to 11 bits.

    Args:
        trt: the module ``tensorrt`` or ``tensorrt_rtx_bindings``.
        graph: ONNX, whole in one file; of its inputs only the batch may be symbolic.
        batch: that the engine takes.
        capabilities: compute capabilities to build for without a GPU, such as 86 (TensorRT-RTX); none: this GPU.
        title: of the library, for messages.

    Raises:
        EngineError: TensorRT refuses the graph (each error with the node it is about), or gives no engine.
    """
    log = _recorder(trt)
    started = time.perf_counter()
    builder = trt.Builder(log)
    # TensorRT 11 knows nothing but strongly typed networks, and takes the flag all the same.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph):
        errors = [_describe(parser.get_error(index)) for index in range(parser.num_errors)]
        raise EngineError(
            f"{title} refused the graph: {'; '.join(dict.fromkeys(errors)) or '; '.join(log.errors)}",
            expected="a graph of operators and types it has",
            mend="run edgeiqa lint GRAPH.onnx --target tensorrt to see what to change",
        )
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    # Without it an engine does not tell its layers' types.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
        for place, capability in enumerate(capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability}"), place)
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if min(shape[1:], default=1) < 1:
            raise EngineError(
                f"input {tensor.name!r} of shape {list(shape)}",
                expected="fixed sides, all but the batch",
                mend="export the bundle again",
            )
        batches = (batch.smallest, batch.typical, batch.largest)
        profile.set_shape(tensor.name, *((count, *shape[1:]) for count in batches))
    config.add_optimization_profile(profile)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise EngineError(
            f"{title} built no engine: {'; '.join(log.errors) or 'it does not say why'}",
            expected="an engine",
            mend="run edgeiqa lint GRAPH.onnx --target tensorrt, or build for other compute capabilities",
        )
    return BuiltEngine(bytes(memoryview(serialized)), time.perf_counter() - started, log.layers)


def _describe(error: Any) -> str:
    about = " ".join(part for part in (error.node_operator(), error.node_name()) if part)
    lines = str(error.desc()).splitlines()
    # Without a GPU every refusal has a line on that, too.
    told = " ".join([line for line in lines if "cudaError" not in line] or lines)
    return f"{about}: {told}" if about else told


def _recorder(trt: Any) -> Any:
    """A logger that keeps errors and the listing of layers, and prints nothing."""

    class Recorder(trt.ILogger):  # type: ignore[misc] # the module is not known before it runs
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.layers = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(message)
            elif message.startswith("Layers:"):
                self.layers = message

    return Recorder()
