"""A running gateway that changes: secrets by a rename, configuration by steps, and no request lost either way."""

from __future__ import annotations

import copy
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from contract.certificates import Authority
from contract.gateway_process import Gateway, Provider, free_port, gateway, xds_of
from contract.test_envoy_requests import CHAT, Answer, call, chat, replace, until

from ansible_collections.gatewayops.openai.plugins.module_utils._release import admin

#: More than the time of a test takes, at 20 a second.
HTTP2_REQUESTS = 60


@dataclass
class World:
    gateway: Gateway
    port: int
    on_host: int
    delivered: int
    alpha: Provider
    beta: Provider
    authority: Authority
    spec: dict[str, Any]
    folder: Path

    def ask(self, model: str = "first", key: str = "sk-all") -> Answer:
        return call(self.port, body=chat(model), key=key)

    def changed(self) -> dict[str, Any]:
        return copy.deepcopy(self.spec)

    def switch(self, spec: dict[str, Any]) -> list[str]:
        names = self.gateway.switch(spec)
        self.spec = spec
        return names


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("gateway")
    authority = Authority(folder, "ca")
    certificate, key = authority.sign("one", "localhost")
    port, on_host, delivered = free_port(), free_port(), free_port()
    secrets = {"sk-certificate": certificate.read_text(), "sk-private-key": key.read_text()}
    with ExitStack() as stack:
        alpha = Provider("alpha", "--api-key", "sk-alpha", "--api-key", "sk-rotated")
        stack.callback(alpha.stop)
        beta = Provider("beta", "--api-key", "sk-beta")
        stack.callback(beta.stop)
        raw = {
            "gateway_listeners": {
                "plain": {"address": "127.0.0.1", "port": port},
                "on-host": {
                    "address": "127.0.0.1",
                    "port": on_host,
                    "tls": {"certificate": str(certificate), "private_key": str(key)},
                },
                "delivered": {
                    "address": "127.0.0.1",
                    "port": delivered,
                    "tls": {"certificate": secrets["sk-certificate"], "private_key": secrets["sk-private-key"]},
                },
            },
            "gateway_metrics": {"port": free_port()},
            "gateway_providers": {
                "alpha": {"type": "openai", "base_url": f"{alpha.url}/v1", "api_key": "env://ALPHA"},
                "beta": {"type": "openai", "base_url": f"{beta.url}/v1", "api_key": "env://BETA"},
            },
            "gateway_models": {
                "first": {"targets": [{"provider": "alpha", "model": "first"}]},
                "second": {"targets": [{"provider": "alpha", "model": "second"}]},
            },
            "gateway_consumers": {
                "all": {"api_keys": ["env://ALL"], "models": ["*"]},
                "some": {"api_keys": ["env://SOME"], "models": ["first", "second"]},
                "limited": {
                    "api_keys": ["env://LIMITED"],
                    "models": ["first"],
                    "limits": {"requests_per_minute": 3},
                },
            },
        }
        started = stack.enter_context(gateway(folder, raw))
        yield World(started, port, on_host, delivered, alpha, beta, authority, raw, folder)


@contextmanager
def load(*asks: Any) -> Iterator[Counter[int]]:
    """Ask all the time; the statuses are counted (0 for a connection that failed)."""
    statuses: Counter[int] = Counter()
    over = threading.Event()

    def run(ask: Any) -> None:
        while not over.is_set():
            try:
                status = ask().status
            except OSError:
                status = 0
            statuses[status] += 1
            time.sleep(0.001)

    threads = [threading.Thread(target=run, args=(ask,)) for ask in asks]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.1)
        yield statuses
        time.sleep(0.1)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def served_certificate(port: int) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with closing(socket.create_connection(("127.0.0.1", port))) as plain, context.wrap_socket(plain) as client:
        found = client.getpeercert(binary_form=True)
        assert found
        return found


