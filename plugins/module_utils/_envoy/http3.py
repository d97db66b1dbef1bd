# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP/3: a listener at the UDP port beside that of TCP, with the same certificate, filters and routes."""

from __future__ import annotations

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Listener

# How long a client remembers that there is HTTP/3, in seconds: after it is gone it would still be tried so long.
_REMEMBERED = 3600
# The largest that Envoy takes; a larger body arrives in several of them.
_STREAM_WINDOW_BYTES = 16 * 1024**2
_CONNECTION_WINDOW_BYTES = 24 * 1024**2


def with_advertisement(listener: Listener, manager: xds.Config) -> xds.Config:
    """Return the connection manager of TCP, which tells of HTTP/3 where the listener has it."""
    if not listener.http3:
        return manager
    config = manager["typed_config"]
    header = {"key": "alt-svc", "value": f'h3=":{listener.port}"; ma={_REMEMBERED}'}
    first = xds.extension(
        "alt_svc",
        "extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={
            "response_mutations": [{"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}]
        },
    )
    return {**manager, "typed_config": {**config, "http_filters": [first, *config["http_filters"]]}}


def compile_listener(listener: Listener, tls: xds.Config, manager: xds.Config, max_request_size: int) -> xds.Config:
    """Return the listener of HTTP/3, with the TLS and the connection manager of the other."""
    common = {**tls["common_tls_context"], "alpn_protocols": ["h3"]}
    # There is no QUIC without TLS 1.3, and older versions are nothing to be chosen.
    del common["tls_params"]
    config = {name: value for name, value in manager["typed_config"].items() if name != "http2_protocol_options"}
    windows = {
        "initial_stream_window_size": min(max_request_size, _STREAM_WINDOW_BYTES),
        "initial_connection_window_size": _CONNECTION_WINDOW_BYTES,
    }
    socket = xds.extension(
        "envoy.transport_sockets.quic",
        "extensions.transport_sockets.quic.v3.QuicDownstreamTransport",
        downstream_tls_context={
            name: value for name, value in {**tls, "common_tls_context": common}.items() if name != "@type"
        },
        # What a client sends before the handshake is over could be sent again by others.
        enable_early_data=False,
    )
    return xds.typed(
        "config.listener.v3.Listener",
        name=f"listener:{listener.name}:http3",
        stat_prefix=f"{listener.name}_http3",
        address={
            "socket_address": {"address": listener.address, "port_value": listener.port, "protocol": "UDP"},
        },
        udp_listener_config={"quic_options": {}, "downstream_socket_config": {"prefer_gro": True}},
        per_connection_buffer_limit_bytes=max_request_size,
        filter_chains=[
            {
                "filters": [
                    {
                        **manager,
                        "typed_config": {
                            **config,
                            "codec_type": "HTTP3",
                            "http3_protocol_options": {"quic_protocol_options": windows},
                        },
                    }
                ],
                "transport_socket": socket,
            }
        ],
    )
