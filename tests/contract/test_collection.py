"""The collection as a user gets it: every plugin documented and tested, and the tarball complete."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "gatewayops.openai"
KINDS = ("modules", "action", "lookup", "inventory", "callback", "filter")
PLUGINS = sorted(
    path for kind in KINDS for path in (ROOT / "plugins" / kind).glob("*.py") if not path.name.startswith("_")
)
# An action is documented by the module of the same name.
DOCUMENTED = [path for path in PLUGINS if path.parent.name != "action"]
MODULES = [path.stem for path in DOCUMENTED if path.parent.name == "modules"]
ROLES = sorted(path for path in ROOT.glob("roles/*") if path.is_dir())
PLAYBOOKS = sorted(ROOT.glob("playbooks/*.yml"))

Run = Callable[..., str]


def name_of(path: Path) -> str:
    return "%s-%s" % (path.parent.name, path.stem)


def test_there_is_something_to_hold_to_this() -> None:
    assert MODULES
    assert ROLES
    assert PLAYBOOKS


@pytest.mark.parametrize("path", PLUGINS, ids=name_of)
def test_every_plugin_has_tests(path: Path) -> None:
    name = "test_%s.py" % path.stem
    assert [*ROOT.glob("tests/unit/**/" + name), *ROOT.glob("tests/integration/**/" + name)]


@pytest.mark.parametrize("path", DOCUMENTED, ids=name_of)
def test_every_plugin_has_examples_that_name_it_in_full(path: Path) -> None:
    constants = {
        target.id: node.value.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    examples = str(constants.get("EXAMPLES", ""))
    assert "%s.%s" % (NAMESPACE, path.stem) in examples
    assert yaml.safe_load(examples)


@pytest.mark.parametrize("path", [path for path in PLUGINS if path.parent.name == "action"], ids=name_of)
def test_every_action_is_documented_by_a_module(path: Path) -> None:
    assert path.stem in MODULES


def test_the_action_group_holds_every_module() -> None:
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())
    assert sorted(runtime["action_groups"]["gateway"]) == sorted(MODULES)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_role_declares_the_defaults_it_has(role: Path) -> None:
    """Values are compared, not only names: documentation that states another default is worse than none."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    declared = specs["main"]["options"]
    defaults = role / "defaults" / "main.yml"
    values: dict[str, Any] = (yaml.safe_load(defaults.read_text()) or {}) if defaults.exists() else {}
    public = {name: value for name, value in values.items() if not name.startswith("_")}
    assert set(public) <= set(declared)
    stated = {name: option["default"] for name, option in declared.items() if "default" in option}
    assert stated == {name: value for name, value in public.items() if name in stated}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collections path that has nothing but the built tarball, installed."""
    folder = tmp_path_factory.mktemp("installed")
    galaxy = [str(Path(sys.executable).parent / "ansible-galaxy"), "collection"]
    subprocess.run([*galaxy, "build", "--output-path", str(folder), str(ROOT)], check=True, capture_output=True)
    tarball = next(folder.glob("*.tar.gz"))
    command = [*galaxy, "install", "--offline", "--collections-path", str(folder), str(tarball)]
    subprocess.run(command, check=True, capture_output=True, env=environment(folder))
    return folder


def environment(collections: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return {**kept, "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_LOCALHOST_WARNING": "false"}


@pytest.fixture(scope="module")
def run(installed: Path) -> Run:
    """Run a program of Ansible that finds the installed collection, and not the checkout."""

    def call(program: str, *arguments: str) -> str:
        command = [str(Path(sys.executable).parent / program), *arguments]
        done = subprocess.run(
            command, cwd=installed, env=environment(installed), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


def test_the_tarball_holds_the_collection_and_no_leftovers(installed: Path) -> None:
    with tarfile.open(next(installed.glob("*.tar.gz"))) as tarball:
        names = set(tarball.getnames())
    shipped = [*PLUGINS, *PLAYBOOKS, *(role / "meta" / "argument_specs.yml" for role in ROLES)]
    assert {str(path.relative_to(ROOT)) for path in shipped} <= names
    # The lint rule is for users too, see docs/secrets/guarantee.md.
    assert {"LICENSE", "README.md", "meta/runtime.yml", "tools/lint_rules/secret_leak.py"} <= names
    assert not [name for name in names if name.startswith((".", "tests/output")) or "__pycache__" in name]


@pytest.mark.parametrize("kind", sorted({path.parent.name for path in DOCUMENTED}))
def test_ansible_doc_shows_every_plugin(run: Run, kind: str) -> None:
    names = ["%s.%s" % (NAMESPACE, path.stem) for path in DOCUMENTED if path.parent.name == kind]
    shown = json.loads(run("ansible-doc", "--json", "--type", kind.replace("modules", "module"), *names))
    assert sorted(shown) == sorted(names)
    for name, plugin in shown.items():
        assert plugin["doc"]["short_description"], name
        if kind == "modules":
            assert {"check_mode", "diff_mode"} <= set(plugin["doc"].get("attributes", {})), name


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda playbook: playbook.stem)
def test_every_playbook_is_found_by_its_full_name(run: Run, playbook: Path) -> None:
    name = "%s.%s" % (NAMESPACE, playbook.stem)
    assert playbook.stem in run("ansible-playbook", "--inventory", "localhost,", "--syntax-check", name)
