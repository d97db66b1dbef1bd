from __future__ import annotations

import time
from typing import Any

import pytest
from spec_examples import REMOVED, changed, every_key
from unit.module_utils._policy.test_certificates import in_days

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import Finding, PolicyError
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.check import check_policies
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.rules import RULES
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import SEVERITIES
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.moments import Moment
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

NO_POLICIES = (("gateway_policies",), REMOVED)
NO_PROMPTS = (("gateway_prompt_log",), REMOVED)
LIMITED = (("gateway_consumers", "batch", "limits"), {"requests_per_minute": 60})
SOME = (("gateway_consumers", "search-team", "models"), ["gpt-5"])


def findings(*changes: tuple[tuple[Any, ...], Any]) -> list[Finding]:
    return list(check_policies(parse_spec(changed(NO_POLICIES, NO_PROMPTS, LIMITED, *changes))))


def test_a_spec_that_breaks_nothing() -> None:
    assert findings() == []


@pytest.mark.parametrize("address", ["0.0.0.0", "10.0.0.1", "::", "fd00::1"])
def test_plain_http_outside_loopback(address: str) -> None:
    assert findings((("gateway_listeners", "local", "address"), address)) == [
        Finding(
            "plain_http_outside_loopback",
            "deny",
            "gateway_listeners.local",
            f"serves plain HTTP on {address}, where keys and prompts can be read by others",
            "give it tls, or a loopback address such as 127.0.0.1",
        )
    ]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_plain_http_on_loopback(address: str) -> None:
    assert findings((("gateway_listeners", "local", "address"), address)) == []


@pytest.mark.parametrize(("version", "denied"), [("1.0", True), ("1.1", True), ("1.2", False), ("1.3", False)])
def test_tls_version(version: str, denied: bool) -> None:
    found = findings((("gateway_listeners", "public", "tls", "min_version"), version))
    expected = [
        Finding(
            "tls_version",
            "deny",
            "gateway_listeners.public.tls.min_version",
            f"accepts TLS {version}, which RFC 8996 forbids",
            'set min_version to "1.2" or "1.3"',
        )
    ]
    assert found == (expected if denied else [])


@pytest.mark.parametrize(
    ("place", "value", "path"),
    [
        (("gateway_providers", "vllm", "api_key"), "sk-canary", "gateway_providers.vllm.api_key"),
        (
            ("gateway_providers", "openai", "tls", "private_key"),
            "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n",
            "gateway_providers.openai.tls.private_key",
        ),
        (("gateway_consumers", "search-team", "api_keys", 1), "gw-canary", "gateway_consumers.search-team.api_keys[1]"),
        (
            ("gateway_listeners", "public", "tls", "private_key"),
            "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n",
            "gateway_listeners.public.tls.private_key",
        ),
    ],
)
def test_plain_secret(place: tuple[Any, ...], value: str, path: str) -> None:
    found = findings((place, value))
    assert [(finding.rule, finding.severity, finding.path, finding.message) for finding in found] == [
        ("plain_secret", "deny", path, "holds a secret itself instead of a reference to it")
    ]
    assert "canary" not in str(PolicyError(found)) + repr(found)


@pytest.mark.parametrize(
    ("endpoint", "warned"),
    [
        ("http://collector:4318", True),
        ("http://10.0.0.1:4318", True),
        ("http://127.0.0.1:4318", False),
        ("http://[::1]:4318", False),
        ("http://localhost:4318", False),
        ("https://collector:4318", False),
    ],
)
def test_otlp_without_tls(endpoint: str, warned: bool) -> None:
    found = findings((("gateway_otlp", "endpoint"), endpoint))
    assert [(each.rule, each.severity, each.path) for each in found] == (
        [("otlp_without_tls", "warn", "gateway_otlp.endpoint")] if warned else []
    )


@pytest.mark.parametrize(("address", "warned"), [("limits", True), ("10.0.0.1", True), ("127.0.0.1", False)])
def test_a_rate_limit_service_without_tls(address: str, warned: bool) -> None:
    found = findings((("gateway_rate_limit_service",), {"address": address}))
    assert [(each.rule, each.severity, each.path) for each in found] == (
        [("rate_limit_service_without_tls", "warn", "gateway_rate_limit_service")] if warned else []
    )


def test_a_limit_for_a_day_is_a_limit() -> None:
    assert findings((("gateway_consumers", "search-team", "limits"), {"tokens_per_day": 10})) == []


