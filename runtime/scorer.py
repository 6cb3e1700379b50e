"""Scoring photographs: views, graphs, score maps, combination."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .decode import PhotoSource, open_photo
from .engines.engine import ENGINES, GraphEngine, available_threads, open_engine
from .errors import EdgeIQAError, EngineError, UsageError
from .manifest import Artefact, Manifest, Member
from .preprocess import Preprocess
from .views import cut_views

__all__ = ["Score", "Scorer", "choose_artefact", "combine_raw", "default_bundle", "ensemble_bundle", "load"]

_AHEAD = 4
"""Photographs decoded ahead of the graph; bounds what is held in memory."""


@dataclass(frozen=True, slots=True)
class Score:
    """The answer for one photograph.

    Attributes:
        value: combined score on the bundle's scale; None where the photograph cannot be read.
        members: each member's mapped score, in the bundle's order.
        spread: population standard deviation of ``members``; None for one member.
        width: of the photograph as a person sees it, in pixels.
        height: likewise.
        error: why there is no score.
        path: where `Scorer.score_many` read it.
    """

    value: float | None
    members: tuple[float, ...] = ()
    spread: float | None = None
    width: int | None = None
    height: int | None = None
    error: str | None = None
    path: str | None = None


Size = tuple[int, int]
Views = dict[Preprocess, dict[str, NDArray[np.uint8]]]


class Scorer:
    """A bundle, loaded and ready to score.

    Attributes:
        bundle: what was loaded.
        engine: that runs it.
        precision: of its arithmetic.
        threads: of the engine.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        engine: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Load a bundle's graphs.

        Args:
            bundle: opened.
            engine: another than the bundle names.
            precision: another than the bundle names.
            threads: of the engine; all processors of this process unless said.

        Raises:
            UsageError: the bundle has no artefact for that engine and precision, or threads is not positive.
            MissingExtraError: the engine's library is not installed.
            BundleHashError: a graph is not what the manifest says.
            EngineError: the engine refuses a graph.
        """
        if threads is not None and threads < 1:
            raise UsageError(f"{threads} threads", expected="at least one", mend="give --threads 1 or more")
        manifest = bundle.manifest
        self.bundle = bundle
        self.engine: str = engine or manifest.engine
        self.precision: str = precision or manifest.precision
        self.threads = threads or available_threads()
        self.artefacts: dict[str, Artefact] = {
            member.name: choose_artefact(member, self.engine, self.precision) for member in manifest.members
        }
        self._engines: dict[str, GraphEngine] = {
            member.name: open_engine(
                self.engine,
                self.artefacts[member.name],
                [bundle.read(name) for name in self.artefacts[member.name].files],
                inputs=member.preprocess.shapes,
                threads=self.threads,
            )
            for member in manifest.members
        }

    @property
    def engine_version(self) -> str:
        """Version of the engine's library."""
        return next(iter(self._engines.values())).version

    def score(self, photo: PhotoSource) -> Score:
        """Score one photograph.

        Args:
            photo: a path, the bytes of a file, a Pillow image, or a uint8 RGB array ``[H, W, 3]``.

        Raises:
            PhotoError: it cannot be read.
            EngineError: a graph's result is not finite.
        """
        return self._score(*self._read(photo))

    def score_many(self, paths: Iterable[str | os.PathLike[str]]) -> Iterator[Score]:
        """Score photographs in order; one that cannot be read gives a `Score` whose ``error`` says why.

        The next photographs are decoded while the graph works; how many is bounded, so memory does not grow with their
        number.
        """
        queue: deque[tuple[str, Future[tuple[Size, Views]]]] = deque()
        todo = (os.fspath(path) for path in paths)
        with ThreadPoolExecutor(min(_AHEAD, available_threads())) as pool:
            try:
                for path in islice(todo, _AHEAD):
                    queue.append((path, pool.submit(self._read, path)))
                while queue:
                    path, future = queue.popleft()
                    for following in islice(todo, 1):
                        queue.append((following, pool.submit(self._read, following)))
                    try:
                        yield self._score(*future.result(), path)
                    except EdgeIQAError as error:
                        yield Score(value=None, error=str(error), path=path)
            finally:
                for _, future in queue:
                    future.cancel()

    def raw(self, photo: PhotoSource) -> dict[str, float]:
        """Each member's raw score of one photograph, before its score map."""
        return self._raw(self._read(photo)[1])

    def features(self, photo: PhotoSource) -> dict[str, dict[str, NDArray[np.float32]]]:
        """Each member's raw score and pooled features of one photograph, by output name."""
        views = self._read(photo)[1]
        return {
            member.name: self._engines[member.name].run(views[member.preprocess], self.artefacts[member.name].outputs)
            for member in self.bundle.manifest.members
        }

    def run_views(self, member: str, views: Mapping[str, NDArray[np.uint8]]) -> float:
        """One member's raw score of views that were cut already."""
        return float(self._engines[member].run(views)["score"])

    def combine(self, raw: Mapping[str, float]) -> tuple[float, tuple[float, ...], float | None]:
        """Map the members' raw scores and combine them: the value, the mapped scores, and their spread."""
        return combine_raw(self.bundle.manifest, self.artefacts, raw)

    def _read(self, source: PhotoSource) -> tuple[Size, Views]:
        views: Views = {}
        size: Size | None = None
        for member in self.bundle.manifest.members:
            if member.preprocess not in views:
                decoded = open_photo(source, member.preprocess)
                size = (decoded.width, decoded.height)
                views[member.preprocess] = cut_views(decoded.image, member.preprocess)
        if size is None:
            raise EngineError("a bundle without members", expected="at least one", mend="export it again")
        return size, views

    def _raw(self, views: Views) -> dict[str, float]:
        return {
            member.name: self.run_views(member.name, views[member.preprocess])
            for member in self.bundle.manifest.members
        }

    def _score(self, size: Size, views: Views, path: str | None = None) -> Score:
        value, members, spread = self.combine(self._raw(views))
        return Score(value, members, spread, *size, path=path)


