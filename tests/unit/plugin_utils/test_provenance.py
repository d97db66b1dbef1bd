from __future__ import annotations

import getpass
import json
import subprocess
from pathlib import Path

import pytest

from ansible_collections.gatewayops.openai.plugins.plugin_utils._provenance import (
    applied_by,
    collection_version,
    inventory_commit,
)


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    answer = subprocess.run(
        ["git", "-C", str(directory), *identity, *arguments], check=True, capture_output=True, text=True
    )
    return answer.stdout.strip()


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    directory = tmp_path / "inventories" / "production"
    directory.mkdir(parents=True)
    (directory / "hosts.yml").write_text("gateways:\n")
    (tmp_path / "shared.yml").write_text("a: 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "x")
    return directory


def test_the_commit_of_an_inventory(inventory: Path) -> None:
    assert inventory_commit(str(inventory)) == git(inventory, "rev-parse", "HEAD")


@pytest.mark.parametrize("name", ["inventories/production/hosts.yml", "shared.yml", "inventories/production/new.yml"])
def test_a_change_that_is_not_committed_is_told(inventory: Path, name: str) -> None:
    (inventory.parents[1] / name).write_text("changed: 1\n")
    assert inventory_commit(str(inventory)) == git(inventory, "rev-parse", "HEAD") + "+dirty"


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inventory: Path) -> None:
    assert inventory_commit(None) is None
    assert inventory_commit(str(tmp_path / "missing")) is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert inventory_commit(str(inventory)) is None


def test_the_version_of_a_checkout_and_of_an_installed_collection(tmp_path: Path) -> None:
    (tmp_path / "galaxy.yml").write_text("namespace: a\nversion: 1.2.3\n")
    assert collection_version(tmp_path) == "1.2.3"
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"collection_info": {"version": "2.0.0"}}))
    assert collection_version(tmp_path) == "2.0.0"
    assert collection_version()[0].isdigit()


def test_who_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    monkeypatch.setattr("socket.gethostname", lambda: "controller")
    assert applied_by() == "ada@controller"

    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert applied_by() == "unknown@controller"
