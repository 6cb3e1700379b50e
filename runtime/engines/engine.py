"""What an engine is, and the table of those there are."""

from __future__ import annotations

import contextlib
import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, MissingExtraError, UsageError
from ..manifest import Artefact, Precision, Target
from .compiled import CompiledCache
from .onnx_bytes import require_one_file

__all__ = ["ENGINES", "GraphEngine", "GraphInput", "available_threads", "installed_engines", "open_engine"]

# name: (module, class, libraries: it needs one, how that is installed, graphs it runs: the one it prefers first)
ENGINES: dict[str, tuple[str, str, tuple[str, ...], str, tuple[Target, ...]]] = {
    # A TensorRT artefact carries its ONNX graph, which any machine can check.
    "onnxruntime": (".ort", "OnnxRuntimeEngine", ("onnxruntime",), "pip install onnxruntime", ("onnx", "tensorrt")),
    "openvino": (
        ".ov",
        "OpenVinoEngine",
        ("openvino",),
        'pip install "edgeiqa[openvino]"',
        ("openvino", "onnx"),
    ),
    "tensorrt": (
        ".trt",
        "TensorRtEngine",
        ("tensorrt", "onnxruntime-ep-nv-tensorrt-rtx-cu13"),
        'pip install "edgeiqa[tensorrt]"',
        ("tensorrt", "onnx"),
    ),
}


@dataclass(frozen=True, slots=True)
class GraphInput:
    """An input as a graph declares it: whether it is uint8, and its shape with the batch, None where it is symbolic."""

    is_uint8: bool
    shape: tuple[int | None, ...]

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether a uint8 tensor of that shape may be given."""
        fits = (mine in (None, theirs) for mine, theirs in zip(self.shape, shape, strict=True))
        return self.is_uint8 and len(self.shape) == len(shape) and all(fits)

    def __str__(self) -> str:
        sides = ", ".join("N" if side is None else str(side) for side in self.shape)
        return f"{'uint8' if self.is_uint8 else 'not uint8'} [{sides}]"


class GraphEngine(ABC):
    """A graph, loaded and ready, on set threads and in a set precision.

    A subclass needs `_load` and `_infer`; this class checks what goes in and what comes out. A run is of one photograph
    (batch 1), so that a score never depends on its neighbours; as many threads as there are streams may `run` at once.

    Attributes:
        name: of the engine.
        version: of its library.
        inputs: shape of each view's tensor, without the batch.
        outputs: names the graph gives.
        threads: that a run may use.
        streams: runs that there may be at once.
        cache: of graphs that the engine prepared before, or None.
    """

    name: str
    version: str

    def __init__(
        self,
        files: Sequence[bytes],
        *,
        inputs: Mapping[str, tuple[int, ...]],
        outputs: Sequence[str],
        precision: Precision,
        threads: int,
        streams: int = 1,
        cache: CompiledCache | None = None,
    ) -> None:
        """Load a graph.

        Args:
            files: the artefact's parts, in its order.
            inputs: view name -> shape of its uint8 tensor, without the batch.
            outputs: names that the graph must have.
            precision: of the arithmetic; the engine is always told.
            threads: that a run may use.
            streams: runs that there may be at once.
            cache: of graphs that the engine prepared before; an engine that has nothing to keep passes it over.

        Raises:
            EngineError: the engine refuses the graph, or the graph's inputs or outputs are not these.
            MissingExtraError: the engine's library is not installed.
        """
        self.inputs = dict(inputs)
        self.outputs = tuple(outputs)
        self.threads = threads
        self.streams = streams
        self.cache = cache
        # Engines raise types of their own for a graph they refuse (and bare RuntimeErrors); all mean the same here.
        try:
            found_inputs, found_outputs = self._load(files, precision, threads)
        except (EngineError, MissingExtraError):
            raise
        except Exception as error:
            raise EngineError(
                f"{self.name} {self.version} refused the graph: {error}",
                expected="a graph it runs",
                mend="try another --engine, or export the bundle again",
            ) from error
        missing = sorted(set(self.outputs) - set(found_outputs))
        if set(found_inputs) != set(self.inputs) or missing:
            raise EngineError(
                f"a graph with inputs {sorted(found_inputs)} and outputs {sorted(found_outputs)}",
                expected=f"inputs {sorted(self.inputs)} and outputs {sorted(self.outputs)}",
                mend="export the bundle again",
            )
        for name, shape in self.inputs.items():
            if not found_inputs[name].takes((1, *shape)):
                raise EngineError(
                    f"a graph whose input {name!r} is {found_inputs[name]}",
                    expected=f"uint8 {[1, *shape]}, the view's shape",
                    mend="export the bundle again",
                )

    def run(
        self, views: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str] = ("score",)
    ) -> dict[str, NDArray[np.float32]]:
        """Run one photograph.

        Args:
            views: by view name, uint8 ``[H, W, 3]`` or ``[T, H, W, 3]``.
            outputs: names of those wanted.

        Returns:
            By output name, float32 without the batch: ``score`` is of shape ``()``, features are ``[C]``.

        Raises:
            EngineError: a view is not of the graph's shape, an output is unknown, or a result is not finite.
        """
        if set(views) != set(self.inputs):
            raise EngineError(f"views {sorted(views)}", expected=f"{sorted(self.inputs)}", mend="give just these")
        batch: dict[str, NDArray[np.uint8]] = {}
        for name, shape in self.inputs.items():
            view = views[name]
            if view.dtype != np.uint8 or view.shape != shape:
                raise EngineError(
                    f"view {name!r} of {view.dtype} {view.shape}",
                    expected=f"uint8 {shape}",
                    mend="cut it by the Preprocess",
                )
            batch[name] = np.ascontiguousarray(view)[None]
        unknown = sorted(set(outputs) - set(self.outputs))
        if unknown:
            raise EngineError(f"outputs {unknown}", expected=f"some of {self.outputs}", mend="ask for these")
        # Bare errors of an engine's own, as in loading.
        try:
            found = {name: np.asarray(result, np.float32) for name, result in self._infer(batch, outputs).items()}
        except Exception as error:
            raise EngineError(
                f"{self.name} {self.version} failed to run the graph: {error}",
                expected="a result",
                mend="try another --engine, or export the bundle again",
            ) from error
        odd = {name: result.shape for name, result in found.items() if not _is_of_one_photo(name, result)}
        if odd:
            raise EngineError(
                f"results of shapes {odd} for one photograph",
                expected="score of shape (1,), features of (1, C)",
                mend="export the bundle again",
            )
        results = {name: result[0] for name, result in found.items()}
        broken = sorted(name for name, result in results.items() if not np.isfinite(result).all())
        if broken:
            raise EngineError(
                f"{', '.join(broken)} of {self.name} that are not finite",
                expected="finite numbers",
                mend="run edgeiqa verify: the arithmetic overflows in this precision, or the weights are broken",
            )
        return results

    @classmethod  # noqa: B027 - an engine that runs all that it loads has nothing to refuse
    def require_processor(cls, artefact: Artefact) -> None:
        """Refuse an artefact that this machine's processor would compute wrongly.

        Raises:
            EngineError: it would.
        """

    @abstractmethod
    def _load(
        self, files: Sequence[bytes], precision: Precision, threads: int
    ) -> tuple[Mapping[str, GraphInput], Sequence[str]]:
        """Load the graph; returns its inputs by name and the names of its outputs."""

    @abstractmethod
    def _infer(self, batch: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Run a batch of one, ``[1, ...]`` in and out."""


