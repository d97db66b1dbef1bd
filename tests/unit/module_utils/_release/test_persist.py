# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that are kept over a restart of the machine: what is on the disk, and who notices when it is not right."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release import persist, restore_secrets, secrets
from ansible_collections.gatewayops.openai.plugins.module_utils._release.host_key import HostKey
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Ops, ReadOnlyOps, temporary_of
from ansible_collections.gatewayops.openai.plugins.module_utils._release.plan import Request
from ansible_collections.gatewayops.openai.plugins.module_utils._release.run import run_on
from ansible_collections.gatewayops.openai.plugins.module_utils._release.site import Site

from . import world as worlds
from .world import REFUSED_MODEL, World, snapshot, spec

KEYED = spec("a", gateway_providers={})
KEYED["gateway_providers"] = {
    "p": {"type": "openai_compatible", "base_url": "http://127.0.0.1:1/v1", "api_key": "vault://kv/p#key"}
}

#: systemd-creds with a key in a file: what it writes is hexadecimal, and belongs to a key and a name.
FAKE_CREDS = """#!{python}
import json, os, sys
verb, *options, source, target = sys.argv[1:]
assert (source, target) == ("-", "-")
(name,) = (option[7:] for option in options if option.startswith("--name="))
key = open(os.environ["FAKE_KEY"]).read()
given = sys.stdin.buffer.read()
if verb == "encrypt":
    assert "--with-key=host" in options and len(given) <= 1048576, options
    sys.stdout.write(json.dumps([key, name, given.hex()]))
    sys.exit(0)
sealed_key, sealed_name, content = json.loads(given)
if (sealed_key, sealed_name) != (key, name):
    sys.exit("Warning: first line\\nDecryption failed: incorrect key?")
sys.stdout.buffer.write(bytes.fromhex(content))
"""


def kept(world: World) -> dict[str, Any]:
    content = world.layout.sealed_secrets.read_bytes()
    return restore_secrets.unpack(content, world.site().sealer.decrypt)


def in_memory(world: World) -> dict[str, Any]:
    return secrets.current(world.host.secrets_dir)


def run_with(world: World, site: Site, request: Request, *, check: bool = False) -> Any:
    return run_on(site, "active", request, check=check)


@pytest.fixture
def served(world: World) -> World:
    world.run(world.request(KEYED))
    return world


