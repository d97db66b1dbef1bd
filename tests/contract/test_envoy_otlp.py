"""Traces and logs by OpenTelemetry's protocol: what the collector gets, and that nobody ever waits for it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from contract.certificates import Authority
from contract.collector import Collector, collector
from contract.gateway_process import Gateway, Provider, free_port, gateway, providers

KEY = "sk-team"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
COUNTED = "gen_ai.usage.input_tokens"
CONTEXT = ("traceparent", "tracestate", "baggage")


@dataclass
class World:
    gateway: Gateway
    port: int
    alpha: Provider
    raw: dict[str, Any]

    def ask(self, *, key: str = KEY, query: str = "", headers: dict[str, str] | None = None, **body: Any) -> str:
        """Ask, and return the id of the request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        given = {"authorization": f"Bearer {key}", "content-type": "application/json", **(headers or {})}
        text = json.dumps({"model": "m", "messages": [{"role": "user", "content": "canary-prompt"}], **body})
        connection.request("POST", f"/v1/chat/completions{query}", text, given)
        response = connection.getresponse()
        response.read()
        connection.close()
        return str(response.headers["x-request-id"])

    def rss(self) -> int:
        """Bytes of memory that Envoy has."""
        status = Path(f"/proc/{self.gateway.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@contextmanager
def world(folder: Path, otlp: dict[str, Any]) -> Iterator[World]:
    port = free_port()
    with providers("alpha") as running:
        alpha = running["alpha"]
        provider = {"type": "openai", "base_url": f"{alpha.url}/v1", "api_key": "env://ALPHA"}
        raw = {
            "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
            "gateway_metrics": {"port": free_port()},
            "gateway_providers": {"alpha": provider, "ours": provider},
            "gateway_models": {
                "m": {"targets": [{"provider": "alpha", "model": "m"}]},
                "renamed": {"targets": [{"provider": "alpha", "model": "other-name"}]},
                "ours": {"targets": [{"provider": "ours", "model": "ours"}]},
                "fallback": {
                    "targets": [{"provider": "alpha", "model": "fail-500"}],
                    "fallbacks": [{"provider": "ours", "model": "second"}],
                },
            },
            "gateway_consumers": {"team": {"api_keys": ["env://TEAM"], "models": ["*"]}},
            "gateway_otlp": otlp,
        }
        with gateway(folder, raw) as started:
            yield World(started, port, alpha, raw)


@dataclass
class Both:
    world: World
    collector: Collector


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("otlp")
    authority = Authority(folder, "collectors")
    with collector(authority.sign("collector", "127.0.0.1")) as running:
        otlp = {
            "endpoint": f"https://127.0.0.1:{running.port}/prefix",
            "headers": {"Authorization": "env://COLLECTOR", "x-tenant": "team-7"},
            "ca": str(authority.certificate),
            "traces": {"propagate_to": ["ours"]},
            "logs": True,
        }
        with world(folder / "gateway", otlp) as started:
            yield Both(started, running)


class TestTraces:
    def test_a_span_is_a_request(self, both: Both) -> None:
        request_id = both.world.ask(model="renamed")
        span = both.collector.span(request_id)
        assert (span["name"], span["kind"], span["parent"]) == ("chat renamed", "server", "")
        assert span["resource"]["service.name"] == "openai-gateway"
        found = span["attributes"]
        line = both.world.gateway.logged({"x-request-id": request_id})
        assert line["trace_id"] == span["trace_id"]
        assert {name: found[name] for name in found if name.startswith("gen_ai.")} == {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "renamed",
            "gen_ai.response.model": "other-name",
            "gen_ai.provider.name": "alpha",
            "gen_ai.usage.input_tokens": float(line[COUNTED]),
            "gen_ai.usage.output_tokens": 6.0,
            "gen_ai.usage.cache_read.input_tokens": float(line[COUNTED] // 2),
            "gen_ai.usage.reasoning.output_tokens": 3.0,
            "gen_ai.server.time_to_first_token_ms": found["gen_ai.server.time_to_first_token_ms"],
        }
        assert (found["consumer"], found["url.path"]) == ("team", "/v1/chat/completions")
        assert found["http.response.status_code"] == 200.0

    def test_a_stream_and_a_fallback(self, both: Both) -> None:
        span = both.collector.span(both.world.ask(model="fallback", stream=True, x_chunks=4, x_delay=0.05))
        assert span["name"] == "chat fallback"
        assert span["attributes"]["gen_ai.usage.output_tokens"] == 4.0
        assert span["attributes"]["attempts"] == 2.0
        assert span["attributes"]["gen_ai.provider.name"] == "ours"
        assert span["seconds"] > 0.15

    @pytest.mark.parametrize("model", ["m", "ours", "fallback"])
    def test_a_trace_goes_on_and_strangers_do_not_see_it(self, both: Both, model: str) -> None:
        both.world.alpha.reset()
        context = {"traceparent": f"{PARENT}-01", "tracestate": "vendor=1", "baggage": "user=alice"}
        span = both.collector.span(both.world.ask(model=model, headers=context))
        assert f"00-{span['trace_id']}-{span['parent']}" == PARENT
        seen = both.world.alpha.seen()
        if model == "fallback":
            stranger = seen.pop(0)
            assert not set(CONTEXT) & set(stranger["headers"])
        headers = seen[0]["headers"]
        if model == "m":
            assert not set(CONTEXT) & set(headers)
        else:
            assert headers["traceparent"].split("-")[1] == span["trace_id"]
            assert headers["traceparent"] != context["traceparent"]
            assert (headers["tracestate"], headers["baggage"]) == ("vendor=1", "user=alice")

    def test_what_never_got_in(self, both: Both) -> None:
        span = both.collector.span(both.world.ask(key="sk-canary-key", query="?api-key=canary-query"))
        assert span["attributes"]["http.response.status_code"] == 401.0
        assert "gen_ai.request.model" not in span["attributes"]

    def test_a_caller_that_does_not_trace_is_not_traced(self, both: Both) -> None:
        request_id = both.world.ask(headers={"traceparent": f"{PARENT}-00"})
        both.collector.log(request_id)
        both.collector.span(both.world.ask())
        assert request_id not in [span["attributes"]["request_id"] for span in both.collector.spans]


class TestLogs:
    def test_a_record_has_what_the_line_has(self, both: Both) -> None:
        request_id = both.world.ask(model="renamed")
        record = both.collector.log(request_id)
        line = both.world.gateway.logged({"x-request-id": request_id})
        assert record["body"] == "POST /v1/chat/completions"
        assert record["trace_id"] == line["trace_id"]
        # Envoy writes a header that is not there as it does in text.
        assert record["attributes"].pop("client_request_id") == "-"
        assert record["attributes"] == {
            name: str(value) for name, value in line.items() if value is not None and name not in ("time", "trace_id")
        }

    def test_health_checks_are_not_sent(self, both: Both) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", both.world.port, timeout=20)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
        both.collector.log(both.world.ask())
        assert not [record for record in both.collector.logs if record["attributes"]["url.path"] == "/healthz"]


class TestTheWayThere:
    def test_headers_and_paths(self, both: Both) -> None:
        request_id = both.world.ask()
        both.collector.span(request_id)
        both.collector.log(request_id)
        assert {path for path, _headers in both.collector.requests} == {"/prefix/v1/traces", "/prefix/v1/logs"}
        for _path, headers in both.collector.requests:
            assert headers["authorization"] == "Bearer sk-collector"
            assert headers["x-tenant"] == "team-7"

    def test_nothing_of_the_secret_is_in_the_release(self, both: Both) -> None:
        for file in both.world.gateway.active.files:
            assert b"sk-collector" not in file.content
            assert b"team-7" not in file.content

    def test_nothing_private_is_sent(self, both: Both) -> None:
        both.collector.span(both.world.ask(query="?api-key=canary-query", headers={"x-other": "canary-header"}))
        both.collector.span(both.world.ask(key="sk-canary-key", query="?api-key=canary-query"))
        assert b"chat" in both.collector.bytes
        for private in (b"canary", b"sk-team", b"sk-alpha"):
            assert private not in both.collector.bytes

    def test_a_header_is_rotated(self, both: Both) -> None:
        both.world.gateway.rotate(COLLECTOR="Basic new")
        try:
            time.sleep(0.5)
            both.collector.reset()
            both.collector.log(both.world.ask())
            assert both.collector.requests[-1][1]["authorization"] == "Basic new"
        finally:
            both.world.gateway.rotate()

    def test_envoy_has_nothing_to_complain_about(self, both: Both) -> None:
        both.collector.span(both.world.ask())
        both.world.gateway.complains("never")
        lines = both.world.gateway.complaints().splitlines()
        assert not [line for line in lines if "[error]" in line or "[warn" in line]


def test_a_stranger_with_a_certificate_of_its_own_gets_nothing(tmp_path: Path) -> None:
    right, wrong = Authority(tmp_path, "right"), Authority(tmp_path, "wrong")
    with collector(wrong.sign("collector", "127.0.0.1")) as running:
        otlp = {"endpoint": f"https://127.0.0.1:{running.port}", "ca": right.certificate.read_text(), "logs": True}
        with world(tmp_path / "gateway", otlp) as started:
            started.ask()
            until(lambda: statistic(started, "ssl.fail_verify_error") > 0)
            assert running.requests == []


def test_a_share_is_traced(tmp_path: Path) -> None:
    with collector() as running:
        otlp = {"endpoint": f"http://127.0.0.1:{running.port}", "traces": {"sampling": "0%"}, "service_name": "eu gw"}
        with world(tmp_path, otlp) as started:
            forced = {"x-client-trace-id": "1", "x-envoy-force-trace": "1", "x-request-id": "own"}
            for headers in ({}, forced):
                started.ask(headers=headers)
            span = running.span(started.ask(headers={"traceparent": f"{PARENT}-01"}))
            assert span["resource"]["service.name"] == "eu gw"
            assert len(running.spans) == 1


@pytest.mark.parametrize("trouble", ["nobody", "hangs", "slow", "errors"])
def test_nobody_waits_for_a_collector(tmp_path: Path, trouble: str) -> None:
    with collector() as running, socket.create_server(("127.0.0.1", 0)) as silent:
        running.delay = 2.0 if trouble == "slow" else 0.0
        running.status = 503 if trouble == "errors" else 200
        ports = {"nobody": free_port(), "hangs": silent.getsockname()[1]}
        otlp = {"endpoint": f"http://127.0.0.1:{ports.get(trouble, running.port)}", "traces": {}, "logs": True}
        with world(tmp_path, otlp) as started:
            many(started, 400)
            before = started.rss()
            slowest = many(started, 1600)
            assert slowest < 1.0
            # What is kept at most: some megabytes, whatever comes.
            assert started.rss() - before < 24 * 1024**2
            assert statistic(started, "upstream_rq_active") <= 32


def many(started: World, count: int) -> float:
    """Ask that often, by four at a time; returns the seconds of the slowest."""
    slowest: list[float] = []

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", started.port, timeout=20)
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        for _turn in range(count // 4):
            begin = time.monotonic()
            connection.request("POST", "/v1/chat/completions", b'{"model":"m","messages":[]}', headers)
            response = connection.getresponse()
            response.read()
            assert response.status == 200
            slowest.append(time.monotonic() - begin)
        connection.close()

    threads = [threading.Thread(target=ask) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(slowest) == count // 4 * 4
    return max(slowest)


def statistic(started: World, name: str) -> int:
    found = started.gateway.statistic(f"cluster.otlp_collector.{name}")
    return found if isinstance(found, int) else 0


def until(holds: Any) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)
