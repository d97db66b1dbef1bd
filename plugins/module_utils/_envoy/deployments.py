# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deployments: a model at a provider, and the way of a request to it.

A model with one deployment is a route from the gateway listener straight to its provider. One with several has a
cluster of its own, from which every attempt enters the egress listener as a request of its own: so each attempt gets
the path, the name of the model and, by the provider's cluster, the credential of its own provider and nothing of
another's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Model, Spec, Target
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import AZURE_V1, Provider
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.retries import Retries

# The path that clients use before the endpoint; the base URL of a provider takes its place.
CLIENT_PREFIX = "/v1/"

# Before somebody else is asked.
LONGEST_WAIT_SECONDS = 0.1
SOON: xds.Config = {"base_interval": "0.01s", "max_interval": xds.seconds(LONGEST_WAIT_SECONDS)}

# Endpoints of one provider are interchangeable: what did not reach one may be sent to the next.
_ANOTHER_ENDPOINT: xds.Config = {
    "retry_on": "connect-failure,refused-stream",
    "num_retries": 2,
    "retry_back_off": SOON,
    "retry_host_predicate": [
        xds.extension("previous_hosts", "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")
    ],
    # Each draws one of the endpoints anew.
    "host_selection_retry_max_attempts": 10,
}


# Enables the filter for a route by being there.
_ENABLED = xds.typed("extensions.filters.http.lua.v3.LuaPerRoute", filter_context={})


@dataclass(frozen=True)
class Deployment:
    """A model at a provider. ``name`` is that of the route, which the header x-gw-deployment picks."""

    name: str
    provider: str
    model: str
    route: xds.Config


# Who is asked first, second and so on; of several in one rank each gets its share.
Ranks = tuple[tuple[Target, ...], ...]


def ranks(model: Model) -> Ranks:
    """Return who is asked first, second and so on: the targets that get a share, then each fallback by itself."""
    first = tuple(target for target in model.targets if target.weight > 0)
    return (first, *((fallback,) for fallback in model.fallbacks))


def only_target(model: Model) -> Target | None:
    """Return the one target of a model that has no other, and needs no cluster of its own to be counted in."""
    if concurrency_of(model) is not None:
        return None
    first, *others = ranks(model)
    return first[0] if len(first) == 1 and not others else None


def concurrency_of(model: Model) -> int | None:
    """Return how many requests for ``model`` may be open at a time on all hosts; None for any number."""
    return None if model.limits is None else model.limits.concurrent_requests


def arriving_name(model: Model) -> str:
    """Return the name of ``model`` in a body that leaves the gateway listener: the one of whoever is asked first.

    The egress listener writes another one for a fallback that has another, which is seldom needed and dear.
    """
    names = {target.model for target in ranks(model)[0]}
    return names.pop() if len(names) == 1 else model.name


def silence_of(model: Model) -> float:
    """Return the seconds of silence after which an attempt is ended, before the answer begins or within it."""
    # It counts from the start, so it must not end the wait for the first byte.
    return max(model.timeouts.idle, model.timeouts.first_byte)


def to_provider(provider: Provider, cluster: str, model: str, retries: Retries | None = None) -> xds.Config:
    """Return the part of a route that makes of a client's request one of ``provider`` for its ``model``."""
    action: xds.Config = {"cluster": cluster, "auto_host_rewrite": True, **_path(provider, model)}
    policy = _ANOTHER_ENDPOINT if len(provider.base_urls) > 1 else {}
    if retries is not None:
        policy = {**policy, **_again(retries)}
    return {**action, "retry_policy": policy} if policy else action


def _again(retries: Retries) -> xds.Config:
    """Return when a provider is asked again.

    An answer with a Retry-After is asked for again after that time, or not at all. So 429 and 503, which have one, are
    told by it and not by their status: Envoy would ask again at its own pace when the time is too long for it.
    """
    longest = int(retries.max_wait)
    return {
        "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes,retriable-headers",
        "retriable_status_codes": [500, 502, 504],
        "retriable_headers": [{"name": "retry-after", "range_match": {"start": 0, "end": longest + 1}}],
        "num_retries": retries.attempts,
        "retry_back_off": {"base_interval": "0.5s", "max_interval": "8s"},
        "rate_limited_retry_back_off": {
            "reset_headers": [{"name": "retry-after", "format": "SECONDS"}],
            "max_interval": f"{longest}s",
        },
    }


