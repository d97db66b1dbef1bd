"""What the demo says while it works, and how it gives up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

BEGAN = time.monotonic()


class DemoError(Exception):
    """Why the demo stops. The text is for the person in front of it."""


def line(text: str = "") -> None:
    print(text, flush=True)


def note(text: str) -> None:
    line(f"    {text}")


@contextmanager
def step(title: str) -> Iterator[None]:
    """A heading with the seconds since the beginning, and at its end how long it took."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    began = time.monotonic()
    line(f"\n{bold}[{began - BEGAN:6.1f} s] {title}{plain}")
    yield
    note(f"done in {time.monotonic() - began:.1f} s")


def run_shown(command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> tuple[int, str]:
    """Run a command, show its output as it comes, and return its exit status and that output."""
    shown = []
    process = subprocess.Popen(
        command,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        assert process.stdout is not None
        for output in process.stdout:
            sys.stdout.write(output if output == "\n" else f"    {output}")
            sys.stdout.flush()
            shown.append(output)
        return process.wait(), "".join(shown)
    except BaseException:
        process.terminate()
        process.wait()
        raise


def clean_environment(**more: str) -> dict[str, str]:
    """The caller's environment without what would steer Ansible or a client of OpenBao elsewhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "VAULT_", "BAO_", "OPENAI_"))}
    loopback = "127.0.0.1,localhost"
    for name in ("no_proxy", "NO_PROXY"):
        kept[name] = f"{kept[name]},{loopback}" if kept.get(name) else loopback
    return {**kept, **more}