class TestRuns:
    def test_what_is_in_memory_is_kept(self, served: World) -> None:
        assert len(kept(served)) == 2
        assert kept(served) == in_memory(served)
        file = served.layout.sealed_secrets
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    def test_key_of_the_release_before_is_kept_as_long_as_one_can_go_back_to_it(self, served: World) -> None:
        (key,) = (name for name in in_memory(served) if name.startswith("provider-"))
        served.run(served.request(spec("a")))
        assert key in kept(served)
        served.run(served.request(spec("b")))
        assert set(kept(served)) == {"consumers.json"}

    def test_second_run_changes_nothing(self, served: World) -> None:
        before = snapshot(served.directory)
        for check in (True, False):
            result = served.run(served.request(KEYED), check=check, ops=ReadOnlyOps() if check else None)
            assert (result["changed"], result["repaired"]) == (False, [])
        after = snapshot(served.directory)
        assert {path for path in after if after[path] != before.get(path)} <= {str(served.layout.lock)}

    def test_new_key(self, served: World) -> None:
        request = served.request(KEYED)
        changed = {name: text.replace("sk-1", "sk-2") for name, text in (request.secrets or {}).items()}
        request = replace(request, secrets=changed)
        predicted = served.run(request, check=True, ops=ReadOnlyOps())
        done = served.run(request)
        assert predicted["changed"]
        assert (done["secrets_changed"], done["repaired"]) == (predicted["secrets_changed"], [])
        assert predicted["repaired"] == []
        assert "sk-2" in json.dumps(kept(served))
        assert "sk-1" not in json.dumps(kept(served))

    @pytest.mark.parametrize(
        ("damage", "what"),
        [
            (lambda file: file.unlink(), "missing"),
            (lambda file: shutil.rmtree(file.parent), "missing"),
            (lambda file: file.write_text("{"), "cannot be decrypted"),
            (lambda file: file.write_text('{"format": 1, "parts": ["x"]}'), "cannot be decrypted"),
            (lambda file: file.write_text(file.read_text().replace("this host", "other")), "cannot be decrypted"),
            (lambda file: file.write_text('{"format": 1, "parts": []}'), "cannot be decrypted"),
            (lambda file: file.chmod(0o644), "mode or owner"),
            (lambda file: file.parent.chmod(0o755), "mode or owner"),
        ],
    )
    def test_damage_is_found_and_repaired(self, served: World, damage: Callable[[Path], object], what: str) -> None:
        file, before = served.layout.sealed_secrets, kept(served)
        damage(file)
        for check in (True, False):
            result = served.run(served.request(KEYED), check=check, ops=ReadOnlyOps() if check else None)
            assert (result["changed"], result["process"], result["secrets_changed"]) == (True, "none", [])
            assert result["repaired"] == [f"{file} ({what})"]
        assert kept(served) == before
        assert not served.run(served.request(KEYED))["changed"]

    def test_other_content_is_found(self, served: World) -> None:
        old = served.layout.sealed_secrets.read_bytes()
        request = served.request(KEYED)
        changed = {name: text.replace("sk-1", "sk-2") for name, text in (request.secrets or {}).items()}
        served.run(replace(request, secrets=changed))
        served.layout.sealed_secrets.write_bytes(old)
        result = served.run(replace(request, secrets=changed))
        assert result["repaired"] == [f"{served.layout.sealed_secrets} (content)"]
        assert "sk-2" in json.dumps(kept(served))

    def test_failed_run_keeps_what_it_put_back(self, served: World) -> None:
        before = kept(served)
        bad = {**KEYED, "gateway_models": {REFUSED_MODEL: {"targets": [{"provider": "p", "model": "x"}]}}}
        request = served.request(bad)
        changed = {name: text.replace("sk-1", "sk-2") for name, text in (request.secrets or {}).items()}
        with pytest.raises(ReleaseError):
            served.run(replace(request, secrets=changed))
        assert kept(served) == before == in_memory(served)

    def test_run_without_secrets_keeps_those_that_are_there(self, served: World) -> None:
        served.layout.sealed_secrets.unlink()
        assert served.run(served.request(KEYED, secrets=None))["repaired"]
        assert kept(served) == in_memory(served)

    def test_run_without_secrets_does_not_forget_what_is_not_in_memory(self, served: World) -> None:
        """After a restart at which they could not be restored."""
        before = kept(served)
        shutil.rmtree(served.host.secrets_dir)
        assert not served.run(served.request(KEYED, secrets=None))["changed"]
        assert kept(served) == before

    def test_absent_removes_it(self, served: World) -> None:
        result = served.run(Request(), "absent", check=True)
        assert {str(served.layout.sealed_secrets), str(served.layout.sealed_secrets.parent)} <= set(result["removed"])
        steps: list[tuple[str, str]] = []
        ops = worlds.WorldOps(served, lambda verb, path: steps.append((verb, path)))
        served.run(Request(), "absent", ops=ops)
        assert not served.layout.sealed_secrets.parent.exists()
        assert steps.index(("unlink", str(served.layout.sealed_secrets))) < steps.index(
            ("secrets", served.host.secrets_dir)
        )
        assert not served.run(Request(), "absent")["changed"]


class TestNever:
    def test_what_was_kept_is_removed_and_no_process_is_replaced(self, served: World) -> None:
        temporary_of(served.layout.sealed_secrets).write_text("left by a killed run")
        never = World(served.directory, secrets_persist="never")
        request = never.request(KEYED)
        assert never.run(request, check=True, ops=ReadOnlyOps())["changed"]
        assert never.run(request)["process"] in ("none", "reload")
        assert not never.layout.sealed_secrets.parent.exists()
        assert not never.layout.outside("host/etc/systemd/system/openai-gateway-secrets.service").exists()
        assert not never.run(request)["changed"]

    def test_it_comes_back(self, served: World) -> None:
        never = World(served.directory, secrets_persist="never")
        never.run(never.request(KEYED))
        served.run(served.request(KEYED))
        assert kept(served) == in_memory(served)
        assert served.layout.outside("host/etc/systemd/system/openai-gateway-secrets.service").exists()

    def test_somebody_else_put_it_there(self, world: World) -> None:
        never = World(world.directory, secrets_persist="never")
        never.run(never.request(KEYED))
        never.layout.sealed_secrets.parent.mkdir()
        never.layout.sealed_secrets.write_text("x")
        assert never.run(never.request(KEYED))["repaired"] == [f"{never.layout.sealed_secrets} (unexpected)"]
        assert not never.layout.sealed_secrets.exists()

    def test_other_files_in_the_directory_stay(self, served: World) -> None:
        other = served.layout.sealed_secrets.with_name("of somebody else")
        other.write_text("x")
        never = World(served.directory, secrets_persist="never")
        never.run(never.request(KEYED))
        assert [path.name for path in other.parent.iterdir()] == [other.name]


