"""Clients that prove themselves in the handshake, on a running gateway; and CAs that change without a restart."""

from __future__ import annotations

import datetime
import http.client
import json
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from dataclasses import replace as replace_field
from pathlib import Path
from typing import Any

import pytest
from contract import certificates
from contract.certificates import Authority
from contract.gateway_process import Gateway, free_port, gateway, providers
from contract.test_envoy_changes import load
from contract.test_envoy_requests import CHAT, Answer, chat, replace

from ansible_collections.gatewayops.openai.plugins.module_utils._release import admin
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.checks import run_checks
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.client import Endpoint
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.model import Expectation

Pair = tuple[Path, Path]

#: The alert may be lost when the connection is closed.
REFUSED = r"UNKNOWN_CA|CERTIFICATE|HANDSHAKE_FAILURE|EOF|reset"


@dataclass
class World:
    gateway: Gateway
    folder: Path
    server: Authority
    partners: Authority
    on_host: int
    delivered: int
    partner: Pair
    stranger: Pair
    spec: dict[str, Any]

    def ask(self, port: int, pair: Pair | None, key: str = "sk-team") -> Answer:
        """Ask on a connection of its own; OSError when the handshake is refused."""
        context = ssl.create_default_context(cafile=str(self.server.certificate))
        if pair is not None:
            context.load_cert_chain(*pair)
        connection = http.client.HTTPSConnection("localhost", port, timeout=5, context=context)
        with closing(connection):
            headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
            connection.request("POST", CHAT, json.dumps(chat("m")), headers)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read().decode())

    def is_refused(self, port: int, pair: Pair | None) -> bool:
        try:
            self.ask(port, pair)
        except OSError:
            return True
        return False

    def until_refused(self, port: int, pair: Pair | None, wanted: bool) -> None:
        end = time.monotonic() + 5
        while self.is_refused(port, pair) is not wanted and time.monotonic() < end:
            time.sleep(0.02)
        assert self.is_refused(port, pair) is wanted


def health(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bool | None, ssl.SSLSession | None]:
    """Ask for the health; whether the session was resumed, and the session."""
    plain = socket.create_connection(("127.0.0.1", port), 5)
    with plain, context.wrap_socket(plain, server_hostname="localhost", session=session) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        return client.session_reused, client.session


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("gateway")
    server, partners, strangers = (Authority(folder, name) for name in ("server", "partners", "strangers"))
    certificate, key = server.sign("gateway", "localhost")
    (folder / "trusted").mkdir()
    trusted = folder / "trusted" / "ca.pem"
    shutil.copy(partners.certificate, trusted)
    on_host, delivered = free_port(), free_port()
    with providers("alpha") as running:
        tls = {"certificate": str(certificate), "private_key": str(key)}
        raw = {
            "gateway_listeners": {
                "on-host": {"address": "127.0.0.1", "port": on_host, "tls": {**tls, "client_ca": str(trusted)}},
                "delivered": {
                    "address": "127.0.0.1",
                    "port": delivered,
                    "tls": {
                        "certificate": certificate.read_text(),
                        "private_key": key.read_text(),
                        "client_ca": partners.certificate.read_text(),
                    },
                },
            },
            "gateway_metrics": {"port": free_port()},
            "gateway_providers": {
                "alpha": {"type": "openai", "base_url": f"{running['alpha'].url}/v1", "api_key": "env://ALPHA"}
            },
            "gateway_models": {"m": {"targets": [{"provider": "alpha", "model": "m"}]}},
            "gateway_consumers": {"team": {"api_keys": ["env://TEAM"], "models": ["*"]}},
        }
        with gateway(folder, raw) as started:
            partner, stranger = partners.sign("partner", "partner"), strangers.sign("stranger", "stranger")
            yield World(started, folder, server, partners, on_host, delivered, partner, stranger, raw)


@pytest.fixture(params=["on_host", "delivered"])
def port(request: pytest.FixtureRequest, world: World) -> int:
    found: int = getattr(world, request.param)
    return found


