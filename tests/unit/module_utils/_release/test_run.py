# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run does to a host that is in order, and what it tells."""

from __future__ import annotations

import fcntl
import getpass
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle import build_bundle
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import SUPERVISOR
from ansible_collections.gatewayops.openai.plugins.module_utils._release import ports, secrets, store
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import ReadOnlyOps
from ansible_collections.gatewayops.openai.plugins.module_utils._release.plan import Request
from ansible_collections.gatewayops.openai.plugins.module_utils._release.run import run
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import DRAINING, RUNNING, STOPPED
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

from .world import REFUSED_MODEL, TAKEN_PORT, UNWANTED, World, snapshot, spec

UNIT = "host/etc/systemd/system/openai-gateway@.service"
A = spec("a", "b")
B = spec("b", "c")
LARGE = spec("a", "b", size="large")


def test_first_start(world: World) -> None:
    result = world.run(world.request(A))
    digest = world.request(A).digest
    assert (result["changed"], result["process"], result["digest"], result["previous"]) == (True, "start", digest, "")
    assert result["steps"] == [digest]
    assert result["secrets_changed"] == ["consumers.json"]
    assert world.states() == {"blue": RUNNING, "green": STOPPED}
    assert world.load()["blue"]["at_boot"]
    assert world.layout.current.resolve() == world.layout.release(digest)
    assert world.layout.outside(UNIT).is_file()


def test_check_mode_on_a_new_host_predicts_without_envoy(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "conflicts", lambda wanted, ours: ())
    (tmp_path / "bin").mkdir()
    host = replace(
        world.host,
        service_manager=SUPERVISOR,
        supervisord="/opt/venv/bin/supervisord",
        user=getpass.getuser(),
        secrets_dir=f"/dev/shm/{tmp_path.name}-{os.getpid()}",
        envoy=str(tmp_path / "bin" / "envoy"),
    )
    bundle = build_bundle(parse_spec(A), host)
    secret_files = {file.name: file.render(dict.fromkeys(file.references, "sk-1")) for file in bundle.secrets}
    request = Request(digest=bundle.digest, files=bundle.files, secrets=secret_files)
    before = snapshot(tmp_path)
    result = run(host, "active", request, check=True)
    assert (result["changed"], result["process"], result["envoy_version"]) == (True, "start", "")
    assert result["warnings"] == [f"there is no Envoy at {host.envoy} yet, so that it could not check the release"]
    assert snapshot(tmp_path) == before
    with pytest.raises(ReleaseError, match="there is no Envoy at"):
        run(host, "active", request, check=False)


def test_second_run_changes_nothing_and_writes_nothing(world: World) -> None:
    world.run(world.request(A))
    before = snapshot(world.directory)
    result = world.run(world.request(A))
    lock = str(world.layout.lock)
    assert not result["changed"]
    assert result["process"] == "none"
    after = snapshot(world.directory)
    assert {path: entry for path, entry in after.items() if path != lock} == {
        path: entry for path, entry in before.items() if path != lock
    }


def test_without_the_release_it_asks_for_the_bundle(world: World) -> None:
    world.run(world.request(A))
    before = snapshot(world.directory / "etc" / "releases")
    result = world.run(world.request(B, files=None))
    assert result["needs_bundle"]
    assert not result["changed"]
    assert result["active"] == world.request(A).digest
    assert set(result["resources"]) >= {"gateway_models.a", "gateway_models.b"}
    assert snapshot(world.directory / "etc" / "releases") == before


def test_without_any_release_the_resources_are_empty(world: World) -> None:
    assert world.run(world.request(A, files=None), check=True)["resources"] == {}


def test_reload(world: World) -> None:
    world.run(world.request(A))
    result = world.run(world.request(B))
    digest = world.request(B).digest
    assert (result["process"], result["previous"]) == ("reload", world.request(A).digest)
    assert result["steps"] == [f"{digest}.1", f"{digest}.2", digest]
    assert "gateway_models.a" in result["resources"]
    assert world.states() == {"blue": RUNNING, "green": STOPPED}
    assert store.leftovers(world.layout, digest) == ()


