"""Limits on tokens of a running gateway: what is charged to whom, also for who leaves, and what clients are told."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from contract.gateway_process import Gateway, Provider, free_port, gateway, providers
from contract.test_envoy_requests import Answer, call, chat

TOLD = (
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
)


@dataclass
class World:
    gateway: Gateway
    port: int
    alpha: Provider

    def ask(self, consumer: str, model: str, tokens: int = 100, path: str = "/v1/chat/completions") -> Answer:
        """Ask for an answer that costs so many tokens."""
        return call(self.port, path, body=costing(model, tokens), key=f"sk-{consumer}")

    def statuses(self, consumer: str, model: str, times: int, tokens: int = 100) -> list[int]:
        return [self.ask(consumer, model, tokens).status for _turn in range(times)]

    def left(self, consumer: str, model: str = "free") -> int:
        """What is left, as told by an answer that costs nothing."""
        return int(call(self.port, body=chat(model, x_status=400), key=f"sk-{consumer}").headers[TOLD[1]])

    def leave(self, consumer: str, after: Callable[[http.client.HTTPConnection], bytes], **extra: Any) -> bytes:
        """Ask, and leave after that; returns what had come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"authorization": f"Bearer sk-{consumer}", "content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(chat("free", **extra)), headers)
        text = after(connection)
        connection.close()
        time.sleep(0.2)
        return text


def lines(number: int) -> Callable[[http.client.HTTPConnection], bytes]:
    def read(connection: http.client.HTTPConnection) -> bytes:
        with connection.getresponse() as response:
            return b"".join(response.readline() for _line in range(number))

    return read


def nothing(_connection: http.client.HTTPConnection) -> bytes:
    time.sleep(0.3)
    return b""


def costing(model: str, tokens: int, **extra: Any) -> dict[str, object]:
    usage = {"prompt_tokens": 1, "completion_tokens": tokens - 1, "total_tokens": tokens}
    return chat(model, x_raw=json.dumps({"object": "chat.completion", "choices": [], "usage": usage}), **extra)


