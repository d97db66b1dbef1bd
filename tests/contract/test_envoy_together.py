"""A gateway that uses all of it at once: what its parts promise holds beside the others, and while they come and go."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from contract.certificates import Authority
from contract.collector import Collector, collector
from contract.gateway_process import MESSAGES, UPSTREAM, Gateway, Provider, free_port, host_below
from contract.network import ForwardProxy, TlsFront
from contract.test_envoy_changes import load
from contract.test_envoy_paths import sound
from contract.test_envoy_requests import Answer, call, chat
from contract.tokens import Key, claims, key_set

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._release import admin

ISSUER = "https://sso.example.com"
PAGE = "https://app.example.com"
INTERNAL = (
    *(xds.CONSUMER, xds.ACCESS, xds.MODEL, xds.DEPLOYMENT, xds.ENDPOINT, xds.WITHOUT, xds.RATE, xds.LIMIT),
    *(xds.SPENT_LIMIT, xds.PARAM, f"{xds.HEADER_PREFIX}nowhere", f"{xds.TOKENS}rate", f"{xds.TOKENS}consumer"),
    *(f"{xds.TOKENS}{what}-{kind}" for what in ("take", "owes") for kind in ("consumer-model", "consumer", "model")),
    f"{xds.TOKENS}model",
)


class OddProvider:
    """A provider whose answers have every header that the gateway uses within itself."""

    def __init__(self) -> None:
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(outer.status)
                for name in INTERNAL:
                    self.send_header(name, "1")
                for name in ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"):
                    self.send_header(name, "7")
                self.send_header("content-type", "application/json")
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class World:
    gateway: Gateway
    port: int
    providers: dict[str, Provider]
    proxy: ForwardProxy
    collector: Collector
    key: Key
    odd: OddProvider
    raw: dict[str, Any]

    def token(self, name: str = "web") -> str:
        return self.key.token(claims(ISSUER, client_id=f"service-{name}"))

    def ask(self, model: str, key: str | None = None, *, port: int | None = None, **extra: Any) -> Answer:
        return call(port or self.port, body=chat(model, **extra), key=key or self.token())

    def prompts(self, answer: Answer) -> dict[str, Any]:
        """What was written of a prompt."""
        self.gateway.logged(answer.headers)
        lines = map(json.loads, Path(self.gateway.host.log_dir, "prompts.jsonl").read_text().splitlines())
        (found,) = [line for line in lines if line["request_id"] == answer.headers["x-request-id"]]
        return dict(found)

    def internal_headers(self) -> list[str]:
        seen = [request for provider in self.providers.values() for request in provider.seen()]
        return [name for request in seen for name in request["headers"] if name.startswith(xds.HEADER_PREFIX)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("gateway")
    authority, clients, key = Authority(folder, "ca"), Authority(folder, "clients"), Key("one")
    port = free_port()
    with ExitStack() as stack:
        up = {
            name: Provider(name, "--api-key", f"sk-{name}", program=MESSAGES if name == "claude" else UPSTREAM)
            for name in ("alpha", "claude", "hidden")
        }
        for provider in up.values():
            stack.callback(provider.stop)
        front = TlsFront(up["hidden"].port, authority.sign("hidden", "llm.internal"), clients.certificate)
        stack.enter_context(front)
        proxy = stack.enter_context(ForwardProxy({"hidden.invalid:443": front.port}))
        told = stack.enter_context(collector())
        odd = OddProvider()
        stack.callback(odd.stop)
        certificate, private_key = clients.sign("gateway", "gateway")
        raw = {
            "gateway_listeners": {
                "public": {
                    "address": "127.0.0.1",
                    "port": port,
                    "cors": {"allow_origins": [PAGE]},
                },
            },
            "gateway_metrics": {"port": free_port()},
            "gateway_size": {"concurrency": 1},
            "gateway_providers": {
                "alpha": {
                    "type": "openai",
                    "base_url": f"{up['alpha'].url}/v1",
                    "api_key": "env://ALPHA",
                    "headers": {"OpenAI-Project": "proj-1"},
                },
                "silent": {
                    "type": "openai_compatible",
                    "base_url": f"{up['alpha'].url}/v1",
                    "api_key": "env://ALPHA",
                    "stream_usage": "as_is",
                    "health_check": {"path": "/_seen"},
                },
                "claude": {
                    "type": "anthropic",
                    "base_url": f"{up['claude'].url}/v1",
                    "api_key": "env://CLAUDE",
                    "headers": {"anthropic-beta": "context-1m", "x-team": "web"},
                },
                "odd": {"type": "openai_compatible", "base_url": f"http://127.0.0.1:{odd.port}/v1"},
                "claudes": {
                    "type": "anthropic",
                    "base_url": [f"http://127.0.0.1:{port}/v1" for port in (up["claude"].port, free_port())],
                    "api_key": "env://CLAUDE",
                },
                "hidden": {
                    "type": "openai_compatible",
                    "base_url": "https://hidden.invalid/v1",
                    "api_key": "env://HIDDEN",
                    "proxy": f"http://127.0.0.1:{proxy.port}",
                    "tls": {
                        "ca": authority.certificate.read_text(),
                        "server_name": "llm.internal",
                        "certificate": certificate.read_text(),
                        "private_key": "env://CLIENT_KEY",
                    },
                },
            },
            "gateway_models": {
                "plain": {"targets": [{"provider": "alpha", "model": "plain"}]},
                "silent": {"targets": [{"provider": "silent", "model": "silent"}]},
                "claude": {"targets": [{"provider": "claude", "model": "claude-1"}]},
                "odd": {"targets": [{"provider": "odd", "model": "odd"}]},
                "odd-first": {
                    "targets": [{"provider": "odd", "model": "odd"}],
                    "fallbacks": [{"provider": "odd", "model": "odder"}],
                },
                "two-addresses": {"targets": [{"provider": "claudes", "model": "claude-1"}]},
                "hidden": {"targets": [{"provider": "hidden", "model": "hidden-1"}]},
                "all": {
                    "targets": [{"provider": "alpha", "model": "fail-500"}],
                    "fallbacks": [{"provider": "hidden", "model": "fail-503"}, {"provider": "claude", "model": "c"}],
                    "retries": {"attempts": 2, "max_wait": "5s"},
                    "limits": {"tokens_per_minute": 500000, "requests_per_minute": 100000},
                },
            },
            "gateway_endpoints": {
                "files": {"provider": "alpha"},
                "batches": {"provider": "hidden"},
                "fine_tuning": {"provider": "odd"},
            },
            "gateway_jwt_issuers": {
                "sso": {"issuer": ISSUER, "audiences": ["gateway"], "jwks": "env://JWKS", "claim": "client_id"}
            },
            "gateway_consumers": {
                name: {
                    "jwt": {"issuer": "sso", "value": f"service-{name}"},
                    "models": ["*"],
                    "endpoints": ["files", "batches", "fine_tuning"],
                    "limits": {
                        "requests_per_minute": 100000,
                        "tokens_per_minute": 60000,
                        "models": {"claude": {"tokens_per_minute": 6000}},
                    },
                }
                for name in ("web", "one", "two", "three", "four")
            },
            "gateway_otlp": {
                "endpoint": f"http://127.0.0.1:{told.port}",
                "headers": {"authorization": "env://OTLP"},
                "traces": {"propagate_to": ["alpha"]},
                "logs": True,
            },
            "gateway_prompt_log": {
                "consumers": ["*"],
                "until": (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
        }
        values = {"env://JWKS": key_set(key), "env://CLIENT_KEY": private_key.read_text()}
        running = Gateway(folder, host_below(folder))
        running.values = values
        stack.callback(running.stop)
        running.start(raw)
        yield World(running, port, up, proxy, told, key, odd, raw)


@pytest.fixture(autouse=True)
def forget(world: World) -> None:
    for provider in world.providers.values():
        provider.reset()


@pytest.mark.parametrize("model", ["plain", "silent", "claude", "hidden", "all"])
@pytest.mark.parametrize("stream", [False, True])
def test_every_way(world: World, model: str, stream: bool) -> None:
    """To each provider, with a token: served, counted, charged, written down, and told to the collector."""
    token = world.token("one" if stream else "two")
    answer = world.ask(model, token, stream=stream)
    assert answer.status == 200, answer
    line = world.gateway.logged(answer.headers)
    assert line["consumer"] == ("one" if stream else "two")
    assert (line["gen_ai.usage.output_tokens"] is None) == (stream and model == "silent")
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) > 0
    assert not [name for name in answer.headers if name.startswith(("x-gw-", "x-envoy-"))]
    assert world.internal_headers() == []
    written = world.prompts(answer)
    assert "hello" in written["request.body"]
    assert written["response.text" if stream else "response.body"]
    span = world.collector.span(answer.headers["x-request-id"])
    assert span["attributes"]["consumer"] == line["consumer"]
    assert world.collector.log(answer.headers["x-request-id"])["trace_id"] == span["trace_id"]
    for secret in (token, token.split(".")[1], token.split(".")[2], "hello"):
        assert secret.encode() not in world.collector.bytes
    seen = {name: provider.seen() for name, provider in world.providers.items()}
    for name, requests in seen.items():
        for request in requests:
            credential = request["headers"].get("x-api-key" if name == "claude" else "authorization", "")
            assert credential.removeprefix("Bearer ") == f"sk-{name}"
            assert token not in json.dumps(request)
            assert ("traceparent" in request["headers"]) == (name == "alpha" and model != "silent")
    if model == "all":
        assert [len(seen[name]) for name in ("alpha", "hidden", "claude")] == [1, 1, 1]


def test_a_providers_headers_beside_those_of_its_api(world: World) -> None:
    assert world.ask("claude").status == 200
    (seen,) = world.providers["claude"].seen()
    wanted = {"anthropic-beta": "context-1m", "anthropic-version": "2023-06-01", "x-team": "web"}
    assert wanted.items() <= seen["headers"].items()
    call(world.port, body=chat("claude"), key=world.token(), anthropic_beta="evil", x_team="evil")
    assert wanted.items() <= world.providers["claude"].seen()[-1]["headers"].items()


def test_tokens_of_a_translated_answer_are_charged(world: World) -> None:
    token = world.token("three")
    for stream in (False, True):
        before = world.ask("claude", token)
        world.ask("claude", token, stream=stream, messages=[{"role": "user", "content": "Hi\nrepeat 200"}])
        after = world.ask("claude", token)
        spent = int(before.headers["x-ratelimit-remaining-tokens"]) - int(after.headers["x-ratelimit-remaining-tokens"])
        assert 900 < spent < 1500


def test_a_translated_answer_over_the_limit(world: World) -> None:
    token = world.token("four")
    messages = [{"role": "user", "content": "Hi\nrepeat 2000"}]
    assert world.ask("claude", token, stream=True, messages=messages).status == 200
    refused = world.ask("claude", token)
    assert (refused.status, refused.error["type"], refused.error["code"]) == (429, "tokens", "rate_limit_exceeded")
    assert int(refused.headers["retry-after"]) > 0
    assert world.ask("plain", token).status == 200


def test_a_last_provider_of_another_api_is_asked_again(world: World) -> None:
    world.providers["claude"].control(status=500)
    assert world.ask("all").status == 500
    seen = world.providers["claude"].seen()
    assert len(seen) == 3
    assert len({(request["path"], request["body"], request["headers"]["x-api-key"]) for request in seen}) == 1


def test_another_address_of_another_api(world: World) -> None:
    """The one that does not answer is asked first, or second."""
    for _turn in range(8):
        assert world.ask("two-addresses").status == 200


def test_what_cannot_be_translated_goes_to_the_others(world: World) -> None:
    answer = world.ask("all", n=2)
    assert answer.status == 503
    assert world.providers["claude"].seen() == []


def test_forms(world: World) -> None:
    answer = call(
        world.port,
        "/v1/audio/transcriptions",
        sound("plain"),
        key=world.token(),
        content_type="multipart/form-data; boundary=b0undary",
    )
    assert answer.status == 200
    assert world.internal_headers() == []
    lines = Path(world.gateway.host.log_dir, "prompts.jsonl")
    world.gateway.logged(answer.headers)
    assert answer.headers["x-request-id"] not in (lines.read_text() if lines.exists() else "")
    refused = call(
        world.port,
        "/v1/audio/transcriptions",
        sound("claude"),
        key=world.token(),
        content_type="multipart/form-data; boundary=b0undary",
    )
    assert (refused.status, refused.error["param"]) == (400, "model")


def test_endpoints(world: World) -> None:
    for path, provider in (("/v1/files", "alpha"), ("/v1/batches", "hidden")):
        answer = call(world.port, path, key=world.token(), method="GET")
        assert answer.status == 200, answer
        assert not [name for name in answer.headers if "ratelimit-limit-tokens" in name or name.startswith("x-gw-")]
        (seen,) = world.providers[provider].seen()
        assert seen["headers"]["authorization"] == f"Bearer sk-{provider}"
        assert world.collector.span(answer.headers["x-request-id"])["attributes"]["url.path"] == path
        assert ("openai-project" in seen["headers"]) == (provider == "alpha")


def test_a_page_asks_before_it_shows_a_token(world: World) -> None:
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization"}
    answer = call(world.port, key=None, method="OPTIONS", origin=PAGE, **asked)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    answer = call(world.port, body=chat("plain"), key=world.token(), origin=PAGE)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    assert answer.headers["access-control-expose-headers"] == "*"


@pytest.mark.parametrize("name", INTERNAL)
def test_no_client_sets_an_internal_header(world: World, name: str) -> None:
    for value in ("yes", "batches", "anthropic", "0", "999999999", "two"):
        for model in ("plain", "claude"):
            answer = call(world.port, body=chat(model), key=world.token(), **{name: value})
            assert answer.status == 200, (value, answer)
            assert world.gateway.logged(answer.headers)["consumer"] == "web"
    assert world.internal_headers() == []
    assert call(world.port, body=chat("plain"), key=None, **{name: "web"}).status == 401
    assert call(world.port, "/v1/evals", key=world.token(), method="GET", **{name: "files"}).status == 404


@pytest.mark.parametrize("status", [200, 402, 429])
def test_what_a_provider_says_in_internal_headers(world: World, status: int) -> None:
    """Such as a refusal by a limit on tokens, which would be given back."""
    world.odd.status = status
    no_model = call(world.port, "/v1/fine_tuning/jobs", b"{}", key=world.token())
    for answer in (world.ask("odd"), world.ask("odd-first"), no_model):
        assert answer.status == status
        ours = [name for name in answer.headers if name.startswith(xds.HEADER_PREFIX)]
        assert not [*ours, *({"x-ratelimit-limit", "x-ratelimit-remaining"} & set(answer.headers))]
        assert answer is no_model or answer.headers["x-ratelimit-limit-tokens"] == "60000"
        assert "retry-after" not in answer.headers


#: One thing that is different, and serves the same: where, and the value (None: without it).
CHANGES: dict[str, tuple[tuple[str, ...], Any]] = {
    "headers": (("gateway_providers", "alpha", "headers"), {"x-other": "1"}),
    "no headers": (("gateway_providers", "claude", "headers"), None),
    "open requests of a provider": (("gateway_providers", "alpha", "concurrent_requests"), 50),
    "open requests of a model": (("gateway_models", "hidden", "limits"), {"concurrent_requests": 50}),
    "no limits": (("gateway_consumers", "web", "limits"), None),
    "other tokens": (("gateway_consumers", "web", "limits", "tokens_per_minute"), 50000000),
    "no limit of a model": (("gateway_models", "all", "limits"), None),
    "no retries": (("gateway_models", "all", "retries"), None),
    "health check": (("gateway_providers", "alpha", "health_check"), {"path": "/_seen"}),
    "no health check": (("gateway_providers", "silent", "health_check"), None),
    "asked for usage": (("gateway_providers", "silent", "stream_usage"), "ask"),
    "endpoint": (("gateway_endpoints", "batches", "provider"), "alpha"),
    "longest answer": (("gateway_providers", "claude", "max_tokens"), 100),
    "whose token": (("gateway_consumers", "four", "jwt", "value"), "another"),
    "fewer consumers": (("gateway_consumers", "four"), None),
    "whose prompts": (("gateway_prompt_log", "consumers"), ["four"]),
    "collector": (("gateway_otlp",), None),
    "prompts": (("gateway_prompt_log",), None),
    "audience": (("gateway_jwt_issuers", "sso", "audiences"), ["gateway", "other"]),
}


def changed(raw: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    found: dict[str, Any] = copy.deepcopy(raw)
    place = found
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return found


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_while_all_is_asked_for(world: World, what: str) -> None:
    token = world.token()
    asks = [slowly(world, name, token) for name in ("plain", "claude", "hidden", "all")]
    with load(*asks) as statuses:
        for spec in (changed(world.raw, *CHANGES[what]), world.raw):
            world.gateway.switch(spec)
            time.sleep(0.2)
    assert set(statuses) == {200}, statuses
    assert world.internal_headers() == []


def slowly(world: World, model: str, token: str) -> Any:
    """Ask some times a second, which limits on tokens let in."""

    def run() -> Answer:
        time.sleep(0.05)
        return world.ask(model, token)

    return run


def test_nothing_that_is_secret_is_anywhere(world: World) -> None:
    """In no log, no release and no answer of Envoy's own."""
    token = world.token()
    assert world.ask("all", token).status in (200, 503)
    admin.ask(world.gateway.socket, "/reopen_logs", "POST")
    time.sleep(0.2)
    paths = ("/config_dump", "/stats", "/clusters", "/certs", "/listeners")
    places = {path: admin.ask(world.gateway.socket, path) for path in paths}
    for top in (world.gateway.host.log_dir, world.gateway.host.releases):
        for file in Path(top).rglob("*"):
            if file.is_file():
                places[str(file)] = file.read_text()
    places["envoy.log"] = world.gateway.log.read_text()
    secrets = ["sk-alpha", "sk-claude", "sk-hidden", "sk-otlp", token.split(".")[2], "PRIVATE KEY"]
    assert [(secret, place) for place, content in places.items() for secret in secrets if secret in content] == []
