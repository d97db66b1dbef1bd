"""A plugin for pytest: enough inotify instances for the Envoys of tests that run side by side."""

from __future__ import annotations

import os
from pathlib import Path

INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")


def pytest_sessionstart() -> None:
    """Envoy takes one for each file that it watches, and aborts when there is none; Linux grants a user 128.

    A larger number is no harm to anybody, so it stays. Only root can set it: others are told.
    """
    if int(INSTANCES.read_text()) >= 1024:
        return
    if os.access(INSTANCES, os.W_OK):
        INSTANCES.write_text("1024")
    else:
        print("fs.inotify.max_user_instances is below 1024: Envoys that run side by side may abort")
