# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real runs of ansible-playbook: what they ask the store for, and whether a secret shows anywhere."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration import openbao
from integration.controller import environment_in

CANARY = "canary-8d21f0"
SECRETS = 5
HOSTS = 10
SHM = Path("/dev/shm")
POLICY = 'path "kv/data/providers/*" { capabilities = ["read"] }'
PROVIDER = {
    "resources": [
        {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": "provider-a",
            "generic_secret": {"secret": {"inline_string": "{{ first }}"}},
        }
    ]
}
CONSUMERS = {
    "resources": [
        {
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": "consumer_keys",
            "typed_config": {"credentials": [{"key": "{{ second }}", "client": "alice"}]},
        }
    ]
}


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openbao.OpenBao]:
    server = openbao.start(tmp_path_factory.mktemp("openbao"))
    try:
        for number in range(SECRETS):
            server.put(f"kv/providers/{number}", api_key=f"{CANARY}-{number}")
        yield server
    finally:
        server.stop()


@pytest.fixture
def memory() -> Iterator[Path]:
    if not os.access(SHM, os.W_OK):
        pytest.skip("no writable /dev/shm here")
    path = Path(tempfile.mkdtemp(prefix="gatewayops-", dir=SHM))
    yield path
    shutil.rmtree(path)


class Ansible:
    """Runs of ansible-playbook in a directory of their own, on hosts that are all this machine."""

    def __init__(self, directory: Path, bao: openbao.OpenBao) -> None:
        self.directory = directory
        self.bao = bao
        self.role_id, self.secret_id = bao.approle("gateway", POLICY)
        (directory / "group_vars").mkdir()
        (directory / "hosts").write_text("\n".join(f"host{number}" for number in range(HOSTS)))
        self.variables(secret_id=self.secret_id)

    def variables(self, *, secret_id: str) -> None:
        (self.directory / "secret-id").write_text(f"{secret_id}\n")
        (self.directory / "group_vars" / "all.yml").write_text(
            json.dumps(
                {
                    "ansible_connection": "local",
                    "ansible_python_interpreter": sys.executable,
                    "gateway_vault_addr": self.bao.address,
                    "gateway_vault_auth_method": "approle",
                    "gateway_vault_role_id": self.role_id,
                    "gateway_vault_secret_id": "{{ lookup('gatewayops.openai.secret', 'file://' ~ secret_id_file) }}",
                    "secret_id_file": str(self.directory / "secret-id"),
                    "first": "{{ lookup('gatewayops.openai.secret', 'vault://kv/providers/0#api_key') }}",
                    "second": "{{ lookup('gatewayops.openai.vault_kv', 'kv/providers/1', field='api_key') }}",
                    "all_keys": [
                        f"{{{{ lookup('gatewayops.openai.vault_kv', 'kv/providers/{number}', field='api_key') }}}}"
                        for number in range(SECRETS)
                    ],
                }
            )
        )

    def play(self, *tasks: dict[str, Any], arguments: tuple[str, ...] = (), **environment: str) -> tuple[int, str]:
        """The exit status and everything that was shown or logged."""
        play = [{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}]
        (self.directory / "play.yml").write_text(json.dumps(play))
        log = self.directory / "ansible.log"
        log.unlink(missing_ok=True)
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "hosts", "play.yml", *arguments],
            cwd=self.directory,
            env=environment_in(self.directory, ANSIBLE_LOG_PATH=str(log), ANSIBLE_PIPELINING="1", **environment),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr + log.read_text()


@pytest.fixture
def ansible(tmp_path: Path, bao: openbao.OpenBao) -> Ansible:
    return Ansible(tmp_path, bao)


def use_all_keys(number: int) -> dict[str, Any]:
    return {
        "name": f"Use every secret, time {number}",
        "ansible.builtin.assert": {"that": "all_keys | unique | length == 5", "quiet": True},
        "no_log": True,
    }


def test_a_run_logs_in_once_and_reads_each_secret_once(ansible: Ansible, bao: openbao.OpenBao) -> None:
    began = bao.position()
    status, output = ansible.play(*map(use_all_keys, range(3)))
    assert status == 0, output
    deadline = time.monotonic() + 5
    while "auth/token/revoke-self" not in bao.requests(began) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sorted(bao.requests(began)) == [
        "auth/approle/login",
        "auth/token/revoke-self",
        *(f"kv/data/providers/{number}" for number in range(SECRETS)),
    ], f"{HOSTS} hosts, 3 tasks, {SECRETS} secrets"
    assert CANARY not in output


def test_a_wrong_secret_id_is_tried_once_in_a_run(ansible: Ansible, bao: openbao.OpenBao) -> None:
    ansible.variables(secret_id="0000-wrong")
    began = bao.position()
    status, output = ansible.play(use_all_keys(1), {**use_all_keys(2), "no_log": False})
    assert status != 0
    assert bao.requests(began) == ["auth/approle/login"]
    assert "0000-wrong" not in output


def deliver(memory: Path, **options: Any) -> dict[str, Any]:
    host = {
        "service_manager": "supervisor",
        "config_dir": str(memory / "config"),
        "secrets_dir": str(memory / "{{ inventory_hostname }}"),
        "envoy": "/usr/bin/env",
        "supervisord": "/usr/bin/env",
        "user": getpass.getuser(),
    }
    files = {"provider-a.json": json.dumps(PROVIDER), "consumers.json": json.dumps(CONSUMERS)}
    return {
        "name": "Deliver",
        "gatewayops.openai.gateway_secrets": {"host": host, "secrets": files, **options},
        "register": "delivered",
    }


