"""From an ONNX graph to a TensorRT engine where this machine can build one, else to all that a device needs for it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..runtime.engines.trt_build import BatchProfile, build_engine
from ..runtime.errors import EngineError, ExportError
from .engine_cache import EngineCache, EngineRecord
from .float_graph import load_graph
from .tensorrt_inspect import EngineLayers, inspect_engine
from .tensorrt_library import NoTensorRt, TensorRtLibrary, find_library
from .tensorrt_script import build_script, trtexec_line

if TYPE_CHECKING:
    import onnx

__all__ = ["TensorRtResult", "to_tensorrt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRtResult:
    """What came of a graph.

    Attributes:
        case: ``tensorrt``: an engine for this machine's GPU; ``tensorrt-rtx``: one built ahead of time; ``not built``:
            the graph with the means to build.
        onnx: the graph, as it was given.
        engine: serialized; None where none was built.
        library: name and version of what built it; empty where nothing did.
        capabilities: compute capabilities it is for, such as 86.
        capability: the same for a person, as `Artefact.capability` has it; empty where nothing was built.
        batch: that the engine takes.
        build_s: seconds that building took, in this call or the one whose engine was found in the cache.
        cached: whether it was found there.
        layers: precisions of the engine's layers; None where nothing was built.
        reason: why nothing was built, and what would help; empty where something was.
        script: a Python script by which a device builds its own engine (``build_engine.py``).
        trtexec: the same in one line for TensorRT's own tool.
    """

    case: Literal["tensorrt", "tensorrt-rtx", "not built"]
    onnx: bytes
    engine: bytes | None
    library: str
    capabilities: tuple[int, ...]
    capability: str
    batch: BatchProfile
    build_s: float | None
    cached: bool
    layers: EngineLayers | None
    reason: str
    script: str
    trtexec: str

    @property
    def files(self) -> tuple[bytes, ...]:
        """Parts of the artefact: the graph, and the engine where there is one."""
        return (self.onnx,) if self.engine is None else (self.onnx, self.engine)

    def __str__(self) -> str:
        if self.engine is None:
            return f"not built: {self.reason}"
        when = "found in the cache, built" if self.cached else "built"
        return f"{self.capability}: {len(self.engine) / 1e6:.2f} MB, {when} in {self.build_s:.1f} s"


def to_tensorrt(
    onnx_graph: bytes,
    *,
    capabilities: Sequence[int] = (),
    batch: BatchProfile | None = None,
    cache: Path | None = None,
) -> TensorRtResult:
    """Do the best this machine allows with a graph.

    Where `tensorrt` (10.3 or later, or 11) and a GPU are here, an engine for that GPU; where TensorRT-RTX is installed,
    one engine for all the compute capabilities together, which needs no GPU; else none. Engines are strongly typed and
    take fixed sizes and the batches of the profile.

    Args:
        onnx_graph: whole in one file; its types are the engine's precision.
        capabilities: compute capabilities such as 86; none: see `tensorrt_library.find_library`.
        batch: 1 to 8, best at 4, unless said.
        cache: folder of engines that were built before; None: nothing is looked up or kept.

    Raises:
        UsageError: a compute capability that the library does not build for.
        ExportError: TensorRT refuses the graph: each of its errors, with the node.
        MissingExtraError: onnx is not installed.
    """
    profile = batch or BatchProfile()
    model = load_graph(onnx_graph)
    shapes = _fixed_shapes(model)
    library = find_library(capabilities)
    script, trtexec = build_script(shapes, profile), trtexec_line(shapes, profile)
    if isinstance(library, NoTensorRt):
        return TensorRtResult(
            case="not built",
            onnx=onnx_graph,
            engine=None,
            library="",
            capabilities=(),
            capability="",
            batch=profile,
            build_s=None,
            cached=False,
            layers=None,
            reason=f"{library.reason}; {library.mend}, or build on the device",
            script=script,
            trtexec=trtexec,
        )
    device = library.gpu.name if library.kind == "tensorrt" and library.gpu else ""
    engines = None if cache is None else EngineCache(cache)
    found = engines and engines.find(onnx_graph, library.title, library.capabilities, device, str(profile))
    engine, record = found or _build(onnx_graph, model, library, device, profile)
    if engines is not None and not found:
        engines.keep(onnx_graph, engine, record)
    return TensorRtResult(
        case=library.kind,
        onnx=onnx_graph,
        engine=engine,
        library=library.title,
        capabilities=library.capabilities,
        capability=_capability(library, device),
        batch=profile,
        build_s=record.build_s,
        cached=bool(found),
        layers=record.layers,
        reason="",
        script=script,
        trtexec=trtexec,
    )


def _build(
    graph: bytes, model: onnx.ModelProto, library: TensorRtLibrary, device: str, batch: BatchProfile
) -> tuple[bytes, EngineRecord]:
    capabilities = library.capabilities if library.kind == "tensorrt-rtx" else ()
    try:
        built = build_engine(library.module, graph, batch=batch, capabilities=capabilities, title=library.title)
    except EngineError as error:
        raise ExportError(error.got, expected=error.expected, mend=error.mend) from error
    return built.data, EngineRecord(
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        library=library.title,
        capabilities=library.capabilities,
        device=device,
        batch=str(batch),
        engine_sha256=hashlib.sha256(built.data).hexdigest(),
        build_s=built.build_s,
        layers=inspect_engine(built, library, model),
    )


def _capability(library: TensorRtLibrary, device: str) -> str:
    dotted = ", ".join(f"{capability // 10}.{capability % 10}" for capability in library.capabilities)
    return f"{library.title}, compute capability {dotted}" + (f" ({device})" if device else "")


def _fixed_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs without the batch.

    Raises:
        ExportError: a side other than the batch is symbolic.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for value in model.graph.input:
        declared = value.type.tensor_type.shape.dim
        sides = tuple(side.dim_value for side in declared)
        if len(sides) < 2 or min(sides[1:]) < 1:
            raise ExportError(
                f"input {value.name!r} of sides {[side.dim_param or side.dim_value for side in declared]}",
                expected="fixed sides, all but the batch",
                mend="export the graph again with a fixed size",
            )
        shapes[value.name] = sides[1:]
    return shapes