@contextmanager
def streams_of_http2(
    port: int, authority: Authority, body: str, headers: dict[str, str]
) -> Iterator[Counter[tuple[str, ...]]]:
    """Ask in HTTP/2; counted in the end are protocols, statuses, and whether it took a new connection."""
    found: Counter[tuple[str, ...]] = Counter()
    command = ["curl", "--silent", "--http2", "--cacert", str(authority.certificate), "--rate", "1200/m"]
    command += [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    command += [
        "--data",
        body,
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_version} %{http_code} %{num_connects}\\n",
    ]
    process = subprocess.Popen(
        [*command, f"https://localhost:{port}{CHAT}?[1-{HTTP2_REQUESTS}]"], stdout=subprocess.PIPE, text=True
    )
    try:
        yield found
        output, _nothing = process.communicate(timeout=30)
        assert process.returncode == 0
        found.update(tuple(line.split()) for line in output.splitlines())
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def serve_certificate(world: World, place: str, certificate: Path, key: Path) -> None:
    """Replace the certificate of a listener, be it on the host or delivered."""
    if place == "on_host":
        listener = world.spec["gateway_listeners"]["on-host"]["tls"]
        for source, target in ((key, listener["private_key"]), (certificate, listener["certificate"])):
            shutil.copy(source, f"{target}.new")
            Path(f"{target}.new").rename(target)
        return
    path = Path(world.gateway.host.secrets_dir, "listener-delivered.json")
    document = json.loads(path.read_text())
    pair = document["resources"][0]["tls_certificate"]
    pair["certificate_chain"]["inline_string"] = certificate.read_text()
    pair["private_key"]["inline_string"] = key.read_text()
    replace(path, json.dumps({**document, "version_info": certificate.name}))


class TestSecrets:
    def test_a_providers_key(self, world: World) -> None:
        world.alpha.reset()
        with load(world.ask, world.ask) as statuses:
            world.gateway.rotate(ALPHA="sk-rotated")
        assert set(statuses) == {200}
        assert world.alpha.seen()[0]["headers"]["authorization"] == "Bearer sk-alpha"
        assert world.alpha.seen()[-1]["headers"]["authorization"] == "Bearer sk-rotated"

    def test_a_consumers_key(self, world: World) -> None:
        with load(world.ask) as statuses:
            world.gateway.rotate(SOME="sk-some-new")
            assert until(lambda: world.ask(key="sk-some-new"), 200).status == 200
            assert until(lambda: world.ask(key="sk-some"), 401).status == 401
            world.gateway.rotate()
            assert until(lambda: world.ask(key="sk-some"), 200).status == 200
        assert set(statuses) == {200}

    @pytest.mark.parametrize("place", ["on_host", "delivered"])
    def test_a_certificate_that_is_replaced_costs_no_request(self, world: World, place: str) -> None:
        """Kept connections go on as they are, be it in HTTP/1.1 or HTTP/2; new ones get the new certificate."""
        port = getattr(world, place)
        context = ssl.create_default_context(cafile=str(world.authority.certificate))
        kept = http.client.HTTPSConnection("localhost", port, timeout=5, context=context)
        body = json.dumps(chat("first"))
        headers = {"authorization": "Bearer sk-all", "content-type": "application/json"}
        connections: set[int] = set()

        def again() -> Answer:
            kept.request("POST", CHAT, body, headers)
            connections.add(kept.sock.fileno() if kept.sock else 0)
            response = kept.getresponse()
            return Answer(response.status, {}, response.read().decode())

        def anew() -> Answer:
            connection = http.client.HTTPSConnection("localhost", port, timeout=5, context=context)
            with closing(connection):
                connection.request("POST", CHAT, body, headers)
                response = connection.getresponse()
                return Answer(response.status, {}, response.read().decode())

        with ExitStack() as stack:
            stack.callback(kept.close)
            streams = stack.enter_context(streams_of_http2(port, world.authority, body, headers))
            statuses = stack.enter_context(load(again, anew))
            for turn in range(3):
                before = served_certificate(port)
                pair = world.authority.sign(f"{place}-{turn}", "localhost")
                serve_certificate(world, place, *pair)
                wanted = ssl.PEM_cert_to_DER_cert(pair[0].read_text())
                end = time.monotonic() + 5
                while (shown := served_certificate(port)) == before and time.monotonic() < end:
                    time.sleep(0.02)
                assert shown == wanted
                time.sleep(0.3)
                assert {served_certificate(port) for _turn in range(5)} == {wanted}
        assert set(statuses) == {200}
        assert len(connections) == 1, "the kept connection is the same all the time"
        assert streams == {("2", "200", "1"): 1, ("2", "200", "0"): HTTP2_REQUESTS - 1}

    def test_a_key_that_cannot_be_read_is_not_left_out(self, world: World) -> None:
        """A provider with a key never gets a request without it: neither when the file goes, nor when it is empty."""
        (path,) = Path(world.gateway.host.secrets_dir).glob("provider-alpha-*.json")
        before = path.read_text()
        document = json.loads(before)
        document["resources"][0]["generic_secret"]["secret"]["inline_string"] = ""
        world.alpha.reset()
        try:
            replace(path, json.dumps({**document, "version_info": "empty"}))
            time.sleep(0.3)
            answers = [world.ask() for _turn in range(3)]
        finally:
            replace(path, before)
        assert all("authorization" in seen["headers"] for seen in world.alpha.seen())
        assert {answer.status for answer in answers} <= {200, 503}


