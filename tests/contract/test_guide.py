"""The user's guide: what it tells one to write is right before and after its change, and its pictures are there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import diff_resources, summarize
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import spec_resources

DOCS = Path(__file__).resolve().parents[2] / "docs"
GUIDE = (DOCS / "guide.md").read_text(encoding="utf-8")
VARIABLES = "inventories/production/group_vars/gateways/gateway.yml"


def block(marker: str) -> str:
    """The block below a marker."""
    found = re.search(rf"<!-- {re.escape(marker)} -->\n```\w+\n(.*?)```", GUIDE, re.DOTALL)
    assert found, marker
    return found[1]


def test_what_it_changes_is_what_it_shows(tmp_path: Path) -> None:
    path = tmp_path / VARIABLES
    path.parent.mkdir(parents=True)
    path.write_text(block(f"file: {VARIABLES}"))
    before = parse_spec(yaml.safe_load(path.read_text()))
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=block("patch"), text=True, check=True)
    after = parse_spec(yaml.safe_load(path.read_text()))
    changes = diff_resources(spec_resources(before), spec_resources(after))
    assert summarize(changes) in block("run: plan")
    assert summarize(changes) in block("run: apply")


def test_every_command_has_an_output() -> None:
    runs = re.findall(r"<!-- (run: .*?) -->", GUIDE)
    assert len(runs) == 10
    assert all("\n…\n" in block(run) for run in runs)
    assert "\n> ### Plan: " in GUIDE


def test_its_pictures_are_there_and_small() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\((images/[^)]+)\)", GUIDE)
    assert len(pictures) == 3
    for picture in pictures:
        content = (DOCS / picture).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < 150000