@pytest.mark.parametrize("callback", ["ansible.builtin.default", "ansible.posix.json"])
def test_a_secret_shows_nowhere(ansible: Ansible, memory: Path, callback: str) -> None:
    """Without `no_log` on any task: the module has to keep its own secrets."""
    snapshot = ansible.directory / "snapshot"
    status, output = ansible.play(
        deliver(memory),
        {"name": "Show what is registered", "ansible.builtin.debug": {"var": "delivered"}},
        {**deliver(memory), "name": "Deliver again"},
        {
            "name": "Keep what is on the controller's disk while the run goes on",
            "ansible.builtin.command": f"cp -r local {snapshot}",
            "args": {"chdir": str(ansible.directory)},
            "run_once": True,
        },
        {**deliver(memory, secrets={"provider-a.json": "{{ first }}"}), "name": "Fail with what is no JSON"},
        arguments=("-vvvv", "--diff"),
        ANSIBLE_STDOUT_CALLBACK=callback,
        ANSIBLE_INJECT_INVOCATION="1",
        ANSIBLE_CACHE_PLUGIN="jsonfile",
        ANSIBLE_CACHE_PLUGIN_CONNECTION=str(ansible.directory / "facts"),
    )
    assert status != 0, "the last task fails"
    assert "the secret file provider-a.json is not a JSON object with a list of resources" in output
    assert " EXEC /bin/sh -c " in output, "what the connection runs is shown at this level, so this test sees it"
    assert sorted(path.name for path in (memory / "host3").iterdir()) == ["consumers.json", "provider-a.json"]
    assert f"{CANARY}-0" in (memory / "host3" / "provider-a.json").read_text(), "the search below is for a real value"

    sealed = list(snapshot.rglob("gatewayops-secrets/*"))
    assert sealed, "the snapshot was taken while the run went on"
    assert not list((ansible.directory / "local").iterdir()), "the run takes its files away"
    for word in (CANARY, ansible.secret_id):
        assert word not in output
        for path in ansible.directory.rglob("*"):
            if path.is_file() and path.name != "secret-id":
                assert word.encode() not in path.read_bytes(), path


def test_the_module_says_what_changes_in_check_mode_and_does_it_otherwise(ansible: Ansible, memory: Path) -> None:
    (memory / "config").mkdir()
    only = ("--limit", "host0")

    def outcome(task: dict[str, Any], *arguments: str) -> dict[str, Any]:
        status, output = ansible.play(task, arguments=(*only, *arguments), ANSIBLE_STDOUT_CALLBACK="ansible.posix.json")
        assert status == 0, output
        report, _other = json.JSONDecoder().raw_decode(output, output.index("{"))
        result: dict[str, Any] = report["plays"][0]["tasks"][0]["hosts"]["host0"]
        assert CANARY not in json.dumps(result), "a diff has names only"
        return {name: result[name] for name in ("changed", "changed_names", "removed")}

    created = {"changed": True, "changed_names": ["consumers.json", "provider-a.json"], "removed": []}
    unchanged = {"changed": False, "changed_names": [], "removed": []}
    assert outcome(deliver(memory), "--check", "--diff") == created
    assert not (memory / "host0").exists()
    assert outcome(deliver(memory)) == created
    assert outcome(deliver(memory), "--diff") == unchanged
    assert outcome(deliver(memory), "--check") == unchanged

    fewer = deliver(memory, secrets={"consumers.json": json.dumps(CONSUMERS)})
    pruned = {"changed": True, "changed_names": [], "removed": ["provider-a.json"]}
    assert outcome(fewer, "--check") == pruned
    assert (memory / "host0" / "provider-a.json").exists()
    keeping = deliver(memory, secrets={"consumers.json": json.dumps(CONSUMERS)}, prune=False)
    assert outcome(keeping) == unchanged
    assert outcome(fewer) == pruned
    assert not (memory / "host0" / "provider-a.json").exists()


def test_options_come_from_the_environment_and_the_configuration(ansible: Ansible, bao: openbao.OpenBao) -> None:
    (ansible.directory / "group_vars" / "all.yml").write_text("ansible_connection: local\n")
    (ansible.directory / "ansible.cfg").write_text(f"[gatewayops_openai]\nvault_addr = {bao.address}\n")
    key = "lookup('gatewayops.openai.secret', 'vault://kv/providers/0#api_key')"
    task = {"name": "Compare", "ansible.builtin.assert": {"that": f"{key} is match('{CANARY}-0')", "quiet": True}}

    assert ansible.play(task, arguments=("--limit", "host0"), BAO_TOKEN=bao.token)[0] == 0
    assert ansible.play(task, arguments=("--limit", "host0"), VAULT_TOKEN=bao.token)[0] == 0
    status, output = ansible.play(task, arguments=("--limit", "host0"))
    assert status != 0
    assert f"vault://kv/providers/0#api_key: Vault at {bao.address} cannot be asked" in output


def test_an_encrypted_variable_is_a_way_in(ansible: Ansible, bao: openbao.OpenBao) -> None:
    password = ansible.directory / "password"
    password.write_text("password of the test\n")
    encrypted = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-vault"), "encrypt_string", "--vault-password-file", str(password)],
        input=bao.token,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (ansible.directory / "group_vars" / "all.yml").write_text(
        f"ansible_connection: local\ngateway_vault_addr: {bao.address}\ngateway_vault_token: {encrypted}"
    )
    key = "lookup('gatewayops.openai.secret', 'vault://kv/providers/0#api_key')"
    task = {"name": "Compare", "ansible.builtin.assert": {"that": f"{key} is match('{CANARY}-0')", "quiet": True}}
    status, output = ansible.play(task, arguments=("--limit", "host0", "--vault-password-file", str(password)))
    assert status == 0, output