def test_old_clusters_that_are_in_use_are_removed_by_a_later_run(world: World) -> None:
    world.run(world.request(A))
    world.change("blue", busy=True)
    result = world.run(world.request(B))
    digest = world.request(B).digest
    assert result["steps"] == [f"{digest}.1", f"{digest}.2"]
    assert "2 clusters" not in result["message"]
    assert "still have requests" in result["message"]
    assert store.linked(world.layout) == f"{digest}.2"
    again = world.run(world.request(B))
    assert (again["changed"], again["process"]) == (False, "none")
    assert store.linked(world.layout) == f"{digest}.2"
    world.change("blue", busy=False)
    last = world.run(world.request(B))
    assert (last["changed"], last["steps"]) == (False, [digest])
    assert store.linked(world.layout) == digest
    assert store.leftovers(world.layout, digest) == ()


def test_another_change_after_one_that_was_not_finished(world: World) -> None:
    world.run(world.request(A))
    world.change("blue", busy=True)
    world.run(world.request(B))
    world.change("blue", busy=False)
    result = world.run(world.request(A))
    assert result["process"] == "reload"
    assert store.linked(world.layout) == world.request(A).digest
    assert not world.run(world.request(A))["changed"]


def test_replace(world: World) -> None:
    world.run(world.request(A))
    result = world.run(world.request(LARGE))
    assert (result["process"], result["steps"]) == ("replace", [world.request(LARGE).digest])
    assert world.states() == {"blue": DRAINING, "green": RUNNING}
    assert not world.load()["blue"]["at_boot"]
    assert world.load()["green"]["at_boot"]
    assert b"CPUQuota=400%" in world.layout.outside(UNIT).read_bytes()
    assert not world.run(world.request(LARGE))["changed"]


def test_the_process_that_is_replaced_never_sees_the_new_files(world: World) -> None:
    world.run(world.request(A))
    before = world.load()["blue"]["versions"]
    world.run(world.request(spec("c", size="large")))
    assert world.load()["blue"]["versions"] == before


def test_replace_waits_for_the_instance_that_drains(world: World) -> None:
    world.run(world.request(A))
    world.run(world.request(LARGE))
    world.change("blue", stays=True)
    before = store.linked(world.layout)
    with pytest.raises(ReleaseError, match="the instance blue still serves connections"):
        world.run(world.request(A, drain_wait=0.0))
    assert store.linked(world.layout) == before
    assert world.states() == {"blue": DRAINING, "green": RUNNING}
    assert b"CPUQuota=400%" in world.layout.outside(UNIT).read_bytes(), "files on the system are put back"
    world.change("blue", stays=False)
    assert world.run(world.request(A))["process"] == "replace"
    assert world.load()["blue"]["state"] == RUNNING


def test_refused_by_validation(world: World) -> None:
    world.run(world.request(A))
    before = snapshot(world.directory / "etc" / "releases")
    with pytest.raises(ReleaseError, match=UNWANTED):
        world.run(world.request(spec("a", UNWANTED)))
    assert snapshot(world.directory / "etc" / "releases") == before
    with pytest.raises(ReleaseError, match=UNWANTED):
        world.run(world.request(spec("a", UNWANTED)), check=True)


def test_refused_by_the_process_that_runs(world: World) -> None:
    world.run(world.request(A))
    serving, unit = world.serving(), world.layout.outside(UNIT).read_bytes()
    kept = secrets.current(world.host.secrets_dir)
    refused = world.request(spec("a", REFUSED_MODEL), secrets={"consumers.json": '{"resources": []}'})
    with pytest.raises(ReleaseError) as error:
        world.run(refused)
    assert "http.gateway.rds.gateway is not good" in str(error.value), "Envoy's own words"
    assert f"Envoy refuses release {refused.digest}, {world.request(A).digest} serves as before" in str(error.value)
    assert world.serving() == serving
    assert store.linked(world.layout) == world.request(A).digest
    assert world.layout.outside(UNIT).read_bytes() == unit
    assert secrets.current(world.host.secrets_dir) == kept
    assert store.leftovers(world.layout, "") == ()
    assert not world.run(world.request(A))["changed"]


