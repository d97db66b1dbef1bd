# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the release needs of a service manager, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import INSTANCES

RUNNING = "running"
STARTING = "starting"
#: Stopping, with connections that are still served.
DRAINING = "draining"
#: Not running, and tried again and again.
FAILED = "failed"
STOPPED = "stopped"


@dataclass(frozen=True)
class Instance:
    """One of the two processes. `at_boot`: it starts with the machine, None where nobody has to choose."""

    name: str
    state: str
    pid: int = 0
    at_boot: bool | None = None

    @property
    def has_process(self) -> bool:
        """Whether a process may be holding the ports and the admin socket."""
        return self.state in (RUNNING, STARTING, DRAINING)


class Manager(Protocol):
    """A service manager. Every method that changes something raises ReleaseError when it cannot."""

    def instances(self) -> Mapping[str, Instance]:
        """Both instances by name."""

    def is_stale(self) -> bool:
        """Whether the manager still knows another configuration than the files have."""

    def reload(self) -> None:
        """Make the manager read its configuration; what runs goes on running."""

    def start(self, name: str) -> None:
        """Start an instance that has no process, with the configuration that is in place now."""

    def drain(self, name: str) -> None:
        """Begin to stop an instance, and return while its connections are still served."""

    def choose(self, name: str) -> None:
        """Let this instance, and not the other, start with the machine."""

    def mark(self, name: str) -> str:
        """A point in the log of an instance."""

    def log_since(self, name: str, mark: str) -> str:
        """What an instance wrote to its log since `mark`."""

    def remove(self) -> None:
        """Leave nothing behind once both instances are stopped."""


def other(name: str) -> str:
    """The instance that takes turns with `name`."""
    return INSTANCES[1] if name == INSTANCES[0] else INSTANCES[0]
