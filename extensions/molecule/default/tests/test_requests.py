"""What clients get, from this machine and from other hosts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import client
import pytest
import scenario
from client import ask, chat
from hosts import Host

SEARCH = scenario.stored("consumers/search", "current")
BATCH = scenario.stored("consumers/batch", "current")


@pytest.fixture
def upstreams() -> Iterator[dict[str, client.Upstream]]:
    both = {name: client.Upstream(name) for name in ("a", "b")}
    for upstream in both.values():
        upstream.reset()
    yield both
    for upstream in both.values():
        upstream.reset()


@pytest.mark.parametrize("gateway", ["gw1", "gw2"])
def test_answer_over_tls(gateway: str, upstreams: dict[str, client.Upstream]) -> None:
    answer = ask(gateway, SEARCH, chat("gpt-5"))
    assert answer.status == 200
    assert answer.body["system_fingerprint"] == "a"
    (seen,) = upstreams["a"].seen()
    assert seen["headers"]["authorization"] == f"Bearer {scenario.stored('providers/a', 'api_key')}"
    assert SEARCH not in json.dumps(seen), "the client's key stays here"


def test_previous_key_is_admitted_too() -> None:
    assert ask("gw1", scenario.stored("consumers/search", "previous"), chat("gpt-5")).status == 200


@pytest.mark.parametrize("origin", ["gw2", "upstream1"])
def test_answer_to_another_host(origin: str) -> None:
    """By name, so that the certificate is checked against it. The key goes through standard input, not arguments."""
    options = [
        ("url", "https://gw1/v1/chat/completions"),
        ("header", f"Authorization: Bearer {BATCH}"),
        ("header", "Content-Type: application/json"),
        ("data", json.dumps(chat("small"))),
    ]
    lines = [f"{name} = {json.dumps(value)}" for name, value in options]
    done = Host(origin).out("curl -sS --fail-with-body --config -", stdin="\n".join(lines))
    assert json.loads(done)["system_fingerprint"] == "b"


def test_next_target_answers_when_the_first_is_busy(upstreams: dict[str, client.Upstream]) -> None:
    upstreams["a"].answer_with(429)
    answer = ask("gw1", SEARCH, chat("gpt-5"))
    assert answer.status == 200
    assert answer.body["system_fingerprint"] == "b"
    assert [seen["model"] for seen in upstreams["b"].seen()] == ["qwen3-32b"]
    assert scenario.stored("providers/a", "api_key") not in json.dumps(upstreams["b"].seen())


def test_no_target_left(upstreams: dict[str, client.Upstream]) -> None:
    upstreams["b"].answer_with(500)
    assert ask("gw1", SEARCH, chat("small")).status == 500


@pytest.mark.parametrize("key", [None, "gw-wrong"])
def test_unknown_key(key: str | None) -> None:
    answer = ask("gw1", key, chat("gpt-5"))
    assert (answer.status, answer.body["error"]["code"]) == (401, "invalid_api_key")


def test_model_of_others() -> None:
    answer = ask("gw1", BATCH, chat("gpt-5"))
    assert answer.status == 403
    assert answer.body["error"]["message"]


def test_unknown_model() -> None:
    answer = ask("gw1", SEARCH, chat("gpt-4"))
    assert (answer.status, answer.body["error"]["code"]) == (404, "model_not_found")


def test_models_of_a_key() -> None:
    listed = client.get("gw1", BATCH, "/v1/models")
    assert [model["id"] for model in listed.body["data"]] == ["small", "text-embedding-3-small"]


def test_limit_of_a_consumer() -> None:
    """Half of the fleet's limit on each host. Of two hosts one at least has no new minute just now."""
    key = scenario.stored("consumers/limited", "current")
    statuses = [[ask(host, key, chat("small")).status for _turn in range(5)] for host in ("gw1", "gw2")]
    assert [200, 200, 200, 429, 429] in statuses


def test_stream() -> None:
    answer = ask("gw1", SEARCH, chat("gpt-5", stream=True, x_chunks=5, x_delay=0.02))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.body.rstrip().endswith("data: [DONE]")


def test_access_log_names_the_consumer_and_no_key() -> None:
    assert ask("gw1", SEARCH, chat("gpt-5")).status == 200
    end = time.monotonic() + 20
    while True:  # Envoy writes its log out once in a while
        text = Host("gw1").out("sleep 1; cat /var/log/openai-gateway/access.log")
        if "search-team" in json.loads(text.splitlines()[-1]).values():
            break
        assert time.monotonic() < end, text.splitlines()[-1]
    assert not scenario.leaks(text)