@pytest.mark.parametrize(("name", "denied"), [("X-API-Key", True), ("Authorization", True), ("X-Tenant", False)])
def test_a_secret_in_a_header(name: str, denied: bool) -> None:
    found = findings((("gateway_otlp", "headers"), {name: "canary"}))
    assert [(each.rule, each.path) for each in found] == (
        [("plain_secret", f"gateway_otlp.headers.{name.lower()}")] if denied else []
    )
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (-1, [("prompt_logging", "warn", "has ended at")]),
        (1, [("prompt_logging", "warn", "has prompts and answers of batch, search-* written to a file until 20")]),
        (
            91,
            [
                ("prompt_logging", "warn", "has prompts and answers of"),
                ("prompt_logging_period", "deny", "is more than 90 days ahead"),
            ],
        ),
    ],
)
def test_prompt_logging(days: int, expected: list[tuple[str, str, str]]) -> None:
    until = Moment().render(int(time.time()) + days * 86400)
    found = findings((("gateway_prompt_log",), {"consumers": ["batch", "search-*"], "until": until}))
    assert [(each.rule, each.severity) for each in found] == [(rule, severity) for rule, severity, _text in expected]
    assert all(each.message.startswith(text) for each, (_rule, _severity, text) in zip(found, expected))


def test_a_certificate_is_no_secret() -> None:
    certificate = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
    tls = {"certificate": certificate, "private_key": "/etc/ssl/private/gateway.key"}
    assert findings((("gateway_listeners", "public", "tls"), tls)) == []


def test_consumer_without_limit() -> None:
    assert findings((("gateway_consumers", "search-team", "limits"), REMOVED)) == [
        Finding(
            "consumer_without_limit",
            "warn",
            "gateway_consumers.search-team",
            "may send any number of requests",
            "set limits.requests_per_minute or limits.tokens_per_minute",
        )
    ]


def test_a_limit_for_every_model_is_a_limit() -> None:
    place = ("gateway_consumers", "search-team", "limits")
    assert not findings((place, {"models": {"*": {"requests_per_minute": 1}}}))
    assert len(findings((place, {"models": {"gpt-*": {"requests_per_minute": 1}}}))) == 1


def test_limits_of_models_do_not_limit_endpoints() -> None:
    limits = {"models": {"*": {"requests_per_minute": 1}}}
    assert len(findings((("gateway_consumers", "batch", "limits"), limits))) == 1


@pytest.mark.parametrize(("endpoints", "unseen"), [(["files", "batches"], "batches"), (["files"], "")])
def test_models_that_are_not_seen(endpoints: list[str], unseen: str) -> None:
    found = findings((("gateway_consumers", "search-team", "endpoints"), endpoints), SOME)
    path, message = "gateway_consumers.search-team.endpoints", "where any model of the provider can be named"
    assert [(finding.rule, finding.severity, finding.path) for finding in found] == (
        [("unseen_models", "warn", path)] if unseen else []
    )
    assert all(f"may use {unseen}, {message}" in finding.message for finding in found)
    assert not findings((("gateway_consumers", "search-team", "endpoints"), endpoints))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_takes_every_severity(rule: Any, severity: str) -> None:
    raw = changed(
        (("gateway_listeners", "local", "address"), "10.0.0.1"),
        (("gateway_listeners", "public", "tls", "min_version"), "1.1"),
        (("gateway_providers", "vllm", "api_key"), "sk-canary"),
        (("gateway_consumers", "batch", "models"), ["gpt-*"]),
        (("gateway_jwt_issuers", "keycloak", "jwks"), "http://sso.example.com/keys"),
        (("gateway_otlp", "endpoint"), "http://10.0.0.1:4318"),
        (("gateway_rate_limit_service", "tls"), REMOVED),
        (("gateway_prompt_log", "until"), "2199-01-01T00:00Z"),
        (("gateway_consumers", "search-team", "models"), ["gpt-5", "text-embedding-3-small"]),
        (("gateway_release_keep",), 2),
        (("gateway_provider_regions",), ["us-east-1"]),
        (("gateway_providers", "azure_eu", "region"), "us-east-1"),
        (("gateway_listeners", "public", "tls", "certificate"), in_days(-1)),
        (("gateway_otlp", "ca"), in_days(1)),
        (("gateway_policy_exceptions",), []),
        (("gateway_policies",), {rule.name: severity}),
    )
    found = [finding for finding in check_policies(parse_spec(raw)) if finding.rule == rule.name]
    assert [finding.severity for finding in found] == ([] if severity == "off" else [severity])
    # The place, why, and how to mend it; a sentence continues what stands before it.
    for finding in found:
        assert finding.path.startswith("gateway_")
        assert finding.message
        assert finding.remedy
        assert finding.remedy[0].islower()


