# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Envoy as a child, for a service manager that can only send a signal to stop: on TERM or INT it is drained first.

This file is `libexec/run-envoy` of every release, run with `python3 -I`: it imports the standard library only.

    run-envoy SOCKET HEALTH_WAIT SECONDS RECORD CURRENT COMMAND...

`gateway-admin` of the release in CURRENT has Envoy leave, with HEALTH_WAIT and SECONDS, and notes in RECORD which
release is started. When the service manager dies this process is told to end, and Envoy dies with this one.
"""

from __future__ import annotations

# A program of its own, without an AnsibleModule whose run_command could be called.
# pylint: disable=ansible-bad-function
import ctypes
import resource
import signal
import subprocess
import sys
import time
from types import FrameType

#: From prctl(2): the signal that a process gets when its parent dies.
_PR_SET_PDEATHSIG = 1
#: Seconds to wait before the end when Envoy ended as soon as it was started.
_PAUSE = 1.0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main(arguments: list[str]) -> int:
    """Run Envoy until it ends; its exit status."""
    path, health_wait, seconds, record, current, *command = arguments
    # Of the release that is active when it is run: the one that this process was started with may be removed by then.
    admin = [sys.executable, "-I", f"{current}/libexec/gateway-admin"]
    subprocess.run([*admin, record, "record", current], check=True)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # An Envoy that crashes must not write its memory, with all secrets, to a disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A session of its own keeps Envoy out of reach of signals to the group, which would cut its connections.
    began = time.monotonic()
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=_die_with_parent)
    told_to_stop = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal told_to_stop
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        told_to_stop = True
        subprocess.run([*admin, path, "stop", health_wait, seconds], check=False)
        child.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    _die_with_parent()
    status = child.wait()
    # It would be started again, and again.
    while time.monotonic() - began < _PAUSE and not told_to_stop:
        time.sleep(0.05)
    if told_to_stop:
        return 0
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
