"""A running gateway whose models are served by a provider of Anthropic's API: what its clients and the provider see."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from contract.gateway_process import MESSAGES, UPSTREAM, Gateway, Provider, free_port, gateway
from contract.test_envoy_changes import load
from contract.test_envoy_requests import ALL, CHAT, Answer, call, chat

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
TEXT = 'Grüße, "Welt"!\n\t\\ 日本語 🚀 \u2028 end'


@dataclass
class World:
    gateway: Gateway
    port: int
    metrics: int
    providers: dict[str, Provider]

    def ask(self, model: str, *lines: str, **extra: object) -> Answer:
        content = "\n".join(("Hello", *lines))
        return call(self.port, body={"model": model, "messages": [{"role": "user", "content": content}], **extra})

    def stream(self, model: str, *lines: str, **extra: object) -> list[Any]:
        """The chunks of a stream; the last one may be `[DONE]`."""
        answer = self.ask(model, *lines, stream=True, **extra)
        assert answer.status == 200, answer
        assert answer.headers["content-type"].startswith("text/event-stream")
        *events, rest = answer.text.split("\n\n")
        assert rest == ""
        assert all(event.startswith("data: ") and "\n" not in event for event in events)
        return [event[6:] if event == "data: [DONE]" else json.loads(event[6:]) for event in events]

    def seen(self, name: str) -> list[dict[str, Any]]:
        return self.providers[name].seen()

    def asked(self, name: str = "claude") -> dict[str, Any]:
        """The one request that a provider has got, translated."""
        (seen,) = self.seen(name)
        body: dict[str, Any] = json.loads(seen["body"])
        return body

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=ALL, max_retries=0, timeout=20)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port, metrics = free_port(), free_port()
    with ExitStack() as stack:
        up = {
            name: Provider(name, "--api-key", f"sk-{name}", program=UPSTREAM if name == "openai" else MESSAGES)
            for name in ("claude", "spare", "openai")
        }
        for provider in up.values():
            stack.callback(provider.stop)

        def anthropic(name: str, **extra: object) -> dict[str, object]:
            key = f"env://{name.upper()}"
            return {"type": "anthropic", "base_url": f"{up[name].url}/team/v1", "api_key": key, **extra}

        def target(provider: str) -> dict[str, str]:
            return {"provider": provider, "model": f"{provider}-name"}

        raw = {
            "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
            "gateway_metrics": {"port": metrics},
            "gateway_providers": {
                "claude": anthropic("claude"),
                "spare": anthropic("spare", max_tokens=77),
                "openai": {"type": "openai", "base_url": f"{up['openai'].url}/v1", "api_key": "env://OPENAI"},
                "refused": {**anthropic("claude"), "api_key": "env://WRONG"},
                "gone": {**anthropic("claude"), "base_url": f"http://127.0.0.1:{free_port()}/v1"},
            },
            "gateway_models": {
                "alone": {"targets": [target("claude")]},
                "claude-name": {"targets": [target("claude")]},
                "two": {"targets": [target("claude")], "fallbacks": [target("spare")]},
                # Five failures in a row put a target aside, so each test of failures has a model of its own.
                "two-529": {"targets": [target("claude")], "fallbacks": [target("spare")]},
                "two-bad": {"targets": [target("claude")], "fallbacks": [target("spare")]},
                "first": {"targets": [target("claude")], "fallbacks": [target("openai")]},
                "fallback": {"targets": [target("openai")], "fallbacks": [target("claude")]},
                "between": {"targets": [target("openai")], "fallbacks": [target("claude"), target("spare")]},
                "shared": {"targets": [target("openai"), target("claude")]},
                "refused": {"targets": [target("refused")]},
                "gone": {"targets": [target("gone")]},
                "plain": {"targets": [target("openai")]},
            },
            "gateway_consumers": {"all": {"api_keys": ["env://ALL"], "models": ["*"]}},
        }
        started = stack.enter_context(gateway(tmp_path_factory.mktemp("gateway"), raw))
        yield World(started, port, metrics, up)


@pytest.fixture(autouse=True)
def forget(world: World) -> None:
    for provider in world.providers.values():
        provider.reset()


class TestRequests:
    def test_a_request_of_the_api(self, world: World) -> None:
        answer = world.ask("alone")
        assert answer.status == 200, answer
        (seen,) = world.seen("claude")
        assert seen["path"] == "/team/v1/messages"
        assert seen["headers"]["x-api-key"] == "sk-claude"
        assert seen["headers"]["anthropic-version"] == "2023-06-01"
        assert seen["headers"]["content-type"] == "application/json"
        assert int(seen["headers"]["content-length"]) == len(seen["body"].encode())
        assert "authorization" not in seen["headers"]
        assert not [name for name in seen["headers"] if name.startswith("x-gw-")]
        assert world.asked() == {
            "model": "claude-name",
            "max_tokens": 4096,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        }

    def test_every_parameter_that_has_a_counterpart(self, world: World) -> None:
        body = {
            "model": "alone",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "developer", "content": [{"type": "text", "text": "And kind."}]},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": TEXT}]},
                {"role": "assistant", "content": "b", "refusal": None, "tool_calls": None},
                {"role": "user", "content": "c"},
            ],
            "temperature": 0.25,
            "top_p": 1,
            "max_completion_tokens": 9,
            "max_tokens": None,
            "stop": ["x", "\u00e9\n"],
            "user": "u-1",
            "stream": False,
            "n": 1,
            "logprobs": False,
            "response_format": {"type": "text"},
            "tools": None,
            "store": False,
        }
        assert call(world.port, body=body).status == 200
        assert world.asked() == {
            "model": "claude-name",
            "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "And kind."}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": TEXT}]},
                {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
                {"role": "user", "content": [{"type": "text", "text": "c"}]},
            ],
            "temperature": 0.25,
            "top_p": 1,
            "max_tokens": 9,
            "stop_sequences": ["x", "\u00e9\n"],
            "metadata": {"user_id": "u-1"},
        }

    def test_what_a_client_says_of_the_other_api(self, world: World) -> None:
        headers = {"anthropic_version": "1999", "anthropic_beta": "x", "x_api_key": "sk-stolen", "x_gw_without": "x"}
        assert call(world.port, body=chat("alone"), **headers).status == 200
        (seen,) = world.seen("claude")
        assert seen["headers"]["x-api-key"] == "sk-claude"
        assert "anthropic-beta" not in seen["headers"]

    def test_a_limit_of_the_provider(self, world: World) -> None:
        world.providers["claude"].control(status=500)
        assert world.ask("two").status == 200
        assert world.asked("spare")["max_tokens"] == 77

    def test_a_large_request(self, world: World) -> None:
        text = "x\\\n" * 1_500_000
        answer = call(world.port, body={"model": "two", "messages": [{"role": "user", "content": text}]})
        assert answer.status == 200
        (seen,) = world.seen("claude")
        assert int(seen["headers"]["content-length"]) > len(text)

    @pytest.mark.parametrize(
        ("param", "extra"),
        [
            ("tools", {"tools": TOOLS}),
            ("tool_choice", {"tool_choice": "auto"}),
            ("n", {"n": 2}),
            ("logprobs", {"logprobs": True}),
            ("response_format", {"response_format": {"type": "json_object"}}),
            ("temperature", {"temperature": 1.5}),
            ("stop", {"stop": "\n"}),
            ("seed", {"seed": 1}),
            ("reasoning_effort", {"reasoning_effort": "low"}),
            ("modalities", {"modalities": ["text", "audio"]}),
            ("max_completion_tokens", {"max_completion_tokens": 0}),
            ("stream_options", {"stream_options": {"include_usage": True}}),
            ("something_new", {"something_new": True}),
            ("messages[0].content", {"messages": [{"role": "user", "content": None}]}),
            ("messages[0].content", {"messages": [{"role": "user"}]}),
            ("messages[0].role", {"messages": [{"role": "tool", "content": "x", "tool_call_id": None}]}),
            ("messages[0].name", {"messages": [{"role": "user", "content": "x", "name": "y"}]}),
            (
                "messages[0].content[0].type",
                {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]},
            ),
            (
                "messages[1].role",
                {"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]},
            ),
            (
                "messages",
                {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
            ),
        ],
    )
    def test_what_has_no_counterpart(self, world: World, param: str, extra: dict[str, object]) -> None:
        for model in ("alone", "two"):
            answer = world.ask(model, **extra)
            assert answer.status == 400, answer
            assert answer.error["param"] == param
            assert (answer.error["type"], answer.error["code"]) == ("invalid_request_error", "invalid_request")
            assert not [name for name in answer.headers if name.startswith("x-gw-")]
        assert not world.seen("claude") + world.seen("spare")

    @pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/responses", "/v1/completions", "/v1/chat/completions/"])
    def test_other_endpoints(self, world: World, path: str) -> None:
        for model in ("alone", "two"):
            answer = call(world.port, path, {"model": model, "input": "x", "prompt": "x"})
            assert answer.status in (400, 404)
            assert answer.error["type"] == "invalid_request_error"
        assert not world.seen("claude") + world.seen("spare")

    def test_what_is_refused_before(self, world: World) -> None:
        """Nothing is looked at that was refused already, or has no body."""
        assert world.ask("nobody").error["code"] == "model_not_found"
        assert call(world.port, body=b'{"model":"alone"').status == 400
        assert call(world.port, body=chat("alone"), key="sk-wrong").status == 401
        assert call(world.port, "/v1/models", method="GET").status == 200
        assert not world.seen("claude")

    def test_other_models_are_as_they_were(self, world: World) -> None:
        assert world.ask("plain", tools=TOOLS, temperature=1.5).status == 200
        body = world.asked("openai")
        assert (body["tools"], body["temperature"], body["model"]) == (TOOLS, 1.5, "openai-name")
        assert call(world.port, body=b'{"model":"plain","x":1,"x":2}').status == 200


class TestAnswers:
    def test_an_answer_of_the_api(self, world: World) -> None:
        answer = world.ask("alone", f"text {json.dumps(TEXT)}")
        assert answer.headers["content-type"] == "application/json"
        assert int(answer.headers["content-length"]) == len(answer.text.encode())
        body = answer.json
        assert abs(body.pop("created") - time.time()) < 60
        assert body == {
            "id": "chatcmpl-msg_013Zva2CMHLNnXjNJJKqJ2EF",
            "object": "chat.completion",
            "model": "claude-name",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": TEXT, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 3 + 8 + len(json.dumps(TEXT).split()) - 1,
                "completion_tokens": len(TEXT.split(" ")),
                "total_tokens": 3 + 8 + len(json.dumps(TEXT).split()) - 1 + len(TEXT.split(" ")),
                "prompt_tokens_details": {"cached_tokens": 5},
            },
        }

    def test_nothing_of_the_account_is_told(self, world: World) -> None:
        answer = world.ask("alone")
        assert not [name for name in answer.headers if name.startswith("anthropic") or name == "request-id"]
        assert answer.headers["x-request-id"]

    @pytest.mark.parametrize(
        ("stop", "reason"),
        [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("max_tokens", "length"),
            ("model_context_window_exceeded", "length"),
            ("refusal", "content_filter"),
        ],
    )
    def test_reasons(self, world: World, stop: str, reason: str) -> None:
        assert world.ask("alone", f"stop {stop}").json["choices"][0]["finish_reason"] == reason
        assert world.stream("alone", f"stop {stop}")[-2]["choices"][0]["finish_reason"] == reason

    def test_thoughts_are_not_told(self, world: World) -> None:
        text = "This is claude answering for claude-name."
        assert world.ask("alone", "thinking").json["choices"][0]["message"]["content"] == text
        assert content_of(world.stream("alone", "thinking")) == text

    @pytest.mark.parametrize("model", ["alone", "two"])
    def test_a_large_answer(self, world: World, model: str) -> None:
        text = 'a"\u00e9 ' * 1000
        for repeat in (10, 400):
            answer = world.ask(model, f"text {json.dumps(text)}", f"repeat {repeat}")
            assert answer.status == 200, (repeat, answer.headers, answer.text[:300])
            assert answer.json["choices"][0]["message"]["content"] == text * repeat

    @pytest.mark.parametrize("body", ["", "x", "{}", "[]", '{"type":"message"}', '{"type":"message","content":[{}]}'])
    def test_what_is_no_answer(self, world: World, body: str) -> None:
        answer = world.ask("alone", f"body {json.dumps(body)}")
        assert (answer.status, answer.error["code"]) == (502, "bad_answer")
        assert world.ask("two-bad", f"body {json.dumps(body)}").status == 502
        assert world.gateway.logged(answer.headers)["http.response.status_code"] == 502

    def test_usage_is_logged_and_counted(self, world: World) -> None:
        for answer in (world.ask("alone"), world.ask("alone", stream=True), world.ask("two")):
            line = world.gateway.logged(answer.headers)
            assert line["gen_ai.usage.input_tokens"] == 1 + 8
            assert line["gen_ai.usage.output_tokens"] == 6
            assert line["gen_ai.usage.cache_read.input_tokens"] == 5
            assert line["gen_ai.response.model"] == "claude-name"
            assert line["gen_ai.provider.name"] == "claude"


def content_of(chunks: list[Any]) -> str:
    """The text of a stream that is whole."""
    assert chunks[-1] == "[DONE]"
    return "".join(choice["delta"].get("content", "") for chunk in chunks[:-1] for choice in chunk["choices"])


class TestStreams:
    def test_a_stream_of_the_api(self, world: World) -> None:
        chunks = world.stream("alone", 'text "a b"')
        assert world.asked()["stream"] is True
        created = {chunk.pop("created") for chunk in chunks[:-1]}
        assert len(created) == 1

        def chunk(delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
            identity = {"id": "chatcmpl-msg_013Zva2CMHLNnXjNJJKqJ2EF", "object": "chat.completion.chunk"}
            # The gateway has asked for the usage, and hides it.
            return {**identity, "model": "claude-name", "choices": [choice], "usage": None}

        assert chunks == [
            chunk({"role": "assistant", "content": "", "refusal": None}, None),
            chunk({"content": "a"}, None),
            chunk({"content": " b"}, None),
            chunk({}, "stop"),
            "[DONE]",
        ]

    def test_usage_for_who_asks(self, world: World) -> None:
        *_others, usage, end = world.stream("alone", stream_options={"include_usage": True})
        assert end == "[DONE]"
        assert usage["choices"] == []
        assert usage["usage"] == {
            "prompt_tokens": 9,
            "completion_tokens": 6,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 5},
        }
        assert "stream_options" not in world.asked()

    @pytest.mark.parametrize("lines", [(), ("crlf",), ("cr",)])
    @pytest.mark.parametrize("size", [1, 2, 7, 64])
    def test_pieces_of_any_size(self, world: World, lines: tuple[str, ...], size: int) -> None:
        chunks = world.stream("alone", f"text {json.dumps(TEXT)}", f"split {size}", *lines)
        assert content_of(chunks) == TEXT

    @pytest.mark.parametrize("model", ["alone", "two"])
    def test_a_failure_in_the_midst(self, world: World, model: str) -> None:
        chunks = world.stream(model, "midstream overloaded_error")
        assert chunks[-1] == {
            "error": {"message": "Told to fail", "type": "server_error", "param": None, "code": "overloaded_error"}
        }
        assert len(chunks) > 2

    def test_a_stream_that_does_not_end(self, world: World) -> None:
        assert world.stream("alone", "cut")[-1]["error"]["code"] == "bad_answer"

    @pytest.mark.parametrize("body", ["", "data: x\n\n", 'data: {"type":"message_stop"}\n\n', "data: {}\n\ndata"])
    def test_what_is_no_stream(self, world: World, body: str) -> None:
        chunks = world.stream("alone", f"body {json.dumps(body)}")
        assert [chunk["error"]["code"] for chunk in chunks] == ["bad_answer"]

    def test_another_kind_of_answer(self, world: World) -> None:
        answer = world.ask("alone", "kind text/html", stream=True)
        assert (answer.status, answer.error["code"]) == (502, "bad_answer")


class TestErrors:
    @pytest.mark.parametrize(
        ("kind", "status", "type_", "code"),
        [
            ("invalid_request_error", 400, "invalid_request_error", "invalid_request_error"),
            ("permission_error", 403, "invalid_request_error", "permission_error"),
            ("not_found_error", 404, "invalid_request_error", "not_found_error"),
            ("request_too_large", 413, "invalid_request_error", "request_too_large"),
            ("rate_limit_error", 429, "rate_limit_error", "rate_limit_exceeded"),
            ("api_error", 500, "server_error", "api_error"),
            ("timeout_error", 504, "server_error", "timeout_error"),
            ("overloaded_error", 503, "server_error", "overloaded_error"),
        ],
    )
    def test_errors_of_the_api(self, world: World, kind: str, status: int, type_: str, code: str) -> None:
        for extra in ({}, {"stream": True}):
            answer = world.ask("alone", f"error {kind}", **extra)
            assert answer.status == status
            assert answer.error == {"message": "Told to fail", "type": type_, "param": None, "code": code}
            assert answer.headers.get("retry-after") == ("7" if status in (429, 503) else None)

    def test_a_refused_key(self, world: World) -> None:
        answer = world.ask("refused")
        assert (answer.status, answer.error["code"]) == (502, "refused_key")

    def test_unreachable(self, world: World) -> None:
        answer = world.ask("gone")
        assert (answer.status, answer.error["code"]) == (503, "unavailable")

    @pytest.mark.parametrize("status", [401, 429, 500, 529])
    @pytest.mark.parametrize("stream", [False, True])
    def test_the_next_one_answers(self, world: World, status: int, stream: bool) -> None:
        """The other one's failures are few in a row, lest it be put aside."""
        assert world.ask("two-529").status == 200
        for provider in world.providers.values():
            provider.reset()
        world.providers["claude"].control(status=status)
        answer = world.ask("two-529", stream=stream)
        assert answer.status == 200
        assert len(world.seen("claude")) == 1
        (seen,) = world.seen("spare")
        assert seen["headers"]["x-api-key"] == "sk-spare"
        assert json.loads(seen["body"])["model"] == "spare-name"
        assert "sk-claude" not in json.dumps(seen)

    def test_the_last_one_counts(self, world: World) -> None:
        for name in ("claude", "spare"):
            world.providers[name].control(status=529)
        answer = world.ask("two")
        assert (answer.status, answer.error["code"]) == (503, "overloaded_error")


