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
MAX_CONNECTIONS = 20000

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
        "overload_manager": _overload(spec.size.memory_max),
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


def _overload(memory_max: int | None) -> xds.Config:
    monitors = [
        xds.extension(
            "envoy.resource_monitors.global_downstream_max_connections",
            "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            max_active_downstream_connections=MAX_CONNECTIONS,
        )
    ]
    if memory_max is None:
        return {"resource_monitors": monitors}
    heap = "envoy.resource_monitors.fixed_heap"
    monitors.append(
        xds.extension(
            heap, "extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=memory_max
        )
    )
    # The kernel kills at the limit of the unit: before that, give memory back, then refuse new requests.
    actions = [
        {"name": f"envoy.overload_actions.{name}", "triggers": [{"name": heap, "threshold": {"value": value}}]}
        for name, value in (("shrink_heap", 0.8), ("stop_accepting_requests", 0.9))
    ]
    return {"refresh_interval": "0.25s", "resource_monitors": monitors, "actions": actions}


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
        "filter_chains": [{"filters": [manager]}],
    }
