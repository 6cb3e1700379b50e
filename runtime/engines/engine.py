"""What an engine is, and the table of those there are."""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, MissingExtraError, UsageError
from ..manifest import Artefact, Precision, Target

__all__ = ["ENGINES", "GraphEngine", "available_threads", "installed_engines", "open_engine"]

# name: (module, class, library it needs, how that is installed, graphs it runs: the one it prefers first)
ENGINES: dict[str, tuple[str, str, str, str, tuple[Target, ...]]] = {
    "onnxruntime": (".ort", "OnnxRuntimeEngine", "onnxruntime", "pip install onnxruntime", ("onnx",)),
    "openvino": (
        ".ov",
        "OpenVinoEngine",
        "openvino",
        'pip install "edgeiqa[openvino]"',
        ("openvino", "onnx"),
    ),
}


class GraphEngine(ABC):
    """A graph, loaded and ready, on set threads and in a set precision.

    A subclass needs `_load` and `_infer`; this class checks what goes in and what comes out. Photographs are run one at
    a time (batch 1), so that a score never depends on its neighbours.

    Attributes:
        name: of the engine.
        version: of its library.
        inputs: shape of each view's tensor, without the batch.
        outputs: names the graph gives.
        threads: it may use.
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
    ) -> None:
        """Load a graph.

        Args:
            files: the artefact's parts, in its order.
            inputs: view name -> shape of its uint8 tensor, without the batch.
            outputs: names that the graph must have.
            precision: of the arithmetic; the engine is always told.
            threads: to use.

        Raises:
            EngineError: the engine refuses the graph, or the graph's inputs or outputs are not these.
        """
        self.inputs = dict(inputs)
        self.outputs = tuple(outputs)
        self.threads = threads
        # Engines raise types of their own for a graph they refuse (and bare RuntimeErrors); all mean the same here.
        try:
            found_inputs, found_outputs = self._load(files, precision, threads)
        except EngineError:
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
        results = {
            name: np.asarray(result, dtype=np.float32)[0] for name, result in self._infer(batch, outputs).items()
        }
        broken = sorted(name for name, result in results.items() if not np.isfinite(result).all())
        if broken:
            raise EngineError(
                f"{', '.join(broken)} of {self.name} that are not finite",
                expected="finite numbers",
                mend="run edgeiqa verify; the graph's arithmetic overflows in this precision, or its weights are broken",
            )
        return results

    @abstractmethod
    def _load(self, files: Sequence[bytes], precision: Precision, threads: int) -> tuple[Sequence[str], Sequence[str]]:
        """Load the graph; returns the names of its inputs and outputs."""

    @abstractmethod
    def _infer(self, batch: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Run a batch of one, ``[1, ...]`` in and out."""


def available_threads() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def installed_engines() -> dict[str, str | None]:
    """Each engine's version, or None where its library is not installed; nothing is loaded for it."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name, (_, _, library, _, _) in ENGINES.items():
        try:
            found[name] = version(library)
        except PackageNotFoundError:
            found[name] = None
    return found


def open_engine(
    name: str,
    artefact: Artefact,
    files: Sequence[bytes],
    *,
    inputs: Mapping[str, tuple[int, ...]],
    threads: int,
) -> GraphEngine:
    """Load an artefact's graph in the engine of that name, in the artefact's precision.

    Raises:
        UsageError: there is no engine of that name.
        MissingExtraError: its library is not installed.
        EngineError: it does not run this artefact.
    """
    if name not in ENGINES:
        raise UsageError(f"engine {name!r}", expected=f"one of {', '.join(ENGINES)}", mend="name one of these")
    module_name, class_name, library, install, targets = ENGINES[name]
    if artefact.target not in targets:
        raise EngineError(
            f"a graph for {artefact.target}",
            expected=f"{' or '.join(targets)} for {name}",
            mend="name another --engine",
        )
    try:
        module = importlib.import_module(module_name, __package__)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise MissingExtraError(f"no {library}", expected=f"{library}, to run on {name}", mend=install) from None
    engine_class: type[GraphEngine] = getattr(module, class_name)
    return engine_class(files, inputs=inputs, outputs=artefact.outputs, precision=artefact.precision, threads=threads)
