"""Addresses that are asked whether they work, on a running gateway."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from contract.gateway_process import Gateway, Provider, free_port, gateway
from contract.test_envoy_requests import Answer, call, chat

# The fake provider knows only keys for this path: without one it answers 401, with one 200.
CHECKED = "/v1/models"
UNHEALTHY = 2


@dataclass
class World:
    gateway: Gateway
    port: int
    providers: dict[str, Provider]

    def ask(self, model: str) -> Answer:
        return call(self.port, body=chat(model))

    def names(self, model: str, turns: int = 20) -> set[str]:
        answers = [self.ask(model) for _turn in range(turns)]
        assert {answer.status for answer in answers} == {200}
        return {answer.json["system_fingerprint"] for answer in answers}

    def checks(self, name: str) -> list[dict[str, Any]]:
        return [seen for seen in self.providers[name].seen() if seen["path"] == CHECKED]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 15
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        up = {name: Provider(name) for name in ("one", "two", "fallback")}
        up["keyed"] = Provider("keyed", "--api-key", "sk-keyed")
        for provider in up.values():
            stack.callback(provider.stop)
        check = {"path": CHECKED, "interval": "1s", "timeout": "500ms", "unhealthy_threshold": UNHEALTHY}
        port = free_port()
        pair = {
            "type": "openai_compatible",
            "base_url": [f"{up['one'].url}/team/v1", f"{up['two'].url}/team/v1"],
            "api_key": "env://PAIR",
            "headers": {"x-team": "ours"},
            "health_check": {**check, "healthy_threshold": 1},
        }
        fallback = {"fallbacks": [{"provider": "fallback", "model": "m"}]}
        raw = {
            "gateway_listeners": {"local": {"address": "127.0.0.1", "port": port}},
            "gateway_metrics": {"port": free_port()},
            "gateway_providers": {
                "pair": pair,
                "keyed": {
                    "type": "openai_compatible",
                    "base_url": f"{up['keyed'].url}/v1",
                    "api_key": "env://KEYED",
                    "health_check": check,
                },
                "fallback": {"type": "openai_compatible", "base_url": f"{up['fallback'].url}/v1"},
            },
            "gateway_models": {
                "pair": {"targets": [{"provider": "pair", "model": "m"}]},
                "pair-fallback": {"targets": [{"provider": "pair", "model": "m"}], **fallback},
                "keyed": {"targets": [{"provider": "keyed", "model": "m"}]},
            },
            "gateway_consumers": {"all": {"api_keys": ["env://ALL"], "models": ["*"]}},
        }
        yield World(stack.enter_context(gateway(tmp_path_factory.mktemp("gateway"), raw)), port, up)


def test_what_a_check_says_of_us(world: World) -> None:
    until(lambda: len(world.checks("one")) >= 2)
    seen = world.checks("one")[-1]
    assert (seen["method"], seen["headers"]["x-team"]) == ("GET", "ours")
    assert seen["headers"]["host"] == f"127.0.0.1:{world.providers['one'].port}"
    assert not {"authorization", "api-key"} & seen["headers"].keys()


def test_a_check_that_needs_a_key_is_no_check(world: World) -> None:
    """The credential is added to requests only: the documentation says so."""
    assert world.ask("keyed").status == 503
    assert {seen["status"] for seen in world.checks("keyed")} == {401}


def test_an_address_that_does_not_work_gets_nothing_until_it_does(world: World) -> None:
    assert world.names("pair") == {"one", "two"}
    world.providers["one"].control(status=503)
    try:
        until(lambda: [seen["status"] for seen in world.checks("one")][-UNHEALTHY:] == [503] * UNHEALTHY)
        time.sleep(0.2)
        assert world.names("pair") == {"two"}
    finally:
        world.providers["one"].control(status=None)
    until(lambda: world.names("pair") == {"one", "two"})


def test_one_failure_is_not_enough(world: World) -> None:
    world.providers["one"].reset()
    world.providers["one"].control(status=503)
    until(lambda: 503 in [seen["status"] for seen in world.checks("one")])
    world.providers["one"].control(status=None)
    assert "one" in world.names("pair")


def test_with_nobody_left_the_fallback_serves_at_once(world: World) -> None:
    for name in ("one", "two"):
        world.providers[name].control(status=503)
    statistic = "cluster.provider_pair.membership_healthy"
    try:
        until(lambda: world.gateway.statistic(statistic) == 0)
        time.sleep(0.1)
        since = time.time()
        started = time.monotonic()
        # Five failures in a row would put the target aside for a while.
        assert world.names("pair-fallback", 2) == {"fallback"}
        assert (time.monotonic() - started) / 2 < 0.3
        answer = world.ask("pair")
        assert (answer.status, answer.error["code"]) == (503, "unavailable")
        for name in ("one", "two"):
            asked = [seen["path"] for seen in world.providers[name].seen() if seen["time"] >= since]
            assert set(asked) <= {CHECKED}
    finally:
        for name in ("one", "two"):
            world.providers[name].control(status=None)
    until(lambda: world.gateway.statistic(statistic) == 2)
    time.sleep(0.1)
    assert world.names("pair-fallback", 20) == {"one", "two"}
