# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of consumers in a real OpenBao: made once whoever is first, rotated, taken back, and never shown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible import constants
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from integration import openbao
from integration.controller import environment_in
from integration.key_race import race

from ansible_collections.gatewayops.openai.plugins.action.gateway_key import ActionModule
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._keys import Wish
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.consumer_key import settle
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.kv2 import Held, LostRaceError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions

POLICY = """
path "kv/data/consumers/*" { capabilities = ["create", "update", "read"] }
path "kv/data/read/*" { capabilities = ["read"] }
path "kv/data/write/*" { capabilities = ["create", "update"] }
path "kv1/consumers/*" { capabilities = ["create", "update", "read"] }
path "strict/data/*" { capabilities = ["create", "update", "read"] }
path "team/kv/data/*" { capabilities = ["create", "update", "read"] }
path "cubby/*" { capabilities = ["read"] }
"""
KEY = re.compile(r"sk-gw-[A-Za-z0-9_-]{43}\Z")
READ = "kv/data/consumers/search"
MOUNT = "sys/internal/ui/mounts/kv/consumers/search"
ROUNDS = 40


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openbao.OpenBao]:
    server = openbao.start(tmp_path_factory.mktemp("openbao"))
    try:
        for mount in ("strict", "team/kv"):
            server.call("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "2"}})
            server.wait_for_engine(mount)
        server.call("POST", "strict/config", {"cas_required": True})
        server.call("POST", "sys/mounts/cubby", {"type": "transit"})
        yield server
    finally:
        server.stop()


class Keys:
    """Tasks of gateway_key, each with the token of a policy that allows no more than it needs."""

    def __init__(self, bao: openbao.OpenBao, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bao = bao
        self.began = 0
        bao.call("PUT", "sys/policies/acl/keys", {"policy": POLICY})
        self.token: str = bao.call("POST", "auth/token/create", {"policies": ["keys"]})["auth"]["client_token"]
        # Each test is a run of its own.
        monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(cache))
        self.began = bao.position()

    def run(
        self, path: str = "kv/consumers/search", *, check: bool = False, diff: bool = False, **options: Any
    ) -> dict[str, Any]:
        """The result of one task, which may be a failure."""
        loader = DataLoader()
        variables = {"gateway_vault_addr": self.bao.address, "gateway_vault_token": self.token}
        arguments = {"path": path, **options}
        plugin = ActionModule(
            task=SimpleNamespace(
                args=arguments, action="test", async_val=0, diff=diff, check_mode=check, environment=None
            ),
            connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir=None)),
            play_context=SimpleNamespace(check_mode=check, diff=diff),
            loader=loader,
            templar=Templar(loader=loader, variables=variables),
            shared_loader_obj=None,
        )
        result: dict[str, Any] = plugin.run(task_vars=variables)
        return result

    def result(self, path: str = "kv/consumers/search", **options: Any) -> dict[str, Any]:
        """The result of one task that succeeds."""
        result = self.run(path, **options)
        assert not result.get("failed"), result
        return result

    def failure(self, path: str = "kv/consumers/search", **options: Any) -> str:
        """What one task that fails says."""
        result = self.run(path, **options)
        assert set(result) == {"failed", "changed", "msg"}
        return str(result["msg"])

    @property
    def requests(self) -> list[str]:
        """What was asked of the store since the last time."""
        began, self.began = self.began, self.bao.position()
        return self.bao.requests(began)


@pytest.fixture
def keys(bao: openbao.OpenBao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    with_nothing(bao, "kv/consumers/search")
    return Keys(bao, tmp_path, monkeypatch)


class Ansible:
    """Runs of ansible-playbook on the controller alone."""

    def __init__(self, directory: Path, bao: openbao.OpenBao) -> None:
        self.directory = directory
        self.bao = bao
        self.role_id, self.secret_id = bao.approle("keys", POLICY)

    def play(self, *tasks: dict[str, Any], arguments: tuple[str, ...] = (), **environment: str) -> tuple[int, str]:
        """The exit status and everything that was shown or logged."""
        variables = {
            "gateway_vault_addr": self.bao.address,
            "gateway_vault_auth_method": "approle",
            "gateway_vault_role_id": self.role_id,
            "gateway_vault_secret_id": self.secret_id,
        }
        play = [{"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": list(tasks)}]
        (self.directory / "play.yml").write_text(json.dumps(play))
        log = self.directory / "ansible.log"
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "play.yml", *arguments],
            cwd=self.directory,
            env=environment_in(self.directory, ANSIBLE_LOG_PATH=str(log), **environment),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr + log.read_text()


