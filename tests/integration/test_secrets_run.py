# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of Ansible asks the store for from its start to after its end, and what is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from integration import openbao
from integration.controller import LOGIN, RENEW, REVOKE, Ansible, eventually

CANARY = "canary-77ac01"
SECRETS = 6
POLICY = 'path "kv/data/*" { capabilities = ["read"] }'


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openbao.OpenBao]:
    server = openbao.start(tmp_path_factory.mktemp("openbao"))
    try:
        for number in range(SECRETS):
            server.put(f"kv/{number}", api_key=f"{CANARY}-{number}")
        server.put("kv/more", api_key=CANARY)
        yield server
    finally:
        server.stop()


@pytest.fixture
def ansible(tmp_path: Path, bao: openbao.OpenBao) -> Iterator[Ansible]:
    run = Ansible(tmp_path, bao)
    run.variables(keys=[f"{{{{ lookup('gatewayops.openai.secret', '{text(number)}') }}}}" for number in range(SECRETS)])
    run.role(POLICY)
    yield run
    run.end_keepers()


def text(number: int) -> str:
    return f"vault://kv/{number}#api_key"


def use(number: int = 0) -> dict[str, Any]:
    return {
        "name": f"Use every secret, time {number}",
        "ansible.builtin.assert": {"that": f"keys | unique | length == {SECRETS}", "quiet": True},
        "no_log": True,
    }


def use_more() -> dict[str, Any]:
    """Ask for what nobody has asked for yet."""
    key = "lookup('gatewayops.openai.secret', 'vault://kv/more#api_key')"
    return {"name": "Use another", "ansible.builtin.assert": {"that": f"{key} is truthy", "quiet": True}}


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
    options = {name: value for name, value in ansible.given.items() if name.startswith("gateway_")}
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


def test_nobody_waits_for_the_keeper(ansible: Ansible) -> None:
    """What reads the output of a run ends with it, also when the store is too slow to revoke."""
    ansible.write(use(), sleep(1))
    with ansible.started("ansible-playbook", "play.yml") as process:
        eventually(lambda: ansible.requests() == Counter({LOGIN: 1, **reads()}), 20)
        ansible.bao.process.send_signal(signal.SIGSTOP)
        try:
            output, _none = process.communicate(timeout=20)
            assert ansible.keepers()
        finally:
            ansible.bao.process.send_signal(signal.SIGCONT)
    assert process.returncode == 0, output
    assert ansible.finished() == once()


def test_a_keeper_that_is_killed_is_replaced_when_somebody_logs_in(ansible: Ansible) -> None:
    ansible.role(POLICY, "killed", token_ttl="1s", token_max_ttl="1s")
    ansible.write(use(), sleep(2), use_more())
    with ansible.started("ansible-playbook", "play.yml") as process:
        eventually(lambda: f"kv/data/{SECRETS - 1}" in ansible.requests(), 20)
        (first,) = ansible.keepers()
        os.kill(first, signal.SIGKILL)
        output, _none = process.communicate(timeout=30)
    assert process.returncode == 0, output
    counts = ansible.finished()
    assert (counts[LOGIN], counts[REVOKE]) == (2, 1)


def test_two_runs_at_once(ansible: Ansible) -> None:
    ansible.write(use(1), sleep(1), use(2))
    with ansible.started("ansible-playbook", "play.yml") as first:
        began = ansible.began
        with ansible.started("ansible-playbook", "play.yml") as second:
            second.communicate(timeout=60)
        first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    ansible.began = began
    assert ansible.finished() == dict.fromkeys(once(), 2)


def test_a_failed_login_is_tried_once_for_ten_hosts(ansible: Ansible) -> None:
    ansible.variables(gateway_vault_secret_id=f"{CANARY}-wrong")
    status, output = ansible.play(use(1), use(2))
    assert status != 0
    assert ansible.finished() == {LOGIN: 1}
    assert f"{CANARY}-wrong" not in output


def test_a_token_that_is_shorter_than_the_run_is_renewed(ansible: Ansible) -> None:
    ansible.role(POLICY, "short", token_ttl="3s")
    began = time.monotonic()
    status, output = ansible.play(use(1), sleep(7), use_more())
    assert status == 0, output
    counts = ansible.finished()
    renewals = counts.pop(RENEW)
    assert counts == once(**{"kv/data/more": 1})
    assert 4 <= renewals <= (time.monotonic() - began) / 1.5 + 2, "at half of its life, and by visits"


def test_a_short_token_that_cannot_be_renewed_is_replaced(ansible: Ansible) -> None:
    ansible.role(POLICY, "batch", token_ttl="4s", token_type="batch")
    status, output = ansible.play(use(1), sleep(5), use_more())
    assert status == 0, output
    assert ansible.finished() == {LOGIN: 2, REVOKE: 1, **reads(), "kv/data/more": 1}


def test_a_run_that_is_the_first_process_of_a_container(ansible: Ansible) -> None:
    """Everything in a container is killed with its first process: the token has to be revoked just before.

    There are some tenths of a second for it, which a busy machine may not give: one of three runs has to get them.
    """
    container = ("unshare", "--fork", "--pid", "--mount-proc", "--kill-child")
    if subprocess.run([*container, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespaces here")
    ansible.write(use())
    counts = []
    while once() not in counts and len(counts) < 3:
        ansible.began = ansible.bao.position()
        with ansible.started("ansible-playbook", "play.yml", through=container) as process:
            output, _none = process.communicate(timeout=60)
        assert process.returncode == 0, output
        counts.append(ansible.finished())
    assert once() in counts


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
