# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of Ansible asks the store for from its start to after its end, and what is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from integration import openbao

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
CANARY = "canary-77ac01"
SECRETS = 6
HOSTS = 10
LOGIN = "auth/approle/login"
RENEW = "auth/token/renew-self"
REVOKE = "auth/token/revoke-self"
POLICY = 'path "kv/data/*" { capabilities = ["read"] }'


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openbao.OpenBao]:
    server = openbao.start(tmp_path_factory.mktemp("openbao"))
    try:
        for number in range(SECRETS):
            server.put(f"kv/{number}", api_key=f"{CANARY}-{number}")
        yield server
    finally:
        server.stop()


class Ansible:
    """Runs of Ansible in a directory of their own, on hosts that are all this machine."""

    def __init__(self, directory: Path, bao: openbao.OpenBao) -> None:
        self.directory = directory
        self.bao = bao
        self.began = bao.position()
        (directory / "hosts").write_text("\n".join(f"host{number}" for number in range(HOSTS)))
        (directory / "group_vars").mkdir()

    def role(self, name: str = "run", **settings: object) -> None:
        """Log in with a new AppRole whose tokens are so."""
        role_id, secret_id = self.bao.approle(name, POLICY, **settings)
        self.variables(
            gateway_vault_auth_method="approle", gateway_vault_role_id=role_id, gateway_vault_secret_id=secret_id
        )

    def variables(self, **more: object) -> None:
        every = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "gateway_vault_addr": self.bao.address,
            "keys": [f"{{{{ lookup('gatewayops.openai.secret', '{text(number)}') }}}}" for number in range(SECRETS)],
            **more,
        }
        (self.directory / "group_vars" / "all.yml").write_text(json.dumps(every))

    @contextmanager
    def started(self, program: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """A program of Ansible, in a process group of its own, as a shell would start it."""
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("VAULT_", "BAO_", "ANSIBLE_"))
        }
        self.began = self.bao.position()
        process = subprocess.Popen(
            [str(BIN / program), "-i", "hosts", *arguments],
            cwd=self.directory,
            env={
                **inherited,
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
                "ANSIBLE_HOME": str(self.directory / "home"),
                "ANSIBLE_LOCAL_TEMP": str(self.directory / "local"),
                "ANSIBLE_FORKS": "10",
                "ANSIBLE_PIPELINING": "1",
                "ANSIBLE_NOCOLOR": "1",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def run(self, program: str, *arguments: str, **environment: str) -> tuple[int, str]:
        """The exit status and the output, as soon as nobody can write there any more."""
        with self.started(program, *arguments, **environment) as process:
            output, _none = process.communicate(timeout=120)
            return process.returncode, output

    def write(self, *tasks: dict[str, Any], **play: object) -> None:
        """Write a play for all hosts."""
        content = [{"hosts": "all", "gather_facts": False, "tasks": list(tasks), **play}]
        (self.directory / "play.yml").write_text(json.dumps(content))

    def play(self, *tasks: dict[str, Any], arguments: tuple[str, ...] = (), **environment: str) -> tuple[int, str]:
        self.write(*tasks)
        return self.run("ansible-playbook", "play.yml", *arguments, **environment)

    def requests(self) -> Counter[str]:
        """How often each path was asked for since the last start, but for what the tests ask themselves."""
        asked = self.bao.requests(self.began)
        return Counter(path for path in asked if not path.startswith(("auth/token/accessors", "auth/token/lookup-")))

    def finished(self) -> Counter[str]:
        """The same, once no process of ours is left, which has to be soon."""
        eventually(lambda: not self.keepers())
        return self.requests()

    def keepers(self) -> list[int]:
        """The processes that keep something for a run in this directory."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    arguments = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if b"keeper.py" in arguments and str(self.directory).encode() in arguments:
                    found.append(int(entry.name))
        return found


def eventually(condition: Callable[[], object], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def ansible(tmp_path: Path, bao: openbao.OpenBao) -> Iterator[Ansible]:
    run = Ansible(tmp_path, bao)
    run.role()
    yield run
    for pid in run.keepers():
        os.kill(pid, signal.SIGKILL)


def text(number: int) -> str:
    return f"vault://kv/{number}#api_key"


def use(number: int = 0) -> dict[str, Any]:
    return {
        "name": f"Use every secret, time {number}",
        "ansible.builtin.assert": {"that": f"keys | unique | length == {SECRETS}", "quiet": True},
        "no_log": True,
    }


def sleep(seconds: float) -> dict[str, Any]:
    return {"name": "Take time", "ansible.builtin.command": f"sleep {seconds}", "run_once": True}


def reads(count: int = SECRETS) -> dict[str, int]:
    return {f"kv/data/{number}": 1 for number in range(count)}


def once(**more: int) -> dict[str, int]:
    return {LOGIN: 1, REVOKE: 1, **reads(), **more}


def test_ten_hosts_and_three_tasks_are_one_login_one_read_of_each_and_one_revoke(ansible: Ansible) -> None:
    status, output = ansible.play(use(1), use(2), use(3))
    assert status == 0, output
    assert ansible.finished() == once()
    assert not list((ansible.directory / "local").iterdir())


def test_a_failing_play(ansible: Ansible) -> None:
    status, _output = ansible.play(use(), {"name": "Fail", "ansible.builtin.fail": {}})
    assert status == 2
    assert ansible.finished() == once()


def test_check_mode(ansible: Ansible) -> None:
    status, output = ansible.play(use(), arguments=("--check", "--diff"))
    assert status == 0, output
    assert ansible.finished() == once()


def test_a_command_for_all_hosts(ansible: Ansible) -> None:
    status, output = ansible.run("ansible", "all", "-m", "assert", "-a", "that=keys|unique|length==6")
    assert status == 0, output
    assert ansible.finished() == once()


def test_a_lookup_in_the_main_process(ansible: Ansible) -> None:
    hosts = f"{{{{ 'all' if lookup('gatewayops.openai.secret', '{text(0)}') else 'none' }}}}"
    ansible.write(use(), hosts=hosts, vars={"gateway_vault_addr": ansible.bao.address})
    given = json.loads((ansible.directory / "group_vars" / "all.yml").read_text())
    options = {name: value for name, value in given.items() if name.startswith("gateway_")}
    status, output = ansible.run("ansible-playbook", "play.yml", "-e", json.dumps(options))
    assert status == 0, output
    assert ansible.finished() == once()


def test_an_interrupted_run(ansible: Ansible) -> None:
    """Ctrl-C, which a terminal sends to every process of the group."""
    ansible.write(use(), sleep(60))
    with ansible.started("ansible-playbook", "play.yml") as process:
        eventually(lambda: ansible.requests() == Counter({LOGIN: 1, **reads()}), 20)
        (keeper,) = ansible.keepers()
        assert os.getsid(keeper) != os.getsid(process.pid)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            os.kill(keeper, number)
        time.sleep(0.2)
        assert ansible.keepers() == [keeper], "while the run lives, nothing but SIGKILL ends it"
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=20)
    assert ansible.finished() == once()


def test_a_killed_run(ansible: Ansible) -> None:
    ansible.write(use(), sleep(60))
    with ansible.started("ansible-playbook", "play.yml") as process:
        eventually(lambda: ansible.requests() == Counter({LOGIN: 1, **reads()}), 20)
        accessor = newest_accessor(ansible)
        assert lookup(ansible, accessor)
        process.kill()
        process.wait()
        assert ansible.finished() == once()
    assert not lookup(ansible, accessor), "the token is gone"
    left = sorted(map(str, (ansible.directory / "local").rglob("*")))
    assert not [path for path in left if "gatewayops-secrets" in path], "and what the run could not remove"


def newest_accessor(ansible: Ansible) -> str:
    """The accessor of the token that was made last."""
    accessors = ansible.bao.call("LIST", "auth/token/accessors")["data"]["keys"]
    found = [(lookup(ansible, each) or {}) for each in accessors]
    newest = max(found, key=lambda each: each.get("creation_time", 0))
    assert newest["path"] == LOGIN
    return str(newest["accessor"])


def lookup(ansible: Ansible, accessor: str) -> dict[str, Any] | None:
    try:
        data: dict[str, Any] = ansible.bao.call("POST", "auth/token/lookup-accessor", {"accessor": accessor})["data"]
    except HTTPError:
        return None
    return data
