"""Environments by workspace: one inventory, and hosts that are never taken for those of another environment."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from integration.site_gateway import BIN, ROOT, Gateway, Ran, a_gateway

KEY = {"PLAN_KEY": "sk-canary-of-the-plan"}


def groups(**hosts: str) -> str:
    return json.dumps({"gateways": {"children": {name: {"hosts": {host: None}} for name, host in hosts.items()}}})


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """Two hosts in one inventory, one for each workspace; both are this machine."""
    with a_gateway() as running:
        (running.directory / "inventory" / "hosts.yml").write_text(groups(staging="gw1", production="gw2"))
        root = running.variables["gateway_root"]
        running.variables["gateway_root"] = f"{root}{{{{ '' if inventory_hostname == 'gw1' else '-2' }}}}"
        running.variables["gateway_plan_key"] = "env://PLAN_KEY"
        running.variables["gateway_workspaces"] = {
            "staging": {"gateway_models": {"gpt-5-mini": {"price": {"input": 0, "output": 0}}}},
            "production": {"gateway_size": "medium"},
        }
        running.write_variables()
        yield running


def play(gateway: Gateway, name: str, workspace: str, *arguments: str) -> Ran:
    return gateway.play(name, "-e", f"gateway_workspace={workspace}", *arguments, **KEY)


def test_a_workspace_has_its_own_hosts_plan_and_history(gateway: Gateway) -> None:
    refused = play(gateway, "site", "stagin")
    assert refused.status == 2
    assert "no workspace named 'stagin' in gateway_workspaces; did you mean 'staging'?" in refused.output
    assert "gateway_workspace: is required" in gateway.play("plan").output
    planned = play(gateway, "plan", "staging")
    assert planned.status == 0, planned.output
    document = json.loads((gateway.directory / "plan.json").read_text())["gateway"]
    assert (document["environment"], document["workspace"]) == ("staging", "staging")
    assert list(document["hosts"]) == ["gw1"]
    assert document["unknown"] == {}
    refused = play(gateway, "apply", "production", "-e", "gateway_plan=plan.json")
    assert refused.status == 2
    assert "the plan is of the workspace 'staging', this is 'production'" in refused.output
    assert not (gateway.directory / "root-2").exists()
    applied = play(gateway, "apply", "staging", "-e", "gateway_plan=plan.json")
    assert applied.status == 0, applied.output
    assert "gw2" not in applied.output
    told = gateway.ansible("ansible", "gw1", "-m", "gatewayops.openai.gateway_info", "-e", "gateway_workspace=staging")
    assert '"workspace": "staging"' in told.output


def test_a_host_is_not_taken_for_one_of_another_workspace(gateway: Gateway) -> None:
    (gateway.directory / "inventory" / "hosts.yml").write_text(groups(production="gw1"))
    before = gateway.snapshot()
    for playbook in ("plan", "site"):
        refused = play(gateway, playbook, "production")
        assert refused.status == 2
        assert "the host serves the workspace 'staging', this is 'production'" in refused.output
    assert gateway.snapshot() == before
    moved = play(gateway, "site", "production", "-e", "gateway_workspace_replaces=staging", "--check")
    assert moved.status == 0, moved.output


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (
            ["staging", "production"],
            2,
            "To be as staging is, production would change:\n  ~ gateway_models.gpt-5-mini\n",
        ),
        (["staging", "staging"], 0, "No differences"),
        (["stagin", "production"], 1, "did you mean 'staging'?"),
    ],
)
def test_a_promotion_ends_as_a_plan_of_terraform_does(
    gateway: Gateway, arguments: list[str], status: int, said: str
) -> None:
    (gateway.directory / "inventory" / "hosts.yml").write_text(groups(staging="gw1", production="gw2"))
    source, target = arguments
    done = subprocess.run(
        [
            *(str(ROOT / "examples" / "detailed-exitcode.sh"), "promote", "-i", "inventory"),
            *("-e", f"from={source}", "-e", f"to={target}"),
        ],
        cwd=gateway.directory,
        env={**gateway.surroundings, "PATH": f"{BIN}:{gateway.surroundings['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
