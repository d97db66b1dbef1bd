# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of each answer of the service. A server of secrets is asked in tests/integration/test_secrets_aws.py."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference, parse_source
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets import aws_client, backend_aws
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import AwsOptions, SecretOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession

CANARY = "canary-70aa"
ARN = "arn:aws:secretsmanager:us-west-2:123456789012:secret:prod/openai"
GET, BATCH = "GetSecretValue", "BatchGetSecretValue"
BATCH_DENIED = {"__type": "AccessDeniedException", "Message": f"{CANARY} may not secretsmanager:BatchGetSecretValue"}


class Fake(BaseHTTPRequestHandler):
    """Answers from a store of secrets, or what a test says about an operation."""

    secrets: ClassVar[dict[str, dict[str, Any]]] = {}
    answers: ClassVar[dict[str, tuple[int, Any]]] = {}
    seen: ClassVar[list[tuple[str, Any]]] = []
    regions: ClassVar[list[str]] = []
    date: ClassVar[float | None] = None
    pause: ClassVar[float] = 0

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        # STS has another protocol.
        body = json.loads(content) if content.startswith(b"{") else dict(parse_qsl(content.decode()))
        operation = self.headers.get("X-Amz-Target", "").partition(".")[2] or body["Action"]
        asked = body.get("SecretIdList", body.get("SecretId"))
        self.seen.append((operation, asked))
        self.regions.append(self.headers["Authorization"].split("/")[2])
        time.sleep(self.pause)
        status, answer = self.answers.get(operation) or self.answers.get(str(asked)) or self._from_store(body)
        content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response_only(status)
        self.send_header("Date", formatdate(self.date, usegmt=True))
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        # Who asked may have gone.
        with suppress(BrokenPipeError):
            self.wfile.write(content)

    def _from_store(self, body: dict[str, Any]) -> tuple[int, Any]:
        if "SecretId" in body:
            key = body["SecretId"] + "".join(f"?{body[name]}" for name in ("VersionStage", "VersionId") if name in body)
            found = self.secrets.get(key)
            missing = "secret value for staging label" if "?" in key else "secret"
            return (200, found) if found else (400, error("ResourceNotFoundException", f"can't find the {missing}."))
        found = {name: self.secrets.get(name) for name in body["SecretIdList"]}
        return 200, {
            "SecretValues": [{"Name": name, **entry} for name, entry in reversed(found.items()) if entry],
            "Errors": [
                {
                    "SecretId": name,
                    "ErrorCode": "ResourceNotFoundException",
                    "Message": f"{CANARY} can't find the secret.",
                }
                for name, entry in found.items()
                if not entry
            ],
        }

    def log_message(self, *arguments: object) -> None:
        pass


def error(code: str, message: str = CANARY) -> dict[str, str]:
    return {"__type": code, "Message": message}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setattr(aws_client, "_ATTEMPTS", 1)


@pytest.fixture
def server() -> Iterator[str]:
    Fake.secrets, Fake.answers, Fake.seen, Fake.regions, Fake.date, Fake.pause = {}, {}, [], [], None, 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Fake) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listener.server_port}"
        listener.shutdown()
        thread.join()


Ask = Callable[..., dict[str, str]]


@pytest.fixture
def ask(server: str, tmp_path: Path) -> Ask:
    """Resolve references, as another process of the run would, with these options."""

    def resolve(*texts: str, **options: Any) -> dict[str, str]:
        aws = AwsOptions(**{"endpoint_url": server, "region": "eu-west-1", **options})
        session = SecretSession(SecretOptions(aws=aws), RunCache(tmp_path / "cache", b"secret of the run"))
        return {reference.text: value for reference, value in session.resolve(map(parsed, texts)).items()}

    return resolve


def parsed(text: str) -> Reference:
    source = parse_source(text, allow_path=False)
    assert isinstance(source, Reference)
    return source


def refusal(ask: Ask, *texts: str, **options: Any) -> str:
    with pytest.raises(SecretError) as caught:
        ask(*texts, **options)
    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def store(server: str) -> str:
    return f"AWS Secrets Manager in eu-west-1 at {server}"


