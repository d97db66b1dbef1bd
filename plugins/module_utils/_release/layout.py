# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things are in the configuration directory of a gateway.

    /etc/openai-gateway/
      .lock                        held by the run that changes something
      current -> releases/active   what Envoy reads; renamed into place to make it read again
      releases/
        active -> 3f0c…            the release that is served
        history.json               which releases were active, when, by whom
        3f0c…/                     a release: immutable, named by the digest of its files
        3f0c….1/                   a step on the way to it, only while it is being switched to
        .stage-…/  .trash-…/       being made, being removed

Envoy reads its files again when anything is renamed into the directory it watches, which is that of `current`. Two
links are there so that a release can be put in place without telling the process that runs: a process that is being
replaced must not see the files of the one that replaces it. For the same reason nothing but `current` is ever renamed
into that directory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import SYSTEMD, Host

_DIGEST = re.compile(r"[0-9a-f]{16}\Z")
_STEP = re.compile(r"([0-9a-f]{16})\.[0-9]+\Z")
_LEFTOVER = re.compile(r"\.(stage|trash)-|\..*\.gateway-new\Z")

#: Modes of what is made here.
CONFIG_MODE = 0o750
PRIVATE_MODE = 0o700
RELEASE_MODE = 0o755


@dataclass(frozen=True)
class Directory:
    """A directory that a gateway needs; `private` ones belong to Envoy's user, the others only to its group."""

    path: Path
    mode: int
    private: bool


@dataclass(frozen=True)
class Layout:
    """The paths of one gateway. `root` is where the files outside of its own directories go, `/` but in tests."""

    host: Host
    root: Path = Path("/")

    @property
    def config(self) -> Path:
        return Path(self.host.config_dir)

    @property
    def lock(self) -> Path:
        return self.config / ".lock"

    @property
    def current(self) -> Path:
        return self.config / "current"

    @property
    def releases(self) -> Path:
        return self.config / "releases"

    @property
    def active(self) -> Path:
        return self.releases / "active"

    @property
    def history(self) -> Path:
        return self.releases / "history.json"

    @property
    def sealed_secrets(self) -> Path:
        """The secrets on the disk, encrypted."""
        return Path(self.host.state_dir, "secrets.sealed")

    def release(self, name: str) -> Path:
        """The directory of a release, or of a step towards one."""
        return self.releases / name

    def record(self, instance: str) -> Path:
        """Where a process notes which release it was started with."""
        return Path(self.host.runtime_dir, instance + ".release")

    def outside(self, path: str) -> Path:
        """Where the file `host/<…>` of a release goes."""
        return self.root / path[len("host/") :]

    def directories(self) -> tuple[Directory, ...]:
        """The directories that are made and kept by this package; that of the secrets is looked after by another."""
        return (
            Directory(self.config, CONFIG_MODE, private=False),
            Directory(self.releases, CONFIG_MODE, private=False),
            Directory(Path(self.host.runtime_dir), CONFIG_MODE, private=True),
            Directory(Path(self.host.log_dir), CONFIG_MODE, private=True),
        )

    @property
    def systemd(self) -> bool:
        """Whether the service is systemd's."""
        return self.host.service_manager == SYSTEMD


def is_digest(name: str) -> bool:
    """Whether a name in `releases/` is that of a release."""
    return bool(_DIGEST.match(name))


def is_leftover(name: str) -> bool:
    """Whether a name in `releases/` is that of something unfinished."""
    return bool(_LEFTOVER.match(name))


def digest_of(name: str) -> str:
    """The release that a directory belongs to: `3f0c….1` is a step towards `3f0c…`; '' when it is neither."""
    step = _STEP.match(name)
    return step.group(1) if step else name if is_digest(name) else ""