class TestAmongOthers:
    def test_it_takes_what_it_can(self, world: World) -> None:
        world.providers["openai"].control(status=500)
        answer = world.ask("fallback", stream=True)
        assert answer.status == 200
        assert "claude-name" in answer.text
        assert world.asked()["model"] == "claude-name"
        (seen,) = world.seen("claude")
        assert (seen["path"], seen["headers"]["x-api-key"]) == ("/team/v1/messages", "sk-claude")
        assert "sk-openai" not in json.dumps(seen)

    def test_it_falls_back_to_others(self, world: World) -> None:
        world.providers["claude"].control(status=529)
        assert world.ask("first").json["model"] == "openai-name"
        (seen,) = world.seen("openai")
        assert (seen["path"], seen["headers"]["authorization"]) == ("/v1/chat/completions", "Bearer sk-openai")
        assert not [name for name in seen["headers"] if name.startswith("anthropic") or name == "x-api-key"]
        assert json.loads(seen["body"])["messages"] == [{"role": "user", "content": "Hello"}]

    @pytest.mark.parametrize("model", ["first", "fallback", "shared", "between"])
    def test_the_others_serve_what_it_cannot(self, world: World, model: str) -> None:
        for _turn in range(6):
            answer = world.ask(model, tools=TOOLS)
            assert (answer.status, answer.json["model"]) == (200, "openai-name")
        assert len(world.seen("openai")) == 6
        internal = ("x-gw-", "x-envoy-")
        assert not [name for seen in world.seen("openai") for name in seen["headers"] if name.startswith(internal)]
        assert not world.seen("claude") + world.seen("spare")
        line = world.gateway.logged(answer.headers)
        assert (line["gen_ai.request.model"], line["gen_ai.provider.name"], line["attempts"]) == (model, "openai", 1)

    @pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/responses"])
    def test_the_others_serve_other_endpoints(self, world: World, path: str) -> None:
        assert call(world.port, path, {"model": "first", "input": "x"}).status == 200
        assert world.seen("openai")[0]["path"] == path

    @pytest.mark.parametrize("model", ["first", "fallback", "between"])
    def test_what_it_cannot_does_not_fail_over_to_it(self, world: World, model: str) -> None:
        world.providers["openai"].control(status=500)
        answer = world.ask(model, tools=TOOLS)
        assert (answer.status, answer.error["code"]) == (500, "told_to_fail")
        assert len(world.seen("openai")) == 1
        assert not world.seen("claude") + world.seen("spare")

    def test_both_get_their_share(self, world: World) -> None:
        asked = Counter(world.ask("shared").json["model"] for _turn in range(10))
        # Each worker takes turns by itself.
        assert set(asked) == {"openai-name", "claude-name"}
        assert min(asked.values()) >= 3


