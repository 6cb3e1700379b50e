"""Teachers that are graphs: bundles and ONNX files, run by the runtime's engines on the CPU."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..runtime.bundle import Bundle
from ..runtime.engines.engine import GraphEngine, available_threads, open_engine
from ..runtime.engines.onnx_bytes import require_one_file
from ..runtime.errors import EngineError, ModelError, RecordError, UsageError
from ..runtime.manifest import Artefact, Member
from ..runtime.preprocess import Preprocess, Resize, View
from ..runtime.score_map import ScoreMap
from ..runtime.scorer import choose_artefact
from .teacher_members import Features, Teacher, TeacherMember, Views, member_key, range_map

__all__ = ["bundle_teacher", "onnx_teacher"]

_GREY = 128


def bundle_teacher(path: Path, *, threads: int | None = None) -> Teacher:
    """The members of a bundle, in its own engine and precision; what they were trained on is not known.

    Args:
        path: of the bundle.
        threads: processors to use; all if None. Scores do not depend on it.

    Raises:
        BundleError: it must not be used.
        ModelError: its scores compare only inside a scene, or a feature is not pooled.
        EngineError, MissingExtraError: its engine is not here or refuses a graph.
    """
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    if manifest.scale.comparable != "global":
        raise ModelError(
            f"{path}, whose scores compare only inside a scene",
            expected="a teacher whose scores compare anywhere",
            mend="name another teacher",
        )
    members = tuple(_bundle_member(bundle, member, threads) for member in manifest.members)
    return Teacher(name=manifest.name, members=members, combine=manifest.combine)


def _bundle_member(bundle: Bundle, member: Member, threads: int | None) -> TeacherMember:
    manifest = bundle.manifest
    artefact = choose_artefact(member, manifest.engine, manifest.precision)
    files = [bundle.read(name) for name in artefact.files]
    scale = manifest.scale

    def count() -> int | None:
        return artefact.macs if artefact.macs is not None else _count(artefact, files)

    return _graph_member(
        member.name,
        manifest.engine,
        artefact,
        files,
        member.preprocess,
        scale=(scale.low, scale.high, scale.higher_is_better),
        count_macs=cache(count),
        threads=threads,
    )


def onnx_teacher(
    path: Path,
    *,
    size: tuple[int, int] | None = None,
    raw_range: tuple[float, float] = (0.0, 1.0),
    threads: int | None = None,
) -> Teacher:
    """An ONNX graph of this project's contract: uint8 NHWC inputs, ``score``, any ``features.NAME``.

    Each input sees the whole photograph, resized (bicubic, antialias) to the input's size.

    Args:
        path: of the file, whole in itself.
        size: width and height of the inputs, where the graph leaves them open.
        raw_range: lowest and highest raw score, mapped to 0-100 by a straight line.
        threads: as in `bundle_teacher`.

    Raises:
        ModelError: no such file, or inputs or outputs that the contract does not know.
        UsageError: ``size`` is missing, or not the graph's.
        EngineError: the engine refuses the graph.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror or error})", expected="an ONNX file", mend="correct the path"
        ) from error
    preprocess, outputs = _read_contract(path, data, size)
    artefact = Artefact(
        target="onnx",
        precision="fp32",
        stored_as="fp32",
        files=(path.name,),
        outputs=outputs,
        score_map=range_map(*raw_range),
        golden_raw=(),
        golden_tolerance=1.0,
    )
    member = _graph_member(
        path.stem,
        "onnxruntime",
        artefact,
        [data],
        preprocess,
        scale=(0.0, 100.0, True),
        count_macs=cache(lambda: _count(artefact, [data])),
        threads=threads,
        raw_range=raw_range,
    )
    return Teacher(name=path.stem, members=(member,))


def _read_contract(path: Path, data: bytes, size: tuple[int, int] | None) -> tuple[Preprocess, tuple[str, ...]]:
    """The views that a graph's inputs ask for, and its outputs."""
    import onnxruntime

    require_one_file(data)
    # onnxruntime raises types of its own.
    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EngineError(
            f"onnxruntime refused {path}: {error}", expected="a graph it runs", mend="export it again"
        ) from error
    outputs = [node.name for node in session.get_outputs()]
    if "score" not in outputs:
        raise ModelError(
            f"{path} with the outputs {', '.join(outputs)}",
            expected="score [N], and features.NAME [N, C] if there are any",
            mend="name its outputs so",
        )
    views = []
    for node in session.get_inputs():
        shape = [side if isinstance(side, int) else None for side in node.shape]
        if node.type != "tensor(uint8)" or len(shape) != 4 or shape[3] != 3:
            raise ModelError(
                f"{path} with the input {node.name!r}, {node.type} {node.shape}",
                expected="uint8 [N, H, W, 3] (views of several images need a bundle, which says how they are cut)",
                mend="put cast, transpose and normalisation into the graph, or make a bundle of it",
            )
        width, height = _size_of(path, node.name, (shape[2], shape[1]), size)
        try:
            views.append(View(name=node.name, operations=(Resize(width=width, height=height),)))
        except RecordError as error:
            raise ModelError(f"{path}: {error.got}", expected=error.expected, mend="name its input so") from error
    features = [name for name in outputs if name.startswith("features.")]
    return Preprocess(views=tuple(views)), ("score", *features)


