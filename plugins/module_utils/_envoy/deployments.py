# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deployments: a model at a provider, as a route of the egress listener.

Every attempt of a request enters the egress listener as a request of its own, so each attempt gets the path, the
name of the model and, by the provider's cluster, the credential of its own provider and nothing of another's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Model, Provider, Spec, Target

# The path that clients use before the endpoint; the base URL of a provider takes its place.
CLIENT_PREFIX = "/v1/"

# Endpoints of one provider are interchangeable: what did not reach one may be sent to the next.
_ANOTHER_ENDPOINT = {
    "retry_on": "connect-failure,refused-stream",
    "num_retries": 2,
    "retry_back_off": {"base_interval": "0.01s", "max_interval": "0.1s"},
    "retry_host_predicate": [
        xds.extension("previous_hosts", "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")
    ],
    "host_selection_retry_max_attempts": 3,
}


@dataclass(frozen=True)
class Deployment:
    """A model at a provider. ``name`` is that of the route, which the header x-gw-deployment picks."""

    name: str
    provider: str
    model: str
    route: xds.Config


def ranks(model: Model) -> tuple[tuple[Target, ...], ...]:
    """Return who is asked first, second and so on: the targets that get a share, then each fallback by itself."""
    first = tuple(target for target in model.targets if target.weight > 0)
    return (first, *((fallback,) for fallback in model.fallbacks))


class Deployments:
    """All deployments of a spec; equal ones of several models are one."""

    def __init__(self, spec: Spec, provider_clusters: dict[str, str]) -> None:
        self._providers = {provider.name: provider for provider in spec.providers}
        self._clusters = provider_clusters
        self._known: dict[tuple[str, str, bool, float], Deployment] = {}
        for model in spec.models:
            for rank in ranks(model):
                for target in rank:
                    self.of(model, target)

    def of(self, model: Model, target: Target) -> Deployment:
        """Return the deployment of one target of ``model``."""
        # A silence counts from the start, so it must not end the wait for the first byte.
        silence = max(model.timeouts.idle, model.timeouts.first_byte)
        key = (target.provider, target.model, target.model != model.name, silence)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._make(*key)
        return found

    def routes(self) -> dict[str, xds.Config]:
        """Return the routes by name."""
        return {deployment.name: deployment.route for deployment in self._known.values()}

    def _make(self, provider_name: str, model: str, rename: bool, silence: float) -> Deployment:
        provider = self._providers[provider_name]
        action: xds.Config = {
            "cluster": self._clusters[provider_name],
            # The gateway listener ends an attempt that does not begin to answer; here end those that fall silent.
            "timeout": "0s",
            "idle_timeout": xds.seconds(silence),
            "auto_host_rewrite": True,
            **_path(provider, model),
        }
        if len(provider.base_urls) > 1:
            action["retry_policy"] = _ANOTHER_ENDPOINT
        content: xds.Config = {"match": {"prefix": CLIENT_PREFIX}, "route": action}
        if rename:
            # As it stands within a JSON string.
            name = json.dumps(model)[1:-1]
            content["metadata"] = {"filter_metadata": {xds.RENAME_MODEL: {"model": name}}}
        route_name = xds.content_name("deployment", f"{provider_name}/{model}", content)
        route = xds.typed("config.route.v3.Route", name=route_name, **content)
        return Deployment(route_name, provider_name, model, route)


def _path(provider: Provider, model: str) -> xds.Config:
    """Return how the path of a request becomes the provider's."""
    base = provider.base_urls[0].path
    if provider.type != "azure_openai":
        return {"prefix_rewrite": f"{base}/"}
    # https://learn.microsoft.com/azure/ai-services/openai/reference
    deployment = quote(model, safe="")
    return {
        "regex_rewrite": {
            "pattern": {"regex": f"^{CLIENT_PREFIX}(.*)$"},
            "substitution": f"{base}/openai/deployments/{deployment}/\\1?api-version={provider.api_version}",
        }
    }
