# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Envoy's binary on the host: which version it is, and whether it takes a release."""

from __future__ import annotations

# There is no AnsibleModule here whose run_command could be called.
# pylint: disable=ansible-bad-function
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.fold import fold
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Owner, query

#: `envoy  version: 9e55…/1.40.0/Clean/RELEASE/BoringSSL`; the same text is in `/server_info`.
_VERSION = re.compile(r"[0-9a-f]{40}/([^/\s]+)/\S+")
_SECONDS = 60
#: What Envoy writes in front of a line of its log: `[time][thread][level][logger] [file:line] `.
_PREFIX = re.compile(r"^\s*\[[^\]]*\]\[\d+\]\[(?P<level>\w+)\]\[\w+\]\s*(?:\[[^\]]*\])?\s*", re.MULTILINE)
#: Warnings that come with every start, or with every start in a container.
_USUAL = ("no configured limit", "Expected cgroup v1 files")
#: Of a long list of messages the last say what mattered.
_MESSAGES = 6


class Binary:
    """The binary at `path`; what it is run for here, it is run for as `owner`."""

    def __init__(self, path: str, owner: Owner) -> None:
        self._path = path
        self._owner = owner
        self._build = ""

    def build(self) -> str:
        """The whole text of the version. Raises ReleaseError when there is no such binary, or it does not run."""
        if not self._build:
            if not (Path(self._path).is_file() and os.access(self._path, os.X_OK)):
                raise ReleaseError(f"there is no Envoy at {self._path}: install it first (the role envoy does)")
            found = _VERSION.search(query([self._path, "--version"]))
            if not found:
                raise ReleaseError(f"{self._path} --version does not tell a version of Envoy")
            self._build = found.group(0)
        return self._build

    def version(self) -> str:
        """Its version: `1.40.0`."""
        return version_of(self.build())

    def validate(self, files: Mapping[str, bytes]) -> None:
        """Let Envoy check a release, whole. Raises ReleaseError with what Envoy says of it."""
        said = self.refusal(files)
        if said:
            raise ReleaseError(f"Envoy {self.version()} refuses this release, nothing was switched: {said}")

    def refusal(self, files: Mapping[str, bytes], *, offline: bool = False) -> str:
        """What Envoy says against a release, '' when it takes it; with `offline` no file of the host is read.

        From memory: a file would be left behind by a run that is killed, and check mode may not write one. Envoy takes
        no path in /proc, but this one in /dev.
        """
        handle = os.memfd_create("gateway-validate", os.MFD_CLOEXEC)
        try:
            os.fchmod(handle, 0o444)
            _write(handle, fold(files, dummy_authorities=offline))
            return self._validate(handle)
        finally:
            os.close(handle)

    def _validate(self, handle: int) -> str:
        argv = [self._path, "--mode", "validate", "-c", f"/dev/fd/{handle}", "-l", "error"]
        identity: dict[str, Any] = {}
        if self._owner is not None and os.geteuid() == 0:
            identity = {"user": self._owner[0], "group": self._owner[1], "extra_groups": []}
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=(handle,),
                timeout=_SECONDS,
                check=False,
                cwd="/",
                **identity,
            )
        except subprocess.TimeoutExpired:
            return f"it has not ended its validation within {_SECONDS} s"
        except OSError as error:
            return f"it cannot be run as its user: {error.strerror} ({self._path})"
        if not done.returncode:
            return ""
        text = (done.stderr + b"\n" + done.stdout).decode("utf-8", "replace")
        return reasons(text) or f"exit status {done.returncode}"


class NoBinary:
    """Stands where check mode finds no binary: the role that installs it has only said that it would."""

    def build(self) -> str:
        """Of no version, so that no process fits it."""
        return ""

    def version(self) -> str:
        """Not known."""
        return ""

    def validate(self, files: Mapping[str, bytes]) -> None:
        """Nobody is there to ask."""


def version_of(build: str) -> str:
    """`1.40.0` of the whole text of a version, '' when it is none (pure)."""
    found = _VERSION.search(build)
    return found.group(1) if found else ""


def reasons(log: str) -> str:
    """What Envoy says went wrong in a log, in its own words and on one line; '' when nothing did (pure)."""
    found: list[str] = []
    # The service's other program writes to the same log.
    parts = _PREFIX.split("\n".join(line for line in log.splitlines() if not line.startswith("gateway-admin: ")))
    # split() gives text, level, text, level, …; what stands before the first level is no message of Envoy's.
    for level, message in zip(parts[1::2], parts[2::2]):
        text = " ".join(message.split())
        if level in ("warning", "error", "critical") and text and not any(text in other for other in found):
            found = [other for other in found if other not in text] + [text]
    chosen = [text for text in found if not any(usual in text for usual in _USUAL)]
    return "; ".join(chosen[-_MESSAGES:])


def _write(handle: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]
