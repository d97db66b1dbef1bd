"""Usage of answers and streams: what is counted and logged, and that clients see none of it and wait for nothing."""

from __future__ import annotations

import http.client
import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from contract.gateway_process import Gateway, Provider, free_port, gateway, providers

CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES = "chat/completions", "completions", "embeddings", "responses"
KEY = "sk-team"
USAGE = {"prompt_tokens": 7, "completion_tokens": 5}
COUNTED = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
PARTS = "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.reasoning.output_tokens"


@dataclass
class World:
    gateway: Gateway
    port: int
    metrics: int
    alpha: Provider

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=KEY, max_retries=0, timeout=20)

    def send(self, endpoint: str, body: dict[str, Any]) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json", "accept-encoding": "gzip"}
        connection.request("POST", f"/v1/{endpoint}", json.dumps(body), headers)
        return connection, connection.getresponse()

    def ask(self, endpoint: str, **body: Any) -> tuple[bytes, dict[str, Any]]:
        """The answer, and the line of the log about it."""
        connection, response = self.send(endpoint, {**prompt(endpoint), **body})
        try:
            assert response.status == 200, response.read()
            text = response.read()
        except http.client.IncompleteRead as error:
            text = error.partial
        finally:
            connection.close()
        return text, self.gateway.logged({"x-request-id": response.headers["x-request-id"]})

    def asked(self) -> Any:
        """The body of the one request that the provider got."""
        (seen,) = self.alpha.seen()
        assert "accept-encoding" not in seen["headers"]
        return json.loads(seen["body"])

    def counters(self) -> dict[str, int]:
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics, timeout=20)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return {name: int(value) for name, value in re.findall(r"^(envoy_llm_.*) ([0-9]+)$", text, re.MULTILINE)}


