# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits on tokens: of a consumer for each model, of a consumer, of a model.

What an answer has cost is known when it ends, so it is a debt that the next request pays: the script tokens.lua asks
the buckets for one token and what is owed. It stands before the limits on requests: what they refuse costs nothing
here, and what is refused here takes nothing there.
"""

from __future__ import annotations

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua, xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.buckets import (
    bucket,
    limit_filter,
    pair_buckets,
    rate_tables,
    share_of,
    values_of,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.rate_limit_service import (
    compile_service_filters,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.limits import TOKENS_PER_MINUTE
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec

_CONSUMER = f"'%REQ({xds.CONSUMER})%'"
_MODEL = f"the model '%REQ({xds.MODEL})%'"
# Larger than any limit, and smaller than what is asked of it.
_NEVER = 900000000
_ASKED_OF_NEVER = 1000000000


def compile_tokens(spec: Spec, host: Host) -> xds.Config:
    """Return the filter that limits tokens per minute, as an ECDS resource; like that of requests, and as exact.

    With ``gateway_rate_limit_service`` that keeps all limits on tokens instead. Without it the debts are in the memory
    of each worker and are forgotten when this file changes, as the buckets are full then.
    """
    if spec.rate_limit_service is not None:
        return _chain(compile_service_filters(spec, spec.rate_limit_service, host))
    hosts = host.fleet_size if spec.limits_scope == "fleet" else 1
    tables = rate_tables(spec, TOKENS_PER_MINUTE, hosts)
    consumers = {
        consumer.name: share_of(consumer.limits.tokens_per_minute, hosts)
        for consumer in spec.consumers
        if consumer.limits.tokens_per_minute is not None
    }
    models = {
        model.name: share_of(model.limits.tokens_per_minute, hosts)
        for model in spec.models
        if model.limits is not None and model.limits.tokens_per_minute is not None
    }
    limits = []
    if tables:
        buckets, most = pair_buckets(tables)
        entries = [("rate", f"{xds.TOKENS}rate"), ("consumer", xds.CONSUMER), ("model", xds.MODEL)]
        whose = f"{_CONSUMER} on tokens per minute for {_MODEL}"
        limits.append(_limit("consumer_model", whose, entries, buckets, max_dynamic_descriptors=most))
    if consumers:
        buckets = [bucket(rate, consumer=name) for name, rate in consumers.items()]
        entries = [("consumer", f"{xds.TOKENS}consumer")]
        limits.append(_limit("consumer", f"{_CONSUMER} on tokens per minute", entries, buckets))
    if models:
        buckets = [bucket(rate, model=name) for name, rate in models.items()]
        entries = [("model", f"{xds.TOKENS}model")]
        limits.append(_limit("model", f"{_MODEL} on tokens per minute of all consumers", entries, buckets))
    if limits:
        script = {"inline_string": lua.tokens_script(tables, consumers, models)}
        limits.insert(0, xds.extension("token_debts", "extensions.filters.http.lua.v3.Lua", default_source_code=script))
    return _chain(limits)


def _chain(filters: list[xds.Config]) -> xds.Config:
    chain = {"default_filter_chain": {"filters": filters}} if filters else {}
    return xds.discovered_resource(
        xds.extension(xds.USAGE_LIMITS, "extensions.filters.http.filter_chain.v3.FilterChainConfig", **chain)
    )


def _limit(
    name: str, whose: str, entries: list[tuple[str, str]], buckets: list[xds.Config], **extra: int
) -> xds.Config:
    """Return the filter of a kind of limit. The script says how many tokens a request takes from its bucket.

    Envoy takes from the bucket that fills slower first. So a request that pays, and still owes more than a bucket can
    hold, is refused by a bucket that never has enough.
    """
    kind = name.replace("_", "-")
    return limit_filter(
        f"{name}_tokens",
        [
            {"actions": values_of(entries), "hits_addend": {"format": f"%REQ({xds.TOKENS}take-{kind})%"}},
            {"actions": values_of([("owes", f"{xds.TOKENS}owes-{kind}")]), "hits_addend": {"number": _ASKED_OF_NEVER}},
        ],
        [*buckets, bucket(_NEVER, owes="yes")],
        # Of all that Envoy answers by itself, this is for limits on tokens only; the client gets another.
        status={"code": "PaymentRequired"},
        response_headers_to_add=[{"header": {"key": xds.SPENT_LIMIT, "value": whose}}],
        **extra,
    )