class TestOfficialClient:
    def test_a_chat(self, world: World) -> None:
        with world.client() as client:
            answer = client.chat.completions.create(model="alone", messages=[{"role": "user", "content": "Hi"}])
        assert answer.choices[0].message.content == "This is claude answering for claude-name."
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage
        assert answer.usage.prompt_tokens == 9
        assert answer.usage.prompt_tokens_details
        assert answer.usage.prompt_tokens_details.cached_tokens == 5

    def test_a_stream(self, world: World) -> None:
        with world.client() as client:
            stream = client.chat.completions.create(
                model="two",
                messages=[{"role": "user", "content": f"text {json.dumps(TEXT)}"}],
                stream=True,
                stream_options={"include_usage": True},
            )
            chunks = list(stream)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
        assert chunks[-1].usage
        assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + chunks[-1].usage.completion_tokens

    def test_what_is_refused(self, world: World) -> None:
        with world.client() as client, pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(
                model="alone", messages=[{"role": "user", "content": "x"}], response_format={"type": "json_object"}
            )
        assert refused.value.param == "response_format"

    def test_a_rate_limit(self, world: World) -> None:
        with world.client() as client, pytest.raises(openai.RateLimitError) as limited:
            client.chat.completions.create(
                model="alone", messages=[{"role": "user", "content": "error rate_limit_error"}]
            )
        assert limited.value.response.headers["retry-after"] == "7"

    @pytest.mark.parametrize(
        ("line", "message"), [("midstream overloaded_error", "Told to fail"), ("cut", "did not finish")]
    )
    def test_a_broken_stream(self, world: World, line: str, message: str) -> None:
        with (
            world.client() as client,
            client.chat.completions.create(
                model="alone", messages=[{"role": "user", "content": line}], stream=True
            ) as stream,
            pytest.raises(openai.APIError, match=message),
        ):
            list(stream)


