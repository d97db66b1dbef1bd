"""Limits of a running gateway: of a consumer, of a model, of both; what they count, and what clients are told."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from contract.gateway_process import Gateway, Provider, free_port, gateway, providers
from contract.test_envoy_requests import Answer, call, chat

ODD = "odd/%REQ(authorization)%.[%d]+$4"
OPENAIS = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")


@dataclass
class World:
    gateway: Gateway
    port: int
    metrics: int
    alpha: Provider

    def ask(self, consumer: str, model: str, **extra: object) -> Answer:
        return call(self.port, body=chat(model, **extra), key=f"sk-{consumer}")

    def statuses(self, consumer: str, model: str, times: int) -> list[int]:
        return [self.ask(consumer, model).status for _turn in range(times)]


def raw_spec(port: int, metrics: int, provider: Provider) -> dict[str, Any]:
    def consumer(name: str, **limits: Any) -> dict[str, Any]:
        return {"api_keys": [f"env://{name.upper()}"], "models": ["*"], "limits": limits}

    models = ("free", "shared", "shared-too", "big-1", "big-2", ODD)
    return {
        "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
        "gateway_metrics": {"port": metrics},
        "gateway_providers": {
            "alpha": {"type": "openai", "base_url": f"{provider.url}/v1", "api_key": "env://ALPHA"},
        },
        "gateway_models": {
            name: {
                "targets": [{"provider": "alpha", "model": name}],
                **({"limits": {"requests_per_minute": 8}} if name.startswith("shared") else {}),
            }
            for name in models
        },
        "gateway_consumers": {
            "one": consumer("one", requests_per_minute=8),
            "two": consumer("two", models={"big-*": {"requests_per_minute": 8}}),
            "three": consumer("three", models={"big-*": {"requests_per_minute": 8}}),
            "both": consumer("both", requests_per_minute=12, models={"shared": {"requests_per_minute": 4}}),
            "greedy": consumer("greedy", requests_per_minute=8),
            "modest": consumer("modest"),
            "odd": consumer("odd", models={"*": {"requests_per_minute": 4}, ODD: {"requests_per_minute": 40}}),
        },
    }


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A gateway of a fleet of four: each host has a quarter of all limits."""
    port, metrics = free_port(), free_port()
    with providers("alpha") as running:
        raw = raw_spec(port, metrics, running["alpha"])
        with gateway(tmp_path, raw, fleet_size=4) as started:
            yield World(started, port, metrics, running["alpha"])


def test_what_a_request_is_counted_for(world: World) -> None:
    # A consumer's, over all models.
    assert world.statuses("one", "free", 1) + world.statuses("one", "big-1", 2) == [200, 200, 429]
    # A consumer's for each model that a pattern matches, and for each consumer.
    assert world.statuses("two", "big-1", 3) == [200, 200, 429]
    assert world.statuses("two", "big-2", 3) == [200, 200, 429]
    assert world.statuses("three", "big-1", 3) == [200, 200, 429]
    assert world.statuses("two", "free", 5) == [200] * 5
    # The lower of a consumer's limits first; what it refuses is not counted for the other.
    assert world.statuses("both", "shared", 4) == [200, 429, 429, 429]
    assert world.statuses("both", "free", 3) == [200, 200, 429]
    # A model's, which both has used once.
    assert world.statuses("modest", "shared", 2) == [200, 429]
    # What is refused for a consumer's own limit takes nothing from what all share.
    assert world.statuses("greedy", "free", 2) == [200, 200]
    assert world.statuses("greedy", "shared-too", 5) == [429] * 5
    assert world.statuses("modest", "shared-too", 3) == [200, 200, 429]
    assert world.statuses("odd", "big-1", 2) == [200, 429]
    assert world.statuses("odd", ODD, 11) == [200] * 10 + [429]
    assert "x-gw-rate" not in world.alpha.seen()[0]["headers"]