def choose_artefact(member: Member, engine: str, precision: str) -> Artefact:
    """The member's artefact for an engine and a precision; the engine's own form before one it also reads.

    Raises:
        UsageError: there is none, or the engine is unknown.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine {engine!r}", expected=f"one of {', '.join(ENGINES)}", mend="name one of these")
    targets = ENGINES[engine][4]
    fitting = [
        artefact for artefact in member.artefacts if artefact.target in targets and artefact.precision == precision
    ]
    if not fitting:
        here = ", ".join(f"{artefact.target} {artefact.precision}" for artefact in member.artefacts)
        raise UsageError(
            f"engine {engine} in {precision} for member {member.name}, which holds {here}",
            expected="an artefact of the bundle",
            mend="choose another --engine or --precision, or edgeiqa export that one",
        )
    return min(fitting, key=lambda artefact: targets.index(artefact.target))


def combine_raw(
    manifest: Manifest, artefacts: Mapping[str, Artefact], raw: Mapping[str, float]
) -> tuple[float, tuple[float, ...], float | None]:
    """Map the members' raw scores by their artefacts' score maps and combine them.

    Returns:
        The combined value, the mapped scores in the manifest's order, and their population standard deviation (None for
        one member).
    """
    mapped = np.array([artefacts[m.name].score_map.apply(raw[m.name]) for m in manifest.members], dtype=np.float64)
    spread = float(mapped.std()) if len(mapped) > 1 else None
    return manifest.combine(mapped), tuple(float(score) for score in mapped), spread


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> Scorer:
    """Load a bundle, or the default one that ships in the package.

    Args:
        path: of a bundle; None is the default.
        engine: another than the bundle names.
        precision: another than the bundle names.
        threads: of the engine.

    Raises:
        BundleError: the bundle must not be used.
        UsageError, MissingExtraError, EngineError: as `Scorer`.
    """
    bundle = default_bundle() if path is None else Bundle.open(path)
    return Scorer(bundle, engine=engine, precision=precision, threads=threads)


def default_bundle() -> Bundle:
    """The bundle that ships in the package.

    Raises:
        BundleFormatError: this installation lacks it.
    """
    return _shipped("default")


def ensemble_bundle() -> Bundle:
    """The ensemble that ships beside the default bundle, as the teacher of whoever has none.

    Raises:
        BundleFormatError: this installation lacks it.
    """
    return _shipped("ensemble")


def _shipped(name: str) -> Bundle:
    # The package is installed as files (a bundle is read by path and piece by piece), never run from an archive.
    return Bundle.open(Path(__file__).parent / "data" / f"{name}.eiqa")
