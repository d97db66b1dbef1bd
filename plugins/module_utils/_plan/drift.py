# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drift: how what the hosts serve differs from the specification, in three classes, and the forms it is told in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import CREATE, DELETE, UPDATE
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.fleet import FleetPlan, HostPlan

ONLY_IN_GIT = "only_in_git"
ONLY_LIVE = "only_live"
DIFFERENT = "different"
_Samples = Iterator[tuple[Mapping[str, str], float]]
_ACTIONS = {ONLY_IN_GIT: CREATE, ONLY_LIVE: DELETE, DIFFERENT: UPDATE}


def drift_document(plan: FleetPlan) -> dict[str, Any]:
    """Return the drift of all hosts as plain JSON. It names secrets that differ and never holds one."""
    return {
        "environment": plan.environment,
        "commit": plan.commit,
        "timestamp": plan.created_at,
        "drift": plan.changed,
        "hosts": {host.host: _host(host) for host in plan.hosts},
        "unknown": dict(plan.unknown),
    }


def _host(host: HostPlan) -> dict[str, Any]:
    return {
        "drift": host.changed,
        "release": host.active,
        "process": host.process,
        "process_why": list(host.process_why),
        **{name: _resources(host, action) for name, action in _ACTIONS.items()},
        "files": list(host.drift),
        "secrets": None if host.secrets is None else list(host.secrets),
    }


def _resources(host: HostPlan, action: str) -> list[dict[str, Any]]:
    """Return the resources of a class; `before` of a field is what is live, `after` what is in Git."""
    return [
        {"address": change.address, **({"fields": change.as_dict()["fields"]} if action == UPDATE else {})}
        for change in host.changes
        if change.action == action
    ]


def render_metrics(plan: FleetPlan, seconds: float) -> str:
    """Return the drift for the textfile collector of Prometheus' node exporter; ``seconds`` is the time since 1970."""
    blocks: tuple[tuple[str, str, _Samples], ...] = (
        ("gateway_drift", "Whether a gateway differs from its specification.", _flags(plan)),
        ("gateway_drift_resources", "Resources that differ, by class.", _counts(plan)),
        ("gateway_drift_files", "Files that somebody else changed.", _sizes(plan, "drift")),
        ("gateway_drift_secrets", "Secrets that are others in their stores.", _sizes(plan, "secrets")),
        ("gateway_drift_known", "Whether the gateway could be looked at.", _known(plan)),
        ("gateway_drift_timestamp_seconds", "When the gateways were looked at.", iter([({}, seconds)])),
    )
    lines: list[str] = []
    for name, text, samples in blocks:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels(plan, labels)} {value:.15g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _flags(plan: FleetPlan) -> _Samples:
    for host in plan.hosts:
        yield {"host": host.host}, host.changed


def _counts(plan: FleetPlan) -> _Samples:
    for host in plan.hosts:
        for name, action in _ACTIONS.items():
            yield {"host": host.host, "class": name}, sum(change.action == action for change in host.changes)


def _sizes(plan: FleetPlan, attribute: str) -> _Samples:
    for host in plan.hosts:
        found = getattr(host, attribute)
        if found is not None:
            yield {"host": host.host}, len(found)


def _known(plan: FleetPlan) -> _Samples:
    for host in plan.hosts:
        yield {"host": host.host}, 1
    for name, _why in plan.unknown:
        yield {"host": name}, 0


def _labels(plan: FleetPlan, labels: Mapping[str, str]) -> str:
    pairs = {"environment": plan.environment, **labels}
    return "{%s}" % ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
