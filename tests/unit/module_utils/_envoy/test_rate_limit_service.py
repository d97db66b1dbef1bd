from __future__ import annotations

from typing import Any

from spec_examples import REMOVED, changed

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.rate_limit_service import (
    compile_service_filters,
    rate_limit_config,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.tokens import compile_tokens
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

HOST = host_from_options({"envoy": "/envoy"})


def limit(unit: str, number: int) -> dict[str, Any]:
    return {"key": "tokens_per", "value": unit, "rate_limit": {"unit": unit, "requests_per_unit": number}}


def test_the_configuration_has_every_limit_on_tokens_and_no_other() -> None:
    limits = {"models": {"*": {"tokens_per_minute": 5}, "gpt-5": {"tokens_per_minute": 9}}}
    spec = parse_spec(changed((("gateway_consumers", "batch", "limits"), limits)))
    assert spec.rate_limit_service
    config = rate_limit_config(spec, spec.rate_limit_service)
    assert config["domain"] == "llm"
    found = {(each["key"], each["value"]): each["descriptors"] for each in config["descriptors"]}
    assert found == {
        ("consumer", "batch"): [
            {"key": "model", "value": "gpt-5", "descriptors": [limit("minute", 9)]},
            {"key": "model", "value": "text-embedding-3-small", "descriptors": [limit("minute", 5)]},
        ],
        ("consumer", "search-team"): [
            limit("minute", 200000),
            limit("day", 3000000),
            {"key": "model", "value": "gpt-5", "descriptors": [limit("minute", 50000), limit("day", 900000)]},
        ],
        ("model", "gpt-5"): [limit("minute", 2000000), limit("day", 900000000)],
    }


def test_without_limits_on_tokens_nothing_is_asked() -> None:
    raw = changed(
        (("gateway_models", "gpt-5", "limits"), REMOVED), (("gateway_consumers", "search-team", "limits"), {})
    )
    spec = parse_spec(raw)
    assert spec.rate_limit_service
    assert compile_service_filters(spec, spec.rate_limit_service, HOST) == []
    assert "default_filter_chain" not in compile_tokens(spec, HOST)["typed_config"]
    assert rate_limit_config(spec, spec.rate_limit_service)["descriptors"] == []


def test_only_limits_of_used_kinds_have_a_filter() -> None:
    raw = changed(
        (("gateway_models", "gpt-5", "limits"), REMOVED),
        (("gateway_consumers", "search-team", "limits"), {"tokens_per_day": 7}),
    )
    filters = compile_tokens(parse_spec(raw), HOST)["typed_config"]["default_filter_chain"]["filters"]
    assert [each["name"] for each in filters] == ["token_cost", "consumer_tokens_per_day"]
