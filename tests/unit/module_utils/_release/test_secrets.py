# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release import secrets

ECDS = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
API_KEY_AUTH = "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth"
MOUNTINFO = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=24684092k
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
28 1 0:99 / /a\\040b rw - ramfs none rw
"""


def consumers(keys: Mapping[str, str]) -> str:
    credentials = [{"key": key, "client": client} for key, client in keys.items()]
    config = {"@type": API_KEY_AUTH, "key_sources": [{"header": "Authorization"}], "credentials": credentials}
    return json.dumps({"resources": [{"@type": ECDS, "name": "consumer_keys", "typed_config": config}]})


def credentials(given: object) -> dict[str, Any]:
    return {"@type": ECDS, "name": "consumer_keys", "typed_config": {"@type": API_KEY_AUTH, "credentials": given}}


def provider(value: str) -> str:
    return json.dumps({"resources": [{"name": "p", "generic_secret": {"secret": {"inline_string": value}}}]})


def on_disk(directory: Path, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((directory / name).read_text())
    return document


def keys_of(directory: Path) -> dict[str, str]:
    config = on_disk(directory, secrets.CONSUMERS)["resources"][0]["typed_config"]
    return {entry["key"]: entry["client"] for entry in config["credentials"]}


def deliver(directory: Path, files: Mapping[str, str], **options: Any) -> tuple[str, ...]:
    settings: dict[str, Any] = {"keep_others": False, "check": False, "allow_disk": True, **options}
    return secrets.deliver(str(directory), files, **{"owner": None, **settings})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "run" / "secrets"


def test_files_and_directory_are_private_and_versioned(directory: Path) -> None:
    assert deliver(directory, {"provider-a.json": provider("k1")}) == ("provider-a.json",)

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "provider-a.json").stat().st_mode) == 0o600
    document = on_disk(directory, "provider-a.json")
    assert document["resources"][0]["generic_secret"]["secret"]["inline_string"] == "k1"
    assert document["version_info"]
    assert [entry.name for entry in directory.iterdir()] == ["provider-a.json"]


def test_the_umask_does_not_open_or_close_files(directory: Path) -> None:
    before = os.umask(0o277)
    try:
        directory.mkdir(parents=True)
        directory.chmod(0o700)
        deliver(directory, {"provider-a.json": provider("k1")})
    finally:
        os.umask(before)
    assert stat.S_IMODE((directory / "provider-a.json").stat().st_mode) == 0o600


def test_the_same_content_changes_nothing(directory: Path) -> None:
    deliver(directory, {"provider-a.json": provider("k1")})
    before = (directory / "provider-a.json").stat()

    assert deliver(directory, {"provider-a.json": provider("k1")}) == ()
    assert (directory / "provider-a.json").stat().st_ino == before.st_ino


def test_new_content_gets_a_new_version_and_a_new_file(directory: Path) -> None:
    deliver(directory, {"provider-a.json": provider("k1"), "provider-b.json": provider("same")})
    inode = (directory / "provider-a.json").stat().st_ino
    version = on_disk(directory, "provider-a.json")["version_info"]

    assert deliver(directory, {"provider-a.json": provider("k2"), "provider-b.json": provider("same")}) == (
        "provider-a.json",
    )
    assert (directory / "provider-a.json").stat().st_ino != inode, "Envoy sees renames only"
    assert on_disk(directory, "provider-a.json")["version_info"] != version


def test_check_mode_predicts_and_writes_nothing(directory: Path) -> None:
    assert deliver(directory, {"provider-a.json": provider("k1")}, check=True) == ("provider-a.json",)
    assert not directory.parent.exists()

    deliver(directory, {"provider-a.json": provider("k1")})
    before = {path: path.stat() for path in (directory, directory / "provider-a.json")}
    changed = deliver(directory, {"provider-a.json": provider("k2"), "provider-b.json": provider("k")}, check=True)
    assert changed == ("provider-a.json", "provider-b.json")
    assert secrets.prune(str(directory), (), check=True) == ("provider-a.json",)
    assert {path: path.stat() for path in before} == before


def test_wrong_modes_are_put_right_and_reported(directory: Path) -> None:
    deliver(directory, {"provider-a.json": provider("k1")})
    directory.chmod(0o755)
    (directory / "provider-a.json").chmod(0o644)

    wanted = (secrets.DIRECTORY, "provider-a.json")
    assert deliver(directory, {"provider-a.json": provider("k1")}, check=True) == wanted
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    assert deliver(directory, {"provider-a.json": provider("k1")}) == wanted
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert deliver(directory, {"provider-a.json": provider("k1")}) == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_everything_belongs_to_the_owner(directory: Path) -> None:
    deliver(directory, {"provider-a.json": provider("k1")})
    changed = deliver(directory, {"provider-a.json": provider("k1")}, owner=(65534, 65534))

    assert changed == (secrets.DIRECTORY, "provider-a.json")
    for path in (directory, directory / "provider-a.json"):
        assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)


def test_old_keys_stay_valid_while_a_release_is_switched(directory: Path) -> None:
    deliver(directory, {secrets.CONSUMERS: consumers({"old": "alice", "moved": "alice", "kept": "bob"})})
    new = {secrets.CONSUMERS: consumers({"kept": "bob", "moved": "carol", "new": "carol"})}

    assert deliver(directory, new, keep_others=True) == (secrets.CONSUMERS,)
    assert keys_of(directory) == {"old": "alice", "moved": "carol", "kept": "bob", "new": "carol"}
    assert deliver(directory, new, keep_others=True) == (), "the order in which keys were kept is no change"
    assert deliver(directory, new) == (secrets.CONSUMERS,)
    assert keys_of(directory) == {"kept": "bob", "moved": "carol", "new": "carol"}


def test_only_keys_of_consumers_are_kept(directory: Path) -> None:
    deliver(directory, {"provider-a.json": provider("k1")})
    deliver(directory, {"provider-a.json": provider("k2")}, keep_others=True)
    assert on_disk(directory, "provider-a.json")["resources"] == json.loads(provider("k2"))["resources"]


KEYS = st.dictionaries(st.text(min_size=1, max_size=4), st.sampled_from(["alice", "bob", "carol"]), max_size=6)


@given(now=KEYS, new=KEYS)
def test_merging_is_the_union_in_which_new_clients_win(now: dict[str, str], new: dict[str, str]) -> None:
    merged = secrets.merge_credentials(json.loads(consumers(now)), json.loads(consumers(new)))
    credentials = merged["resources"][0]["typed_config"]["credentials"]
    assert {entry["key"]: entry["client"] for entry in credentials} == {**now, **new}
    assert len(credentials) == len({**now, **new})


@pytest.mark.parametrize(
    "broken", ["", "{", "[]", '{"resources": 1}', '{"resources": []}', '{"resources": [{"name": 1}]}']
)
def test_a_broken_file_is_replaced(directory: Path, broken: str) -> None:
    directory.mkdir(parents=True, mode=0o700)
    path = directory / secrets.CONSUMERS
    path.touch(mode=0o600)
    path.write_text(broken)

    assert deliver(directory, {secrets.CONSUMERS: consumers({"k": "a"})}, keep_others=True) == (secrets.CONSUMERS,)
    assert keys_of(directory) == {"k": "a"}


@pytest.mark.parametrize("check", [False, True])
def test_a_directory_that_somebody_else_made_first(
    directory: Path, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    """In a place that everybody may write to, such as /dev/shm: its owner could put other files there."""
    directory.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: directory.stat().st_uid + 1)
    with pytest.raises(ReleaseError, match=f"{directory} belongs to another user"):
        deliver(directory, {"provider-a.json": provider("k1")}, check=check)
    assert not list(directory.iterdir())


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (credentials([{"key": "MARK", "client": "a"}, {"key": "MARK", "client": "b"}]), "the same key twice"),
        (credentials([{"key": "MARK", "client": ""}]), "a 'client' in it is empty or no text"),
        (credentials([{"key": "MARK", "client": {"a": "b"}}]), "a 'client' in it is empty or no text"),
        (credentials([{"key": ["MARK"], "client": "a"}]), "no list of keys and clients"),
        (credentials("MARK"), "no list of keys and clients"),
        ({"generic_secret": {"secret": "MARK"}}, "a 'secret' in it is no object"),
        ({"generic_secret": {"secret": {"inline_string": {"api_key": "MARK"}}}}, "a 'inline_string' in it is empty or"),
        ({"tls_certificate": {"private_key": ["MARK"]}}, "a 'private_key' in it is no object"),
    ],
)
def test_what_envoy_would_refuse_and_quote_in_its_log(directory: Path, document: Any, problem: str) -> None:
    with pytest.raises(ReleaseError) as refused:
        deliver(directory, {"some.json": json.dumps({"resources": [document]})})
    assert problem in str(refused.value)
    assert "MARK" not in str(refused.value)
    assert not directory.exists()


def test_current_leaves_versions_and_broken_files_out(directory: Path) -> None:
    assert secrets.current(str(directory)) == {}
    deliver(directory, {"provider-a.json": provider("k1")})
    (directory / "provider-b.json").write_text("{")
    (directory / "notes.txt").write_text("{}")
    assert secrets.current(str(directory)) == {"provider-a.json": json.loads(provider("k1"))}


def test_delivered_has_versions_and_waits_for_nothing(directory: Path) -> None:
    deliver(directory, {"provider-a.json": provider("k1")})
    os.mkfifo(directory / "provider-b.json")
    (directory / "provider-c.json").symlink_to("provider-a.json")
    written = json.loads((directory / "provider-a.json").read_text())
    assert written["version_info"]
    assert secrets.delivered(str(directory)) == {"provider-a.json": written}


def test_prune_removes_what_is_not_named(directory: Path) -> None:
    deliver(directory, {"provider-a.json": provider("k1"), "provider-b.json": provider("k2")})
    (directory / ".provider-a.json.0123").write_text("left by a killed run")
    (directory / "sub").mkdir()

    assert secrets.prune(str(directory), ["provider-a.json"], check=False) == (
        ".provider-a.json.0123",
        "provider-b.json",
    )
    assert sorted(path.name for path in directory.iterdir()) == ["provider-a.json", "sub"]
    assert secrets.prune(str(directory), ["provider-a.json"], check=False) == ()
    assert secrets.prune(str(directory / "missing"), [], check=False) == ()


@pytest.mark.parametrize("name", ["../x.json", "/etc/x.json", ".hidden.json", "x.txt", "", "a/b.json", "a.json\n"])
def test_names_that_could_leave_the_directory_are_refused(directory: Path, name: str) -> None:
    with pytest.raises(ReleaseError, match="is no name of a secret file"):
        deliver(directory, {name: provider("k")})
    assert not directory.exists()


@pytest.mark.parametrize("text", ["canary-1", '{"canary": "canary-1"}', '["canary-1"]', '{"resources": "canary-1"}'])
def test_no_error_shows_content(directory: Path, text: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        deliver(directory, {"provider-a.json": text})
    assert "provider-a.json" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_link_in_place_of_the_directory_is_not_followed(tmp_path: Path, directory: Path) -> None:
    elsewhere = tmp_path / "etc"
    elsewhere.mkdir()
    directory.parent.mkdir(parents=True)
    directory.symlink_to(elsewhere)

    with pytest.raises(ReleaseError, match=r"cannot open .*/secrets: "):
        deliver(directory, {"provider-a.json": provider("k1")})
    with pytest.raises(ReleaseError, match=r"cannot open .*/secrets: "):
        secrets.prune(str(directory), (), check=False)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("plant", ["link", "fifo"])
def test_what_is_planted_in_place_of_a_file_is_replaced(tmp_path: Path, directory: Path, plant: str) -> None:
    directory.mkdir(parents=True, mode=0o700)
    victim = tmp_path / "victim"
    victim.write_text(provider("k1"))
    path = directory / "provider-a.json"
    if plant == "link":
        path.symlink_to(victim)
    else:
        os.mkfifo(path)

    assert deliver(directory, {"provider-a.json": provider("k1")}) == ("provider-a.json",)
    assert path.is_file()
    assert not path.is_symlink()
    assert victim.read_text() == provider("k1")


def test_a_directory_in_place_of_a_file_is_one_clear_error(directory: Path) -> None:
    (directory / "provider-a.json").mkdir(parents=True)
    with pytest.raises(ReleaseError, match=r"cannot write .*/provider-a\.json: Is a directory"):
        deliver(directory, {"provider-a.json": provider("k1")})
    assert [path.name for path in directory.iterdir()] == ["provider-a.json"], "no temporary file stays"


@pytest.mark.parametrize(
    ("device", "kind"),
    [(os.makedev(0, 23), "tmpfs"), (os.makedev(254, 0), "ext4"), (os.makedev(0, 99), "ramfs"), (os.makedev(9, 9), "")],
)
def test_the_type_of_a_filesystem_is_found_by_its_device(device: int, kind: str) -> None:
    assert secrets.filesystem_type(MOUNTINFO, device) == kind


def test_a_directory_on_disk_is_refused_before_anything_is_made(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path.stat().st_dev
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"1 1 {os.major(device)}:{os.minor(device)} / / rw - ext4 /dev/vda rw\n")
    monkeypatch.setattr(secrets, "_MOUNTINFO", mountinfo)
    for check in (False, True):
        with pytest.raises(ReleaseError, match=r"secrets is on ext4, not in memory \(tmpfs\)"):
            deliver(directory, {"provider-a.json": provider("k1")}, allow_disk=False, check=check)
    assert not directory.parent.exists()


@pytest.fixture
def memory() -> Iterator[Path]:
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        pytest.skip("no writable /dev/shm here")
    path = Path(tempfile.mkdtemp(prefix="gatewayops-", dir=shm))
    yield path
    shutil.rmtree(path)


def test_a_real_tmpfs_is_accepted(memory: Path) -> None:
    directory = memory / "gateway" / "secrets"
    assert deliver(directory, {"provider-a.json": provider("k1")}, allow_disk=False) == ("provider-a.json",)
    assert deliver(directory, {"provider-a.json": provider("k1")}, allow_disk=False) == ()
