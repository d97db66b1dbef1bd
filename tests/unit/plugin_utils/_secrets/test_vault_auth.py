# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each way to log in checks and sends. Real servers are asked in tests/integration/test_secrets_auth*.py."""

from __future__ import annotations

import json
import sys
from base64 import b64decode
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.gatewayops.openai.plugins.doc_fragments.vault import ModuleDocFragment
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets import vault_auth_aws_iam
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import (
    AwsOptions,
    VaultOptions,
    identity,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_auth import (
    AUTH_METHODS,
    auth_method,
    refusal,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_client import StoreError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import login_of, read_file

CANARY = "canary-5a5b"
AUTH = {"auth": {"client_token": CANARY, "lease_duration": 600, "renewable": True}}
GITHUB = "gets a token from GitHub in a job of GitHub Actions that has the permission id-token: write only"


class Client:
    """An ``hvac.Client`` that admits everybody and keeps what was sent."""

    def __init__(self) -> None:
        self.adapter = self
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def login(self, *, url: str, use_token: bool, json: dict[str, Any]) -> dict[str, Any]:
        assert not use_token
        self.sent.append((url, json))
        return AUTH


def log_in(**given: Any) -> tuple[str, dict[str, Any]]:
    options = VaultOptions(**given)
    client = Client()
    method = auth_method(options)
    method.validate(options)
    login = method.authenticate(client, options)
    assert (login.token, login.seconds, login.renewable, login.own) == (CANARY, 600, True, True)
    assert CANARY not in repr(login)
    (sent,) = client.sent
    return sent


def test_the_methods_are_those_of_the_documentation() -> None:
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]["vault_auth_method"]["choices"]
    assert list(AUTH_METHODS) == documented


@pytest.mark.parametrize("name", AUTH_METHODS)
def test_the_options_of_a_method_are_options(name: str) -> None:
    known = {f"vault_{each.name}" for each in fields(VaultOptions)}
    method = AUTH_METHODS[name]
    assert {option for entry in method.OPTIONS for option in entry.split("|")} <= known


@pytest.mark.parametrize(
    ("method", "given", "problem"),
    [
        ("token", {}, "needs vault_token or vault_token_file (~/.vault-token is read only when that names it)"),
        (
            "token",
            {"token_file": "/no/file"},
            "needs the file /no/file (vault_token_file), which is not there on the controller",
        ),
        ("approle", {}, "needs vault_role_id"),
        (
            "approle",
            {"secret_id": CANARY, "wrapped_secret_id": CANARY},
            "needs vault_role_id; it takes vault_secret_id or vault_wrapped_secret_id, not both",
        ),
        ("jwt", {}, "needs vault_jwt, vault_jwt_file or vault_jwt_github_audience"),
        ("jwt", {"jwt_file": "/"}, "needs the file / (vault_jwt_file), which is not there on the controller"),
        ("jwt", {"jwt_github_audience": "https://vault"}, GITHUB),
        (
            "kubernetes",
            {},
            "needs vault_role; it needs the file /var/run/secrets/kubernetes.io/serviceaccount/token (vault_jwt_file),"
            " which is not there on the controller",
        ),
        ("userpass", {}, "needs vault_username; it needs vault_password"),
        ("ldap", {"password": CANARY}, "needs vault_username"),
        (
            "cert",
            {"addr": "http://vault"},
            "needs vault_client_cert; it needs vault_client_key; it needs a vault_addr that begins with https://",
        ),
    ],
)
def test_every_problem_is_told_at_once(
    method: str, given: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_URL", raising=False)
    options = VaultOptions(auth_method=method, **given)
    with pytest.raises(SecretError) as caught:
        auth_method(options).validate(options)
    assert str(caught.value) == f"the auth method {method} {problem}"


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("token", {"token": CANARY, "token_file": "/no/file"}),
        ("approle", {"role_id": "r"}),
        ("approle", {"role_id": "r", "wrapped_secret_id": CANARY}),
        ("jwt", {"jwt": CANARY, "jwt_file": "/no/file"}),
        ("jwt", {"jwt_file": __file__}),
        ("kubernetes", {"role": "r", "jwt_file": __file__}),
        ("userpass", {"username": "u", "password": CANARY}),
        ("ldap", {"username": "u", "password": CANARY}),
        ("cert", {"addr": "https://vault", "client_cert": "c", "client_key": "k"}),
        ("cert", {"client_cert": "c", "client_key": "k"}),
    ],
)
def test_enough_options(method: str, given: dict[str, Any]) -> None:
    options = VaultOptions(auth_method=method, **given)
    auth_method(options).validate(options)


