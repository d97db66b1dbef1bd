"""Plans that pages are made of in tests: a small one in which everything happens, and one of any number of models."""

from __future__ import annotations

import copy
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.fleet import FleetPlan, HostPlan

Resources = dict[str, dict[str, Any]]

BEFORE: Resources = {
    "gateway_listeners.public": {"address": "0.0.0.0", "port": 443},
    "gateway_providers.openai": {
        "type": "openai",
        "base_url": ["https://api.openai.com/v1"],
        "api_key": "vault://kv/providers/openai#api_key",
        "region": "us-east-1",
    },
    "gateway_providers.vllm": {"type": "openai_compatible", "base_url": ["http://10.20.0.5:8000/v1"]},
    "gateway_models.gpt-4o": {
        "targets": [{"provider": "openai", "model": "gpt-4o", "weight": 1}],
        "fallbacks": [],
        "price": {"input": 2.5, "output": 10.0},
    },
    "gateway_models.gpt-5": {
        "targets": [{"provider": "openai", "model": "gpt-5", "weight": 1}],
        "fallbacks": [{"provider": "vllm", "model": "qwen3-32b", "weight": 1}],
        "price": {"input": 1.25, "output": 10.0},
    },
    "gateway_models.text-embedding-3-small": {
        "targets": [{"provider": "openai", "model": "text-embedding-3-small", "weight": 1}],
        "fallbacks": [],
        "price": {"input": 0.02, "output": 0.0},
    },
    "gateway_consumers.batch": {
        "api_keys": ["vault://kv/consumers/batch#current"],
        "models": ["gpt-5"],
        "limits": {"tokens_per_day": 2000000},
    },
    "gateway_consumers.search": {
        "api_keys": ["vault://kv/consumers/search#current", "(literal)"],
        "models": ["gpt-4o", "gpt-5", "text-embedding-*"],
        "limits": {"requests_per_minute": 600, "tokens_per_day": 5000000},
    },
    "gateway_size": {"name": "small", "memory_max": "1G"},
}


def _after() -> Resources:
    after = copy.deepcopy(BEFORE)
    del after["gateway_models.gpt-4o"]
    after["gateway_providers.azure_eu"] = {
        "type": "azure_openai",
        "base_url": ["https://eu.openai.azure.com"],
        "api_key": "env://AZURE_OPENAI_API_KEY",
        "region": "eu-west-1",
    }
    gpt5 = after["gateway_models.gpt-5"]
    gpt5["targets"] = [
        {"provider": "openai", "model": "gpt-5", "weight": 80},
        {"provider": "azure_eu", "model": "gpt5-eu", "weight": 20},
    ]
    gpt5["price"] = {"input": 1.1, "output": 8.8}
    after["gateway_models.gpt-5-mini"] = {
        "targets": [{"provider": "azure_eu", "model": "gpt5-mini-eu", "weight": 1}],
        "fallbacks": [{"provider": "openai", "model": "gpt-5-mini", "weight": 1}],
    }
    after["gateway_consumers.search"].update(
        api_keys=["vault://kv/consumers/search#current", "vault://kv/consumers/search#next"],
        models=["gpt-5", "text-embedding-*"],
        limits={"requests_per_minute": 300, "tokens_per_day": 5000000},
    )
    after["gateway_consumers.assistant"] = {
        "api_keys": ["vault://kv/consumers/assistant#current"],
        "models": ["gpt-5-mini"],
        "limits": {"tokens_per_day": 1000000},
    }
    return after


AFTER = _after()
FINDING = {
    "rule": "fallback_across_trust_zones",
    "severity": "warn",
    "path": "gateway_models.gpt-5",
    "message": "may go to the trust zone 'own'",
    "remedy": "take the fallback 'vllm' out",
}


def a_host(name: str, before: Resources | None = None, after: Resources | None = None, **more: Any) -> HostPlan:
    """What would happen on a host; unless they are given the resources are BEFORE and AFTER."""
    before = BEFORE if before is None else before
    after = AFTER if after is None else after
    values = {
        "active": "0" * 16,
        "release": "1" * 16,
        "spec_digest": "2" * 64,
        "envoy_version": "1.40.0",
        "process": "none" if before == after else "reload",
        "changed": before != after,
        "before": before,
        "after": after,
        "drift": (),
        "findings": (FINDING,),
        **more,
    }
    return HostPlan(host=name, **values)


def a_plan(*hosts: HostPlan, **unknown: str) -> FleetPlan:
    """A plan of these hosts; nothing is known of the others, and why."""
    return FleetPlan(
        environment="production",
        created_at="2026-11-24T12:00:00Z",
        expires_at="2026-11-25T12:00:00Z",
        collection_version="0.1.0",
        commit="ab" * 20,
        hosts=hosts,
        unknown=tuple(sorted(unknown.items())),
    )


def small_plan() -> FleetPlan:
    """Three models before and after, and all that can happen to them."""
    return a_plan(
        a_host("gateway1", in_use={"old": 3}),
        a_host("gateway2"),
        a_host("gateway3", before=AFTER),
        gateway4="cannot be reached: no route to host",
    )


def large_plan(models: int = 300) -> FleetPlan:
    """As many models, of which a few are others, and 40 consumers."""
    after: Resources = {
        f"gateway_providers.p{number:02d}": {"type": "openai_compatible", "base_url": [f"https://p{number}.example/v1"]}
        for number in range(20)
    }
    for number in range(models):
        provider = {"provider": f"p{number % 20:02d}", "model": f"deployment-{number}", "weight": 1}
        price = {"price": {"input": 1 + number % 7, "output": 4 + number % 5}} if number % 50 else {}
        after[f"gateway_models.model-{number:03d}"] = {"targets": [provider], "fallbacks": [], **price}
    for number in range(40):
        after[f"gateway_consumers.team-{number:02d}"] = {
            "api_keys": [f"vault://kv/consumers/{number}#current"],
            "models": [f"model-{number % 3}{number % 10}*"],
            "limits": {"tokens_per_day": 1000000 * (number + 1)},
        }
    before = copy.deepcopy(after)
    for number in range(0, models, 12):
        before[f"gateway_models.model-{number:03d}"]["price"] = {"input": 20, "output": 60}
    for number in range(5, models, 40):
        before[f"gateway_models.model-{number:03d}"]["targets"][0]["provider"] = "p00"
    for number in range(7, models, 90):
        del before[f"gateway_models.model-{number:03d}"]
    before["gateway_models.retired"] = copy.deepcopy(after["gateway_models.model-000"])
    hosts = [a_host(f"gateway-{number:03d}.eu-central.example.com", before, after) for number in range(40)]
    return a_plan(*hosts)
