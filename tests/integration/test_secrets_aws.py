# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS Secrets Manager and a store of one's own in real runs: what is asked for, and whether a secret shows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from integration import aws as moto
from integration.controller import environment_in
from integration.site_gateway import BIN, ROOT, Gateway, a_gateway

CANARY = "canary-4e81"
HOSTS = 10
SECRETS = 45
GET, BATCH = "GetSecretValue", "BatchGetSecretValue"


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[moto.Aws]:
    with moto.started(tmp_path_factory.mktemp("moto")) as service:
        for number in range(SECRETS):
            service.put(f"prod/{number}", f"{CANARY}-{number}")
        yield service


class Playbook:
    """Plays on hosts that are all this machine."""

    def __init__(self, directory: Path, aws: moto.Aws) -> None:
        self.directory = directory
        self.aws = aws
        (directory / "hosts").write_text("\n".join(f"host{number}" for number in range(HOSTS)))
        self.variables: dict[str, Any] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "gateway_aws_region": moto.REGION,
            "gateway_aws_endpoint_url": aws.address,
        }

    def play(self, *conditions: str, hosts: int = HOSTS) -> tuple[int, str]:
        """A task for each condition; the exit status and everything that was shown or logged."""
        (self.directory / "group_vars").mkdir(exist_ok=True)
        (self.directory / "group_vars" / "all.yml").write_text(json.dumps(self.variables))
        tasks = [
            {"name": f"Check {number}", "ansible.builtin.assert": {"that": [condition], "quiet": True}}
            for number, condition in enumerate(conditions)
        ]
        (self.directory / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        log = self.directory / "ansible.log"
        log.unlink(missing_ok=True)
        self.aws.forget()
        done = subprocess.run(
            [str(BIN / "ansible-playbook"), "-i", "hosts", "play.yml", "-vvv", "--limit", f"all[0:{hosts - 1}]"],
            cwd=self.directory,
            env=environment_in(self.directory, ANSIBLE_LOG_PATH=str(log), **self.aws.environment),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr + log.read_text()


@pytest.fixture
def playbook(tmp_path: Path, aws: moto.Aws) -> Playbook:
    return Playbook(tmp_path, aws)


def test_45_secrets_are_3_requests_for_10_hosts_and_3_tasks(playbook: Playbook) -> None:
    playbook.variables["references"] = [f"aws-sm://prod/{number}" for number in range(SECRETS)]
    playbook.variables["all_keys"] = "{{ query('gatewayops.openai.secret', *references) }}"
    status, output = playbook.play(*[f"all_keys | unique | length == {SECRETS}"] * 3)
    assert status == 0, output
    assert [(operation, len(names)) for operation, names in playbook.aws.requests] == [
        (BATCH, 20),
        (BATCH, 20),
        (BATCH, 5),
    ]
    assert CANARY not in output


def test_what_cannot_be_had_is_told_by_name_and_asked_for_once(playbook: Playbook) -> None:
    gone = playbook.aws.put("gone", CANARY)
    playbook.aws.client.delete_secret(SecretId=gone)
    wanted = "'aws-sm://prod/1', 'aws-sm://gone', 'aws-sm://none#key', 'aws-sm://prod/2?stage=AWSPREVIOUS'"
    status, output = playbook.play(f"query('gatewayops.openai.secret', {wanted})", hosts=3)
    assert status != 0
    store = f"AWS Secrets Manager in {moto.REGION} at {playbook.aws.address}"
    assert f"aws-sm://gone: {store} has no secret gone any more: it was marked for deletion" in output
    assert f"aws-sm://none#key: {store} has no secret none" in output
    assert f"aws-sm://prod/2?stage=AWSPREVIOUS: {store} has no secret prod/2, or no version of it" in output
    assert [operation for operation, _names in playbook.aws.requests] == [BATCH, GET], "whatever the number of hosts"
    assert CANARY not in output


def test_keys_stages_versions_binary_and_arns(playbook: Playbook) -> None:
    aws = playbook.aws
    arn = aws.put("shapes", json.dumps({"api_key": "first"}))
    first = aws.client.describe_secret(SecretId=arn)["VersionIdsToStages"]
    aws.client.put_secret_value(SecretId=arn, SecretString=json.dumps({"api_key": "second"}))
    aws.put("binary", b"from bytes")
    secret, own = "lookup('gatewayops.openai.secret', 'aws-sm://", "lookup('gatewayops.openai.aws_secret', "
    status, output = playbook.play(
        f"{secret}shapes#api_key') == 'second'",
        f"{secret}shapes#api_key?stage=AWSPREVIOUS') == 'first'",
        f"{secret}{arn}#api_key?version_id={next(iter(first))}') == 'first'",
        f"{own}'shapes', key='api_key', stage='AWSPREVIOUS') == 'first'",
        f"{own}'{arn}') is search('second')",
        f"{own}'binary') == 'from bytes'",
        hosts=1,
    )
    assert status == 0, output
    assert len(aws.requests) == 5, "the same version by the same name is read once"


def test_the_region_of_an_arn_wins(playbook: Playbook) -> None:
    arn = playbook.aws.put("here", "x")
    playbook.variables["gateway_aws_region"] = "us-east-1"
    status, output = playbook.play(f"lookup('gatewayops.openai.aws_secret', '{arn}') == 'x'", hosts=1)
    assert status == 0, output
    assert playbook.aws.regions == [moto.REGION]


def test_a_lookup_plugin_is_asked_once_by_10_hosts_in_3_tasks(playbook: Playbook) -> None:
    """One that takes its time, so that the other hosts come while it is asked; and one that comes back to us."""
    (playbook.directory / "lookup_plugins").mkdir()
    (playbook.directory / "lookup_plugins" / "slow.py").write_text(
        "import time\n"
        "from ansible.plugins.loader import lookup_loader\n"
        "from ansible.plugins.lookup import LookupBase\n"
        "class LookupModule(LookupBase):\n"
        "    def run(self, terms, variables=None, **kwargs):\n"
        "        with open('asked', 'a') as log: log.write(terms[0] + chr(10))\n"
        "        time.sleep(1)\n"
        "        if terms[0] == 'inner': return ['inner']\n"
        "        ours = lookup_loader.get('gatewayops.openai.secret', loader=self._loader, templar=self._templar)\n"
        f"        return [{CANARY!r} + ours.run(['lookup://slow/inner'], variables=variables)[0]]\n"
    )
    status, output = playbook.play(
        *["lookup('gatewayops.openai.secret', 'lookup://slow/outer') is search('inner')"] * 3
    )
    assert status == 0, output
    assert (playbook.directory / "asked").read_text().split() == ["outer", "inner"]
    assert CANARY not in output


class TeamStore(BaseHTTPRequestHandler):
    """The store of docs/secrets/own-backend.md."""

    seen: list[str]

    def do_GET(self) -> None:
        type(self).seen.append(self.path)
        known = self.headers["Authorization"] == f"Bearer {CANARY}-token"
        secrets = {"/providers/a": {"api_key": "sk-canary-a"}, "/consumers/search": {"key": f"sk-{CANARY}-search"}}
        body = json.dumps(secrets.get(self.path, {"error": CANARY})).encode()
        self.send_response(200 if known and self.path in secrets else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def team_store() -> Iterator[str]:
    TeamStore.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), TeamStore) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listener.server_port}"
        listener.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with a_gateway() as made:
        yield made


