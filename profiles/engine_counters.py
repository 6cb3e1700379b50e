"""What an engine ran, layer by layer, from its own profiler: onnxruntime's profile, OpenVINO's performance counters.

Engines fuse layers, reorder tensors and compile what they like; these are the layers as they were run, with the shapes
that the engine gives for them, so that nothing has to be guessed from the names of the graph that it was given.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..runtime.errors import UsageError
from ..runtime.manifest import Precision

__all__ = ["ExecutedLayer", "parse_ort_profile", "run_with_counters", "times_of_running_means"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ExecutedLayer:
    """A layer as an engine ran it.

    Attributes:
        name: the engine's.
        engine_type: its kind of layer, such as ``Conv`` or ``FullyConnected``.
        kernel: of the implementation, such as ``brgconv_avx512_1x1_f32``; empty where the engine does not tell.
        precision: of its arithmetic; None where that is none of ours (integers that are shapes).
        times_ms: of each run.
        inputs: shapes, weights among them.
        outputs: shapes.
        bytes_moved: of inputs, weights and outputs, each once.
        fused: names of the graph's nodes that it stands for, where the engine tells.
    """

    name: str
    engine_type: str
    kernel: str
    precision: Precision | None
    times_ms: tuple[float, ...]
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    bytes_moved: int
    fused: tuple[str, ...] = ()


def run_with_counters(
    engine: str,
    files: Sequence[bytes],
    feeds: Mapping[str, NDArray[Any]],
    *,
    precision: Precision,
    threads: int,
    warmup: int,
    runs: int,
) -> tuple[ExecutedLayer, ...]:
    """Load a graph with the engine's profiler on, run it, and read what was run.

    Args:
        engine: ``onnxruntime`` or ``openvino``, which must be installed.
        files: the graph's parts.
        feeds: by input name, with the batch.
        precision: that the engine is told.
        threads: of the engine.
        warmup: runs that are not read, from 0.
        runs: that are read, from 1; few, since OpenVINO's counters grow coarser with each (`times_of_running_means`).

    Returns:
        The layers in the order in which they ran; empty where the engine has no counters for this graph.

    Raises:
        UsageError: an engine whose profiler is not known here.
    """
    if engine == "onnxruntime":
        return _run_ort(files, feeds, threads, warmup, runs)
    if engine == "openvino":
        return _run_openvino(files, feeds, precision, threads, warmup, runs)
    raise UsageError(
        f"the profiler of engine {engine!r}", expected="onnxruntime or openvino", mend="name one of these by --engine"
    )


_ORT_TYPES: dict[str, Precision] = {
    "float": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "int8": "int8",
    "uint8": "int8",
}


def _run_ort(
    files: Sequence[bytes], feeds: Mapping[str, NDArray[Any]], threads: int, warmup: int, runs: int
) -> tuple[ExecutedLayer, ...]:
    import onnxruntime

    from ..runtime.engines.ort import session_options

    def profile(count: int, *, packed: bool) -> Any:
        with tempfile.TemporaryDirectory(prefix="edgeiqa-") as folder:
            options = session_options(threads)
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            if not packed:
                options.add_session_config_entry("session.disable_prepacking", "1")
            session = onnxruntime.InferenceSession(files[0], options, providers=["CPUExecutionProvider"])
            for _ in range(count):
                session.run(None, dict(feeds))
            return json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))

    timed = parse_ort_profile(profile(warmup + runs, packed=True), warmup)
    # A weight that was packed for its kernel is gone from the profile: its shape is read from another session.
    whole = {layer.name: layer for layer in parse_ort_profile(profile(1, packed=False), 0)}
    return tuple(_with_weights(layer, whole.get(layer.name)) for layer in timed)


def _with_weights(layer: ExecutedLayer, whole: ExecutedLayer | None) -> ExecutedLayer:
    if whole is None or (whole.engine_type, whole.outputs) != (layer.engine_type, layer.outputs):
        return layer
    return replace(layer, inputs=whole.inputs, bytes_moved=max(layer.bytes_moved, whole.bytes_moved))


def parse_ort_profile(events: Iterable[Mapping[str, Any]], warmup: int) -> tuple[ExecutedLayer, ...]:
    """Read the events of onnxruntime's profile (a JSON list), over several runs of the same graph.

    Args:
        events: as `onnxruntime.InferenceSession.end_profiling` wrote them; durations in microseconds.
        warmup: runs to be left out.
    """
    first: dict[str, Mapping[str, Any]] = {}
    times_ms: dict[str, list[float]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith("_kernel_time"):
            continue
        # Names need not be unique, and may be empty.
        key = f"{event['args'].get('node_index', '')} {name}"
        first.setdefault(key, event)
        times_ms.setdefault(key, []).append(float(event["dur"]) / 1e3)
    layers = []
    for key, event in first.items():
        facts = event["args"]
        inputs = [next(iter(tensor.items())) for tensor in facts.get("input_type_shape", []) if tensor]
        outputs = [next(iter(tensor.items())) for tensor in facts.get("output_type_shape", []) if tensor]
        types = [_ORT_TYPES[kind] for kind, _ in (*inputs[:1], *outputs[:1]) if kind in _ORT_TYPES]
        layers.append(
            ExecutedLayer(
                name=str(event["name"]).removesuffix("_kernel_time"),
                engine_type=str(facts.get("op_name", "")),
                kernel="",
                precision=types[0] if types else None,
                times_ms=tuple(times_ms[key][warmup:]),
                inputs=tuple(tuple(shape) for _, shape in inputs),
                outputs=tuple(tuple(shape) for _, shape in outputs),
                bytes_moved=sum(int(facts.get(f"{part}_size", 0)) for part in ("activation", "parameter", "output")),
            )
        )
    return tuple(layer for layer in layers if layer.times_ms)


_OPENVINO_TYPES: dict[str, Precision] = {
    "f32": "fp32",
    "f16": "fp16",
    "bf16": "bf16",
    "i8": "int8",
    "u8": "int8",
}
_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}


def _run_openvino(
    files: Sequence[bytes],
    feeds: Mapping[str, NDArray[Any]],
    precision: Precision,
    threads: int,
    warmup: int,
    runs: int,
) -> tuple[ExecutedLayer, ...]:
    import openvino

    from ..runtime.engines.ov import compile_settings, read_graph

    core = openvino.Core()
    graph = read_graph(core, files)
    graph.reshape({name: list(tensor.shape) for name, tensor in feeds.items()})
    compiled = core.compile_model(graph, "CPU", compile_settings(precision, threads) | {"PERF_COUNT": True})
    request = compiled.create_infer_request()
    means_us: dict[str, list[float]] = {}
    kinds: dict[str, tuple[str, str]] = {}
    for _ in range(warmup + runs):
        request.infer(dict(feeds), share_inputs=True)
        for counter in request.get_profiling_info():
            means_us.setdefault(counter.node_name, []).append(counter.real_time.total_seconds() * 1e6)
            # The others were fused into these. A mean under a microsecond is for a moment shown as not run.
            if counter.status == openvino.ProfilingInfo.Status.EXECUTED:
                kinds[counter.node_name] = (counter.node_type, counter.exec_type)
    times_ms = {name: times_of_running_means(means_us[name])[warmup:] for name in kinds}
    layers = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        name = node.get_friendly_name()
        if name in times_ms:
            facts = node.get_rt_info()
            told = _OPENVINO_TYPES.get(_fact(facts, "runtimePrecision"))
            fused = _fact(facts, "originalLayersNames")
            layers.append(
                ExecutedLayer(
                    name=name,
                    engine_type=kinds[name][0],
                    kernel=kinds[name][1],
                    precision=told,
                    times_ms=times_ms[name],
                    inputs=tuple(_shape_of(port) for port in node.inputs()),
                    outputs=tuple(_shape_of(port) for port in node.outputs()),
                    bytes_moved=_openvino_bytes(node, told),
                    fused=tuple(part for part in fused.split(",") if part),
                )
            )
    return tuple(layers)


def times_of_running_means(means_us: Sequence[float]) -> tuple[float, ...]:
    """Each run's time, in milliseconds, of counters that give the mean of all runs so far.

    OpenVINO's do, in whole microseconds, rounded down; so the time of run n is known to n microseconds.

    Args:
        means_us: after the first run, the second, and so on, in microseconds.
    """
    # The sum of n runs is n means and up to n - 1 microseconds more: the middle of that.
    sums = [0.0, *(mean * count + (count - 1) / 2 for count, mean in enumerate(means_us, start=1))]
    return tuple(max(0.0, after - before) / 1e3 for before, after in pairwise(sums))


def _fact(facts: Any, name: str) -> str:
    return str(facts[name].astype(str)) if name in facts else ""


def _shape_of(port: Any) -> Shape:
    shape = port.get_partial_shape()
    return tuple(shape.to_shape()) if shape.is_static else ()


def _openvino_bytes(node: Any, precision: Precision | None) -> int:
    """Weights are shown as they were given; the compiled layer holds them in the precision that it computes in."""
    widest = _BYTES[precision] if precision else 8
    moved = sum(prod(_shape_of(port)) * port.get_element_type().size for port in node.outputs())
    for port in node.inputs():
        size = port.get_element_type().size
        is_constant = port.get_source_output().get_node().get_type_name() in ("Const", "Constant")
        moved += prod(_shape_of(port)) * (min(size, widest) if is_constant else size)
    return int(moved)
