"""HTTP/3 on a running gateway: the same as over TCP, certificates that change, and releases."""

from __future__ import annotations

import copy
import http.client
import json
import shutil
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from contract.certificates import Authority
from contract.gateway_process import Gateway, Provider, free_port, gateway, providers
from contract.http3 import Answer, Client, once
from contract.test_envoy_changes import load
from contract.test_envoy_requests import CHAT, chat, replace

Pair = tuple[Path, Path]


@dataclass
class World:
    gateway: Gateway
    alpha: Provider
    folder: Path
    server: Authority
    partners: Authority
    strangers: Authority
    open: int
    partners_only: int
    spec: dict[str, Any]

    def client(self) -> Client:
        return Client(self.open, self.server.certificate)

    def is_refused(self, pair: Pair | None) -> bool:
        try:
            once(self.partners_only, self.server.certificate, pair)(CHAT, chat("m"), "sk-team")
        except (OSError, TimeoutError):
            return True
        return False


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("gateway")
    server, partners, strangers = (Authority(folder, name) for name in ("server", "partners", "strangers"))
    certificate, key = server.sign("gateway", "localhost")
    shutil.copy(partners.certificate, folder / "trusted.pem")
    both, partners_only = free_port(), free_port()
    with providers("alpha") as running:
        tls = {"certificate": str(certificate), "private_key": str(key)}
        delivered = {"certificate": certificate.read_text(), "private_key": key.read_text()}
        raw = {
            "gateway_listeners": {
                "open": {"address": "127.0.0.1", "port": both, "tls": tls, "http3": True},
                "partners": {
                    "address": "127.0.0.1",
                    "port": partners_only,
                    "tls": {**delivered, "client_ca": partners.certificate.read_text()},
                    "http3": True,
                },
            },
            "gateway_metrics": {"port": free_port()},
            "gateway_providers": {
                "alpha": {"type": "openai", "base_url": f"{running['alpha'].url}/v1", "api_key": "env://ALPHA"}
            },
            "gateway_models": {name: {"targets": [{"provider": "alpha", "model": name}]} for name in ("m", "other")},
            "gateway_consumers": {
                "team": {"api_keys": ["env://TEAM"], "models": ["*"]},
                "one": {"api_keys": ["env://ONE"], "models": ["other"]},
            },
            "gateway_max_request_size": "16M",
        }
        with gateway(folder, raw) as started:
            alpha = running["alpha"]
            yield World(started, alpha, folder, server, partners, strangers, both, partners_only, raw)


