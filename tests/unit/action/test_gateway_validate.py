from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.utils.display import Display

from ansible_collections.gatewayops.openai.plugins.action.gateway_drift import ActionModule as Drift
from ansible_collections.gatewayops.openai.plugins.action.gateway_plan import ActionModule as Plan
from ansible_collections.gatewayops.openai.plugins.action.gateway_plan_check import ActionModule as PlanCheck
from ansible_collections.gatewayops.openai.plugins.action.gateway_plan_file import ActionModule as PlanFile
from ansible_collections.gatewayops.openai.plugins.action.gateway_promote import ActionModule as Promote
from ansible_collections.gatewayops.openai.plugins.action.gateway_validate import ActionModule
from ansible_collections.gatewayops.openai.plugins.action.gateway_validate_fleet import ActionModule as ValidateFleet
from ansible_collections.gatewayops.openai.plugins.action.gateway_verify import ActionModule as Verify
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GatewayAction
from ansible_collections.gatewayops.openai.plugins.plugin_utils._host_options import HOST_OPTIONS

from .conftest import Run, failed

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    warnings: list[str] = []
    monkeypatch.setattr(Display, "warning", lambda self, text: warnings.append(text))
    return warnings


def test_a_right_specification_needs_no_host_no_secret_and_no_envoy(
    run: Run, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROVIDER_KEY")
    del spec["gateway_envoy"]
    result = run(ActionModule, variables=spec)
    assert result["changed"] is False
    assert result["findings"] == result["warnings"] == []
    assert result["resources"] == 9
    assert len(result["spec_digest"]) == 64


def test_findings_that_warn_are_told(run: Run, spec: dict[str, Any]) -> None:
    del spec["gateway_consumers"]["search"]["limits"]
    result = run(ActionModule, variables=spec)
    assert [finding["rule"] for finding in result["findings"]] == ["consumer_without_limit"]
    assert result["warnings"][0].startswith("gateway_consumers.search: ")


def test_a_slice_of_a_job_is_told_that_it_may_not_be_the_fleet(run: Run, spec: dict[str, Any]) -> None:
    spec.update(awx_workflow_job_id=7, groups={"gateways": ["a", "b"]})
    assert "shared by the 2 hosts of this inventory" in run(ActionModule, variables=spec)["warnings"][0]
    assert run(ActionModule, variables={**spec, "gateway_fleet_size": 50})["warnings"] == []
    assert run(ActionModule, variables={**spec, "gateway_limits_scope": "host"})["warnings"] == []


def test_a_variable_that_nothing_reads_is_told(run: Run, spec: dict[str, Any], warned: list[str]) -> None:
    spec.update(gateway_modles={}, gateway_verify_from="host", gateway_vault_addr="x", gateway_own_variable=1)
    run(ActionModule, variables=spec)
    assert warned == ["gateway_modles: the collection has no such variable; did you mean gateway_models?"]


def test_no_variable_of_the_collection_is_taken_for_a_misspelled_one(
    run: Run, spec: dict[str, Any], warned: list[str]
) -> None:
    documented = yaml.safe_load((ROOT / "roles" / "gateway" / "meta" / "argument_specs.yml").read_text())
    names = {name for entry in documented["argument_specs"].values() for name in entry["options"]}
    actions = (Verify, ValidateFleet, Plan, PlanFile, PlanCheck, Drift, Promote)
    of_actions = {variable for action in actions for variable in action.VARIABLES.values()}
    plain = {"gateway_serial", "gateway_environment", "gateway_drift_repair", "gateway_rollout_verify"}
    plain |= {"gateway_rollback", "gateway_max_unreachable"}
    others = {*names, *of_actions, *plain} - {f"gateway_{name}" for name in HOST_OPTIONS}
    run(ActionModule, variables={**dict.fromkeys(others), **spec})
    assert warned == []


def test_it_is_told_even_when_the_specification_is_wrong(run: Run, spec: dict[str, Any], warned: list[str]) -> None:
    spec["gateway_modles"] = spec.pop("gateway_models")
    assert re.search(r"gateway_models: needs at least one model", failed(run, ActionModule, variables=spec))
    assert len(warned) == 1


def test_a_wrong_host_is_said_in_the_words_of_the_variables(run: Run, spec: dict[str, Any]) -> None:
    spec["gateway_config_dir"] = "etc"
    assert re.search(
        r"^gateway_config_dir must be a plain absolute path, not 'etc'$", failed(run, ActionModule, variables=spec)
    )


WORKSPACES: dict[str, Any] = {
    "gateway_workspace": "staging",
    "gateway_workspaces": {"staging": {"gateway_size": "small"}, "production": {}},
    "groups": {"gateways": ["gw1.example", "gw2.example", "gw3.example"], "staging": ["gw1.example", "gw2.example"]},
}


def test_a_workspace_is_of_the_hosts_in_its_group(run: Run, spec: dict[str, Any]) -> None:
    assert run(ActionModule, variables={**spec, **WORKSPACES})["resources"] == 10
    said = failed(run, ActionModule, variables={**spec, **WORKSPACES, "inventory_hostname": "gw3.example"})
    assert said.startswith("gateway_workspace: gw3.example is not in the group 'staging'")
    said = failed(run, ActionModule, variables={**spec, **WORKSPACES, "gateway_workspace": "stagin"})
    assert "no workspace named 'stagin' in gateway_workspaces; did you mean 'staging'?" in said


def test_the_hosts_of_a_workspace_share_its_limits(
    run: Run, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    monkeypatch.setattr(
        ActionModule, "host", lambda self, options: sizes.append(self.fleet) or GatewayAction.host(self, options)
    )
    run(ActionModule, variables={**spec, **WORKSPACES})
    run(ActionModule, variables={**spec, "groups": WORKSPACES["groups"]})
    assert [len(fleet) for fleet in sizes] == [2, 3]
