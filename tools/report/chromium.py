"""A page in a headless Chromium: how it looks, what it does when it is used, and what the browser complains of.

It is driven by the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/) over the browser's own pipe,
so that nothing but Chromium is needed. For the pages' tests and screenshots; POSIX only.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ...runtime.errors import EdgeIQAError, UsageError

__all__ = ["VARIABLE", "Chromium", "Tab", "find_chromium", "open_chromium"]

VARIABLE = "EDGEIQA_CHROMIUM"
"""Environment variable with the path of the browser; without it the usual names are looked for."""

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--force-color-profile=srgb", "--remote-debugging-pipe"),
)
_TIMEOUT_S = 120.0
# As a program's file descriptors: it is told there, and answers there.
_TOLD, _ANSWERS = 3, 4


def find_chromium() -> str:
    """The browser's path.

    Raises:
        UsageError: there is none.
    """
    named = os.environ.get(VARIABLE)
    names = (named,) if named else _NAMES
    found = next((path for path in map(shutil.which, names) if path is not None), None)
    if found is None:
        raise UsageError(
            f"no Chromium: no program {' or '.join(names)}",
            expected="a browser that opens the pages",
            mend=f"apt-get install chromium fonts-dejavu-core, or set {VARIABLE} to its path",
        )
    return found


class Chromium:
    """A browser that runs; `open_chromium` starts it and ends it."""

    def __init__(self, process: subprocess.Popen[bytes], told: int, answers: int, errors: Path) -> None:
        self._process, self._told, self._answers, self._errors = process, told, answers, errors
        self._rest = b""
        self._last = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Call a method of the protocol, and wait for its result.

        Raises:
            EdgeIQAError: the browser refuses it, has ended, or does not answer.
        """
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        try:
            os.write(self._told, json.dumps(message).encode() + b"\0")
        except OSError as error:
            raise self._broken(f"cannot be told {method} ({error.strerror})") from error
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            answer = self._read(deadline, method)
            if answer.get("id") == self._last:
                break
            self.events.append(answer)
        if "error" in answer:
            raise self._broken(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    def wait(self, method: str, session: str) -> dict[str, Any]:
        """Wait for an event of a tab, which may have come already, and take it.

        Raises:
            EdgeIQAError: it does not come.
        """
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            for event in self.events:
                if event.get("method") == method and event.get("sessionId") == session:
                    self.events.remove(event)
                    return event
            self.events.append(self._read(deadline, method))

    def open(self, page: Path) -> Tab:
        """Open a file in a tab of its own, and wait until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, target, session, page.resolve().as_uri())
        tab.load()
        return tab

    def _read(self, deadline: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(self._answers, 1 << 20) if ready else b""
            if not part:
                raise self._broken(f"no answer to {what}")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _broken(self, got: str) -> EdgeIQAError:
        said = self._errors.read_text(encoding="utf-8", errors="replace").strip()[-600:]
        ended = self._process.poll()
        return EdgeIQAError(
            f"Chromium: {got}{'' if ended is None else f'; it ended with {ended}'}; it says: {said or 'nothing'}",
            expected="a browser that answers",
            mend=f"try {self._process.args!r} by hand",
        )


class Tab:
    """A page that is open.

    Attributes:
        complaints: errors and warnings of the console, exceptions, and what the page's policy forbade, so far.
        requests: addresses that were asked for beside the page itself, so far.
    """

    def __init__(self, browser: Chromium, target: str, session: str, url: str) -> None:
        self._browser, self._target, self._session, self._url = browser, target, session, url
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def load(self) -> None:
        """Load the page, again or for the first time."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self._call("Page.navigate", url=self._url)
        self._browser.wait("Page.loadEventFired", self._session)
        self._note()

    def show(
        self,
        width: int,
        height: int,
        *,
        scheme: Literal["light", "dark"] = "light",
        media: Literal["screen", "print"] = "screen",
        scripts: bool = True,
        scale: float = 1.0,
    ) -> None:
        """Show it on another screen.

        Args:
            width: of the view, in CSS pixels; under 500 as a phone's.
            height: likewise.
            scheme: light or dark, as the reader prefers.
            media: on a screen or on paper.
            scripts: whether scripts run, from the next load on.
            scale: device pixels a CSS pixel.
        """
        mobile = width < 500
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", media=media, features=features)
        self._call("Emulation.setScriptExecutionDisabled", value=not scripts)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, or of the promise that it is.

        Raises:
            EdgeIQAError: it throws.
        """
        found = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise EdgeIQAError(
                f"{expression}: {found['exceptionDetails']}", expected="a value", mend="correct the expression"
            )
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """Click in the middle of the first element that a selector finds, once it is in view."""
        found = json.dumps(selector)
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({found});"
            " e.scrollIntoView({block: 'center', inline: 'center'});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key and let it go, by its name and its number; with the text that it types, if any."""
        typed = {"key": key, "code": key, "windowsVirtualKeyCode": code, **({"text": text} if text else {})}
        self._call("Input.dispatchKeyEvent", type="keyDown", **typed)
        self._call("Input.dispatchKeyEvent", type="keyUp", **{name: typed[name] for name in ("key", "code")})

    def screenshot(self, *, whole: bool = False, height: int | None = None) -> bytes:
        """A PNG of what is seen, of the whole page, or of its first ``height`` CSS pixels."""
        options: dict[str, Any] = {"format": "png", "captureBeyondViewport": whole or height is not None}
        if options["captureBeyondViewport"]:
            size = self._call("Page.getLayoutMetrics")["cssContentSize"]
            tall = size["height"] if height is None else min(height, size["height"])
            options["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": tall, "scale": 1}
        return base64.b64decode(self._call("Page.captureScreenshot", **options)["data"])

    def pdf(self) -> bytes:
        """As it is printed on A4."""
        return base64.b64decode(self._call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", targetId=self._target)

    def _call(self, method: str, **parameters: Any) -> Any:
        result = self._browser.call(method, self._session, **parameters)
        self._note()
        return result

    def _note(self) -> None:
        """Take what happened meanwhile, but for what `Chromium.wait` waits for."""
        for event in [event for event in self._browser.events if event.get("sessionId") == self._session]:
            method, facts = event["method"], event.get("params", {})
            if method == "Page.loadEventFired":
                continue
            self._browser.events.remove(event)
            if method == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning", "assert"):
                self.complaints.append(f"console.{facts['type']}: {facts['args']}")
            elif method == "Runtime.exceptionThrown":
                self.complaints.append(f"exception: {facts['exceptionDetails']}")
            elif method == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
                self.complaints.append(f"{facts['entry']['source']}: {facts['entry']['text']}")
            elif method == "Network.requestWillBeSent":
                asked = facts["request"]["url"]
                if asked != self._url and not asked.startswith("data:"):
                    self.requests.append(asked)


@contextlib.contextmanager
def open_chromium() -> Iterator[Chromium]:
    """Start a browser with an empty profile, and end it.

    Raises:
        UsageError: there is none.
        EdgeIQAError: it does not start.
    """
    command = [find_chromium(), *_FLAGS]
    if os.geteuid() == 0:
        # Chromium's sandbox refuses to run as root.
        command.append("--no-sandbox")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        profile, errors = Path(folder) / "profile", Path(folder) / "errors.txt"
        profile.mkdir()
        its_end, told = os.pipe()
        answers, its_answers = os.pipe()

        def put_in_place() -> None:
            # Away from 3 and 4 first, as one may lie on the other's place.
            ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (its_end, its_answers)]
            os.dup2(ends[0], _TOLD)
            os.dup2(ends[1], _ANSWERS)

        with errors.open("wb") as said:
            process = subprocess.Popen(  # noqa: S603 - a browser that the user has, on files of this machine
                [*command, f"--user-data-dir={profile}", "about:blank"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                pass_fds=(_TOLD, _ANSWERS),
                preexec_fn=put_in_place,
                start_new_session=True,
            )
        os.close(its_end)
        os.close(its_answers)
        browser = Chromium(process, told, answers, errors)
        try:
            yield browser
        finally:
            with contextlib.suppress(OSError, EdgeIQAError):
                browser.call("Browser.close")
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(told)
            os.close(answers)
