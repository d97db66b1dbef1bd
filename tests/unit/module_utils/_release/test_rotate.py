# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other secrets for a gateway that goes on with the release that it serves."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json, digest
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release import persist, secrets
from ansible_collections.gatewayops.openai.plugins.module_utils._release import rotate as rotate_module
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import ReadOnlyOps
from ansible_collections.gatewayops.openai.plugins.module_utils._release.plan import Request
from ansible_collections.gatewayops.openai.plugins.module_utils._release.rotate import Order, run_on
from ansible_collections.gatewayops.openai.plugins.module_utils._release.rotation import Rotated
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import spec_resources

from .world import HostKey, World, snapshot, spec

PROVIDERS = {
    "p": {"type": "openai_compatible", "base_url": "http://127.0.0.1:1/v1", "api_key": "vault://kv/p#key"},
    "q": {"type": "openai_compatible", "base_url": "http://127.0.0.1:2/v1", "api_key": "vault://kv/q#key"},
}
CONSUMERS = {name: {"api_keys": [f"vault://kv/{name}#key"], "models": ["*"]} for name in ("alice", "bob")}
A = spec("a", gateway_providers=PROVIDERS, gateway_consumers=CONSUMERS)

#: What a rotation says that found nothing.
NOBODY = Rotated().as_dict()


def files_of(world: World, raw: dict[str, Any], **values: str) -> dict[str, str]:
    """The secret files of a spec; the key of `alice` is `sk-alice` or what `values` say."""
    found = {}
    for file in world.bundle(raw).secrets:
        found[file.name] = file.render({ref: values.get(name := _name(ref), f"sk-{name}") for ref in file.references})
    return found


def serve(world: World, raw: dict[str, Any]) -> None:
    """Have it serve a spec."""
    bundle = world.bundle(raw)
    world.run(Request(bundle.digest, bundle.files, files_of(world, raw), prune_wait=0.0, drain_wait=5.0))


def _name(reference: Any) -> str:
    return str(reference.location.rpartition("/")[2])


def digest_of(raw: dict[str, Any]) -> str:
    """The digest of a spec, as its release on the host knows it."""
    return digest(canonical_json(spec_resources(parse_spec(raw))))


Rotate = Callable[..., dict[str, Any]]


@pytest.fixture
def rotate(world: World) -> Rotate:
    """Serve A; then rotate, where the keys are those given and check mode has to have said the same before."""
    serve(world, A)

    def _rotate(raw: dict[str, Any] = A, **values: str) -> dict[str, Any]:
        order = Order(files_of(world, raw, **values), digest_of(raw))
        before = snapshot(world.directory)
        predicted = run_on(world.site(ReadOnlyOps()), order, check=True)
        assert snapshot(world.directory) == before, "check mode writes nothing"
        done = run_on(world.site(), order, check=False)
        assert predicted == done
        return done

    return _rotate


def provider_file(world: World, name: str) -> str:
    (found,) = [path.name for path in Path(world.host.secrets_dir).glob(f"provider-{name}-*.json")]
    return found


def test_what_differs_is_delivered_and_named(world: World, rotate: Rotate) -> None:
    release, instances = world.serving(), world.states()
    kept = secrets.current(world.host.secrets_dir)
    result = rotate(alice="sk-new", q="sk-new-q")
    assert result["rotated"] == {
        "consumers": ["alice"],
        "providers": ["q"],
        "listeners": [],
        "issuers": [],
        "collector_headers": [],
    }
    assert result["message"] == "consumers: alice; providers: q"
    assert result["changed_names"] == ["consumers.json", provider_file(world, "q")]
    assert result["changed"]
    assert result["warnings"] == result["removed"] == []
    now = secrets.current(world.host.secrets_dir)
    assert {name for name in now if now[name] != kept[name]} == set(result["changed_names"])
    assert (world.serving(), world.states()) == (release, instances)


def test_a_second_run_changes_nothing(world: World, rotate: Rotate) -> None:
    rotate(alice="sk-new")
    before = snapshot(Path(world.host.secrets_dir))
    result = rotate(alice="sk-new")
    assert (result["changed"], result["message"]) == (False, "nothing changed")
    assert snapshot(Path(world.host.secrets_dir)) == before


def test_an_old_key_that_is_taken_away_is_refused_at_once(world: World, rotate: Rotate) -> None:
    rotate(alice="sk-new")
    assert "sk-alice" not in json.dumps(secrets.current(world.host.secrets_dir))


@pytest.mark.parametrize("damage", ["delete", "edit", "mode", "garbage", "directory"])
def test_what_somebody_changed_is_brought_back(world: World, rotate: Rotate, damage: str) -> None:
    wanted = secrets.current(world.host.secrets_dir)
    path = Path(world.host.secrets_dir, provider_file(world, "p"))
    if damage == "delete":
        path.unlink()
    elif damage == "edit":
        path.write_text(path.read_text().replace("sk-p", "sk-other"))
    elif damage == "mode":
        path.chmod(0o644)
    elif damage == "garbage":
        path.write_text("{")
    else:
        path.parent.chmod(0o755)
    result = rotate()
    assert result["changed"]
    named = ["p"] if damage in ("delete", "edit", "garbage") else []
    assert result["rotated"] == {
        "consumers": [],
        "providers": named,
        "listeners": [],
        "issuers": [],
        "collector_headers": [],
    }
    assert result["message"] == {
        "mode": f"files: {path.name}",
        "directory": "files: .",
    }.get(damage, "providers: p")
    assert secrets.current(world.host.secrets_dir) == wanted
    assert not rotate()["changed"]


