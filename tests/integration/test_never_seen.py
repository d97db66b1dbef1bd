# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in every position, searched for in every place that a run can write to: docs/secrets/guarantee.md."""

from __future__ import annotations

import copy
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from integration import canaries
from integration.site_gateway import BIN, CANARY, Ran, _pids, a_gateway
from integration.watched import SAFE, TOKEN, Watched

Variables = dict[str, Any]


@pytest.fixture(scope="module")
def serving() -> Iterator[Watched]:
    """A gateway that was made while it was watched."""
    with a_gateway() as gateway:
        watched = Watched(gateway)
        predicted = watched.play("site", "--check", callback="ansible.posix.json")
        assert predicted.status == 0, predicted.output
        made = watched.play("site")
        assert made.status == 0, made.output
        for ran in (predicted, made):
            watched.search(ran)
        yield watched


@pytest.fixture
def watched(serving: Watched) -> Iterator[Watched]:
    """The gateway; what a test changes in its variables is taken back."""
    variables = copy.deepcopy(serving.gateway.variables)
    serving.forget()
    yield serving
    serving.gateway.variables.clear()
    serving.gateway.variables.update(variables)


@pytest.mark.parametrize("secret", [f"sk-{CANARY}-a", TOKEN, 'odd "key"/+%'])
@pytest.mark.parametrize("before", ["", "x", "xy"])
def test_a_secret_is_found_in_every_encoding(secret: str, before: str) -> None:
    import base64
    import urllib.parse

    text = f"{before}{secret} and more"
    for content in (
        text.encode(),
        json.dumps({"key": text}).encode(),
        urllib.parse.quote(text, safe="").encode(),
        base64.b64encode(text.encode()),
        base64.urlsafe_b64encode(text.encode()),
        text.encode().hex().encode(),
        text.encode().hex().upper().encode(),
        text.encode("utf-16-le"),
    ):
        assert canaries.sightings({"it": secret}, [("here", content)]), content
    assert canaries.sightings({"it": secret}, [("here", b"something else, sk-can")]) == []
    assert canaries.sightings({}, [("here", b'{"client_token": "s.abcdefghijklmnopqrstuvwx"}')])


def test_a_secret_is_found_in_every_place(watched: Watched) -> None:
    """Without this, a search that looks in the wrong place would be content."""
    watched.gateway.bao.put("kv/control", it="control-5d0a17")
    key = "{{ lookup('gatewayops.openai.secret', 'vault://kv/control#it') }}"
    passing = f"{watched.directory}/user/passing"
    ran = watched.play(
        watched.tasks(
            {"ansible.builtin.set_fact": {"it": key, "cacheable": True}},
            {"ansible.builtin.command": {"argv": ["true", key]}, "no_log": True},
            {"ansible.builtin.command": "true", "environment": {"KEY": key}, "no_log": True},
            {"ansible.builtin.copy": {"content": key, "dest": f"{watched.gateway.root}/it"}, "no_log": True},
            {"ansible.builtin.copy": {"content": key, "dest": passing}, "no_log": True},
            {"ansible.builtin.file": {"path": passing, "state": "absent"}},
            {"ansible.builtin.debug": {"msg": key}},
        )
    )
    assert ran.status == 0, ran.output
    found = " ".join(canaries.sightings({"it": "control-5d0a17"}, watched.places(ran)))
    (watched.gateway.root / "it").unlink()
    for place in ("the output", "/ansible.log", "/everything", "/junit/", "/tree/", "/facts/", "/watched", "/root/it"):
        assert place in found
    assert list(watched.directory.glob("removed/*/gatewayops-secrets/*")), "the run's own temporary directory"
    assert re.search(r"/removed/[^ ]*/passing ", found), "a file that was there for a moment"
    notes = [json.loads(line) for line in (watched.directory / "watched").read_text().splitlines()]
    started = [note for note in notes if "starts" in note]
    assert any("control-5d0a17" in str(note["starts"]) and "true" in str(note["starts"]) for note in started)
    assert any(note["environment"].get("KEY") == "control-5d0a17" for note in started)
    with (watched.directory / "watched").open("a") as log:
        log.write('{"writes": "/var/tmp/stray"}\n')
    assert watched.strays() == ["/var/tmp/stray"]