def from_the_page(name: str) -> str:
    """A file as the documentation of own backends has it."""
    page = (ROOT / "docs" / "secrets" / "own-backend.md").read_text()
    match = re.search(rf"```\w+\n(# {re.escape(name)}\n.*?)```", page, re.DOTALL)
    assert match is not None
    return match.group(1)


def answer_of(gateway: Gateway, key: str) -> str:
    """Which provider answers a request."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{gateway.port}/v1/chat/completions",
        json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]}).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        name: str = json.load(answer)["system_fingerprint"]
    return name


def test_a_spec_takes_secrets_from_aws_and_from_a_store_of_ones_own(
    gateway: Gateway, aws: moto.Aws, team_store: str
) -> None:
    aws.put("gateway/b", json.dumps({"api_key": "sk-canary-b"}))
    aws.put("gateway/batch", f"sk-{CANARY}-batch")
    variables = gateway.variables
    variables["gateway_providers"]["a"]["api_key"] = "lookup://team_store/providers/a#api_key"
    variables["gateway_providers"]["b"]["api_key"] = "aws-sm://gateway/b#api_key"
    variables["gateway_consumers"]["search"]["api_keys"] = ["lookup://team_store/consumers/search#key"]
    variables["gateway_consumers"]["batch"]["api_keys"] = ["aws-sm://gateway/batch"]
    variables.update(gateway_aws_endpoint_url=aws.address, gateway_aws_region=moto.REGION, team_store_url=team_store)
    inventory = gateway.directory / "inventory" / "group_vars" / "gateways.yml"
    inventory.write_text(json.dumps(variables))
    (gateway.directory / "lookup_plugins").mkdir()
    for name in ("lookup_plugins/team_store.py", "site.yml"):
        (gateway.directory / name).write_text(from_the_page(name))
    environment = {**aws.environment, "TEAM_STORE_TOKEN": f"{CANARY}-token"}

    aws.forget()
    ran = gateway.ansible("ansible-playbook", "site.yml", "--diff", "-vvv", **environment)
    assert ran.status == 0, ran.output
    assert answer_of(gateway, f"sk-{CANARY}-search") == "a"
    assert [operation for operation, _names in aws.requests] == [BATCH]
    assert sorted(TeamStore.seen) == ["/consumers/search", "/providers/a"]
    again = gateway.ansible(
        "ansible-playbook",
        "gatewayops.openai.site",
        ANSIBLE_LOOKUP_PLUGINS=str(gateway.directory / "lookup_plugins"),
        **environment,
    )
    assert again.status == 0, again.output
    assert again.recap["changed"] == 0

    wrong = gateway.ansible("ansible-playbook", "site.yml", **{**environment, "TEAM_STORE_TOKEN": f"{CANARY}-wrong"})
    assert wrong.status != 0
    assert "lookup://team_store/providers/a#api_key: the lookup plugin team_store failed (HTTPError)" in wrong.output
    assert answer_of(gateway, f"sk-{CANARY}-search") == "a", "the gateway goes on with what it has"

    for word in ("sk-canary", CANARY):
        assert word not in ran.output + again.output + wrong.output
        for path in gateway.directory.rglob("*"):
            beside = "openbao" in path.parts
            assert beside or not path.is_file() or word.encode() not in path.read_bytes(), path
