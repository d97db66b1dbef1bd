"""A spec of the largest size that the project promises takes seconds, and its cost grows with its size."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._policy.check import check_policies
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.access import allowed_models
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import spec_resources


def spec_of(models: int, consumers: int) -> dict[str, Any]:
    """Return variables with that many models and consumers; every consumer has a name and two patterns."""
    return {
        "gateway_listeners": {"local": {"address": "127.0.0.1", "port": 8080}},
        "gateway_providers": {
            f"p{i}": {"type": "openai", "base_url": f"https://p{i}.example/v1", "api_key": f"vault://kv/p/p{i}#key"}
            for i in range(20)
        },
        "gateway_models": {
            f"model-{i:04d}": {
                "targets": [
                    {"provider": f"p{i % 20}", "model": f"m{i}", "weight": 80},
                    {"provider": f"p{(i + 1) % 20}", "model": f"m{i}", "weight": 20},
                ],
                "timeouts": {"first_byte": "120s", "idle": "300s"},
                "price": {"input": 1.25, "output": 10.0},
            }
            for i in range(models)
        },
        "gateway_consumers": {
            f"team-{i:05d}": {
                "api_keys": [f"vault://kv/c/team{i}#current", f"vault://kv/c/team{i}#previous"],
                "models": [f"model-{i % models:04d}", f"model-00{i % 10}*", f"*{i % 97}"],
                "limits": {"requests_per_minute": 600},
            }
            for i in range(consumers)
        },
    }


def seconds_for(models: int, consumers: int) -> float:
    """Return the processor time of all that the spec goes through before it is compiled."""
    raw = spec_of(models, consumers)
    start = time.process_time()
    spec = parse_spec({"gateway_shared": raw})
    check_policies(spec)
    spec_resources(spec)
    for consumer in spec.consumers:
        allowed_models(spec, consumer)
    return time.process_time() - start


def test_the_largest_spec() -> None:
    # Measured: 0.4 s on CPython 3.11. Something that is quadratic takes minutes.
    assert seconds_for(models=1000, consumers=10000) < 3
