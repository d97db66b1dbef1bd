"""Find and end the processes of this demo, and no others."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# What the demo starts. A shell, an editor or a `tail` that looks at its files is not among them.
PROGRAMS = ("supervisord", "bao", "upstream.py", "envoy", "run-envoy")


@dataclass(frozen=True)
class Process:
    pid: int
    program: str
    arguments: tuple[str, ...]

    @property
    def supervises(self) -> bool:
        return self.program == "supervisord"


def running(places: Iterable[Path]) -> tuple[Process, ...]:
    """The processes of this user that run one of PROGRAMS with a file in one of these places as an argument."""
    wanted = tuple(f"{place}/" for place in places)
    return tuple(process for pid in _pids() if (process := _ours(pid, wanted)) is not None)


def end(processes: Iterable[Process], *, patience: float) -> tuple[Process, ...]:
    """Ask these processes to end, insist after `patience` seconds, and return those that had to be killed."""
    held = [(process, handle) for process in processes if (handle := _hold(process)) is not None]
    try:
        _signal(held, signal.SIGTERM)
        deadline = time.monotonic() + patience
        while any(_alive(process) for process, _other in held) and time.monotonic() < deadline:
            time.sleep(0.05)
        stubborn = [(process, handle) for process, handle in held if _alive(process)]
        _signal(stubborn, signal.SIGKILL)
        while any(_alive(process) for process, _other in stubborn):
            time.sleep(0.05)
        return tuple(process for process, _other in stubborn)
    finally:
        for _other, handle in held:
            os.close(handle)


def _pids() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def _ours(pid: int, wanted: tuple[str, ...]) -> Process | None:
    try:
        if Path(f"/proc/{pid}").stat().st_uid != os.getuid():
            return None
        arguments = tuple(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1])
    except OSError:
        return None  # It ended while we looked.
    # A script has its interpreter before it, which may have a flag or two of its own.
    names = [Path(argument).name for argument in arguments[:4] if not argument.startswith("-")]
    program = next((name for name in names[:2] if name in PROGRAMS), None)
    if program is None or not any(place in argument for argument in arguments for place in wanted):
        return None
    return Process(pid=pid, program=program, arguments=arguments)


def _hold(process: Process) -> int | None:
    """A handle on the process itself: its number may pass to another one, the handle does not."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if not _alive(process):
        os.close(handle)
        return None
    return handle


def _alive(process: Process) -> bool:
    """Whether this number is still this process. A zombie's command line is empty: it has ended."""
    try:
        raw = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    except OSError:
        return False
    return tuple(raw.decode(errors="replace").split("\0")[:-1]) == process.arguments


def _signal(held: Iterable[tuple[Process, int]], number: signal.Signals) -> None:
    for _other, handle in held:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
