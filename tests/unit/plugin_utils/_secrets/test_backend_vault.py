# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of each answer of a server. A real server is asked in tests/integration/test_secrets_vault.py."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import SecretOptions, VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession

CANARY = "canary-e1f2"
KEY = Reference("vault", "kv/providers/openai", "api_key")
OTHER = Reference("vault", "kv/providers/azure", "api_key")


class Fake(BaseHTTPRequestHandler):
    """Answers what a test put under the path, or else 404."""

    answers: ClassVar[dict[str, tuple[int, Any]]] = {}
    seen: ClassVar[list[str]] = []
    headers_seen: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        type(self).seen.append(self.path)
        type(self).headers_seen.append(dict(self.headers))
        status, body = self.answers.get(self.path, (404, {"errors": []}))
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Fake.answers, Fake.seen, Fake.headers_seen = {}, [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), Fake) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listener.server_port}"
        listener.shutdown()
        thread.join()


def session(cache: Path, addr: str, **options: Any) -> SecretSession:
    vault = VaultOptions(**{"addr": addr, "token": CANARY, **options})
    return SecretSession(SecretOptions(vault=vault), RunCache(cache, b"secret of the run"))


def refusal(asked: SecretSession, *references: Reference) -> str:
    with pytest.raises(SecretError) as caught:
        asked.resolve(references or (KEY,))
    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def kv2(**fields: Any) -> tuple[int, Any]:
    return 200, {"data": {"data": fields, "metadata": {"version": 1}}}


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (429, {"errors": ["request path quota exceeded"]}, "refuses more requests for now (HTTP 429): request path"),
        (500, {"errors": ["1 error\n\t* internal error\n\n"]}, "failed (HTTP 500): 1 error * internal error"),
        (501, {"errors": ["Vault is not initialized"]}, "is not initialized: Vault is not initialized"),
        (502, f"<html>{CANARY}</html>", "is not reached by the gateway before it (HTTP 502)"),
        (503, {"errors": ["Vault is sealed"]}, "is sealed"),
        (503, f"<html>{CANARY}</html>", "is unavailable (HTTP 503)"),
        (418, {"errors": [CANARY[:3] + "x" * 900]}, "answered with an error: can" + "x" * 197),
        (200, f"<html>{CANARY}</html>", "does not answer as Vault does; is vault_addr right?"),
        (200, {"data": None}, "does not answer as Vault does; is vault_addr right?"),
        (200, [CANARY], "does not answer as Vault does; is vault_addr right?"),
        (403, {"errors": ["permission denied"]}, "does not accept the token: wrong, expired or revoked"),
        (403, {"errors": ["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}, "accept the token"),
    ],
)
def test_failures_of_the_store(server: str, tmp_path: Path, status: int, body: Any, message: str) -> None:
    Fake.answers["/v1/kv/data/providers/openai"] = (status, body)
    assert f"{KEY.text}, {OTHER.text}: Vault at {server} " in refusal(session(tmp_path, server), KEY, OTHER)
    assert message in refusal(session(tmp_path, server), KEY, OTHER)
    assert Fake.seen == ["/v1/kv/data/providers/openai"], "no second secret, no second time"


def test_a_store_that_was_down_is_asked_again_later(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets import backend_vault

    Fake.answers["/v1/kv/data/providers/openai"] = (503, {"errors": ["Vault is sealed"]})
    monkeypatch.setattr(backend_vault, "_RETRY_AFTER", -1.0)
    refusal(session(tmp_path, server))
    Fake.answers["/v1/kv/data/providers/openai"] = kv2(api_key="sk-1")
    assert session(tmp_path, server).resolve([KEY]) == {KEY: "sk-1"}


def test_what_was_read_before_a_failure_is_kept(server: str, tmp_path: Path) -> None:
    Fake.answers["/v1/kv/data/providers/openai"] = kv2(api_key="sk-1")
    Fake.answers["/v1/kv/data/providers/azure"] = (500, {"errors": []})
    refusal(session(tmp_path, server), KEY, OTHER)
    assert session(tmp_path, server).resolve([KEY]) == {KEY: "sk-1"}


def test_a_rejected_request_concerns_one_secret(server: str, tmp_path: Path) -> None:
    Fake.answers["/v1/kv/data/providers/openai"] = kv2(api_key="sk-1")
    Fake.answers["/v1/kv/data/providers/azure"] = (400, {"errors": ["nonsense"]})
    assert refusal(session(tmp_path, server), KEY, OTHER) == (
        f"{OTHER.text}: Vault at {server} rejected the request for kv/providers/azure (HTTP 400): nonsense"
    )


@pytest.mark.parametrize("kind", ["database", None])
def test_an_engine_that_is_no_key_value_engine(server: str, tmp_path: Path, kind: str | None) -> None:
    Fake.answers["/v1/sys/internal/ui/mounts/kv/providers/openai"] = (200, {"data": {"type": kind, "path": "kv/"}})
    assert f"has no key-value engine at kv/: it is of type {kind}" in refusal(session(tmp_path, server))


def test_a_version_1_secret_that_looks_like_version_2_by_its_path(server: str, tmp_path: Path) -> None:
    Fake.answers["/v1/kv/data/providers/openai"] = (200, {"data": {"api_key": "the wrong one"}})
    Fake.answers["/v1/sys/internal/ui/mounts/kv/providers/openai"] = (
        200,
        {"data": {"type": "kv", "path": "kv/", "options": None}},
    )
    Fake.answers["/v1/kv/providers/openai"] = (200, {"data": {"api_key": "sk-1"}})
    assert session(tmp_path, server).resolve([KEY]) == {KEY: "sk-1"}


def test_unusual_characters_of_a_path_stay_in_the_path(server: str, tmp_path: Path) -> None:
    odd = Reference("vault", "kv/a%2f..%2fb/é", "api_key")
    Fake.answers["/v1/kv/data/a%252f..%252fb/%C3%A9"] = kv2(api_key="sk-1")
    assert session(tmp_path, server).resolve([odd]) == {odd: "sk-1"}


def test_a_namespace_goes_with_every_request(server: str, tmp_path: Path) -> None:
    Fake.answers["/v1/auth/approle/login"] = (200, {"auth": {"client_token": "t", "lease_duration": 0}})
    Fake.answers["/v1/kv/data/providers/openai"] = kv2(api_key="sk-1")
    given = {"namespace": "team", "auth_method": "approle", "role_id": "r", "secret_id": CANARY}
    assert session(tmp_path, server, **given).resolve([KEY]) == {KEY: "sk-1"}
    assert [headers.get("X-Vault-Namespace") for headers in Fake.headers_seen] == ["team", "team"]
    assert [headers.get("X-Vault-Token") for headers in Fake.headers_seen] == [None, "t"]


def test_a_namespace_that_is_not_there(server: str, tmp_path: Path) -> None:
    Fake.answers["/v1/kv/data/providers/openai"] = (404, {"errors": ["namespace not found"]})
    message = refusal(session(tmp_path, server, namespace="team"))
    assert message.endswith(f"Vault at {server}, namespace team has no namespace 'team'")


@pytest.mark.parametrize("answer", [(200, {"auth": None}), (200, {}), (200, "<html>"), (204, "")])
def test_an_odd_answer_to_a_login(server: str, tmp_path: Path, answer: tuple[int, Any]) -> None:
    Fake.answers["/v1/auth/approle/login"] = answer
    message = refusal(session(tmp_path, server, auth_method="approle", role_id="r", secret_id=CANARY))
    assert "does not answer a login as Vault does" in message


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refused_login_is_not_tried_again(server: str, tmp_path: Path, status: int) -> None:
    Fake.answers["/v1/auth/approle/login"] = (status, {"errors": ["permission denied"]})
    for _turn in range(3):
        message = refusal(session(tmp_path, server, auth_method="approle", role_id="r", secret_id=CANARY), KEY, OTHER)
        assert "refused the login (approle): check vault_role_id, vault_secret_id, vault_auth_mount" in message
    assert Fake.seen == ["/v1/auth/approle/login"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": ""}, "needs vault_token or vault_token_file (~/.vault-token is"),
        ({"addr": ""}, "Vault at (no address) cannot be asked: vault_addr is not set"),
        ({"auth_method": "approle"}, "needs vault_role_id"),
        ({"auth_method": "magic"}, "vault_auth_method must be one of token, approle"),
        ({"ca_file": "/does/not/exist.pem"}, "vault_ca_file /does/not/exist.pem does not exist on the controller"),
    ],
)
def test_what_cannot_work_is_found_before_the_store_is_asked(
    server: str, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    assert message in refusal(session(tmp_path, **{"addr": server, **options}))
    assert Fake.seen == []


def test_a_missing_hvac_is_named_with_the_interpreter(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hvac", None)
    assert f"needs the Python package hvac in {sys.executable}" in refusal(session(tmp_path, server))


def test_hvac_is_not_imported_when_the_run_knows_the_secret(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Fake.answers["/v1/kv/data/providers/openai"] = kv2(api_key="sk-1")
    session(tmp_path, server).resolve([KEY])
    monkeypatch.setitem(sys.modules, "hvac", None)
    assert session(tmp_path, server).resolve([KEY]) == {KEY: "sk-1"}


def test_who_asks_and_whom_is_part_of_what_is_known_and_how_long_to_wait_is_not(server: str, tmp_path: Path) -> None:
    Fake.answers["/v1/kv/data/providers/openai"] = kv2(api_key="sk-1")
    for options in ({}, {"timeout": 3.0}, {"token": "another"}, {"namespace": "team"}):
        session(tmp_path, server, **options).resolve([KEY])
    assert len(Fake.seen) == 3


def test_a_cache_that_cannot_be_written(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = refusal(session(tmp_path / "file", server))
    assert message == f"{KEY.text}: the cache of this run cannot be written: File exists"
