"""TLS to providers: CAs of one's own, certificates for them, and what gets through when one is missing: nothing."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from contract.certificates import Authority
from contract.gateway_process import Gateway, Provider, free_port, gateway, host_below
from contract.network import Handshake, TlsFront
from contract.test_envoy_requests import Answer, call, chat, replace


@dataclass
class World:
    gateway: Gateway
    port: int
    raw: dict[str, Any]
    providers: dict[str, Provider]
    fronts: dict[str, TlsFront]
    clients: Authority

    def ask(self, model: str, **extra: object) -> Answer:
        return call(self.port, body=chat(model, **extra))

    def handshakes(self, front: str) -> list[Handshake]:
        return self.fronts[front].seen

    def nobody_was_asked(self) -> bool:
        return not any(provider.seen() for provider in self.providers.values())


def text(pair: tuple[Path, Path]) -> dict[str, str]:
    return {"certificate": pair[0].read_text(), "private_key": pair[1].read_text()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("gateway")
    public, servers, clients = (Authority(folder, name) for name in ("public", "servers", "clients"))
    one, other = clients.sign("client-one", "client-one"), clients.sign("client-other", "client-other")
    certificate = servers.sign("vllm", "vllm.internal")
    with ExitStack() as stack:
        up = {name: Provider(name) for name in ("one", "other")}
        fronts = {}
        for name, provider in up.items():
            stack.callback(provider.stop)
            front = TlsFront(provider.port, certificate, clients.certificate)
            fronts[name] = stack.enter_context(front)
        addressed = TlsFront(up["one"].port, servers.sign("address", "127.0.0.1"))
        fronts["addressed"] = stack.enter_context(addressed)

        def behind(front: str, **tls: str) -> dict[str, Any]:
            url = f"https://127.0.0.1:{fronts[front].port}/v1"
            return {"type": "openai_compatible", "base_url": url, "tls": tls}

        named = {"server_name": "vllm.internal"}
        on_host = {**named, "ca": str(servers.certificate), "certificate": str(one[0]), "private_key": str(one[1])}
        written = {**named, "ca": servers.certificate.read_text(), **text(one)}
        providers = {
            "on-host": behind("one", **on_host),
            "written": behind("one", **written),
            "other": behind("other", **{**written, **text(other)}),
            "addressed": behind("addressed", ca=str(servers.certificate)),
            "two-addresses": {
                **behind("one", **on_host),
                "base_url": [f"https://127.0.0.1:{fronts[name].port}/v1" for name in ("one", "other")],
            },
            "no-certificate": behind("one", **named, ca=str(servers.certificate)),
            "public-ca": behind("one", **named, **text(one)),
            "other-ca": behind("one", **{**written, "ca": clients.certificate.read_text()}),
            "other-name": behind("one", **{**written, "server_name": "other.internal"}),
            "no-name": behind("one", **{key: value for key, value in written.items() if key != "server_name"}),
        }
        raw: dict[str, Any] = {
            "gateway_listeners": {"local": {"address": "127.0.0.1", "port": free_port()}},
            "gateway_metrics": {"port": free_port()},
            "gateway_providers": providers,
            "gateway_models": {
                **{name: {"targets": [{"provider": name, "model": "m"}]} for name in providers},
                "falls-back": {
                    "targets": [{"provider": "written", "model": "fail-500"}],
                    "fallbacks": [{"provider": "other", "model": "m"}],
                },
            },
            "gateway_consumers": {"all": {"api_keys": ["env://ALL"], "models": ["*"]}},
        }
        started = stack.enter_context(gateway(folder, raw, ca_file=str(public.certificate)))
        yield World(started, raw["gateway_listeners"]["local"]["port"], raw, up, fronts, clients)


@pytest.fixture(autouse=True)
def forget(world: World) -> None:
    for provider in world.providers.values():
        provider.reset()
    for front in world.fronts.values():
        front.seen.clear()


@pytest.mark.parametrize("model", ["on-host", "written"])
def test_each_knows_the_other(world: World, model: str) -> None:
    assert world.ask(model).json["system_fingerprint"] == "one"
    assert set(world.handshakes("one")) == {Handshake("vllm.internal", "client-one")}


def test_a_ca_for_an_address(world: World) -> None:
    assert world.ask("addressed").status == 200
    assert set(world.handshakes("addressed")) == {Handshake(None, None)}


def test_several_addresses_of_one_name(world: World) -> None:
    assert {world.ask("two-addresses").json["system_fingerprint"] for _turn in range(30)} == {"one", "other"}


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("public-ca", "CERTIFICATE_VERIFY_FAILED"),
        ("other-ca", "CERTIFICATE_VERIFY_FAILED"),
        ("other-name", "SAN"),
        ("no-name", "SAN"),
    ],
)
def test_nothing_is_sent_to_a_stranger_or_as_one(world: World, model: str, reason: str) -> None:
    answer = world.ask(model)
    assert (answer.status, answer.error["code"]) == (503, "unavailable")
    assert world.gateway.complains(reason)
    assert world.nobody_was_asked()


def test_a_provider_that_wants_a_certificate_has_to_get_one(world: World) -> None:
    answer = world.ask("no-certificate")
    assert (answer.status, answer.error["code"]) == (503, "unavailable")
    assert world.nobody_was_asked()


def test_a_fallback_gets_a_certificate_of_its_own(world: World) -> None:
    assert world.ask("falls-back").json["system_fingerprint"] == "other"
    assert {seen.client for seen in world.handshakes("one")} <= {"client-one"}
    assert {seen.client for seen in world.handshakes("other")} == {"client-other"}


def test_another_certificate_without_another_release(world: World) -> None:
    assert world.ask("written").status == 200
    (path,) = Path(world.gateway.host.secrets_dir).glob("identity-written-*")
    before = path.read_text()
    pair = text(world.clients.sign("client-next", "client-next"))
    document = json.loads(before)
    document["resources"][0]["tls_certificate"] = {
        "certificate_chain": {"inline_string": pair["certificate"]},
        "private_key": {"inline_string": pair["private_key"]},
    }
    try:
        replace(path, json.dumps({**document, "version_info": "next"}))
        # A connection that is open stays; what is asked at once with others needs another one.
        end = time.monotonic() + 10
        while "client-next" not in {seen.client for seen in world.handshakes("one")} and time.monotonic() < end:
            with ThreadPoolExecutor(8) as pool:
                statuses = set(pool.map(lambda _turn: world.ask("written", x_chunks=2, x_delay=0.1).status, range(8)))
            assert statuses == {200}
        assert "client-next" in {seen.client for seen in world.handshakes("one")}
    finally:
        replace(path, before)


def test_without_its_file_no_request_leaves_without_a_certificate(world: World, tmp_path: Path) -> None:
    """The checks before a release see it; Envoy by itself must not open the way either."""
    port = free_port()
    raw = {
        **world.raw,
        "gateway_listeners": {"local": {"address": "127.0.0.1", "port": port}},
        "gateway_metrics": {"port": free_port()},
        "gateway_providers": {"written": world.raw["gateway_providers"]["written"]},
        "gateway_models": {"written": world.raw["gateway_models"]["written"]},
    }
    running = Gateway(tmp_path, host_below(tmp_path))
    deliver = running.deliver

    def deliver_the_others(*given: Any, **options: Any) -> tuple[str, ...]:
        delivered = deliver(*given, **options)
        (path,) = Path(running.host.secrets_dir).glob("identity-*")
        path.unlink()
        return delivered

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running, "deliver", deliver_the_others)
            with contextlib.suppress(AssertionError):
                running.start(raw)
        for _turn in range(5):
            with contextlib.suppress(OSError):
                assert call(port, body=chat("written")).status == 503
    finally:
        running.stop()
    assert world.handshakes("one") == []
    assert world.nobody_was_asked()
