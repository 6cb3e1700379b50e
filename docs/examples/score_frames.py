"""Score the frames of a camera or a video at a stated rate.

Of a camera always the newest frame, however fast they come; of a video the frame that is due, at its own time.

    pip install edgeiqa opencv-python-headless
    python score_frames.py 0 --rate 2                  # the first camera, twice a second
    python score_frames.py clip.mp4 --rate 5 --seconds 60

A line of JSON a frame that was scored: seconds since the start (of a video, of its own time), score, how old the frame
was when its score was there (milliseconds), and how many frames came since the one before. Whoever has frames from
elsewhere (PyAV, GStreamer, picamera2) gives `score_frames` any iterable of uint8 RGB arrays ``[H, W, 3]``.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import edgeiqa
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FrameScore:
    """A frame that was scored."""

    at_s: float
    score: float
    age_ms: float
    frames: int


class Newest:
    """The newest frame of a source that a thread reads as fast as it gives; older ones are let go."""

    def __init__(self, frames: Iterable[NDArray[np.uint8]]) -> None:
        self._change = threading.Condition()
        self._frame: tuple[float, NDArray[np.uint8]] | None = None
        self._count = 0
        self._ended = False
        self._error: BaseException | None = None
        threading.Thread(target=self._read, args=(frames,), daemon=True).start()

    def take(self) -> tuple[float, NDArray[np.uint8], int] | None:
        """When the newest frame came, the frame, and how many came since the last call; None at the end."""
        with self._change:
            self._change.wait_for(lambda: self._frame is not None or self._ended)
            if self._error is not None:
                raise self._error
            if self._frame is None:
                return None
            (came, frame), self._frame = self._frame, None
            count, self._count = self._count, 0
            return came, frame, count

    def _read(self, frames: Iterable[NDArray[np.uint8]]) -> None:
        try:
            for frame in frames:
                with self._change:
                    self._frame = time.monotonic(), frame
                    self._count += 1
                    self._change.notify()
        # Raised again where frames are taken.
        except BaseException as error:
            self._error = error
        with self._change:
            self._ended = True
            self._change.notify()


def score_frames(
    scorer: edgeiqa.Scorer, frames: Iterable[NDArray[np.uint8]], *, rate_hz: float
) -> Iterator[FrameScore]:
    """Score the newest frame, at most ``rate_hz`` times a second; a slower machine scores as often as it can.

    A frame that the source writes again (a buffer of its own) must be copied by the source.
    """
    newest = Newest(frames)
    start = due = time.monotonic()
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + 1 / rate_hz, time.monotonic())
        taken = newest.take()
        if taken is None:
            return
        came, frame, count = taken
        score = scorer.score(frame).value
        assert score is not None
        now = time.monotonic()
        yield FrameScore(at_s=now - start, score=score, age_ms=1e3 * (now - came), frames=count)


def score_video(
    scorer: edgeiqa.Scorer, frames: Iterable[NDArray[np.uint8]], *, frames_hz: float, rate_hz: float
) -> Iterator[FrameScore]:
    """Score every frame that is due at ``rate_hz`` in the video's own time, as fast as this machine can.

    Args:
        scorer: loaded.
        frames: of the video, in order.
        frames_hz: that it was taken at.
        rate_hz: scores a second of video; one a frame at most.
    """
    last = -1
    for index, frame in enumerate(frames):
        # The first frame of each period of 1 / rate_hz.
        if int(index * rate_hz / frames_hz) > int((index - 1) * rate_hz / frames_hz) or index == 0:
            began = time.monotonic()
            score = scorer.score(frame).value
            assert score is not None
            age_ms = 1e3 * (time.monotonic() - began)
            yield FrameScore(at_s=index / frames_hz, score=score, age_ms=age_ms, frames=index - last)
            last = index


class Capture:
    """RGB frames by OpenCV, and how many a second a video has; None of a camera."""

    def __init__(self, source: str) -> None:
        import cv2  # type: ignore[import-not-found]

        is_camera = source.isdecimal()
        self._capture: Any = cv2.VideoCapture(int(source) if is_camera else source)
        if not self._capture.isOpened():
            raise SystemExit(f"{source}: no camera and no video that OpenCV opens")
        self._cv2: Any = cv2
        self.frames_hz = None if is_camera else float(self._capture.get(cv2.CAP_PROP_FPS)) or None

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        while (read := self._capture.read())[0]:
            yield self._cv2.cvtColor(read[1], self._cv2.COLOR_BGR2RGB)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="Number of a camera, or a video.")
    parser.add_argument("--rate", type=float, default=2.0, help="Scores a second.")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--bundle")
    options = parser.parse_args()
    if not options.rate > 0:
        parser.error("--rate must be more than 0")
    capture = Capture(options.source)
    # One stream with all processors: the answer for one frame comes soonest.
    scorer = edgeiqa.load(options.bundle)
    if capture.frames_hz is None:
        scores = score_frames(scorer, capture, rate_hz=options.rate)
    else:
        scores = score_video(scorer, capture, frames_hz=capture.frames_hz, rate_hz=options.rate)
    for scored in scores:
        print(json.dumps({key: round(value, 3) for key, value in asdict(scored).items()}), flush=True)
        if scored.at_s > options.seconds:
            return


if __name__ == "__main__":
    main()
