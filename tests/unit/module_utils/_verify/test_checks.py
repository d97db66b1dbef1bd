from __future__ import annotations

import gc
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import VerifyError
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.checks import report, run_checks
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.client import Endpoint
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.model import Check, Expectation

KEY = "sk-canary-1234"
EXPECTED = Expectation(
    models=("gpt-5", "text-embedding-3-small"),
    chat_model="gpt-5",
    embedding_model="text-embedding-3-small",
    forbidden_model="secret-model",
)


class Gateway:
    """A gateway that is right until a test makes it wrong."""

    def __init__(self) -> None:
        self.models = ["gpt-5", "text-embedding-3-small"]
        self.statuses: dict[str, int] = {}
        self.message = "no"
        self.events = ['{"choices": [{}]}', "[DONE]"]
        self.stalls = False
        self.chat: Any = {"choices": [{"message": {"content": "ready"}}]}
        self.embedding: Any = {"data": [{"embedding": [0.1]}]}
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                if self.path == "/healthz":
                    self.answer(gateway.statuses.get("health", 200), {})
                elif self.headers["authorization"] != "Bearer " + KEY:
                    self.answer(gateway.statuses.get("wrong key", 401), {"error": {"message": gateway.message}})
                else:
                    self.answer(200, {"object": "list", "data": [{"id": name} for name in gateway.models]})

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                error = {"error": {"message": gateway.message}}
                if request["model"] == "secret-model":
                    self.answer(gateway.statuses.get("forbidden", 403), error)
                elif request["model"] not in ("gpt-5", "text-embedding-3-small"):
                    self.answer(gateway.statuses.get("unknown", 404), error)
                elif self.path == "/v1/embeddings":
                    self.answer(200, gateway.embedding)
                elif request.get("stream") and gateway.events:
                    self.send_response(200)
                    self.send_header("content-type", "text/event-stream; charset=utf-8")
                    self.end_headers()
                    for event in gateway.events:
                        self.wfile.write(f"data: {event}\n\n".encode())
                    if gateway.stalls:
                        self.wfile.flush()
                        gateway.released.wait(10)
                else:
                    self.answer(
                        gateway.statuses.get("chat", 200), gateway.chat if "chat" not in gateway.statuses else error
                    )

            def answer(self, status: int, body: Any) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self.released = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    served = Gateway()
    yield served
    served.close()


def failed(gateway: Gateway, expected: Expectation = EXPECTED, timeout: float = 5.0) -> dict[str, str]:
    checks = run_checks(Endpoint(gateway.url, timeout=timeout), KEY, expected)
    return {check.name: check.reason for check in checks if not check.ok}


def test_a_right_gateway_passes_every_check(gateway: Gateway) -> None:
    checks = run_checks(Endpoint(gateway.url), KEY, EXPECTED)
    assert [check.name for check in checks] == [
        "healthy",
        "models",
        "chat completion",
        "stream",
        "embeddings",
        "wrong key",
        "forbidden model",
        "unknown model",
    ]
    assert all(check.ok and not check.skipped and check.reason == "" and check.seconds >= 0 for check in checks)
    assert report(checks, gateway.url) == {
        "changed": False,
        "url": gateway.url,
        "checks": [check.as_dict() for check in checks],
    }


def test_what_the_spec_does_not_have_is_skipped_and_says_why(gateway: Gateway) -> None:
    checks = run_checks(Endpoint(gateway.url), KEY, Expectation(EXPECTED.models, None, None, None))
    skipped = {check.name: check.reason for check in checks if check.skipped}
    assert skipped == {
        "chat completion": "the key may use no model for chat",
        "stream": "the key may use no model for chat",
        "embeddings": "no model that the key may use looks like one for embeddings",
        "forbidden model": "the key may use every model",
    }
    assert all(check.ok for check in checks)


