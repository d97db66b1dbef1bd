# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The login as an AWS principal, whose signature moto checks.

OpenBao comes without this method, so a stand-in takes its place. It does what Vault documents: it takes the request
apart, wants its own name among the signed headers, sends the request to STS, and looks at the answer.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from integration import identities
from moto.server import ThreadedMotoServer

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import (
    AwsOptions,
    SecretOptions,
    VaultOptions,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession

CANARY = "canary-41aa"
KEY = Reference("vault", "kv/providers/openai", "api_key")
SERVER_ID = "vault.example.com"
PREFIX = "Vault at {} refused the login (aws_iam): "


class _Handler(identities.JsonHandler):
    server: Vault

    def do_GET(self) -> None:  # noqa: N802
        assert self.headers["X-Vault-Token"] == "s.1"
        self.answer(200, {"data": {"data": {"api_key": CANARY}, "metadata": {"version": 1}}})

    def do_POST(self) -> None:  # noqa: N802
        self.server.asked.append(self.path)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        problem = self._problem(body)
        if problem:
            self.answer(400, {"errors": [problem]})
        else:
            self.answer(200, {"auth": {"client_token": "s.1", "lease_duration": 600, "renewable": True}})

    def _problem(self, body: dict[str, str]) -> str:
        url, headers, content = (
            b64decode(body[name]).decode() for name in ("iam_request_url", "iam_request_headers", "iam_request_body")
        )
        sent = {name: ",".join(values) for name, values in json.loads(headers).items()}
        signed = re.search(r"SignedHeaders=([^,]*)", sent["Authorization"])
        assert signed
        header = "X-Vault-AWS-IAM-Server-ID"
        if sent.get(header) != SERVER_ID or header.lower() not in signed.group(1).split(";"):
            return f"error validating {header} header: missing or wrong"
        request = urllib.request.Request(
            self.server.sts + urlsplit(url).path, content.encode(), {**sent, "Host": urlsplit(url).netloc}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                found = re.search("<Arn>(.*)</Arn>", answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode()
            return f"error making upstream request: received error code {error.code} from STS: {text}"
        assert found
        if body["role"] != "gateway":
            return f'entry for role "{body["role"]}" not found'
        if found.group(1) not in self.server.principals:
            return f'IAM Principal "{found.group(1)}" does not belong to the role "gateway"'
        return ""


class Vault(ThreadingHTTPServer):
    """Vault with the method aws, which admits ``principals`` (ARNs), and asks ``sts`` (a URL)."""

    daemon_threads = True

    def __init__(self, sts: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.sts = sts
        self.principals: list[str] = []
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """AWS, which from now on checks signatures."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    try:
        yield address
    finally:
        _check_signatures(address, after="inf")
        server.stop()


def _check_signatures(address: str, *, after: str) -> None:
    request = urllib.request.Request(
        f"{address}/moto-api/reset-auth", after.encode(), {"Content-Type": "text/plain"}, method="POST"
    )
    urllib.request.urlopen(request, timeout=10).close()


@pytest.fixture(scope="module")
def keys(aws: str) -> dict[str, dict[str, str]]:
    """Credentials by profile: a user's, and those of a role that the user takes on, with a session token."""
    given = {"region_name": "us-east-1", "endpoint_url": aws}
    iam = boto3.client("iam", aws_access_key_id="any", aws_secret_access_key="any", **given)
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    iam.create_user(UserName="ansible")
    iam.put_user_policy(UserName="ansible", PolicyName="all", PolicyDocument=policy)
    key = iam.create_access_key(UserName="ansible")["AccessKey"]
    user = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    role = iam.create_role(RoleName="deployer", AssumeRolePolicyDocument=policy)["Role"]["Arn"]
    iam.put_role_policy(RoleName="deployer", PolicyName="all", PolicyDocument=policy)
    taken = boto3.client("sts", **user, **given).assume_role(RoleArn=role, RoleSessionName="run")["Credentials"]
    _check_signatures(aws, after="0")
    return {
        "user": user,
        "wrong": {**user, "aws_secret_access_key": "wrong-41aa"},
        "role": {
            "aws_access_key_id": taken["AccessKeyId"],
            "aws_secret_access_key": taken["SecretAccessKey"],
            "aws_session_token": taken["SessionToken"],
        },
    }


@pytest.fixture
def vault(aws: str) -> Iterator[Vault]:
    vault = Vault(aws)
    vault.principals += [
        "arn:aws:iam::123456789012:user/ansible",
        "arn:aws:sts::123456789012:assumed-role/deployer/run",
    ]
    with identities.serving(vault):
        yield vault


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keys: dict[str, dict[str, str]]) -> None:
    files = {name: tmp_path / name for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE")}
    for name, file in files.items():
        monkeypatch.setenv(name, str(file))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    # The region of other work, which must not get into the signature.
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    files["AWS_SHARED_CREDENTIALS_FILE"].write_text(
        "".join(
            f"[{profile}]\n" + "".join(f"{name} = {value}\n" for name, value in values.items())
            for profile, values in keys.items()
        )
    )


def resolve(vault: Vault, cache: Path, profile: str, **options: Any) -> str:
    given = {"auth_method": "aws_iam", "role": "gateway", "aws_server_id": SERVER_ID, **options}
    wanted = VaultOptions(addr=vault.address, aws=AwsOptions(profile=profile, region="eu-central-1"), **given)
    return SecretSession(SecretOptions(vault=wanted), RunCache(cache, b"authkey")).resolve([KEY])[KEY]


def refusal(vault: Vault, cache: Path, profile: str, **options: Any) -> str:
    messages = set()
    for _process in range(3):
        with pytest.raises(SecretError) as caught:
            resolve(vault, cache, profile, **options)
        messages.add(str(caught.value).removeprefix(f"{KEY.text}: "))
    (message,) = messages
    assert "41aa" not in message
    return message


@pytest.mark.parametrize("profile", ["user", "role"])
@pytest.mark.parametrize("region", ["", "eu-west-1"])
def test_a_principal(vault: Vault, tmp_path: Path, profile: str, region: str) -> None:
    for _process in range(3):
        assert resolve(vault, tmp_path / "cache", profile, aws_sts_region=region) == CANARY
    assert vault.asked == ["/v1/auth/aws/login"]


@pytest.mark.parametrize(
    ("profile", "options", "message"),
    [
        ("wrong", {}, "AWS does not confirm who signed: check the credentials, the clock, and vault_aws_sts_region"),
        ("user", {"aws_server_id": ""}, "vault_aws_server_id is not the iam_server_id_header_value of the server"),
        ("user", {"aws_server_id": "x"}, "vault_aws_server_id is not the iam_server_id_header_value of the server"),
        ("user", {"role": "other"}, "there is no such role: check vault_role and vault_auth_mount"),
    ],
)
def test_refused_once(vault: Vault, tmp_path: Path, profile: str, options: dict[str, Any], message: str) -> None:
    assert refusal(vault, tmp_path / "cache", profile, **options) == PREFIX.format(vault.address) + message
    assert vault.asked == ["/v1/auth/aws/login"]


def test_another_principal(vault: Vault, tmp_path: Path) -> None:
    vault.principals.clear()
    assert refusal(vault, tmp_path / "cache", "role").endswith(
        "the role is not for this AWS principal (bound_iam_principal_arn)"
    )


def test_no_credentials(vault: Vault, tmp_path: Path) -> None:
    start = f"Vault at {vault.address} cannot be asked: the auth method aws_iam "
    assert refusal(vault, tmp_path / "1", "none") == f"{start}cannot use the AWS credentials: ProfileNotFound"
    assert refusal(vault, tmp_path / "2", "") == f"{start}finds no AWS credentials"
    assert vault.asked == []