@pytest.mark.parametrize(
    ("url", "found"),
    [("http://10.0.0.5:8000/v1", True), ("http://127.0.0.1:8000/v1", False), ("https://10.0.0.5/v1", False)],
)
def test_a_provider_without_tls(url: str, found: bool) -> None:
    on = (("gateway_policies",), {"provider_without_tls": "warn", "prompt_logging": "off"})
    raw = changed(LIMITED, on, (("gateway_providers", "vllm", "base_url"), [url]))
    paths = [each.path for each in check_policies(parse_spec(raw)) if each.rule == "provider_without_tls"]
    assert paths == (["gateway_providers.vllm.base_url"] if found else [])


def test_the_error_says_all_of_each_finding() -> None:
    found = findings((("gateway_listeners", "public", "tls", "min_version"), "1.0"))
    assert str(PolicyError(found)) == (
        "gateway_listeners.public.tls.min_version: accepts TLS 1.0, which RFC 8996 forbids; "
        'set min_version to "1.2" or "1.3" (policy tls_version)'
    )


def test_the_example_breaks_nothing_that_it_does_not_switch_off() -> None:
    assert check_policies(parse_spec(every_key())) == ()


def excepted(now: str, **more: Any) -> list[Finding]:
    """What is found at a time in a spec that accepts TLS 1.0, with an exception until the end of the year."""
    exception = {
        "policy": "tls_version",
        "path": "gateway_listeners.public",
        "owner": "anna",
        "reason": "An old client",
        "expires": "2026-12-31T00:00Z",
        **more,
    }
    changes = (
        (("gateway_listeners", "public", "tls", "min_version"), "1.0"),
        (("gateway_policy_exceptions",), [exception]),
    )
    spec = parse_spec(changed(NO_POLICIES, NO_PROMPTS, LIMITED, *changes))
    found = check_policies(spec, Moment().convert(now))
    return [finding for finding in found if finding.rule != "fallback_across_trust_zones"]


@pytest.mark.parametrize(
    "path",
    [
        "gateway_listeners.public",
        "gateway_listeners.public.tls.min_version",
        "gateway_listeners.pub*",
        "gateway_listeners.*.tls",
    ],
)
def test_a_place_that_is_excepted(path: str) -> None:
    assert excepted("2026-12-30T23:59Z", path=path) == []


def test_an_exception_that_is_over_is_said() -> None:
    (found,) = excepted("2026-12-31T00:00Z")
    assert found.severity == "deny"
    assert found.message == "accepts TLS 1.0, which RFC 8996 forbids; the exception of anna ended on 2026-12-31"


@pytest.mark.parametrize(
    "more",
    [{"path": "gateway_listeners.publi"}, {"path": "gateway_listeners.local"}, {"policy": "plain_secret"}],
    ids=["part of a name", "another", "another policy"],
)
def test_an_exception_of_something_else_is_none(more: dict[str, Any]) -> None:
    found = excepted("2026-01-01T00:00Z", **more)
    assert [(finding.rule, finding.severity, finding.path) for finding in found] == [
        ("tls_version", "deny", "gateway_listeners.public.tls.min_version"),
        (more.get("policy", "tls_version"), "warn", "gateway_policy_exceptions[0]"),
    ]


def test_an_exception_is_not_that_of_a_longer_name_with_a_dot() -> None:
    model = {"targets": [{"provider": "openai", "model": "x"}], "fallbacks": [{"provider": "vllm", "model": "x"}]}
    exception = {
        "policy": "fallback_across_trust_zones",
        "path": "gateway_models.gpt-6",
        "owner": "anna",
        "reason": "soon",
        "expires": "2199-12-31T00:00Z",
    }
    changes = (
        (("gateway_providers", "openai", "trust_zone"), "contracted"),
        (("gateway_providers", "vllm", "trust_zone"), "internal"),
        *((("gateway_models", name), model) for name in ("gpt-6", "gpt-6.1")),
        (("gateway_policy_exceptions",), [exception]),
    )
    paths = {each.path for each in check_policies(parse_spec(changed(*changes)))}
    assert "gateway_models.gpt-6.1" in paths
    assert not {"gateway_models.gpt-6", "gateway_policy_exceptions[0]"} & paths


def test_regions() -> None:
    found = findings(
        (("gateway_provider_regions",), ["eu-west-1"]), (("gateway_providers", "claude", "region"), REMOVED)
    )
    assert [(finding.path, finding.message) for finding in found if finding.rule == "provider_region"] == [
        ("gateway_providers.claude", "says no region"),
        ("gateway_providers.openai", "is in us-east-1"),
    ]


def test_trust_zones() -> None:
    found = findings((("gateway_policy_exceptions",), []))
    assert [(finding.path, finding.message) for finding in found] == [
        ("gateway_models.gpt-5", "is served in several trust zones: contracted, internal")
    ]