class TestSteps:
    def test_nothing_changed(self, world: World) -> None:
        assert world.switch(world.changed()) == []

    def test_a_model_more(self, world: World) -> None:
        spec = world.changed()
        spec["gateway_models"]["third"] = {"targets": [{"provider": "beta", "model": "x"}]}
        assert world.ask("third").status == 404
        with load(world.ask, lambda: world.ask("second", "sk-some")) as statuses:
            names = world.switch(spec)
        assert len(names) == 1
        assert set(statuses) == {200}
        assert world.ask("third").status == 200
        assert world.ask("third", "sk-some").status == 403

    def test_another_provider_for_all_models(self, world: World) -> None:
        spec = world.changed()
        for model in spec["gateway_models"].values():
            model["targets"] = [{"provider": "beta", "model": "moved"}]
        with load(world.ask, lambda: world.ask("second", "sk-some")) as statuses:
            names = world.switch(spec)
        assert len(names) == 1
        assert set(statuses) == {200}
        assert world.ask().json["model"] == "moved"

    def test_a_fallback_comes_and_goes(self, world: World) -> None:
        """A model's way changes from one hop to two and back, and it never has a wrong name or key on it."""
        for wanted in ([{"provider": "alpha", "model": "other"}], []):
            spec = world.changed()
            for model in spec["gateway_models"].values():
                model["fallbacks"] = wanted
            with load(world.ask, lambda: world.ask("second", "sk-some")) as statuses:
                assert len(world.switch(spec)) == 2
            assert set(statuses) == {200}
            assert world.ask().json["model"] == "moved"

    def test_a_provider_that_moves(self, world: World) -> None:
        spec = world.changed()
        spec["gateway_providers"]["alpha"]["base_url"] = f"{world.alpha.url}/elsewhere/v1"
        del spec["gateway_providers"]["beta"]
        for model in spec["gateway_models"].values():
            model["targets"] = [{"provider": "alpha", "model": "moved-again"}]
        with load(world.ask, lambda: world.ask("second", "sk-some")) as statuses:
            world.switch(spec)
        assert set(statuses) == {200}
        assert world.ask().json["system_fingerprint"] == "alpha"

    def test_consumers_that_may_use_other_models(self, world: World) -> None:
        """The access list of a route and the group of a consumer are in different files, which change in no order."""
        for models in (["second", "third"], ["*"], ["s*"], ["first", "second"]):
            spec = world.changed()
            spec["gateway_consumers"]["some"]["models"] = models
            with load(world.ask, lambda: world.ask("second", "sk-some")) as statuses:
                world.switch(spec)
            assert set(statuses) == {200}, models
        assert world.ask("third", "sk-some").status == 403

    def test_a_consumer_more_and_less(self, world: World) -> None:
        modified = world.gateway.statistic("listener_manager.listener_modified")
        spec = world.changed()
        spec["gateway_consumers"]["new"] = {"api_keys": ["env://NEW"], "models": ["third"]}
        with load(world.ask) as statuses:
            world.switch(spec)
            assert world.ask("third", "sk-new").status == 200
            assert world.ask("first", "sk-new").status == 403
            del (without := world.changed())["gateway_consumers"]["new"]
            world.switch(without)
            assert until(lambda: world.ask("third", "sk-new"), 401).status == 401
        assert set(statuses) == {200}
        assert world.gateway.statistic("listener_manager.listener_modified") == modified

    def test_buckets_stay_as_they_are(self, world: World) -> None:
        assert [world.ask(key="sk-limited").status for _turn in range(5)] == [200, 200, 200, 429, 429]
        spec = world.changed()
        spec["gateway_consumers"]["other"] = {"api_keys": ["env://OTHER"], "models": ["second"]}
        spec["gateway_models"]["fourth"] = {"targets": [{"provider": "alpha", "model": "x"}]}
        world.switch(spec)
        assert world.ask(key="sk-limited").status == 429
        spec = world.changed()
        spec["gateway_consumers"]["limited"]["limits"]["requests_per_minute"] = 6
        world.switch(spec)
        assert world.ask(key="sk-limited").status == 200

    def test_a_listener_less(self, world: World) -> None:
        spec = world.changed()
        del spec["gateway_listeners"]["delivered"]
        with load(world.ask) as statuses:
            world.switch(spec)
        assert set(statuses) == {200}
        time.sleep(0.2)
        assert world.ask().status == 200

    def test_leaving_a_load_balancer(self, world: World) -> None:
        admin.ask(world.gateway.socket, "/healthcheck/fail", "POST")
        try:
            assert call(world.port, "/healthz", key=None, method="GET").status == 503
            assert world.ask().status == 200
        finally:
            admin.ask(world.gateway.socket, "/healthcheck/ok", "POST")
        assert call(world.port, "/healthz", key=None, method="GET").status == 200


