# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""References against a real OpenBao; every request is counted in its audit log."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration import openbao

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference, parse_source
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import SecretOptions, VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession

CANARY = "canary-3d4e5f"
LOGIN = "auth/approle/login"
RENEW = "auth/token/renew-self"
POLICY = """
path "kv/data/providers/*" { capabilities = ["read"] }
path "kv1/providers/*" { capabilities = ["read"] }
path "team/kv/data/*" { capabilities = ["read"] }
"""


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openbao.OpenBao]:
    server = openbao.start(tmp_path_factory.mktemp("openbao"))
    try:
        server.put("kv/providers/openai", api_key=f"{CANARY}-old", organization="org")
        server.put("kv/providers/openai", api_key=CANARY, organization=f"{CANARY}-org", number=7, empty="")
        server.put("kv/providers/azure", api_key=f"{CANARY}-azure")
        server.put("kv/providers/deleted", api_key=CANARY)
        server.call("DELETE", "kv/data/providers/deleted")
        server.put("kv/providers/destroyed", api_key=CANARY)
        server.call("PUT", "kv/destroy/providers/destroyed", {"versions": [1]})
        server.put("kv/others/secret", api_key=CANARY)
        server.put("kv1/providers/openai", api_key=f"{CANARY}-1")
        server.put("kv1/providers/azure", api_key=f"{CANARY}-2")
        server.put("kv1/others/secret", api_key=CANARY)
        server.call("POST", "sys/mounts/team/kv", {"type": "kv", "options": {"version": "2"}})
        server.wait_for_engine("team/kv")
        server.call("POST", "team/kv/data/openai", {"data": {"api_key": f"{CANARY}-team"}})
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def role(bao: openbao.OpenBao) -> dict[str, Any]:
    role_id, secret_id = bao.approle("gateway", POLICY)
    return {"addr": bao.address, "auth_method": "approle", "role_id": role_id, "secret_id": secret_id}


class Run:
    """One run of Ansible: sessions of different processes that share its cache."""

    def __init__(self, bao: openbao.OpenBao | None, cache: Path, options: dict[str, Any]) -> None:
        self.bao = bao
        self.cache = cache
        self.options = options
        self.began = bao.position() if bao else 0

    def resolve(self, *texts: str, **options: Any) -> list[str]:
        vault = VaultOptions(**{**self.options, **options})
        session = SecretSession(SecretOptions(vault=vault), RunCache(self.cache, b"authkey of the run"))
        wanted = [reference(text) for text in texts]
        values = session.resolve(wanted)
        return [values[each] for each in wanted]

    def refusal(self, *texts: str, **options: Any) -> list[str]:
        with pytest.raises(SecretError) as caught:
            self.resolve(*texts, **options)
        message = str(caught.value)
        for secret in (CANARY, self.options.get("secret_id") or "-", self.options.get("token") or "-"):
            assert secret not in message or secret == "-"
        return message.splitlines()

    @property
    def requests(self) -> list[str]:
        assert self.bao
        return self.bao.requests(self.began)


def reference(text: str) -> Reference:
    source = parse_source(text, allow_path=False)
    assert isinstance(source, Reference)
    return source


@pytest.fixture
def run(bao: openbao.OpenBao, role: dict[str, Any], tmp_path: Path) -> Run:
    return Run(bao, tmp_path / "cache", role)


def test_one_login_and_one_read_of_each_secret_in_a_run(run: Run) -> None:
    for _fork in range(3):
        assert run.resolve(
            "vault://kv/providers/openai#api_key",
            "vault://kv/providers/openai#organization",
            "vault://kv/providers/azure#api_key",
            "vault://kv/providers/openai#api_key",
        ) == [CANARY, f"{CANARY}-org", f"{CANARY}-azure", CANARY]
    assert sorted(run.requests) == [LOGIN, "kv/data/providers/azure", "kv/data/providers/openai"]


def test_a_pinned_version_is_a_secret_of_its_own(run: Run) -> None:
    assert run.resolve(
        "vault://kv/providers/openai#api_key?version=1",
        "vault://kv/providers/openai#api_key?version=2",
        "vault://kv/providers/openai#api_key",
    ) == [f"{CANARY}-old", CANARY, CANARY]
    assert run.requests == [LOGIN, *["kv/data/providers/openai"] * 3]


