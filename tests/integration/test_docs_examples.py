# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples in docs/secrets: those that run are run, and all others are what they seem to be.

A block whose first line is a comment with a file name is that file. Blocks under `<!-- runs -->` are one script of the
page, run against a real OpenBao; of a console, these are the lines with a `$`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from integration import openbao

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference, parse_source
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.table import variables

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "secrets").glob("*.md"))
BLOCK = re.compile(r"^(?P<runs><!-- runs -->\n)?^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^ *```$", re.M | re.S)
FILE = re.compile(r"# (\S+\.(?:yml|hcl|json|cfg|py))\n")
REFERENCE = re.compile(r"(?:vault|aws-sm|env|file|lookup)://[^\s\"'`|,)\]}]+")
PARAMETER = re.compile(r"\{\{|…|\.\.\.|<|\b(?:MOUNT|PATH|NAME|FIELD|PLUGIN|KEY)\b")
SPEC = {field.key for field in variables()}


@dataclass(frozen=True)
class Block:
    """A fenced block; `file` is the name of the file that it is, or ''."""

    kind: str
    text: str
    runs: bool

    @property
    def file(self) -> str:
        match = FILE.match(self.text)
        return match.group(1) if match else ""

    @property
    def script(self) -> str:
        """The commands of a console block, with the lines that they go on in."""
        lines = self.text.splitlines()
        if self.kind != "console":
            return self.text
        return "".join(
            line.removeprefix("$ ") + "\n"
            for line, before in zip(lines, ["", *lines], strict=False)
            if line.startswith("$ ") or before.endswith("\\")
        )


def blocks(page: Path) -> list[Block]:
    found = []
    for match in BLOCK.finditer(page.read_text()):
        indent = len(match["indent"])
        text = "".join(line[indent:] if line.strip() else line for line in match["text"].splitlines(keepends=True))
        found.append(Block(match["kind"], text, bool(match["runs"])))
    return found


def of_kind(*kinds: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page))
        if block.kind in kinds
    ]


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openbao.OpenBao]:
    server = openbao.start(tmp_path_factory.mktemp("openbao"))
    yield server
    server.stop()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.runs for block in blocks(page))], ids=lambda page: page.stem
)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    for block in blocks(page):
        if block.file:
            path = work / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    server = openbao.start(tmp_path / "openbao")
    try:
        done = run("".join(block.script for block in blocks(page) if block.runs), work, server)
    finally:
        server.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sk-example" not in done.stdout + done.stderr


def run(script: str, directory: Path, server: openbao.OpenBao) -> subprocess.CompletedProcess[str]:
    """Run a script as somebody who administers the server and has the collection."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("VAULT_", "BAO_", "ANSIBLE_"))}
    return subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=directory,
        env={
            **inherited,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory / "home"),
            "BAO_ADDR": server.address,
            "BAO_TOKEN": server.token,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
            "ANSIBLE_HOME": str(directory / "home" / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_policy_of_the_page_is_all_that_a_run_needs(bao: openbao.OpenBao, tmp_path: Path) -> None:
    files = {block.file: block.text for block in blocks(ROOT / "docs" / "secrets" / "vault.md")}
    role_id, secret_id = bao.approle("page", files["gateway.hcl"], token_no_default_policy=True)
    bao.put("kv/providers/openai", api_key="sk-example")
    (tmp_path / "try.yml").write_text(files["try.yml"])
    began = bao.position()
    login = f"BAO_AUTH_METHOD=approle BAO_ROLE_ID={role_id} BAO_SECRET_ID={secret_id}"
    done = run(f"{login} ansible-playbook -i localhost, try.yml", tmp_path, bao)
    assert done.returncode == 0, done.stdout + done.stderr
    deadline = time.monotonic() + 10
    while len(bao.call("LIST", "auth/token/accessors")["data"]["keys"]) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    asked = [path for path in bao.requests(began) if not path.startswith("auth/token/accessors")]
    assert asked == ["auth/approle/login", "kv/data/providers/openai", "auth/token/revoke-self"]
    assert len(bao.call("LIST", "auth/token/accessors")["data"]["keys"]) == 1, "only the one of the root user"


@pytest.mark.parametrize("block", of_kind("hcl"))
def test_a_policy_is_one(block: Block, bao: openbao.OpenBao) -> None:
    bao.call("PUT", "sys/policies/acl/example", {"policy": block.text})


@pytest.mark.parametrize("block", of_kind("yaml"))
def test_yaml_is_what_it_seems_to_be(block: Block) -> None:
    document = yaml.safe_load(block.text)
    assert isinstance(document, (dict, list))
    if isinstance(document, dict):
        spec = {key: value for key, value in document.items() if key in SPEC}
        unknown = {key for key in document if str(key).startswith("gateway_")} - SPEC - known_variables()
        assert not unknown
        parse_parts(spec)


def parse_parts(spec: dict[str, Any]) -> None:
    """Parse an excerpt of a spec, with the rest that a whole one needs."""
    if not spec:
        return
    reference = "env://KEY"
    whole: dict[str, Any] = {
        "gateway_listeners": {"local": {"address": "127.0.0.1", "port": 8080}},
        "gateway_providers": {
            "openai": {"type": "openai", "base_url": "https://api.openai.com/v1", "api_key": reference}
        },
        "gateway_consumers": {"me": {"api_keys": [reference], "models": ["*"], "limits": {"requests_per_minute": 60}}},
        **spec,
    }
    for consumer in whole["gateway_consumers"].values():
        consumer.setdefault("models", ["*"])
    provider = next(iter(whole["gateway_providers"]))
    whole.setdefault("gateway_models", {"m": {"targets": [{"provider": provider, "model": "m"}]}})
    parse_spec(whole)


def known_variables() -> set[str]:
    """Every variable that the roles and the stores have."""
    known: set[str] = set()
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            known |= set(entry.get("options", {}))
    for path in (ROOT / "plugins" / "doc_fragments").glob("*.py"):
        known |= set(re.findall(r"name: (gateway_\w+)", path.read_text()))
    return known


@pytest.mark.parametrize("block", of_kind("sh", "console"))
def test_a_command_is_one(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_references_are_written_as_the_parser_wants_them(page: Path) -> None:
    for block in blocks(page):
        for text in REFERENCE.findall(block.text):
            if not PARAMETER.search(text) and block.kind == "yaml":
                assert isinstance(parse_source(text, allow_path=False), Reference), text


def test_the_errors_that_pages_explain_are_those_of_the_code() -> None:
    sources = "".join(
        path.read_text()
        for folder in ("plugin_utils", "module_utils")
        for path in sorted((ROOT / "plugins" / folder).rglob("*.py"))
    )
    # Texts that go over several lines of code.
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)
    missing = []
    for page in PAGES:
        for row in re.findall(r"^\| `([^|]+)` \| .+\|$", page.read_text().partition("\n## Errors")[2], re.M):
            # A word in capitals stands for something, and so does an ellipsis.
            parts = re.split(r"…|\b(?!HTTP|KV|TLS|JSON|UTF|URL)[A-Z_]{1,}\b", row)
            missing += [f"{page.name}: {part}" for part in parts if len(part) > 5 and part.strip() not in sources]
    assert not missing
