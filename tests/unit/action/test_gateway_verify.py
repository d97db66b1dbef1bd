from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.action import gateway_verify
from ansible_collections.gatewayops.openai.plugins.action.gateway_verify import ActionModule
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.client import Endpoint
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.model import Check, Expectation

from .conftest import Host, Run, failed


class Asked:
    """Stands in for the checks."""

    def __init__(self, *checks: Check) -> None:
        self.checks = checks

    def __call__(self, endpoint: Endpoint, key: str, expected: Expectation, profile: str) -> tuple[Check, ...]:
        self.endpoint, self.key, self.expected, self.profile = endpoint, key, expected, profile
        return self.checks


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    stand_in = Asked(Check("healthy", ok=True, skipped=False, seconds=0.1, reason=""))
    monkeypatch.setattr(gateway_verify, "run_checks", stand_in)
    return stand_in


@pytest.fixture
def tls(spec: dict[str, Any]) -> dict[str, Any]:
    spec["gateway_listeners"] = {
        "public": {"address": "0.0.0.0", "port": 443, "tls": {"certificate": "/etc/a.pem", "private_key": "/etc/a.key"}}
    }
    return spec


def test_a_client_is_told_what_the_spec_says(run: Run, spec: dict[str, Any], asked: Asked) -> None:
    result = run(ActionModule, variables=spec, transport="local")
    assert result == {
        "changed": False,
        "url": "http://127.0.0.1:8080",
        "checks": [{"name": "healthy", "ok": True, "skipped": False, "seconds": 0.1, "reason": "", "paid": False}],
    }
    assert asked.endpoint == Endpoint("http://127.0.0.1:8080", address="127.0.0.1")
    assert asked.key == "sk-consumer-canary"
    assert asked.expected == Expectation(
        models=("gpt-5", "text-embedding-3-small"),
        chat_model="gpt-5",
        embedding_model="text-embedding-3-small",
        forbidden_model=None,
        responses_model="gpt-5",
        max_request_size=10 * 1024**2,
    )
    assert asked.profile == "smoke"


def test_a_consumer_by_name_with_what_it_may_not_use(run: Run, spec: dict[str, Any], asked: Asked) -> None:
    spec["gateway_consumers"]["batch"] = {"api_keys": ["env://PROVIDER_KEY"], "models": ["text-*"]}
    spec["gateway_verify_consumer"] = "batch"
    run(ActionModule, variables=spec, transport="local")
    assert asked.key == "sk-provider-canary"
    assert asked.expected == Expectation(
        models=("text-embedding-3-small",),
        chat_model=None,
        embedding_model="text-embedding-3-small",
        forbidden_model="gpt-5",
        max_request_size=10 * 1024**2,
    )


def test_the_consumer_that_leaves_out_the_least_is_asked_as(run: Run, spec: dict[str, Any], asked: Asked) -> None:
    spec["gateway_models"]["gpt-5-mini"] = spec["gateway_models"]["gpt-5"]
    keys = ["env://PROVIDER_KEY"]
    spec["gateway_consumers"]["zz"] = {"api_keys": keys, "models": ["gpt-5", "text-*"]}
    run(ActionModule, variables=spec, transport="local")
    assert asked.key == "sk-provider-canary"
    assert (asked.expected.asked, asked.expected.forbidden_model) == (3, "gpt-5-mini")


def test_a_key_that_has_ended_is_not_asked_with(run: Run, spec: dict[str, Any], asked: Asked, tmp_path: Path) -> None:
    keys = {"current": "", "previous": "sk-old", "previous_expires_at": "2999-01-01T00:00:00Z"}
    file = tmp_path / "keys.json"
    sources = [f"file://{file}#current", f"file://{file}#previous"]
    spec["gateway_consumers"]["aa"] = {"api_keys": sources, "models": ["*"]}

    file.write_text(json.dumps(keys))
    run(ActionModule, variables=spec, transport="local")
    assert asked.key == "sk-old"

    file.write_text(json.dumps({**keys, "previous": ""}))
    run(ActionModule, variables=spec, transport="local")
    assert asked.key == "sk-consumer-canary", "another consumer with the same models"

    spec["gateway_verify_consumer"] = "aa"
    assert failed(run, ActionModule, variables=spec, transport="local") == (
        "gateway_consumers: there is no key to ask with: those of aa have ended, or they have none"
    )


def test_responses_are_asked_of_providers_that_have_them(run: Run, spec: dict[str, Any], asked: Asked) -> None:
    """Also with a fallback; a model that is named for chat is taken if it can be."""
    (provider,) = spec["gateway_providers"].values()
    dated = {**provider, "type": "azure_openai", "base_url": "https://eu.example", "api_version": "2024-10-21"}
    spec["gateway_providers"]["dated"] = dated
    spec["gateway_providers"]["undated"] = {**dated, "api_version": "v1"}
    spec["gateway_models"] = {
        "a": {"targets": [{"provider": "undated", "model": "a"}], "fallbacks": [{"provider": "dated", "model": "a"}]},
        "b": {"targets": [{"provider": "undated", "model": "b"}]},
        "c": {"targets": [{"provider": "undated", "model": "c"}]},
    }
    for given, wanted in (
        ({}, "b"),
        ({"chat_model": "c"}, "c"),
        ({"chat_model": "a"}, "b"),
        ({"responses_model": "a"}, "a"),
    ):
        run(ActionModule, variables=spec, arguments={**given, "profile": "contract"}, transport="local")
        assert (asked.expected.responses_model, asked.profile) == (wanted, "contract")


