# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What web pages of other origins may do (CORS): the listener's filter answers for it, the routes say whom it lets."""

from __future__ import annotations

import re

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Cors, Listener, Spec

# Keys are named, since the asterisk does not stand for `authorization`. Cookies are never allowed, and asterisks of
# headers mean what they say only without them; which origins there are is always said.
_METHODS = "GET, POST, DELETE"
_REQUEST_HEADERS = "authorization, api-key, content-type, *"
_RESPONSE_HEADERS = "*"


def before_the_consumer(name: str, filters: xds.Config) -> xds.Config:
    """Return a route that counts until it is known who asks, with filters of its own; it leads nowhere.

    Nobody is sent on by it: only a client could set the header that names its cluster, and a client's is removed.
    A refused key on it is the client's.
    """
    refused: xds.Config = {xds.REFUSED_KEY: xds.typed("config.route.v3.FilterConfig", disabled=True)}
    return xds.typed(
        "config.route.v3.Route",
        name=name,
        match={"prefix": "/", "headers": [{"name": xds.CONSUMER, "present_match": True, "invert_match": True}]},
        route={"cluster_header": f"{xds.HEADER_PREFIX}nowhere", "cluster_not_found_response_code": "NOT_FOUND"},
        typed_per_filter_config={**refused, **filters},
    )


# What a provider would let web pages do. It knows nothing of ours.
_OF_PROVIDERS = (
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
)
# Policies hold where there is a route to a cluster, and a browser's question has no key and no model yet.
_BEFORE_THE_KEY = before_the_consumer("before_the_key", {})


def with_filter(listener: Listener, manager: xds.Config) -> xds.Config:
    """Return a listener's connection manager, with the filter before all others when web pages may use it.

    Before all others: a browser asks what it may do without a key, and is told of refusals too.
    """
    if listener.cors is None:
        return manager
    config = manager["typed_config"]
    first = xds.extension(_name(listener), "extensions.filters.http.cors.v3.Cors")
    return {**manager, "typed_config": {**config, "http_filters": [first, *config["http_filters"]]}}


def with_policies(spec: Spec, routes: xds.Config) -> xds.Config:
    """Return the gateway's routes with the policy of each listener that web pages may use, under its filter's name."""
    policies = {_name(listener): _policy(listener.cors) for listener in spec.listeners if listener.cors is not None}
    if not policies:
        return routes
    (host,) = routes["virtual_hosts"]
    changed = {
        **host,
        "matcher": xds.with_last(host["matcher"], {"action": {"name": "route", "typed_config": _BEFORE_THE_KEY}}),
        "typed_per_filter_config": {**host["typed_per_filter_config"], **policies},
        "response_headers_to_remove": list(_OF_PROVIDERS),
    }
    return {**routes, "virtual_hosts": [changed]}


def _name(listener: Listener) -> str:
    return f"cors:{listener.name}"


def _policy(cors: Cors) -> xds.Config:
    return xds.typed(
        "extensions.filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=[_origin(origin) for origin in cors.allow_origins],
        allow_methods=_METHODS,
        allow_headers=_REQUEST_HEADERS,
        expose_headers=_RESPONSE_HEADERS,
        max_age=f"{int(cors.max_age)}",
    )


def _origin(origin: str) -> xds.Config:
    scheme, _separator, host = origin.partition("://")
    if not host.startswith("*."):
        return {"exact": origin}
    return {"safe_regex": {"regex": rf"{scheme}://([a-z0-9_-]+\.)+{re.escape(host[2:])}"}}