class TestAnswers:
    def test_a_chat(self, world: World) -> None:
        world.alpha.reset()
        with world.client() as client:
            answers = [client.ask(CHAT, chat("m"), "sk-team") for _turn in range(3)]
        assert [answer.status for answer in answers] == [200] * 3
        assert answers[0].json["model"] == "m"
        assert world.gateway.logged(answers[0].headers)["consumer"] == "team"
        assert world.alpha.seen()[0]["headers"]["authorization"] == "Bearer sk-alpha"

    def test_a_stream(self, world: World) -> None:
        world.alpha.control(chunks=5, delay=0.05)
        try:
            with world.client() as client:
                answer = client.ask(CHAT, chat("m", stream=True), "sk-team")
        finally:
            world.alpha.reset()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.rstrip().endswith("data: [DONE]")
        assert len(answer.pieces) > 3

    def test_refusals(self, world: World) -> None:
        with world.client() as client:
            wrong = client.ask(CHAT, chat("m"), "wrong")
            none = client.ask(CHAT, chat("m"))
            forbidden = client.ask(CHAT, chat("m"), "sk-one")
            unknown = client.ask("/v1/nothing", key="sk-team")
        for answer, status, code in (
            (wrong, 401, "invalid_api_key"),
            (none, 401, "invalid_api_key"),
            (forbidden, 403, "model_not_allowed"),
            (unknown, 404, "unknown_url"),
        ):
            assert (answer.status, answer.json["error"]["code"]) == (status, code)

    @pytest.mark.parametrize("size", [1, 10, 15])
    def test_a_large_body(self, world: World, size: int) -> None:
        """The window of a stream, 16 MiB at most, is what Envoy holds of it."""
        with world.client() as client:
            answer = client.ask(CHAT, chat("m", padding="x" * (size * 1024 * 1024)), "sk-team")
        assert answer.status == 200

    def test_a_body_that_is_too_large(self, world: World) -> None:
        with world.client() as client:
            answer = client.ask(CHAT, chat("m", padding="x" * (17 * 1024 * 1024)), "sk-team")
        assert (answer.status, answer.json["error"]["code"]) == (413, "request_too_large")

    def test_clients_of_tcp_are_told(self, world: World) -> None:
        context = ssl.create_default_context(cafile=str(world.server.certificate))
        connection = http.client.HTTPSConnection("localhost", world.open, timeout=5, context=context)
        for headers, status in (({"authorization": "Bearer sk-team"}, 200), ({}, 401)):
            connection.request("POST", CHAT, json.dumps(chat("m")), {**headers, "content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
            assert answer.getheader("alt-svc") == f'h3=":{world.open}"; ma=3600'
        connection.close()


class TestHandshake:
    def test_a_certificate_of_the_ca_and_a_key(self, world: World) -> None:
        assert not world.is_refused(world.partners.sign("partner", "partner"))

    def test_others_are_refused(self, world: World) -> None:
        assert world.is_refused(None)
        assert world.is_refused(world.strangers.sign("stranger", "stranger"))
        assert world.is_refused(world.server.sign("gateway2", "localhost"))


class TestReplaced:
    def test_a_certificate_on_the_host(self, world: World) -> None:
        tls = world.spec["gateway_listeners"]["open"]["tls"]
        certificate, key = world.server.sign("two", "localhost")
        with world.client() as client, world.client() as other:
            assert client.ask().status == 200
            before = client.certificate
            with load(lambda: client.ask(CHAT, chat("m"), "sk-team"), lambda: fresh(world)) as statuses:
                for source, target in ((key, tls["private_key"]), (certificate, tls["certificate"])):
                    shutil.copy(source, f"{target}.new")
                    Path(f"{target}.new").rename(target)
                end = time.monotonic() + 5
                while served(world) == before and time.monotonic() < end:
                    time.sleep(0.05)
            assert served(world) != before
            assert set(statuses) == {200}
            assert other.ask().status == 200, "an open connection stays"

    def test_a_delivered_ca(self, world: World) -> None:
        stranger = world.strangers.sign("later", "later")
        path = Path(world.gateway.host.secrets_dir, "clients-partners.json")
        before = path.read_text()
        document = json.loads(before)
        authorities = document["resources"][0]["validation_context"]["trusted_ca"]
        authorities["inline_string"] += world.strangers.certificate.read_text()
        assert world.is_refused(stranger)
        replace(path, json.dumps({**document, "version_info": "both"}))
        until(lambda: not world.is_refused(stranger))
        replace(path, before)
        until(lambda: world.is_refused(stranger))


def fresh(world: World) -> Answer:
    return once(world.open, world.server.certificate)()


def served(world: World) -> Any:
    with world.client() as client:
        return client.certificate


def until(wanted: Any) -> None:
    end = time.monotonic() + 10
    while not wanted() and time.monotonic() < end:
        time.sleep(0.05)
    assert wanted()


class TestReleases:
    def test_models_and_consumers_under_load(self, world: World) -> None:
        spec = copy.deepcopy(world.spec)
        spec["gateway_models"]["new"] = {"targets": [{"provider": "alpha", "model": "new"}]}
        spec["gateway_consumers"]["new"] = {"api_keys": ["env://NEW"], "models": ["new"]}
        with world.client() as client:
            with load(lambda: client.ask(CHAT, chat("m"), "sk-team"), lambda: fresh(world)) as statuses:
                world.gateway.switch(spec)
                assert client.ask(CHAT, chat("new"), "sk-new").status == 200
                world.gateway.switch(world.spec)
            assert set(statuses) == {200}

    def test_it_comes_and_goes(self, world: World) -> None:
        spec = copy.deepcopy(world.spec)
        del spec["gateway_listeners"]["open"]["http3"]
        world.gateway.switch(spec)
        with suppress(OSError, TimeoutError):
            time.sleep(0.5)
        world.gateway.switch(world.spec)
        until(lambda: fresh(world).status == 200)


def test_envoy_has_nothing_to_complain_about(world: World) -> None:
    complaints = [line for line in world.gateway.complaints().splitlines() if "[error]" in line or "[critical]" in line]
    assert not complaints
