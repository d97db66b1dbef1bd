"""Which models with fallbacks are asked in one hop, and which need the egress listener."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.compile import compile_resources
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.one_hop import first_in_one_hop
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

HOST = host_from_options({"envoy": "/opt/envoy"})
ANY = {"provider": "other", "model": "m"}
EQUAL = {"provider": "other", "model": "equal"}


def spec(provider: dict[str, Any] | None = None, other: dict[str, Any] | None = None, **model: Any) -> dict[str, Any]:
    plain = {"type": "openai_compatible", "base_url": "http://10.0.0.5:8000/v1"}
    return {
        "gateway_listeners": {"local": {"address": "127.0.0.1", "port": 8080}},
        "gateway_providers": {
            "first": {"type": "openai", "base_url": "https://api.openai.com/v1", **(provider or {})},
            "other": {**plain, **(other or {})},
        },
        "gateway_models": {"m": {"targets": [{"provider": "first", "model": "m"}], "fallbacks": [ANY], **model}},
    }


def first(raw: dict[str, Any]) -> str | None:
    parsed = parse_spec(raw)
    (model,) = parsed.models
    found = first_in_one_hop(parsed, model)
    return None if found is None else found.name


def test_who_is() -> None:
    assert first(spec()) == "first"
    assert first(spec({"base_url": "http://10.0.0.6/v1"})) == "first"
    assert first(spec({"headers": {"x-team": "a"}, "api_key": "env://FIRST"})) == "first"
    # Who has a share of 0 gets nothing.
    targets = [{"provider": "first", "model": "m"}, {**EQUAL, "weight": 0}]
    assert first(spec(targets=targets)) == "first"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(spec(fallbacks=[]), id="no-fallback"),
        pytest.param(spec(targets=[{"provider": "first", "model": "m"}, EQUAL]), id="shares"),
        pytest.param(spec({"base_url": ["http://10.0.0.6/v1", "http://10.0.0.7/v1"]}), id="several-addresses"),
        pytest.param(spec({"base_url": "http://vllm.internal/v1"}), id="a-name-of-several-machines"),
        pytest.param(spec({"health_check": {"path": "/health"}}), id="checked"),
        pytest.param(spec({"proxy": "http://proxy.example:3128"}), id="proxy"),
        pytest.param(spec({"base_url": "https://openrouter.ai/api/v1"}), id="another-path"),
        pytest.param(spec({"type": "azure_openai", "api_version": "2024-10-21"}), id="azure"),
        pytest.param(spec({"type": "anthropic"}), id="translated"),
        pytest.param(spec(other={"type": "anthropic"}), id="translated-later"),
        pytest.param(spec({"concurrent_requests": 5}), id="counted"),
        pytest.param(spec(timeouts={"first_byte": "60s", "idle": "120s"}), id="short-silences"),
        pytest.param(spec(fallbacks=[ANY, {"provider": "other", "model": "n"}]), id="many-waits"),
    ],
)
def test_who_is_not(raw: dict[str, Any]) -> None:
    assert first(raw) is None


@pytest.mark.parametrize(
    ("propagate_to", "found"), [(["first", "other"], "first"), ([], "first"), (["first"], "first"), (["other"], None)]
)
def test_a_trace_reaches_whom_it_shall(propagate_to: list[str], found: str | None) -> None:
    """What the first must not get would be gone for those after it."""
    traces = {"sampling": "10%", "propagate_to": propagate_to}
    otlp = {"endpoint": "http://10.0.0.9:4318", "traces": traces}
    assert first({**spec(), "gateway_otlp": otlp}) == found


@pytest.mark.parametrize(("url", "tunnels"), [("https://api.openai.com/v1", 1), ("http://10.0.0.6/v1", 0)])
def test_a_tunnel_where_there_is_tls(url: str, tunnels: int) -> None:
    raw = spec({"base_url": url})
    raw["gateway_models"]["n"] = raw["gateway_models"]["m"]
    listeners = compile_resources(parse_spec(raw), HOST)["lds.json"]
    assert len([each for each in listeners if each["name"].startswith("tunnel:first@")]) == tunnels


def test_the_egress_listener_knows_others_only() -> None:
    (configuration,) = compile_resources(parse_spec(spec()), HOST)["rds-egress.json"]
    names = configuration["virtual_hosts"][0]["matcher"]["matcher_tree"]["exact_match_map"]["map"]
    assert [name.partition("@")[0] for name in names] == ["deployment:other/m", "none"]
