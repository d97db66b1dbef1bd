# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clusters of models that have several deployments or are counted: who is asked first, second and so on."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import anthropic, one_hop, xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.clusters import (
    IDLE,
    added_headers,
    http_options,
    outliers,
    provider_filters,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.concurrency import breakers, may_be_full
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.deployments import (
    Deployments,
    Ranks,
    concurrency_of,
    only_target,
    ranks,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.otlp import kept_back
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Model, Spec, Target
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import Provider

# On each attempt, this tells the egress listener which deployment was picked.
_PICK_DEPLOYMENT = xds.header_mutation(
    "deployment", [xds.set_header(xds.DEPLOYMENT, f"%UPSTREAM_METADATA({xds.METADATA}:deployment)%")]
)


def compile_model_clusters(
    spec: Spec, host: Host, deployments: Deployments, clusters: Mapping[str, str]
) -> dict[str, xds.Config]:
    """Return the cluster of each model that needs one, by the model's name; ``clusters`` are those of providers."""
    providers = {provider.name: provider for provider in spec.providers}
    found = {}
    for model in spec.models:
        if only_target(model) is not None:
            continue
        first = one_hop.first_in_one_hop(spec, model)
        if first is None:
            content = _through_egress(model, ranks(model), deployments, providers)
        else:
            filters = provider_filters(first, host, kept_back(spec.otlp, first.name))
            content = _in_one_hop(model, deployments, first, clusters[first.name], filters)
        content["circuit_breakers"] = breakers(concurrency_of(model), spec, host)
        found[model.name] = xds.cluster("model", model.name, content)
    return found


def compile_other_clusters(spec: Spec, deployments: Deployments) -> dict[str, xds.Config]:
    """Return the clusters of models without the deployments that not every request can be translated for."""
    providers = {provider.name: provider for provider in spec.providers}
    found = {}
    for model in spec.models:
        others = anthropic.others(model, providers)
        if others is not None:
            content = _through_egress(model, others, deployments, providers)
            # Such a model is not counted, see the checks of a spec.
            found[model.name] = xds.cluster("others", model.name, {**content, "circuit_breakers": xds.BREAKERS})
    return found


def _through_egress(
    model: Model, ranked: Ranks, deployments: Deployments, providers: Mapping[str, Provider]
) -> xds.Config:
    endpoints = [
        [_target(model, target, rank, deployments) for target in targets] for rank, targets in enumerate(ranked)
    ]
    failures = [_status("429|5..")]
    if may_be_full(model, providers):
        # One that is full works.
        failures.append({"name": xds.FULL, "present_match": True, "invert_match": True})
    options = http_options([_PICK_DEPLOYMENT], **_failures(failures))
    return {**_of_ranks(endpoints), "connect_timeout": "1s", "typed_extension_protocol_options": options}


def _in_one_hop(
    model: Model, deployments: Deployments, first: Provider, cluster: str, filters: list[xds.Config]
) -> xds.Config:
    """Return the content of a cluster from which ``first`` is asked at once, through the ``filters`` of its own."""
    ((target,), *fallbacks) = ranks(model)
    described = {"provider": first.name, "model": target.model}
    endpoint = {
        "metadata": {"filter_metadata": {xds.METADATA: described}},
        "endpoint": one_hop.first_address(first, cluster),
    }
    others = [[_target(model, fallback, rank, deployments)] for rank, (fallback,) in enumerate(fallbacks, 1)]
    names = [deployments.of(model, fallback).name for (fallback,) in fallbacks]
    way = one_hop.by_way(filters, added_headers(first), names)
    # The egress listener makes a 502 of a 401.
    failures = _failures([_status("401|429|5..")])
    return {
        **_of_ranks([[endpoint], *others]),
        "connect_timeout": "5s",
        "upstream_connection_options": xds.KEEPALIVE,
        "typed_extension_protocol_options": http_options(
            [_PICK_DEPLOYMENT, way], IDLE[first.base_urls[0].scheme], **failures
        ),
    }


def _of_ranks(ranked: list[list[xds.Config]]) -> xds.Config:
    endpoints = [{"priority": rank, "lb_endpoints": found} for rank, found in enumerate(ranked)]
    return {
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "outlier_detection": outliers(max_ejection_percent=100),
        # With everybody failing, ask them all rather than nobody.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        # Without this factor the next rank would get requests as soon as one of several targets is left alone.
        "load_assignment": {"endpoints": endpoints, "policy": {"overprovisioning_factor": 100000}},
    }


def _status(statuses: str) -> xds.Config:
    return {"name": ":status", "string_match": {"safe_regex": {"regex": statuses}}}


def _failures(headers: list[xds.Config]) -> xds.Config:
    """Return what counts as a failure of a target; a 429 would not, by itself."""
    return {"outlier_detection": {"error_matcher": {"http_response_headers_match": {"headers": headers}}}}


def _target(model: Model, target: Target, rank: int, deployments: Deployments) -> xds.Config:
    deployment = deployments.of(model, target)
    described = {"deployment": deployment.name, "provider": deployment.provider, "model": deployment.model}
    return {
        "load_balancing_weight": target.weight,
        "metadata": {"filter_metadata": {xds.METADATA: described}},
        "endpoint": {
            "address": {
                "envoy_internal_address": {
                    "server_listener_name": xds.EGRESS,
                    "endpoint_id": f"{rank}:{deployment.provider}/{deployment.model}",
                }
            }
        },
    }