def to_provider_without_model(provider: Provider, cluster: str) -> tuple[xds.Config, str]:
    """Return the part of a route that makes of a client's request without a model one of ``provider``.

    The second is what the query has to say there.
    """
    query = f"api-version={provider.api_version}" if _has_version(provider) else ""
    action: xds.Config = {"cluster": cluster, "auto_host_rewrite": True, "prefix_rewrite": _prefix(provider)}
    if len(provider.base_urls) > 1:
        action["retry_policy"] = _ANOTHER_ENDPOINT
    return action, query


def rename(filter_name: str, model: str) -> xds.Config:
    """Return the metadata of a route by which the filter of that name writes ``model`` into the body."""
    # As it stands within a JSON string.
    return {filter_name: {"model": json.dumps(model)[1:-1]}}


class Deployments:
    """The deployments that the egress listener knows: those asked for so far. Equal ones of several models are one."""

    def __init__(self, spec: Spec, provider_clusters: dict[str, str]) -> None:
        self._providers = {provider.name: provider for provider in spec.providers}
        self._clusters = provider_clusters
        self._known: dict[tuple[str, str, bool, float, Retries | None], Deployment] = {}

    def of(self, model: Model, target: Target) -> Deployment:
        """Return the deployment of one target of ``model``."""
        # Whoever is not the last has somebody behind it, who is asked at once.
        retries = model.retries if target in ranks(model)[-1] else None
        key = (target.provider, target.model, target.model != arriving_name(model), silence_of(model), retries)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._make(*key)
        return found

    def routes(self) -> dict[str, xds.Config]:
        """Return the routes by name."""
        return {deployment.name: deployment.route for deployment in self._known.values()}

    def _make(
        self, provider_name: str, model: str, renamed: bool, silence: float, retries: Retries | None
    ) -> Deployment:
        action = {
            **to_provider(self._providers[provider_name], self._clusters[provider_name], model, retries),
            # The gateway listener ends an attempt that does not begin to answer; here end those that fall silent.
            "timeout": "0s",
            "idle_timeout": xds.seconds(silence),
        }
        content: xds.Config = {"match": {"prefix": CLIENT_PREFIX}, "route": action}
        if renamed:
            content["metadata"] = {"filter_metadata": rename(xds.RENAME_MODEL, model)}
            content["typed_per_filter_config"] = {xds.RENAME_MODEL: _ENABLED}
        route_name = xds.content_name("deployment", f"{provider_name}/{model}", content)
        route = xds.typed("config.route.v3.Route", name=route_name, **content)
        return Deployment(route_name, provider_name, model, route)


def keeps_path(provider: Provider) -> bool:
    """Return whether the paths of ``provider`` are those that clients use."""
    return not _has_version(provider) and _prefix(provider) == CLIENT_PREFIX


def _has_version(provider: Provider) -> bool:
    """Say whether the provider's URLs have a version in their query, which those of Azure without one have not."""
    return provider.type == "azure_openai" and provider.api_version != AZURE_V1


def _prefix(provider: Provider) -> str:
    """Return what the paths of the API follow there."""
    base = provider.base_urls[0].path
    if provider.type != "azure_openai":
        return f"{base}/"
    # The model is in the body, as everywhere else, and no version in the query.
    # https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
    return f"{base}/openai/" if _has_version(provider) else f"{base}/openai/v1/"


def _path(provider: Provider, model: str) -> xds.Config:
    """Return how the path of a request becomes the provider's."""
    if not _has_version(provider):
        return {"prefix_rewrite": _prefix(provider)}
    # https://learn.microsoft.com/azure/ai-services/openai/reference
    deployment = quote(model, safe="")
    return {
        "regex_rewrite": {
            "pattern": {"regex": f"^{CLIENT_PREFIX}(.*)$"},
            "substitution": f"{_prefix(provider)}deployments/{deployment}/\\1?api-version={provider.api_version}",
        }
    }
