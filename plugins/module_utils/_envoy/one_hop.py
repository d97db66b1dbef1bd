# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models with fallbacks whose first provider is asked without the egress listener.

The cluster of such a model has its first provider's own address before those of its fallbacks in the egress listener,
so who is put aside is still put aside for this model only. A provider that is reached by name or by TLS is reached
through a tunnel: an internal listener that passes bytes to the provider's cluster, which has the addresses, the
certificates and the CAs; a thousand models would need hundreds of megabytes for their own.

Each attempt passes the filters for whoever it goes to: for the first provider they are those of its cluster, for a
fallback they take back what an attempt before may have added, since headers are one object for all attempts. So is
the path, which no filter can put back: hence only providers that have that of the clients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import anthropic, xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.concurrency import may_be_full
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.deployments import (
    LONGEST_WAIT_SECONDS,
    keeps_path,
    ranks,
    silence_of,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.logs import compile_tunnel_log
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.otlp import kept_back
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.transport import is_ip
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Model, Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import Provider

_COMPOSITE = "extensions.filters.http.composite.v3"


def first_in_one_hop(spec: Spec, model: Model) -> Provider | None:
    """Return the provider that is asked first for ``model``, where there are fallbacks and it needs no egress listener.

    It needs one when its cluster does more than to connect: where it picks one of several addresses, by their checks,
    turns and answers, or translates.
    """
    (first, *others), *fallbacks = ranks(model)
    providers = {provider.name: provider for provider in spec.providers}
    provider = providers[first.provider]
    (url, *more_urls) = provider.base_urls
    if others or not fallbacks or more_urls or provider.health_check or provider.proxy or not keeps_path(provider):
        return None
    # Its own cluster counts its requests.
    if may_be_full(model, providers):
        return None
    # In plain HTTP a name may stand for several machines, see clusters.py.
    if not (url.scheme == "https" or is_ip(url.host)) or anthropic.serves(model, providers):
        return None
    # One silence is measured from the request to the last byte, and the egress listener measures that within an answer.
    if silence_of(model) < (1 + len(fallbacks)) * (model.timeouts.first_byte + LONGEST_WAIT_SECONDS):
        return None
    # What it must not know would be lost for those after it.
    kept = kept_back(spec.otlp, provider.name)
    return provider if not kept or all(kept_back(spec.otlp, rank[0].provider) for rank in fallbacks) else None


def compile_tunnels(spec: Spec, clusters: Mapping[str, str]) -> list[xds.Config]:
    """Return the internal listeners that lead to providers; ``clusters`` are by the names of providers."""
    found = (first_in_one_hop(spec, model) for model in spec.models)
    names = sorted({provider.name for provider in found if provider is not None and not _is_plain(provider)})
    return [_listener(name, clusters[name]) for name in names]


def first_address(provider: Provider, cluster: str) -> xds.Config:
    """Return the part of an endpoint that says where ``provider``, whose cluster that is, is reached."""
    (url,) = provider.base_urls
    address: xds.Config = {"socket_address": {"address": url.host, "port_value": url.port}}
    if not _is_plain(provider):
        name = _listener(provider.name, cluster)["name"]
        address = {"envoy_internal_address": {"server_listener_name": name, "endpoint_id": provider.name}}
    # What becomes the Host header.
    return {"address": address, "hostname": url.authority}


def by_way(first: Iterable[xds.Config], headers: Iterable[str], fallbacks: Iterable[str]) -> xds.Config:
    """Return the filter that is ``first`` for attempts at the first provider.

    ``fallbacks`` are the deployments of others. They do not get ``headers``, which the first may have got. Whoever is
    not known gets the filters of the first: it is the first, or the egress listener, which refuses what has no
    deployment.
    """
    to_other = _run([xds.header_mutation("fallback", [{"remove": name} for name in headers])])
    ways = xds.exact_map(xds.DEPLOYMENT, dict.fromkeys(fallbacks, to_other), {"action": _run(first)})
    composite = xds.extension("envoy.filters.http.composite", f"{_COMPOSITE}.Composite")
    matched = xds.typed(
        "extensions.common.matching.v3.ExtensionWithMatcher", extension_config=composite, xds_matcher=ways
    )
    return {"name": "way", "typed_config": matched}


def _is_plain(provider: Provider) -> bool:
    (url,) = provider.base_urls
    return url.scheme == "http"


def _listener(provider: str, cluster: str) -> xds.Config:
    tunnel = xds.extension(
        "envoy.filters.network.tcp_proxy",
        "extensions.filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix="tunnel",
        cluster=cluster,
        # Who has sent a request knows when a silence is too long.
        idle_timeout="0s",
        access_log=compile_tunnel_log(),
    )
    content: xds.Config = {
        "internal_listener": {},
        # What is here was let in.
        "bypass_overload_manager": True,
        "filter_chains": [{"filters": [tunnel]}],
    }
    return xds.typed("config.listener.v3.Listener", name=xds.content_name("tunnel", provider, content), **content)


def _run(filters: Iterable[xds.Config]) -> xds.Config:
    chain = {"typed_config": list(filters)}
    return {"name": "run", "typed_config": xds.typed(f"{_COMPOSITE}.ExecuteFilterAction", filter_chain=chain)}