def test_github_is_asked_in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    options = VaultOptions(auth_method="jwt", jwt_github_audience="https://vault")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "https://github")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", CANARY)
    auth_method(options).validate(options)


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (200, b"{}", "GitHub gave no token"),
        (200, b"[]", "GitHub gave no token"),
        (200, b"<html>" + CANARY.encode(), "GitHub gave no token"),
        (302, b"", "GitHub gave no token (HTTP 302)"),
        (403, CANARY.encode(), "GitHub gave no token (HTTP 403)"),
    ],
)
def test_github_gives_no_token(monkeypatch: pytest.MonkeyPatch, status: int, content: bytes, said: str) -> None:
    import requests

    def get(url: str, **given: Any) -> requests.Response:
        assert (url, given["allow_redirects"], given["timeout"]) == ("https://github/?api-version=2.0", False, 10.0)
        assert given["params"] == {"audience": "https://vault"}
        answer = requests.Response()
        answer.status_code, answer._content = status, content
        return answer

    monkeypatch.setattr(requests, "get", get)
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "https://github/?api-version=2.0")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", CANARY)
    options = VaultOptions(auth_method="jwt", jwt_github_audience="https://vault")
    with pytest.raises(SecretError) as caught:
        auth_method(options).authenticate(Client(), options)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("given", "path", "body"),
    [
        (
            {"auth_method": "ldap", "username": "ann", "password": CANARY},
            "/v1/auth/ldap/login/ann",
            {"password": CANARY},
        ),
        (
            {"auth_method": "ldap", "auth_mount": "ad/eu", "username": "EXAMPLE\\ann/x ?", "password": CANARY},
            "/v1/auth/ad/eu/login/EXAMPLE%5Cann%2Fx%20%3F",
            {"password": CANARY},
        ),
        ({"auth_method": "approle", "role_id": "r"}, "/v1/auth/approle/login", {"role_id": "r"}),
        ({"auth_method": "jwt", "jwt": CANARY}, "/v1/auth/jwt/login", {"role": "", "jwt": CANARY}),
        (
            {"auth_method": "cert", "client_cert": "c", "client_key": "k", "role": "r"},
            "/v1/auth/cert/login",
            {"name": "r"},
        ),
    ],
)
def test_what_is_sent(given: dict[str, Any], path: str, body: dict[str, Any]) -> None:
    assert log_in(**given) == (path, body)


def test_the_file_of_a_service_account_is_read_at_the_login(tmp_path: Path) -> None:
    file = tmp_path / "token"
    for token in ("one", "two"):
        file.write_text(f" {token}\n")
        path, body = log_in(auth_method="kubernetes", role="gateway", jwt_file=str(file))
        assert (path, body) == ("/v1/auth/kubernetes/login", {"role": "gateway", "jwt": token})


