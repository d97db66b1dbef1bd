"""Code that runs on a gateway host uses what is there: Python 3.9, its standard library, Ansible's module_utils."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*ROOT.glob("plugins/module_utils/**/*.py"), *ROOT.glob("plugins/modules/*.py")])
OUR_MODULE_UTILS = "ansible_collections.gatewayops.openai.plugins.module_utils"
SHIPPED = ("ansible.module_utils", OUR_MODULE_UTILS)
NEWER_THAN_3_9 = {"tomllib"}
# Accepted by the parser, refused at run time.
NEWER_ARGUMENTS = {"dataclass": {"slots", "kw_only", "weakref_slot"}, "field": {"kw_only"}, "zip": {"strict"}}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module)


def newer_arguments(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            given = {str(keyword.arg) for keyword in node.keywords}
            yield from ("%s(%s=)" % (name, argument) for argument in given & NEWER_ARGUMENTS.get(name, set()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "plugins")))
def test_target_code_needs_only_what_a_host_has(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    standard = set(sys.stdlib_module_names) - NEWER_THAN_3_9
    foreign = {
        name
        for name in imported(tree)
        if name.partition(".")[0] not in standard and not any((name + ".").startswith(each + ".") for each in SHIPPED)
    }
    assert not foreign
    assert not list(newer_arguments(tree))


def test_there_is_target_code() -> None:
    assert FILES
