# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits: of a consumer for each model, of a consumer, of a model. A request needs a token of each that it has.

All are one filter for Envoy's listener, a chain of its own with a file of its own: the listener stays as it is when
limits come and go.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua, xds
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.limits import ModelLimits, Rates
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec

_ALWAYS = {"default_value": {"numerator": 100}}
_CONSUMER = f"'%REQ({xds.CONSUMER})%'"
_MODEL = f"the model '%REQ({xds.MODEL})%'"
# Envoy looks at one wildcard after the other: so many cost a request 3 microseconds at most.
_MOST_WILDCARDS = 128


def compile_limits(spec: Spec, host: Host) -> xds.Config:
    """Return the filter that limits requests per minute, as an ECDS resource.

    With the scope ``fleet`` each host enforces its share, rounded up. A bucket holds a minute's requests and fills
    steadily; buckets start full again when this file changes, so it holds nothing but limits. Every listener has
    buckets of its own: Envoy 1.40 shares those of a filter between workers, not between listeners.

    What is a consumer's own comes first: what is refused for that takes nothing from what all share.
    """
    share = host.fleet_size if spec.limits_scope == "fleet" else 1
    tables = _tables(spec, share)
    consumers = [
        _bucket(_share(consumer.limits.requests_per_minute, share), consumer=consumer.name)
        for consumer in spec.consumers
        if consumer.limits.requests_per_minute is not None
    ]
    models = [
        _bucket(_share(model.limits.requests_per_minute, share), model=model.name)
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


def _share(requests: int, share: int) -> int:
    return -(-requests // share)


def _tables(spec: Spec, share: int) -> dict[str, Rates]:
    """Return what each consumer may ask for how often on one host; without those who have no such limit."""
    limits = ModelLimits(spec)
    shared: dict[Rates, Rates] = {}
    tables = {}
    for consumer in spec.consumers:
        rates = limits.of(consumer)
        if rates:
            if rates not in shared:
                shared[rates] = tuple((model, _share(requests, share)) for model, requests in rates)
            tables[consumer.name] = shared[rates]
    return tables


def _of_both(tables: dict[str, Rates]) -> xds.Config:
    """Return the limit of a consumer for each model.

    There can be a bucket for every consumer and every model, so Envoy makes them when they are asked for: the commonest
    rates have a wildcard each, and only what has another rate is named. Envoy keeps as many buckets of a wildcard as
    there can be, since it would start a forgotten one full again.
    """
    counts: Counter[int] = Counter()
    for rates, members in Counter(tables.values()).items():
        for rate, models in Counter(rate for _model, rate in rates).items():
            counts[rate] += members * models
    common = sorted(sorted(counts), key=lambda rate: -counts[rate])[:_MOST_WILDCARDS]
    buckets = [_bucket(rate, rate=str(rate), consumer="", model="") for rate in sorted(common)]
    if len(common) < len(counts):
        known = frozenset(common)
        buckets += [
            _bucket(rate, rate=str(rate), consumer=consumer, model=model)
            for consumer, rates in tables.items()
            for model, rate in rates
            if rate not in known
        ]
    return _limit(
        "consumer_model",
        f"{_CONSUMER} on requests per minute for {_MODEL}",
        (xds.RATE, xds.CONSUMER, xds.MODEL),
        buckets,
        max_dynamic_descriptors=max(counts[rate] for rate in common),
    )


def _limit(name: str, whose: str, headers: tuple[str, ...], buckets: list[xds.Config], **extra: Any) -> xds.Config:
    """Return a filter with a bucket for each combination of the values of some request headers."""
    actions = [
        {"request_headers": {"header_name": header, "descriptor_key": header[len(xds.HEADER_PREFIX) :]}}
        for header in headers
    ]
    return xds.extension(
        f"{name}_limits",
        "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix=f"{name}_limits",
        status={"code": "TooManyRequests"},
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        enable_retry_after_header=True,
        always_consume_default_token_bucket=False,
        rate_limits=[{"actions": actions}],
        descriptors=buckets,
        response_headers_to_add=[{"header": {"key": xds.LIMIT, "value": whose}}],
        **extra,
    )


def _bucket(tokens: int, **entries: str) -> xds.Config:
    return {
        "entries": [{"key": key, "value": value} if value else {"key": key} for key, value in entries.items()],
        "token_bucket": {"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": "60s"},
    }


def _rates(tables: dict[str, Rates]) -> xds.Config:
    """Return the filter that tells the next one how often a consumer may ask for a model."""
    script = lua.limits_script(tables)
    return xds.extension("rates", "extensions.filters.http.lua.v3.Lua", default_source_code={"inline_string": script})