def _size_of(
    path: Path, name: str, stated: tuple[int | None, int | None], wanted: tuple[int, int] | None
) -> tuple[int, int]:
    """Width and height of an input: the graph's, or those asked for where it leaves them open."""
    here = "x".join("any" if side is None else str(side) for side in stated)
    if wanted is not None and any(side not in (None, asked) for side, asked in zip(stated, wanted, strict=True)):
        raise UsageError(
            f"a size of {wanted[0]}x{wanted[1]} for {path}, whose input {name!r} is {here}",
            expected="the graph's own size",
            mend="leave ?size= out",
        )
    width, height = wanted or stated
    if width is None or height is None:
        raise UsageError(
            f"{path}, whose input {name!r} is {here}",
            expected="a size",
            mend=f"state it: {path}?size=WIDTHxHEIGHT",
        )
    return width, height


def _graph_member(
    name: str,
    engine_name: str,
    artefact: Artefact,
    files: Sequence[bytes],
    preprocess: Preprocess,
    *,
    scale: tuple[float, float, bool],
    count_macs: Callable[[], int | None],
    threads: int | None,
    raw_range: tuple[float, float] | None = None,
) -> TeacherMember:
    workers = threads or available_threads()
    # onnxruntime takes photographs side by side, one thread each, so that the sums of a score never depend on how
    # many there are; OpenVINO's request takes one at a time.
    side_by_side = engine_name == "onnxruntime"
    engine = open_engine(engine_name, artefact, files, inputs=preprocess.shapes, threads=1 if side_by_side else workers)
    outputs = ("score", *(output for output in artefact.outputs if output.startswith("features.")))
    widths = _feature_widths(engine, name, outputs)

    def forward(views: Views) -> tuple[NDArray[np.float64], Features]:
        def run_one(row: int) -> dict[str, NDArray[np.float32]]:
            return engine.run({view: pixels[row] for view, pixels in views.items()}, outputs)

        rows = range(len(next(iter(views.values()))))
        if side_by_side and workers > 1 and len(rows) > 1:
            with ThreadPoolExecutor(workers) as pool:
                results = list(pool.map(run_one, rows))
        else:
            results = [run_one(row) for row in rows]
        features = {output: np.stack([result[output] for result in results]) for output in widths}
        return np.array([float(result["score"]) for result in results], dtype=np.float64), features

    low, high, higher_is_better = scale
    weights = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in files)).digest()
    facts = (engine_name, artefact.precision)
    score_map: ScoreMap = artefact.score_map
    return TeacherMember(
        name=name,
        key=member_key("graph", preprocess, outputs, facts, weights),
        preprocess=preprocess,
        score_map=score_map,
        low=low,
        high=high,
        higher_is_better=higher_is_better,
        feature_widths=widths,
        forward=forward,
        count_macs=count_macs,
        raw_range=raw_range,
    )


def _feature_widths(engine: GraphEngine, name: str, outputs: Sequence[str]) -> Mapping[str, int]:
    """Lengths of the feature vectors, found by running a grey photograph."""
    grey = {view: np.full(shape, _GREY, dtype=np.uint8) for view, shape in engine.inputs.items()}
    features = {output: feature for output, feature in engine.run(grey, outputs).items() if output != "score"}
    maps = {output: feature.shape for output, feature in features.items() if feature.ndim != 1}
    if maps:
        raise ModelError(
            f"features of {name} that are not pooled: {maps} for one photograph",
            expected="vectors (C,)",
            mend="average them over their positions in the graph",
        )
    return {output: len(feature) for output, feature in features.items()}


def _count(artefact: Artefact, files: Sequence[bytes]) -> int | None:
    """Strict multiply-adds of an ONNX graph; None for other forms, and without the library onnx."""
    if artefact.target != "onnx" or importlib.util.find_spec("onnx") is None:
        return None
    from ..profiles.onnx_cost import count_graph

    return count_graph(files[0]).macs