def plain(count: int) -> list[str]:
    """Put so many secrets into the store; return references to them."""
    Fake.secrets.update({f"prod/{number}": {"SecretString": f"value-{number}"} for number in range(count)})
    return [f"aws-sm://prod/{number}" for number in range(count)]


@pytest.mark.usefixtures("server")
class TestRequests:
    def test_one_secret_takes_a_request_that_needs_no_other_permission(self, ask: Ask) -> None:
        assert ask(*plain(1)) == {"aws-sm://prod/0": "value-0"}
        assert Fake.seen == [(GET, "prod/0")]

    def test_45_secrets_are_3_requests_and_no_more_in_the_run(self, ask: Ask) -> None:
        wanted = plain(45)
        for _time in range(3):
            assert ask(*wanted) == {f"aws-sm://prod/{number}": f"value-{number}" for number in range(45)}
        assert [(operation, len(names)) for operation, names in Fake.seen] == [(BATCH, 20), (BATCH, 20), (BATCH, 5)]

    def test_keys_of_one_secret_are_one_request(self, ask: Ask) -> None:
        Fake.secrets["prod/openai"] = {"SecretString": json.dumps({"a": "1", "b": "2"})}
        assert ask("aws-sm://prod/openai#a", "aws-sm://prod/openai#b") == {
            "aws-sm://prod/openai#a": "1",
            "aws-sm://prod/openai#b": "2",
        }
        assert Fake.seen == [(GET, "prod/openai")]

    def test_versions_are_read_one_by_one_beside_the_batch(self, ask: Ask) -> None:
        version = "0123456789abcdef" * 2
        Fake.secrets["prod/0?AWSPREVIOUS"] = {"SecretString": "old"}
        Fake.secrets[f"prod/0?{version}"] = {"SecretString": "older"}
        old, older = "aws-sm://prod/0?stage=AWSPREVIOUS", f"aws-sm://prod/0?version_id={version}"
        values = ask(*plain(2), old, older)
        assert list(values.values()) == ["value-0", "value-1", "old", "older"]
        assert Fake.seen[0] == (BATCH, ["prod/0", "prod/1"])
        assert Fake.seen[1:] == [(GET, "prod/0")] * 2

    def test_without_the_permission_for_batches_secrets_are_read_one_by_one(self, ask: Ask) -> None:
        Fake.answers[BATCH] = (400, BATCH_DENIED)
        wanted = plain(25)
        assert len(ask(*wanted)) == 25
        assert [operation for operation, _names in Fake.seen] == [BATCH, *[GET] * 25]
        Fake.secrets.update({f"b/{number}": {"SecretString": "x"} for number in range(2)})
        assert len(ask("aws-sm://b/0", "aws-sm://b/1")) == 2
        assert [operation for operation, _names in Fake.seen].count(BATCH) == 1, "it is known by now"

    def test_what_a_batch_leaves_out_is_read_by_itself(self, ask: Ask) -> None:
        Fake.answers[BATCH] = (200, {"SecretValues": [], "Errors": []})
        assert len(ask(*plain(2))) == 2
        assert [operation for operation, _names in Fake.seen] == [BATCH, GET, GET]

    def test_what_is_wrong_with_a_batch_as_a_whole_is_told_of_the_secret(self, ask: Ask) -> None:
        Fake.answers[BATCH] = (400, error("InvalidParameterException"))
        Fake.answers["prod/1"] = (400, error("InvalidParameterException"))
        assert "aws-sm://prod/1: AWS Secrets Manager" in refusal(ask, *plain(2))
        assert ask("aws-sm://prod/0") == {"aws-sm://prod/0": "value-0"}

    def test_an_answer_of_several_pages(self, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
        pages = [
            {"SecretValues": [{"Name": "prod/0", "SecretString": "value-0"}], "Errors": [], "NextToken": "more"},
            {"SecretValues": [{"Name": "prod/1", "SecretString": "value-1"}]},
        ]
        monkeypatch.setattr(Fake, "_from_store", lambda self, body: (200, pages["NextToken" in body]))
        assert len(ask("aws-sm://prod/0", "aws-sm://prod/1")) == 2
        assert len(Fake.seen) == 2

    def test_the_region_of_an_arn_wins(self, ask: Ask) -> None:
        Fake.secrets[ARN] = {"SecretString": "west"}
        assert ask(f"aws-sm://{ARN}", *plain(1)) == {f"aws-sm://{ARN}": "west", "aws-sm://prod/0": "value-0"}
        assert Fake.regions == ["us-west-2", "eu-west-1"]

    def test_an_arn_may_lack_the_characters_that_are_added_to_the_name(self, ask: Ask) -> None:
        entries = [{"Name": "prod/openai", "ARN": f"{ARN}-AbCdEf", "SecretString": "x"}]
        entries += [{"Name": "prod/openai-b", "ARN": f"{ARN}-b-AbCdEf", "SecretString": "y"}]
        Fake.answers[BATCH] = (200, {"SecretValues": entries})
        assert list(ask(f"aws-sm://{ARN}", f"aws-sm://{ARN}-b-AbCdEf").values()) == ["x", "y"]
        assert len(Fake.seen) == 1

    def test_other_credentials_are_another_cache(self, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = plain(1)
        ask(*wanted)
        ask(*wanted, timeout=3.0)
        assert len(Fake.seen) == 1
        ask(*wanted, region="eu-west-2")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA1")
        ask(*wanted)
        assert len(Fake.seen) == 3


class TestContent:
    def test_binary_that_is_text(self, ask: Ask) -> None:
        Fake.secrets["a"] = {"SecretBinary": base64.b64encode("ключ".encode()).decode()}
        assert ask("aws-sm://a") == {"aws-sm://a": "ключ"}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (
                {"SecretBinary": base64.b64encode(b"\xff" + CANARY.encode()).decode()},
                "has in a binary content that is no",
            ),
            ({"SecretString": json.dumps({"y": CANARY, "x": CANARY})}, "has no field 'key'; it has 'x', 'y'"),
            (
                {"SecretString": json.dumps({"key": {"x": CANARY}})},
                "the field 'key' in the secret in AWS Secrets Manager",
            ),
            ({"SecretString": CANARY}, "is not a JSON object"),
            ({"SecretString": json.dumps([CANARY])}, "is not a JSON object"),
            ({"SecretString": json.dumps({"key": ""})}, "aws-sm://a#key: is empty"),
        ],
    )
    def test_what_is_no_text_under_a_key(self, ask: Ask, server: str, content: dict[str, str], message: str) -> None:
        Fake.secrets["a"] = content
        assert message in refusal(ask, "aws-sm://a#key")

    def test_what_is_wrong_with_some_is_told_by_reference_and_asked_once(self, ask: Ask, server: str) -> None:
        wanted = [*plain(3), "aws-sm://prod/x", "aws-sm://prod/y#key"]
        for _time in range(2):
            assert refusal(ask, *wanted).splitlines() == [
                f"aws-sm://prod/x: {store(server)} has no secret prod/x",
                f"aws-sm://prod/y#key: {store(server)} has no secret prod/y",
            ]
        assert len(Fake.seen) == 1

    @pytest.mark.parametrize(
        ("refused", "message"),
        [
            (error("ResourceNotFoundException", "can't find the specified secret."), "has no secret a"),
            (
                error(
                    "ResourceNotFoundException", "can't find the specified secret value for staging label: AWSCURRENT"
                ),
                "has no version of a with a value",
            ),
            (
                error("InvalidRequestException", "You can't do this: it was marked for deletion."),
                "has no secret a any more: it was marked for deletion",
            ),
            (
                error("AccessDeniedException", f"{CANARY} is not authorized to perform: secretsmanager:GetSecretValue"),
                'denies reading a: a policy must allow "secretsmanager:GetSecretValue" on it',
            ),
            (
                error("AccessDeniedException", "Access to KMS is not allowed"),
                'denies decrypting a: a policy must allow "kms:Decrypt" with its key',
            ),
            (error("DecryptionFailure"), "cannot decrypt a: its KMS key is disabled, deleted or not allowed"),
            (error("InvalidParameterException"), "refuses a (InvalidParameterException)"),
        ],
    )
    def test_why_a_secret_cannot_be_had(self, ask: Ask, server: str, refused: dict[str, str], message: str) -> None:
        Fake.answers["a"] = (400, refused)
        assert refusal(ask, "aws-sm://a") == f"aws-sm://a: {store(server)} {message}"
        entry = {"SecretId": "b", "ErrorCode": refused["__type"], "Message": refused["Message"]}
        Fake.answers[BATCH] = (200, {"Errors": [entry], "SecretValues": [{"Name": "c", "SecretString": "x"}]})
        assert (
            refusal(ask, "aws-sm://b", "aws-sm://c") == f"aws-sm://b: {store(server)} {message.replace(' a', ' b', 1)}"
        )

    def test_a_version_that_is_not_there(self, ask: Ask) -> None:
        assert "has no version of a with stage AWSOLD" in refusal(ask, "aws-sm://a?stage=AWSOLD")
        version = "f" * 32
        assert f"has no version of a with version id {version}" in refusal(ask, f"aws-sm://a?version_id={version}")
        Fake.answers["b"] = (400, error("ResourceNotFoundException"))
        assert "has no secret b, or no version of it with stage AWSOLD" in refusal(ask, "aws-sm://b?stage=AWSOLD")