@pytest.fixture
def ansible(tmp_path: Path, bao: openbao.OpenBao) -> Ansible:
    with_nothing(bao, "kv/consumers/search")
    return Ansible(tmp_path, bao)


def task(path: str = "kv/consumers/search", **options: Any) -> dict[str, Any]:
    return {"name": "Have the key", "gatewayops.openai.gateway_key": {"path": path, **options}, "register": "key"}


def with_nothing(bao: openbao.OpenBao, path: str) -> None:
    mount, _separator, rest = path.partition("/")
    bao.call("DELETE", f"{mount}/metadata/{rest}")


def stored(bao: openbao.OpenBao, path: str = "kv/consumers/search") -> dict[str, Any]:
    mount, _separator, rest = path.rpartition("/") if path.startswith("team") else path.partition("/")
    fields: dict[str, Any] = bao.call("GET", f"{mount}/data/{rest}")["data"]["data"]
    return fields


def until(text: str) -> timedelta:
    return datetime.fromisoformat(text) - datetime.now(UTC)


def test_a_key_is_made_once_and_rotated_once(keys: Keys, bao: openbao.OpenBao) -> None:
    made = keys.result()
    assert (made["changed"], made["version"], made["message"]) == (True, 1, "a key was made")
    first = stored(bao)
    assert KEY.match(first["current"])
    assert first == {
        "current": first["current"],
        "current_created_at": made["created_at"],
        "previous": "",
        "previous_expires_at": "",
    }
    assert keys.requests == [MOUNT, READ, READ, READ], "one of them the test's"

    again = keys.result()
    assert (again["changed"], again["version"], again["message"]) == (False, 1, "the key is there")
    assert stored(bao) == first

    rotated = keys.result(state="rotated", grace="2h")
    second = stored(bao)
    assert (rotated["changed"], rotated["version"]) == (True, 2)
    assert KEY.match(second["current"])
    assert second["current"] != first["current"]
    assert second["previous"] == first["current"]
    assert second["previous_expires_at"] == rotated["previous_expires_at"]
    assert timedelta(minutes=119) < until(rotated["previous_expires_at"]) <= timedelta(hours=2)

    waiting = keys.result(state="rotated")
    assert not waiting["changed"]
    assert waiting["message"] == (
        f"not rotated, since the previous key is valid until {rotated['previous_expires_at']}"
    )
    assert stored(bao) == second
    forced = keys.result(state="rotated", force=True)
    assert forced["changed"]
    assert stored(bao)["previous"] == second["current"]

    for result in (made, again, rotated, waiting, forced):
        assert set(result) == {
            "changed", "path", "version", "created_at", "previous_expires_at", "message"
        }  # fmt: skip


def test_revoked_and_made_anew(keys: Keys, bao: openbao.OpenBao) -> None:
    keys.result()
    first = stored(bao)["current"]
    revoked = keys.result(state="absent")
    assert (revoked["changed"], revoked["message"], revoked["created_at"]) == (True, "revoked", "")
    fields = stored(bao)
    assert -until(fields.pop("revoked_at")) < timedelta(minutes=1)
    assert fields == {"current": "", "current_created_at": "", "previous": "", "previous_expires_at": ""}
    assert not keys.result(state="absent")["changed"]
    assert keys.result()["changed"]
    fields = stored(bao)
    assert fields["current"] not in ("", first)
    assert "revoked_at" not in fields
    assert not keys.result("kv/consumers/never", state="absent")["changed"]
    with pytest.raises(urllib.error.HTTPError):
        stored(bao, "kv/consumers/never")


def test_a_key_that_is_too_old(keys: Keys, bao: openbao.OpenBao) -> None:
    old = (datetime.now(UTC) - timedelta(days=90)).isoformat()
    bao.put("kv/consumers/search", current="sk-old", current_created_at=old, previous="", previous_expires_at="")
    assert not keys.result(max_age="91d")["changed"]
    assert keys.result(max_age="90d")["changed"]
    assert stored(bao)["previous"] == "sk-old"
    assert not keys.result(max_age="90d")["changed"]


