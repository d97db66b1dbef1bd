# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Routes: of the gateway listener by the model that is asked for, of the egress listener by the deployment.

A model with one deployment is routed to its provider at once, one with several to the egress listener.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import anthropic, one_hop, xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.access import Access
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.concurrency import has_full_providers
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.deployments import (
    CLIENT_PREFIX,
    SOON,
    Deployments,
    arriving_name,
    only_target,
    rename,
    silence_of,
    to_provider,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.endpoints import compile_endpoint_routes
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.replies import compile_refused_key
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.usage import can_be_asked
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Model, Spec, Target
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import Provider

GATEWAY = "gateway"
GATEWAY_FILE = "rds-gateway.json"
EGRESS_FILE = "rds-egress.json"

# What no provider has to know, or must not get: credentials of clients above all. A provider's own credential is
# added after these are removed, and the gateway's own headers are removed then. OpenAI refuses a key together with the
# organization of somebody else.
_NOT_FOR_PROVIDERS = (
    "authorization",
    "proxy-authorization",
    "api-key",
    "x-api-key",
    "cookie",
    "openai-organization",
    "openai-project",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-client-cert",
    "x-real-ip",
    # Frameworks that take the method or the path from these would do what nobody here has allowed.
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-envoy-attempt-count",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-original-path",
)
# What the egress listener adds anew.
_ADDED_BY_EGRESS = ("x-forwarded-for", "x-forwarded-proto", "x-envoy-expected-rq-timeout-ms", "x-envoy-internal")
# What a provider says about itself or its account, or would say about this host.
_NOT_FOR_CLIENTS = (
    "alt-svc",
    "openai-organization",
    "openai-project",
    "set-cookie",
    "strict-transport-security",
    # The gateway's own limits are told in these, until they become OpenAI's headers.
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    # By which the gateway's parts tell each other why a request was refused.
    xds.PARAM,
)
_RETRY_PRIORITY = xds.extension(
    "envoy.retry_priorities.previous_priorities",
    "extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
    update_frequency=1,
)
_NOWHERE = xds.typed("config.route.v3.Route", name="none", match={"prefix": "/"}, direct_response={"status": 404})
_JSON = {
    "header": {"key": "content-type", "value": "application/json"},
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}


@dataclass(frozen=True)
class Clusters:
    """The names of clusters: of providers, of models that have several deployments, and of such models without those
    deployments that not every request can be translated for.
    """

    providers: dict[str, str]
    models: dict[str, str]
    others: dict[str, str]


def compile_gateway_routes(spec: Spec, access: Access, clusters: Clusters) -> xds.Config:
    """Return the routes of the gateway listener.

    What no route fits is answered 404: with a model it is an unknown model, without one an unknown URL. What has no
    model may be of an endpoint without one; only what is neither is looked up by who asks.
    """
    providers = {provider.name: provider for provider in spec.providers}
    models = {}
    for model in spec.models:
        target = only_target(model)
        if one_hop.first_in_one_hop(spec, model) is not None:
            route = _one_hop(model, clusters.models[model.name])
        elif target is None:
            route = _several(model, clusters.models[model.name], clusters.others.get(model.name))
        else:
            route = _direct(model, target, providers[target.provider], clusters.providers[target.provider])
        if not can_be_asked(model, providers):
            _tell_reader(route, {"stream_usage": "as_is"})
        if anthropic.serves(model, providers):
            _tell_reader(route, anthropic.check(model, providers))
        models[model.name] = _model_route(model, route, access, spec.max_request_size)
    bodies = {group: _listing(names) for group, names in access.models.items()}
    listings = {group: _listing_route(body) for group, body in bodies.items()}
    endpoints = compile_endpoint_routes(spec, clusters.providers)
    # A map must not be empty.
    no_model = {"matcher": xds.exact_map(xds.ACCESS, _actions(listings))} if listings else None
    if endpoints:
        no_model = {"matcher": xds.exact_map(xds.ENDPOINT, _actions(endpoints), no_model)}
    return _route_configuration(
        GATEWAY,
        xds.exact_map(xds.MODEL, _actions(models), no_model),
        {xds.REFUSED_KEY: compile_refused_key()},
        max_direct_response_body_size_bytes=max([4096, *map(len, bodies.values())]),
        request_headers_to_remove=list(_NOT_FOR_PROVIDERS),
        response_headers_to_remove=[*_NOT_FOR_CLIENTS, *([xds.FULL] if has_full_providers(spec) else [])],
        response_headers_to_add=[_request_id()],
    )


def compile_egress_routes(deployments: Deployments) -> xds.Config:
    """Return the routes of the egress listener. A deployment that is not there is refused."""
    # A map must not be empty, and one more route is less than a step to add and to remove it.
    routes = {"none": _NOWHERE, **deployments.routes()}
    return _route_configuration(
        xds.EGRESS,
        xds.exact_map(xds.DEPLOYMENT, _actions(routes)),
        {xds.REFUSED_KEY: compile_refused_key()},
        request_headers_to_remove=list(_ADDED_BY_EGRESS),
    )


def _route_configuration(name: str, matcher: xds.Config, filters: xds.Config, **extra: Any) -> xds.Config:
    host = {"name": name, "domains": ["*"], "matcher": matcher, "typed_per_filter_config": filters}
    return xds.typed("config.route.v3.RouteConfiguration", name=name, virtual_hosts=[host], **extra)


def _actions(routes: dict[str, xds.Config]) -> dict[str, xds.Config]:
    return {value: {"name": "route", "typed_config": route} for value, route in routes.items()}


def _direct(model: Model, target: Target, provider: Provider, cluster: str) -> xds.Config:
    """Return the way to the one deployment of a model."""
    action = to_provider(provider, cluster, target.model, model.retries)
    # Nothing is tried again but what did not reach an endpoint, or what the model says; the timeouts count in any case.
    policy = action.get("retry_policy", {"num_retries": 0})
    action["retry_policy"] = {**policy, **_first_byte(model)}
    # All attempts and the waits between them are one silence to the client.
    action["idle_timeout"] = xds.seconds(silence_of(model))
    return {"metadata": {"filter_metadata": _metadata(model, upstream_model=target.model)}, "route": action}


def _tell_reader(route: xds.Config, told: xds.Config) -> None:
    """Add to what a route tells the filter that reads the model."""
    route["metadata"]["filter_metadata"].setdefault(xds.READ_MODEL, {}).update(told)


def _several(model: Model, cluster: str, others: str | None) -> xds.Config:
    """Return the way to a model's several deployments, or to ``others`` of them where a request says so."""
    policy = {
        "retry_on": "5xx,reset,connect-failure,refused-stream,retriable-status-codes",
        "retriable_status_codes": [429],
        "num_retries": len(model.fallbacks),
        "retry_priority": _RETRY_PRIORITY,
        "retry_back_off": SOON,
        **_first_byte(model),
    }
    # Silences within an answer are the egress listener's business.
    idle = xds.seconds((1 + len(model.fallbacks)) * model.timeouts.first_byte + model.timeouts.idle)
    way = {"cluster": cluster} if others is None else anthropic.one_of(cluster, others)
    route = {**way, "retry_policy": policy, "idle_timeout": idle}
    return {"metadata": {"filter_metadata": _metadata(model)}, "route": route}


def _one_hop(model: Model, cluster: str) -> xds.Config:
    """Return the way to a model's several deployments, of which the first is asked as if there were no other."""
    route = _several(model, cluster, None)
    # The egress listener would make a 502 of a 401.
    policy = {**route["route"]["retry_policy"], "retriable_status_codes": [401, 429]}
    action = {
        **route["route"],
        "auto_host_rewrite": True,
        "idle_timeout": xds.seconds(silence_of(model)),
        "retry_policy": policy,
    }
    return {**route, "route": action}


def _metadata(model: Model, **known: str) -> xds.Config:
    name = arriving_name(model)
    renamed = rename(xds.READ_MODEL, name) if name != model.name else {}
    return {xds.METADATA: {"model": model.name, **known}, **renamed}


def _first_byte(model: Model) -> xds.Config:
    # Envoy ignores this one once an answer has begun.
    return {"per_try_timeout": xds.seconds(model.timeouts.first_byte)}


def _model_route(model: Model, way: xds.Config, access: Access, max_request_size: int) -> xds.Config:
    config: xds.Config = {
        "name": f"model:{model.name}",
        "match": {"prefix": CLIENT_PREFIX},
        # A renamed model may make a body a little longer than what was let in.
        "request_body_buffer_limit": max_request_size + xds.BODY_GROWTH_BYTES,
        **way,
        # An answer takes as long as it takes: what is limited is its beginning and its silences.
        "route": {**way["route"], "timeout": "0s"},
    }
    groups = access.groups[model.name]
    if len(groups) < len(access.models) or not groups:
        config["typed_per_filter_config"] = {xds.ACCESS_LIST: xds.access_list(groups)}
    return xds.typed("config.route.v3.Route", **config)


def _request_id() -> xds.Config:
    """Return the header that names the request to its client, who must not get a provider's."""
    return {
        "header": {"key": xds.REQUEST_ID, "value": f"%FILTER_STATE({xds.REQUEST_ID_STATE}:PLAIN)%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def _listing(models: tuple[str, ...]) -> str:
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "gateway"} for name in models]
    return canonical_json({"object": "list", "data": data}).decode("utf-8")


def _listing_route(body: str) -> xds.Config:
    """Return the route of /v1/models for those who may use exactly the models in ``body``."""
    return xds.typed(
        "config.route.v3.Route",
        name="models",
        match={
            "path": f"{CLIENT_PREFIX}models",
            "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
        },
        direct_response={"status": 200, "body": {"inline_string": body}},
        response_headers_to_add=[_JSON],
    )