SIGNATURE = "does not accept the signature: the secret access key is wrong, or the clock of the controller is"


class TestService:
    @pytest.mark.parametrize(
        ("status", "body", "message"),
        [
            (400, error("UnrecognizedClientException"), "does not accept the credentials: the access key is unknown"),
            (400, error("ExpiredTokenException"), "does not accept the credentials: they have expired"),
            (400, error("InvalidSignatureException"), SIGNATURE),
            (403, error("SignatureDoesNotMatch"), SIGNATURE),
            (403, error("RequestTimeTooSkewed"), SIGNATURE),
            (400, error("ThrottlingException"), "refuses more requests for now (throttled)"),
            (500, error("InternalServiceError"), "failed (InternalServiceError)"),
            (503, f"<html>{CANARY}</html>", "failed (HTTP 503)"),
            (404, f"<html>{CANARY}</html>", "does not answer as AWS does; is aws_endpoint_url right?"),
            (200, f"<html>{CANARY}</html>", "does not answer as AWS does; is aws_endpoint_url right?"),
            (200, {"data": CANARY}, "does not answer as AWS does; is aws_endpoint_url right?"),
            (200, [CANARY], "does not answer as AWS does; is aws_endpoint_url right?"),
        ],
    )
    def test_failures(self, ask: Ask, server: str, status: int, body: Any, message: str) -> None:
        Fake.answers[GET] = (status, body)
        for _host in range(2):
            assert refusal(ask, "aws-sm://a").startswith(f"aws-sm://a: {store(server)} {message}")
        assert len(Fake.seen) == 1, "no second time"

    @pytest.mark.parametrize(("off", "side"), [(900, "behind"), (-900, "ahead of")])
    def test_how_far_the_clock_is_off(self, ask: Ask, off: int, side: str) -> None:
        Fake.date = time.time() + off
        Fake.answers[GET] = (400, error("InvalidSignatureException"))
        assert f" s {side} that of the service" in refusal(ask, "aws-sm://a")

    def test_a_service_that_failed_is_asked_again_later(self, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backend_aws, "_RETRY_AFTER", -1.0)
        wanted = plain(1)
        Fake.answers[GET] = (400, error("ThrottlingException"))
        refusal(ask, *wanted)
        Fake.answers.clear()
        assert ask(*wanted) == {"aws-sm://prod/0": "value-0"}
        Fake.answers[GET] = (400, error("ExpiredTokenException"))
        refusal(ask, "aws-sm://prod/1")
        Fake.answers.clear()
        refusal(ask, "aws-sm://prod/1")
        assert ask(*wanted) == {"aws-sm://prod/0": "value-0"}, "what was read is known whatever happened then"

    def test_throttling_is_waited_for_within_bounds(self, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(aws_client, "_ATTEMPTS", 2)
        Fake.answers[GET] = (400, error("ThrottlingException"))
        refusal(ask, "aws-sm://a")
        assert len(Fake.seen) == 2

    def test_a_service_that_does_not_answer(self, ask: Ask) -> None:
        Fake.pause = 1.0
        assert "did not answer within 0.2 s (aws_timeout), 1 times" in refusal(ask, *plain(1), timeout=0.2)

    def test_a_service_that_is_not_there(self, ask: Ask) -> None:
        message = refusal(ask, *plain(2), endpoint_url="http://127.0.0.1:9")
        assert message == (
            "aws-sm://prod/0, aws-sm://prod/1: AWS Secrets Manager in eu-west-1 at http://127.0.0.1:9 "
            "cannot be reached: Connection refused"
        )

    def test_a_service_without_tls(self, ask: Ask, server: str) -> None:
        message = refusal(ask, "aws-sm://a", endpoint_url=server.replace("http:", "https:"))
        assert "failed to make a TLS connection" in message

    def test_one_region_of_two_that_fails(self, ask: Ask, server: str) -> None:
        Fake.secrets[ARN] = {"SecretString": "west"}
        message = refusal(ask, f"aws-sm://{ARN}", "aws-sm://a", "aws-sm://b#c", region="no region")
        assert message.splitlines() == [
            f"aws-sm://{name}: AWS Secrets Manager in no region at {server} cannot be asked: "
            "that is no name of a region (aws_region)"
            for name in ("a", "b#c")
        ]


class TestLocal:
    """What is wrong before a request."""

    def test_no_credentials(self, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert "cannot be asked: boto3 finds no credentials (" in refusal(ask, "aws-sm://a")

    def test_half_of_the_credentials(self, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert "cannot be asked: the credentials are incomplete" in refusal(ask, "aws-sm://a")

    def test_no_region(self, ask: Ask) -> None:
        assert "AWS Secrets Manager cannot be asked: no region is given" in refusal(
            ask, "aws-sm://a", region="", endpoint_url=""
        )

    def test_a_region_that_boto3_finds_is_named(self, ask: Ask, server: str, tmp_path: Path) -> None:
        (tmp_path / "config").write_text("[default]\nregion = eu-north-1\n")
        for _host in range(2):
            assert f"in eu-north-1 at {server} has no secret a" in refusal(ask, "aws-sm://a", region="")

    def test_a_profile(self, ask: Ask, tmp_path: Path) -> None:
        (tmp_path / "credentials").write_text(f"[team]\naws_access_key_id = AKIA7\naws_secret_access_key = {CANARY}\n")
        assert ask(*plain(1), profile="team") == {"aws-sm://prod/0": "value-0"}
        assert "has no profile 'other'" in refusal(ask, "aws-sm://a", profile="other")

    def test_a_configuration_that_cannot_be_read(self, ask: Ask, tmp_path: Path) -> None:
        (tmp_path / "config").write_text(f"{CANARY}\n")
        assert "boto3 cannot use its configuration" in refusal(ask, "aws-sm://a")

    def test_credentials_of_a_role_that_are_refused(
        self, ask: Ask, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        role = f"[profile role]\nrole_arn = arn:aws:iam::123456789012:role/{CANARY}\nsource_profile = source\n"
        (tmp_path / "config").write_text(role)
        (tmp_path / "credentials").write_text(f"[source]\naws_access_key_id = A\naws_secret_access_key = {CANARY}\n")
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server)
        Fake.answers["AssumeRole"] = (
            403,
            f"<ErrorResponse><Error><Code>AccessDenied</Code><Message>{CANARY}</Message></Error></ErrorResponse>",
        )
        # As Ansible does with its log file.
        log = logging.StreamHandler(io.StringIO())
        logging.getLogger().addHandler(log)
        message = refusal(ask, "aws-sm://a", profile="role")
        logging.getLogger().removeHandler(log)
        assert message.endswith("cannot be asked: AssumeRole for the credentials was refused (AccessDenied)")
        assert CANARY not in log.stream.getvalue()

    def test_a_file_of_authorities_that_is_not_there(self, ask: Ask) -> None:
        assert "aws_ca_file /none does not exist" in refusal(ask, "aws-sm://a", ca_file="/none")

    def test_without_boto3(self, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "boto3", None)
        assert f"needs the Python package boto3 in {sys.executable}" in refusal(ask, "aws-sm://a")

    def test_a_region_that_nobody_knows(self, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "")
        message = refusal(ask, "aws-sm://a", region="eu-nowhere-9", endpoint_url="")
        assert "in eu-nowhere-9 cannot be reached" in message
        assert "boto3 knows no region of that name" in message