def test_fields_and_metadata_of_others_stay(keys: Keys, bao: openbao.OpenBao) -> None:
    bao.call("POST", "kv/metadata/consumers/search", {"custom_metadata": {"team": "search"}, "max_versions": 5})
    assert keys.result()["version"] == 1, "there is metadata and no version"
    bao.put("kv/consumers/search", current="sk-by-hand", contact="search@example.com", numbers=[1, 2.5, None])
    assert keys.result()["message"] == ("the key is there; written: current_created_at, previous, previous_expires_at")
    keys.result(state="rotated")
    fields = stored(bao)
    assert (fields["contact"], fields["numbers"], fields["previous"]) == (
        "search@example.com", [1, 2.5, None], "sk-by-hand"
    )  # fmt: skip
    metadata = bao.call("GET", "kv/metadata/consumers/search")["data"]
    assert (metadata["custom_metadata"], metadata["max_versions"]) == ({"team": "search"}, 5)


@pytest.mark.parametrize("path", ["strict/search", "team/kv/search", "kv/consumers/ü/a%2fb"])
def test_engines_and_paths_of_all_kinds(keys: Keys, bao: openbao.OpenBao, path: str) -> None:
    assert keys.result(path)["version"] == 1
    assert keys.result(path, state="rotated")["version"] == 2
    assert keys.result(path, state="rotated")["version"] == 2


def test_a_deleted_version_counts_as_none(keys: Keys, bao: openbao.OpenBao) -> None:
    keys.result()
    bao.call("DELETE", "kv/data/consumers/search")
    assert keys.result()["version"] == 2
    bao.call("PUT", "kv/destroy/consumers/search", {"versions": [2]})
    assert not keys.result(state="absent")["changed"]
    assert keys.result(state="rotated")["version"] == 3


def test_check_mode_predicts_and_writes_nothing(keys: Keys, bao: openbao.OpenBao) -> None:
    def told(result: dict[str, Any]) -> str:
        """All of it but the seconds, in which the two runs differ."""
        return re.sub(r"\d\d:\d\d:\d\dZ", "", json.dumps(result, sort_keys=True))

    wrapping = {"wrap_ttl": "1h"}
    steps: list[dict[str, Any]] = [wrapping, {}, {"state": "rotated"}, {"state": "rotated"}, {"state": "absent"}, {}]
    for options in steps:
        began = bao.position()
        predicted = keys.result(check=True, diff=True, **options)
        entries = map(json.loads, bao.audit_log.read_bytes()[began:].splitlines())
        operations = {(entry["request"]["operation"], entry["request"]["path"].split("/")[0]) for entry in entries}
        assert ("read", "kv") in operations
        assert operations <= {("read", "kv"), ("read", "sys")}
        done = keys.result(diff=True, **options)
        if options == wrapping:
            assert done.pop("wrapped_token")
            assert done.pop("wrapped_until")
            assert done.pop("_ansible_no_log")
        assert told(predicted) == told(done)


def test_a_diff_shows_names_and_times(keys: Keys, bao: openbao.OpenBao) -> None:
    bao.put("kv/consumers/search", current="sk-by-hand", api_key="sk-other")
    diff = keys.result(diff=True, state="rotated")["diff"]
    after = stored(bao)
    assert diff == {
        "before_header": "kv/consumers/search",
        "after_header": "kv/consumers/search",
        "before": "current: (not shown)\n",
        "after": (
            "current: (not shown)\nprevious: (not shown)\n"
            f"current_created_at: {after['current_created_at']}\n"
            f"previous_expires_at: {after['previous_expires_at']}\n"
        ),
    }


