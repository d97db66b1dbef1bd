# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Endpoints without a model: who may use them is told to the script, and each is a route straight to its provider.

Bodies pass without being held, so files may be as large as the provider takes them.
"""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.deployments import (
    CLIENT_PREFIX,
    to_provider_without_model,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.lua import Resources
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.endpoints import ENDPOINTS
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Endpoint, Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import Provider

# For the beginning of an answer, and for each silence in it or in the request.
_SILENCE_SECONDS = 300


def resources_of(spec: Spec) -> Resources:
    """Return what the script has to know: the paths, and who may use them."""
    paths = ((endpoint.name, *pair) for endpoint in spec.endpoints for pair in ENDPOINTS[endpoint.name])
    users = ((consumer.name, name) for consumer in spec.consumers for name in sorted(consumer.endpoints))
    return Resources(tuple(paths), tuple(users))


def compile_endpoint_routes(spec: Spec, clusters: Mapping[str, str]) -> dict[str, xds.Config]:
    """Return the routes by the names of the endpoints; ``clusters`` are by the names of providers."""
    providers = {provider.name: provider for provider in spec.providers}
    return {
        endpoint.name: _route(endpoint, providers[endpoint.provider], clusters[endpoint.provider])
        for endpoint in spec.endpoints
    }


def _route(endpoint: Endpoint, provider: Provider, cluster: str) -> xds.Config:
    action, query = to_provider_without_model(provider, cluster)
    metadata = {"metadata": {"filter_metadata": {xds.READ_MODEL: {"query": query}}}} if query else {}
    return xds.typed(
        "config.route.v3.Route",
        name=f"endpoint:{endpoint.name}",
        match={"prefix": CLIENT_PREFIX},
        **metadata,
        route={**action, "timeout": "0s", "idle_timeout": f"{_SILENCE_SECONDS}s"},
    )
