"""Which scores ``edgeiqa score`` shows, in which order, and what they are all together."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from ..runtime.errors import UsageError
from ..runtime.scorer import Score

__all__ = ["Choice", "Order", "Summary", "choose", "summarise"]

Order = Literal["input", "score", "path"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What to show.

    Attributes:
        order: as given, best first, or by path.
        best: only so many of the best, the best first.
        worst: only so many of the worst, the worst first.
        threshold: only what is at least as good as this score.
        invert: only what is worse than ``threshold`` instead.
    """

    order: Order = "input"
    best: int | None = None
    worst: int | None = None
    threshold: float | None = None
    invert: bool = False

    def __post_init__(self) -> None:
        if self.best is not None and self.worst is not None:
            raise UsageError("--best and --worst", expected="one of them", mend="make two calls")
        if self.order != "input" and (self.best is not None or self.worst is not None):
            raise UsageError(
                "--sort with --best or --worst", expected="one of them", mend="leave out --sort: these sort by score"
            )
        if self.invert and self.threshold is None:
            raise UsageError("--invert without --threshold", expected="both", mend="give --threshold SCORE")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise UsageError(f"--threshold {self.threshold}", expected="a finite score", mend="give one")

    @property
    def shows_unread(self) -> bool:
        """Whether photographs without a score are among what is shown."""
        return self.best is None and self.worst is None and self.threshold is None

    @property
    def streams(self) -> bool:
        """Whether a score can be shown before the next is known."""
        return self.order == "input" and self.best is None and self.worst is None


def choose(scores: Iterable[Score], choice: Choice, *, higher_is_better: bool) -> Iterator[Score]:
    """The scores to show, in their order; equal ones stay in the order in which they came.

    With ``best`` and ``worst`` as many as are asked for are held, not all.
    """
    goodness = _goodness(higher_is_better)
    shown = (score for score in scores if choice.shows_unread or _passes(score, choice, goodness))
    if choice.best is not None:
        yield from heapq.nsmallest(choice.best, shown, key=lambda score: -goodness(score))
    elif choice.worst is not None:
        yield from heapq.nsmallest(choice.worst, shown, key=goodness)
    elif choice.order == "score":
        yield from sorted(shown, key=lambda score: -goodness(score))
    elif choice.order == "path":
        yield from sorted(shown, key=lambda score: score.path or "")
    else:
        yield from shown


def _goodness(higher_is_better: bool) -> Callable[[Score], float]:
    """Greater is better; what has no score comes behind all others."""
    sign = 1.0 if higher_is_better else -1.0
    return lambda score: -math.inf if score.value is None else sign * score.value


def _passes(score: Score, choice: Choice, goodness: Callable[[Score], float]) -> bool:
    if score.value is None:
        return False
    if choice.threshold is None:
        return True
    return (goodness(score) >= goodness(Score(value=choice.threshold))) != choice.invert


@dataclass(slots=True)
class Summary:
    """All scores together, as they come by; a few numbers, however many they are.

    Attributes:
        scored: photographs with a score.
        failed: photographs without one.
        total: sum of the scores.
        best: the first of the best.
        worst: the first of the worst.
    """

    scored: int = 0
    failed: int = 0
    total: float = 0.0
    best: Score | None = None
    worst: Score | None = None

    @property
    def mean(self) -> float:
        """Of the scores; NaN of none."""
        return self.total / self.scored if self.scored else math.nan

    def text(self) -> str:
        """One line for people."""
        photographs = self.scored + self.failed
        line = f"{photographs} photograph{'' if photographs == 1 else 's'}"
        if self.best is not None and self.worst is not None and self.scored > 1:
            line += (
                f": mean {self.mean:.2f}, best {self.best.value:.2f} ({self.best.path}), "
                f"worst {self.worst.value:.2f} ({self.worst.path})"
            )
        return line + (f"; {self.failed} could not be read" if self.failed else "")


def summarise(scores: Iterable[Score], summary: Summary, *, higher_is_better: bool) -> Iterator[Score]:
    """The scores, counted in a summary on their way."""
    goodness = _goodness(higher_is_better)
    for score in scores:
        if score.value is None:
            summary.failed += 1
        else:
            summary.scored += 1
            summary.total += score.value
            if summary.best is None or goodness(score) > goodness(summary.best):
                summary.best = score
            if summary.worst is None or goodness(score) < goodness(summary.worst):
                summary.worst = score
        yield score