def test_version_1_is_found_out_once_for_an_engine(run: Run) -> None:
    assert run.resolve("vault://kv1/providers/openai#api_key") == [f"{CANARY}-1"]
    assert run.resolve("vault://kv1/providers/azure#api_key") == [f"{CANARY}-2"]
    assert run.requests == [
        LOGIN,
        "kv1/data/providers/openai",
        "sys/internal/ui/mounts/kv1/providers/openai",
        "kv1/providers/openai",
        "kv1/providers/azure",
    ]


def test_a_mount_with_slashes_is_found_out(run: Run) -> None:
    assert run.resolve("vault://team/kv/openai#api_key") == [f"{CANARY}-team"]
    assert run.requests[-1] == "team/kv/data/openai"


@pytest.mark.parametrize(
    ("engine", "version", "path"), [("kv", 2, "kv/data/providers/azure"), ("kv1", 1, "kv1/providers/azure")]
)
def test_a_given_version_is_not_asked_for(run: Run, engine: str, version: int, path: str) -> None:
    run.resolve(f"vault://{engine}/providers/azure#api_key", kv_version=version)
    assert run.requests == [LOGIN, path]


def test_a_wrong_given_version_is_an_error_that_says_what_was_tried(run: Run) -> None:
    (line,) = run.refusal("vault://kv1/providers/azure#api_key", kv_version=2)
    assert "denies reading providers/azure in kv1/ (KV version 2)" in line


def test_a_token(run: Run, bao: openbao.OpenBao) -> None:
    token = {"auth_method": "token", "token": bao.token}
    assert run.resolve("vault://kv/others/secret#api_key", "vault://kv1/others/secret#api_key", **token) == [CANARY] * 2
    assert LOGIN not in run.requests


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vault://kv/providers/none#k", "has no secret providers/none in kv/ (KV version 2)"),
        ("vault://kv1/providers/none#k", "has no secret providers/none in kv1/ (KV version 1)"),
        ("vault://kv/providers/openai#k?version=9", "has no version 9 of providers/openai in kv/ (KV version 2)"),
        ("vault://kv1/providers/openai#k?version=9", "keeps no versions in kv1/, which is KV version 1"),
        (
            "vault://kv/providers/deleted#k",
            "has no secret providers/deleted in kv/ (KV version 2) any more: version 1 was deleted",
        ),
        (
            "vault://kv/providers/destroyed#k",
            "has no secret providers/destroyed in kv/ (KV version 2) any more: version 1 was destroyed",
        ),
        (
            "vault://kv/others/secret#k",
            'denies reading others/secret in kv/ (KV version 2): a policy must allow "read" on kv/data/others/secret',
        ),
        (
            "vault://kv1/others/secret#k",
            'denies reading others/secret in kv1/ (KV version 1): a policy must allow "read" on kv1/others/secret',
        ),
        ("vault://nowhere/x#k", "denies reading nowhere/x, or has no key-value engine there"),
        ("vault://team/kv#k", "has an engine at team/kv/, and the reference names no secret in it"),
    ],
)
def test_a_secret_that_cannot_be_read(run: Run, bao: openbao.OpenBao, text: str, message: str) -> None:
    (line,) = run.refusal(text)
    assert line == f"{text}: Vault at {bao.address} {message}"
    asked = len(run.requests)
    assert run.refusal(text) == [line]
    assert len(run.requests) == asked, "a refusal is remembered as well"


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("key", "has no field 'key'; it has 'api_key', 'empty', 'number', 'organization'"),
        ("number", "the field 'number' in the secret in Vault at {} is not text"),
        ("empty", "write a new key there, or refer to a field with one that is valid"),
    ],
)
def test_a_field_that_cannot_be_used(run: Run, bao: openbao.OpenBao, field: str, message: str) -> None:
    (line,) = run.refusal(f"vault://kv/providers/openai#{field}")
    assert line.startswith(f"vault://kv/providers/openai#{field}: ")
    assert line.endswith(message.format(bao.address))


def test_an_engine_of_another_kind(run: Run, bao: openbao.OpenBao) -> None:
    (line,) = run.refusal("vault://cubbyhole/x#k", auth_method="token", token=bao.token)
    assert line.endswith("has no key-value engine at cubbyhole/: it is of type cubbyhole")


