"""What a running gateway asks again, when, and what it leaves to its clients: never an answer that has begun."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

import pytest
from contract.gateway_process import Gateway, Provider, free_port, gateway
from contract.test_envoy_requests import Answer, call, chat

MAX_BODY = 10 * 1024 * 1024
MODELS = ("m", "fail-429", "fail-500", "fail-reset", "fail-midstream", "slow-first-byte")


@dataclass
class World:
    gateway: Gateway
    port: int
    providers: dict[str, Provider]

    def ask(self, model: str, **extra: object) -> Answer:
        return call(self.port, body=chat(model, **extra))

    def timed(self, model: str, **extra: object) -> tuple[Answer, float]:
        started = time.monotonic()
        return self.ask(model, **extra), time.monotonic() - started

    def asked(self, name: str) -> list[dict[str, Any]]:
        return self.providers[name].seen()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        up = {name: Provider(name, "--api-key", f"sk-{name}") for name in ("first", "last")}
        for provider in up.values():
            stack.callback(provider.stop)
        quick = {"timeouts": {"first_byte": "500ms", "idle": "1s"}}
        again = {"retries": {"attempts": 2, "max_wait": "3s"}}

        def targets(*places: tuple[str, str]) -> list[dict[str, str]]:
            return [{"provider": provider, "model": model} for provider, model in places]

        port = free_port()
        raw = {
            "gateway_listeners": {"local": {"address": "127.0.0.1", "port": port}},
            "gateway_metrics": {"port": free_port()},
            "gateway_providers": {
                name: {"type": "openai", "base_url": f"{provider.url}/v1", "api_key": f"env://{name.upper()}"}
                for name, provider in up.items()
            },
            "gateway_models": {
                "alone": {"targets": targets(("first", "m"))},
                **{f"again-{model}": {"targets": targets(("first", model)), **again} for model in MODELS},
                "again-slow-first-byte": {
                    "targets": targets(("first", "slow-first-byte")),
                    **again,
                    "timeouts": {"first_byte": "500ms", "idle": "10s"},
                },
                "again-quick": {"targets": targets(("first", "m")), **again, **quick},
                "two": {"targets": targets(("first", "m")), "fallbacks": targets(("last", "m"))},
                "two-midstream": {"targets": targets(("first", "fail-midstream")), "fallbacks": targets(("last", "m"))},
                "two-again": {"targets": targets(("first", "m")), "fallbacks": targets(("last", "m")), **again},
                "put-aside": {"targets": targets(("first", "m-429")), "fallbacks": targets(("last", "m"))},
            },
            "gateway_consumers": {"all": {"api_keys": ["env://ALL"], "models": ["*"]}},
        }
        yield World(stack.enter_context(gateway(tmp_path_factory.mktemp("gateway"), raw)), port, up)


@pytest.fixture(autouse=True)
def forget(world: World) -> None:
    for provider in world.providers.values():
        provider.reset()


class TestRetryAfter:
    def test_a_client_gets_it_by_default(self, world: World) -> None:
        world.providers["first"].control(status=429, retry_after="7")
        answer, seconds = world.timed("alone")
        assert (answer.status, answer.headers["retry-after"], answer.headers["retry-after-ms"]) == (429, "7", "1234")
        assert seconds < 0.5
        assert len(world.asked("first")) == 1

    @pytest.mark.parametrize("status", [429, 503])
    def test_it_is_waited_for(self, world: World, status: int) -> None:
        world.providers["first"].control(status=status, retry_after="1", times=1)
        answer, seconds = world.timed("again-m")
        assert answer.status == 200
        assert 1 <= seconds < 2
        first, second = world.asked("first")
        assert second["time"] - first["time"] >= 1
        assert first["body"] == second["body"]
        assert first["headers"]["authorization"] == second["headers"]["authorization"] == "Bearer sk-first"

    @pytest.mark.parametrize("value", ["4", "30", "86400", "Wed, 21 Oct 2037 07:28:00 GMT", "-1", "soon"])
    @pytest.mark.parametrize("status", [429, 503])
    def test_what_is_too_long_or_no_time_goes_to_the_client(self, world: World, status: int, value: str) -> None:
        world.providers["first"].control(status=status, retry_after=value)
        answer, seconds = world.timed("again-m")
        assert (answer.status, answer.headers["retry-after"]) == (status, value)
        assert seconds < 0.5
        assert len(world.asked("first")) == 1

    def test_it_ends(self, world: World) -> None:
        world.providers["first"].control(status=429, retry_after="0")
        answer = world.ask("again-m")
        assert (answer.status, answer.headers["retry-after"]) == (429, "0")
        assert len(world.asked("first")) == 1 + 2

    @pytest.mark.parametrize("model", ["two", "two-again"])
    def test_a_fallback_is_asked_at_once(self, world: World, model: str) -> None:
        world.providers["first"].control(status=429, retry_after="2")
        answer, seconds = world.timed(model)
        assert (answer.status, answer.json["system_fingerprint"]) == (200, "last")
        assert seconds < 0.5
        assert len(world.asked("first")) == 1

    def test_the_last_fallback_is_waited_for(self, world: World) -> None:
        world.providers["first"].control(status=429, retry_after="2")
        world.providers["last"].control(status=429, retry_after="1", times=1)
        answer, seconds = world.timed("two-again")
        assert (answer.status, answer.json["system_fingerprint"]) == (200, "last")
        assert 1 <= seconds < 2
        assert (len(world.asked("first")), len(world.asked("last"))) == (1, 2)
        assert {seen["headers"]["authorization"] for seen in world.asked("last")} == {"Bearer sk-last"}

    def test_a_client_gets_that_of_the_last(self, world: World) -> None:
        world.providers["first"].control(status=429, retry_after="9")
        world.providers["last"].control(status=429, retry_after="30")
        answer = world.ask("two-again")
        assert (answer.status, answer.headers["retry-after"]) == (429, "30")
        assert (len(world.asked("first")), len(world.asked("last"))) == (1, 1)

    def test_who_asks_for_time_again_and_again_is_left_alone(self, world: World) -> None:
        world.providers["first"].control(status=429, retry_after="30")
        for _turn in range(30):
            assert world.ask("put-aside").json["system_fingerprint"] == "last"
        assert len(world.asked("first")) == 5


class TestFailures:
    @pytest.mark.parametrize("model", ["fail-500", "fail-reset"])
    def test_the_only_one_is_asked_again(self, world: World, model: str) -> None:
        assert world.ask(f"again-{model}").status in (500, 503)
        assert len(world.asked("first")) == 1 + 2

    def test_when_it_does_not_begin_in_time(self, world: World) -> None:
        answer, seconds = world.timed("again-slow-first-byte")
        assert (answer.status, answer.error["code"]) == (504, "timeout")
        assert 1.5 <= seconds < 4.5
        assert len(world.asked("first")) == 1 + 2

    @pytest.mark.parametrize("status", [400, 403, 404, 429])
    def test_what_would_be_the_same_again(self, world: World, status: int) -> None:
        world.providers["first"].control(status=status, retry_after="none" if status == 429 else None)
        assert world.ask("again-m").status == status
        assert len(world.asked("first")) == 1

    @pytest.mark.parametrize("model", ["again-fail-midstream", "two-midstream"])
    def test_never_after_the_first_byte(self, world: World, model: str) -> None:
        with suppress(HTTPException, OSError):
            answer = world.ask(model, stream=True, x_chunks=6)
            assert "[DONE]" not in answer.text
        assert len(world.asked("first")) == 1
        assert not world.asked("last")

    @pytest.mark.parametrize("model", ["again-m", "two-again"])
    def test_large_bodies_are_sent_again(self, world: World, model: str) -> None:
        world.providers["first"].control(status=500, times=1)
        size = MAX_BODY - 1000
        assert world.ask(model, x="x" * size).status == 200
        seen = [*world.asked("first"), *world.asked("last")]
        assert len(seen) == 2
        assert all(int(each["headers"]["content-length"]) > size for each in seen)

    def test_a_stream_takes_as_long_as_it_takes(self, world: World) -> None:
        answer, seconds = world.timed("again-quick", stream=True, x_chunks=12, x_delay=0.4)
        assert answer.text.endswith("data: [DONE]\n\n")
        assert seconds > 4

    def test_a_silence_ends_it_and_is_not_asked_again(self, world: World) -> None:
        started = time.monotonic()
        with suppress(HTTPException, OSError):
            assert "[DONE]" not in world.ask("again-quick", stream=True, x_chunks=3, x_delay=5).text
        assert 0.9 < time.monotonic() - started < 3.5
        assert len(world.asked("first")) == 1
        assert json.loads(world.asked("first")[0]["body"])["x_chunks"] == 3