def plain(answer: Answer) -> Answer:
    """The answer, with another status if it is not what a client of OpenAI's API knows."""
    good = answer.status != 200 or answer.json["object"] == "chat.completion"
    return answer if good else Answer(599, answer.headers, answer.text)


def streamed(port: int) -> Answer:
    answer = call(port, body=chat("m", stream=True))
    good = answer.status != 200 or answer.text.endswith("data: [DONE]\n\n")
    return answer if good else Answer(599, answer.headers, answer.text)


def test_a_model_that_changes_its_type_of_provider(tmp_path: Path) -> None:
    """Back and forth, with requests all the time: none gets what is not OpenAI's."""
    port = free_port()
    claude, other = Provider("claude", program=MESSAGES), Provider("other")
    known = {
        "claude": {"type": "anthropic", "base_url": f"{claude.url}/v1"},
        "other": {"type": "openai_compatible", "base_url": f"{other.url}/v1"},
    }
    try:

        def spec(provider: str) -> dict[str, Any]:
            return {
                "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
                "gateway_metrics": {"port": free_port()},
                "gateway_providers": {provider: known[provider]},
                "gateway_models": {"m": {"targets": [{"provider": provider, "model": "n"}]}},
                "gateway_consumers": {"all": {"api_keys": ["env://ALL"], "models": ["*"]}},
            }

        with gateway(tmp_path, spec("other")) as running:
            for provider in ("claude", "other", "claude"):
                with load(lambda: plain(call(port, body=chat("m"))), lambda: streamed(port)) as statuses:
                    running.switch(spec(provider))
                assert set(statuses) == {200}
                with load(lambda: call(port, body=chat("m", tools=TOOLS))) as statuses:
                    running.switch(spec("other" if provider == "claude" else "claude"))
                    running.switch(spec(provider))
                assert set(statuses) <= {200, 400}
                assert call(port, CHAT, chat("m", tools=TOOLS)).status == (400 if provider == "claude" else 200)
    finally:
        claude.stop()
        other.stop()
