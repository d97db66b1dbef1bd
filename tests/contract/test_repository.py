"""What is tracked works on every machine: hashed pins, and nobody's paths or package mirrors."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==\S+( ; [^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")
PLACES = re.compile(
    r"/(?:work/(?:main|shared|steering|\.)|root/\.|opt/(?:pypi|wheels))"
    r"|pypi\.(?:org|python)|pythonhosted\.org|npmjs\.(?:org|com)|(?:deb|security)\.debian\.org"
)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_holds_hashed_pins_and_nothing_else(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
    wrong = [line for line in lines if not PIN.match(line) and not HASH.match(line)]
    assert not wrong
    unhashed = [
        line for line, after in zip(lines, [*lines[1:], ""], strict=True) if PIN.match(line) and not HASH.match(after)
    ]
    assert not unhashed


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_covers_its_source(lock: Path) -> None:
    pinned = {match["name"] for line in lock.read_text().splitlines() if (match := PIN.match(line))}
    assert wanted(lock.with_name(lock.name.rpartition("-")[0] + ".in")) <= pinned


def wanted(source: Path) -> set[str]:
    names = set()
    for line in source.read_text().splitlines():
        if line.startswith("-r "):
            names |= wanted(source.with_name(line[3:]))
        elif line and not line.startswith("#"):
            names.add(re.split(r"[=<>\[ ]", line)[0].lower())
    return names


def test_no_tracked_file_names_a_place_of_one_machine() -> None:
    found = []
    for path in tracked():
        if path.is_file() and path != Path(__file__):
            text = path.read_text(errors="replace")
            found += ["%s: %s" % (path.relative_to(ROOT), match.group()) for match in PLACES.finditer(text)]
    assert not found


def test_every_locked_ansible_core_is_admitted() -> None:
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())
    admitted = SpecifierSet(runtime["requires_ansible"])
    text = "\n".join(lock.read_text() for lock in LOCKS)
    locked = set(re.findall(r"^ansible-core==(\S+)", text, re.MULTILINE))
    assert len(locked) == 3
    assert all(version in admitted for version in locked)
