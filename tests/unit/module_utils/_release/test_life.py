# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases over time: going back, pruning, what is noted, removal."""

from __future__ import annotations

import json
import pwd
from pathlib import Path

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release import history, store
from ansible_collections.gatewayops.openai.plugins.module_utils._release.info import info_on
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import ReadOnlyOps
from ansible_collections.gatewayops.openai.plugins.module_utils._release.run import run_on
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import DRAINING, RUNNING

from .world import World, WorldOps, spec

UNIT = "host/etc/systemd/system/openai-gateway@.service"
A = spec("a", "b")
B = spec("b", "c")
LARGE = spec("a", "b", size="large")


def test_going_back_twice_comes_back(world: World) -> None:
    a, b = world.request(A).digest, world.request(B).digest
    back = world.request(A, digest="previous", files=None, secrets=None)
    world.run(world.request(A))
    with pytest.raises(ReleaseError, match="no release before"):
        world.run(back)
    world.run(world.request(B))
    assert world.run(back)["digest"] == a
    result = world.run(back)
    assert (result["digest"], result["previous"]) == (b, a)
    assert [entry.digest for entry in history.read(world.layout.history)] == [a, b, a, b]


def test_going_back_needs_no_secret_of_the_release_before(world: World) -> None:
    keyed = spec("a")
    keyed["gateway_providers"]["p"]["api_key"] = "vault://kv/p#key"
    world.run(world.request(keyed))
    world.run(world.request(A))
    (key,) = Path(world.host.secrets_dir).glob("provider-p-*.json")
    assert world.run(world.request(keyed, digest="previous", files=None, secrets=None))["process"] == "reload"
    world.run(world.request(A))
    assert world.run(world.request(B))["secrets_changed"] == [key.name]


def test_releases_beyond_keep_are_pruned(world: World) -> None:
    digests = []
    for number in range(5):
        raw = spec("a", f"m{number}")
        digests.append(world.request(raw).digest)
        result = world.run(world.request(raw, keep=2))
    assert result["pruned"] == [digests[2]]
    assert sorted(store.releases(world.layout)) == sorted(digests[3:])


def test_the_release_to_go_back_to_is_never_pruned(world: World) -> None:
    world.run(world.request(A))
    world.run(world.request(B, keep=1))
    assert set(store.releases(world.layout)) == {world.request(A).digest, world.request(B).digest}


def test_present_stages_and_leaves_the_active_one_alone(world: World) -> None:
    world.run(world.request(A))
    serving = world.serving()
    result = world.run(world.request(B), "present")
    assert (result["changed"], result["process"]) == (True, "none")
    assert world.serving() == serving
    assert store.linked(world.layout) == world.request(A).digest
    assert not world.run(world.request(B), "present")["changed"]
    assert world.run(world.request(B, files=None))["process"] == "reload", "staged, so no bundle is needed"


def test_absent(world: World) -> None:
    world.run(world.request(A))
    world.run(world.request(LARGE))
    world.site().manager.instances()
    predicted = world.run(world.request(A), "absent", check=True, ops=ReadOnlyOps())
    assert predicted["changed"]
    result = world.run(world.request(A), "absent")
    assert result["removed"] == predicted["removed"]
    assert "instance green" in result["removed"]
    assert not world.layout.config.exists()
    assert not Path(world.host.runtime_dir).exists()
    assert not Path(world.host.log_dir).exists()
    assert not [path for path in (world.directory / "root").rglob("*") if path.is_file()]
    assert not world.run(world.request(A), "absent")["changed"]
    assert world.run(world.request(A))["process"] == "start"


def test_absent_removes_logs_and_no_other_files_beside_them(world: World) -> None:
    world.run(world.request(A))
    logs = Path(world.host.log_dir)
    for name in ("access.log", "access.log.1", "access.log.2.gz", "prompts.jsonl", "prompts.jsonl.1", "mine.txt"):
        (logs / name).touch()
    result = world.run(world.request(A, keep_logs=True), "absent")
    assert result["message"] == "the gateway is removed; its logs and their user stay"
    assert len(list(logs.iterdir())) == 6
    assert not world.run(world.request(A, keep_logs=True), "absent")["changed"]
    assert len(world.run(world.request(A), "absent")["removed"]) == 5
    assert [path.name for path in logs.iterdir()] == ["mine.txt"]
    assert not world.run(world.request(A), "absent")["changed"]


