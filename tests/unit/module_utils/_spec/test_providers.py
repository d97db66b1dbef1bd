"""What a spec says about providers, and what it must not."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SpecError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import Provider
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import BaseUrl

AZURE = {"type": "azure_openai", "base_url": "https://x.example", "api_version": "v1"}
PLAIN = {"type": "openai_compatible", "base_url": "http://10.0.0.1/v1"}
SECURE = {"type": "openai", "base_url": "https://p.example/v1"}


def provider(given: dict[str, Any], **more: Any) -> Provider:
    spec = parse_spec(
        {
            "gateway_listeners": {"local": {"address": "127.0.0.1", "port": 8080}},
            "gateway_providers": {"p": {**given, **more}},
            "gateway_models": {"m": {"targets": [{"provider": "p", "model": "m"}]}},
        }
    )
    return spec.providers[0]


def problems(given: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as caught:
        provider(given, **more)
    return [(problem.path.removeprefix("gateway_providers.p."), problem.message) for problem in caught.value.errors]


class TestAzure:
    @pytest.mark.parametrize("path", ["/openai", "/openai/v1", "/team/openai/v1/", "/openai/deployments/x"])
    def test_the_url_ends_before_what_the_version_adds(self, path: str) -> None:
        found = problems(AZURE, base_url=AZURE["base_url"] + path)
        assert found == [("base_url", "must end before /openai, which the api_version adds")]

    def test_each_of_several_urls(self) -> None:
        found = problems(AZURE, base_url=["https://a.example/openai", "https://b.example/openai"])
        assert [path for path, _message in found] == ["base_url[0]", "base_url[1]"]


class TestHeaders:
    def test_in_lower_case_and_sorted(self) -> None:
        given = {"X-Title": "Search team, 100%", "OpenAI-Organization": "org-1", "anthropic-version": None}
        assert provider(SECURE, headers=given).headers == (
            ("openai-organization", "org-1"),
            ("x-title", "Search team, 100%"),
        )

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("Connection", "is about a single connection, which is Envoy's business"),
            ("Transfer-Encoding", "is about a single connection, which is Envoy's business"),
            ("Host", "describes the request itself, which the gateway passes on as it is"),
            ("Content-Length", "describes the request itself, which the gateway passes on as it is"),
            ("X-HTTP-Method-Override", "describes the request itself, which the gateway passes on as it is"),
            ("Via", "says where a request comes from, and the gateway removes it"),
            ("X-Forwarded-For", "says where a request comes from, and the gateway removes it"),
            ("X-Gw-Consumer", "belongs to the gateway"),
            ("x-envoy-retry-on", "belongs to the gateway"),
            ("X-Request-Id", "belongs to the gateway"),
            ("Authorization", "holds a credential; write the key as api_key, with a reference"),
            ("x_api_key", "holds a credential; write the key as api_key, with a reference"),
            ("Ocp-Apim-Subscription-Key", "holds a credential; write the key as api_key, with a reference"),
            ("Cookie", "holds a credential; write the key as api_key, with a reference"),
        ],
    )
    def test_refused_names(self, name: str, reason: str) -> None:
        assert problems(SECURE, headers={name: "x"}) == [(f"headers.{name}", f"cannot be set: this header {reason}")]

    @pytest.mark.parametrize("name", ["two words", "über", "a:b", "-a", ":path", "a\n"])
    def test_names_that_are_none(self, name: str) -> None:
        ((_path, message),) = problems(SECURE, headers={name: "x"})
        assert "must be the name of a header" in message

    @pytest.mark.parametrize("value", ["vault://kv/providers/openai#organization", "env://ORG"])
    def test_references_are_no_plain_text(self, value: str) -> None:
        ((_path, message),) = problems(SECURE, headers={"x-team": value})
        assert message == "is a reference, but headers hold plain text; a key is written as api_key"

    @pytest.mark.parametrize("value", ["sk-proj-123", "Bearer abc", "eyJhbGciOiJIUzI1NiJ9.e30.x", "ghp_abc"])
    def test_what_looks_like_a_credential_is_not_repeated(self, value: str) -> None:
        ((_path, message),) = problems(SECURE, headers={"x-team": value})
        assert message == "looks like a credential, which is written as api_key, with a reference"

    @pytest.mark.parametrize("value", ["", " a", "a ", "a\r\nb: c", "ü", 7])
    def test_values_that_are_none(self, value: Any) -> None:
        assert len(problems(SECURE, headers={"x-team": value})) == 1

    def test_the_same_name_twice(self) -> None:
        found = problems(SECURE, headers={"X-Team": "a", "x-team": "b"})
        assert found == [("headers.x-team", "is a header that is there already")]


class TestTls:
    def test_not_without_https(self) -> None:
        assert problems(PLAIN, tls={"server_name": "a.example"}) == [("tls", "is allowed with https URLs only")]

    @pytest.mark.parametrize(("one", "other"), [("certificate", "private_key"), ("private_key", "certificate")])
    def test_a_certificate_and_its_key(self, one: str, other: str) -> None:
        assert problems(SECURE, tls={one: "/etc/x.pem"}) == [(f"tls.{other}", f"is required with {one}")]

    @pytest.mark.parametrize("name", ["A.example", "a..example", "https://a.example", "*.example", ""])
    def test_names_that_are_none(self, name: str) -> None:
        ((path, _message),) = problems(SECURE, tls={"server_name": name})
        assert path == "tls.server_name"

    def test_there_is_no_switch_for_verification(self) -> None:
        assert [path for path, _message in problems(SECURE, tls={"verify": False})] == ["tls.verify"]


class TestProxy:
    @pytest.mark.parametrize("text", ["http://proxy.example:3128", "http://proxy.example:3128/"])
    def test_host_and_port(self, text: str) -> None:
        assert provider(PLAIN, proxy=text).proxy == BaseUrl("http", "proxy.example", 3128, "")

    def test_credentials_are_neither_taken_nor_repeated(self) -> None:
        ((path, message),) = problems(SECURE, proxy="http://user:canary@proxy.example:3128")
        assert path == "proxy"
        assert message == "must not hold credentials: they would stand in the configuration in clear"

    @pytest.mark.parametrize("text", ["https://proxy.example:3128", "socks5://proxy.example:1080"])
    def test_only_plain_http_to_the_proxy(self, text: str) -> None:
        ((_path, message),) = problems(SECURE, proxy=text)
        assert message == "must begin with http://: TLS to the provider passes through the proxy all the same"

    @pytest.mark.parametrize("text", ["http://proxy.example", "proxy.example:3128", "http://p:1/x", "http://p:0", 3128])
    def test_what_is_no_proxy(self, text: Any) -> None:
        assert [path for path, _message in problems(SECURE, proxy=text)] == ["proxy"]


class TestHealthCheck:
    @pytest.mark.parametrize("path", ["health", "/a b", "/a#b", "https://a.example/health", ""])
    def test_what_is_no_path(self, path: str) -> None:
        assert [where for where, _message in problems(PLAIN, health_check={"path": path})] == ["health_check.path"]

    def test_not_all_the_time(self) -> None:
        found = problems(PLAIN, health_check={"path": "/", "interval": "100ms", "unhealthy_threshold": 0})
        assert [path for path, _message in found] == ["health_check.interval", "health_check.unhealthy_threshold"]
