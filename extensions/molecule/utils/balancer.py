"""A load balancer in front of the gateways: it passes connections on as they are, and asks for each host's health."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import envoy

_TYPES = "type.googleapis.com/envoy.extensions"
#: Of the gateways. Their certificate is for the clients.
_PORT = 443


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _socket(name: str, kind: str, match: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "match": match,
        "transport_socket": {
            "name": f"envoy.transport_sockets.{name}",
            "typed_config": {"@type": f"{_TYPES}.transport_sockets.{name}.v3.{kind}"},
        },
    }


def configuration(port: int, gateways: list[str]) -> dict[str, Any]:
    """Envoy takes a host out at the first 503, after three checks without an answer, and back after one good check."""
    proxy = {"@type": f"{_TYPES}.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "clients"}
    chain = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {**proxy, "cluster": "gateways"}}]}
    endpoints = [{"endpoint": {"address": _address(host, _PORT)}} for host in gateways]
    often = dict.fromkeys(("interval", "no_traffic_interval"), "0.5s")
    health = {"timeout": "3s", "unhealthy_threshold": 3, "healthy_threshold": 1, **often}
    asked = {"http_health_check": {"path": "/healthz"}, "transport_socket_match_criteria": {"asks": True}}
    cluster = {
        "name": "gateways",
        "type": "STATIC",
        "connect_timeout": "2s",
        # Never a host that has left.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "load_assignment": {"cluster_name": "gateways", "endpoints": [{"lb_endpoints": endpoints}]},
        "health_checks": [{**health, **asked}],
        "transport_socket_matches": [
            _socket("tls", "UpstreamTlsContext", {"asks": True}),
            _socket("raw_buffer", "RawBuffer", {}),
        ],
    }
    listener = {"name": "clients", "address": _address("127.0.0.1", port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextmanager
def balancer(folder: Path, gateways: list[str]) -> Iterator[int]:
    """The port of a load balancer for the addresses `gateways`, which has asked each for its health."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = folder / "balancer.json"
    file.write_text(json.dumps(configuration(port, gateways)))
    program = Path(envoy.__path__[0]) / "_bin" / "envoy"
    options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
    process = subprocess.Popen([program, "-c", file, *options])
    try:
        end = time.monotonic() + 20
        while not _listens(port):
            assert process.poll() is None, "the load balancer has ended"
            assert time.monotonic() < end, "the load balancer does not listen"
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