#: What Envoy answers, and a word that shows that it did.
ADMIN = {
    "/config_dump?include_eds": b"consumer_keys",
    "/stats": b"sds.listener-public.update_success",
    "/clusters": b"model:gpt-5",
    "/certs": b"serial_number",
    "/listeners": b"listener:public",
    "/server_info": b"command_line_options",
    "/init_dump": b"{",
    "/memory": b"heap_size",
    "/runtime": b"layers",
}


def test_envoy_and_the_processes_of_a_host_show_none(watched: Watched) -> None:
    gateway = watched.gateway
    (admin,) = gateway.root.rglob("blue.sock")
    answers = {path: envoy_says(admin, path) for path in ADMIN}
    assert [path for path, word in ADMIN.items() if word not in answers[path]] == []
    assert b"redacted" in answers["/config_dump?include_eds"], "Envoy has the keys, and hides them itself"
    assert canaries.sightings(watched.secrets, answers.items()) == []
    running = dict(canaries.processes(_pids(gateway.root)))
    assert any(b"--service-cluster" in content for content in running.values())
    assert canaries.sightings(watched.secrets, running.items()) == []
    logs = {path.name for path in (gateway.root / "log").iterdir()}
    assert {"access.log", "blue.log", "supervisord.log"} <= logs, "searched as all files are"
    for path in Path(gateway.root / "log").iterdir():
        assert canaries.sightings(watched.secrets, [(path.name, path.read_bytes())]) == []


def envoy_says(admin: Path, path: str) -> bytes:
    with closing(http.client.HTTPConnection("localhost", timeout=10)) as connection:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(admin))
        connection.request("GET", path)
        return connection.getresponse().read()


def test_what_tasks_return_holds_none(watched: Watched) -> None:
    """Registered, shown, written to a file, and made facts that are cached: keys that are made in the run too."""
    gateway = watched.gateway
    gateway.bao.put("kv/consumers/batch", current=f"sk-{CANARY}-batch-new")
    gateway.variables["gateway_models"]["gpt-5-nano"] = {"targets": [{"provider": "a", "model": "gpt-5-nano"}]}
    own = "gatewayops.openai"
    gateway.variables["writer"] = TOKEN
    made = {"path": "kv/consumers/made"}
    writing = {"gateway_vault_auth_method": "token", "gateway_vault_token": "{{ writer }}"}
    calls: list[dict[str, Any]] = [
        {f"{own}.gateway_validate": {}},
        {f"{own}.gateway": {}},
        {f"{own}.gateway_info": {}},
        {f"{own}.gateway_verify": {"from": "controller"}},
        {f"{own}.gateway_verify": {"from": "host"}},
        {f"{own}.gateway_secrets": {}},
        {f"{own}.gateway_key": made, "vars": writing},
        {f"{own}.gateway_key": {**made, "state": "rotated", "grace": "1h"}, "vars": writing},
        {f"{own}.gateway_release": {"digest": "previous"}},
    ]
    results = [f"result{number}" for number in range(len(calls))]
    everything = "{{ [%s] }}" % ", ".join(results)
    ran = watched.play(
        watched.tasks(
            *({**call, "register": name} for call, name in zip(calls, results, strict=True)),
            {"ansible.builtin.debug": {"msg": everything}},
            {"ansible.builtin.copy": {"content": "{{ %s | to_json }}" % everything[3:-3], "dest": "kept.json"}},
            {"ansible.builtin.set_fact": {"kept": everything, "cacheable": True}},
        ),
        ANSIBLE_CALLBACK_RESULT_FORMAT="yaml",
    )
    assert ran.status == 0, ran.output
    facts = next((watched.directory / "facts").iterdir()).read_text()
    assert "secrets_changed" in facts
    keys = gateway.bao.call("GET", "kv/data/consumers/made")["data"]["data"]
    assert len(keys["current"]) > 20
    watched.search(ran, made=keys["current"], before=keys["previous"], new=f"sk-{CANARY}-batch-new")


@pytest.mark.parametrize(
    ("playbook", "callback"),
    [("rotate", "ansible.builtin.minimal"), ("verify", "ansible.builtin.oneline"), ("rollback", "ansible.posix.jsonl")],
)
def test_playbooks_show_none(watched: Watched, playbook: str, callback: str) -> None:
    if playbook == "rotate":
        watched.gateway.bao.put("kv/consumers/batch", current=f"sk-{CANARY}-batch-next")
    ran = watched.play(playbook, callback=callback, ANSIBLE_VERBOSE_TO_STDERR="1")
    assert ran.status == 0, ran.output
    watched.search(ran, next=f"sk-{CANARY}-batch-next")