def test_a_wrapped_key_can_be_had_once(keys: Keys, bao: openbao.OpenBao) -> None:
    first = keys.result(wrap_ttl="1h")
    second = keys.result(wrap_ttl="1h")
    assert (first["changed"], second["changed"]) == (True, False)
    assert timedelta(minutes=59) < until(first["wrapped_until"]) <= timedelta(hours=1)
    for result in (first, second):
        answer = unwrap(bao, result["wrapped_token"])
        assert answer == {"api_key": stored(bao)["current"]}
        with pytest.raises(urllib.error.HTTPError):
            unwrap(bao, result["wrapped_token"])
    short = keys.result(wrap_ttl="1s")
    time.sleep(2)
    with pytest.raises(urllib.error.HTTPError):
        unwrap(bao, short["wrapped_token"])


def test_a_wrapped_key_is_registered_and_not_shown(ansible: Ansible, bao: openbao.OpenBao) -> None:
    given = ansible.directory / "token"
    use = {
        "name": "Hand it over",
        "ansible.builtin.copy": {"content": "{{ key.wrapped_token }}", "dest": str(given), "mode": "0600"},
        "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
        "no_log": True,
    }
    status, output = ansible.play(task(wrap_ttl="1h"), use, arguments=("-vvvv", "--diff"))
    assert status == 0, output
    assert given.read_text() not in output
    assert unwrap(bao, given.read_text()) == {"api_key": stored(bao)["current"]}


def unwrap(bao: openbao.OpenBao, token: str) -> dict[str, Any]:
    answer: dict[str, Any] = bao.call("POST", "sys/wrapping/unwrap", {"token": token})["data"]
    return answer


def test_a_run_logs_in_once_and_sees_the_new_key(ansible: Ansible, bao: openbao.OpenBao) -> None:
    def use(number: int) -> dict[str, Any]:
        found = "lookup('gatewayops.openai.secret', 'vault://kv/consumers/search#current')"
        return {
            "name": f"Use it, time {number}",
            "ansible.builtin.copy": {"content": f"{{{{ {found} }}}}", "dest": f"{ansible.directory}/key{number}"},
            "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
            "no_log": True,
        }

    bao.put("kv/consumers/search", current="sk-first")
    began = bao.position()
    status, output = ansible.play(use(0), task(state="rotated"), use(1))
    assert status == 0, output
    requests = [path for path in bao.requests(began) if path != "auth/token/revoke-self"]
    found = [(ansible.directory / f"key{number}").read_text() for number in range(2)]
    assert found == ["sk-first", stored(bao)["current"]]
    assert found[1] != "sk-first"
    assert requests == ["auth/approle/login", READ, READ, READ, READ], (
        "a lookup's, one each to decide and write, and anew"
    )


def test_nothing_shows_a_key(ansible: Ansible, bao: openbao.OpenBao) -> None:
    bao.put("kv/consumers/search", current="sk-canary-1", previous="", note="sk-canary-2")
    status, output = ansible.play(
        task(),
        task(state="rotated"),
        {"name": "Show what is registered", "ansible.builtin.debug": {"var": "key"}},
        task(state="rotated", force=True, wrap_ttl="1h"),
        task(state="absent"),
        task("kv/read/search"),
        arguments=("-vvvv", "--diff"),
        ANSIBLE_INJECT_INVOCATION="1",
        ANSIBLE_CACHE_PLUGIN="jsonfile",
        ANSIBLE_CACHE_PLUGIN_CONNECTION=str(ansible.directory / "facts"),
    )
    assert status != 0, "the last task is denied"
    assert "kv/read/search: Vault at" in output
    versions = bao.call("GET", "kv/metadata/consumers/search")["data"]["current_version"]
    held = [
        bao.call("GET", f"kv/data/consumers/search?version={version}")["data"]["data"]["current"]
        for version in range(1, versions + 1)
    ]
    assert len(set(held)) == 4, "one by hand, two that were made, none"
    for word in (*filter(None, held), "canary", ansible.secret_id):
        assert word not in output
        for path in ansible.directory.rglob("*"):
            assert path.is_dir() or path.name == "play.yml" or word.encode() not in path.read_bytes(), path


