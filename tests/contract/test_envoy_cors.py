"""Web pages at a running gateway: what a browser asks first, and what it is told of answers and refusals."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from contract.gateway_process import Gateway, Provider, free_port, gateway, providers
from contract.test_envoy_changes import load
from contract.test_envoy_requests import CHAT, Answer, call, chat, until

PAGE = "https://app.example.com"
ALLOWED = "access-control-allow-origin"


@dataclass
class World:
    gateway: Gateway
    pages: int
    services: int
    alpha: Provider
    spec: dict[str, Any]

    def preflight(self, origin: str, port: int | None = None, path: str = CHAT) -> Answer:
        return call(
            port or self.pages,
            path,
            key=None,
            method="OPTIONS",
            origin=origin,
            access_control_request_method="POST",
            access_control_request_headers="authorization,content-type,x-stainless-lang",
        )

    def changed(self, **cors: Any) -> dict[str, Any]:
        spec = copy.deepcopy(self.spec)
        spec["gateway_listeners"]["pages"]["cors"] = cors
        return spec


@contextmanager
def loud_provider() -> Iterator[int]:
    """A provider that lets everybody in; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            for name, value in (
                ("content-type", "application/json"),
                ("content-length", "2"),
                ("access-control-allow-origin", "*"),
                ("access-control-allow-credentials", "true"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    pages, services = free_port(), free_port()
    with providers("alpha") as running, loud_provider() as loud:
        alpha = running["alpha"]
        origins = [PAGE, "https://*.example.org", "http://localhost:3000"]
        raw = {
            "gateway_listeners": {
                "pages": {"address": "127.0.0.1", "port": pages, "cors": {"allow_origins": origins}},
                "services": {"address": "127.0.0.1", "port": services},
            },
            "gateway_metrics": {"port": free_port()},
            "gateway_providers": {
                "alpha": {"type": "openai", "base_url": f"{alpha.url}/v1", "api_key": "env://ALPHA"},
                "loud": {"type": "openai_compatible", "base_url": f"http://127.0.0.1:{loud}/v1"},
            },
            "gateway_models": {
                "m": {"targets": [{"provider": "alpha", "model": "m"}]},
                "loud": {"targets": [{"provider": "loud", "model": "loud"}]},
                "other": {"targets": [{"provider": "alpha", "model": "other"}]},
            },
            "gateway_consumers": {
                "all": {"api_keys": ["env://ALL"], "models": ["*"]},
                "one": {"api_keys": ["env://ONE"], "models": ["m"]},
            },
        }
        with gateway(tmp_path_factory.mktemp("gateway"), raw) as started:
            yield World(started, pages, services, alpha, raw)


class TestPreflight:
    @pytest.mark.parametrize(
        "origin", [PAGE, "https://a.example.org", "https://a-1.b.example.org", "http://localhost:3000"]
    )
    def test_it_is_answered_without_a_key(self, world: World, origin: str) -> None:
        world.alpha.reset()
        answer = world.preflight(origin)
        assert answer.status == 200
        assert {name: value for name, value in answer.headers.items() if name.startswith("access-control-")} == {
            ALLOWED: origin,
            "access-control-allow-methods": "GET, POST, DELETE",
            "access-control-allow-headers": "authorization, api-key, content-type, *",
            "access-control-expose-headers": "*",
            "access-control-max-age": "600",
        }
        assert not answer.text
        assert not world.alpha.seen()

    @pytest.mark.parametrize("path", ["/v1/models", "/v1/files/x", "/healthz", "/"])
    def test_on_every_path(self, world: World, path: str) -> None:
        assert world.preflight(PAGE, path=path).headers[ALLOWED] == PAGE

    @pytest.mark.parametrize(
        "origin",
        [
            "https://evil.example",
            "https://app.example.com.evil.example",
            "https://xapp.example.com",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app-example.com",
            "https://example.org",
            "https://.example.org",
            "https://aexample.org",
            "https://a.exampleXorg",
            "https://evil.example/a.example.org",
            "https://evil.example#.example.org",
            "https://user@a.example.org",
            "https://a.example.org:1",
            "http://a.example.org",
            "HTTPS://APP.EXAMPLE.COM",
            "null",
            "*",
        ],
    )
    def test_other_origins_are_nobody(self, world: World, origin: str) -> None:
        answer = world.preflight(origin)
        assert answer.status == 401
        assert not [name for name in answer.headers if name.startswith("access-control-")]

    def test_another_listener_has_none(self, world: World) -> None:
        answer = world.preflight(PAGE, world.services)
        assert answer.status == 401
        assert ALLOWED not in answer.headers

    def test_options_that_are_no_question_of_a_browser(self, world: World) -> None:
        assert call(world.pages, key=None, method="OPTIONS", origin=PAGE).status == 401


class TestAnswers:
    def test_a_page_may_read_them(self, world: World) -> None:
        answer = call(world.pages, body=chat("m"), origin=PAGE)
        assert answer.status == 200
        assert answer.headers[ALLOWED] == PAGE
        assert answer.headers["access-control-expose-headers"] == "*"
        assert "access-control-allow-credentials" not in answer.headers

    def test_and_what_it_is_refused_with(self, world: World) -> None:
        answers = [
            call(world.pages, body=chat("m"), key="wrong", origin=PAGE),
            call(world.pages, body=chat("other"), key="sk-one", origin=PAGE),
            call(world.pages, body=chat("unknown"), origin=PAGE),
            call(world.pages, "/v1/nothing", body=chat("m"), origin=PAGE),
            call(world.pages, "/v1/nothing", key="sk-one", method="GET", origin=PAGE),
            call(world.pages, body=b"{", origin=PAGE),
        ]
        assert [(answer.status, answer.error["code"]) for answer in answers] == [
            (401, "invalid_api_key"),
            (403, "model_not_allowed"),
            (404, "model_not_found"),
            (404, "unknown_url"),
            (404, "unknown_url"),
            (400, "invalid_request"),
        ]
        assert {answer.headers.get(ALLOWED) for answer in answers} == {PAGE}

    def test_a_stream(self, world: World) -> None:
        answer = call(world.pages, body=chat("m", stream=True, x_chunks=3), origin=PAGE)
        assert answer.headers[ALLOWED] == PAGE
        assert answer.text.endswith("data: [DONE]\n\n")

    def test_the_list_of_models(self, world: World) -> None:
        answer = call(world.pages, "/v1/models", key="sk-one", method="GET", origin=PAGE)
        assert [model["id"] for model in answer.json["data"]] == ["m"]
        assert answer.headers[ALLOWED] == PAGE

    def test_no_origin_and_others(self, world: World) -> None:
        for headers in ({}, {"origin": "https://evil.example"}):
            answer = call(world.pages, body=chat("m"), **headers)
            assert answer.status == 200
            assert not [name for name in answer.headers if name.startswith("access-control-")]

    @pytest.mark.parametrize("origin", [PAGE, "https://evil.example"])
    def test_a_providers_word_does_not_count(self, world: World, origin: str) -> None:
        answer = call(world.pages, body=chat("loud"), origin=origin)
        assert answer.json == {}
        assert answer.headers.get(ALLOWED) == (PAGE if origin == PAGE else None)
        assert "access-control-allow-credentials" not in answer.headers


def test_no_provider_is_blamed(world: World) -> None:
    assert world.preflight("https://evil.example").status == 401
    unknown = call(world.pages, "/v1/nothing", method="GET", origin=PAGE)
    assert world.gateway.logged(unknown.headers)["http.response.status_code"] == 404
    assert "provider_failed" not in world.gateway.complaints()


def test_origins_change_without_a_listener_that_drains(world: World) -> None:
    modified = world.gateway.statistic("listener_manager.listener_modified")
    with load(lambda: call(world.pages, body=chat("m"), origin=PAGE)) as statuses:
        world.gateway.switch(world.changed(allow_origins=[PAGE, "https://new.example"], max_age="5m"))
        answer = world.preflight("https://new.example")
        assert answer.headers["access-control-max-age"] == "300"
        assert until(lambda: world.preflight("https://a.example.org"), 401).status == 401
        world.gateway.switch(world.spec)
    assert set(statuses) == {200}
    assert world.gateway.statistic("listener_manager.listener_modified") == modified


def test_it_comes_and_goes(world: World) -> None:
    without = copy.deepcopy(world.spec)
    del without["gateway_listeners"]["pages"]["cors"]
    with load(lambda: call(world.pages, body=chat("m"), origin=PAGE)) as statuses:
        world.gateway.switch(without)
        assert world.preflight(PAGE).status == 401
        world.gateway.switch(world.spec)
        assert world.preflight(PAGE).status == 200
    assert set(statuses) == {200}
