# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store in trouble: what a run says, in one line that names reference and store, and that the gateway goes on."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from integration import openbao
from integration.controller import LOGIN, REVOKE, Ansible, eventually
from integration.site_gateway import CANARY as GATEWAY_CANARY
from integration.site_gateway import Gateway, a_gateway

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import parse_source
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import SecretOptions, VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession

CANARY = "canary-66f0d3"
POLICY = 'path "kv/data/*" { capabilities = ["read"] }'
KEY = "vault://kv/a#api_key"
OTHER = "vault://kv/b#api_key"


@pytest.fixture
def bao(tmp_path: Path) -> Iterator[openbao.OpenBao]:
    server = openbao.start(tmp_path / "openbao")
    try:
        for name in "ab":
            server.put(f"kv/{name}", api_key=f"{CANARY}-{name}")
        yield server
    finally:
        server.stop()


class Run:
    """Sessions of one run, in this process."""

    def __init__(self, directory: Path, addr: str, **options: Any) -> None:
        self.addr = addr
        self.options = SecretOptions(vault=VaultOptions(**{"addr": addr, "token": f"{CANARY}-token", **options}))
        self.cache = directory / "cache"

    def resolve(self, text: str) -> str:
        reference = parse_source(text, allow_path=False)
        session = SecretSession(self.options, RunCache(self.cache, b"authkey of the run"))
        return session.resolve([reference])[reference]  # type: ignore[list-item, index]

    def refusal(self, text: str = KEY) -> str:
        """What is said of the store, after the reference and the store."""
        with pytest.raises(SecretError) as caught:
            self.resolve(text)
        message = str(caught.value)
        assert CANARY not in message
        assert "\n" not in message
        assert caught.value.__cause__ is None
        start = f"{text}: Vault at {self.addr} "
        assert message.startswith(start)
        return message.removeprefix(start)


def role(bao: openbao.OpenBao, name: str = "faults", **settings: object) -> dict[str, str]:
    role_id, secret_id = bao.approle(name, POLICY, **settings)
    return {"auth_method": "approle", "role_id": role_id, "secret_id": secret_id}


def test_down(tmp_path: Path) -> None:
    run = Run(tmp_path, f"http://127.0.0.1:{openbao.free_port()}")
    assert run.refusal() == "cannot be reached: Connection refused"


def test_a_name_that_nobody_knows(tmp_path: Path) -> None:
    run = Run(tmp_path, "https://vault.invalid:8200")
    assert run.refusal().startswith("cannot be reached: ")


