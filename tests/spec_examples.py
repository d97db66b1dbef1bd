"""A spec that uses every key, as a starting point that tests change in one place."""

from __future__ import annotations

import copy
from typing import Any


class _Removed:
    """Shown the same by every process, since tests that are spread over several go by the names of their cases."""

    def __repr__(self) -> str:
        return "REMOVED"


REMOVED: Any = _Removed()

_EVERY_KEY: dict[str, Any] = {
    "gateway_listeners": {
        "public": {
            "address": "0.0.0.0",
            "port": 443,
            "tls": {
                "certificate": "vault://kv/tls/gateway#certificate",
                "private_key": "vault://kv/tls/gateway#private_key",
                "min_version": "1.3",
                "client_ca": "vault://kv/tls/gateway#client_ca",
            },
            "http3": True,
        },
        "local": {
            "address": "127.0.0.1",
            "port": 8080,
            "cors": {"allow_origins": ["https://app.example.com", "https://*.example.org"], "max_age": "5m"},
        },
    },
    "gateway_providers": {
        "openai": {
            "type": "openai",
            "base_url": "https://api.openai.com/v1",
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
        },
        "azure_eu": {
            "type": "azure_openai",
            "base_url": "https://eu.openai.azure.com",
            "api_version": "2024-10-21",
            "api_key": "env://AZURE_KEY",
            "region": "eu-west-1",
            "trust_zone": "contracted",
        },
        "vllm": {
            "type": "openai_compatible",
            "base_url": ["http://10.20.0.5:8000/v1", "http://10.20.0.6:8000/v1"],
            "stream_usage": "as_is",
            "region": "eu-west-1",
            "trust_zone": "internal",
            "proxy": "http://proxy.example:3128",
            "health_check": {
                "path": "/health",
                "interval": "5s",
                "timeout": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
            },
        },
        "claude": {
            "type": "anthropic",
            "base_url": "https://api.anthropic.com/v1",
            "max_tokens": 8192,
            "concurrent_requests": 50,
            "region": "us-east-1",
        },
    },
    "gateway_models": {
        "gpt-5": {
            "targets": [
                {"provider": "openai", "model": "gpt-5", "weight": 80},
                {"provider": "azure_eu", "model": "gpt5-eu", "weight": 20},
            ],
            "fallbacks": [{"provider": "vllm", "model": "qwen3-32b"}],
            "timeouts": {"first_byte": "90s", "idle": "5m"},
            "retries": {"attempts": 2, "max_wait": "20s"},
            "price": {"input": 1.25, "output": 10},
            "limits": {
                "requests_per_minute": 3000,
                "tokens_per_minute": 2000000,
                "tokens_per_day": 900000000,
                "concurrent_requests": 100,
            },
            "protected": True,
        },
        "text-embedding-3-small": {"targets": [{"provider": "openai", "model": "text-embedding-3-small"}]},
    },
    "gateway_consumers": {
        "search-team": {
            "api_keys": ["vault://kv/consumers/search#current", "vault://kv/consumers/search#previous"],
            "jwt": {"issuer": "keycloak", "value": "search-service"},
            "models": ["gpt-5", "text-embedding-*"],
            "limits": {
                "requests_per_minute": 600,
                "tokens_per_minute": 200000,
                "tokens_per_day": 3000000,
                "models": {"gpt-5": {"requests_per_minute": 60, "tokens_per_minute": 50000, "tokens_per_day": 900000}},
            },
        },
        "batch": {
            "api_keys": ["file:///run/keys/batch.json#key"],
            "models": ["*"],
            "endpoints": ["files", "batches"],
            "protected": False,
        },
    },
    "gateway_endpoints": {"files": {"provider": "openai"}, "batches": {"provider": "openai"}},
    "gateway_jwt_issuers": {
        "keycloak": {
            "issuer": "https://sso.example.com/realms/ai",
            "audiences": ["gateway"],
            "jwks": "https://sso.example.com/realms/ai/protocol/openid-connect/certs",
            "claim": "client_id",
        },
    },
    "gateway_size": {"concurrency": 4, "memory_max": "2G", "cpu_quota": "400%"},
    "gateway_limits_scope": "host",
    "gateway_rate_limit_service": {
        "address": "limits.example.com",
        "port": 8443,
        "domain": "llm",
        "timeout": "50ms",
        "on_failure": "deny",
        "tls": {"ca": "/etc/ssl/limits.pem"},
    },
    "gateway_max_request_size": "16M",
    "gateway_release_keep": 7,
    "gateway_metrics": {"address": "2001:db8::9", "port": 9903},
    "gateway_drain": {"health_wait": "30s", "timeout": "15m"},
    "gateway_otlp": {
        "endpoint": "https://collector.example.com:4318",
        "headers": {"authorization": "vault://kv/otlp#token", "x-scope-orgid": "env://TENANT"},
        "ca": "/etc/ssl/collector.pem",
        "service_name": "gateway-eu",
        "traces": {"sampling": "10%", "propagate_to": ["vllm"]},
        "logs": True,
    },
    "gateway_prompt_log": {
        "consumers": ["*"],
        "until": "2026-12-31T00:00Z",
        "retention": "3d",
        "max_size": "128K",
    },
    "gateway_nftables": {"metrics_from": ["10.0.5.7", "2001:db8::/32"], "others": "drop", "ports": [22]},
    "gateway_sysctls": {"net.core.somaxconn": "8192"},
    "gateway_policies": {"consumer_without_limit": "off", "prompt_logging": "off", "tls_version": "warn"},
    "gateway_policy_exceptions": [
        {
            "policy": "fallback_across_trust_zones",
            "path": "gateway_models.gpt-*",
            "owner": "data-protection@example.com",
            "reason": "The contract is signed next month",
            "expires": "2199-01-01T00:00Z",
        }
    ],
    "gateway_policy_rules": {
        "models_have_fallbacks": {
            "for": "models",
            "when": "name is match('gpt-')",
            "that": ["model.fallbacks | length > 0"],
            "message": "has nobody to fall back to",
            "fix": "name a fallback",
            "severity": "warn",
        }
    },
    "gateway_provider_regions": ["us-east-1", "eu-west-1"],
    "gateway_workspace": "production",
}


def every_key() -> dict[str, Any]:
    """Return a spec of its own that is valid, breaks no policy and has every key that there is."""
    return copy.deepcopy(_EVERY_KEY)


def changed(*changes: tuple[tuple[Any, ...], Any]) -> dict[str, Any]:
    """Return ``every_key()`` with the value at each path of keys and indexes replaced, or taken out by REMOVED."""
    spec = every_key()
    for path, value in changes:
        place: Any = spec
        for key in path[:-1]:
            place = place[key]
        if value is REMOVED:
            del place[path[-1]]
        else:
            place[path[-1]] = value
    return spec
