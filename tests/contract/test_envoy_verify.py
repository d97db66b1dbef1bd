"""The profile `contract` of verify on a running gateway: what its checks find with each type of provider."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from contract.capabilities import EMBEDDINGS, PROVIDERS, spec_of, start_providers
from contract.gateway_process import free_port, gateway

from ansible_collections.gatewayops.openai.plugins.module_utils._verify.checks import run_checks
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.client import Endpoint
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.model import Check, Expectation

NO_RESPONSES = {"response", "stream of a response"}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    listening = free_port()
    with ExitStack() as stack:
        up = start_providers(stack)
        stack.enter_context(gateway(tmp_path_factory.mktemp("gateway"), spec_of(listening, up)))
        yield listening


def ask(port: int, provider: str, key: str = "sk-one") -> list[Check]:
    can_embed = provider != "anthropic"
    has_responses = provider not in ("anthropic", "azure_openai-dated")
    expected = Expectation(
        models=tuple(sorted(name for name in PROVIDERS)) if key == "sk-one" else (),
        chat_model=provider,
        embedding_model=provider if can_embed else None,
        forbidden_model=EMBEDDINGS,
        responses_model=provider if has_responses else None,
        max_request_size=1024**2,
    )
    return list(run_checks(Endpoint(f"http://127.0.0.1:{port}", timeout=20.0), key, expected, "contract"))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_gateway_keeps_the_contract(port: int, provider: str) -> None:
    checks = ask(port, provider)
    assert [(check.name, check.reason) for check in checks if not check.ok] == []
    skipped = {"anthropic": {*NO_RESPONSES, "embeddings"}, "azure_openai-dated": NO_RESPONSES}.get(provider, set())
    assert {check.name for check in checks if check.skipped} == skipped
    assert sum(check.paid for check in checks) == 6
