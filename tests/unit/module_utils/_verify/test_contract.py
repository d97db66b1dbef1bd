from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._verify.checks import PROFILES, run_checks
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.client import Endpoint
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.contract import LARGEST_SENT
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.model import Check, Expectation

KEY = "sk-canary-1234"
LARGEST = 65536
EXPECTED = Expectation(
    models=("gpt-5", "org/embed"),
    chat_model="gpt-5",
    embedding_model="org/embed",
    forbidden_model="secret-model",
    responses_model="gpt-5",
    max_request_size=LARGEST,
)
PAID = {"chat completion", "stream", "stream with usage", "response", "stream of a response", "embeddings"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


@dataclass(frozen=True)
class Reply:
    """What a gateway answers. `events` instead of a body make a stream."""

    status: int = 200
    body: Any = None
    events: tuple[tuple[str, Any], ...] | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    key: str | None
    size: int
    body: Any


def error(status: int, code: str, param: str | None = None, **headers: str) -> Reply:
    body = {"message": "no", "type": "invalid_request_error", "param": param, "code": code}
    return Reply(status, {"error": body}, headers=headers)


def model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "gateway"}


def right(asked: Asked) -> Reply:
    """What a gateway answers that keeps the contract."""
    if asked.path == "/healthz":
        return Reply()
    if asked.key != KEY:
        return error(401, "invalid_api_key")
    if asked.path == "/v1/models":
        return Reply(200, {"object": "list", "data": [model(name) for name in EXPECTED.models]})
    if asked.path.startswith("/v1/models/"):
        name = asked.path[len("/v1/models/") :].replace("%2F", "/")
        return Reply(200, model(name)) if name in EXPECTED.models else error(404, "model_not_found", "model")
    if asked.path not in ("/v1/chat/completions", "/v1/responses", "/v1/embeddings"):
        return error(404, "unknown_url")
    if asked.method != "POST":
        return error(405, "method_not_allowed", allow="POST")
    if asked.size > LARGEST:
        return error(413, "request_too_large")
    name = asked.body.get("model") if isinstance(asked.body, dict) else None
    if name is None:
        return error(400, "invalid_request")
    if name == "secret-model":
        return error(403, "model_not_allowed", "model")
    if name not in EXPECTED.models:
        return error(404, "model_not_found", "model")
    return replace(answered(asked), headers=limits())


def limits() -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1m0.5s",
    }


def answered(asked: Asked) -> Reply:
    """What a provider answers."""
    frame = {"id": "chatcmpl-1", "created": 1, "model": "gpt-5"}
    if asked.path == "/v1/embeddings":
        entry = {"object": "embedding", "index": 0, "embedding": [0.1]}
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return Reply(200, {"object": "list", "model": "e", "data": [entry], "usage": usage})
    if asked.path == "/v1/responses":
        response = {
            "id": "resp-1",
            "object": "response",
            "created_at": 1.0,
            "model": "gpt-5",
            "tools": [],
            "parallel_tool_calls": True,
            "output": [{"type": "message"}],
            "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
        }
        if not asked.body.get("stream"):
            return Reply(200, response)
        names = ("response.created", "response.output_text.delta", "response.completed")
        events = [{"type": name, "sequence_number": number} for number, name in enumerate(names)]
        return Reply(events=tuple((event["type"], {**event, "response": response}) for event in events))
    if not asked.body.get("stream"):
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ready"}}
        return Reply(200, {**frame, "object": "chat.completion", "choices": [choice], "usage": USAGE})
    frame["object"] = "chat.completion.chunk"
    first = {**frame, "choices": [{"index": 0, "finish_reason": None, "delta": {"content": "ready"}}]}
    last = {**frame, "choices": [{"index": 0, "finish_reason": "stop", "delta": {}}]}
    told = ({**frame, "choices": [], "usage": USAGE},) if "stream_options" in asked.body else ()
    return Reply(events=tuple(("", event) for event in (first, last, *told, "[DONE]")))


