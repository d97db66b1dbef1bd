"""Providers behind a forward proxy: what it is asked for, what it never sees, and what becomes of a refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from contract.certificates import Authority
from contract.gateway_process import Gateway, Provider, free_port, gateway
from contract.network import ForwardProxy, Handshake, TlsFront
from contract.test_envoy_changes import load
from contract.test_envoy_requests import Answer, call, chat


@dataclass
class World:
    gateway: Gateway
    raw: dict[str, Any]
    providers: dict[str, Provider]
    front: TlsFront
    proxy: ForwardProxy
    other_proxy: ForwardProxy

    def ask(self, model: str, **extra: object) -> Answer:
        return call(self.raw["gateway_listeners"]["local"]["port"], body=chat(model, **extra))

    def asked_for(self) -> set[str]:
        return {head.split("\r\n")[0] for head in self.proxy.seen}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("gateway")
    authority = Authority(folder, "ca")
    with ExitStack() as stack:
        up = {"secure": Provider("secure", "--api-key", "sk-secure"), "plain": Provider("plain")}
        for provider in up.values():
            stack.callback(provider.stop)
        front = stack.enter_context(TlsFront(up["secure"].port, authority.sign("secure", "api.invalid", "b.invalid")))
        places = {"api.invalid:443": front.port, "b.invalid:8443": front.port, "plain.invalid:80": up["plain"].port}
        # Nothing resolves these names but the proxy.
        proxy = stack.enter_context(ForwardProxy(places))
        other_proxy = stack.enter_context(ForwardProxy({"api.invalid:443": front.port}))
        through = {"type": "openai_compatible", "proxy": f"http://localhost:{proxy.port}"}
        providers = {
            "secure": {**through, "base_url": "https://api.invalid/v1", "api_key": "env://SECURE"},
            "several": {
                **through,
                "base_url": ["https://api.invalid/v1", "https://b.invalid:8443/v1"],
                "api_key": "env://SECURE",
            },
            "plain": {**through, "base_url": "http://plain.invalid/v1"},
            "unknown": {**through, "base_url": "https://unknown.invalid/v1"},
            "unknown-plain": {**through, "base_url": "http://unknown.invalid/v1"},
            "no-proxy": {**through, "base_url": "https://api.invalid/v1", "proxy": f"http://127.0.0.1:{free_port()}"},
        }
        raw = {
            "gateway_listeners": {"local": {"address": "127.0.0.1", "port": free_port()}},
            "gateway_metrics": {"port": free_port()},
            "gateway_providers": providers,
            "gateway_models": {
                **{name: {"targets": [{"provider": name, "model": "m"}]} for name in providers},
                **{
                    f"{name}-falls-back": {
                        "targets": [{"provider": name, "model": "m"}],
                        "fallbacks": [{"provider": "plain", "model": "m"}],
                    }
                    for name in ("unknown", "unknown-plain", "no-proxy")
                },
            },
            "gateway_consumers": {"all": {"api_keys": ["env://ALL"], "models": ["*"]}},
        }
        started = stack.enter_context(gateway(folder, raw, ca_file=str(authority.certificate)))
        yield World(started, raw, up, front, proxy, other_proxy)


@pytest.fixture(autouse=True)
def forget(world: World) -> None:
    for provider in world.providers.values():
        provider.reset()


def test_tls_passes_through_it(world: World) -> None:
    assert world.ask("secure").json["system_fingerprint"] == "secure"
    assert "CONNECT api.invalid:443 HTTP/1.1" in world.asked_for()
    assert world.front.seen[-1] == Handshake("api.invalid", None)
    (seen,) = world.providers["secure"].seen()
    assert seen["headers"]["host"] == "api.invalid"
    assert seen["headers"]["authorization"] == "Bearer sk-secure"
    assert not any("sk-" in head or "hello" in head for head in world.proxy.seen)


def test_plain_http_is_a_tunnel_as_well(world: World) -> None:
    assert world.ask("plain").json["system_fingerprint"] == "plain"
    assert "CONNECT plain.invalid:80 HTTP/1.1" in world.asked_for()
    (seen,) = world.providers["plain"].seen()
    assert seen["path"] == "/v1/chat/completions"
    assert "proxy-connection" not in seen["headers"]


def test_several_names(world: World) -> None:
    assert {world.ask("several").status for _turn in range(20)} == {200}
    assert {"CONNECT api.invalid:443 HTTP/1.1", "CONNECT b.invalid:8443 HTTP/1.1"} <= world.asked_for()
    assert {"api.invalid", "b.invalid"} <= {seen.server_name for seen in world.front.seen}


def test_a_tunnel_serves_many_requests(world: World) -> None:
    before = len(world.proxy.seen)
    assert {world.ask("plain").status for _turn in range(20)} == {200}
    assert len(world.proxy.seen) - before <= 3


def test_a_stream_and_a_long_silence(world: World) -> None:
    assert world.ask("secure", stream=True, x_chunks=3, x_delay=1.5).text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("model", ["unknown", "unknown-plain", "no-proxy"])
def test_a_way_that_is_closed(world: World, model: str) -> None:
    answer = world.ask(model)
    assert (answer.status, answer.error["code"]) == (503, "unavailable")


@pytest.mark.parametrize("model", ["unknown", "unknown-plain", "no-proxy"])
def test_a_fallback_serves_then(world: World, model: str) -> None:
    assert world.ask(f"{model}-falls-back").json["system_fingerprint"] == "plain"


def test_another_proxy_without_a_lost_request(world: World) -> None:
    other = json.loads(json.dumps(world.raw))
    other["gateway_providers"]["secure"]["proxy"] = f"http://127.0.0.1:{world.other_proxy.port}"
    with load(lambda: world.ask("secure")) as statuses:
        world.gateway.switch(other)
        world.gateway.switch(world.raw)
        world.gateway.switch(other)
    assert set(statuses) == {200}
    before = len(world.proxy.seen)
    assert world.other_proxy.seen
    assert world.ask("secure").status == 200
    assert len(world.proxy.seen) == before
