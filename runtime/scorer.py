"""Scoring photographs: views, graphs, score maps, combination."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .decode import PhotoSource
from .engines.compiled import CompiledCache
from .engines.engine import ENGINES, GraphEngine, available_threads, open_engine
from .errors import EngineError, PhotoError, UsageError
from .in_order import in_order
from .manifest import Artefact, Manifest, Member
from .preprocess import Preprocess
from .reading import PhotoViews, read_views

__all__ = [
    "Score",
    "Scorer",
    "busy_streams",
    "choose_artefact",
    "combine_raw",
    "default_bundle",
    "ensemble_bundle",
    "load",
]

_MOST_STREAMS = 16
"""Each takes the memory of a run; on more processors they get more threads each."""

_AHEAD = 4
"""Photographs that wait or are done, for each that is being worked on; of those only paths and scores are held."""


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


class Scorer:
    """A bundle, loaded and ready to score; threads may share it.

    Attributes:
        bundle: what was loaded.
        engine: that runs it.
        precision: of its arithmetic.
        threads: of the engine, for each photograph.
        streams: photographs that graphs look at, at once.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        engine: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
        streams: int | None = None,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        """Load a bundle's graphs.

        One stream of all processors answers for one photograph soonest; as many streams of one thread as there are
        processors score most photographs a second, and take the memory of as many runs (`busy_streams`).

        Args:
            bundle: opened.
            engine: another than the bundle names.
            precision: another than the bundle names.
            threads: of the engine, for each photograph; all processors of this process unless said, divided between
                the streams.
            streams: photographs that graphs look at, at once; one unless said.
            cache: a folder in which the engine keeps what it has prepared, so that it starts sooner the next time
                (`CompiledCache`); scores are the same. Nothing is kept unless said.

        Raises:
            UsageError: the bundle has no artefact for that engine and precision, or a number is not positive.
            MissingExtraError: the engine's library is not installed.
            BundleHashError: a graph is not what the manifest says.
            EngineError: the engine refuses a graph.
        """
        for number, what in ((threads, "threads"), (streams, "streams")):
            if number is not None and number < 1:
                raise UsageError(f"{number} {what}", expected="at least one", mend=f"give --{what} 1 or more")
        manifest = bundle.manifest
        self.bundle = bundle
        self.engine: str = engine or manifest.engine
        self.precision: str = precision or manifest.precision
        self.streams = streams or 1
        self.threads = threads or max(1, available_threads() // self.streams)
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
                streams=self.streams,
                cache=None if cache is None else CompiledCache(Path(cache)),
            )
            for member in manifest.members
        }
        self._free_streams = BoundedSemaphore(self.streams)

    @property
    def engine_version(self) -> str:
        """Version of the engine's library."""
        return next(iter(self._engines.values())).version

    @property
    def preprocesses(self) -> tuple[Preprocess, ...]:
        """Each member's, in the bundle's order."""
        return tuple(member.preprocess for member in self.bundle.manifest.members)

    def score(self, photo: PhotoSource) -> Score:
        """Score one photograph.

        Args:
            photo: a path, the bytes of a file, a Pillow image, or a uint8 RGB array ``[H, W, 3]``.

        Raises:
            PhotoError: it cannot be read.
            EngineError: a graph's result is not finite.
        """
        return self._score(read_views(photo, self.preprocesses))

    def score_many(self, paths: Iterable[str | os.PathLike[str]], *, isolate_s: float | None = None) -> Iterator[Score]:
        """Score photographs in order; one that cannot be read gives a `Score` whose ``error`` says why.

        Other photographs are decoded while graphs work. How many is bounded, so memory does not grow with their number,
        and ``paths`` may be endless. A score is the one that `score` gives, to the bit, whatever stands beside it.

        Args:
            paths: of the photographs; iterated a little ahead of the scores, in a thread of its own, so that a score
                is there as soon as it is known, however long the next path takes.
            isolate_s: decode in processes of their own, and give a photograph at most so many seconds: one that hangs
                or crashes its decoder gets an error, and the others their scores.

        Raises:
            UsageError: ``isolate_s`` is not above 0, or more than a day.
            EngineError: a process for decoding does not start.
        """
        if isolate_s is None:
            # One worker more has work for a processor whose others wait for the disk or the engine.
            yield from self._score_all(paths, self._read_file, 1 + max(self.streams, available_threads()))
            return
        from .isolate import IsolatedReader

        with IsolatedReader(self.preprocesses, limit_s=isolate_s) as reader:
            yield from self._score_all(paths, reader.read, max(self.streams, available_threads()))

    def raw(self, photo: PhotoSource) -> dict[str, float]:
        """Each member's raw score of one photograph, before its score map."""
        return self._raw(read_views(photo, self.preprocesses))

    def features(self, photo: PhotoSource) -> dict[str, dict[str, NDArray[np.float32]]]:
        """Each member's raw score and pooled features of one photograph, by output name."""
        views = read_views(photo, self.preprocesses).views
        with self._free_streams:
            return {
                member.name: self._engines[member.name].run(
                    views[member.preprocess], self.artefacts[member.name].outputs
                )
                for member in self.bundle.manifest.members
            }

    def run_views(self, member: str, views: Mapping[str, NDArray[np.uint8]]) -> float:
        """One member's raw score of views that were cut already."""
        return float(self._engines[member].run(views)["score"])

    def combine(self, raw: Mapping[str, float]) -> tuple[float, tuple[float, ...], float | None]:
        """Map the members' raw scores and combine them: the value, the mapped scores, and their spread."""
        return combine_raw(self.bundle.manifest, self.artefacts, raw)

    def _read_file(self, path: str) -> PhotoViews:
        # A pipe or a device may give nothing for ever, and nothing here has a time limit.
        with contextlib.suppress(OSError, ValueError):
            if stat.S_IFMT(Path(path).stat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
                raise PhotoError(f"{path}, which is no file", expected="a photograph", mend="name a file")
        return read_views(path, self.preprocesses)

    def _score_all(
        self, paths: Iterable[str | os.PathLike[str]], read: Callable[[str], PhotoViews], workers: int
    ) -> Iterator[Score]:
        def answer(path: str) -> Score:
            try:
                views = read(path)
                try:
                    return self._score(views, path)
                except EngineError as error:
                    return Score(value=None, error=str(error), path=path)
            # What is no photograph's fault, such as a process that does not start, ends the run.
            except PhotoError as error:
                return Score(value=None, error=str(error), path=path)
            except MemoryError:
                lack = PhotoError(
                    f"{path}, which takes more memory than there is",
                    expected="a photograph that fits",
                    mend="reduce it, or leave it out",
                )
                return Score(value=None, error=str(lack), path=path)

        # Whoever decodes goes on to the graph: nothing is handed over, and there are only as many decoded photographs
        # as workers. Where there are fewer streams than workers, the others decode meanwhile. One slow photograph at
        # the head should leave the others' workers something to do.
        todo = (os.fspath(path) for path in paths)
        return in_order(answer, todo, workers=workers, ahead=workers * _AHEAD)

    def _raw(self, read: PhotoViews) -> dict[str, float]:
        with self._free_streams:
            return {
                member.name: self.run_views(member.name, read.views[member.preprocess])
                for member in self.bundle.manifest.members
            }

    def _score(self, read: PhotoViews, path: str | None = None) -> Score:
        value, members, spread = self.combine(self._raw(read))
        return Score(value, members, spread, read.width, read.height, path=path)


def busy_streams(threads: int | None = None) -> int:
    """How many streams score many photographs fastest: as many as keep the processors busy, at most 16.

    Args:
        threads: of each; one unless said.
    """
    return max(1, min(_MOST_STREAMS, available_threads() // (threads or 1)))


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
    streams: int | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Scorer:
    """Load a bundle, or the default one that ships in the package.

    Args:
        path: of a bundle; None is the default.
        engine: another than the bundle names.
        precision: another than the bundle names.
        threads: of the engine, for each photograph; as `Scorer`.
        streams: photographs that graphs look at, at once; as `Scorer`.
        cache: a folder in which the engine keeps what it has prepared; as `Scorer`.

    Raises:
        BundleError: the bundle must not be used.
        UsageError, MissingExtraError, EngineError: as `Scorer`.
    """
    bundle = default_bundle() if path is None else Bundle.open(path)
    return Scorer(bundle, engine=engine, precision=precision, threads=threads, streams=streams, cache=cache)


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