class TestHandshake:
    def test_a_certificate_of_the_ca_and_a_key(self, world: World, port: int) -> None:
        assert world.ask(port, world.partner).status == 200

    def test_a_certificate_is_no_key(self, world: World, port: int) -> None:
        assert world.ask(port, world.partner, key="wrong").status == 401

    def test_without_a_certificate(self, world: World, port: int) -> None:
        assert world.is_refused(port, None)

    def test_a_certificate_of_another_ca(self, world: World, port: int) -> None:
        assert world.is_refused(port, world.stranger)

    def test_one_that_looks_like_it(self, world: World, port: int) -> None:
        """Of a CA with the same name and another key."""
        (folder := world.folder / "forged").mkdir(exist_ok=True)
        assert world.is_refused(port, Authority(folder, "partners").sign("partner", "partner"))

    def test_one_that_has_ended(self, world: World, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(certificates, "END", certificates.START + datetime.timedelta(days=1))
        assert world.is_refused(port, world.partners.sign(f"ended-{port}", "ended"))

    def test_the_servers_own_certificate(self, world: World, port: int) -> None:
        assert world.is_refused(port, world.server.sign("gateway2", "localhost"))

    def test_nothing_is_said_before_the_handshake_is_over(self, world: World, port: int) -> None:
        """A request that is sent along with the handshake gets no answer either, be it TLS 1.2 or 1.3."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=str(world.server.certificate))
            context.minimum_version = context.maximum_version = version
            with pytest.raises(OSError, match=REFUSED):
                health(port, context, None)


def test_verify_shows_a_certificate(world: World, port: int) -> None:
    endpoint = Endpoint(f"https://localhost:{port}", ca_file=str(world.server.certificate), timeout=5.0)
    expected = Expectation(("m",), "m", None, None)
    assert not any(check.ok for check in run_checks(endpoint, "sk-team", expected) if not check.skipped)
    shown = replace_field(endpoint, client_cert=str(world.partner[0]), client_key=str(world.partner[1]))
    assert all(check.ok for check in run_checks(shown, "sk-team", expected))


class TestReplaced:
    def test_a_ca_on_the_host(self, world: World) -> None:
        trusted = world.folder / "trusted" / "ca.pem"
        old, both = trusted.read_text(), trusted.read_text() + (world.folder / "strangers.pem").read_text()
        with load(lambda: world.ask(world.on_host, world.partner)) as statuses:
            replace(trusted, both)
            world.until_refused(world.on_host, world.stranger, False)
            replace(trusted, old)
            world.until_refused(world.on_host, world.stranger, True)
        assert set(statuses) == {200}

    def test_a_delivered_ca(self, world: World) -> None:
        path = Path(world.gateway.host.secrets_dir, "clients-delivered.json")
        before = path.read_text()
        document = json.loads(before)
        authorities = document["resources"][0]["validation_context"]["trusted_ca"]
        authorities["inline_string"] += (world.folder / "strangers.pem").read_text()
        with load(lambda: world.ask(world.delivered, world.partner)) as statuses:
            replace(path, json.dumps({**document, "version_info": "both"}))
            world.until_refused(world.delivered, world.stranger, False)
            replace(path, before)
            world.until_refused(world.delivered, world.stranger, True)
        assert set(statuses) == {200}

    @pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"])
    def test_what_is_no_ca_opens_nothing(self, world: World, text: str) -> None:
        trusted = world.folder / "trusted" / "ca.pem"
        before = trusted.read_text()
        try:
            replace(trusted, text)
            time.sleep(0.3)
            assert world.is_refused(world.on_host, None)
            assert world.is_refused(world.on_host, world.stranger)
            assert world.ask(world.on_host, world.partner).status == 200
        finally:
            replace(trusted, before)

    def test_a_ticket_of_a_removed_ca_is_worth_nothing(self, world: World) -> None:
        """A session that is resumed shows no certificate again."""
        trusted = world.folder / "trusted" / "ca.pem"
        before = trusted.read_text()
        context = ssl.create_default_context(cafile=str(world.server.certificate))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*world.partner)

        _reused, session = health(world.on_host, context, None)
        assert health(world.on_host, context, session)[0]
        try:
            replace(trusted, (world.folder / "strangers.pem").read_text())
            world.until_refused(world.on_host, world.partner, True)
            with pytest.raises(OSError, match=REFUSED):
                health(world.on_host, context, session)
        finally:
            replace(trusted, before)
            world.until_refused(world.on_host, world.partner, False)

    def test_a_release_that_asks_for_certificates_and_one_that_does_not(self, world: World) -> None:
        open_to_all = json.loads(json.dumps(world.spec))
        for listener in open_to_all["gateway_listeners"].values():
            del listener["tls"]["client_ca"]
        with load(lambda: world.ask(world.on_host, world.partner)) as statuses:
            world.gateway.switch(open_to_all)
            world.until_refused(world.on_host, None, False)
            world.gateway.switch(world.spec)
            world.until_refused(world.on_host, None, True)
            world.until_refused(world.delivered, None, True)
        assert set(statuses) == {200}


def test_a_listener_less_while_somebody_is_connected(world: World) -> None:
    """The connection that drains still watches the files that the release does not have any more."""
    less = json.loads(json.dumps(world.spec))
    del less["gateway_listeners"]["on-host"]
    context = ssl.create_default_context(cafile=str(world.server.certificate))
    context.load_cert_chain(*world.partner)
    connection = http.client.HTTPSConnection("localhost", world.on_host, timeout=5, context=context)
    with closing(connection):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b""
        world.gateway.switch(less)
        assert world.ask(world.delivered, world.partner).status == 200
        world.gateway.switch(world.spec)
    assert world.ask(world.on_host, world.partner).status == 200
    assert world.is_refused(world.on_host, None)


def test_secrets_that_are_not_there_leave_the_listener_closed(world: World) -> None:
    path = Path(world.gateway.host.secrets_dir, "clients-delivered.json")
    before = path.read_text()
    spec = json.loads(json.dumps(world.spec))
    spec["gateway_listeners"]["third"] = {**spec["gateway_listeners"]["delivered"], "port": free_port()}
    world.gateway.switch(spec)
    third = spec["gateway_listeners"]["third"]["port"]
    assert world.is_refused(third, None)
    assert world.ask(third, world.partner).status == 200
    path.unlink()
    try:
        time.sleep(0.3)
        assert world.is_refused(world.delivered, None)
        assert world.ask(world.delivered, world.partner).status == 200
    finally:
        replace(path, before)
        world.gateway.switch(world.spec)


def test_it_is_seen_in_the_statistics(world: World) -> None:
    assert world.is_refused(world.on_host, None)
    text = admin.ask(world.gateway.socket, "/stats?filter=ssl.fail_verify_no_cert$")
    assert max(int(value) for value in admin.parse_statistics(text).values()) > 0
