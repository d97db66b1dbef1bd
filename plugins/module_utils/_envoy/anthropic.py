# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Providers of Anthropic's Messages API, for clients that speak OpenAI's.

A script on the provider's cluster translates each attempt and its answer, so nothing of it is on any other request's
way. What cannot be translated exactly is found before, by the same script in the gateway listener: where all
deployments of a model are Anthropic's the request is refused, else it goes to a cluster of the model that has the
others only. So a request is never sent in part, and none that a client may send at will counts as a provider's failure.

Envoy's own transcoder is not used: see docs/providers.md for what it was found to do with such requests.
"""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua, xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.deployments import Ranks, ranks
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Model, Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import Provider

TYPE = "anthropic"

# The API has no default. Every model can write that much.
_MOST_TOKENS = 4096

Providers = Mapping[str, Provider]


def is_used(spec: Spec) -> bool:
    """Return whether a provider of ``spec`` is of this type."""
    return any(provider.type == TYPE for provider in spec.providers)


def serves(model: Model, providers: Providers) -> bool:
    """Return whether a request for ``model`` may go to a provider of this type."""
    return any(providers[target.provider].type == TYPE for rank in ranks(model) for target in rank)


def others(model: Model, providers: Providers) -> Ranks | None:
    """Return who serves what cannot be translated; None where that is everybody or nobody."""
    everybody = ranks(model)
    kept = (tuple(target for target in rank if providers[target.provider].type != TYPE) for rank in everybody)
    found = tuple(rank for rank in kept if rank)
    return None if not found or found == everybody else found


def check(model: Model, providers: Providers) -> xds.Config:
    """Return what the route of ``model`` tells the filter that looks for what cannot be translated."""
    found = others(model, providers)
    if found is None:
        return {TYPE: "all"}
    return {TYPE: "some", "retries": str(len(found) - 1)}


def one_of(everybody: str, without: str) -> xds.Config:
    """Return the part of a route that picks the cluster ``without`` for what cannot be translated."""
    name = "extensions.router.cluster_specifiers.matcher.v3"
    choices = {
        cluster: xds.extension("cluster", f"{name}.ClusterAction", cluster=cluster) for cluster in (everybody, without)
    }
    matcher = xds.exact_map(xds.WITHOUT, {TYPE: choices[without]}, {"action": choices[everybody]})
    specifier = xds.extension(
        "envoy.router.cluster_specifier_plugin.matcher", f"{name}.MatcherClusterSpecifier", cluster_matcher=matcher
    )
    return {"inline_cluster_specifier_plugin": {"extension": specifier}}


def translation(provider: Provider) -> list[xds.Config]:
    """Return the filter of a provider's cluster that translates; none for other types."""
    if provider.type != TYPE:
        return []
    script = {"inline_string": lua.anthropic_script(provider.max_tokens or _MOST_TOKENS)}
    return [xds.extension("translate", "extensions.filters.http.lua.v3.Lua", default_source_code=script)]