def _is_of_one_photo(name: str, result: NDArray[np.float32]) -> bool:
    return result.shape == (1,) if name == "score" else result.ndim >= 1 and result.shape[0] == 1


def available_threads() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def installed_engines() -> dict[str, str | None]:
    """Each engine's version, or None where its library is not installed; nothing is loaded for it."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name, (_, _, libraries, _, _) in ENGINES.items():
        found[name] = None
        for library in reversed(libraries):
            with contextlib.suppress(PackageNotFoundError):
                found[name] = version(library)
    return found


def open_engine(
    name: str,
    artefact: Artefact,
    files: Sequence[bytes],
    *,
    inputs: Mapping[str, tuple[int, ...]],
    threads: int,
    streams: int = 1,
    cache: CompiledCache | None = None,
) -> GraphEngine:
    """Load an artefact's graph in the engine of that name, in the artefact's precision.

    Args:
        name: of the engine.
        artefact: whose graph it is.
        files: the artefact's parts, in its order.
        inputs: view name -> shape of its uint8 tensor, without the batch.
        threads: that a run may use.
        streams: runs that there may be at once.
        cache: of graphs that the engine prepared before.

    Raises:
        UsageError: there is no engine of that name.
        MissingExtraError: its library is not installed.
        EngineError: it does not run this artefact, or not rightly on this processor.
    """
    if name not in ENGINES:
        raise UsageError(f"engine {name!r}", expected=f"one of {', '.join(ENGINES)}", mend="name one of these")
    module_name, class_name, libraries, install, targets = ENGINES[name]
    if artefact.target not in targets:
        raise EngineError(
            f"a graph for {artefact.target}",
            expected=f"{' or '.join(targets)} for {name}",
            mend="name another --engine",
        )
    _require_form(artefact.target, files)
    try:
        module = importlib.import_module(module_name, __package__)
    except ModuleNotFoundError as error:
        if error.name not in libraries:
            raise
        raise MissingExtraError(f"no {error.name}", expected=f"{error.name}, to run on {name}", mend=install) from None
    engine_class: type[GraphEngine] = getattr(module, class_name)
    engine_class.require_processor(artefact)
    return engine_class(
        files,
        inputs=inputs,
        outputs=artefact.outputs,
        precision=artefact.precision,
        threads=threads,
        streams=streams,
        cache=cache,
    )


def _require_form(target: Target, files: Sequence[bytes]) -> None:
    """Engines guess a graph's form from its bytes; it must be the one that the manifest names."""
    if target in ("onnx", "tensorrt"):
        require_one_file(files[0])
    elif target == "openvino" and not (len(files) == 2 and files[0].startswith((b"<?xml", b"<net"))):
        raise EngineError(
            f"an OpenVINO graph of {len(files)} files that begins with {files[0][:8]!r}",
            expected="two: XML, then its weights",
            mend="export the bundle again",
        )