def raw_spec(port: int, provider: Provider, workers: int = 1) -> dict[str, Any]:
    def consumer(name: str, **limits: Any) -> dict[str, Any]:
        return {"api_keys": [f"env://{name.upper()}"], "models": ["*"], "limits": limits}

    as_is = {"type": "openai", "base_url": f"{provider.url}/v1", "api_key": "env://ALPHA", "stream_usage": "as_is"}
    return {
        "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
        "gateway_metrics": {"port": free_port()},
        "gateway_size": {"concurrency": workers},
        "gateway_providers": {
            "alpha": {"type": "openai", "base_url": f"{provider.url}/v1", "api_key": "env://ALPHA"},
            "silent": as_is,
        },
        "gateway_models": {
            "free": {"targets": [{"provider": "alpha", "model": "free"}]},
            "silent": {"targets": [{"provider": "silent", "model": "silent"}]},
            "big-1": {"targets": [{"provider": "alpha", "model": "big-1"}]},
            "big-2": {"targets": [{"provider": "alpha", "model": "big-2"}]},
            "shared": {
                "targets": [{"provider": "alpha", "model": "shared"}],
                "limits": {"tokens_per_minute": 1200},
            },
            "second": {
                "targets": [{"provider": "alpha", "model": "fail-500"}],
                "fallbacks": [{"provider": "alpha", "model": "second"}],
            },
        },
        "gateway_consumers": {
            **{f"own{n}": consumer(f"own{n}", tokens_per_minute=6000) for n in range(13)},
            "small": consumer("small", tokens_per_minute=1200),
            "large": consumer("large", tokens_per_minute=60000),
            "two": consumer("two", models={"big-*": {"tokens_per_minute": 1200}}),
            "free": consumer("free"),
            "ordered": consumer("ordered", requests_per_minute=3, models={"big-*": {"tokens_per_minute": 1200}}),
        },
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port = free_port()
    with (
        providers("alpha") as running,
        gateway(tmp_path_factory.mktemp("gateway"), raw_spec(port, running["alpha"])) as started,
    ):
        yield World(started, port, running["alpha"])


def close(number: int, to: int) -> bool:
    """6,000 a minute are 100 a second, and tests take their time."""
    return to <= number <= to + 300


def test_what_an_answer_has_cost_is_paid_by_the_next(world: World) -> None:
    assert world.statuses("own0", "free", 1, 5000) == [200]
    assert close(world.left("own0"), 1000)
    assert world.statuses("own0", "silent", 1, 2000) == [200]
    assert world.left("own0") == 0
    assert world.statuses("own0", "big-1", 3) == [429] * 3
    assert world.statuses("own1", "free", 1) == [200]


def test_each_limit_counts(world: World) -> None:
    assert world.statuses("two", "big-1", 3, 1300) == [200, 429, 429]
    assert world.statuses("two", "big-2", 2, 1300) == [200, 429]
    assert world.statuses("two", "free", 3, 100000) == [200] * 3
    # A consumer's own goes before what all share, and takes nothing from it when it refuses.
    assert world.statuses("small", "shared", 1, 900) == [200]
    assert world.statuses("free", "shared", 1, 500) == [200]
    assert world.statuses("free", "shared", 2) == [429] * 2
    assert world.left("small") >= 300
    assert world.statuses("small", "free", 2, 1300) == [200, 429]


def test_limits_on_requests_and_on_tokens_take_nothing_from_each_other(world: World) -> None:
    assert world.statuses("ordered", "big-1", 6, 5000) == [200] + [429] * 5
    assert world.statuses("ordered", "big-2", 2, 1000) == [200] * 2
    refused = [world.ask("ordered", "big-2", 1000) for _turn in range(4)]
    assert [answer.error["type"] for answer in refused] == ["tokens", "tokens", "tokens", "tokens"]
    assert {answer.status for answer in refused} == {429}
    refused = [world.ask("ordered", "free", 1000) for _turn in range(4)]
    assert [answer.error["type"] for answer in refused] == ["requests"] * 4


def test_what_a_client_is_told(world: World) -> None:
    answer = world.ask("own2", "free", 5999)
    limit, left, reset = (answer.headers[name] for name in TOLD)
    # What it is charged until its usage is known.
    assert (limit, int(left) > 5800, reset.endswith("s")) == ("6000", True, True)
    assert world.statuses("own2", "free", 1, 2000) == [200]
    refused = world.ask("own2", "free")
    assert [refused.headers[name] for name in TOLD][:2] == ["6000", "0"]
    seconds = refused.headers["retry-after"]
    assert 15 <= int(seconds) <= 20
    assert refused.error == {
        "message": f"Rate limit reached for 'own2' on tokens per minute. Please try again in {seconds}s.",
        "type": "tokens",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert len(refused.text) == int(refused.headers["content-length"])
    for told in (answer, refused):
        assert not [name for name in told.headers if name.startswith("x-gw") or name in ("x-ratelimit-limit",)]
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{world.port}/v1", api_key="sk-own2", max_retries=0)
    with client, pytest.raises(openai.RateLimitError) as error:
        client.embeddings.create(model="free", input="x")
    assert (error.value.code, error.value.type) == ("rate_limit_exceeded", "tokens")


def test_what_has_no_limit_is_told_none(world: World) -> None:
    answer = world.ask("free", "free")
    assert not [name for name in answer.headers if "ratelimit" in name or name.startswith("x-gw")]
    asked = world.alpha.seen()[-1]["headers"]
    assert not [name for name in asked if name.startswith("x-gw")]


def test_an_answer_larger_than_the_bucket_is_paid_in_parts(world: World) -> None:
    """60,000 a minute are 1,000 a second: 62,000 are paid two seconds after the bucket was full."""
    began = time.monotonic()
    assert world.statuses("large", "free", 1, 62000) == [200]
    told = []
    while (answer := world.ask("large", "free")).status == 429:
        told.append(int(answer.headers["retry-after"]))
        assert time.monotonic() - began < 20
        time.sleep(0.25)
    assert told[0] == 30
    assert all(1 <= seconds <= 3 for seconds in told[1:])
    assert 2 < time.monotonic() - began < 4


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "embeddings"])
@pytest.mark.parametrize("stream", [False, True])
def test_each_endpoint(world: World, path: str, stream: bool) -> None:
    consumer = f"own{3 + stream}"
    before = world.left(consumer)
    body = json.dumps({"model": "free", "input": "a b c", "prompt": "a b c", "stream": stream, "x_chunks": 300})
    answer = call(world.port, f"/v1/{path}", body=body.encode(), key=f"sk-{consumer}")
    assert answer.status == 200
    assert ('"usage": {' in answer.text) == (not stream or path in ("responses", "embeddings"))
    line = world.gateway.logged(answer.headers)
    used = line["gen_ai.usage.input_tokens"] + line["gen_ai.usage.output_tokens"]
    assert used == 3 if path == "embeddings" else used >= 300
    assert before - used <= world.left(consumer) <= before - used + 100


def test_what_fails_costs_nothing(world: World) -> None:
    for body in (chat("free", x_status=500), chat("free", x_status=429), chat("unknown")):
        call(world.port, body=body, key="sk-own5")
    assert world.left("own5") == 6000


def test_a_fallback_is_charged_once(world: World) -> None:
    assert world.statuses("own6", "second", 1, 1000) == [200]
    assert close(world.left("own6"), 5000)


def test_who_leaves_a_stream_pays_for_what_has_come(world: World) -> None:
    before = world.left("own7")
    text = world.leave("own7", lines(200), stream=True, x_chunks=400, x_delay=0.005)
    assert text.count(b"data: ") == 100
    # About a token for each event, and something for the request.
    assert before - 330 <= world.left("own7") <= before - 100 + 60


