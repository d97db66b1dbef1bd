# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Usage in the access log and the counters: tokens, and the time to the first of them.

The script read_usage.lua reads it from the answers into dynamic metadata. Names of fields are OpenTelemetry's:
https://github.com/open-telemetry/semantic-conventions-genai
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Model
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import AZURE_V1, Provider

# One of them for each model and provider, each some thirty lines in Prometheus' format.
_MOST_HISTOGRAMS = 5000
_UNTIL_ANSWERED = "%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:ms)%"

# Versions of Azure's API before this one refuse to be asked; they begin with their date.
_AZURE_CAN_BE_ASKED = "2024-09-01"

Tags = Sequence[dict[str, str]]


def can_be_asked(model: Model, providers: Mapping[str, Provider]) -> bool:
    """Return whether every provider that may get a request for ``model`` can be asked for the usage of its streams."""
    return all(_can_be_asked(providers[target.provider]) for target in (*model.targets, *model.fallbacks))


def _can_be_asked(provider: Provider) -> bool:
    if provider.stream_usage is not None:
        return provider.stream_usage == "ask"
    version = provider.api_version
    return version is None or version == AZURE_V1 or version[:10] >= _AZURE_CAN_BE_ASKED


def usage_fields() -> dict[str, str]:
    """Return the fields of the access log; those of what is not known are null."""
    return {
        "gen_ai.operation.name": _noted("request", "operation"),
        "gen_ai.response.model": _noted("answer", "model"),
        "gen_ai.usage.input_tokens": _noted("answer", "input"),
        "gen_ai.usage.output_tokens": _noted("answer", "output"),
        "gen_ai.usage.cache_read.input_tokens": _noted("answer", "cached"),
        "gen_ai.usage.reasoning.output_tokens": _noted("answer", "reasoning"),
        # OpenTelemetry's is in seconds.
        "gen_ai.server.time_to_first_token_ms": _UNTIL_ANSWERED,
    }


def usage_loggers(consumer: dict[str, str], served_by: Tags, most_counters: int) -> list[xds.Config]:
    """Return the loggers that count tokens, and how long answers took.

    ``consumer`` is the tag of the consumer, ``served_by`` those of model and provider. Histograms are long, so they
    are not kept for each consumer.
    """
    tags = [consumer, *served_by]

    def tokens(kind: str) -> xds.Config:
        stat = {"name": "tokens", "tags": [*tags, {"name": "type", "value_format": kind}]}
        return {"stat": stat, "value_format": _noted("answer", kind)}

    def part(name: str, kind: str) -> xds.Config:
        return {"stat": {"name": name, "tags": tags}, "value_format": _noted("answer", kind)}

    def time(name: str, value: str) -> xds.Config:
        return {"stat": {"name": name, "tags": list(served_by)}, "unit": "Milliseconds", "value_format": value}

    times = [time("duration", "%DURATION%"), time("time_to_first_token", _UNTIL_ANSWERED)]
    answered = {"and_filter": {"filters": [xds.status_filter(200), _is_noted(("request",), {"present_match": True})]}}
    # Both are noted as soon as one of them is known.
    known = _is_noted(("answer", "input"), {"present_match": True})
    counters: dict[str, Any] = {"prefix": "llm", "max_counters": most_counters}
    return [
        _logger(answered, stats_scope={"prefix": "llm", "max_histograms": _MOST_HISTOGRAMS}, histograms=times),
        _logger(known, stats_scope=counters, counters=[tokens("input"), tokens("output")]),
        _logger(_some("cached"), stats_scope=counters, counters=[part("cached_input_tokens", "cached")]),
        _logger(_some("reasoning"), stats_scope=counters, counters=[part("reasoning_output_tokens", "reasoning")]),
    ]


def _noted(*path: str) -> str:
    return f"%DYNAMIC_METADATA({':'.join((xds.METADATA, *path))})%"


def _is_noted(path: Sequence[str], value: xds.Config) -> xds.Config:
    matcher = {"filter": xds.METADATA, "path": [{"key": key} for key in path], "value": value}
    return {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": False}}


def _some(kind: str) -> xds.Config:
    return _is_noted(("answer", kind), {"double_match": {"range": {"start": 1, "end": 1e12}}})


def _logger(log_filter: xds.Config, **config: Any) -> xds.Config:
    extension = xds.extension("envoy.access_loggers.stats", "extensions.access_loggers.stats.v3.Config", **config)
    return {**extension, "filter": log_filter}