class Gateway:
    """A gateway that keeps the contract until a test breaks it: `broken` changes its replies."""

    def __init__(self) -> None:
        self.broken: Callable[[Asked, Reply], Reply] = lambda asked, reply: reply
        self.asked: list[Asked] = []
        self.request_id: str | None = "own"
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def version_string(self) -> str:
                return "gateway"

            def do_GET(self) -> None:
                content = self.rfile.read(int(self.headers.get("content-length", 0)))
                key = self.headers["authorization"]
                try:
                    body = json.loads(content or b"null")
                except ValueError:
                    body = None
                key = None if key is None else key.replace("Bearer ", "", 1)
                asked = Asked(self.command, self.path, key, len(content), body)
                gateway.asked.append(asked)
                self.write(gateway.broken(asked, right(asked)))

            do_POST = do_GET  # noqa: N815

            def write(self, reply: Reply) -> None:
                headers = {"content-type": "application/json", "x-request-id": f"req-{len(gateway.asked)}"}
                content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                if reply.events is not None:
                    headers["content-type"] = "text/event-stream"
                    content = b"".join(written(*event) for event in reply.events)
                headers["content-length"] = str(len(content))
                if gateway.request_id != "own":
                    headers["x-request-id"] = gateway.request_id or self.headers["x-request-id"] or "x"
                self.send_response(reply.status)
                for name, value in {**headers, **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def written(name: str, data: Any) -> bytes:
    if name == "raw":
        return str(data).encode()
    text = data if isinstance(data, str) else json.dumps(data)
    return ((f"event: {name}\n" if name else "") + f"data: {text}\n\n").encode()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    served = Gateway()
    yield served
    served.close()


def ask(gateway: Gateway, expected: Expectation = EXPECTED) -> dict[str, Check]:
    checks = run_checks(Endpoint(gateway.url, timeout=5.0), KEY, expected, "contract")
    return {check.name: check for check in checks}


def failed(gateway: Gateway, expected: Expectation = EXPECTED) -> dict[str, str]:
    return {name: check.reason for name, check in ask(gateway, expected).items() if not check.ok}


def test_a_gateway_that_keeps_it_passes_every_check(gateway: Gateway) -> None:
    checks = ask(gateway)
    assert [check for check in checks.values() if not check.ok or check.skipped] == []
    assert {name for name, check in checks.items() if check.paid} == PAID


def test_what_reaches_a_provider_is_little_and_bounded(gateway: Gateway) -> None:
    ask(gateway)
    assert len(gateway.asked) == 23
    paid = [asked for asked in gateway.asked if asked.method == "POST" and right(asked).status == 200]
    assert len(paid) == len(PAID)
    for asked in paid:
        assert asked.path == "/v1/embeddings" or 512 in asked.body.values()
        assert asked.size < 300


def test_what_there_is_nothing_for_is_skipped_and_says_why(gateway: Gateway) -> None:
    checks = ask(gateway, Expectation((), None, None, None))
    assert {name: check.reason for name, check in checks.items() if check.skipped} == {
        "one model": "the key may use no model",
        "forbidden model": "the key may use every model",
        "too large": "the largest size of a request is not known",
        "chat completion": "the key may use no model for chat",
        "stream": "the key may use no model for chat",
        "stream with usage": "the key may use no model for chat",
        "response": "no model that the key may use is served only by providers that surely have the Responses API",
        "stream of a response": "no model that the key may use is served only by providers that surely have the "
        "Responses API",
        "embeddings": "no model that the key may use looks like one for embeddings",
        "rate limit headers": "no limit holds for the key",
    }


def test_a_very_large_body_is_not_sent(gateway: Gateway) -> None:
    check = ask(gateway, replace(EXPECTED, max_request_size=LARGEST_SENT + 1))["too large"]
    assert (check.skipped, check.reason) == (
        True,
        "gateway_max_request_size is above 32 MiB, which is not sent for a check",
    )


Change = Callable[[Reply], Reply]


def status(code: int) -> Change:
    return lambda reply: replace(reply, status=code)


def put(path: str, value: Any) -> Change:
    """Another value for a field of the body; `None` of the last name removes it."""

    def change(reply: Reply) -> Reply:
        body = json.loads(json.dumps(reply.body))
        place = body
        *names, last = path.split(".")
        for name in names:
            place = place[int(name) if name.isdigit() else name]
        if value is None:
            del place[last]
        else:
            place[last] = value
        return replace(reply, body=body)

    return change


def header(**given: str) -> Change:
    added = {name.replace("_", "-"): value for name, value in given.items()}
    return lambda reply: replace(reply, headers={**reply.headers, **added})


def events(change: Callable[[list[Any]], list[Any]]) -> Change:
    return lambda reply: replace(reply, events=tuple(change(list(reply.events or ()))))


def in_event(index: int, **given: Any) -> Change:
    def change(found: list[Any]) -> list[Any]:
        found[index] = (found[index][0], {**found[index][1], **given})
        return found

    return events(change)


def without_usage(found: list[Any]) -> list[Any]:
    return [event for event in found if "usage" not in event[1]]


# The check that fails; where the reply is changed (method, path, status, what the body has); how; and the reason.
BROKEN: list[tuple[str, str, Change, str]] = [
    ("healthy", "GET /healthz 200", status(503), "status 503, expected 200"),
    ("no key", "GET /v1/models 401 no-key", status(403), "status 403, expected 401: no"),
    (
        "no key",
        "GET /v1/models 401 no-key",
        put("error.param", None),
        "error.param: expected string or null, got nothing",
    ),
    ("wrong key", "GET /v1/models 401 key", put("error", "no"), "error: expected object, got 'no'"),
    (
        "wrong key",
        "GET /v1/models 401 key",
        header(content_type="text/plain"),
        "content type: expected 'application/json', got 'text/plain'",
    ),
    (
        "no such model",
        "GET /v1/models/x 404",
        put("error.message", ""),
        "error.message: expected string, not empty, got ''",
    ),
    ("one model", "GET /v1/models/x 200", put("id", "other"), "id: expected 'gpt-5', got 'other'"),
    ("one model", "GET /v1/models/x 200", put("created", None), "created: expected integer, got nothing"),
    (
        "unknown URL",
        "GET /v1/gatewayops-verify/no-such-url 404",
        put("error.code", 404),
        "error.code: expected string or null, got integer; error.code: expected 'unknown_url', got integer",
    ),
    ("wrong method", "GET /v1/chat/completions 405", header(allow="GET"), "header allow: expected 'POST', got 'GET'"),
    ("malformed JSON", "POST /v1/chat/completions 400 broken", status(200), "status 200, expected 400: no"),
    (
        "no model",
        "POST /v1/chat/completions 400 whole",
        put("error.type", "server_error"),
        "error.type: expected 'invalid_request_error', got 'server_error'",
    ),
    ("too large", "POST /v1/chat/completions 413", status(500), "status 500, expected 413: no"),
    (
        "forbidden model",
        "POST /v1/chat/completions 403",
        put("error.param", "x"),
        "error.param: expected 'model', got 'x'",
    ),
    (
        "unknown model",
        "POST /v1/chat/completions 404",
        put("error.code", "unknown_url"),
        "error.code: expected 'model_not_found', got 'unknown_url'",
    ),
    (
        "chat completion",
        "POST /v1/chat/completions 200",
        put("choices", []),
        "choices: expected array, not empty, got an empty array",
    ),
    (
        "chat completion",
        "POST /v1/chat/completions 200",
        put("choices.0.index", True),
        "choices[0].index: expected integer, got boolean",
    ),
    (
        "chat completion",
        "POST /v1/chat/completions 200",
        put("usage", {}),
        "usage.prompt_tokens: expected integer, got nothing; "
        "usage.completion_tokens: expected integer, got nothing; "
        "usage.total_tokens: expected integer, got nothing",
    ),
    (
        "stream",
        "POST /v1/chat/completions 200 stream",
        events(lambda found: found[:-1]),
        "the stream ended after 2 events: expected [DONE] at the end",
    ),
    (
        "stream",
        "POST /v1/chat/completions 200 stream",
        events(lambda found: found[-1:]),
        "the stream was empty: expected chunks",
    ),
    (
        "stream",
        "POST /v1/chat/completions 200 stream",
        in_event(0, id="other"),
        "id: expected the same in all chunks, got 2 different ones",
    ),
    (
        "stream",
        "POST /v1/chat/completions 200 stream",
        in_event(1, usage=USAGE),
        "usage: expected none, since it was not asked for, got it in 1 chunks",
    ),
    (
        "stream",
        "POST /v1/chat/completions 200 stream",
        in_event(0, object="chat.completion"),
        "object: expected 'chat.completion.chunk', got 'chat.completion'",
    ),
    (
        "stream",
        "POST /v1/chat/completions 200 stream",
        events(lambda found: [found[0], found[-1]]),
        "choices[].finish_reason: expected one in the last chunk with a choice, got none",
    ),
    (
        "stream",
        "POST /v1/chat/completions 200 stream",
        events(lambda found: [("raw", "hello\n\n"), *found]),
        "a line of the stream: expected 'data: ...', got 'hello'",
    ),
    (
        "stream",
        "POST /v1/chat/completions 200 stream",
        events(lambda found: [("raw", "data: {}\n"), *found]),
        "an event of the stream: expected one line of 'data', got several",
    ),
    (
        "stream",
        "POST /v1/chat/completions 200 stream",
        events(lambda found: [("", "no JSON"), *found]),
        "an event of the stream: expected an object in JSON, got 'no JSON'",
    ),
    (
        "stream",
        "POST /v1/chat/completions 200 stream",
        events(lambda found: [("", {"error": {}}), *found]),
        "an event of the stream: expected no error, got '{\"error\": {}}'",
    ),
    (
        "stream",
        "POST /v1/chat/completions 200 stream",
        header(content_type="text/plain"),
        "content type: expected 'text/event-stream', got 'text/plain'",
    ),
    (
        "stream with usage",
        "POST /v1/chat/completions 200 usage",
        events(without_usage),
        "usage: expected it in the last chunk only, got it in 0 of 2",
    ),
    (
        "stream with usage",
        "POST /v1/chat/completions 200 usage",
        in_event(2, choices=[{"index": 0, "delta": {}, "finish_reason": None}]),
        "choices: expected none in the chunk with the usage, got some",
    ),
    (
        "stream with usage",
        "POST /v1/chat/completions 200 usage",
        in_event(2, usage={"prompt_tokens": 1, "total_tokens": 1}),
        "usage.completion_tokens: expected integer, got nothing",
    ),
    (
        "response",
        "POST /v1/responses 200",
        put("output.0.type", None),
        "output[0].type: expected string, not empty, got nothing",
    ),
    (
        "response",
        "POST /v1/responses 200",
        put("parallel_tool_calls", 1),
        "parallel_tool_calls: expected boolean, got integer",
    ),
    (
        "stream of a response",
        "POST /v1/responses 200 stream",
        events(lambda found: found[:-1]),
        "the last event: expected 'response.completed', got 'response.output_text.delta'",
    ),
    (
        "stream of a response",
        "POST /v1/responses 200 stream",
        events(lambda found: found[1:]),
        "the first event: expected 'response.created', got 'response.output_text.delta'",
    ),
    (
        "stream of a response",
        "POST /v1/responses 200 stream",
        in_event(1, sequence_number=0),
        "sequence_number: expected growing numbers, got others",
    ),
    (
        "stream of a response",
        "POST /v1/responses 200 stream",
        in_event(1, type="other"),
        "event: expected 'other', the type, got 'response.output_text.delta'",
    ),
    (
        "stream of a response",
        "POST /v1/responses 200 stream",
        in_event(2, response={}),
        "response.id: expected string, not empty, got nothing; "
        "response.object: expected 'response', got nothing; "
        "response.created_at: expected number, got nothing; "
        "response.model: expected string, not empty, got nothing; "
        "response.tools: expected array, got nothing and 2 more",
    ),
    (
        "stream of a response",
        "POST /v1/responses 200 stream",
        events(lambda found: []),
        "the stream was empty: expected events",
    ),
    (
        "embeddings",
        "POST /v1/embeddings 200",
        put("data.0.embedding", "aGVsbG8="),
        "data[0].embedding: expected array, not empty, got 'aGVsbG8='",
    ),
    (
        "embeddings",
        "POST /v1/embeddings 200",
        lambda reply: replace(reply, body=b"no"),
        "the body: expected an object in JSON, got something else",
    ),
    (
        "headers",
        "POST /v1/chat/completions 200",
        header(x_gw_model="x", set_cookie="a=b"),
        "headers: expected none of the connection or the provider's account, got set-cookie, x-gw-model",
    ),
    (
        "headers",
        "POST /v1/chat/completions 200",
        header(connection="upgrade"),
        "header connection: expected 'close' or 'keep-alive', got 'upgrade'",
    ),
    (
        "headers",
        "POST /v1/chat/completions 200",
        header(server="uvicorn"),
        "header server: expected 'gateway', as without a provider, got 'gateway, uvicorn'",
    ),
    (
        "headers",
        "POST /v1/chat/completions 200",
        header(x_request_id=""),
        "header x-request-id: expected one, got none",
    ),
    (
        "rate limit headers",
        "POST /v1/chat/completions 200",
        header(x_ratelimit_reset_requests="soon"),
        "header x-ratelimit-reset-requests: expected a duration such as 8.64s, got 'soon'",
    ),
    (
        "rate limit headers",
        "POST /v1/chat/completions 200",
        header(x_ratelimit_remaining_tokens="7"),
        "header x-ratelimit-limit-tokens: expected a number, got None",
    ),
]


def is_there(asked: Asked, reply: Reply, where: str) -> bool:
    """Whether a reply is the one of a line of BROKEN."""
    method, path, code, *extra = where.split()
    if path == "/v1/models/x" and asked.path.startswith("/v1/models/"):
        path = asked.path
    if (asked.method, asked.path, reply.status) != (method, path, int(code)):
        return False
    body = asked.body if isinstance(asked.body, dict) else {}
    facts = {
        "no-key": asked.key is None,
        "key": asked.key is not None,
        "broken": asked.body is None,
        "whole": asked.body is not None,
        "stream": bool(body.get("stream")) and "stream_options" not in body,
        "usage": "stream_options" in body,
    }
    if reply.status == 200 and not extra:
        return not body.get("stream")
    return all(facts[fact] for fact in extra)


@pytest.mark.parametrize(
    ("name", "where", "change", "reason"), BROKEN, ids=[f"{line[0]}-{n}" for n, line in enumerate(BROKEN)]
)
def test_a_gateway_that_breaks_it_fails_that_check_only(
    gateway: Gateway, name: str, where: str, change: Change, reason: str
) -> None:
    gateway.broken = lambda asked, reply: change(reply) if is_there(asked, reply, where) else reply
    assert failed(gateway) == {name: reason}


def test_the_list_of_models_serves_several_checks(gateway: Gateway) -> None:
    gateway.broken = lambda asked, reply: (
        put("data.0.owned_by", None)(reply) if is_there(asked, reply, "GET /v1/models 200") else reply
    )
    assert failed(gateway) == {"shape of models": "data[0].owned_by: expected string, not empty, got nothing"}
    gateway.broken = lambda asked, reply: (
        put("data", [])(reply) if is_there(asked, reply, "GET /v1/models 200") else reply
    )
    assert failed(gateway) == {"models": "the key sees other models than its spec says (missing: gpt-5, org/embed)"}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "expected the gateway's own, got the one that the client sent"),
        ("same", "expected another for each request, got the same"),
    ],
)
def test_request_ids(gateway: Gateway, given: str, reason: str) -> None:
    gateway.request_id = given
    assert failed(gateway) == {"request ids": f"header x-request-id: {reason}"}


def test_every_check_is_broken_by_some_test() -> None:
    elsewhere = {"models", "shape of models", "request ids"}
    assert {line[0] for line in BROKEN} | elsewhere == {question.name for question in PROFILES["contract"]}