def test_a_key_that_somebody_let_in_is_thrown_out(world: World, rotate: Rotate) -> None:
    path = Path(world.host.secrets_dir, "consumers.json")
    document = json.loads(path.read_text())
    document["resources"][0]["typed_config"]["credentials"].append({"key": "sk-evil", "client": "mallory"})
    path.write_text(json.dumps(document))
    assert rotate()["rotated"]["consumers"] == ["mallory"]
    assert "sk-evil" not in path.read_text()


def test_what_a_killed_run_left_is_removed_and_what_is_to_go_back_to_stays(world: World, rotate: Rotate) -> None:
    moved = {**PROVIDERS, "p": {**PROVIDERS["p"], "base_url": "http://127.0.0.1:3/v1"}}
    raw = spec("a", gateway_providers=moved, gateway_consumers=CONSUMERS)
    before = provider_file(world, "p")
    serve(world, raw)
    where = Path(world.host.secrets_dir)
    (where / ".consumers.json.0123").write_text("sk-left-behind")
    result = rotate(raw)
    assert (result["changed"], result["removed"]) == (True, [".consumers.json.0123"])
    assert result["message"] == "removed: .consumers.json.0123"
    assert (where / before).exists(), "the release before reads it"


def test_a_host_that_serves_something_else_says_what(world: World, rotate: Rotate) -> None:
    before = snapshot(world.directory)
    ahead = spec("a", "b", gateway_providers=PROVIDERS, gateway_consumers=CONSUMERS)
    result = rotate(ahead, alice="sk-new")
    assert (result["changed"], result["needs_references"]) == (False, True)
    assert result["active"] == world.bundle(A).digest
    assert result["spec_digest"] == digest_of(A)
    assert result["resources"] == json.loads(json.dumps(spec_resources(parse_spec(A))))
    asked = run_on(world.site(), Order(None, digest_of(A)), check=False)
    assert asked == result, "without secrets it only says"
    assert snapshot(Path(world.host.secrets_dir)) == {
        path: each for path, each in before.items() if path.startswith(world.host.secrets_dir + "/")
    }


def test_files_that_the_release_does_not_read_are_not_delivered(world: World, rotate: Rotate) -> None:
    files = {**files_of(world, A), "provider-other-0123abcd.json": '{"resources": []}'}
    assert not run_on(world.site(), Order(files, digest_of(A)), check=False)["changed"]


def test_what_is_kept_for_the_next_boot_follows(world: World, rotate: Rotate) -> None:
    result = rotate(alice="sk-new")
    assert (result["repaired"], result["message"]) == ([], "consumers: alice")
    assert persist.fault(world.site(), secrets.current(world.host.secrets_dir)) == ""


def test_what_is_kept_for_the_next_boot_is_brought_back(world: World, rotate: Rotate) -> None:
    sealed = world.layout.sealed_secrets
    for damage, what in ((sealed.unlink, "missing"), (lambda: sealed.write_text("x"), "cannot be decrypted")):
        damage()
        result = rotate()
        assert result["repaired"] == [f"{sealed} ({what})"]
        assert (result["changed"], result["message"]) == (True, f"brought back: {sealed} ({what})")
        assert not rotate()["changed"]


def test_where_secrets_cannot_be_kept_nothing_is_changed(world: World, rotate: Rotate) -> None:
    kept = snapshot(world.directory)
    site = world.site()
    site = replace(site, sealer=HostKey(site.ops, why="there is no systemd-creds"))
    for check in (True, False):
        with pytest.raises(
            ReleaseError, match="nothing was changed: there is no systemd-creds: set gateway_secrets_pe"
        ):
            run_on(site, Order(files_of(world, A, alice="sk-new"), digest_of(A)), check=check)
    assert {path for path, each in snapshot(world.directory).items() if kept[path] != each} <= {str(world.layout.lock)}


def test_keys_of_clients_that_are_to_stay_stay_and_those_of_others_do_not(world: World, rotate: Rotate) -> None:
    """Those that the controller does not read: bob's, whom the variables no longer have."""
    only = spec("a", gateway_providers=PROVIDERS, gateway_consumers={"alice": CONSUMERS["alice"]})
    consumers = files_of(world, only, alice="sk-new")["consumers.json"]
    files = {**files_of(world, A), "consumers.json": consumers}
    order = Order(files, digest_of(A), keep_clients=("bob",))
    result = run_on(world.site(), order, check=False)
    assert (result["rotated"]["consumers"], result["warnings"]) == (["alice"], [])
    found = secrets.credentials(secrets.current(world.host.secrets_dir)["consumers.json"]) or []
    assert sorted(each["key"] for each in found) == ["sk-bob", "sk-new"]
    assert persist.fault(world.site(), secrets.current(world.host.secrets_dir)) == ""
    Path(world.host.secrets_dir, "consumers.json").unlink()
    (warning,) = run_on(world.site(), order, check=False)["warnings"]
    assert warning.startswith("no key of bob is on this host")


