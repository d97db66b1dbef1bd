# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd as the service manager of a gateway."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import INSTANCES
from ansible_collections.gatewayops.openai.plugins.module_utils._host.service import unit
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Ops, outcome, query
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import (
    DRAINING,
    FAILED,
    RUNNING,
    STARTING,
    STOPPED,
    Instance,
)

_PROPERTIES = "Id,ActiveState,SubState,MainPID,UnitFileState,NeedDaemonReload"
#: From org.freedesktop.systemd1(5), ActiveState.
_STATES = {
    "active": RUNNING,
    "reloading": RUNNING,
    "activating": STARTING,
    "deactivating": DRAINING,
    "failed": STOPPED,
    "inactive": STOPPED,
}
#: More than the unit's own limits, which are the ones that count.
_START_SECONDS = 120.0


class Systemd:
    """The template unit `openai-gateway@`, of which two instances take turns."""

    def __init__(self, ops: Ops) -> None:
        self._ops = ops

    def instances(self) -> Mapping[str, Instance]:
        """Both instances by name."""
        return {name: instance_of(name, properties) for name, properties in self._properties().items()}

    def is_stale(self) -> bool:
        """Whether systemd has not read the unit since it was written."""
        return any(properties.get("NeedDaemonReload") == "yes" for properties in self._properties().values())

    def reload(self) -> None:
        """Make systemd read its units."""
        self._ops.run(["systemctl", "daemon-reload"])

    def start(self, name: str) -> None:
        """Start an instance, or start it again when it keeps failing; returns when it has accepted its release."""
        with suppress(ReleaseError):
            self._ops.run(["systemctl", "reset-failed", unit(name)])
        # Not `start`: an instance between two attempts counts as active, and that would be no new attempt.
        try:
            self._ops.run(["systemctl", "restart", unit(name)], _START_SECONDS)
        except ReleaseError:
            raise ReleaseError(f"systemd could not start {unit(name)}") from None

    def drain(self, name: str) -> None:
        """Begin to stop an instance; the unit's ExecStop drains it."""
        self._ops.run(["systemctl", "stop", "--no-block", unit(name)])

    def choose(self, name: str) -> None:
        """Enable one instance and disable the other."""
        for each in INSTANCES:
            self._ops.run(["systemctl", "enable" if each == name else "disable", unit(each)])

    def mark(self, name: str) -> str:
        """A point in the journal: a time, see journalctl(1), --since."""
        return f"@{time.time():.6f}"

    def log_since(self, name: str, mark: str) -> str:
        """What an instance wrote to the journal since `mark`."""
        with suppress(ReleaseError):
            outcome(["journalctl", "--sync"])
            # By the unit of the process that wrote it: with -u there is also what systemd says of the unit.
            which = f"_SYSTEMD_UNIT={unit(name)}"
            return query(["journalctl", "-q", "--no-pager", "-o", "cat", f"--since={mark}", which])
        return ""

    def remove(self) -> None:
        """Let no instance start with the machine."""
        for name, instance in self.instances().items():
            if instance.at_boot:
                self._ops.run(["systemctl", "disable", unit(name)])

    def _properties(self) -> dict[str, dict[str, str]]:
        units = {unit(name): name for name in INSTANCES}
        output = query(["systemctl", "show", "--no-pager", f"--property={_PROPERTIES}", *units])
        blocks = [parse_properties(block) for block in output.split("\n\n")]
        found = {units[block["Id"]]: block for block in blocks if block.get("Id") in units}
        if set(found) != set(INSTANCES):
            raise ReleaseError("systemctl show does not tell of both instances of openai-gateway@.service")
        return found


def parse_properties(block: str) -> dict[str, str]:
    """`Name=value`, one a line (pure)."""
    return {name: value for name, found, value in (line.partition("=") for line in block.splitlines()) if found}


def instance_of(name: str, properties: Mapping[str, str]) -> Instance:
    """What systemd's properties say of an instance (pure)."""
    state = _STATES.get(properties.get("ActiveState", ""), STOPPED)
    if properties.get("SubState") == "auto-restart":
        state = FAILED
    pid = int(properties.get("MainPID") or 0)
    return Instance(name, state, pid, properties.get("UnitFileState") == "enabled")
