"""A gateway whose memory runs out: it refuses what is new, serves what it has, and recovers by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import openai
import pytest
from contract.gateway_process import FAULTY, Gateway, Provider, free_port, gateway
from contract.test_envoy_requests import ALL, Answer, call, chat

MEGABYTE = 1024**2
MEMORY = 256 * MEGABYTE
BODY = 8 * MEGABYTE
# How long the first provider is silent, with all bodies in memory; then the fallback answers.
SILENCE = 6.0
REFUSALS = "overload.envoy.overload_actions.stop_accepting_requests.active"


@dataclass
class World:
    gateway: Gateway
    port: int
    metrics: int

    def memory(self) -> int:
        """Bytes of memory that Envoy has beside its program, which the kernel can take away."""
        status = Path(f"/proc/{self.gateway.pid}/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0]) * 1024

    def refuses(self) -> bool:
        return self.gateway.statistic(REFUSALS) == 1

    def hold(self) -> Answer | None:
        """A large request that is kept for a fallback; None where its connection was closed."""
        try:
            return call(self.port, body=chat("held", padding="x" * BODY))
        except (OSError, HTTPException):
            return None

    def recover(self) -> None:
        end = time.monotonic() + 10
        while self.refuses():
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    port, metrics = free_port(), free_port()
    providers = {name: Provider(name, "--api-key", f"sk-{name}", program=FAULTY) for name in ("alpha", "beta")}
    raw: dict[str, Any] = {
        "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
        "gateway_metrics": {"port": metrics},
        "gateway_size": {"concurrency": 2, "memory_max": f"{MEMORY // MEGABYTE}M"},
        "gateway_providers": {
            name: {"type": "openai", "base_url": f"{provider.url}/v1", "api_key": f"env://{name.upper()}"}
            for name, provider in providers.items()
        },
        "gateway_models": {
            "held": {
                "targets": [{"provider": "alpha", "model": "fault-hang"}],
                "fallbacks": [{"provider": "beta", "model": "good"}],
                "timeouts": {"first_byte": f"{SILENCE:.0f}s"},
            },
            "good": {"targets": [{"provider": "beta", "model": "good"}]},
        },
        "gateway_consumers": {"all": {"api_keys": ["env://ALL"], "models": ["*"]}},
    }
    try:
        with gateway(tmp_path, raw) as started:
            yield World(started, port, metrics)
    finally:
        for provider in providers.values():
            provider.stop()


def test_what_is_new_is_refused_and_what_is_there_is_served(world: World) -> None:
    slow = chat("good", stream=True, x_chunks=100, x_delay=0.05)
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{world.port}/v1", api_key=ALL, max_retries=0)
    client.models.list()  # now, since what it loads for a first request takes longer than the requests that are held
    with client, ThreadPoolExecutor(64) as pool:
        stream = pool.submit(call, world.port, body=slow)
        held: list[Future[Answer | None]] = []
        while not world.refuses():
            assert len(held) < 40
            held.append(pool.submit(world.hold))
            time.sleep(0.1)
        assert world.memory() < MEMORY
        refused = call(world.port, body=chat("good"))
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert refused.error == {
            "message": "The gateway has more requests than it can serve now. Please try again in a few seconds.",
            "type": "server_error",
            "param": None,
            "code": "overloaded",
        }
        with pytest.raises(openai.InternalServerError) as error:
            client.embeddings.create(model="good", input="x")
        assert error.value.code == "overloaded"
        # Who spreads requests over hosts is told as well; who wants to know why can look.
        assert call(world.port, "/healthz", method="GET", key=None).status == 503
        assert call(world.metrics, "/metrics", method="GET", key=None).status == 200
        # All of them enter the egress listener a second time meanwhile.
        answers = [each.result() for each in held]
        assert {answer and answer.status for answer in answers} <= {200, 503}
        assert sum(answer is not None and answer.status == 200 for answer in answers) >= len(held) - 2
        assert stream.result().text.endswith("data: [DONE]\n\n")
    world.recover()
    assert call(world.port, "/healthz", method="GET", key=None).status == 200
    # A client that tries again is served: so many of them, without a restart.
    assert {call(world.port, body=chat("good")).status for _turn in range(20)} == {200}


def test_more_at_once_than_there_is_memory_for(world: World) -> None:
    """All of them are let in before the first is there; those that are still being sent are ended."""
    with ThreadPoolExecutor(64) as pool:
        answers = [each.result() for each in [pool.submit(world.hold) for _turn in range(48)]]
    told = [answer for answer in answers if answer is not None]
    assert {answer.status for answer in told} == {200, 503}
    assert {json.loads(answer.text)["error"]["code"] for answer in told if answer.status == 503} == {"overloaded"}
    world.recover()
    assert call(world.port, body=chat("good")).status == 200
    assert world.gateway.statistic("server.live") == 1
