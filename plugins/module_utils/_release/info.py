# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module `gateway_info`: what is served, by which process, and how the providers are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._release import view
from ansible_collections.gatewayops.openai.plugins.module_utils._release.admin import AdminError
from ansible_collections.gatewayops.openai.plugins.module_utils._release.binary import version_of
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import ReadOnlyOps, told
from ansible_collections.gatewayops.openai.plugins.module_utils._release.site import Site, make_site

#: How the clusters of providers are named, see `_envoy.clusters`.
_PROVIDER = "provider:"


def info(host: Host) -> dict[str, Any]:
    """What the module returns. Raises ReleaseError."""
    site = make_site(host, ReadOnlyOps())
    try:
        return info_on(site)
    except OSError as error:
        raise told(error, site.layout.config) from None


def info_on(site: Site) -> dict[str, Any]:
    """The same of a given site; also raises OSError."""
    now = view.look(site)
    running = max(now.running, key=lambda each: bool(each.at_boot), default=None)
    result: dict[str, Any] = {
        "active": now.active,
        "previous": now.previous,
        "releases": sorted(now.releases),
        "history": [{**asdict(entry), "active": entry is now.history[-1]} for entry in reversed(now.history)],
        "service": {
            "manager": site.host.service_manager,
            "instance": running.name if running else "",
            "running": running is not None,
            "pid": running.pid if running else 0,
            "instances": {name: each.state for name, each in sorted(now.instances.items())},
        },
        "accepted": {},
        "providers": [],
        "envoy_version": _installed(site),
    }
    if running is None:
        return result
    try:
        result["accepted"] = site.live.accepted(running.name)
        result["providers"] = providers(site.live.clusters(running.name))
        result["envoy_version"] = version_of(site.live.build(running.name))
    except AdminError as error:
        result["problem"] = str(error)
    return result


def providers(clusters: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The clusters of providers among Envoy's `cluster_statuses`, by name, with their endpoints (pure)."""
    found = [
        {
            "name": str(cluster["name"])[len(_PROVIDER) :].rpartition("@")[0],
            "cluster": str(cluster["name"]),
            "endpoints": [endpoint(host) for host in cluster.get("host_statuses", [])],
        }
        for cluster in clusters
        if str(cluster.get("name", "")).startswith(_PROVIDER)
    ]
    return sorted(found, key=lambda each: str(each["cluster"]))


def endpoint(host: Mapping[str, Any]) -> dict[str, Any]:
    """One of Envoy's `host_statuses` (pure), see envoy.admin.v3.HostStatus. Without requests nothing is known bad."""
    address = host.get("address", {}).get("socket_address", {})
    stats = {str(each.get("name")): int(each.get("value", 0)) for each in host.get("stats", [])}
    health = host.get("health_status", {})
    return {
        "address": f"{address.get('address', '')}:{address.get('port_value', '')}",
        "hostname": str(host.get("hostname", "")),
        "healthy": not any(name.startswith("failed_") and value for name, value in health.items()),
        "requests": stats.get("rq_total", 0),
        "errors": stats.get("rq_error", 0),
        "active_requests": stats.get("rq_active", 0),
        "failed_connections": stats.get("cx_connect_fail", 0),
    }


def _installed(site: Site) -> str:
    try:
        return site.envoy.version()
    except ReleaseError:
        return ""
