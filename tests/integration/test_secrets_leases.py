# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers with leases: a message broker whose users a real OpenBao makes and removes, and certificates."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hvac
import pytest
from integration import openbao
from integration.controller import LOGIN, REVOKE, Ansible, eventually

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import SecretOptions, VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession

CANARY = "canary-0b5e19"
CREDENTIALS = "rabbitmq/creds/reader"
LEASES = "sys/leases/"
POLICY = """
path "rabbitmq/creds/*" { capabilities = ["read"] }
path "pki/issue/*" { capabilities = ["read", "update"] }
path "transit/*" { capabilities = ["update"] }
path "cubbyhole/*" { capabilities = ["read", "update"] }
path "kv/data/*" { capabilities = ["read"] }
"""


@dataclass
class Broker:
    """The part of RabbitMQ's management interface that makes and removes users."""

    port: int
    made: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    @property
    def users(self) -> set[str]:
        return set(self.made) - set(self.removed)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind, _slash, name = self.path.removeprefix("/api/").partition("/")
            if kind == "users":
                (known.made if self.command == "PUT" else known.removed).append(name)
            self.send_response(204)
            self.end_headers()

        do_DELETE = do_PUT  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        known = Broker(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield known
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[openbao.OpenBao]:
    server = openbao.start(tmp_path_factory.mktemp("openbao"))
    try:
        for kind in ("rabbitmq", "pki", "transit"):
            server.call("POST", f"sys/mounts/{kind}", {"type": kind})
        server.put("kv/secret", api_key=CANARY)
        connect(server, broker.port)
        for name, port in (("reader", "/"), ("other", "/")):
            server.call("POST", f"rabbitmq/roles/{name}", {"vhosts": json.dumps({port: {"read": ".*"}})})
        server.call("POST", "pki/root/generate/internal", {"common_name": "test", "ttl": "1h"})
        role = {"allow_any_name": True, "generate_lease": True, "ttl": "2s", "not_before_duration": "0s"}
        server.call("POST", "pki/roles/brief", role)
        server.call("POST", "pki/roles/narrow", {"allowed_domains": ["example.com"], "allow_subdomains": True})
        server.call("POST", "transit/keys/gateway", {})
        yield server
    finally:
        server.stop()


def connect(bao: openbao.OpenBao, port: int, seconds: int = 600) -> None:
    uri = f"http://127.0.0.1:{port}"
    connection = {"connection_uri": uri, "username": "admin", "password": CANARY, "verify_connection": False}
    bao.call("POST", "rabbitmq/config/connection", connection)
    bao.call("POST", "rabbitmq/config/lease", {"ttl": seconds, "max_ttl": 3600})


@pytest.fixture
def ansible(tmp_path: Path, bao: openbao.OpenBao, broker: Broker) -> Iterator[Ansible]:
    connect(bao, broker.port)
    run = Ansible(tmp_path, bao)
    run.role(POLICY)
    yield run
    run.end_keepers()


def use(number: int, **options: str) -> dict[str, Any]:
    given = "".join(f", {name}='{value}'" for name, value in options.items())
    read = f"lookup('gatewayops.openai.vault_read', '{CREDENTIALS}'{given})"
    that = f"({read}).username is match('[a-z]+-.')"
    return {"name": f"Use it, time {number}", "ansible.builtin.assert": {"that": that, "quiet": True}}


def sleep(seconds: float) -> dict[str, Any]:
    return {"name": "Take time", "ansible.builtin.command": f"sleep {seconds}", "run_once": True}


def test_ten_hosts_share_a_lease_that_ends_with_the_run(ansible: Ansible, broker: Broker) -> None:
    made = len(broker.made)
    status, output = ansible.play(use(1), use(2))
    assert status == 0, output
    assert len(broker.made) == made + 1
    assert ansible.finished() == {LOGIN: 1, CREDENTIALS: 1, REVOKE: 1}
    eventually(lambda: broker.made[-1] in broker.removed)


def test_a_lease_that_is_shorter_than_the_run_is_renewed(ansible: Ansible, broker: Broker) -> None:
    connect(ansible.bao, broker.port, 3)
    made = len(broker.made)
    status, output = ansible.play(use(1), sleep(7), use(2))
    assert status == 0, output
    assert len(broker.made) == made + 1, "the same all along"
    counts = ansible.finished()
    assert counts.pop(f"{LEASES}renew") >= 3
    assert counts == {LOGIN: 1, CREDENTIALS: 1, REVOKE: 1}
    eventually(lambda: broker.made[-1] in broker.removed)


def test_leases_of_a_token_of_the_user_are_revoked_and_the_token_is_not(ansible: Ansible, broker: Broker) -> None:
    revoke = f'path "{LEASES}revoke" {{ capabilities = ["update"] }}'
    ansible.bao.call("PUT", "sys/policies/acl/revoking", {"policy": POLICY + revoke})
    token = ansible.bao.call("POST", "auth/token/create", {"policies": ["revoking"]})["auth"]["client_token"]
    ansible.variables(gateway_vault_auth_method="token", gateway_vault_token=token)
    status, output = ansible.play(use(1))
    assert status == 0, output
    assert "will not be revoked" not in output
    assert ansible.finished() == {CREDENTIALS: 1, "sys/capabilities-self": 1, f"{LEASES}revoke": 1}
    eventually(lambda: broker.made[-1] in broker.removed)
    assert ansible.bao.call("POST", "auth/token/lookup", {"token": token})


def test_a_token_of_the_user_that_may_not_revoke_is_told(ansible: Ansible, broker: Broker) -> None:
    token = ansible.bao.call("POST", "auth/token/create", {"policies": ["run", "default"]})["auth"]["client_token"]
    ansible.variables(gateway_vault_auth_method="token", gateway_vault_token=token)
    status, output = ansible.play(use(1))
    assert status == 0, output
    words = 'leases of this run will not be revoked: a policy must allow "update" on sys/leases/revoke'
    assert words in " ".join(output.split())
    ansible.finished()
    assert broker.made[-1] in broker.users


def test_a_lease_that_is_kept(ansible: Ansible, broker: Broker) -> None:
    key = "lookup('gatewayops.openai.secret', 'vault://kv/secret#api_key') is truthy"
    another = {"name": "Read", "ansible.builtin.assert": {"that": key, "quiet": True}}
    status, output = ansible.play(use(1, lease="keep"), another, use(2, lease="keep"))
    assert status == 0, output
    assert ansible.finished() == {LOGIN: 2, CREDENTIALS: 1, "kv/data/secret": 1, REVOKE: 1}
    time.sleep(0.5)
    assert broker.made[-1] in broker.users


class Run:
    """Sessions of one run, in this process."""

    def __init__(self, bao: openbao.OpenBao, directory: Path, **options: Any) -> None:
        role_id, secret_id = bao.approle("session", POLICY)
        given = {"addr": bao.address, "auth_method": "approle", "role_id": role_id, "secret_id": secret_id, **options}
        self.options = SecretOptions(vault=VaultOptions(**given))
        self.directory = directory

    def ask(self, path: str, body: dict[str, Any] | None = None, *, keep: bool = False) -> dict[str, Any]:
        session = SecretSession(self.options, RunCache(self.directory, b"authkey of the run"))
        return dict(session.ask([path], body, keep=keep)[path])

    def refusal(self, path: str, body: dict[str, Any] | None = None) -> str:
        with pytest.raises(SecretError) as caught:
            self.ask(path, body)
        assert CANARY not in str(caught.value)
        return str(caught.value).replace(self.options.vault.addr, "ADDR")


@pytest.fixture
def run(bao: openbao.OpenBao, broker: Broker, tmp_path: Path) -> Run:
    connect(bao, broker.port)
    return Run(bao, tmp_path / "cache")


def test_an_answer_is_known_for_as_long_as_its_lease(run: Run) -> None:
    body = {"common_name": "a.example.com"}
    first = run.ask("pki/issue/brief", body)
    assert run.ask("pki/issue/brief", body) == first
    assert run.ask("pki/issue/brief", {"common_name": "b.example.com"}) != first
    time.sleep(2.1)
    assert run.ask("pki/issue/brief", body)["serial_number"] != first["serial_number"]


def test_what_was_got_with_a_token_that_has_ended_is_asked_for_anew(
    run: Run, bao: openbao.OpenBao, broker: Broker
) -> None:
    first = run.ask(CREDENTIALS)
    assert run.ask(CREDENTIALS) == first
    bao.call("POST", f"{LEASES}revoke-prefix/auth/approle/login")
    assert run.ask("transit/encrypt/gateway", {"plaintext": "dGV4dA=="})["ciphertext"].startswith("vault:v1:")
    assert run.ask(CREDENTIALS) != first


def test_a_secret_id_that_can_be_unwrapped_once_is_enough_for_both_logins(
    run: Run, bao: openbao.OpenBao, tmp_path: Path
) -> None:
    began = bao.position()
    server = hvac.Client(bao.address, bao.token)
    wrapped = server.auth.approle.generate_secret_id("session", wrap_ttl="60s")["wrap_info"]["token"]
    server.adapter.close()
    options = replace(run.options.vault, secret_id="", wrapped_secret_id=wrapped)
    run.options = SecretOptions(vault=options)
    kept = run.ask(CREDENTIALS, keep=True)
    assert run.ask(CREDENTIALS) != kept
    assert run.ask(CREDENTIALS, keep=True) == kept
    assert bao.requests(began).count(LOGIN) == 2
    assert bao.requests(began).count("sys/wrapping/unwrap") == 1


def test_what_goes_wrong_is_told_and_concerns_that_path(run: Run, bao: openbao.OpenBao, broker: Broker) -> None:
    assert run.refusal("rabbitmq/roles/reader") == (
        'rabbitmq/roles/reader: Vault at ADDR denies it: a policy must allow "read" on rabbitmq/roles/reader'
    )
    assert run.refusal("pki/sign/narrow", {"csr": CANARY}) == (
        'pki/sign/narrow: Vault at ADDR denies it: a policy must allow "update" (or "create") on pki/sign/narrow'
    )
    assert run.refusal("cubbyhole/nothing") == "cubbyhole/nothing: Vault at ADDR has nothing there"
    assert "rejected the request: 1 error" in run.refusal("pki/issue/brief"), "which takes no GET"
    assert "common name … not allowed by this role" in run.refusal("pki/issue/narrow", {"common_name": "other.org"})
    assert run.refusal("transit/decrypt/gateway", {"ciphertext": CANARY}).startswith(
        "transit/decrypt/gateway: Vault at ADDR rejected the request"
    )
    assert run.refusal("cubbyhole/x", {"a": CANARY}) == "cubbyhole/x: Vault at ADDR answers with no data"

    connect(bao, openbao.free_port())
    refused = run.refusal(CREDENTIALS)
    assert refused.startswith(f"{CREDENTIALS}: Vault at ADDR rejected the request: failed (HTTP 500)")
    connect(bao, broker.port)
    assert run.refusal(CREDENTIALS) == refused, "a run asks once"
    assert run.ask("rabbitmq/creds/other")["username"], "and the others are not concerned"
