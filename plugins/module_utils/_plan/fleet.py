# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan of all hosts: what would happen on each, those alike told once, and of whom nothing is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import (
    CREATE,
    DELETE,
    UPDATE,
    ResourceChange,
    diff_resources,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.guard import WORKSPACE

Resources = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class HostPlan:
    """What would happen on a host, as the action `gateway_plan` tells it.

    `before` are the resources of the release `active`, which is served now ('' and none without one), `after` those of
    the release `release`. `drift` is what somebody else changed on the host. `process` is what happens to Envoy:
    `none`, `start`, `reload` or `replace`, and `process_why` is why. `in_use` are consumers that are removed, with the
    requests that they sent within the last hour. `secrets` are those that are others in the stores, as lines; None when
    the stores were not asked. `changed` is whether anything on the host changes.
    """

    host: str
    active: str
    release: str
    spec_digest: str
    envoy_version: str
    process: str
    changed: bool
    before: Resources
    after: Resources
    drift: tuple[str, ...]
    findings: tuple[Mapping[str, str], ...]
    secrets: tuple[str, ...] | None = None
    process_why: tuple[str, ...] = ()
    in_use: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a task's result, from which :func:`host_plan` makes it again."""
        data = {name: getattr(self, name) for name in _PLAIN}
        data.update(
            process_why=list(self.process_why),
            after=self.after,
            drift=list(self.drift),
            findings=[dict(each) for each in self.findings],
        )
        if self.secrets is not None:
            data["secrets"] = list(self.secrets)
        # Nothing changes on most hosts, and a result goes through a pipe.
        return data if self.before == self.after else {**data, "before": self.before}

    @cached_property
    def changes(self) -> tuple[ResourceChange, ...]:
        """The resources that differ, by address."""
        return diff_resources(self.before, self.after)

    @cached_property
    def likeness(self) -> bytes:
        """What hosts that would change alike have in common."""
        return canonical_json(
            [
                *(self.before, self.after, self.process, list(self.process_why), self.changed),
                *(list(self.drift), list(self.secrets or ())),
            ]
        )


_PLAIN = ("in_use", "active", "release", "spec_digest", "envoy_version", "process", "changed")


def host_plan(host: str, data: Mapping[str, Any]) -> HostPlan:
    """Return the plan of a host from plain data. Raises KeyError for data that is something else."""
    return HostPlan(
        host=host,
        before=data.get("before", data["after"]),
        after=data["after"],
        drift=tuple(data["drift"]),
        process_why=tuple(data.get("process_why", ())),
        secrets=tuple(data["secrets"]) if "secrets" in data else None,
        findings=tuple(data["findings"]),
        **{name: data[name] for name in _PLAIN},
    )


def workspace_of(plans: Iterable[HostPlan]) -> str:
    """Return the workspace of the hosts; those of several are told side by side, and none is ''."""
    names = {plan.after[WORKSPACE]["name"] for plan in plans if WORKSPACE in plan.after}
    return ", ".join(sorted(names))


@dataclass(frozen=True)
class Group:
    """Hosts that would change alike; `plan` is that of the first one."""

    hosts: tuple[str, ...]
    plan: HostPlan

    @property
    def title(self) -> str:
        """The hosts in a line: all names of a few, else the first and how many more."""
        if len(self.hosts) <= _NAMED:
            return ", ".join(self.hosts)
        return f"{', '.join(self.hosts[: _NAMED - 1])} and {len(self.hosts) - _NAMED + 1} more"


@dataclass(frozen=True)
class FleetPlan:
    """The plan of an environment. `hosts` are sorted by name; `unknown` says why nothing is known of the others.

    `created_at` and `expires_at` are times of RFC 3339, `commit` is that of the inventory or ''.
    """

    environment: str
    created_at: str
    expires_at: str
    collection_version: str
    commit: str
    hosts: tuple[HostPlan, ...]
    unknown: tuple[tuple[str, str], ...] = ()

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The hosts that would change alike, those that change first."""
        members: dict[bytes, list[HostPlan]] = {}
        for plan in self.hosts:
            members.setdefault(plan.likeness, []).append(plan)
        groups = [Group(tuple(plan.host for plan in plans), plans[0]) for plans in members.values()]
        return tuple(sorted(groups, key=lambda group: (not group.plan.changed, group.hosts)))

    @property
    def changing(self) -> tuple[Group, ...]:
        """The groups on whose hosts anything changes."""
        return tuple(group for group in self.groups if group.plan.changed)

    @property
    def changed(self) -> bool:
        """Whether anything changes on any host."""
        return bool(self.changing)

    @property
    def workspace(self) -> str:
        """The workspace that the hosts are to serve; '' when they have none."""
        return workspace_of(self.hosts)

    def count(self, action: str) -> int:
        """How many resources are created, updated or deleted, those of hosts that change alike once."""
        return sum(change.action == action for group in self.groups for change in group.plan.changes)

    @property
    def summary(self) -> str:
        """The line that ends the plan, in the words of Terraform."""
        if self.unknown and not self.hosts:
            return f"Nothing is known of {several(len(self.unknown), 'host')}"
        if not self.changed:
            text = f"No changes. {several(len(self.hosts), 'host')} as specified"
        else:
            counts = f"{self.count(CREATE)} to add, {self.count(UPDATE)} to change, {self.count(DELETE)} to remove"
            hosts = sum(len(group.hosts) for group in self.changing)
            groups = len(self.changing)
            text = f"Plan: {counts}, on {several(hosts, 'host')}{f' in {groups} groups' if groups > 1 else ''}"
        return f"{text}; nothing is known of {several(len(self.unknown), 'host')}" if self.unknown else text


#: So many hosts of a group are named.
_NAMED = 4


def several(count: int, noun: str) -> str:
    """A number and what it counts: `1 host`, `2 hosts`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