def test_refused_by_the_process_that_starts(world: World) -> None:
    world.run(world.request(A))
    serving, unit = world.serving(), world.layout.outside(UNIT).read_bytes()
    with pytest.raises(ReleaseError) as error:
        world.run(world.request(spec("a", port=TAKEN_PORT)))
    assert "listener_manager.lds is not good" in str(error.value)
    assert "serves as before" in str(error.value)
    assert world.serving() == serving
    assert world.layout.outside(UNIT).read_bytes() == unit
    assert not world.run(world.request(A))["changed"]


def test_first_start_that_is_refused(world: World) -> None:
    with pytest.raises(ReleaseError, match="nothing serves"):
        world.run(world.request(spec("a", port=TAKEN_PORT)))
    assert world.serving() == {}
    assert store.linked(world.layout) == ""
    assert world.run(world.request(A))["process"] == "start"
    assert not world.run(world.request(A))["changed"]


def test_secrets_that_are_refused_are_put_back(world: World) -> None:
    world.run(world.request(A))
    kept = secrets.current(world.host.secrets_dir)
    world.change("blue", refuses_secrets=True)
    with pytest.raises(ReleaseError, match="Envoy refuses a secret"):
        world.run(world.request(A, secrets={"consumers.json": '{"resources": []}', "more.json": '{"resources": []}'}))
    assert secrets.current(world.host.secrets_dir) == kept


def test_secrets_alone(world: World) -> None:
    world.run(world.request(A))
    result = world.run(world.request(A, secrets={"consumers.json": '{"resources": []}'}))
    assert (result["changed"], result["process"], result["secrets_changed"]) == (True, "none", ["consumers.json"])


def test_a_port_in_use_is_told_before_anything_is_touched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run(world.request(A))
    before = snapshot(world.directory / "etc" / "releases")
    monkeypatch.setattr(ports, "conflicts", lambda wanted, ours: ("0.0.0.0:443 is in use by 7/nginx",))
    with pytest.raises(ReleaseError, match=r"0\.0\.0\.0:443 is in use by 7/nginx"):
        world.run(world.request(spec("a", port=443)))
    assert snapshot(world.directory / "etc" / "releases") == before


def test_a_secret_that_is_not_there_is_told_before_anything_is_touched(world: World) -> None:
    with pytest.raises(ReleaseError, match=r"reads the secret file consumers\.json"):
        world.run(world.request(A, secrets=None))
    assert not world.layout.releases.exists()


@pytest.mark.parametrize("raw", [A, B, LARGE, spec("a", port=9443)], ids=["same", "reload", "replace", "port"])
@pytest.mark.parametrize("started", [False, True], ids=["first", "later"])
def test_check_mode_writes_nothing_and_predicts_what_happens(world: World, raw: dict[str, Any], started: bool) -> None:
    if started:
        world.run(world.request(spec("a", "z")))
        world.run(world.request(A))
    before = snapshot(world.directory)
    predicted = world.run(world.request(raw, keep=2), check=True, ops=ReadOnlyOps())
    assert snapshot(world.directory) == before
    done = world.run(world.request(raw, keep=2))
    del predicted["steps"], done["steps"]
    assert predicted == done


def test_a_bundle_of_another_release_is_refused(world: World) -> None:
    with pytest.raises(ReleaseError, match="the bundle is release"):
        world.run(world.request(A, digest=world.request(B).digest))


def test_a_bundle_without_envoys_files_is_refused(world: World) -> None:
    request = world.request(A)
    files = tuple(file for file in request.files or () if file.path != "envoy/lds.json")
    with pytest.raises(ReleaseError, match="no files for Envoy"):
        world.run(world.request(A, digest="", files=files))


@pytest.mark.parametrize("check", [False, True])
def test_another_run_at_the_same_time(world: World, check: bool) -> None:
    world.run(world.request(A))
    with world.layout.lock.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ReleaseError, match=r"another run is applying to this host .*; nothing was changed"):
            world.run(world.request(B), check=check)
    assert world.run(world.request(B))["changed"]
