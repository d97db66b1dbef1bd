"""The load as a process of its own, so that what changes the gateway and what asks it do not wait for each other."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any


class Driver:
    """Clients that ask until the block is left; then `report` has all counts. `settings` are those of `load`."""

    def __init__(self, **settings: Any) -> None:
        command = [sys.executable, "-m", "load", json.dumps(settings)]
        folder = Path(__file__).resolve().parents[1]
        self._process = subprocess.Popen(
            command, cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1
        )
        self.report: dict[str, Any] = {}

    def __enter__(self) -> Driver:
        while self.change()["requests"] < 1000 and self.report["seconds"] < 10:
            time.sleep(0.1)
        return self

    def change(self, **settings: Any) -> dict[str, Any]:
        """Have the clients ask with other keys or for other models from now on; the counts so far."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(settings) + "\n")
        return self._read()

    def reach(self, requests: int, *, seconds: float) -> None:
        """Wait until so many requests were sent."""
        end = time.monotonic() + seconds
        while self.change()["requests"] < requests:
            assert time.monotonic() < end, self.report
            time.sleep(0.2)

    def end(self) -> None:
        """Let what is open come to its end; all counts are in `report` then."""
        if self._process.poll() is None and self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
            self._read()
            self._process.wait(90)
            if self._process.stdout:
                self._process.stdout.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the load has ended"
        self.report = json.loads(line)
        return self.report
