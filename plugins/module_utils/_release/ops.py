# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that changes the machine: files, links, directories, commands. Nothing else in this package writes.

So check mode is an `Ops` that refuses, and a test can stop the process before any single change.
"""

from __future__ import annotations

# There is no AnsibleModule here whose run_command could be called.
# pylint: disable=ansible-bad-function
import os
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Optional

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release import disk

#: (uid, gid) that a file or directory belongs to; None leaves it with whoever runs this.
Owner = Optional[tuple[int, int]]


class Ops:
    """Change the machine, one small step at a time.

    `before` is called with a verb and a path ahead of every step. Errors are OSError, from commands ReleaseError.
    """

    def __init__(self, before: Callable[[str, str], None] = lambda verb, path: None) -> None:
        self.before = before

    def mkdir(self, path: Path, mode: int, owner: Owner = None) -> None:
        """Create a directory with exactly `mode`; its parents as they come."""
        if not path.parent.is_dir():
            self.mkdir(path.parent, 0o755)
        self.before("mkdir", str(path))
        path.mkdir(mode)
        self.protect(path, mode, owner)

    def create(self, path: Path, content: bytes, mode: int, owner: Owner = None) -> None:
        """Write a new file, and have it on the disk when this returns."""
        self.before("create", str(path))
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(handle, mode)
            if owner is not None:
                os.fchown(handle, *owner)
            file.flush()
            os.fsync(handle)

    def write(
        self,
        path: Path,
        content: bytes,
        mode: int,
        owner: Owner = None,
        first: Callable[[Path], None] = lambda path: None,
    ) -> None:
        """Put a file in place, the old one or none of it being there until the whole new one is.

        `first` does what the file is for, with the path that it has before that: where the file is in place, that was
        done, whenever a run is killed.
        """
        if not path.parent.is_dir():
            self.mkdir(path.parent, 0o755)
        temporary = temporary_of(path)
        if exists(temporary):
            self.unlink(temporary)
        try:
            self.create(temporary, content, mode, owner)
            first(temporary)
            self.rename(temporary, path)
        except (OSError, ReleaseError):
            with suppress(OSError):
                temporary.unlink()
            raise

    def link(self, path: Path, target: str) -> None:
        """Let the symbolic link `path` point to `target`, in one step."""
        temporary = temporary_of(path)
        if exists(temporary):
            self.unlink(temporary)
        self.before("symlink", str(temporary))
        temporary.symlink_to(target)
        self.rename(temporary, path)

    def rename(self, source: Path, target: Path) -> None:
        """Give `source` the name `target`, in place of what had it."""
        self.before("rename", str(target))
        source.rename(target)
        _sync(target.parent)

    def unlink(self, path: Path) -> None:
        """Remove a file or link."""
        self.before("unlink", str(path))
        path.unlink()

    def rmtree(self, path: Path) -> None:
        """Remove a directory and everything in it."""
        for entry in sorted(path.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                self.rmtree(entry)
            else:
                self.unlink(entry)
        self.rmdir(path)

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        self.before("rmdir", str(path))
        path.rmdir()

    def protect(self, path: Path, mode: int, owner: Owner = None) -> None:
        """Give a file or directory its mode and owner, if they differ."""
        status = path.stat()
        if owner is not None and (status.st_uid, status.st_gid) != owner:
            self.before("chown", str(path))
            os.chown(path, *owner)
        if stat.S_IMODE(path.stat().st_mode) != mode:
            self.before("chmod", str(path))
            path.chmod(mode)

    def run(self, argv: Sequence[str], timeout: float = 60.0) -> str:
        """Run a command that changes something; its output. Raises ReleaseError with what it said when it fails."""
        self.before("run", " ".join(argv))
        return query(argv, timeout)

    def feed(self, argv: Sequence[str], content: bytes, timeout: float = 60.0) -> bytes:
        """Run a command that changes something, with a secret on its standard input; see `piped`."""
        self.before("run", " ".join(argv))
        return piped(argv, content, timeout)

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a process; one that is gone is no error."""
        self.before("signal", f"{pid} {number}")
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class ReadOnlyOps(Ops):
    """The operations of check mode: none."""

    def __init__(self) -> None:
        super().__init__(_refuse)


def _refuse(verb: str, path: str) -> None:
    raise AssertionError(f"check mode must not {verb} {path}")


def query(argv: Sequence[str], timeout: float = 60.0, environment: Mapping[str, str] | None = None) -> str:
    """The output of a command that changes nothing. Raises ReleaseError with what it said when it fails."""
    status, output, errors = outcome(argv, timeout, environment)
    if status:
        said = errors.strip() or output.strip() or f"exit status {status}"
        raise ReleaseError(f"{' '.join(argv)} failed: {said}")
    return output


def outcome(
    argv: Sequence[str], timeout: float = 60.0, environment: Mapping[str, str] | None = None, content: bytes = b""
) -> tuple[int, str, str]:
    """Exit status, output and errors of a command that gets `content` on its standard input.

    Raises ReleaseError when it cannot be started or does not end.
    """
    done = _completed(argv, timeout, environment, content)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def piped(argv: Sequence[str], content: bytes, timeout: float = 60.0) -> bytes:
    """The output of a command that changes nothing, with a secret on its standard input.

    Raises ReleaseError with the last line of its complaints when it fails.
    """
    done = _completed(argv, timeout, None, content)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ReleaseError(f"{argv[0]} failed: {said[-1] if said else f'exit status {done.returncode}'}")
    return done.stdout


def _completed(
    argv: Sequence[str], timeout: float, environment: Mapping[str, str] | None, content: bytes
) -> subprocess.CompletedProcess[bytes]:
    full = dict(os.environ, LC_ALL="C", SYSTEMD_COLORS="0", SYSTEMD_PAGER="", **(environment or {}))
    full["PATH"] = full.get("PATH", os.defpath) + ":/usr/sbin:/sbin"  # not everybody's, and sysctl is there
    try:
        return subprocess.run(
            list(argv),
            input=content,
            capture_output=True,
            timeout=timeout,
            check=False,
            env=full,
        )
    except subprocess.TimeoutExpired:
        raise ReleaseError(f"{' '.join(argv)} has not ended within {timeout:g} s") from None
    except OSError as error:
        raise ReleaseError(f"cannot run {argv[0]}: {error.strerror}") from None


def temporary_of(path: Path) -> Path:
    """The name that a file or link has before it takes the place of `path`."""
    return path.with_name(f".{path.name}.gateway-new")


def exists(path: Path) -> bool:
    """Whether there is anything under that name, be it a link to nothing."""
    return path.is_symlink() or path.exists()


def told(error: OSError, fallback: Path, state: str = "the next run puts right what was begun") -> ReleaseError:
    """What to tell the user of an OSError: of one that somebody has to mend first, in which `state` things are."""
    path = Path(str(error.filename)) if error.filename else fallback
    what, remedy = disk.problem(error, path)
    if not what:
        return ReleaseError(f"{path}: {error.strerror or type(error).__name__}")
    return ReleaseError(f"{what}; {state}. {remedy}")


def _sync(directory: Path) -> None:
    """Have a directory's entries on the disk; not every file system can."""
    with suppress(OSError):
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