def test_a_file_that_is_neither_here_nor_given_is_a_warning(world: World, rotate: Rotate) -> None:
    name = provider_file(world, "p")
    Path(world.host.secrets_dir, name).unlink()
    files = {other: text for other, text in files_of(world, A).items() if other != name}
    (warning,) = run_on(world.site(), Order(files, digest_of(A)), check=False)["warnings"]
    assert f"reads {name}, which is not on this host" in warning


def test_what_envoy_refuses_is_put_back(world: World, rotate: Rotate) -> None:
    kept = secrets.current(world.host.secrets_dir)
    world.change("blue", refuses_secrets=True)
    order = Order(files_of(world, A, alice="sk-new"), digest_of(A))
    with pytest.raises(ReleaseError, match=r"Envoy refuses a secret, those that were there are put back"):
        run_on(world.site(), order, check=False)
    assert secrets.current(world.host.secrets_dir) == kept


def test_a_process_that_does_not_read_them_is_an_error_that_says_so(
    world: World, rotate: Rotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotate_module, "_PATIENCE", 0.2)
    world.change("blue", deaf_to=["sds." + provider_file(world, "p").removesuffix(".json")])
    order = Order(files_of(world, A), digest_of(A))
    predicted = run_on(world.site(ReadOnlyOps()), order, check=True)
    assert predicted["message"] == f"files: {provider_file(world, 'p')}", "it is written again"
    order = Order(files_of(world, A, alice="sk-new"), digest_of(A))
    with pytest.raises(ReleaseError, match=r"are on this host, but blue has not read them \(sds\.provider-p"):
        run_on(world.site(), order, check=False)
    now = secrets.current(world.host.secrets_dir)
    assert "sk-new" in json.dumps(now)
    assert persist.fault(world.site(), now) == "", "nor does a boot bring old ones"


def test_another_process_takes_over_from_one_that_does_not_read_secrets(world: World, rotate: Rotate) -> None:
    world.change("blue", deaf_to=["sds." + provider_file(world, "p").removesuffix(".json")])
    bundle = world.bundle(A)
    request = Request(bundle.digest, bundle.files, files_of(world, A), prune_wait=0.0, drain_wait=5.0)
    assert world.run(request)["process"] == "replace"
    assert set(world.serving()) == {"green"}
    assert world.run(request)["process"] == "none"


def test_without_a_process_they_are_there_for_the_next_one(world: World, rotate: Rotate) -> None:
    world.change("blue", state="stopped")
    result = rotate(alice="sk-new")
    assert result["message"] == "consumers: alice"
    assert result["warnings"] == ["no process of this gateway runs: it reads them when it starts"]


@pytest.mark.parametrize("made", [False, True])
def test_no_gateway_is_a_failure_that_says_so(world: World, made: bool) -> None:
    if made:
        world.layout.config.mkdir(parents=True)
    for check in (True, False):
        with pytest.raises(ReleaseError, match=r"there is no gateway on this host whose secrets could be rotated: run"):
            run_on(world.site(), Order(files_of(world, A), digest_of(A)), check=check)
    assert not Path(world.host.secrets_dir).exists()


def test_references_are_not_taken_from_a_release_that_somebody_changed(world: World, rotate: Rotate) -> None:
    path = world.layout.release(world.bundle(A).digest) / "resources.json"
    path.write_text(path.read_text().replace("vault://kv/p#key", "vault://kv/x#key"))
    with pytest.raises(ReleaseError, match=r"is not as it was made, .*resources\.json \(content\): run"):
        run_on(world.site(), Order(None, ""), check=False)


@pytest.mark.parametrize("check", [False, True])
def test_another_run_at_the_same_time(world: World, rotate: Rotate, check: bool) -> None:
    with world.layout.lock.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ReleaseError, match="another run is applying to this host"):
            run_on(world.site(), Order(files_of(world, A), digest_of(A)), check=check)


def test_files_that_somebody_gives_are_verified_too(world: World, rotate: Rotate) -> None:
    only = {"consumers.json": files_of(world, A, alice="sk-new")["consumers.json"]}
    kept = secrets.current(world.host.secrets_dir)
    world.change("blue", refuses_secrets=True)
    for prune in (False, True):
        with pytest.raises(ReleaseError, match="Envoy refuses a secret"):
            run_on(world.site(), Order(only, only_these=prune), check=False)
        assert secrets.current(world.host.secrets_dir) == kept
    world.change("blue", refuses_secrets=False)
    result = run_on(world.site(), Order(only, only_these=False), check=False)
    assert result["rotated"]["consumers"] == ["alice"]
    assert "sk-alice" in (Path(world.host.secrets_dir) / "consumers.json").read_text(), "other keys stay"
    assert run_on(world.site(), Order(only, only_these=True), check=False)["removed"]
