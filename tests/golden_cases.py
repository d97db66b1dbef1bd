"""Golden compiles: folders with a spec and what it is compiled to, for people to read and for tests to compare.

    tests/unit/cases/<name>/spec.yml       the variables of the role; `host` has options of the host that differ
    tests/unit/cases/<name>/expected/      the files for Envoy and, under `secrets/`, those with secrets, whose values
                                           are their references in brackets

A file that is missing in `expected/` is equal to that of the case `minimal`. The scripts of the filters are files of
their own, so their names stand in for them. `GOLDEN_UPDATE=1 pytest tests/unit/module_utils/_envoy/test_golden.py`
writes what is compiled now: read the difference before it is committed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle import Bundle, SecretFile, build_bundle
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host, host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Source, source_text

CASES = Path(__file__).parent / "unit" / "cases"
MINIMAL = "minimal"
SCRIPTS = Path(__file__).parent.parent / "plugins" / "module_utils" / "_envoy"


@dataclass(frozen=True)
class Case:
    """One folder."""

    name: str

    @property
    def folder(self) -> Path:
        return CASES / self.name

    @property
    def spec(self) -> Spec:
        return parse_spec(self._variables()[0])

    @property
    def host(self) -> Host:
        return host_from_options({"envoy": "/opt/envoy/1.40.0/envoy", **self._variables()[1]})

    def bundle(self) -> Bundle:
        return build_bundle(self.spec, self.host)

    def compiled(self) -> dict[str, str]:
        """The files as they are written down: pretty, sorted, without scripts."""
        bundle = self.bundle()
        files = {file.path: file.content.decode() for file in bundle.files if file.path.startswith("envoy/")}
        files.update({f"secrets/{file.name}": file.render(stand_ins(file)) for file in bundle.secrets})
        return {path: readable(json.loads(content)) for path, content in files.items()}

    def expected(self) -> dict[str, str]:
        """The files as they were written down before."""
        if self.name == MINIMAL:
            return self.written()
        return {**Case(MINIMAL).written(), **self.written()}

    def written(self) -> dict[str, str]:
        root = self.folder / "expected"
        return {path.relative_to(root).as_posix(): path.read_text() for path in sorted(root.rglob("*.json"))}

    def update(self, compiled: Mapping[str, str]) -> None:
        """Write down what differs from the minimal case, and remove the rest."""
        root = self.folder / "expected"
        for old in root.rglob("*.json"):
            old.unlink()
        minimal: dict[str, str] = {} if self.name == MINIMAL else Case(MINIMAL).written()
        for path, text in compiled.items():
            if minimal.get(path) != text:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)

    def _variables(self) -> tuple[dict[str, Any], dict[str, Any]]:
        variables = yaml.safe_load((self.folder / "spec.yml").read_text())
        return variables, variables.pop("host", {})


def cases() -> tuple[Case, ...]:
    """All cases, the minimal one first: others are compared with it."""
    names = sorted(path.parent.name for path in CASES.glob("*/spec.yml"))
    return tuple(Case(name) for name in sorted(names, key=lambda name: name != MINIMAL))


def stand_ins(file: SecretFile) -> dict[Source, str]:
    """What stands for the values of secrets."""
    form = (
        "-----BEGIN [%s]-----"
        if file.name.startswith(("listener-", "clients-", "identity-", "authorities-"))
        else "[%s]"
    )
    if file.name.startswith("jwt-issuers-"):
        form = '{"keys": [{"kty": "EC", "kid": "[%s]"}]}'
    return {source: form % source_text(source) for source in file.references}


def readable(content: Any) -> str:
    return json.dumps(without_scripts(content), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def without_scripts(value: Any) -> Any:
    """`value` with the text of each script replaced by its name, in brackets; versions differ with any of them."""
    if isinstance(value, dict):
        return {key: "[version]" if key == "version_info" else without_scripts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_scripts(item) for item in value]
    if isinstance(value, str) and "envoy_on_request" in value:
        for name, text in scripts().items():
            value = value.replace(text, f"[{name}]\n")
    return value


@cache
def scripts() -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(SCRIPTS.glob("*.lua"))}
