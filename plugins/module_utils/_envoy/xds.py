# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The few shapes that all of Envoy's configuration is made of, and the names that its parts know each other by."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json, digest
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host

Config = dict[str, Any]

# Headers between the parts of the gateway. Whatever a client sends under this prefix is removed before anything else.
HEADER_PREFIX = "x-gw-"
CONSUMER = "x-gw-consumer"
ACCESS = "x-gw-access"
MODEL = "x-gw-model"
DEPLOYMENT = "x-gw-deployment"
ENDPOINT = "x-gw-endpoint"
# Which type of provider the request is not for, since it could not be translated.
WITHOUT = "x-gw-without"
# How often the consumer may ask for the model, and, in an answer, which limit a request was refused for.
RATE = "x-gw-rate"
LIMIT = "x-gw-limit"
# The same for limits on tokens; and what begins the headers by which their parts tell each other who takes how much.
SPENT_LIMIT = "x-gw-token-limit"
TOKENS = "x-gw-tokens-"
# In an answer: the parameter that a request was refused for.
PARAM = "x-gw-param"
# In an answer of the egress listener: the provider is full, not broken.
FULL = "x-gw-full"
REQUEST_ID = "x-request-id"
# By which a client knows its request even without an answer; OpenAI takes so much ASCII, and refuses what is longer.
CLIENT_REQUEST_ID = "x-client-request-id"
CLIENT_REQUEST_ID_LENGTH = 512

# The namespace of metadata on routes and endpoints.
METADATA = "gw"

# Names of filters: those with a file of their own (ECDS), and those that routes configure.
CONSUMER_KEYS = "consumer_keys"
JWT_ISSUERS = "jwt_issuers"
JWT_CONSUMERS = "jwt_consumers"
READ_MODEL = "read_model"
REQUEST_LIMITS = "request_limits"
USAGE_LIMITS = "token_limits"
ACCESS_LIST = "access_list"
RENAME_MODEL = "rename_model"
REFUSED_KEY = "refused_key"

# What is known of a request from its key on to its end: filter state, since providers get none of the headers,
# and another path.
CONSUMER_STATE = "gw.consumer"
REQUEST_ID_STATE = "gw.request_id"
PATH_STATE = "gw.path"

EGRESS = "egress"

# What the gateway may add to a body: the provider's name of the model, and the question for its usage.
BODY_GROWTH_BYTES = 64 * 1024