def test_a_proxy_that_is_down(tmp_path: Path, bao: openbao.OpenBao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:{CANARY}@127.0.0.1:{openbao.free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert Run(tmp_path, bao.address).refusal() == "cannot be reached through the proxy of the environment"


def test_slow(tmp_path: Path, bao: openbao.OpenBao) -> None:
    run = Run(tmp_path, bao.address, **role(bao), timeout=0.5)
    bao.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert run.refusal() == "did not answer within 0.5 s (vault_timeout)"
        for _fork in range(20):
            run.refusal()
        assert time.monotonic() - began < 2, "one of them waits"
    finally:
        bao.process.send_signal(signal.SIGCONT)


def test_a_token_that_expires_during_the_run(tmp_path: Path, bao: openbao.OpenBao) -> None:
    auth = bao.call("POST", "auth/token/create", {"ttl": "1s", "policies": ["default"]})["auth"]
    bao.call("PUT", "sys/policies/acl/default", {"policy": POLICY})
    run = Run(tmp_path, bao.address, token=auth["client_token"])
    assert run.resolve(KEY) == f"{CANARY}-a"
    time.sleep(1.3)
    assert run.refusal(OTHER) == "does not accept the token: wrong, expired or revoked"


def test_a_restart_during_the_run(tmp_path: Path, bao: openbao.OpenBao) -> None:
    """In memory only, so that nobody knows the run's token any more."""
    given = role(bao)
    run = Run(tmp_path, bao.address, **given)
    assert run.resolve(KEY) == f"{CANARY}-a"
    bao.stop()
    again = openbao.start(tmp_path / "again", port=int(bao.address.rpartition(":")[2]))
    try:
        again.put("kv/b", api_key=f"{CANARY}-new")
        role(again)
        again.call("POST", "auth/approle/role/faults/role-id", {"role_id": given["role_id"]})
        again.call("POST", "auth/approle/role/faults/custom-secret-id", {"secret_id": given["secret_id"]})
        began = again.position()
        assert run.resolve(KEY) == f"{CANARY}-a", "is known"
        assert run.resolve(OTHER) == f"{CANARY}-new"
        # The old token is tried first; OpenBao does not always log what it does not know.
        assert again.requests(began)[-2:] == [LOGIN, "kv/data/b"]
        assert again.requests(began).count(LOGIN) == 1
    finally:
        again.stop()


@pytest.mark.parametrize(
    ("days", "address", "message"),
    [
        ((-2, -1), "127.0.0.1", "certificate has expired); renew it, or set the clocks right"),
        ((1, 2), "127.0.0.1", "certificate is not yet valid); set the clocks right"),
        ((-1, 1), "127.0.0.2", "certificate is not valid for '127.0.0.1'); vault_addr must have a name that is in it"),
    ],
)
def test_a_certificate_that_does_not_fit(tmp_path: Path, days: tuple[int, int], address: str, message: str) -> None:
    files = certificate(tmp_path, address, *days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)

    def serve() -> None:
        with suppress(OSError), listener.accept()[0] as connection:
            context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        run = Run(tmp_path, f"https://127.0.0.1:{listener.getsockname()[1]}", ca_file=files[0])
        refused = run.refusal()
        thread.join()
    assert refused.startswith("failed to make a TLS connection: the certificate is not trusted (")
    assert refused.endswith(message)


def certificate(directory: Path, address: str, begin: int, end: int) -> tuple[str, str]:
    """A certificate of an address that is its own authority, valid between so many days from now, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "store")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begin))
        .not_valid_after(now + timedelta(days=end))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = str(directory / "cert.pem"), str(directory / "key.pem")
    Path(paths[0]).write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    Path(paths[1]).write_bytes(key.private_bytes(*private))
    return paths


def test_a_run_ends_with_one_line_and_a_status(tmp_path: Path, bao: openbao.OpenBao) -> None:
    run = Ansible(tmp_path, bao)
    run.role(POLICY)
    keys = [f"{{{{ lookup('gatewayops.openai.secret', '{text}') }}}}" for text in (KEY, "vault://kv/a#nothing")]
    task = {"name": "Use them", "ansible.builtin.assert": {"that": "keys | unique | length == 2", "quiet": True}}
    run.variables(keys=keys)
    status, output = run.play(task, arguments=("--limit", "host0", "-vvvv"))
    assert status == 2
    said = f"vault://kv/a#nothing: the secret in Vault at {bao.address} has no field 'nothing'; it has 'api_key'"
    assert said in " ".join(output.split())
    assert CANARY not in output
    assert "Traceback" not in output
    assert run.finished() == {LOGIN: 1, "kv/data/a": 1, REVOKE: 1}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with a_gateway() as made:
        ran = made.play("site")
        assert ran.status == 0, ran.output
        yield made


def test_lookups_and_actions_of_a_run_share_a_login_and_what_was_read(gateway: Gateway) -> None:
    key = "lookup('gatewayops.openai.secret', 'vault://kv/providers/a#api_key')"
    use = {"name": "Use a key", "ansible.builtin.assert": {"that": f"{key} is match('sk-')", "quiet": True}}
    role = {"name": "Deliver", "ansible.builtin.include_role": {"name": "gatewayops.openai.gateway"}}
    play = [{"hosts": "gateways", "gather_facts": False, "tasks": [use, role, use]}]
    (gateway.directory / "play.yml").write_text(json.dumps(play))
    began = gateway.bao.position()
    ran = gateway.ansible("ansible-playbook", "play.yml")
    assert ran.status == 0, ran.output
    eventually(lambda: REVOKE in gateway.bao.requests(began))
    secrets = ("providers/a", "providers/b", "consumers/search", "consumers/batch")
    assert Counter(gateway.bao.requests(began)) == {LOGIN: 1, REVOKE: 1, **{f"kv/data/{name}": 1 for name in secrets}}


def test_the_gateway_goes_on_serving_with_a_store_that_is_sealed_or_down(gateway: Gateway) -> None:
    assert ask(gateway) == 200
    before = gateway.snapshot()
    # Something to change, so that the run has a reason to touch the gateway.
    gateway.variables["gateway_consumers"]["search"]["limits"] = {"requests_per_minute": 90000}
    gateway.bao.seal()
    for trouble in ("is sealed", "cannot be reached: Connection refused"):
        if trouble != "is sealed":
            gateway.bao.stop()
        ran = gateway.play("site", "--diff", "-vvv")
        assert ran.status != 0
        said = " ".join(ran.output.split())
        assert f"Vault at {gateway.bao.address} {trouble}" in said
        assert "vault://kv/providers/a#api_key" in said
        assert GATEWAY_CANARY not in ran.output
        assert "Traceback" not in ran.output
        assert ask(gateway) == 200
        assert gateway.snapshot() == before


def ask(gateway: Gateway) -> int:
    """Ask as an application would."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{gateway.port}/v1/chat/completions",
        json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]}).encode(),
        {"authorization": f"Bearer sk-{GATEWAY_CANARY}-search", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