def test_what_a_client_is_told(world: World) -> None:
    told = [world.ask("both", "shared") for _turn in range(2)]
    assert [[answer.headers[name] for name in OPENAIS] for answer in told] == [["1", "0", "1m0s"]] * 2
    assert "retry-after" not in told[0].headers
    assert 55 <= int(told[1].headers["retry-after"]) <= 60
    error = told[1].error
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert error["message"] == (
        "Rate limit reached for 'both' on requests per minute for the model 'shared'. Please try again in "
        f"{told[1].headers['retry-after']}s."
    )
    free = world.ask("both", "free")
    assert [free.headers[name] for name in OPENAIS] == ["3", "1", "40s"]
    assert world.statuses("modest", "shared", 1) == [200]
    message = world.ask("modest", "shared").error["message"]
    assert message.startswith("Rate limit reached for the model 'shared' on requests per minute of all consumers. ")
    assert world.statuses("both", "free", 1) == [200]
    message = world.ask("both", "free").error["message"]
    assert message.startswith("Rate limit reached for 'both' on requests per minute. ")
    for answer in (*told, free):
        assert not {"x-gw-limit", "x-ratelimit-limit", "x-ratelimit-reset", "x-ratelimit-remaining"} & set(
            answer.headers
        )
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{world.port}/v1", api_key="sk-both", max_retries=0)
    with client, pytest.raises(openai.RateLimitError) as refused:
        client.embeddings.create(model="free", input="x")
    assert refused.value.code == "rate_limit_exceeded"
    metrics = call(world.metrics, "/metrics", key=None, method="GET").text
    for kind, refusals in (("consumer_model", 1), ("consumer", 2), ("model", 1)):
        assert (
            f'envoy_http_local_rate_limit_rate_limited{{envoy_local_http_ratelimit_prefix="{kind}_limits"}} {refusals}'
            in metrics
        )


def test_what_has_no_limit_is_told_none(world: World) -> None:
    answer = world.ask("two", "free")
    assert not [name for name in answer.headers if "ratelimit" in name or name.startswith("x-gw")]
    assert not [line for line in world.gateway.complaints().splitlines() if "[error]" in line or "[warn" in line]


def test_a_provider_that_speaks_of_limits_in_envoys_words(world: World) -> None:
    """A provider may be behind an Envoy, too; what it says here are more header lines in its content type."""
    theirs = {"x-ratelimit-limit": "1, 1;w=60", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "7"}
    kind = "\r\n".join(["application/json", *(f"{name}: {value}" for name, value in theirs.items())])
    limited = world.ask("one", "free", x_content_type=kind)
    assert [limited.headers[name] for name in OPENAIS] == ["2", "1", "30s"]
    unlimited = world.ask("modest", "free", x_content_type=kind)
    for answer in (limited, unlimited):
        assert not set(theirs) & set(answer.headers)


def over_http2(port: int, folder: Path, body: bytes) -> str:
    """The status of an answer to curl, which speaks HTTP/2."""
    (folder / "body").write_bytes(body)
    headers = ["authorization: Bearer sk-modest", "content-type: application/json"]
    command = ["curl", "-sS", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "30"]
    command += [argument for header in headers for argument in ("-H", header)]
    command += ["--data-binary", f"@{folder / 'body'}", f"http://127.0.0.1:{port}/v1/chat/completions"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("size", "limit", "words"), [("64K", 64 * 1024, "64 KiB"), ("32M", 32 * 1024**2, "32 MiB")])
def test_the_largest_request(tmp_path: Path, size: str, limit: int, words: str) -> None:
    port = free_port()
    with providers("alpha") as running:
        alpha = running["alpha"]
        raw = {**raw_spec(port, free_port(), alpha), "gateway_max_request_size": size}
        # A provider's name of the model that is longer than the client's.
        raw["gateway_models"]["free"]["targets"][0]["model"] = "a-much-longer-name"
        raw["gateway_models"]["shared"] = {
            "targets": [{"provider": "alpha", "model": "x"}],
            "fallbacks": [{"provider": "alpha", "model": "a-much-longer-name"}],
        }
        with gateway(tmp_path, raw):
            for model in ("free", "shared"):
                frame = b'{"model":"%s","messages":[],"x":"%%s"}' % model.encode()
                body = frame % (b"x" * (limit - len(frame) + 2))
                assert call(port, body=body, key="sk-modest").status == 200
                assert int(alpha.seen()[-1]["headers"]["content-length"]) != limit
                refused = call(port, body=body + b" ", key="sk-modest")
                assert (refused.status, refused.error["code"]) == (413, "request_too_large")
                assert refused.error["message"] == f"The request body is larger than {words}."
            assert len(alpha.seen()) == 2
            assert [over_http2(port, tmp_path, body + tail) for tail in (b"", b" ")] == ["200", "413"]


def test_limits_come_and_go_without_a_new_listener(world: World) -> None:
    raw = raw_spec(world.port, world.metrics, world.alpha)
    for entry in (*raw["gateway_consumers"].values(), *raw["gateway_models"].values()):
        entry.pop("limits", None)
    world.gateway.switch(raw)
    assert world.statuses("both", "shared", 9) == [200] * 9
    raw["gateway_models"]["free"]["limits"] = {"requests_per_minute": 4}
    world.gateway.switch(raw)
    assert world.statuses("both", "free", 3) == [200, 429, 429]
    for what in ("listener_modified", "listener_in_place_updated", "listener_removed"):
        assert world.gateway.statistic(f"listener_manager.{what}") == 0