# Envoy's own breakers (1024 requests and 3 retries for a whole cluster) would refuse before a provider does.
BREAKERS: Config = {
    "thresholds": [
        {"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000, "max_retries": 100000}
    ]
}
# A provider can be silent for minutes while it thinks: keep NAT from forgetting the connection.
KEEPALIVE: Config = {"tcp_keepalive": {"keepalive_time": 60, "keepalive_interval": 30}}

_TYPES = "type.googleapis.com/"


def typed(type_name: str, /, **fields: Any) -> Config:
    """Return a protobuf Any of the message ``envoy.<type_name>``."""
    return {"@type": type_url(type_name), **fields}


def type_url(type_name: str) -> str:
    """Return the type URL of the message ``envoy.<type_name>``."""
    return f"{_TYPES}envoy.{type_name}"


def extension(name: str, type_name: str, /, **fields: Any) -> Config:
    """Return a named extension with its typed configuration."""
    return {"name": name, "typed_config": typed(type_name, **fields)}


def header_mutation(name: str, request_mutations: list[Config]) -> Config:
    """Return the HTTP filter that changes the headers of requests."""
    return extension(
        name,
        "extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={"request_mutations": request_mutations},
    )


def set_header(name: str, value: str) -> Config:
    """Return the mutation that gives a header a value."""
    return {"append": {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}


def release_source(host: Host, name: str) -> Config:
    """Return the source of an xDS file in the active release; a rename of the ``current`` link makes Envoy read it."""
    return {
        "path_config_source": {
            "path": posixpath.join(host.current, "envoy", name),
            "watched_directory": {"path": host.config_dir},
        },
        "resource_api_version": "V3",
    }


def secret_source(host: Host, name: str) -> Config:
    """Return the source of a file in the secrets directory; a rename onto its path makes Envoy read it."""
    return {
        "path_config_source": {"path": posixpath.join(host.secrets_dir, name)},
        "resource_api_version": "V3",
    }


def discovered(name: str, type_name: str, source: Config) -> Config:
    """Return the place of an HTTP filter that has a file of its own (ECDS)."""
    return {"name": name, "config_discovery": {"config_source": source, "type_urls": [type_url(type_name)]}}


def discovered_resource(config: Config) -> Config:
    """Return a named filter as an ECDS resource."""
    return {"@type": type_url("config.core.v3.TypedExtensionConfig"), **config}


def content_name(kind: str, name: str, content: Config) -> str:
    """Return ``<kind>:<name>@<hash of the content>``.

    A release that changes a thing gives it another name, so that old and new can be there at the same time.
    """
    return f"{kind}:{name}@{digest(canonical_json(content))[:12]}"


def cluster(kind: str, name: str, content: Config) -> Config:
    """Return a cluster whose name says what is in it, while its statistics stay those of the thing it is for."""
    named = typed(
        "config.cluster.v3.Cluster", name=content_name(kind, name, content), alt_stat_name=stat_name(kind, name)
    )
    return {**named, **content, "load_assignment": {"cluster_name": named["name"], **content["load_assignment"]}}


def stat_name(kind: str, name: str) -> str:
    """Return what a cluster is called in statistics."""
    # A dot in a cluster's name would cut the name short in Prometheus' labels.
    return re.sub(r"[^A-Za-z0-9_-]", "_", f"{kind}_{name}")


def dns(*, all_addresses_in_single_endpoint: bool) -> Config:
    """Return the type of a cluster whose hosts are found by name."""
    return extension(
        "envoy.clusters.dns",
        "extensions.clusters.dns.v3.DnsCluster",
        all_addresses_in_single_endpoint=all_addresses_in_single_endpoint,
        dns_lookup_family="V4_PREFERRED",
        respect_dns_ttl=True,
    )


def exact_map(input_header: str, actions: dict[str, Config], on_no_match: Config | None = None) -> Config:
    """Return a matcher that looks the value of a request header up in a map: as quick with thousands as with two."""
    matcher: Config = {
        "matcher_tree": {
            "input": extension(input_header, "type.matcher.v3.HttpRequestHeaderMatchInput", header_name=input_header),
            "exact_match_map": {"map": {value: {"action": action} for value, action in sorted(actions.items())}},
        }
    }
    if on_no_match is not None:
        matcher["on_no_match"] = on_no_match
    return matcher


def with_last(matcher: Config, last: Config) -> Config:
    """Return a matcher that goes on with ``last`` where nothing fits, in it or in those that it goes on with itself."""
    after = matcher.get("on_no_match")
    return {**matcher, "on_no_match": last if after is None else {"matcher": with_last(after["matcher"], last)}}


def status_filter(value: int, op: str = "EQ") -> Config:
    """Return a filter, of replies or access logs, for a status (``GE``: from it on)."""
    # The key of a runtime override is mandatory; nothing sets it.
    return {
        "status_code_filter": {"comparison": {"op": op, "value": {"default_value": value, "runtime_key": "gw.none"}}}
    }


def access_list(groups: Iterable[str]) -> Config:
    """Return the filter configuration of a route that ``groups`` may use and nobody else."""
    allow: Config = {"name": "allow", "typed_config": typed("config.rbac.v3.Action", name="allow", action="ALLOW")}
    allowed = dict.fromkeys(groups, allow)
    rbac: Config = {"matcher": exact_map(ACCESS, allowed)} if allowed else {"rules": {"action": "ALLOW"}}
    return typed("extensions.filters.http.rbac.v3.RBACPerRoute", rbac=rbac)


def seconds(value: float) -> str:
    """Return a protobuf Duration of ``value`` seconds, to the millisecond."""
    return f"{value:.3f}".rstrip("0").rstrip(".") + "s"
