# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits of consumers."""

from __future__ import annotations

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.filters import discovered_resource
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec

# Whoever has no limit draws from this bucket, which is as good as none.
_UNLIMITED = 1000000000
_ALWAYS = {"default_value": {"numerator": 100}}


def compile_limits(spec: Spec, host: Host) -> xds.Config:
    """Return the filter that limits requests per minute, as an ECDS resource.

    With the scope ``fleet`` each host enforces its share, rounded up. A bucket holds a minute's requests and fills
    steadily; buckets start full again when this file changes, so it holds nothing but limits. Every listener has
    buckets of its own: Envoy 1.40 shares those of a filter between workers, not between listeners.
    """
    share = host.fleet_size if spec.limits_scope == "fleet" else 1
    descriptors = [
        {
            "entries": [{"key": "consumer", "value": consumer.name}],
            "token_bucket": _bucket(-(-consumer.limits.requests_per_minute // share)),
        }
        for consumer in spec.consumers
        if consumer.limits.requests_per_minute is not None
    ]
    action = {"request_headers": {"header_name": xds.CONSUMER, "descriptor_key": "consumer"}}
    return discovered_resource(
        xds.extension(
            xds.REQUEST_LIMITS,
            "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            stat_prefix="request_limits",
            status={"code": "TooManyRequests"},
            filter_enabled=_ALWAYS,
            filter_enforced=_ALWAYS,
            enable_x_ratelimit_headers="DRAFT_VERSION_03",
            enable_retry_after_header=True,
            always_consume_default_token_bucket=False,
            rate_limits=[{"actions": [action]}],
            descriptors=descriptors,
        )
    )


def _bucket(tokens: int) -> xds.Config:
    return {"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": "60s"}
