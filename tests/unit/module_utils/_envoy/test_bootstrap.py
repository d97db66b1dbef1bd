"""What is left of a host's memory for the heap and for connections."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.bootstrap import compile_bootstrap
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

MIB = 1024**2


def bootstrap(**extra: Any) -> dict[str, Any]:
    raw = {
        "gateway_listeners": {"local": {"address": "127.0.0.1", "port": 8080}},
        "gateway_providers": {"p": {"type": "openai", "base_url": "https://api.openai.com/v1", "api_key": "env://P"}},
        "gateway_models": {"m": {"targets": [{"provider": "p", "model": "m"}]}},
        **extra,
    }
    return compile_bootstrap(parse_spec(raw), host_from_options({"envoy": "/usr/local/bin/envoy"}), "blue")


@pytest.mark.parametrize(
    ("extra", "heap", "connections"),
    [
        ({"gateway_size": "small"}, 512 - 16 - 40, 4096),
        ({"gateway_size": "medium"}, 2048 - 16 - 80, 16384),
        ({"gateway_size": "large"}, 8192 - 16 - 160, 20000),
        ({"gateway_size": "small", "gateway_max_request_size": "1M"}, 512 - 16 - 4, 4096),
        # Too little for what is asked of it.
        ({"gateway_size": {"concurrency": 4, "memory_max": "64M"}}, 32, 512),
    ],
)
def test_memory_is_shared_out(extra: dict[str, Any], heap: int, connections: int) -> None:
    found = bootstrap(**extra)
    assert found["memory_allocator_manager"] == {"soft_memory_limit_bytes": heap * MIB}
    first, second = [each["typed_config"] for each in found["overload_manager"]["resource_monitors"]]
    assert first["max_active_downstream_connections"] == connections
    assert second["max_heap_size_bytes"] == heap * MIB


def test_without_a_limit_of_memory_nothing_watches_it() -> None:
    found = bootstrap(gateway_size={"concurrency": 3})
    assert "memory_allocator_manager" not in found
    assert list(found["overload_manager"]) == ["resource_monitors"]
    assert len(found["overload_manager"]["resource_monitors"]) == 1
