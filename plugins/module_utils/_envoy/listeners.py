# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Listeners: those that clients connect to, and the internal one that every attempt passes on its way out."""

from __future__ import annotations

from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import cors, http3, xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.filters import (
    compile_egress_filters,
    compile_gateway_filters,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.logs import (
    compile_access_log,
    compile_provider_log,
    log_fields,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.otlp import compile_tracing
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.replies import (
    compile_egress_replies,
    compile_gateway_replies,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.routes import (
    EGRESS_FILE,
    GATEWAY,
    GATEWAY_FILE,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secret_names import file_of_clients
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secrets import (
    listener_file,
    paths_on_host,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.transport import (
    host_authorities,
    host_certificate,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Listener, Spec, Tls
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import HostPath, Source

# Kept connections without a request are closed after this: shorter than the time a replaced process is given to drain.
CONNECTION_IDLE_SECONDS = 75

_CONNECTION_WINDOW_BYTES = 16 * 1024**2

# A request has to be there in this time. With endpoints without a model it may be a file of gigabytes.
_REQUEST_TIMEOUT = "120s"
_UPLOAD_TIMEOUT = "3600s"

_TLS_VERSIONS = {"1.0": "TLSv1_0", "1.1": "TLSv1_1", "1.2": "TLSv1_2", "1.3": "TLSv1_3"}


def compile_listeners(spec: Spec, host: Host) -> list[xds.Config]:
    """Return the listeners of a gateway; those of clients differ in address, certificate and CORS only."""
    manager = _gateway_manager(spec, host)
    size = spec.max_request_size
    found = []
    for listener in spec.listeners:
        found.append(_listener(listener, host, http3.with_advertisement(listener, manager), size))
        if listener.http3 and listener.tls is not None:
            tls = _tls_context(listener.name, listener.tls, host)
            found.append(http3.compile_listener(listener, tls, cors.with_filter(listener, manager), size))
    return [*found, _egress(spec, host)]


def compile_host_certificates(spec: Spec) -> dict[str, xds.Config]:
    """Return the SDS resources of certificates and CAs that are files on the host, by the name of their file."""
    found = {}
    for listener in spec.listeners:
        paths = None if listener.tls is None else paths_on_host(listener.tls)
        if paths is not None:
            file = listener_file(listener.name)
            found[f"sds-{file}"] = host_certificate(file.removesuffix(".json"), *paths)
        authorities = None if listener.tls is None else listener.tls.client_ca
        if isinstance(authorities, HostPath):
            file = file_of_clients(listener.name)
            found[f"sds-{file}"] = host_authorities(file.removesuffix(".json"), authorities.path)
    return found


def _listener(listener: Listener, host: Host, manager: xds.Config, max_request_size: int) -> xds.Config:
    chain: xds.Config = {"filters": [cors.with_filter(listener, manager)]}
    if listener.tls is not None:
        chain["transport_socket"] = _tls(listener.name, listener.tls, host)
        chain["transport_socket_connect_timeout"] = "10s"
    return xds.typed(
        "config.listener.v3.Listener",
        name=f"listener:{listener.name}",
        stat_prefix=listener.name,
        address={"socket_address": {"address": listener.address, "port_value": listener.port}},
        per_connection_buffer_limit_bytes=max_request_size,
        filter_chains=[chain],
    )


def _egress(spec: Spec, host: Host) -> xds.Config:
    manager = _manager(
        xds.EGRESS,
        host,
        EGRESS_FILE,
        generate_request_id=False,
        stream_idle_timeout="0s",
        # An answer that is cut is cut at once, not after a second of politeness.
        delayed_close_timeout="0s",
        local_reply_config=compile_egress_replies(spec),
        access_log=compile_provider_log(),
        http_filters=compile_egress_filters(),
    )
    return xds.typed(
        "config.listener.v3.Listener",
        name=xds.EGRESS,
        internal_listener={},
        # What is here was let in: a fallback serves it, too, when there is no memory for more.
        bypass_overload_manager=True,
        # A renamed model may make a body a little longer.
        per_connection_buffer_limit_bytes=spec.max_request_size + xds.BODY_GROWTH_BYTES,
        filter_chains=[{"filters": [manager]}],
    )


def _gateway_manager(spec: Spec, host: Host) -> xds.Config:
    return _manager(
        GATEWAY,
        host,
        GATEWAY_FILE,
        server_name="openai-gateway",
        use_remote_address=True,
        # One spelling of a path for everybody who looks at it.
        normalize_path=True,
        merge_slashes=True,
        # As a name it is one segment, such as that of a model.
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        common_http_protocol_options={
            "idle_timeout": f"{CONNECTION_IDLE_SECONDS}s",
            "headers_with_underscores_action": "DROP_HEADER",
        },
        # What a stream of HTTP/2 may have in memory is its window, and that of a connection must not be in its way.
        http2_protocol_options={
            "initial_stream_window_size": spec.max_request_size,
            "initial_connection_window_size": spec.max_request_size + _CONNECTION_WINDOW_BYTES,
        },
        request_headers_timeout="10s",
        request_timeout=_UPLOAD_TIMEOUT if spec.endpoints else _REQUEST_TIMEOUT,
        # For what has no route, and so no timeouts of its own.
        stream_idle_timeout="600s",
        always_set_request_id_in_response=True,
        early_header_mutation_extensions=[_strip_internal_headers()],
        local_reply_config=compile_gateway_replies(spec),
        access_log=compile_access_log(spec, host),
        http_filters=compile_gateway_filters(spec, host),
        **compile_tracing(spec.otlp, host, log_fields(spec)),
    )


def _manager(name: str, host: Host, routes_file: str, **fields: Any) -> xds.Config:
    return xds.extension(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        rds={"route_config_name": name, "config_source": xds.release_source(host, routes_file)},
        **fields,
    )


def _strip_internal_headers() -> xds.Config:
    """Return the removal of the headers that only the gateway and Envoy may set, before anything reads them."""
    prefixes = (xds.HEADER_PREFIX, "x-envoy-")
    return xds.extension(
        "envoy.http.early_header_mutation.header_mutation",
        "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in prefixes],
    )


def _tls(name: str, tls: Tls, host: Host) -> xds.Config:
    return {"name": "envoy.transport_sockets.tls", "typed_config": _tls_context(name, tls, host)}


def _tls_context(name: str, tls: Tls, host: Host) -> xds.Config:
    file = listener_file(name)
    on_host = paths_on_host(tls) is not None
    source = xds.release_source(host, f"sds-{file}") if on_host else xds.secret_source(host, file)
    clients = {} if tls.client_ca is None else _clients(file_of_clients(name), tls.client_ca, host)
    return xds.typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": _TLS_VERSIONS[tls.min_version]},
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": [{"name": file.removesuffix(".json"), "sds_config": source}],
            **({"validation_context_sds_secret_config": clients} if clients else {}),
        },
        **({"require_client_certificate": True} if clients else {}),
    )


def _clients(file: str, authorities: Source, host: Host) -> xds.Config:
    on_host = isinstance(authorities, HostPath)
    source = xds.release_source(host, f"sds-{file}") if on_host else xds.secret_source(host, file)
    return {"name": file.removesuffix(".json"), "sds_config": source}
