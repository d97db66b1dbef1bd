# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits: of a consumer for each model, of a consumer, of a model. A request needs a token of each that it has.

All are one filter for Envoy's listener, a chain of its own with a file of its own: the listener stays as it is when
limits come and go.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua, xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.buckets import (
    bucket,
    limit_filter,
    pair_buckets,
    rate_tables,
    share_of,
    values_of,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.limits import REQUESTS_PER_MINUTE, Rates
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec

_CONSUMER = f"'%REQ({xds.CONSUMER})%'"
_MODEL = f"the model '%REQ({xds.MODEL})%'"


def compile_limits(spec: Spec, host: Host) -> xds.Config:
    """Return the filter that limits requests per minute, as an ECDS resource.

    With the scope ``fleet`` each host enforces its share, rounded up. A bucket holds a minute's requests and fills
    steadily; buckets start full again when this file changes, so it holds nothing but limits. Every listener has
    buckets of its own: Envoy 1.40 shares those of a filter between workers, not between listeners.

    What is a consumer's own comes first: what is refused for that takes nothing from what all share.
    """
    hosts = host.fleet_size if spec.limits_scope == "fleet" else 1
    tables = rate_tables(spec, REQUESTS_PER_MINUTE, hosts)
    consumers = [
        bucket(share_of(consumer.limits.requests_per_minute, hosts), consumer=consumer.name)
        for consumer in spec.consumers
        if consumer.limits.requests_per_minute is not None
    ]
    models = [
        bucket(share_of(model.limits.requests_per_minute, hosts), model=model.name)
        for model in spec.models
        if model.limits is not None and model.limits.requests_per_minute is not None
    ]
    limits = []
    if tables:
        limits += [_rates(tables), _of_both(tables)]
    if consumers:
        limits.append(_limit("consumer", f"{_CONSUMER} on requests per minute", (xds.CONSUMER,), consumers))
    if models:
        limits.append(_limit("model", f"{_MODEL} on requests per minute of all consumers", (xds.MODEL,), models))
    chain = {"default_filter_chain": {"filters": limits}} if limits else {}
    return xds.discovered_resource(
        xds.extension(xds.REQUEST_LIMITS, "extensions.filters.http.filter_chain.v3.FilterChainConfig", **chain)
    )


def _of_both(tables: dict[str, Rates]) -> xds.Config:
    """Return the limit of a consumer for each model."""
    buckets, most = pair_buckets(tables)
    return _limit(
        "consumer_model",
        f"{_CONSUMER} on requests per minute for {_MODEL}",
        (xds.RATE, xds.CONSUMER, xds.MODEL),
        buckets,
        max_dynamic_descriptors=most,
    )


def _limit(name: str, whose: str, headers: tuple[str, ...], buckets: list[xds.Config], **extra: Any) -> xds.Config:
    """Return a filter with a bucket for each combination of the values of some request headers."""
    return limit_filter(
        f"{name}_limits",
        [{"actions": values_of((header[len(xds.HEADER_PREFIX) :], header) for header in headers)}],
        buckets,
        status={"code": "TooManyRequests"},
        enable_retry_after_header=True,
        response_headers_to_add=[{"header": {"key": xds.LIMIT, "value": whose}}],
        **extra,
    )


def _rates(tables: dict[str, Rates]) -> xds.Config:
    """Return the filter that tells the next one how often a consumer may ask for a model."""
    script = lua.limits_script(tables)
    return xds.extension("rates", "extensions.filters.http.lua.v3.Lua", default_source_code={"inline_string": script})
