# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many requests may be open at a time: the breakers of clusters, which count for all workers of a host.

A provider is full in its own cluster, a model in that of its deployments. Nothing of it is there without such a limit.
"""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.buckets import share_of
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.deployments import concurrency_of, ranks
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Model, Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import Provider


def breakers(limit: int | None, spec: Spec, host: Host) -> xds.Config:
    """Return the breakers of a cluster with one host's share of ``limit`` requests, rounded up; None for hardly any."""
    if limit is None:
        return xds.BREAKERS
    share = share_of(limit, host.fleet_size if spec.limits_scope == "fleet" else 1)
    return {"thresholds": [{**xds.BREAKERS["thresholds"][0], "max_requests": share}]}


def is_limited(spec: Spec) -> bool:
    """Return whether anything of ``spec`` can be full."""
    return has_full_providers(spec) or any(concurrency_of(model) is not None for model in spec.models)


def has_full_providers(spec: Spec) -> bool:
    """Return whether a provider of ``spec`` can be full."""
    return any(provider.concurrent_requests is not None for provider in spec.providers)


def may_be_full(model: Model, providers: Mapping[str, Provider]) -> bool:
    """Return whether a provider of ``model`` can be full, after which another is asked."""
    named = (providers[target.provider] for rank in ranks(model) for target in rank)
    return any(provider.concurrent_requests is not None for provider in named)
