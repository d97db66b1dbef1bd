# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Traces and logs for a collector of OpenTelemetry, over HTTP. None of it holds up a request.

What the collector does not take in time is dropped: Envoy keeps a span or a record in memory until it is sent once,
and the cluster's circuit breakers bound what is on its way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secret_names import file_of_collector
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.transport import host_tls, is_ip
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import HostPath, Literal
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.telemetry import Otlp, OtlpTraces

#: What W3C's trace context and baggage are carried in.
CONTEXT_HEADERS = ("traceparent", "tracestate", "baggage")

# How many spans are sent together, which a worker otherwise sends by fives, and how many it keeps.
_SPANS_TOGETHER = 256
_MOST_SPANS = 2048
_LOG_BATCH_BYTES = 64 * 1024
_TIMEOUT = "5s"
# With the size of a batch, what a collector that hangs can have in memory: some megabytes.
_BREAKERS = {"thresholds": [{"max_connections": 8, "max_pending_requests": 32, "max_requests": 32, "max_retries": 0}]}

# Of the log's fields, those that are numbers in a span, and those that a span has by itself.
_NUMBERS = ("_tokens", "_ms", ".size", "status_code", "attempts")
_OF_SPAN_ITSELF = ("time", "trace_id")


def otlp_file(otlp: Otlp, header: str) -> str:
    """Return the name of the file with the value of a header: another one for each place that it is sent to."""
    return file_of_collector(header, otlp.endpoint.text)


def kept_back(otlp: Otlp | None, provider: str) -> tuple[str, ...]:
    """Return the headers that a provider must not get: it could follow a request through somebody else's systems."""
    if otlp is None or otlp.traces is None or provider in otlp.traces.propagate_to:
        return ()
    return CONTEXT_HEADERS


