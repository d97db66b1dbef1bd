from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def test_runtime_admits_every_locked_ansible_core() -> None:
    packaging = pytest.importorskip("packaging.specifiers")
    yaml = pytest.importorskip("yaml")
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())
    admitted = packaging.SpecifierSet(runtime["requires_ansible"])
    locked = {
        line.split("==")[1].split()[0]
        for lock in (ROOT / "requirements").glob("*.lock")
        for line in lock.read_text().splitlines()
        if line.startswith("ansible-core==")
    }
    assert len(locked) == 3
    assert all(version in admitted for version in locked), locked
