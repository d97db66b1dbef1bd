# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Envoy as a child, for a service manager that can only send a signal to stop: on TERM or INT it is drained first.

This file is `libexec/run-envoy` of every release, run with `python3 -I`: it imports the standard library only.

    run-envoy SOCKET SECONDS RECORD CURRENT MARK COMMAND...

`gateway-admin` beside it drains within SECONDS, and notes in RECORD which release in CURRENT is started. While Envoy
drains there is the file MARK. When the service manager dies this process is told to end, and Envoy dies with this one.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

#: From prctl(2): the signal that a process gets when its parent dies.
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main(arguments: list[str]) -> int:
    """Run Envoy until it ends; its exit status."""
    path, seconds, record, current, mark, *command = arguments
    admin = [sys.executable, "-I", str(Path(__file__).resolve().with_name("gateway-admin"))]
    with suppress(FileNotFoundError):
        Path(mark).unlink()
    subprocess.run([*admin, record, "record", current], check=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # A session of its own keeps Envoy out of reach of signals to the group, which would cut its connections.
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=_die_with_parent)

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        Path(mark).write_text(f"{os.getpid()}\n", encoding="ascii")
        subprocess.run([*admin, path, "drain", seconds], check=False)
        child.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    _die_with_parent()
    status = child.wait()
    with suppress(FileNotFoundError):
        Path(mark).unlink()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
