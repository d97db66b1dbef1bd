"""How many requests of a provider and of a model are open at a time; who is refused, and who falls back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from contract.gateway_process import Gateway, Provider, free_port, gateway, providers
from contract.test_envoy_requests import ALL, Answer, call, chat

MOST = 6


@dataclass
class World:
    gateway: Gateway
    port: int
    providers: dict[str, Provider]

    def at_once(self, model: str, times: int, **extra: object) -> list[Answer]:
        body = chat(model, x_first_byte_delay=1.5, **extra)
        with ThreadPoolExecutor(times) as pool:
            return [each.result() for each in [pool.submit(call, self.port, body=body) for _turn in range(times)]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port = free_port()
    with providers("alpha", "beta") as running:
        raw: dict[str, Any] = {
            "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
            "gateway_metrics": {"port": free_port()},
            "gateway_size": {"concurrency": 4},
            "gateway_providers": {
                name: {"type": "openai", "base_url": f"{provider.url}/v1", "api_key": f"env://{name.upper()}"}
                for name, provider in running.items()
            },
            "gateway_models": {
                "alone": {"targets": [{"provider": "alpha", "model": "alone"}]},
                "second": {
                    "targets": [{"provider": "alpha", "model": "second"}],
                    "fallbacks": [{"provider": "beta", "model": "second"}],
                },
                "counted": {
                    "targets": [{"provider": "beta", "model": "counted"}],
                    "limits": {"concurrent_requests": 2 * MOST},
                },
                "free": {"targets": [{"provider": "beta", "model": "free"}]},
            },
            "gateway_consumers": {"all": {"api_keys": ["env://ALL"], "models": ["*"]}},
        }
        raw["gateway_providers"]["alpha"]["concurrent_requests"] = 2 * MOST
        with gateway(tmp_path_factory.mktemp("gateway"), raw, fleet_size=2) as started:
            yield World(started, port, running)


@pytest.fixture(autouse=True)
def forget(world: World) -> None:
    for provider in world.providers.values():
        provider.reset()


@pytest.mark.parametrize(("model", "provider"), [("alone", "alpha"), ("counted", "beta")])
@pytest.mark.parametrize("stream", [False, True])
def test_one_more_is_refused(world: World, model: str, provider: str, stream: bool) -> None:
    """A host of two has half of the limit, and its workers share it."""
    answers = world.at_once(model, 5 * MOST, stream=stream)
    # Two workers that count at the same moment may both find the last place free.
    served = Counter(answer.status for answer in answers)
    assert set(served) == {200, 429}
    assert MOST <= served[200] <= MOST + 3
    assert len(world.providers[provider].seen()) == served[200]
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.error == {
        "message": "Too many requests are open at a time. Please try again in a second.",
        "type": "requests",
        "param": None,
        "code": "concurrent_requests_exceeded",
    }
    assert refused.headers["retry-after"] == "1"
    assert not [name for name in refused.headers if name.startswith("x-gw")]
    assert world.gateway.logged(refused.headers)["flags"] == "UO"
    # What has ended counts no more, and nobody is left alone for having been full.
    answers = world.at_once(model, MOST)
    assert [answer.status for answer in answers] == [200] * MOST


def test_one_more_goes_to_the_fallback(world: World) -> None:
    for _turn in range(2):
        answers = world.at_once("second", 5 * MOST)
        served = Counter(answer.headers.get("x-upstream-name") for answer in answers)
        assert {answer.status for answer in answers} == {200}
        # The second time as well: a provider that is full has not failed.
        assert MOST <= served["alpha"] <= MOST + 3
        assert not [name for answer in answers for name in answer.headers if name.startswith("x-gw")]


def test_who_leaves_counts_no_more(world: World) -> None:
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{world.port}/v1", api_key=ALL, max_retries=0)
    with client:
        for _turn in range(MOST):
            stream = client.chat.completions.create(
                model="alone",
                messages=[{"role": "user", "content": "hello"}],
                stream=True,
                extra_body={"x_chunks": 500, "x_delay": 0.05},
            )
            next(stream)
            stream.close()
    assert {answer.status for answer in world.at_once("alone", MOST)} == {200}


def test_others_are_not_counted(world: World) -> None:
    assert {answer.status for answer in world.at_once("free", 5 * MOST)} == {200}
