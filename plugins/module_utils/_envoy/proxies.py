# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Forward proxies: for each a cluster, and an internal listener that makes a tunnel of what is sent to it.

A provider's cluster sends its connections, TLS and all, to the internal listener, and says by metadata which host and
port they are for. The proxy resolves the name. Envoy's transport socket for proxies (http_11_proxy) takes the address
of a proxy only, and no name.
"""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import Provider
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import BaseUrl

_KIND = "proxy"
_TUNNEL = "gw.tunnel"
_TO = "to"


def compile_proxies(spec: Spec) -> dict[str, xds.Config]:
    """Return the cluster of each forward proxy, by the proxy's host and port."""
    proxies = {provider.proxy.authority: provider.proxy for provider in spec.providers if provider.proxy is not None}
    return {authority: _cluster(proxy) for authority, proxy in sorted(proxies.items())}


def compile_proxy_listeners(clusters: Mapping[str, xds.Config]) -> list[xds.Config]:
    """Return the internal listener of each forward proxy."""
    return [_listener(authority, cluster["name"]) for authority, cluster in clusters.items()]


def endpoint_address(provider: Provider, url: BaseUrl) -> xds.Config:
    """Return the address of one of a provider's hosts: its own, or that of the way through its proxy."""
    if provider.proxy is None:
        return {"socket_address": {"address": url.host, "port_value": url.port}}
    name = _listener(provider.proxy.authority, _cluster(provider.proxy)["name"])["name"]
    return {"envoy_internal_address": {"server_listener_name": name, "endpoint_id": _place(url)}}


def tunnel_match(provider: Provider, url: BaseUrl) -> xds.Config:
    """Return the metadata of a host that says where the tunnel to it leads."""
    return {} if provider.proxy is None else {_TUNNEL: {_TO: _place(url)}}


def through_proxy(socket: xds.Config | None) -> xds.Config:
    """Return a transport socket that takes along where its tunnel leads, around the one that is used within it."""
    inner = socket or xds.extension(
        "envoy.transport_sockets.raw_buffer", "extensions.transport_sockets.raw_buffer.v3.RawBuffer"
    )
    return xds.extension(
        "envoy.transport_sockets.internal_upstream",
        "extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
        passthrough_metadata=[{"kind": {"host": {}}, "name": _TUNNEL}],
        transport_socket=inner,
    )


def _place(url: BaseUrl) -> str:
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port}"


def _cluster(proxy: BaseUrl) -> xds.Config:
    address = {"socket_address": {"address": proxy.host, "port_value": proxy.port}}
    return xds.cluster(
        _KIND,
        proxy.authority,
        {
            "connect_timeout": "5s",
            "circuit_breakers": xds.BREAKERS,
            "upstream_connection_options": xds.KEEPALIVE,
            "cluster_type": xds.dns(all_addresses_in_single_endpoint=False),
            "load_assignment": {"endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]},
        },
    )


def _listener(authority: str, cluster: str) -> xds.Config:
    tunnel = xds.extension(
        "envoy.filters.network.tcp_proxy",
        "extensions.filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=_KIND,
        cluster=cluster,
        # A provider may be silent for minutes while it thinks; who has sent the request knows when that is too long.
        idle_timeout="0s",
        tunneling_config={"hostname": f"%DYNAMIC_METADATA({_TUNNEL}:{_TO})%"},
    )
    content: xds.Config = {"internal_listener": {}, "filter_chains": [{"filters": [tunnel]}]}
    return xds.typed("config.listener.v3.Listener", name=xds.content_name(_KIND, authority, content), **content)