class TestHostsThatCannot:
    def test_without_the_program_nothing_is_changed(self, world: World) -> None:
        ops = worlds.WorldOps(world)
        site = replace(world.site(ops), sealer=worlds.HostKey(ops, why="there is no systemd-creds"))
        before = snapshot(world.directory)
        with pytest.raises(ReleaseError, match="systemd-creds: set gateway_secrets_persist to never") as error:
            run_with(world, site, world.request(KEYED), check=True)
        assert "nothing was changed" in str(error.value)
        assert snapshot(world.directory) == before
        with pytest.raises(ReleaseError, match="set gateway_secrets_persist to never"):
            run_with(world, site, world.request(KEYED))
        assert not world.serving()

    def test_a_directory_that_others_use_is_left_alone(self, world: World) -> None:
        """As when `/var/lib` itself was meant: it must not become 0700."""
        directory = world.layout.sealed_secrets.parent
        directory.mkdir(parents=True)
        directory.chmod(0o755)
        (directory / "of-others").touch()
        for check in (True, False):
            with pytest.raises(ReleaseError, match="and others use it: set gateway_state_dir to one of its own"):
                run_with(world, world.site(ReadOnlyOps() if check else None), world.request(KEYED), check=check)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o755
        (directory / "of-others").unlink()
        world.run(world.request(KEYED))
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    def test_encryption_that_fails_is_found_before_anything_is_changed(self, world: World) -> None:
        class Broken(worlds.HostKey):
            def encrypt(self, name: str, content: bytes) -> bytes:
                raise ReleaseError("systemd-creds failed: Failed to determine local credential key")

        ops = worlds.WorldOps(world)
        with pytest.raises(ReleaseError, match="nothing was changed: systemd-creds failed: Failed to determine"):
            run_with(world, replace(world.site(ops), sealer=Broken(ops)), world.request(KEYED))
        assert not world.layout.releases.exists()

    def test_the_program_is_looked_for(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert "systemd 250" in HostKey(ReadOnlyOps()).problem()
        (tmp_path / "systemd-creds").touch(0o755)
        assert not HostKey(ReadOnlyOps()).problem()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A systemd-creds on PATH; its key."""
    folder, key = tmp_path / "bin", tmp_path / "key"
    folder.mkdir()
    script = folder / "systemd-creds"
    script.write_text(FAKE_CREDS.format(python=sys.executable))
    script.chmod(0o755)
    key.write_text("one")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_KEY", str(key))
    return key


class TestProgram:
    def test_there_and_back_in_parts(self, program: Path, world: World) -> None:
        """30,000 keys are more than systemd-creds takes at once."""
        keys = [{"key": os.urandom(24).hex(), "client": f"team-{number // 3}"} for number in range(30_000)]
        documents = {"consumers.json": {"resources": [{"name": "c", "typed_config": {"credentials": keys}}]}}
        site = replace(world.site(Ops()), sealer=HostKey(Ops()))
        assert persist.save(site, documents, check=True)
        assert not site.layout.sealed_secrets.exists()
        assert persist.save(site, documents, check=False)
        content = json.loads(site.layout.sealed_secrets.read_bytes())
        assert len(content["parts"]) > 1
        assert not persist.save(site, documents, check=False)
        keys.pop()
        assert persist.fault(site, documents) == persist.CONTENT
        content["parts"].reverse()
        site.layout.sealed_secrets.write_text(json.dumps(content))
        assert persist.fault(site, documents) == persist.UNREADABLE

    def test_nothing_secret_is_among_the_arguments_or_on_the_disk(self, program: Path, world: World) -> None:
        seen: list[str] = []
        ops = Ops(lambda verb, path: seen.append(path))
        site = replace(world.site(ops), sealer=HostKey(ops))
        persist.save(site, {"a.json": {"resources": ["sk-canary"]}}, check=False)
        assert any("systemd-creds encrypt" in path for path in seen)
        assert "sk-canary" not in " ".join(seen)
        assert b"sk-canary" not in site.layout.sealed_secrets.read_bytes()

    def test_complaint_of_the_program_is_told(self, program: Path) -> None:
        sealed = HostKey(Ops()).encrypt("openai-gateway.1-of-1", b"x")
        program.write_text("two")
        with pytest.raises(ReleaseError, match=r"^systemd-creds failed: Decryption failed: incorrect key\?$"):
            HostKey(Ops()).decrypt("openai-gateway.1-of-1", sealed)


class TestRestoring:
    @pytest.fixture
    def sealed(self, program: Path, world: World) -> Site:
        site = replace(world.site(Ops()), sealer=HostKey(Ops()))
        documents = {name: {"resources": [{"name": name}]} for name in ("a.json", "b.json")}
        persist.save(site, documents, check=False)
        Path(site.host.secrets_dir).mkdir(parents=True, mode=0o700)
        site.layout.config.mkdir(exist_ok=True)
        site.layout.lock.touch()
        return site

    def restore(self, site: Site) -> subprocess.CompletedProcess[str]:
        script = Path(restore_secrets.__file__)
        words = [site.layout.sealed_secrets, site.host.secrets_dir, getpass.getuser(), site.layout.lock]
        command = [sys.executable, "-I", str(script), *map(str, words)]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    def test_all_of_them(self, sealed: Site) -> None:
        done = self.restore(sealed)
        assert (done.returncode, done.stdout) == (0, "Restored: a.json, b.json\n"), done.stderr
        where = Path(sealed.host.secrets_dir)
        assert sorted(path.name for path in where.iterdir()) == ["a.json", "b.json"]
        assert {stat.S_IMODE(path.stat().st_mode) for path in where.iterdir()} == {0o600}
        assert persist.fault(sealed, secrets.current(sealed.host.secrets_dir)) == ""
        versions = {document["version_info"] for document in secrets.delivered(sealed.host.secrets_dir).values()}
        assert len(versions) == 2

    def test_what_is_there_is_newer(self, sealed: Site) -> None:
        newer = Path(sealed.host.secrets_dir, "a.json")
        newer.write_text("newer")
        assert self.restore(sealed).stdout == "Restored: b.json\n"
        assert newer.read_text() == "newer"
        assert self.restore(sealed).stdout == "Nothing was missing.\n"

    def test_run_that_goes_on_brings_them_itself(self, sealed: Site) -> None:
        with sealed.layout.lock.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            done = self.restore(sealed)
        assert done.returncode == 0
        assert not list(Path(sealed.host.secrets_dir).iterdir())

    def test_key_of_another_machine(self, sealed: Site, program: Path) -> None:
        program.write_text("two")
        done = self.restore(sealed)
        assert done.returncode == 1
        assert done.stderr.startswith("<3>The secrets in ")
        assert "Decryption failed: incorrect key?" in done.stderr
        assert "run the playbook gatewayops.openai.site" in done.stderr
        assert not list(Path(sealed.host.secrets_dir).iterdir())

    @pytest.mark.parametrize("content", ["", "{}", "[]", '{"parts": [1]}', '{"parts": ["\u00e9"]}', '{"parts": []}'])
    def test_damaged_file(self, sealed: Site, content: str) -> None:
        sealed.layout.sealed_secrets.write_text(content)
        done = self.restore(sealed)
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1
        assert "cannot be decrypted" in done.stderr

    def test_directory_that_is_not_there(self, sealed: Site) -> None:
        Path(sealed.host.secrets_dir).rmdir()
        done = self.restore(sealed)
        assert done.returncode == 1
        assert done.stderr.startswith("<3>The secrets cannot be written to ")