def user(name: str = "OpenAI gateway") -> pwd.struct_passwd:
    return pwd.struct_passwd(("openai-gateway", "x", 999, 999, name, "/nonexistent", "/usr/sbin/nologin"))


def test_absent_removes_the_user_that_a_release_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pwd.getpwnam", lambda name: user())
    monkeypatch.setattr("grp.getgrnam", lambda name: None)
    world.run(world.request(A))
    done: list[str] = []
    ops = WorldOps(world, lambda verb, path: done.append(path))
    result = world.run(world.request(A), "absent", ops=ops)
    assert result["removed"][-1] == "user openai-gateway"
    assert done[-2:] == ["userdel openai-gateway", "groupdel openai-gateway"]


def test_absent_leaves_another_user_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pwd.getpwnam", lambda name: user("Jo Operator"))
    world.run(world.request(A))
    done: list[str] = []
    world.run(world.request(A), "absent", ops=WorldOps(world, lambda verb, path: done.append(path)))
    assert not [command for command in done if "del " in command]
    assert not world.run(world.request(A), "absent")["changed"]


def test_absent_keeps_what_is_not_the_gateways(world: World) -> None:
    world.run(world.request(A))
    mine = world.layout.config / "notes.txt"
    mine.write_text("mine")
    world.run(world.request(A), "absent")
    assert mine.read_text() == "mine"
    assert not world.layout.releases.exists()
    assert not world.run(world.request(A), "absent")["changed"]


def test_absent_empties_no_directory_of_envoys_user(world: World) -> None:
    """Where that user could put a link to any other directory in its place meanwhile."""
    world.run(world.request(A))
    foreign = Path(world.host.runtime_dir, "green.draining")
    foreign.mkdir()
    (foreign / "file").touch()
    world.run(world.request(A), "absent")
    assert (foreign / "file").exists()
    assert not world.run(world.request(A), "absent")["changed"]


def test_absent_waits_for_connections(world: World) -> None:
    world.run(world.request(A))
    world.change("blue", stays=True)
    with pytest.raises(ReleaseError, match="still serves connections"):
        world.run(world.request(A, drain_wait=0.0), "absent")
    assert world.layout.releases.exists()


def test_info(world: World) -> None:
    assert info_on(world.site())["active"] == ""
    world.run(world.request(A, facts={"applied_by": "me", "inventory_commit": "abc"}))
    world.run(world.request(LARGE))
    found = info_on(world.site())
    assert (found["active"], found["previous"]) == (world.request(LARGE).digest, world.request(A).digest)
    assert [(entry["digest"], entry["active"]) for entry in found["history"]] == [
        (world.request(LARGE).digest, True),
        (world.request(A).digest, False),
    ]
    assert found["history"][1]["applied_by"] == "me"
    assert found["service"]["instance"] == "green"
    assert found["service"]["instances"] == {"blue": DRAINING, "green": RUNNING}
    assert found["accepted"]["listener_manager.lds"] == world.serving()["green"]
    assert found["envoy_version"] == "1.40.0"


def test_manifest_tells_where_a_release_came_from(world: World) -> None:
    facts = {"applied_by": "me", "inventory_commit": "abc", "spec_digest": "d", "collection_version": "0.1.0"}
    world.run(world.request(A, facts=facts))
    manifest = json.loads((world.layout.release(world.request(A).digest) / "manifest.json").read_bytes())
    assert {**facts, "envoy_version": "1.40.0"}.items() <= manifest["facts"].items()
    assert manifest["facts"]["staged_at"].endswith("Z")
    assert manifest["files"]["envoy/lds.json"]["mode"] == "0644"
    entry = history.read(world.layout.history)[-1]
    assert (entry.applied_by, entry.inventory_commit, entry.envoy_version) == ("me", "abc", "1.40.0")


def test_history_that_cannot_be_read_is_begun_anew(world: World) -> None:
    world.run(world.request(A))
    world.layout.history.write_text("{")
    assert info_on(world.site())["active"] == world.request(A).digest
    world.run(world.request(B))
    assert [entry.digest for entry in history.read(world.layout.history)] == [
        world.request(A).digest,
        world.request(B).digest,
    ]


def test_absent_of_nothing(world: World) -> None:
    assert run_on(world.site(), "absent", world.request(A), check=False)["changed"] is False