def test_who_resets_a_stream_of_http2_pays_for_what_has_come(world: World) -> None:
    before = world.left("own12")
    body = json.dumps(chat("free", stream=True, x_chunks=1000, x_delay=0.01))
    command = ["curl", "-sS", "--http2-prior-knowledge", "--max-time", "1.5", "-H", "authorization: Bearer sk-own12"]
    command += [
        "-H",
        "content-type: application/json",
        "-d",
        body,
        f"http://127.0.0.1:{world.port}/v1/chat/completions",
    ]
    left = subprocess.run(command, capture_output=True, text=True, check=False)
    assert left.returncode == 28  # the time is over
    time.sleep(0.2)
    came = left.stdout.count("data: ")
    assert came > 20
    assert before - 1.1 * came - 350 <= world.left("own12") <= before - came + 300


def test_who_leaves_before_an_answer_pays_for_the_request(world: World) -> None:
    world.leave("own8", nothing, x_first_byte_delay=5, messages=[{"role": "user", "content": "word " * 600}])
    assert 4900 <= world.left("own8") <= 5200


def test_who_leaves_in_the_midst_of_a_whole_answer_pays_for_what_has_come(world: World) -> None:
    raw = json.dumps({"choices": [{"message": {"content": "word " * 1200}}]}, indent=1).replace(": [", ":\n[")
    text = world.leave("own9", lines(5), x_raw=raw, x_split=3000, x_delay=0.5)
    assert len(text) < 100
    # A third of the bytes of the request and of the answer's first part.
    assert 6000 - (len(raw) + 300 + 3000) / 3 <= world.left("own9") <= 6000 - (len(raw) + 3000) / 3 + 100


def test_a_stream_whose_usage_is_not_told_is_estimated(world: World) -> None:
    body = chat("silent", stream=True, x_chunks=200)
    assert call(world.port, body=body, key="sk-own10").status == 200
    assert 5300 <= world.left("own10") <= 5820


def test_debts_outlive_other_changes(world: World) -> None:
    assert world.statuses("own11", "free", 1, 7000) == [200]
    raw = raw_spec(world.port, world.alpha)
    raw["gateway_providers"]["new"] = {"type": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "env://NEW"}
    raw["gateway_consumers"]["new"] = {"api_keys": ["env://NEWKEY"], "models": ["*"]}
    raw["gateway_consumers"]["free"]["limits"] = {"requests_per_minute": 1000}
    world.gateway.switch(raw)
    assert world.statuses("own11", "free", 2) == [429] * 2
    del raw["gateway_consumers"]["own11"]["limits"]
    world.gateway.switch(raw)
    assert world.statuses("own11", "free", 2) == [200] * 2
    assert world.statuses("own10", "free", 1) == [200]
    world.gateway.switch(raw_spec(world.port, world.alpha))
    for what in ("listener_modified", "listener_in_place_updated", "listener_removed"):
        assert world.gateway.statistic(f"listener_manager.{what}") == 0
    assert not [line for line in world.gateway.complaints().splitlines() if "[error]" in line or "[warn" in line]


def test_workers_share_the_buckets(tmp_path: Path) -> None:
    """Four workers, and a quarter of the limit since the host is one of four; 1,000 tokens each time."""
    port = free_port()
    with providers("alpha") as running:
        raw = raw_spec(port, running["alpha"], workers=4)
        raw["gateway_consumers"]["large"]["limits"] = {"tokens_per_minute": 240000}
        with gateway(tmp_path, raw, fleet_size=4) as started, ThreadPoolExecutor(8) as pool:
            world = World(started, port, running["alpha"])
            began = time.monotonic()

            def ask() -> int:
                admitted = 0
                while time.monotonic() - began < 4:
                    admitted += world.ask("large", "free", 1000).status == 200
                    time.sleep(0.01)
                return admitted

            admitted = sum(each.result() for each in [pool.submit(ask) for _thread in range(8)])
            passed = time.monotonic() - began
    # Besides, what each worker has not yet been paid for, and what was on its way.
    assert 60 + 3 <= admitted <= 60 + passed + 4 + 8


def test_usage_is_known_and_hidden_while_limits_come_and_go(tmp_path: Path) -> None:
    """Two scripts can read an answer: in every step of a change one of them does, and only one."""
    port = free_port()
    with providers("alpha") as running:
        raw = raw_spec(port, running["alpha"])
        without = json.loads(json.dumps(raw))
        for entry in (*without["gateway_consumers"].values(), *without["gateway_models"].values()):
            entry.pop("limits", None)
        with gateway(tmp_path, without) as started, ThreadPoolExecutor(1) as pool:
            done: list[bool] = []

            def ask() -> list[Answer]:
                answers = []
                while not done:
                    body = chat("free", stream=True, x_chunks=20, x_delay=0.001)
                    answers.append(call(port, body=body, key="sk-large"))
                return answers

            asking = pool.submit(ask)
            for spec in (raw, without, raw, without):
                started.switch(spec)
            done.append(True)
            answers = asking.result()
            assert len(answers) > 10
            assert any("x-ratelimit-limit-tokens" in answer.headers for answer in answers)
            assert any("x-ratelimit-limit-tokens" not in answer.headers for answer in answers)
            for answer in answers:
                assert answer.status == 200
                assert '"usage": {' not in answer.text
                line = started.logged(answer.headers)
                assert line["gen_ai.usage.output_tokens"] == 20
                assert line["gen_ai.response.model"] == "free"
