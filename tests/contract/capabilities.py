"""A gateway with a provider of each type, each serving a model of its name: for tests of what passes with which."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from contract.gateway_process import MESSAGES, UPSTREAM, Provider, free_port

#: The providers and models, by what the documentation calls them.
PROVIDERS = ("openai", "azure_openai-v1", "azure_openai-dated", "openai_compatible", "anthropic")
#: A model that the key `sk-one` may not use.
EMBEDDINGS = "other"
KEY, ONE = "sk-all", "sk-one"


def start_providers(stack: ExitStack) -> dict[str, Provider]:
    """One server for each, stopped by the stack."""
    up = {}
    for name in PROVIDERS:
        program = MESSAGES if name == "anthropic" else UPSTREAM
        up[name] = Provider(name, "--api-key", f"sk-{name.replace('_', '-')}", program=program)
        stack.callback(up[name].stop)
    return up


def spec_of(port: int, up: dict[str, Provider], *, files: str = "openai") -> dict[str, Any]:
    """The spec of a gateway in front of these providers; `files` is the one that keeps files."""
    providers = {
        name: {
            "type": name.partition("-")[0],
            "base_url": up[name].url + ("" if name.startswith("azure") else "/v1"),
            "api_key": f"env://{name.upper().replace('-', '_')}",
        }
        for name in PROVIDERS
    }
    providers["azure_openai-dated"]["api_version"] = "2024-10-21"
    providers["azure_openai-v1"]["api_version"] = "v1"
    models = {name: {"targets": [{"provider": name, "model": name}]} for name in PROVIDERS}
    return {
        "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
        "gateway_metrics": {"port": free_port()},
        "gateway_max_request_size": "1M",
        "gateway_providers": providers,
        "gateway_models": {**models, EMBEDDINGS: models["openai"]},
        "gateway_endpoints": {"files": {"provider": files}},
        "gateway_consumers": {
            "all": {"api_keys": ["env://ALL"], "models": ["*"], "endpoints": ["files"]},
            "one": {
                "api_keys": ["env://ONE"],
                "models": list(PROVIDERS),
                "limits": {"requests_per_minute": 1000, "tokens_per_minute": 1000000},
            },
        },
    }
