# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python reads this first in every process of a watched run: note each program that is started and each file that is
written, and keep what is removed.

To look at /proc and at directories again and again misses what is quick. This misses nothing that Python does.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_LOG = os.environ.get("WATCH_LOG", "")
_KEPT = os.environ.get("WATCH_KEPT", "")
_MEMORY = os.environ.get("WATCH_MEMORY", "")  # where secrets are meant to be
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_STARTS = frozenset(["subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.spawn"])
_here = threading.local()


def _note(**what: Any) -> None:
    line = json.dumps(what, default=repr) + "\n"
    handle = os.open(_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(handle, line.encode(errors="backslashreplace"))
    os.close(handle)


def _keep(name: Any) -> None:
    path = Path(os.fsdecode(name) if not isinstance(name, int) else "")
    if not path.is_absolute() or str(path).startswith((_KEPT, _MEMORY)):
        return
    # Not a temporary directory of `tempfile`, which calls this while it holds its lock.
    place = Path(_KEPT, "%d-%d" % (os.getpid(), time.monotonic_ns()))
    with suppress(OSError, shutil.Error):
        if path.is_dir():
            shutil.copytree(path, place, symlinks=True)
        elif path.is_file():
            place.mkdir()
            shutil.copyfile(path, place / path.name)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if getattr(_here, "busy", False):
        return
    _here.busy = True
    try:
        if event == "open" and (arguments[2] or 0) & _WRITES:
            _note(writes=arguments[0] if isinstance(arguments[0], int) else os.fsdecode(arguments[0]))
        elif event in _STARTS:
            _note(starts=arguments, environment=dict(os.environ))
        elif event in ("os.remove", "shutil.rmtree"):
            _keep(arguments[0])
        elif event == "os.rename":
            _keep(arguments[1])
    finally:
        _here.busy = False


if _LOG:
    _note(starts=["python", sys.orig_argv], environment=dict(os.environ))
    sys.addaudithook(_hook)