def prompt(endpoint: str) -> dict[str, Any]:
    given: dict[str, Any] = {"model": "m"}
    if endpoint == CHAT:
        return {**given, "messages": [{"role": "user", "content": "one two three"}]}
    return {**given, "prompt" if endpoint == COMPLETIONS else "input": "one two three"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port, metrics = free_port(), free_port()
    with providers("alpha") as running:
        alpha = running["alpha"]
        provider = {"type": "openai", "base_url": f"{alpha.url}/v1", "api_key": "env://ALPHA"}
        azure = {"type": "azure_openai", "base_url": alpha.url, "api_key": "env://ALPHA"}
        raw = {
            "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
            "gateway_metrics": {"port": metrics},
            "gateway_providers": {
                "alpha": provider,
                "refuses": {**provider, "stream_usage": "as_is"},
                "old_azure": {**azure, "api_version": "2024-06-01"},
                "azure": {**azure, "api_version": "2024-10-21"},
            },
            "gateway_models": {
                "m": {"targets": [{"provider": "alpha", "model": "m"}]},
                "renamed": {"targets": [{"provider": "alpha", "model": "other-name"}]},
                "as-is": {"targets": [{"provider": "refuses", "model": "as-is"}]},
                "old": {"targets": [{"provider": "old_azure", "model": "old"}]},
                "new": {"targets": [{"provider": "azure", "model": "new"}]},
                "mixed": {
                    "targets": [{"provider": "alpha", "model": "mixed"}],
                    "fallbacks": [{"provider": "refuses", "model": "mixed"}],
                },
                "fallback": {
                    "targets": [{"provider": "alpha", "model": "fail-500"}],
                    "fallbacks": [{"provider": "alpha", "model": "second"}],
                },
                "cut": {"targets": [{"provider": "alpha", "model": "fail-midstream"}]},
                "counted": {"targets": [{"provider": "alpha", "model": "counted"}]},
            },
            "gateway_consumers": {"team": {"api_keys": ["env://TEAM"], "models": ["*"]}},
        }
        with gateway(tmp_path_factory.mktemp("gateway"), raw) as started:
            yield World(started, port, metrics, alpha)


@pytest.fixture(autouse=True)
def forget(world: World) -> None:
    world.alpha.reset()


def events(text: bytes) -> list[Any]:
    found = [line[6:] for line in text.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(event) for event in found if event != "[DONE]"]


def of_answer(usage: dict[str, int]) -> tuple[int, int]:
    if "input_tokens" in usage:
        return usage["input_tokens"], usage["output_tokens"]
    return usage["prompt_tokens"], usage.get("completion_tokens", 0)


class TestAnswers:
    @pytest.mark.parametrize(
        ("endpoint", "operation"),
        [(CHAT, "chat"), (COMPLETIONS, "text_completion"), (EMBEDDINGS, "embeddings"), (RESPONSES, "chat")],
    )
    @pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
    @pytest.mark.parametrize("split", [0, 7])
    def test_each_endpoint(self, world: World, endpoint: str, operation: str, kind: str, split: int) -> None:
        text, line = world.ask(endpoint, model="renamed", x_content_type=kind, x_split=split)
        usage = json.loads(text)["usage"]
        assert tuple(line[name] for name in COUNTED) == of_answer(usage)
        assert line["gen_ai.operation.name"] == operation
        assert (line["gen_ai.request.model"], line["gen_ai.response.model"]) == ("renamed", "other-name")
        assert line["gen_ai.provider.name"] == "alpha"
        assert 0 <= line["gen_ai.server.time_to_first_token_ms"] <= line["duration_ms"]
        if endpoint != EMBEDDINGS:
            prompt_tokens, completion_tokens = of_answer(usage)
            assert tuple(line[name] for name in PARTS) == (prompt_tokens // 2, completion_tokens // 2)

    @pytest.mark.parametrize(
        "raw",
        [
            "",
            "{}",
            '{"usage":null}',
            '{"usage":{"prompt_tokens":',
            '{"choices":[{"usage":{"prompt_tokens":3}}]}',
            "no JSON",
            '{"usage":"\\u0000"}',
            '{"usage":{"prompt_tokens":-1,"completion_tokens":1e99}}',
            "[" * 100000,
        ],
    )
    def test_nothing_to_count_is_no_error(self, world: World, raw: str) -> None:
        text, line = world.ask(CHAT, x_raw=raw)
        assert text.decode() == raw
        assert line["http.response.status_code"] == 200
        assert [line[name] for name in (*COUNTED, *PARTS)] == [None] * 4
        assert line["gen_ai.operation.name"] == "chat"

    def test_a_piece_that_looks_like_all_of_it(self, world: World) -> None:
        raw = '{"id":1,"more":{"usage":{"prompt_tokens":1}}}'
        text, line = world.ask(CHAT, x_raw=raw, x_split=len(raw) - 1, x_delay=0.2)
        assert text.decode() == raw
        assert [line[name] for name in COUNTED] == [None, None]

    def test_what_is_there_of_a_broken_answer(self, world: World) -> None:
        text, line = world.ask(CHAT, x_raw=json.dumps({"model": "x", "usage": USAGE})[:-1] + ',"choices":[{"m')
        assert text.endswith(b'"choices":[{"m')
        assert [line[name] for name in (*COUNTED, *PARTS)] == [7, 5, None, None]

    def test_an_answer_larger_than_any_buffer(self, world: World) -> None:
        """It is neither kept nor delayed: Envoy would refuse to buffer so much."""
        vectors = [{"embedding": [0.0123456789] * 1000}] * 700
        raw = json.dumps({"data": vectors, "model": "e", "usage": {"prompt_tokens": 9, "total_tokens": 9}})
        assert len(raw) < 10 * 1024 * 1024 < 2 * len(raw)
        text, line = world.ask(EMBEDDINGS, x_raw=raw, input="x")
        assert len(text) == len(raw)
        assert [line[name] for name in COUNTED] == [9, 0]
        assert line["gen_ai.response.model"] == "e"

    def test_numbers_of_tokens_stay_numbers(self, world: World) -> None:
        usage = {"prompt_tokens": 123456789, "completion_tokens": 1000000000}
        _text, line = world.ask(CHAT, x_raw=json.dumps({"usage": usage}))
        assert [line[name] for name in COUNTED] == [123456789, 1000000000]

    def test_errors_of_a_provider(self, world: World) -> None:
        connection, response = world.send(CHAT, {**prompt(CHAT), "x_status": 400})
        line = world.gateway.logged({"x-request-id": response.headers["x-request-id"]})
        connection.close()
        assert line["http.response.status_code"] == 400
        assert line["gen_ai.operation.name"] == "chat"
        assert line[COUNTED[0]] is None


class TestStreams:
    @pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
    @pytest.mark.parametrize("split", [0, 1, 13, 1000])
    @pytest.mark.parametrize(
        "options", [{}, {"stream_options": None}, {"stream_options": {}}, {"stream_options": {"include_usage": False}}]
    )
    def test_usage_is_asked_for_and_hidden(
        self, world: World, endpoint: str, split: int, options: dict[str, Any]
    ) -> None:
        text, line = world.ask(endpoint, stream=True, x_chunks=4, x_split=split, **options)
        assert world.asked()["stream_options"] == {"include_usage": True}
        assert line[COUNTED[1]] == 4
        assert line[COUNTED[0]] > 0
        assert line["gen_ai.response.model"] == "m"
        assert all(event["choices"] for event in events(text))
        assert text.endswith(b"}\n\ndata: [DONE]\n\n")
        assert b'"usage": {' not in text

    @pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
    @pytest.mark.parametrize("split", [0, 13])
    def test_who_asks_gets_it(self, world: World, endpoint: str, split: int) -> None:
        options = {"include_usage": True, "other": 1}
        text, line = world.ask(endpoint, stream=True, x_chunks=4, x_split=split, stream_options=options)
        assert world.asked()["stream_options"] == options
        last = events(text)[-1]
        assert last["choices"] == []
        assert of_answer(last["usage"]) == tuple(line[name] for name in COUNTED)

    @pytest.mark.parametrize("split", [0, 13])
    def test_the_responses_api(self, world: World, split: int) -> None:
        text, line = world.ask(RESPONSES, stream=True, x_chunks=4, x_split=split)
        assert "stream_options" not in world.asked()
        usage = events(text)[-1]["response"]["usage"]
        assert of_answer(usage) == tuple(line[name] for name in COUNTED)
        assert line[PARTS[1]] == 2

    @pytest.mark.parametrize("model", ["as-is", "old", "mixed"])
    def test_providers_that_are_not_asked(self, world: World, model: str) -> None:
        text, line = world.ask(CHAT, model=model, stream=True, x_chunks=4)
        assert "stream_options" not in world.asked()
        assert line[COUNTED[0]] is None
        text, line = world.ask(CHAT, model=model, stream=True, x_chunks=4, stream_options={"include_usage": True})
        assert events(text)[-1]["usage"]
        assert line[COUNTED[1]] == 4

    @pytest.mark.parametrize("model", ["new", "renamed", "fallback"])
    def test_others_are(self, world: World, model: str) -> None:
        text, line = world.ask(CHAT, model=model, stream=True, x_chunks=4)
        assert line[COUNTED[1]] == 4
        assert all(event["choices"] for event in events(text))
        assert json.loads(world.alpha.seen()[-1]["body"])["stream_options"] == {"include_usage": True}

    @pytest.mark.parametrize("kind", ["text/event-stream; charset=utf-8", "text/plain", "Text/Event-Stream"])
    def test_content_types(self, world: World, kind: str) -> None:
        text, line = world.ask(CHAT, stream=True, x_chunks=4, x_content_type=kind)
        assert line[COUNTED[1]] == 4
        assert all(event["choices"] for event in events(text))

    def test_a_stream_that_is_cut(self, world: World) -> None:
        text, line = world.ask(CHAT, model="cut", stream=True, x_chunks=6, x_delay=0.05)
        assert 3 <= len(events(text)) <= 4
        assert line[COUNTED[0]] is None
        assert line["gen_ai.response.model"] == "fail-midstream"

    def test_a_client_that_leaves(self, world: World) -> None:
        connection, response = world.send(CHAT, {**prompt(CHAT), "stream": True, "x_chunks": 50, "x_delay": 0.1})
        assert response.readline().startswith(b"data: ")
        response.close()
        connection.close()
        line = world.gateway.logged({"x-request-id": response.headers["x-request-id"]})
        assert line[COUNTED[0]] is None
        assert line["gen_ai.response.model"] == "m"
        assert line["flags"] == "DC"

    def test_a_provider_that_gives_no_usage(self, world: World) -> None:
        raw = 'data: {"choices":[{"delta":{"content":"x"}}]}\n\ndata: [DONE]\n\n'
        text, line = world.ask(CHAT, stream=True, x_raw=raw, x_content_type="text/event-stream")
        assert text.decode() == raw
        assert line[COUNTED[0]] is None

    def test_other_requests_are_not_changed(self, world: World) -> None:
        for body in ({}, {"stream": False}, {"stream": None}, {"stream": False, "stream_options": None}):
            world.alpha.reset()
            world.ask(CHAT, **body)
            assert world.asked() == {**prompt(CHAT), **body}

    @pytest.mark.parametrize(
        "body",
        [
            '{"model":"m","stream":1}',
            '{"model":"m","stream":"true"}',
            '{"model":"m","stream":false,"stream":true}',
            '{"model":"m","Stream":true}',
            '{"model":"m","stream":true,"stream_options":1}',
            '{"model":"m","stream":true,"stream_options":{},"stream_options":{}}',
            '{"model":"m","stream":true,"stream_options":{"include_usage":1}}',
            '{"model":"m","stream":true,"stream_options":{"include_usage":true,"include_usage":false}}',
        ],
    )
    def test_what_providers_could_read_otherwise_is_refused(self, world: World, body: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=20)
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        connection.request("POST", f"/v1/{CHAT}", body, headers)
        response = connection.getresponse()
        error = json.loads(response.read())["error"]
        connection.close()
        assert (response.status, error["code"]) == (400, "invalid_request")
        assert not world.alpha.seen()

    @pytest.mark.parametrize("split", [0, 40])
    def test_pieces_arrive_as_they_are_sent(self, world: World, split: int) -> None:
        """A drip of a piece each 0.1 seconds: none waits for the next, but for the rest of its own line."""
        connection, response = world.send(
            CHAT, {**prompt(CHAT), "stream": True, "x_chunks": 5, "x_delay": 0.1, "x_split": split}
        )
        times, lines = [], []
        while line := response.readline():  # The empty line after an event comes with it.
            if line.strip():
                lines.append(line)
                times.append(time.monotonic())
        connection.close()
        sent = world.alpha.seen()[-1]
        assert sent["complete"]
        gaps = [after - before for before, after in itertools.pairwise(times)]
        if split:
            # Lines are longer than pieces: each comes with its last piece, and the hidden one leaves a gap.
            assert all(gap > 0.15 for gap in gaps[:-1])
        else:
            assert all(0.08 < gap < 0.19 for gap in gaps[1:5])
        assert sum(gaps) > 0.4

    def test_the_official_client(self, world: World) -> None:
        messages: Any = [{"role": "user", "content": "hi"}]
        with world.client() as client:
            chunks = list(client.chat.completions.create(model="m", messages=messages, stream=True))
            assert all(chunk.choices for chunk in chunks)
            assert not any(chunk.usage for chunk in chunks)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert text == "This is alpha answering for m."
            asked = list(
                client.chat.completions.create(
                    model="m", messages=messages, stream=True, stream_options={"include_usage": True}
                )
            )
            assert len(asked) == len(chunks) + 1
            assert asked[-1].usage
            assert asked[-1].usage.completion_tokens == 6
            done = list(client.responses.create(model="m", input="hi", stream=True))[-1]
            assert done.type == "response.completed"
            assert done.response.usage
            assert all(part.choices for part in client.completions.create(model="m", prompt="hi", stream=True))


class TestCounters:
    LABELS = 'consumer="team",model="counted",provider="alpha"'

    def test_tokens_add_up(self, world: World) -> None:
        before = world.counters()
        sums = [0, 0, 0, 0]
        for body in (
            {},
            {"stream": True},
            {"stream": True, "stream_options": {"include_usage": True}},
            {"x_raw": "{}"},
        ):
            _text, line = world.ask(CHAT, model="counted", x_chunks=6, **body)
            for index, name in enumerate((*COUNTED, *PARTS)):
                sums[index] += line[name] or 0
        assert sums[1] == 18
        labels = self.LABELS
        names = (
            f'envoy_llm_tokens{{{labels},type="input"}}',
            f'envoy_llm_tokens{{{labels},type="output"}}',
            f"envoy_llm_cached_input_tokens{{{labels}}}",
            f"envoy_llm_reasoning_output_tokens{{{labels}}}",
        )
        after = self.until(world, f'envoy_llm_requests{{{labels},code="200"}}', before, 4)
        assert [after[name] - before.get(name, 0) for name in names] == sums

    def test_times(self, world: World) -> None:
        before = world.counters()
        _text, line = world.ask(CHAT, model="counted", stream=True, x_chunks=3, x_delay=0.1, x_first_byte_delay=0.15)
        assert 150 <= line["gen_ai.server.time_to_first_token_ms"] < line["duration_ms"] - 190
        labels = 'model="counted",provider="alpha"'
        count = f"envoy_llm_duration_count{{{labels}}}"
        after = self.until(world, count, before, 1)
        assert after[f"envoy_llm_time_to_first_token_count{{{labels}}}"] == after[count]

    def test_failures_are_neither(self, world: World) -> None:
        before = world.counters()
        connection, response = world.send(CHAT, {**prompt(CHAT), "model": "counted", "x_status": 400})
        response.read()
        connection.close()
        after = self.until(world, f'envoy_llm_requests{{{self.LABELS},code="400"}}', before, 1)
        assert {n: v for n, v in after.items() if "requests" not in n} == {
            n: v for n, v in before.items() if "requests" not in n
        }

    def test_envoy_has_nothing_to_complain_about(self, world: World) -> None:
        world.ask(CHAT)
        world.gateway.complains("never")
        assert not [line for line in world.gateway.complaints().splitlines() if "[error]" in line or "[warn" in line]

    def test_prompts_are_not_logged(self, world: World) -> None:
        secret = "a-very-private-prompt"
        world.ask(CHAT, messages=[{"role": "user", "content": secret}], x_raw=json.dumps({"usage": {"x": secret}}))
        text = Path(world.gateway.access_log).read_text() + world.gateway.log.read_text()
        assert secret not in text

    def until(self, world: World, name: str, before: dict[str, int], more: int) -> dict[str, int]:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            after = world.counters()
            if after.get(name, 0) >= before.get(name, 0) + more:
                return after
            time.sleep(0.1)
        raise AssertionError((name, after))