Change = Callable[[Watched, Variables], None]


def setting(**variables: Any) -> Change:
    return lambda _watched, given: given.update(variables)


def provider_key(source: Any) -> Change:
    return lambda _watched, given: given["gateway_providers"]["a"].update(api_key=source)


def consumer_key(source: Any) -> Change:
    return lambda _watched, given: given["gateway_consumers"]["batch"].update(api_keys=source)


def stored(field: str, change: Callable[[str], Change] = provider_key) -> Change:
    return change(f"vault://kv/wrong#{field}")


def tls_key(source: str) -> Change:
    return lambda _watched, given: given["gateway_listeners"]["public"]["tls"].update(private_key=source)


def taken_port(watched: Watched, given: Variables) -> None:
    given["gateway_listeners"]["local"]["port"] = int(watched.gateway.bao.address.rpartition(":")[2])


KEY = f"sk-{CANARY}-a"
#: What is wrong on each of the hosts, and what is said about it.
FAILURES: Mapping[str, tuple[Change, str]] = {
    "down": (setting(gateway_vault_addr="http://127.0.0.1:1"), "cannot be reached"),
    "denied": (provider_key("vault://kv1/a#k"), "denies reading kv1/a"),
    "missing": (provider_key("vault://kv/nothing#k"), "has no secret nothing"),
    "field": (provider_key("vault://kv/providers/a#wrong"), "has no field 'wrong'"),
    "role": (setting(gateway_vault_role_id="wrong"), "refused the login (approle)"),
    "token": (setting(gateway_vault_auth_method="token", gateway_vault_token=KEY), "does not accept the token"),
    "token_text": (setting(gateway_vault_auth_method="token", gateway_vault_token=f"{KEY}\n{KEY}"), "unprintable"),
    "token_kind": (setting(gateway_vault_auth_method="token", gateway_vault_token=[KEY]), "must be text"),
    "password": (
        setting(gateway_vault_auth_method="userpass", gateway_vault_username="me", gateway_vault_password=KEY),
        "refused the login (userpass)",
    ),
    "jwt": (setting(gateway_vault_auth_method="jwt", gateway_vault_jwt=KEY), "refused the login (jwt)"),
    "wrapped": (
        setting(gateway_vault_secret_id=None, gateway_vault_wrapped_secret_id=KEY),
        "vault_wrapped_secret_id has been used already",
    ),
    "break": (stored("with_break"), "is not a key"),
    "blank": (stored("with_blank"), "is not a key"),
    "object": (stored("an_object"), "is not text"),
    "no_pem": (stored("with_blank", tls_key), "is not PEM text"),
    "bad_pem": (stored("bad_pem", tls_key), "BAD_BASE64_DECODE"),
    "other_pem": (stored("other_pem", tls_key), "KEY_VALUES_MISMATCH"),
    "twice": (consumer_key(["vault://kv/wrong#search"]), "have the same key"),
    "literal": (provider_key(KEY), "holds a secret itself"),
    "literal_kind": (consumer_key({KEY: 1}), "must be a list"),
    "scheme": (provider_key(f"valut://{KEY}"), "unknown kind of reference"),
    "template": (provider_key("{{ lookup('gatewayops.openai.secret', 'vault://kv/wrong#blank').no }}"), "no field"),
    "disk": (setting(gateway_secrets_dir="/var/tmp/gateway-secrets"), "not in memory"),
    "unwritable": (setting(gateway_root="/proc/gateway"), "/proc/gateway"),
    "port": (taken_port, "is in use by"),
}


