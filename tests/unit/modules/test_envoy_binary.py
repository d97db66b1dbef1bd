from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

basic = pytest.importorskip("ansible.module_utils.basic")

from ansible_collections.gatewayops.openai.plugins.modules import envoy_binary  # noqa: E402

SCRIPT = b'#!/bin/sh\necho "envoy  version: 0a1b/1.40.0/Clean/RELEASE/BoringSSL"\n'
CHECKSUM = hashlib.sha256(SCRIPT).hexdigest()


class Host:
    """Runs the module as Ansible does, in this process."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = directory / "envoy"
        self.artifact = directory / "artifact"
        self.artifact.write_bytes(SCRIPT)
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.setattr("platform.machine", lambda: "x86_64")

    def run(self, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {"version": "1.40.0", "root": str(self.root), "checksums": {"x86_64": CHECKSUM}, **arguments}
        document = {"ANSIBLE_MODULE_ARGS": {**given, "_ansible_check_mode": check}}
        self._monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps(document).encode())
        self._monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        with pytest.raises(SystemExit):
            envoy_binary.main()
        result: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        return result


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Host:
    return Host(tmp_path, monkeypatch, capsys)


def test_a_host_that_lacks_it_asks_for_the_artifact_and_writes_nothing(host: Host) -> None:
    result = host.run()
    assert result["changed"]
    assert result["needs_artifact"]
    assert result["architecture"] == "x86_64"
    assert result["path"] == f"{host.root}/1.40.0/envoy"
    assert result["diff"]["after"] == f"Envoy 1.40.0 at {host.root}/1.40.0/envoy\n"
    assert not host.root.exists()


def test_the_artifact_is_installed_once(host: Host) -> None:
    assert host.run(artifact=str(host.artifact), check=True)["changed"]
    assert not host.root.exists()
    installed = host.run(artifact=str(host.artifact))
    assert installed["changed"]
    assert not installed["needs_artifact"]
    again = host.run()
    assert not again["changed"]
    assert not again["needs_artifact"]


def test_absent_removes_every_version_and_nothing_else(host: Host) -> None:
    host.run(artifact=str(host.artifact))
    other = host.root / "1.40.0" / "notes.txt"
    other.touch()
    predicted = host.run(state="absent", version=None, check=True)
    assert predicted["changed"]
    removed = host.run(state="absent", version=None)["removed"]
    assert removed == predicted["removed"] == [f"{host.root}/1.40.0/{name}" for name in ("envoy", "installed.json")]
    assert list(host.root.rglob("*")) == [host.root / "1.40.0", other]
    assert not host.run(state="absent", version=None)["changed"]


def test_absent_removes_directories_that_are_empty_then(host: Host) -> None:
    host.run(artifact=str(host.artifact))
    (host.root / ".envoy-killed").touch()
    assert host.run(state="absent", version=None)["removed"][-1] == str(host.root)
    assert not host.root.exists()
    assert not host.run(state="absent", version=None)["changed"]


def test_the_binary_that_is_there_is_taken(host: Host) -> None:
    host.artifact.chmod(0o755)
    result = host.run(method="path", path=str(host.artifact), checksums={})
    assert not result["changed"]
    assert result["path"] == str(host.artifact)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checksums": {}}, "checksums has no SHA-256 for x86_64, the architecture of this host"),
        ({"method": "path"}, "method is path but all of the following are missing: path"),
        ({"method": "path", "path": "/nowhere/envoy"}, "/nowhere/envoy does not run on this host: No such file"),
        ({"artifact": "/nowhere/artifact"}, "Envoy 1.40.0 could not be installed: .*No such file"),
        ({"version": "1.41.0", "artifact": True}, "the artifact is Envoy 1.40.0, expected 1.41.0"),
    ],
)
def test_what_goes_wrong_is_told(host: Host, arguments: dict[str, Any], message: str) -> None:
    if arguments.get("artifact") is True:
        arguments = {**arguments, "artifact": str(host.artifact)}
    result = host.run(**arguments)
    assert result["failed"]
    assert re.search(message, result["msg"])
