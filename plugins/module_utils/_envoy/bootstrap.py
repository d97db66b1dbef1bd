# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bootstrap: the only configuration that a running Envoy does not read again. The rest is in files beside it."""

from __future__ import annotations

import json

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.otlp import compile_runtime
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Metrics, Spec

# More connections than this are refused, so that a flood does not take the memory of those that are there.
_MAX_CONNECTIONS = 20000
# Nor may they take more than a quarter of the memory by waiting, if each needs as much as this.
_CONNECTION_BYTES = 32 * 1024

# Without those that never counted anything: a thousand models have 17 MB of them.
_USED_STATISTICS = "/stats/prometheus?usedonly"

# Reads /etc/hosts as well. A name server that is silent holds up the start, and every release that brings a new name,
# by 10 seconds instead of more than a minute.
_RESOLVER = xds.extension(
    "envoy.network.dns_resolver.cares",
    "extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
    query_timeout_seconds=2,
    query_tries=2,
)

_ADMIN = "admin"

_HEAP = "envoy.resource_monitors.fixed_heap"
# From which part of the heap on: first give memory back, then refuse new requests, then leave new connections waiting
# and end requests that are still being sent over HTTP/1.1.
_ACTIONS = (("shrink_heap", 0.75), ("stop_accepting_requests", 0.85), ("stop_accepting_connections", 0.95))
_LOAD_SHED_POINTS = (("http1_server_abort_dispatch", 0.95),)
# What the process has beside its heap, with bodies of requests in its scripts: measured, and a bit more.
_PROCESS_BYTES = 16 * 1024**2
_BODIES_OF_A_WORKER = 4


def compile_bootstrap(spec: Spec, host: Host, instance: str) -> xds.Config:
    """Return the bootstrap of one of the two instances, which differ in the path of their admin socket only."""
    socket = host.admin_socket(instance)
    return {
        # File-based secrets need a node with both names.
        "node": {"id": "openai-gateway", "cluster": "openai-gateway"},
        "admin": {"address": {"pipe": {"path": socket, "mode": 0o600}}},
        "bootstrap_extensions": [
            xds.extension(
                "envoy.bootstrap.internal_listener", "extensions.bootstrap.internal_listener.v3.InternalListener"
            )
        ],
        "dynamic_resources": {
            "lds_config": xds.release_source(host, "lds.json"),
            "cds_config": xds.release_source(host, "cds.json"),
        },
        **_memory(spec),
        "typed_dns_resolver_config": _RESOLVER,
        **compile_runtime(spec.otlp),
        "static_resources": {
            "listeners": [_metrics_listener(spec.metrics)],
            "clusters": [
                {
                    "name": _ADMIN,
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": _ADMIN,
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": socket}}}}]}],
                    },
                }
            ],
        },
    }


def _memory(spec: Spec) -> xds.Config:
    """Return what is given up, and when, before memory runs out.

    Without a limit of memory nobody knows when that is. Envoy answers new requests by itself then (`replies.py`); those
    that it has go on.
    """
    memory_max = spec.size.memory_max
    connections = _MAX_CONNECTIONS
    if memory_max is not None:
        connections = min(connections, memory_max // 4 // _CONNECTION_BYTES)
    monitors = [
        xds.extension(
            "envoy.resource_monitors.global_downstream_max_connections",
            "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            max_active_downstream_connections=connections,
        )
    ]
    if memory_max is None:
        return {"overload_manager": {"resource_monitors": monitors}}
    heap = _heap(memory_max, spec)
    monitors.append(
        xds.extension(_HEAP, "extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=heap)
    )
    manager = {
        # A gigabit a second brings 12 MB in this time.
        "refresh_interval": "0.1s",
        "resource_monitors": monitors,
        "actions": [_at(f"envoy.overload_actions.{name}", value) for name, value in _ACTIONS],
        "loadshed_points": [_at(f"envoy.load_shed_points.{name}", value) for name, value in _LOAD_SHED_POINTS],
    }
    # What is free counts for the kernel as well: above this it is given back at once.
    return {"overload_manager": manager, "memory_allocator_manager": {"soft_memory_limit_bytes": heap}}


def _heap(memory_max: int, spec: Spec) -> int:
    """Return how much of the memory the heap may have: the kernel, which kills at the limit, counts all of it."""
    beside = _PROCESS_BYTES + spec.size.concurrency * _BODIES_OF_A_WORKER * spec.max_request_size
    return max(memory_max - beside, memory_max // 2)


def _at(name: str, value: float) -> xds.Config:
    return {"name": name, "triggers": [{"name": _HEAP, "threshold": {"value": value}}]}


def _metrics_listener(metrics: Metrics) -> xds.Config:
    """Return the listener that shows /metrics, and nothing else, of the admin socket."""
    error = {
        "message": "There is only /metrics here.",
        "type": "invalid_request_error",
        "param": None,
        "code": "unknown_url",
    }
    manager = xds.extension(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="metrics",
        route_config={
            "virtual_hosts": [
                {
                    "name": "metrics",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {
                                "path": "/metrics",
                                "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
                            },
                            "route": {"cluster": _ADMIN, "prefix_rewrite": _USED_STATISTICS},
                        },
                        {
                            "match": {"prefix": "/"},
                            "direct_response": {"status": 404, "body": {"inline_string": json.dumps({"error": error})}},
                        },
                    ],
                }
            ]
        },
        http_filters=[xds.extension("envoy.filters.http.router", "extensions.filters.http.router.v3.Router")],
    )
    return {
        "name": "metrics",
        "address": {"socket_address": {"address": metrics.address, "port_value": metrics.port}},
        "ignore_global_conn_limit": True,
        # When the gateway refuses requests, somebody will want to know why.
        "bypass_overload_manager": True,
        "filter_chains": [{"filters": [manager]}],
    }
