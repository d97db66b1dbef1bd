"""A browser without a screen, driven over a pipe: https://chromedevtools.github.io/devtools-protocol/."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# As root there is no sandbox, and a browser that is only a test asks nobody for anything.
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)


class Browser:
    """A browser that runs."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Ask for something and return the answer; what happens meanwhile is kept in `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while (answer := self._receive()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def wait(self, method: str, session: str) -> None:
        """Return when something has happened, also before it was asked for."""
        while not any(event["method"] == method and event.get("sessionId") == session for event in self.events):
            self.events.append(self._receive())

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._read, 1 << 20)
            assert data, "the browser has ended"
            self._buffer += data
        first, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(first)
        return message

    @contextmanager
    def open(self, path: Path, *, width: int, dark: bool = False, height: int = 900) -> Iterator[Page]:
        """A file as a page, in a window of this size."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.events.clear()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        page = Page(self, session)
        page.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", session, features=[scheme])
        self.call("Page.navigate", session, url=path.resolve().as_uri())
        self.wait("Page.loadEventFired", session)
        try:
            yield page
        finally:
            self.call("Target.closeTarget", targetId=target)


class Page:
    """A page that is open."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def resize(self, width: int, height: int) -> None:
        """Give the window another size."""
        self._browser.call(
            "Emulation.setDeviceMetricsOverride",
            self._session,
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression in JavaScript."""
        answer = self._browser.call(
            "Runtime.evaluate", self._session, expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, *, whole: bool = False, element: str = "") -> bytes:
        """Return what is seen as PNG: the window, the whole page, or an element by its CSS selector."""
        more: dict[str, Any] = {}
        if whole:
            size = self._browser.call("Page.getLayoutMetrics", self._session)["cssContentSize"]
            more = {"captureBeyondViewport": True, "clip": {**size, "scale": 1}}
        elif element:
            box = self.evaluate(
                f"(({{x, y, width, height}}) => ({{x, y: y + scrollY, width, height}}))"
                f"(document.querySelector({json.dumps(element)}).getBoundingClientRect())"
            )
            more = {"captureBeyondViewport": True, "clip": {**box, "scale": 1}}
        answer = self._browser.call("Page.captureScreenshot", self._session, format="png", **more)
        return base64.b64decode(answer["data"])

    def accessible(self, role: str) -> dict[str, str]:
        """Return how the first thing of a role is told to those who do not see it."""
        nodes = self._browser.call("Accessibility.getFullAXTree", self._session)["nodes"]
        node = next(node for node in nodes if node.get("role", {}).get("value") == role)
        return {key: node[key]["value"] for key in ("name", "description") if key in node}

    def on_paper(self) -> None:
        """Show the page as it is printed."""
        self._browser.call("Emulation.setEmulatedMedia", self._session, media="print")

    def pdf(self) -> bytes:
        """Return the page as it is printed."""
        return base64.b64decode(self._browser.call("Page.printToPDF", self._session)["data"])

    @property
    def complaints(self) -> list[str]:
        """What the browser said of the page: errors, warnings, what the page's policy forbids."""
        told = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
        return [json.dumps(event["params"]) for event in self._events if event["method"] in told]

    @property
    def requests(self) -> list[str]:
        """What the page has asked for, itself included."""
        asked = (event for event in self._events if event["method"] == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in asked]

    @property
    def _events(self) -> list[dict[str, Any]]:
        return [event for event in self._browser.events if event.get("sessionId") == self._session]


@contextmanager
def a_browser() -> Iterator[Browser]:
    """Start a browser, with a profile that is thrown away."""
    program = shutil.which("chromium")
    assert program, "no chromium is installed: see tools/host-packages"
    theirs_in, ours_out = _far(os.pipe())
    ours_in, theirs_out = _far(os.pipe())

    def at_their_numbers() -> None:
        os.dup2(theirs_in, 3)
        os.dup2(theirs_out, 4)

    with tempfile.TemporaryDirectory(prefix="gw-browser-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(3, 4),
            preexec_fn=at_their_numbers,  # the browser looks for its pipes at these two
            env={**os.environ, "HOME": profile},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        browser = Browser(ours_in, ours_out)
        try:
            yield browser
            browser.call("Browser.close")
        finally:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(ours_in)
            os.close(ours_out)


def _far(pipe: tuple[int, int]) -> tuple[int, int]:
    """Give a pipe numbers that the browser's do not take the place of."""
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in pipe)
    for end in pipe:
        os.close(end)
    return moved[0], moved[1]