def test_a_given_token_is_not_ours(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{CANARY}-file\n")
    for options, token in (
        (VaultOptions(token=CANARY, token_file=str(file)), CANARY),
        (VaultOptions(token_file=str(file)), f"{CANARY}-file"),
    ):
        login = auth_method(options).authenticate(None, options)
        assert (login.token, login.seconds, login.renewable, login.own) == (token, None, False, False)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (f"{CANARY}\nsecond".encode(), "must hold one line of ASCII text and nothing else"),
        (f"{CANARY}€".encode(), "must hold one line of ASCII text and nothing else"),
        (b"\xff\xfe", "must hold one line of ASCII text and nothing else"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_holds_no_token(tmp_path: Path, content: bytes | None, problem: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SecretError) as caught:
        read_file("vault_token_file", str(file))
    assert str(caught.value) == f"vault_token_file {file} {problem}"


def test_a_second_factor() -> None:
    answer = {"auth": {"client_token": "", "mfa_requirement": {"mfa_request_id": "1"}}}
    with pytest.raises(StoreError, match="asks for a second factor, which a run cannot give") as caught:
        login_of(answer)
    assert caught.value.lasting


def test_a_token_that_does_not_end() -> None:
    assert login_of({"auth": {**AUTH["auth"], "lease_duration": 0}}).seconds is None


@pytest.mark.parametrize("name", [each.name for each in fields(VaultOptions)])
def test_what_makes_an_identity(name: str) -> None:
    options = VaultOptions(auth_method="jwt")
    other: dict[str, Any] = {"timeout": 1.0, "kv_version": 1, "aws": AwsOptions(profile="other")}
    changed = replace(options, **{name: other.get(name, "other")})
    assert (identity(changed) == identity(options)) is (name in ("timeout", "aws"))


@pytest.mark.parametrize("name", [each.name for each in fields(AwsOptions)])
def test_credentials_of_aws_make_an_identity_where_they_are_used(name: str) -> None:
    options = VaultOptions(auth_method="aws_iam")
    changed = replace(options, aws=AwsOptions(**{name: 1.0 if name == "timeout" else "other"}))
    assert (identity(changed) != identity(options)) is (name in ("profile", "region"))


@pytest.mark.parametrize(
    ("given", "said", "message"),
    [
        (
            {"auth_method": "approle", "wrapped_secret_id": CANARY},
            "invalid role or secret ID",
            "(approle): check vault_role_id, vault_wrapped_secret_id, vault_auth_mount (auth/approle)",
        ),
        (
            {"auth_method": "jwt", "jwt_file": "x", "auth_mount": "ci/jwt"},
            "",
            "(jwt): check vault_jwt_file, vault_role, vault_auth_mount (auth/ci/jwt)",
        ),
        ({"auth_method": "ldap"}, "ldap operation failed: error connecting to host", "not reach its directory"),
        ({"auth_method": "ldap"}, f"{CANARY}", "(ldap): check vault_username, vault_password, vault_auth_mount"),
        ({"auth_method": "cert"}, "no client certificate found", "(cert): the server sees no client certificate"),
        ({"auth_method": "aws_iam"}, "entry for role gateway not found", "(aws_iam): there is no such role"),
    ],
)
def test_a_refusal_says_what_to_check_and_not_what_the_server_said(
    given: dict[str, Any], said: str, message: str
) -> None:
    options = VaultOptions(**given)
    text = refusal(auth_method(options), options, said)
    assert text.startswith("refused the login (")
    assert message in text
    assert CANARY not in text


@pytest.mark.parametrize("region", ["", "eu-west-1", "cn-north-1"])
def test_a_signed_request(region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    given = {"auth_method": "aws_iam", "role": "gateway", "aws_server_id": "vault", "aws_sts_region": region}
    path, body = log_in(**given, aws=AwsOptions(region="ap-south-1"))
    assert path == "/v1/auth/aws/login"
    assert (body.pop("role"), body.pop("iam_http_request_method")) == ("gateway", "POST")
    decoded = {name: b64decode(value).decode() for name, value in body.items()}
    assert CANARY not in str(decoded)
    assert decoded["iam_request_body"] == "Action=GetCallerIdentity&Version=2011-06-15"
    assert (
        decoded["iam_request_url"]
        == {
            "": "https://sts.amazonaws.com/",
            "eu-west-1": "https://sts.eu-west-1.amazonaws.com/",
            "cn-north-1": "https://sts.cn-north-1.amazonaws.com.cn/",
        }[region]
    )
    headers = json.loads(decoded["iam_request_headers"])
    assert headers["X-Vault-AWS-IAM-Server-ID"] == ["vault"]
    assert headers["X-Amz-Security-Token"] == ["session"]
    (authorization,) = headers["Authorization"]
    assert f"/{region or 'us-east-1'}/sts/aws4_request, " in authorization
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-vault-aws-iam-server-id" in authorization


@pytest.mark.parametrize("process", ["/nonexistent/tool", f"/bin/echo {CANARY}", "/bin/echo [1]"])
def test_a_credential_process_that_gives_none(process: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config").write_text(f"[profile team]\ncredential_process = {process}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(SecretError, match=r"aws_iam cannot use the AWS credentials: [A-Za-z]+$") as caught:
        log_in(auth_method="aws_iam", aws=AwsOptions(profile="team"))
    assert CANARY not in str(caught.value)


def test_keys_in_the_environment_come_before_a_profile_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[profile team]\naws_access_key_id = AKIATEAM\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    for environment, signer in (("team", "AKIAENVIRONMENT"), ("", "AKIATEAM")):
        monkeypatch.setenv("AWS_PROFILE", environment)
        _path, body = log_in(auth_method="aws_iam", aws=AwsOptions(profile="team"))
        assert f"Credential={signer}/" in b64decode(body["iam_request_headers"]).decode()


def test_boto3_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(SecretError, match="the auth method aws_iam needs the Python package boto3"):
        vault_auth_aws_iam.validate(VaultOptions())