class TestMaps:
    def test_who_is_not_in_a_map_is_refused(self, world: World) -> None:
        """A target that the egress listener does not know gets no request, let alone one without a credential."""
        spec = world.changed()
        for model in spec["gateway_models"].values():
            model["fallbacks"] = [{"provider": "alpha", "model": "other"}]
        world.switch(spec)
        assert world.ask().status == 200
        bundle = world.gateway.active
        files = xds_of(bundle)
        configuration = json.loads(files["envoy/rds-egress.json"])
        routes = configuration["resources"][0]["virtual_hosts"][0]["matcher"]["matcher_tree"]["exact_match_map"]["map"]
        for name in [name for name in routes if name != "none"]:
            del routes[name]
        world.alpha.reset()
        world.beta.reset()
        world.gateway.activate("gaps", {**files, "envoy/rds-egress.json": json.dumps(configuration).encode()}, bundle)
        try:
            answer = until(world.ask, 503)
            assert (answer.status, answer.error["code"]) == (503, "unavailable")
            world.alpha.reset()
            world.beta.reset()
            assert [world.ask().status for _turn in range(5)] == [503] * 5
            assert not world.alpha.seen() + world.beta.seen()
        finally:
            world.gateway.activate("whole", files, bundle)
        assert until(world.ask, 200).status == 200


def test_it_ends_well(world: World) -> None:
    world.gateway.stop()
    assert "Segmentation" not in world.gateway.complaints()
    assert world.gateway.returncode == 0
