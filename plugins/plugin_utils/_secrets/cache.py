# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one run of Ansible already knows of its stores, shared by all its forks.

Ansible templates lazily, in a new process for every task and host: what a process remembers is gone with it. The
forks of a run share a directory (``DEFAULT_LOCAL_TMP``, 0700, removed at the end) and the ``authkey`` that
multiprocessing gives to the first process and its forks inherit. That key is never on a disk, in the environment or in
an argument. So files there, sealed with a key derived from it, are shared by the run and unreadable after it.

One file belongs to one store with one set of options, or to one answer of it. Readers take no lock, since a rename
publishes; who has to ask the store holds its lock, so that one process logs in while the others wait for what it
learns. What runs leave that were killed is removed by their keeper, and what machines leave by a later run.
"""

from __future__ import annotations

import errno
import fcntl
import hmac
import json
import multiprocessing
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ansible import constants as C  # noqa: N812 - Ansible's own name for it

_DIRECTORY = "gatewayops-secrets"
_NONCE = 12
#: How Ansible names the directory of a run: so, then the process id, then so many random characters of ``mkdtemp``.
_RUN = "ansible-local-"
_RANDOM = 8
#: How old a cache without a run has to be to be removed, in seconds.
_STALE = 3600.0


class RunCache:
    """Sealed JSON objects in ``directory``, found by a name that says nothing about what they are."""

    def __init__(self, directory: Path, secret: bytes, run: int | None = None) -> None:
        """``run`` is the main process of the run, which a cache by itself has not."""
        # A dependency of ansible-core, which ansible-test leaves out where it only imports plugins.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        keys = HKDF(algorithm=SHA256(), length=64, salt=None, info=b"gatewayops.openai run cache").derive(secret)
        self.directory = directory
        self.run = run
        self._cipher = AESGCM(keys[:32])
        self._naming = keys[32:]

    @classmethod
    def of_this_run(cls) -> RunCache:
        """The cache that the forks of this run share."""
        main = multiprocessing.parent_process()
        run = os.getpid() if main is None or main.pid is None else main.pid
        return cls(Path(C.DEFAULT_LOCAL_TMP) / _DIRECTORY, bytes(multiprocessing.current_process().authkey), run)

    def name(self, identity: str) -> str:
        """The file name for an identity, which may hold secrets: a keyed hash, whose key dies with the run."""
        return hmac.digest(self._naming, identity.encode(), "sha256").hex()

    def load(self, name: str) -> dict[str, Any]:
        """The published object, empty when there is none or when it was not sealed by this run under this name."""
        from cryptography.exceptions import InvalidTag

        try:
            sealed = (self.directory / name).read_bytes()
            content = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], name.encode())
        except (OSError, InvalidTag, ValueError):
            return {}
        value: dict[str, Any] = json.loads(content)
        return value

    def publish(self, name: str, value: dict[str, Any]) -> None:
        """Seal an object and put it in place of the one before. The caller holds the lock. Raises OSError."""
        nonce = secrets.token_bytes(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, json.dumps(value).encode(), name.encode())
        temporary = self.directory / f".{name}.{secrets.token_hex(8)}"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(sealed)
            temporary.replace(self.directory / name)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

    def forget(self, name: str) -> None:
        """Remove an object, if there is one. The caller holds the lock. Raises OSError."""
        (self.directory / name).unlink(missing_ok=True)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Wait until no other process asks the same store. Raises OSError.

        Not for a worker whose run was killed: it would log in anew and leave files that nobody removes.
        """
        if self.run is not None and has_ended(self.run):
            raise ProcessLookupError(errno.ESRCH, "the run was ended")
        if not self.directory.is_dir():
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.run is not None:
                remove_stale(self.directory.parent.parent, time.time())
        with (self.directory / f"{name}.lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def remove_stale(directory: Path, now: float) -> None:
    """Remove the caches of runs that are over from Ansible's local temporary directory, one hour after their end.

    ``now`` is in seconds since 1970, as the times of files are. Ansible names the directory of a run after its process;
    a run in another container is known by its keeper, which holds a lock on the cache.
    """
    for cache in directory.glob(f"{_RUN}*/{_DIRECTORY}"):
        pid = cache.parent.name[len(_RUN) : -_RANDOM]
        with suppress(OSError):
            if pid.isdecimal() and has_ended(int(pid)) and now - cache.lstat().st_mtime > _STALE:
                with _unheld(cache):
                    shutil.rmtree(cache)
                cache.parent.rmdir()


@contextmanager
def _unheld(directory: Path) -> Iterator[None]:
    """Make sure that nobody holds a lock on a directory. Raises OSError when somebody does."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def has_ended(run: int) -> bool:
    """Whether the main process of a run is there no more."""
    if run in (os.getpid(), os.getppid()):
        return False
    try:
        os.kill(run, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