def test_several_failures_are_told_together_and_the_rest_is_read(run: Run) -> None:
    lines = run.refusal(
        "vault://kv/providers/none#k",
        "vault://kv/providers/azure#api_key",
        "vault://kv/others/secret#k",
        "env://NONE_1",
    )
    assert [line.partition(": ")[0] for line in lines] == [
        "vault://kv/providers/none#k",
        "vault://kv/others/secret#k",
        "env://NONE_1",
    ]
    before = len(run.requests)
    assert run.resolve("vault://kv/providers/azure#api_key") == [f"{CANARY}-azure"]
    assert len(run.requests) == before


def test_a_wrong_secret_id_is_tried_once(run: Run) -> None:
    for _fork in range(4):
        (line,) = run.refusal(
            "vault://kv/providers/openai#api_key", "vault://kv/providers/azure#api_key", secret_id="no"
        )
        assert "refused the login (approle): check vault_role_id, vault_secret_id, vault_auth_mount" in line
    assert run.requests == [LOGIN]
    assert run.resolve("vault://kv/providers/azure#api_key") == [f"{CANARY}-azure"], "the right one is not locked out"


def test_a_wrong_token_is_tried_once(run: Run) -> None:
    for _fork in range(3):
        (line,) = run.refusal(
            *(f"vault://kv/providers/{name}#api_key" for name in "abcdefghij"), auth_method="token", token="s.wrong"
        )
        assert line.endswith("does not accept the token: wrong, expired or revoked")
    assert len(run.requests) <= 1, "OpenBao does not always log what it does not know"


def test_a_token_file_in_the_home_directory_is_not_read(
    run: Run, bao: openbao.OpenBao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".vault-token").write_text(bao.token)
    monkeypatch.setenv("HOME", str(tmp_path))
    (line,) = run.refusal("vault://kv/others/secret#api_key", auth_method="token")
    assert "needs vault_token or vault_token_file (~/.vault-token is read only when that names it)" in line
    assert run.requests == []


def test_a_token_that_ended_during_the_run_is_replaced(bao: openbao.OpenBao, tmp_path: Path) -> None:
    role_id, secret_id = bao.approle("short", POLICY, token_ttl="1s")
    given = {"addr": bao.address, "auth_method": "approle", "role_id": role_id, "secret_id": secret_id}
    run = Run(bao, tmp_path / "cache", given)
    run.resolve("vault://kv/providers/openai#api_key")
    time.sleep(1.1)
    run.resolve("vault://kv/providers/azure#api_key")
    assert run.requests == [LOGIN, "kv/data/providers/openai", RENEW, LOGIN, "kv/data/providers/azure"]


def test_a_token_with_little_left_is_renewed(bao: openbao.OpenBao, tmp_path: Path) -> None:
    role_id, secret_id = bao.approle("brief", POLICY, token_ttl="3s")
    given = {"addr": bao.address, "auth_method": "approle", "role_id": role_id, "secret_id": secret_id}
    run = Run(bao, tmp_path / "cache", given)
    for wait, name in ((0.0, "openai"), (2.2, "azure"), (2.2, "none")):
        time.sleep(wait)
        if name == "none":
            run.refusal(f"vault://kv/providers/{name}#api_key")
        else:
            run.resolve(f"vault://kv/providers/{name}#api_key")
    read = "kv/data/providers/"
    assert [path for path in run.requests if not path.startswith("sys/")] == [
        *(LOGIN, f"{read}openai", RENEW, f"{read}azure", RENEW, f"{read}none"),
    ]


def test_a_token_that_was_revoked_during_the_run(bao: openbao.OpenBao, role: dict[str, Any], tmp_path: Path) -> None:
    run = Run(bao, tmp_path / "cache", role)
    run.resolve("vault://kv/providers/openai#api_key")
    bao.call("POST", "sys/leases/revoke-prefix/auth/approle/login")
    wanted = ["vault://kv/providers/azure#api_key", "vault://kv1/providers/azure#api_key"]
    assert run.resolve(*wanted) == [f"{CANARY}-azure", f"{CANARY}-2"]
    assert run.requests.count(LOGIN) == 2

    token = bao.call("POST", "auth/token/create", {"policies": ["default", "gateway"]})["auth"]["client_token"]
    given = Run(bao, tmp_path / "given", {"addr": bao.address, "token": token})
    given.resolve("vault://kv/providers/openai#api_key")
    bao.call("POST", "auth/token/revoke", {"token": token})
    (line,) = given.refusal("vault://kv/providers/azure#api_key")
    assert line.endswith("does not accept the token: wrong, expired or revoked")


