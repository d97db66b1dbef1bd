"""What a spec says about providers, and what it must not."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SpecError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import Provider

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