def test_models_can_be_named(run: Run, spec: dict[str, Any], asked: Asked) -> None:
    run(ActionModule, variables=spec, arguments={"chat_model": "a", "embedding_model": "b"}, transport="local")
    assert (asked.expected.chat_model, asked.expected.embedding_model) == ("a", "b")


def test_tls_is_asked_by_the_hosts_name_where_ansible_connects(run: Run, tls: dict[str, Any], asked: Asked) -> None:
    tls["ansible_host"] = "192.0.2.7"
    run(ActionModule, variables=tls)
    assert asked.endpoint.url == "https://gw1.example:443"
    assert asked.endpoint.address == "192.0.2.7"


def test_a_listener_for_the_host_itself_is_passed_over(run: Run, tls: dict[str, Any], asked: Asked) -> None:
    tls["gateway_listeners"]["local"] = {"address": "127.0.0.1", "port": 8080}
    run(ActionModule, variables=tls)
    assert asked.endpoint.url == "https://gw1.example:443"


def test_from_the_host_it_is_asked_on_loopback(run: Run, tls: dict[str, Any], asked: Asked) -> None:
    host = Host({"changed": False, "checks": []})
    run(ActionModule, variables=tls, arguments={"from": "host"}, host=host)
    ((module, arguments),) = host.calls
    assert module == "gateway_probe"
    assert arguments == {
        "url": "https://gw1.example:443",
        "address": "127.0.0.1",
        "ca_file": None,
        "validate_certs": True,
        "timeout": 60.0,
        "client_cert": None,
        "client_key": None,
        "key": "sk-consumer-canary",
        "models": ("gpt-5", "text-embedding-3-small"),
        "chat_model": "gpt-5",
        "embedding_model": "text-embedding-3-small",
        "forbidden_model": None,
        "responses_model": "gpt-5",
        "max_request_size": 10 * 1024**2,
        "profile": "smoke",
    }
    assert not hasattr(asked, "endpoint")


def test_a_url_is_taken_as_it_is(run: Run, tls: dict[str, Any], asked: Asked) -> None:
    tls["gateway_verify_url"] = "https://gateway.example"
    run(ActionModule, variables=tls, arguments={"validate_certs": "no", "timeout": "5", "ca_file": "/ca.pem"})
    assert asked.endpoint == Endpoint(
        "https://gateway.example", address=None, ca_file="/ca.pem", validate_certs=False, timeout=5.0
    )


def test_a_listener_that_asks_for_certificates(run: Run, tls: dict[str, Any], asked: Asked) -> None:
    (name,) = tls["gateway_listeners"]
    tls["gateway_listeners"][name]["tls"]["client_ca"] = "/etc/ssl/clients.pem"
    assert failed(run, ActionModule, variables=tls) == (
        f"gateway_listeners.{name} asks clients for a certificate, as the others do: "
        "set gateway_verify_client_cert, and gateway_verify_client_key where that is a file of its own"
    )
    run(ActionModule, variables={**tls, "gateway_verify_client_cert": "/c.pem", "gateway_verify_client_key": "/c.key"})
    assert (asked.endpoint.client_cert, asked.endpoint.client_key) == ("/c.pem", "/c.key")
    tls["gateway_listeners"]["z-open"] = {**tls["gateway_listeners"][name], "port": 8443}
    tls["gateway_listeners"]["z-open"]["tls"] = {
        key: value for key, value in tls["gateway_listeners"][name]["tls"].items() if key != "client_ca"
    }
    run(ActionModule, variables=tls)
    assert asked.endpoint.url == "https://gw1.example:8443"


def test_ipv6(run: Run, spec: dict[str, Any], asked: Asked) -> None:
    spec["gateway_listeners"]["local"]["address"] = "::1"
    run(ActionModule, variables=spec, transport="local")
    assert asked.endpoint.url == "http://[::1]:8080"


def test_a_failed_check_fails_the_task(run: Run, spec: dict[str, Any], asked: Asked) -> None:
    asked.checks = (Check("healthy", ok=False, skipped=False, seconds=0.1, reason="status 503, expected 200"),)
    result = run(ActionModule, variables=spec, transport="local")
    assert result["failed"]
    assert result["msg"] == "1 of 1 checks of http://127.0.0.1:8080 failed:\n  healthy: status 503, expected 200"


def test_what_cannot_be_asked(run: Run, spec: dict[str, Any], asked: Asked) -> None:
    assert re.search(
        "only the host itself reaches: set gateway_verify_from to host", failed(run, ActionModule, variables=spec)
    )
    assert re.search(
        r"no consumer 'nobody' \(there are: search\)",
        failed(run, ActionModule, variables=spec, arguments={"consumer": "nobody"}),
    )
    spec["gateway_consumers"] = {}
    assert re.search("gateway_consumers is empty", failed(run, ActionModule, variables=spec))


def test_a_wrong_name_is_not_nobody_to_ask(run: Run, spec: dict[str, Any]) -> None:
    """A rollout goes on without an answer where there is nobody to ask, and must not for a typo."""
    assert not run(ActionModule, variables=spec, arguments={"consumer": "nobody"}).get("cannot_ask", False)
    spec["gateway_consumers"] = {}
    assert run(ActionModule, variables=spec)["cannot_ask"]