def test_failures_show_none(watched: Watched) -> None:
    """Each host fails in its own way, in the actions that read, use and deliver secrets."""
    gateway = watched.gateway
    gateway.bao.put(
        "kv/wrong",
        with_break=f"{KEY}\n{KEY}",
        with_blank=f"{KEY} {KEY}",
        an_object={"inner": KEY},
        bad_pem=f"-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----\n",
        other_pem=watched.other_key,
        search=f"sk-{CANARY}-search",
    )
    hosts: dict[str, Variables] = {}
    for name, (change, _said) in FAILURES.items():
        hosts[name] = {**copy.deepcopy(gateway.variables), "gateway_fleet_size": 1}
        change(watched, hosts[name])
    inventory = watched.directory / "inventory" / "failing"
    inventory.mkdir()
    (inventory / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts}}))
    try:
        ran = watched.play(
            watched.tasks(
                *({f"gatewayops.openai.{action}": {}} for action in ("gateway_validate", "gateway")), hosts="all"
            ),
            "-i",
            str(inventory),
            "--limit",
            ",".join(hosts),
        )
    finally:
        shutil.rmtree(inventory)
    said = dict(
        re.findall(r'^fatal: \[(\w+)\]: FAILED! => \{.*?"msg": "(.*?)"\n', ran.output, re.DOTALL | re.MULTILINE)
    )
    assert {
        name: expected for name, (_change, expected) in FAILURES.items() if expected not in said.get(name, "")
    } == {}
    watched.search(ran)
    assert not Path("/var/tmp/gateway-secrets").exists()


def test_a_killed_run_leaves_nothing_that_can_be_read(watched: Watched) -> None:
    began = time.monotonic()
    environment = watched.environment(SAFE)
    with subprocess.Popen(
        [str(BIN / "ansible-playbook"), "-i", str(watched.directory / "inventory"), "gatewayops.openai.site", "-vvvv"],
        cwd=watched.directory,
        env={**watched.gateway.surroundings, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        while not (sealed := sealed_files(watched)) and time.monotonic() - began < 60:
            time.sleep(0.01)
        process.kill()
        output, _nothing = process.communicate()
    assert sealed, output
    assert sealed_files(watched), "it was killed while the secrets were there"
    watched.search(Ran(process.returncode, output))
    assert process.returncode == -signal.SIGKILL


def sealed_files(watched: Watched) -> list[Path]:
    found = (watched.directory / "local").glob("*/gatewayops-secrets/*")
    return [path for path in found if path.suffix != ".lock" and not path.name.startswith(".")]


# What the guarantee does not cover, so that the page does not say less or more than is so.


def test_limit_files_that_are_kept_on_the_host(watched: Watched) -> None:
    watched.gateway.variables["gateway_models"]["kept"] = {"targets": [{"provider": "a", "model": "kept"}]}
    ran = watched.play("site", ANSIBLE_KEEP_REMOTE_FILES="1")
    assert ran.status == 0, ran.output
    assert "secrets pass through temporary files on the controller and the host" in ran.output, "it is said"
    found = canaries.sightings(watched.secrets, watched.places(ran))
    assert found
    places = (f"{watched.directory}/remote/", f"{watched.directory}/removed/")
    assert all(any(place in sighting for place in places) for sighting in found), "on both sides, and nowhere else"


def test_limit_a_template_of_the_user_that_quotes_a_secret_in_its_error(watched: Watched) -> None:
    key = "lookup('gatewayops.openai.secret', 'vault://kv/consumers/batch#current')"
    watched.gateway.variables["gateway_providers"]["a"]["api_key"] = "{{ {}[%s] }}" % key
    ran = watched.play("site")
    assert "another consumer's key in the output (plain)" in canaries.sightings(watched.secrets, watched.places(ran))


def test_limit_callbacks_are_told_the_arguments_of_tasks(watched: Watched) -> None:
    """In spite of `no_log`. Ansible's own make no use of them. Actions take variables as well, which are not told."""
    watched.gateway.variables["writer"] = TOKEN
    tell = {
        "gatewayops.openai.gateway_key": {"path": "kv/consumers/told", "vault_token": "{{ writer }}"},
        "no_log": True,
    }
    tell["vars"] = {"gateway_vault_auth_method": "token"}
    ran = watched.play(watched.tasks(tell))
    assert ran.status == 0, ran.output
    assert canaries.sightings(watched.secrets, watched.places(ran)) == [
        f"the token in {watched.directory}/everything (plain)"
    ]


def test_debug_messages_show_none(watched: Watched) -> None:
    watched.gateway.variables["gateway_models"]["debug"] = {"targets": [{"provider": "a", "model": "debug"}]}
    ran = watched.play("site", ANSIBLE_DEBUG="1")
    assert ran.status == 0, ran.output
    assert "done with _execute_module (gatewayops.openai.gateway_release, (arguments are not shown))" in ran.output
    watched.search(ran)