def test_only_ciphertext_is_on_the_disk(run: Run, role: dict[str, Any]) -> None:
    run.resolve("vault://kv/providers/openai#api_key", "vault://kv1/providers/openai#api_key")
    files = list(run.cache.iterdir())
    assert len(files) == 4, "the lock, the token, and two answers"
    for file in files:
        content = file.read_bytes()
        for word in (CANARY, role["secret_id"], role["role_id"], "providers", "token", "hvs.", "s."):
            assert word.encode() not in content or len(word) < 3
            assert word not in file.name


def test_many_secrets_are_read_at_the_same_time(run: Run, bao: openbao.OpenBao) -> None:
    for number in range(50):
        bao.put(f"kv/providers/many/{number}", api_key=f"{CANARY}-{number}")
    run.began = bao.position()
    wanted = [f"vault://kv/providers/many/{number}#api_key" for number in range(50)]
    assert run.resolve(*wanted) == [f"{CANARY}-{number}" for number in range(50)]
    assert len(run.requests) == 51


def test_a_closed_port(tmp_path: Path) -> None:
    run = Run(None, tmp_path, {"addr": f"http://127.0.0.1:{openbao.free_port()}", "token": CANARY})
    (line,) = run.refusal("vault://kv/a#k", "vault://kv/b#k")
    assert (
        line == f"vault://kv/a#k, vault://kv/b#k: Vault at {run.options['addr']} cannot be reached: Connection refused"
    )


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        addr = f"http://127.0.0.1:{listener.getsockname()[1]}"
        run = Run(None, tmp_path, {"addr": addr, "token": CANARY, "timeout": 0.3})
        began = time.monotonic()
        for _fork in range(5):
            (line,) = run.refusal(*(f"vault://kv/{name}#k" for name in "abcdef"))
            assert line.endswith(f"Vault at {addr} did not answer within 0.3 s (vault_timeout)")
    assert time.monotonic() - began < 1.2, "the forks do not wait one after the other"


def test_forks_that_ask_at_the_same_time(run: Run) -> None:
    threads = [
        threading.Thread(target=run.resolve, args=("vault://kv/providers/openai#api_key",)) for _turn in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert run.requests == [LOGIN, "kv/data/providers/openai"]


def test_sealed(tmp_path: Path) -> None:
    server = openbao.start(tmp_path / "openbao")
    try:
        role_id, secret_id = server.approle("gateway", POLICY)
        server.put("kv/providers/openai", api_key=CANARY)
        given = {"addr": server.address, "auth_method": "approle", "role_id": role_id, "secret_id": secret_id}
        run = Run(server, tmp_path / "cache", given)
        run.resolve("vault://kv/providers/openai#api_key")
        server.seal()

        assert run.resolve("vault://kv/providers/openai#api_key") == [CANARY], "what the run knows stays known"
        (line,) = run.refusal("vault://kv/providers/azure#api_key")
        assert line == f"vault://kv/providers/azure#api_key: Vault at {server.address} is sealed"
        (line,) = Run(server, tmp_path / "another", given).refusal("vault://kv/providers/openai#api_key")
        assert line.endswith("is sealed")
    finally:
        server.stop()


def test_tls(tmp_path: Path) -> None:
    server = openbao.start(tmp_path / "openbao", tls=True)
    try:
        server.put("kv/providers/openai", api_key=CANARY)
        run = Run(server, tmp_path / "cache", {"addr": server.address, "token": server.token})
        (line,) = run.refusal("vault://kv/providers/openai#api_key")
        assert f"Vault at {server.address} failed to make a TLS connection: the certificate is not trusted (" in line
        assert line.endswith("; see vault_ca_file")
        assert run.resolve("vault://kv/providers/openai#api_key", ca_file=server.ca_file) == [CANARY]

        plain = server.address.replace("https", "http")
        (line,) = run.refusal("vault://kv/providers/openai#api_key", addr=plain)
        assert "rejected the request" in line or "does not answer" in line
        (line,) = run.refusal("vault://kv/providers/openai#api_key", ca_file=__file__)
        assert "failed to make a TLS connection" in line
    finally:
        server.stop()
