# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Routes: of the gateway listener by the model that is asked for, of the egress listener by the deployment."""

from __future__ import annotations

from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.access import Access
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.deployments import CLIENT_PREFIX, Deployments
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Model, Spec

GATEWAY = "gateway"
GATEWAY_FILE = "rds-gateway.json"
EGRESS_FILE = "rds-egress.json"

# What no provider has to know, or must not get: credentials of clients above all. A provider's own credential is
# added after these are removed. OpenAI refuses a key together with the organization of somebody else.
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
    "x-request-id",
    "x-envoy-attempt-count",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-original-path",
    xds.CONSUMER,
    xds.ACCESS,
    xds.MODEL,
    xds.DEPLOYMENT,
)
# What a provider says about itself or its account, or would say about this host.
_NOT_FOR_CLIENTS = (
    "alt-svc",
    "openai-organization",
    "openai-project",
    "set-cookie",
    "strict-transport-security",
)
_RETRY_PRIORITY = xds.extension(
    "envoy.retry_priorities.previous_priorities",
    "extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
    update_frequency=1,
)
_JSON = {
    "header": {"key": "content-type", "value": "application/json"},
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}


def compile_gateway_routes(spec: Spec, access: Access, clusters: dict[str, str]) -> xds.Config:
    """Return the routes of the gateway listener; ``clusters`` are those of the models, by name.

    What no route fits is answered 404: with a model it is an unknown model, without one an unknown URL.
    """
    models = {model.name: _model_route(model, clusters[model.name], access) for model in spec.models}
    bodies = {group: _listing(names) for group, names in access.models.items()}
    listings = {group: _listing_route(body) for group, body in bodies.items()}
    # A map must not be empty; an empty name is no header's value.
    no_model = {"matcher": xds.exact_map(xds.ACCESS, _actions(listings))} if listings else None
    return _route_configuration(
        GATEWAY,
        xds.exact_map(xds.MODEL, _actions(models), no_model),
        max_direct_response_body_size_bytes=max([4096, *map(len, bodies.values())]),
    )


def compile_egress_routes(deployments: Deployments) -> xds.Config:
    """Return the routes of the egress listener. A deployment that is not there is refused."""
    return _route_configuration(
        xds.EGRESS,
        xds.exact_map(xds.DEPLOYMENT, _actions(deployments.routes())),
        request_headers_to_remove=list(_NOT_FOR_PROVIDERS),
        response_headers_to_remove=list(_NOT_FOR_CLIENTS),
    )


def _route_configuration(name: str, matcher: xds.Config, **extra: Any) -> xds.Config:
    return xds.typed(
        "config.route.v3.RouteConfiguration",
        name=name,
        virtual_hosts=[{"name": name, "domains": ["*"], "matcher": matcher}],
        **extra,
    )


def _actions(routes: dict[str, xds.Config]) -> dict[str, xds.Config]:
    return {value: {"name": "route", "typed_config": route} for value, route in routes.items()}


def _model_route(model: Model, cluster: str, access: Access) -> xds.Config:
    timeouts = model.timeouts
    attempts = 1 + len(model.fallbacks)
    route: xds.Config = {
        "cluster": cluster,
        # An answer takes as long as it takes: what is limited is its beginning and its silences.
        "timeout": "0s",
        "idle_timeout": xds.seconds(attempts * timeouts.first_byte + timeouts.idle),
        "retry_policy": {
            # Tried again only where it can go elsewhere; the timeout below counts in any case.
            "retry_on": "5xx,reset,connect-failure,refused-stream,retriable-status-codes",
            "retriable_status_codes": [429],
            "num_retries": len(model.fallbacks),
            "retry_priority": _RETRY_PRIORITY,
            "retry_back_off": {"base_interval": "0.01s", "max_interval": "0.1s"},
            # Envoy ignores this one once an answer has begun; silences within are the egress listener's business.
            "per_try_timeout": xds.seconds(timeouts.first_byte),
        },
    }
    config: xds.Config = {
        "name": f"model:{model.name}",
        "match": {"prefix": CLIENT_PREFIX},
        "metadata": {"filter_metadata": {xds.METADATA: {"model": model.name}}},
        "route": route,
    }
    groups = access.groups[model.name]
    if len(groups) < len(access.models) or not groups:
        config["typed_per_filter_config"] = {xds.ACCESS_LIST: xds.access_list(groups)}
    return xds.typed("config.route.v3.Route", **config)


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
