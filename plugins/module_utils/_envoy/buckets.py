# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters that hold buckets: for each combination of some headers' values one, which fills in a minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.limits import ModelLimits, Rates
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec

_ALWAYS = {"default_value": {"numerator": 100}}
# Envoy looks at one wildcard after the other: so many cost a request 3 microseconds at most.
_MOST_WILDCARDS = 128


def share_of(limit: int, hosts: int) -> int:
    """Return one host's part of a limit, rounded up."""
    return -(-limit // hosts)


def rate_tables(spec: Spec, what: str, hosts: int) -> dict[str, Rates]:
    """Return each consumer's limits for models on one host; without those who have none."""
    limits = ModelLimits(spec, what)
    shared: dict[Rates, Rates] = {}
    tables = {}
    for consumer in spec.consumers:
        rates = limits.of(consumer)
        if rates:
            if rates not in shared:
                shared[rates] = tuple((model, share_of(rate, hosts)) for model, rate in rates)
            tables[consumer.name] = shared[rates]
    return tables


def bucket(tokens: int, **entries: str) -> xds.Config:
    """Return the bucket of what has these values; an empty one is any, of which each has a bucket of its own."""
    return {
        "entries": [{"key": key, "value": value} if value else {"key": key} for key, value in entries.items()],
        "token_bucket": {"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": "60s"},
    }


def pair_buckets(tables: Mapping[str, Rates]) -> tuple[list[xds.Config], int]:
    """Return the buckets of each consumer for each model, and how many of a kind Envoy has to keep.

    There can be a bucket for every consumer and every model, so Envoy makes them when they are asked for: the commonest
    rates have a wildcard each, and only what has another rate is named. Envoy keeps as many buckets of a wildcard as
    there can be, since it would start a forgotten one full again.
    """
    counts: Counter[int] = Counter()
    for rates, members in Counter(tables.values()).items():
        for rate, models in Counter(rate for _model, rate in rates).items():
            counts[rate] += members * models
    common = sorted(sorted(counts), key=lambda rate: -counts[rate])[:_MOST_WILDCARDS]
    buckets = [bucket(rate, rate=str(rate), consumer="", model="") for rate in sorted(common)]
    if len(common) < len(counts):
        known = frozenset(common)
        buckets += [
            bucket(rate, rate=str(rate), consumer=consumer, model=model)
            for consumer, rates in tables.items()
            for model, rate in rates
            if rate not in known
        ]
    return buckets, max(counts[rate] for rate in common)


def limit_filter(name: str, rate_limits: list[xds.Config], buckets: list[xds.Config], **extra: Any) -> xds.Config:
    """Return a filter with buckets, which says what is left in them."""
    return xds.extension(
        name,
        "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix=name,
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        always_consume_default_token_bucket=False,
        rate_limits=rate_limits,
        descriptors=buckets,
        **extra,
    )


def values_of(headers: Iterable[tuple[str, str]]) -> list[xds.Config]:
    """Return the actions that look at the values of headers, given by the names of entries."""
    return [{"request_headers": {"header_name": header, "descriptor_key": key}} for key, header in headers]
