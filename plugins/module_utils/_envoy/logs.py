# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is written down about each request: the access log and the counters. Neither ever holds a key."""

from __future__ import annotations

import json
import posixpath

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.otlp import compile_otlp_log
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.prompts import compile_prompt_log
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.usage import usage_fields, usage_loggers
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec

ACCESS_LOG = "access.log"

# One counter for each consumer, model, provider and status that occur together; what is beyond is not counted.
_MOST_COUNTERS = 100000

_CONSUMER = f"%FILTER_STATE({xds.CONSUMER_STATE}:PLAIN)%"

# The labels of a request. The model is the route's: what clients make up must not become a time series.
_CONSUMER_TAG = {"name": "consumer", "value_format": _CONSUMER}
_SERVED_BY = (
    {"name": "model", "value_format": f"%METADATA(ROUTE:{xds.METADATA}:model)%"},
    {"name": "provider", "value_format": f"%UPSTREAM_METADATA({xds.METADATA}:provider)%"},
)
_CODE = {"name": "code", "value_format": "%RESPONSE_CODE%"}

# No healthy endpoint, connection failed or ended, reset, overflow, protocol error, no route, silence, no cluster.
_PROVIDER_FAILURES = ("UH", "UF", "UC", "UR", "UO", "UPE", "NR", "SI", "NC")


def compile_access_log(spec: Spec, host: Host) -> list[xds.Config]:
    """Return the access loggers of the gateway listener."""
    return [
        {
            **xds.extension(
                "envoy.access_loggers.file",
                "extensions.access_loggers.file.v3.FileAccessLog",
                path=posixpath.join(host.log_dir, ACCESS_LOG),
                log_format={"json_format": log_fields(spec)},
            ),
            # The load balancer's questions are nobody's usage.
            "filter": {"not_health_check_filter": {}},
        },
        {
            **xds.extension(
                "envoy.access_loggers.stats",
                "extensions.access_loggers.stats.v3.Config",
                stats_scope={"prefix": "llm", "max_counters": _MOST_COUNTERS},
                counters=[
                    {"stat": {"name": "requests", "tags": [_CONSUMER_TAG, *_SERVED_BY, _CODE]}, "value_fixed": 1}
                ],
            ),
            "filter": {"not_health_check_filter": {}},
        },
        *compile_prompt_log(spec, host, log_fields(spec)),
        *compile_otlp_log(spec.otlp, host, log_fields(spec)),
        *usage_loggers(_CONSUMER_TAG, _SERVED_BY, _MOST_COUNTERS),
        # No endpoint of a provider is there to be asked, so there is no attempt that could be logged.
        _failures(_flags("UH", "NC")),
    ]


def compile_provider_log() -> list[xds.Config]:
    """Return the logger of the egress listener: why a provider could not be asked, on standard error.

    The access log shows the outcome of a request, which may be a fallback's; the reasons of failed attempts are here.
    """
    return [_failures(_flags(*_PROVIDER_FAILURES), xds.status_filter(502))]


def compile_attempt_log() -> list[xds.Config]:
    """Return the logger of each attempt of the gateway listener: the same of the providers that it asks itself."""
    return [_failures(_flags(*_PROVIDER_FAILURES), xds.status_filter(401))]


def compile_tunnel_log() -> list[xds.Config]:
    """Return the logger of a tunnel to a provider: why there was no connection."""
    return [_failures(_flags("UH", "UF", "UO", "NC"))]


def _flags(*flags: str) -> xds.Config:
    return {"response_flag_filter": {"flags": list(flags)}}


def _failures(*filters: xds.Config) -> xds.Config:
    fields = {
        "time": "%START_TIME%",
        "event": "provider_failed",
        "cluster": "%UPSTREAM_CLUSTER_RAW%",
        "address": "%UPSTREAM_HOST%",
        "status": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "tls_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
        "duration_ms": "%DURATION%",
    }
    return {
        **xds.extension(
            "envoy.access_loggers.stderr",
            "extensions.access_loggers.stream.v3.StderrAccessLog",
            log_format={"json_format": fields},
        ),
        "filter": filters[0] if len(filters) == 1 else {"or_filter": {"filters": list(filters)}},
    }


def log_fields(spec: Spec) -> dict[str, str]:
    """Return what is written down about each request, by the names of the fields; prompts and keys are not."""
    traced = spec.otlp is not None and spec.otlp.traces is not None
    return {
        "time": "%START_TIME%",
        "request_id": _first(("REQ", xds.REQUEST_ID), ("FILTER_STATE", f"{xds.REQUEST_ID_STATE}:PLAIN")),
        "client_request_id": f"%REQ({xds.CLIENT_REQUEST_ID}):{xds.CLIENT_REQUEST_ID_LENGTH}%",
        "consumer": _CONSUMER,
        "gen_ai.request.model": _first(("REQ", xds.MODEL), ("METADATA", f"ROUTE:{xds.METADATA}:model")),
        "gen_ai.provider.name": f"%UPSTREAM_METADATA({xds.METADATA}:provider)%",
        "upstream_model": _first(
            ("UPSTREAM_METADATA", f"{xds.METADATA}:model"), ("METADATA", f"ROUTE:{xds.METADATA}:upstream_model")
        ),
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "http.response.status_code": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "duration_ms": "%DURATION%",
        **usage_fields(),
        "http.request.body.size": "%BYTES_RECEIVED%",
        "http.response.body.size": "%BYTES_SENT%",
        "http.request.method": "%REQ(:METHOD)%",
        # The client's, not that of a provider; without the query: some clients put keys there.
        "url.path": _first(("FILTER_STATE", f"{xds.PATH_STATE}:PLAIN"), ("PATH", "NQ")),
        **({"trace_id": "%TRACE_ID%"} if traced else {}),
    }


def _first(*operators: tuple[str, str]) -> str:
    """Return the operator that is the first of several to have a value: a provider's request lacks our headers."""
    choices = [{"command": command, "param": parameter} for command, parameter in operators]
    return f"%COALESCE({json.dumps({'operators': choices})})%"