def compile_collector(otlp: Otlp | None, host: Host) -> list[xds.Config]:
    """Return the cluster of the collector, if there is one."""
    if otlp is None:
        return []
    url = otlp.endpoint
    options = xds.typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http_protocol_options": {}},
        common_http_protocol_options={"idle_timeout": "30s"},
        http_filters=[
            *(_header(name, otlp_file(otlp, name), host) for name, _source in otlp.headers),
            xds.extension(
                "envoy.filters.http.upstream_codec", "extensions.filters.http.upstream_codec.v3.UpstreamCodec"
            ),
        ],
    )
    content: xds.Config = {
        "connect_timeout": "5s",
        "circuit_breakers": _BREAKERS,
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        **({"type": "STATIC"} if is_ip(url.host) else {"cluster_type": xds.dns(all_addresses_in_single_endpoint=True)}),
        **(_tls(otlp, host) if url.scheme == "https" else {}),
    }
    address = {"socket_address": {"address": url.host, "port_value": url.port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    name = xds.content_name("otlp", "collector", {**content, "endpoints": endpoints})
    cluster = xds.typed("config.cluster.v3.Cluster", name=name, alt_stat_name="otlp_collector", **content)
    return [{**cluster, "load_assignment": {"cluster_name": name, "endpoints": endpoints}}]


def compile_runtime(otlp: Otlp | None) -> xds.Config:
    """Return the part of the bootstrap that has spans sent in batches of a decent size."""
    if otlp is None or otlp.traces is None:
        return {}
    layer = {"tracing.opentelemetry.min_flush_spans": _SPANS_TOGETHER}
    return {"layered_runtime": {"layers": [{"name": "gateway", "static_layer": layer}]}}


def compile_tracing(otlp: Otlp | None, host: Host, fields: Mapping[str, str]) -> xds.Config:
    """Return what the gateway's connection manager has to know to trace; nothing when it shall not.

    One span for each request, of the kind SERVER. ``fields`` are those of the access log.
    """
    if otlp is None or otlp.traces is None:
        return {}
    provider = xds.extension(
        "envoy.tracers.opentelemetry",
        "config.trace.v3.OpenTelemetryConfig",
        http_service=_service(otlp, host, "traces"),
        service_name=otlp.service_name,
        max_cache_size=_MOST_SPANS,
        sampler=_sampler(otlp.traces),
    )
    return {
        "tracing": {
            "provider": provider,
            # No client gets a trace by asking Envoy for one: the sampler decides.
            "client_sampling": {"value": 0},
            # Envoy's own attribute has the query, where some clients put keys.
            "max_path_tag_length": 0,
            "operation": f"{fields['gen_ai.operation.name']} {fields['gen_ai.request.model']}",
            "custom_tags": [_tag(name, value) for name, value in fields.items() if name not in _OF_SPAN_ITSELF],
        }
    }


def compile_otlp_log(otlp: Otlp | None, host: Host, fields: Mapping[str, str]) -> list[xds.Config]:
    """Return the access logger that sends what the file has; fields without a value are left out, headers are ``-``."""
    if otlp is None or not otlp.logs:
        return []
    # The record has a time and a trace of its own.
    attributes = {name: value for name, value in fields.items() if name not in _OF_SPAN_ITSELF}
    logger = xds.extension(
        "envoy.access_loggers.open_telemetry",
        "extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
        http_service=_service(otlp, host, "logs"),
        log_name="access",
        disable_builtin_labels=True,
        buffer_size_bytes=_LOG_BATCH_BYTES,
        resource_attributes=_attributes({"service.name": otlp.service_name}),
        body={"string_value": f"{fields['http.request.method']} {fields['url.path']}"},
        attributes=_attributes(attributes),
    )
    return [{**logger, "filter": {"not_health_check_filter": {}}}]


def _tls(otlp: Otlp, host: Host) -> xds.Config:
    """Return TLS to the collector."""
    trusted: xds.Config = {"filename": otlp.ca.path if isinstance(otlp.ca, HostPath) else host.ca_file}
    if isinstance(otlp.ca, Literal):
        trusted = {"inline_string": otlp.ca.value}
    return {"transport_socket": host_tls(otlp.endpoint.host, trusted)}


def _header(name: str, file: str, host: Host) -> xds.Config:
    """Return the filter that sets a header; without a readable value nothing is sent."""
    generic = xds.extension(
        "envoy.http.injected_credentials.generic",
        "extensions.http.injected_credentials.generic.v3.Generic",
        credential={"name": file.removesuffix(".json"), "sds_config": xds.secret_source(host, file)},
        header=name,
    )
    return xds.extension(
        f"header_{name}",
        "extensions.filters.http.credential_injector.v3.CredentialInjector",
        overwrite=True,
        credential=generic,
    )


def _service(otlp: Otlp, host: Host, signal: str) -> xds.Config:
    (cluster,) = compile_collector(otlp, host)
    return {
        "http_uri": {
            "uri": f"{otlp.endpoint.text}/v1/{signal}",
            "cluster": cluster["name"],
            "timeout": _TIMEOUT,
        }
    }


def _sampler(traces: OtlpTraces) -> xds.Config:
    """Return a sampler that does what the caller of a request does, and decides by itself where there is none."""
    share = xds.extension(
        "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
        "extensions.tracers.opentelemetry.samplers.v3.TraceIdRatioBasedSamplerConfig",
        sampling_percentage={"numerator": traces.sampling},
    )
    return xds.extension(
        "envoy.tracers.opentelemetry.samplers.parent_based",
        "extensions.tracers.opentelemetry.samplers.v3.ParentBasedSamplerConfig",
        wrapped_sampler=share,
    )


def _tag(name: str, value: str) -> xds.Config:
    number = {"value_type": "DOUBLE"} if name.endswith(_NUMBERS) else {}
    return {"tag": name, "value": value, **number}


def _attributes(fields: Mapping[str, Any]) -> xds.Config:
    return {"values": [{"key": name, "value": {"string_value": value}} for name, value in fields.items()]}
