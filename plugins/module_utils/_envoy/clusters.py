# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clusters: one for each provider, with its credential. Those of models are in model_clusters.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import anthropic, xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.concurrency import breakers
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.jwt import fetch_cluster_name
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.otlp import kept_back
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.proxies import endpoint_address, tunnel_match
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secrets import provider_file
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.transport import is_ip, tls_match, transport
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import JwtIssuer, Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import HealthCheck, Provider
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import BaseUrl

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_UPSTREAM_CODEC = xds.extension(
    "envoy.filters.http.upstream_codec", "extensions.filters.http.upstream_codec.v3.UpstreamCodec"
)
# Servers in Python close a kept connection after 5 seconds (uvicorn's default), which would lose the request that is
# on its way then; public providers keep them for minutes, and a new TLS connection is dear.
IDLE = {"http": "4s", "https": "60s"}


def compile_provider_clusters(spec: Spec, host: Host) -> dict[str, xds.Config]:
    """Return the cluster of each provider, by the provider's name."""
    found = {}
    for provider in spec.providers:
        limits = breakers(provider.concurrent_requests, spec, host)
        found[provider.name] = _provider_cluster(provider, host, kept_back(spec.otlp, provider.name), limits)
    return found


def http_options(http_filters: list[xds.Config], idle: str | None = None, **extra: Any) -> xds.Config:
    """Return the options of a cluster that speaks HTTP/1.1, with filters that each attempt passes."""
    options: xds.Config = {"explicit_http_config": {"http_protocol_options": {}}, **extra}
    options["http_filters"] = [*http_filters, _UPSTREAM_CODEC]
    if idle is not None:
        options["common_http_protocol_options"] = {"idle_timeout": idle}
    return {_HTTP_OPTIONS: xds.typed("extensions.upstreams.http.v3.HttpProtocolOptions", **options)}


# ---- providers


def _leave_nothing(others: Iterable[str]) -> xds.Config:
    """Return the filter that removes last of all what the log and the error replies still need, and ``others``; and
    from an answer, first of all, what would pass for the gateway's own.
    """
    ours = {"remove_on_match": {"key_matcher": {"prefix": xds.HEADER_PREFIX}}}
    return xds.extension(
        "leave_nothing",
        "extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={
            "request_mutations": [ours, *({"remove": name} for name in (xds.REQUEST_ID, *others))],
            "response_mutations": [ours],
        },
    )


_BEARER = "authorization"
# Where the key goes that is no bearer token.
_KEY_HEADERS = {"anthropic": "x-api-key", "azure_openai": "api-key"}


def _provider_cluster(
    provider: Provider, host: Host, kept_back_headers: Iterable[str], limits: xds.Config
) -> xds.Config:
    urls = provider.base_urls
    content: xds.Config = {
        "connect_timeout": "5s",
        "circuit_breakers": limits,
        # Answers differ much in length, so the number of open requests says more than turns.
        "lb_policy": "LEAST_REQUEST",
        "upstream_connection_options": xds.KEEPALIVE,
        "typed_extension_protocol_options": http_options(
            provider_filters(provider, host, kept_back_headers), IDLE[urls[0].scheme]
        ),
        **_discovery(provider),
        **transport(provider, host),
    }
    if len(urls) > 1:
        content["outlier_detection"] = outliers(max_ejection_percent=50)
    if provider.health_check is not None:
        content.update(_checked(provider.health_check, provider))
    endpoints = [_endpoint(url, provider) for url in urls]
    content["load_assignment"] = {"endpoints": [{"lb_endpoints": endpoints}]}
    return xds.cluster("provider", provider.name, content)


def provider_filters(provider: Provider, host: Host, kept_back_headers: Iterable[str]) -> list[xds.Config]:
    """Return the filters that make of a request one of ``provider``, but for its path."""
    return [
        *anthropic.translation(provider),
        *_credential(provider, host),
        *_headers(provider),
        _leave_nothing(kept_back_headers),
    ]


def added_headers(provider: Provider) -> tuple[str, ...]:
    """Return the names of the headers that those filters add."""
    return (_key_header(provider), *dict(provider.headers))


def _credential(provider: Provider, host: Host) -> list[xds.Config]:
    """Return the filter that adds the provider's key; without a readable key it refuses the request."""
    if provider.api_key is None:
        return []
    file = provider_file(provider)
    header = _key_header(provider)
    placement: xds.Config = {"header_value_prefix": "Bearer "} if header == _BEARER else {"header": header}
    generic = xds.extension(
        "envoy.http.injected_credentials.generic",
        "extensions.http.injected_credentials.generic.v3.Generic",
        credential={"name": file.removesuffix(".json"), "sds_config": xds.secret_source(host, file)},
        **placement,
    )
    return [
        xds.extension(
            "credential",
            "extensions.filters.http.credential_injector.v3.CredentialInjector",
            overwrite=True,
            credential=generic,
        )
    ]