def test_what_cannot_be_is_said_in_one_line(keys: Keys, bao: openbao.OpenBao) -> None:
    bao.put("kv/write/search", current="x")
    bao.put("kv/consumers/wrong", current="sk-canary", previous_expires_at="sk-canary")
    policy = 'a policy must allow "create", "update" and "read" on'
    for path, message in {
        "kv1/consumers/search": "keeps no versions in kv1/, which is KV version 1: without check-and-set two runs "
        "could make two keys. Use an engine of version 2",
        "kv/read/search": f'denies it for read/search in kv/: {policy} kv/data/read/search, and "create" is refused',
        "kv/write/search": f'denies it for write/search in kv/: {policy} kv/data/write/search, and "read" is refused',
        "none/consumers/search": "has no key-value engine there, or denies everything in it",
        "cubby/search": "has no key-value engine at cubby/: it is of type transit",
        "team/kv": "has an engine at team/kv/, and the path names no secret in it",
        "kv/consumers/wrong": "the field 'previous_expires_at' is not a time such as 2026-03-01T12:00:00Z (RFC 3339)",
    }.items():
        assert keys.failure(path) == f"{path}: Vault at {bao.address} {message}"


def test_who_may_not_wrap_is_told_that_the_key_is_there(keys: Keys, bao: openbao.OpenBao) -> None:
    created = bao.call("POST", "auth/token/create", {"policies": ["keys"], "no_default_policy": True})
    keys.token = created["auth"]["client_token"]
    assert keys.failure(wrap_ttl="1h").endswith(
        'does not wrap: a policy must allow "update" on sys/wrapping/wrap. The key itself was written: try again'
    )
    assert stored(bao)["current"]


def test_a_store_that_cannot_be_reached(keys: Keys, bao: openbao.OpenBao, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{openbao.free_port()}"
    monkeypatch.setattr(bao, "address", address)
    for _time in range(2):
        assert keys.failure() == f"kv/consumers/search: Vault at {address} cannot be reached: Connection refused"


def test_several_controllers_at_once_never_make_two_keys(bao: openbao.OpenBao, tmp_path: Path) -> None:
    """Each of them settles each secret; whoever is not first finds the other's key to be what it wished for."""
    many, hour = 3, timedelta(hours=1)
    turns = []
    for number in range(ROUNDS):
        turns += [(f"kv/race/{number}", Wish("present", hour)), (f"kv/race/{number}", Wish("rotated", hour))]
    began = bao.position()
    results = race(many, turns, VaultOptions(addr=bao.address, token=bao.token), tmp_path)
    for turn in range(len(turns)):
        same = [result for result in results if result.turn == turn]
        assert len(same) == many
        assert sum(result.changed for result in same) == 1
        assert {(result.version, result.key) for result in same} == {(turn % 2 + 1, same[0].key)}
    for number in range(ROUNDS):
        first, second = (next(result.key for result in results if result.turn == 2 * number + step) for step in (0, 1))
        fields = stored(bao, f"kv/race/{number}")
        assert (fields["previous"], fields["current"]) == (first, second)
    entries = map(json.loads, bao.audit_log.read_bytes()[began:].splitlines())
    writes = [entry for entry in entries if entry["type"] == "response" and entry["request"]["operation"] != "read"]
    lost = sum("error" in entry or "errors" in entry.get("response", {}).get("data", {}) for entry in writes)
    assert len(writes) > len(turns), "they did meet"
    assert lost == len(writes) - len(turns)


class Meddling:
    """A secret that others write while it is read."""

    def __init__(self, *held: Held) -> None:
        self.held = list(held)
        self.written: list[Any] = []

    def read(self) -> Held:
        return self.held.pop(0) if len(self.held) > 1 else self.held[0]

    def write(self, fields: Any, *, over: int) -> int:
        if over != self.held[-1].version or over < 0:
            raise LostRaceError
        self.written.append(fields)
        return over + 1


def test_a_race_that_is_lost_is_decided_anew() -> None:
    before, theirs = {"current": "a"}, {"current": "b", "current_created_at": "", "previous": "a"}
    lost: Any = Meddling(Held(before, 1), Held(theirs, 2))
    outcome = settle(lost, Wish("rotated", timedelta(0), force=True), lambda: "c", check=False)
    assert outcome.decision.message.startswith("another run made the key")
    assert [fields["current"] for fields in lost.written] == ["b"], "nothing but what belongs to their key"
    never: Any = Meddling(Held(None, -1))
    with pytest.raises(SecretError, match=r"was changed by others 10 times"):
        settle(never, Wish("present", timedelta(0)), lambda: "c", check=False)
