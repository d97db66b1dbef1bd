# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time: a lock that ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Ops

#: Seconds between two tries to get the lock.
_AGAIN = 0.2


@contextmanager
def exclusively(path: Path, ops: Ops, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock. Raises ReleaseError that says who has it when it is held, and still is after `wait` seconds."""
    ops.before("lock", str(path))
    end = time.monotonic() + wait
    handle = _open(path)
    try:
        _take(handle, fcntl.LOCK_EX, end)
        while not _is_there(handle, path):  # it was removed with the gateway while this waited
            os.close(handle)
            handle = -1
            handle = _open(path)
            _take(handle, fcntl.LOCK_EX, end)
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with suppress(OSError):  # a full disk: it is locked all the same
            # In place: a rename would make Envoy read its files again.
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()} {since}\n".encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        if handle >= 0:
            os.close(handle)


@contextmanager
def looking(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Make sure that no run holds the lock, or wait up to `wait` seconds for it. A look keeps nobody from starting."""
    end = time.monotonic() + wait
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        _take(handle, fcntl.LOCK_SH, end)
    finally:
        os.close(handle)
    yield


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise ReleaseError("the gateway was just removed from this host; nothing was changed. Run this again") from None


def _is_there(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _take(handle: int, kind: int, end: float = 0.0) -> None:
    while True:
        try:
            return fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < end:
                time.sleep(_AGAIN)
                continue
            pid, since = os.pread(handle, 100, 0).decode("ascii", "replace").strip().partition(" ")[::2]
            holder = f"pid {pid}, since {since}" if pid else "it does not say who"
            raise ReleaseError(
                f"another run is applying to this host ({holder}); nothing was changed. Run this again when it has "
                "ended, or set gateway_lock_wait to have runs wait for each other"
            ) from None