def _key_header(provider: Provider) -> str:
    return _KEY_HEADERS.get(provider.type, _BEARER)


def _headers(provider: Provider) -> list[xds.Config]:
    """Return the filter that adds the provider's own headers, in place of what a client sent under their names."""
    if not provider.headers:
        return []
    # One by one: a client may have sent several of a name, of which all go.
    mutations = [{"remove": name} for name in dict(provider.headers)] + [
        {
            "append": {
                # A percent sign begins a command.
                "header": {"key": name, "value": value.replace("%", "%%")},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        }
        for name, value in provider.headers
    ]
    return [
        xds.extension(
            "headers",
            "extensions.filters.http.header_mutation.v3.HeaderMutation",
            mutations={"request_mutations": mutations},
        )
    ]


def _discovery(provider: Provider) -> xds.Config:
    urls = provider.base_urls
    if provider.proxy is not None or all(is_ip(url.host) for url in urls):
        return {"type": "STATIC"}
    # A big provider's name stands for ever changing addresses of one service; a name of one's own may well stand
    # for several machines, each of which has its share.
    logical = len(urls) == 1 and urls[0].scheme == "https"
    return {"cluster_type": xds.dns(all_addresses_in_single_endpoint=logical)}


def _checked(check: HealthCheck, provider: Provider) -> xds.Config:
    """Return that each address is asked whether it works, and that those that do not get no requests."""
    headers = [{"header": {"key": name, "value": value.replace("%", "%%")}} for name, value in provider.headers]
    http: xds.Config = {
        "path": check.path,
        # Without this an answer other than 200 would count for the whole threshold.
        "retriable_statuses": [{"start": 100, "end": 600}],
        **({"request_headers_to_add": headers} if headers else {}),
    }
    interval = xds.seconds(check.interval)
    asked = {
        "interval": interval,
        # The default is a minute, as long as nobody asks for anything.
        "no_traffic_interval": interval,
        "timeout": xds.seconds(check.timeout),
        "unhealthy_threshold": check.unhealthy_threshold,
        "healthy_threshold": check.healthy_threshold,
        "http_health_check": http,
    }
    balancing = {
        # Where nobody works a fallback does: no address is asked in the hope that its check is wrong.
        "healthy_panic_threshold": {"value": 0},
        # By default a second address that fails within a second goes on getting requests until the second is over.
        "update_merge_window": "0s",
    }
    return {"health_checks": [asked], "common_lb_config": balancing}


def _endpoint(url: BaseUrl, provider: Provider) -> xds.Config:
    described = {xds.METADATA: {"provider": provider.name}}
    endpoint: xds.Config = {
        "address": endpoint_address(provider, url),
        # What becomes the Host header.
        "hostname": url.authority,
    }
    if provider.health_check is not None:
        endpoint["health_check_config"] = {"hostname": url.authority}
    return {
        "metadata": {"filter_metadata": {**described, **tls_match(provider, url), **tunnel_match(provider, url)}},
        "endpoint": endpoint,
    }


def outliers(*, max_ejection_percent: int) -> xds.Config:
    """Return when an endpoint is left alone for a while: after five failures in a row, for 15 seconds and more."""
    return {
        "consecutive_5xx": 5,
        "interval": "5s",
        "base_ejection_time": "15s",
        "max_ejection_time": "60s",
        "max_ejection_percent": max_ejection_percent,
        "enforcing_success_rate": 0,
    }


# ---- issuers of tokens


def compile_issuer_clusters(spec: Spec, host: Host) -> list[xds.Config]:
    """Return the clusters that the keys of issuers of tokens are fetched from, which get no credential."""
    return [
        _issuer_cluster(issuer, issuer.jwks, host) for issuer in spec.jwt_issuers if isinstance(issuer.jwks, BaseUrl)
    ]


def _issuer_cluster(issuer: JwtIssuer, url: BaseUrl, host: Host) -> xds.Config:
    name = fetch_cluster_name(issuer)
    # Reached like a provider that has nothing of its own, and no key above all.
    place = Provider(issuer.name, "openai_compatible", (url,))
    endpoint = {"endpoint": _endpoint(url, place)["endpoint"]}
    return xds.typed(
        "config.cluster.v3.Cluster",
        name=name,
        alt_stat_name=xds.stat_name("issuer", issuer.name),
        connect_timeout="5s",
        load_assignment={"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        **_discovery(place),
        **transport(place, host),
    )