def test_models_are_compared_exactly(gateway: Gateway) -> None:
    gateway.models = ["gpt-5", *(f"extra-{number}" for number in range(8))]
    assert failed(gateway) == {
        "models": "the key sees other models than its spec says (missing: text-embedding-3-small; "
        "not expected: extra-0, extra-1, extra-2, extra-3, extra-4 and 3 more)"
    }


@pytest.mark.parametrize(
    ("part", "status", "name", "reason"),
    [
        ("health", 503, "healthy", "status 503, expected 200"),
        ("wrong key", 200, "wrong key", "status 200, expected 401: no"),
        ("forbidden", 200, "forbidden model", "status 200, expected 403: no"),
        ("unknown", 503, "unknown model", "status 503, expected 404: no"),
        ("chat", 429, "chat completion", "status 429, expected 200: no"),
    ],
)
def test_another_status_fails_its_own_check_only(
    gateway: Gateway, part: str, status: int, name: str, reason: str
) -> None:
    gateway.statuses[part] = status
    assert failed(gateway) == {name: reason}


def test_a_stream_has_to_end_as_one(gateway: Gateway) -> None:
    gateway.events = ["{}", "{}"]
    assert failed(gateway) == {"stream": "the stream ended after 2 events without [DONE]"}
    gateway.events = ["[DONE]"]
    assert failed(gateway) == {"stream": "the stream was empty"}
    gateway.events = []
    assert failed(gateway) == {"stream": "the answer is not a stream (content type 'application/json')"}


def test_a_stream_that_stalls_is_given_up(gateway: Gateway) -> None:
    gateway.events, gateway.stalls = ["{}"], True
    assert failed(gateway, timeout=0.3) == {"stream": "no answer within 0.3 s"}


def test_no_connection_is_left_open(gateway: Gateway) -> None:
    """A stream is not read beyond its end. What is forgotten open is a warning, and so an error here."""
    assert failed(gateway) == {}
    gc.collect()


def test_answers_of_another_shape(gateway: Gateway) -> None:
    gateway.chat, gateway.embedding = {"choices": []}, {"data": [{}]}
    assert failed(gateway) == {
        "chat completion": "the answer is no chat completion",
        "embeddings": "the answer holds no embedding",
    }


def test_an_answer_that_repeats_the_key_does_not_pass_it_on(gateway: Gateway) -> None:
    gateway.statuses["chat"] = 400
    gateway.message = f"bad key {KEY} " + "x" * 500
    (reason,) = failed(gateway).values()
    assert reason.startswith("status 400, expected 200: bad key *** xxx")
    assert len(reason) < 250
    assert KEY not in reason


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        checks = run_checks(Endpoint(url), KEY, EXPECTED)
    assert {check.reason for check in checks} == {f"{url}: Connection refused"}
    result = report(checks, url)
    assert result["failed"]
    assert result["msg"].splitlines() == [
        f"8 of 8 checks of {url} failed:",
        "  healthy, models, chat completion, stream, embeddings, wrong key, forbidden model, unknown model: "
        f"{url}: Connection refused",
    ]


def test_it_connects_to_the_address_and_names_the_url(gateway: Gateway) -> None:
    url = gateway.url.replace("127.0.0.1", "gateway.example")
    checks = run_checks(Endpoint(url, address="127.0.0.1"), KEY, EXPECTED)
    assert [check for check in checks if not check.ok] == []


@pytest.mark.parametrize(
    "url", ["gateway.example", "ftp://gateway.example", "http://", "http://a:99999", "http://a/v1"]
)
def test_what_is_no_url_is_said_once(url: str) -> None:
    with pytest.raises(VerifyError, match="is not the URL of a gateway"):
        run_checks(Endpoint(url), KEY, EXPECTED)


def test_a_check_is_plain_data() -> None:
    check = Check("healthy", ok=True, skipped=False, seconds=0.1, reason="")
    assert check.as_dict() == {
        "name": "healthy",
        "ok": True,
        "skipped": False,
        "seconds": 0.1,
        "reason": "",
        "paid": False,
    }
