from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.utils.display import Display

from ansible_collections.gatewayops.openai.plugins.action.gateway_promote import ActionModule

from .conftest import Run, failed


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(Display, "display", lambda self, text, *rest, **more: texts.append(text))
    return texts


def inventory(path: Path, variables: dict[str, Any], *hosts: str, **groups: list[str]) -> None:
    (path / "group_vars").mkdir(parents=True)
    children = {name: {"hosts": dict.fromkeys(members)} for name, members in groups.items()}
    content = {"gateways": {"hosts": dict.fromkeys(hosts), "children": children}}
    (path / "hosts.yml").write_text(json.dumps(content))
    (path / "group_vars" / "gateways.yml").write_text(json.dumps(variables))


@pytest.fixture
def project(tmp_path: Path, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two environments, each an inventory; a template in one of them names its own host."""
    variables = {name: value for name, value in spec.items() if name.startswith("gateway_")}
    monkeypatch.chdir(tmp_path)
    inventory(tmp_path / "inventories" / "staging", {**variables, "gateway_size": "small"}, "s1", "s2")
    models = {**variables["gateway_models"], "old": variables["gateway_models"]["gpt-5"]}
    inventory(tmp_path / "inventories" / "production", {**variables, "gateway_models": models}, "p1")
    return tmp_path


def promote(run: Run, source: str, target: str, **more: Any) -> dict[str, Any]:
    return run(ActionModule, variables={"from": source, "to": target, **more})


@pytest.mark.parametrize("sources", [[], ["{0}/inventories/production"], ["{0}/inventories/staging/hosts.yml"]])
def test_environments_are_directories(run: Run, project: Path, said: list[str], sources: list[str]) -> None:
    path = project / "promote.json"
    sources = [source.format(project) for source in sources]
    result = promote(run, "staging", "production", ansible_inventory_sources=sources, gateway_promote_file=str(path))
    assert not result["changed"]
    assert result["pending"]
    assert result["summary"] == "Promotion: 0 to add, 0 to change, 1 to remove; 1 meant to differ"
    assert said[-1].startswith("To be as staging is, production would change:\n  - gateway_models.old\n")
    assert json.loads(path.read_text())["from"] == "staging"
    assert path.with_suffix(".md").read_text().startswith("### staging → production: Promotion")
    there = promote(run, "./inventories/staging", "inventories/production")
    assert there["summary"] == result["summary"]


def test_what_is_expected_is_a_variable_of_the_environment(run: Run, project: Path, said: list[str]) -> None:
    extra = project / "inventories" / "production" / "group_vars" / "all.yml"
    extra.write_text(json.dumps({"gateway_promote_expected": ["gateway_models.{{ 'old' }}"]}))
    assert not promote(run, "staging", "production")["pending"]
    assert promote(run, "staging", "production", gateway_promote_expected=[])["pending"]
    extra.write_text(json.dumps({"gateway_promote_expected": "gateway_models.old"}))
    variables = {"from": "staging", "to": "production"}
    assert "gateway_promote_expected: must be a list" in failed(run, ActionModule, variables=variables)


def test_a_host_with_variables_of_its_own_is_named(run: Run, project: Path, said: list[str]) -> None:
    host_vars = project / "inventories" / "staging" / "host_vars"
    host_vars.mkdir()
    (host_vars / "s2.yml").write_text("gateway_size: large\n")
    warned = promote(run, "staging", "production")["warnings"]
    assert warned == ["s2 of staging has variables of its own, which are not compared"]


def test_environments_are_workspaces(run: Run, tmp_path: Path, spec: dict[str, Any], said: list[str]) -> None:
    variables = {name: value for name, value in spec.items() if name.startswith("gateway_")}
    models = {"gateway_models": {"new": {"targets": [{"provider": "openai", "model": "{{ gateway_workspace }}"}]}}}
    variables["gateway_workspaces"] = {"staging": models, "production": {"gateway_size": "large"}}
    inventory(tmp_path / "all", variables, staging=["s1"], production=["p1"])
    sources = [str(tmp_path / "all")]
    result = promote(run, "staging", "production", ansible_inventory_sources=sources)
    assert result["summary"] == "Promotion: 1 to add, 0 to change, 0 to remove; 2 meant to differ"
    assert "targets: [{model: staging, provider: openai, weight: 1}]" in said[-1]
    variables = {"from": "stagin", "to": "production", "ansible_inventory_sources": sources}
    assert "did you mean 'staging'?" in failed(run, ActionModule, variables=variables)


def test_everything_that_is_wrong_is_told(run: Run, project: Path) -> None:
    variables = {"from": "elsewhere", "to": "production"}
    said = failed(run, ActionModule, variables=variables)
    assert said == (
        "no environment named 'elsewhere', as a workspace or as an inventory; known are production, staging"
    )
    for nobody in ("", ".", ".."):
        said = failed(run, ActionModule, variables={"from": nobody, "to": "production"})
        assert said.startswith(f"no environment named '{nobody}', as a workspace or as an inventory; ")
    assert failed(run, ActionModule, variables={}) == "missing required arguments: from, to"
    (project / "inventories" / "staging" / "group_vars" / "all.yml").write_text("gateway_release_keep: 1\n")
    (project / "inventories" / "staging" / "group_vars" / "gateways.yml").write_text("gateway_models: []\n")
    said = failed(run, ActionModule, variables={"from": "staging", "to": "production"})
    assert said.startswith("the specification of staging has 4 errors\n  ")
    assert "  gateway_release_keep: must be between 2 and 1000" in said
    (project / "inventories" / "staging" / "group_vars" / "gateways.yml").write_text(
        "gateway_models: '{{ nowhere }}'\n"
    )
    said = failed(run, ActionModule, variables={"from": "staging", "to": "production"})
    assert said.startswith("staging: gateway_models: ")
    (project / "inventories" / "staging" / "hosts.yml").write_text("others: {hosts: {x: }}\n")
    said = failed(run, ActionModule, variables={"from": "staging", "to": "production"})
    assert said == f"staging: {project}/inventories/staging has no hosts in the group 'gateways'"


def test_a_place_that_cannot_be_written(run: Run, project: Path, said: list[str]) -> None:
    variables = {"from": "staging", "to": "production", "gateway_promote_file": str(project / "no" / "x.json")}
    assert failed(run, ActionModule, variables=variables) == (
        f"the promotion cannot be written: {project}/no/x.json: No such file or directory"
    )
    assert said[-1].startswith("To be as staging is, production would change:")
    variables["gateway_promote_file"] = "promote.md"
    assert "promote.md is the name of the comment beside it" in failed(run, ActionModule, variables=variables)


def test_a_file_that_cannot_be_read_is_said_to_be_of_its_environment(run: Run, project: Path) -> None:
    (project / "inventories" / "production" / "group_vars" / "all.yml").write_text("a: [\n")
    said = failed(run, ActionModule, variables={"from": "staging", "to": "production"})
    assert said.startswith(f"{project}/inventories/production: ")
