from __future__ import annotations

import json

from spec_examples import changed, every_key

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import spec_resources


def test_resources_are_complete_and_in_the_notation_of_a_spec() -> None:
    resources = spec_resources(parse_spec(every_key()))
    assert list(resources) == [
        "gateway_listeners.local",
        "gateway_listeners.public",
        "gateway_providers.azure_eu",
        "gateway_providers.claude",
        "gateway_providers.openai",
        "gateway_providers.vllm",
        "gateway_models.gpt-5",
        "gateway_models.text-embedding-3-small",
        "gateway_endpoints.batches",
        "gateway_endpoints.files",
        "gateway_consumers.batch",
        "gateway_consumers.search-team",
        "gateway_jwt_issuers.keycloak",
        "gateway_size",
        "gateway_limits_scope",
        "gateway_max_request_size",
        "gateway_metrics",
        "gateway_drain",
        "gateway_otlp",
        "gateway_rate_limit_service",
        "gateway_prompt_log",
        "gateway_nftables",
        "gateway_sysctls",
        "gateway_workspace",
    ]
    assert resources["gateway_listeners.public"] == {
        "address": "0.0.0.0",
        "port": 443,
        "tls": {
            "certificate": "vault://kv/tls/gateway#certificate",
            "private_key": "vault://kv/tls/gateway#private_key",
            "min_version": "1.3",
            "client_ca": "vault://kv/tls/gateway#client_ca",
        },
        "http3": True,
    }
    assert resources["gateway_models.text-embedding-3-small"] == {
        "targets": [{"provider": "openai", "model": "text-embedding-3-small", "weight": 1}],
        "fallbacks": [],
        "timeouts": {"first_byte": "120s", "idle": "300s"},
    }
    assert resources["gateway_models.gpt-5"]["limits"] == {
        "requests_per_minute": 3000,
        "tokens_per_minute": 2000000,
        "tokens_per_day": 900000000,
        "concurrent_requests": 100,
    }
    assert resources["gateway_endpoints.files"] == {"provider": "openai"}
    assert resources["gateway_consumers.batch"]["endpoints"] == ["files", "batches"]
    assert resources["gateway_consumers.batch"]["limits"] == {}
    assert resources["gateway_consumers.search-team"]["limits"] == {
        "requests_per_minute": 600,
        "tokens_per_minute": 200000,
        "tokens_per_day": 3000000,
        "models": {"gpt-5": {"requests_per_minute": 60, "tokens_per_minute": 50000, "tokens_per_day": 900000}},
    }
    assert resources["gateway_models.gpt-5"]["fallbacks"] == [{"provider": "vllm", "model": "qwen3-32b"}]
    assert resources["gateway_providers.openai"] == {
        "type": "openai",
        "base_url": ["https://api.openai.com/v1"],
        "api_key": "vault://kv/providers/openai#api_key?version=3",
        "headers": {"openai-organization": "org-1", "openai-project": "100% of it"},
        "tls": {
            "ca": "vault://kv/providers/openai#ca",
            "certificate": "vault://kv/providers/openai#certificate",
            "private_key": "vault://kv/providers/openai#private_key",
            "server_name": "openai.example",
        },
        "region": "us-east-1",
        "trust_zone": "contracted",
        "protected": True,
    }
    assert resources["gateway_size"] == {"name": "custom", "concurrency": 4, "memory_max": "2G", "cpu_quota": "400%"}
    assert resources["gateway_limits_scope"] == {"scope": "host"}
    assert resources["gateway_max_request_size"] == {"size": "16M"}
    assert resources["gateway_metrics"] == {"address": "2001:db8::9", "port": 9903}
    assert resources["gateway_drain"] == {"health_wait": "30s", "timeout": "900s"}
    assert resources["gateway_otlp"] == {
        "endpoint": "https://collector.example.com:4318",
        "headers": {"authorization": "vault://kv/otlp#token", "x-scope-orgid": "env://TENANT"},
        "ca": "/etc/ssl/collector.pem",
        "service_name": "gateway-eu",
        "traces": {"sampling": "10%", "propagate_to": ["vllm"]},
        "logs": True,
    }
    assert resources["gateway_prompt_log"] == {
        "consumers": ["*"],
        "until": "2026-12-31T00:00Z",
        "retention": "3d",
        "max_size": "128K",
    }
    assert resources["gateway_nftables"] == {
        "metrics_from": ["10.0.5.7", "2001:db8::/32"],
        "others": "drop",
        "ports": [22],
    }
    assert resources["gateway_sysctls"] == {"net.core.somaxconn": "8192"}
    assert json.loads(json.dumps(resources)) == resources


def test_literals_are_not_shown() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n"
    spec = parse_spec(
        changed(
            (("gateway_providers", "openai", "api_key"), "sk-canary"),
            (("gateway_consumers", "batch", "api_keys", 0), "gw-canary"),
            (("gateway_listeners", "public", "tls", "private_key"), pem),
        )
    )
    resources = spec_resources(spec)
    assert "canary" not in json.dumps(resources)
    assert "canary" not in repr(spec)
    assert resources["gateway_consumers.batch"]["api_keys"] == ["(literal)"]
