"""Programs that read Terraform's plans read ours: terraform-compliance, tf-peek, and Rego."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from integration.readers import ROOT, read_by
from spec_examples import every_key

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.fleet import FleetPlan, HostPlan
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.tfjson import plan_document
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import spec_resources

POLICIES = ROOT / "examples" / "policies"


def a_spec(**limits: int) -> dict[str, Any]:
    raw = every_key()
    for consumer in raw["gateway_consumers"].values():
        consumer["limits"] = {"requests_per_minute": 60, "tokens_per_day": 1000, **limits}
    return raw


def a_host(name: str, before: dict[str, Any] | None, after: dict[str, Any], **more: Any) -> HostPlan:
    values = {
        "active": "0" * 16 if before else "",
        "release": "1" * 16,
        "spec_digest": "2" * 64,
        "envoy_version": "1.40.0",
        "process": "reload",
        "changed": True,
        "before": spec_resources(parse_spec(before)) if before else {},
        "after": spec_resources(parse_spec(after)),
        "drift": (),
        "findings": (),
        **more,
    }
    return HostPlan(host=name, **values)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A new host, two that change alike, and one that somebody changed: what a plan can hold, all of it."""
    before = a_spec()
    before["gateway_models"]["old"] = before["gateway_models"]["gpt-5"]
    before["gateway_size"] = "small"
    del before["gateway_prompt_log"]
    after = a_spec()
    hosts = (
        a_host("gw1", None, after, process="start"),
        a_host("gw2", before, after),
        a_host("gw3", before, after),
        a_host("gw4", after, after, changed=True, drift=("envoy/cds.json (content)",)),
    )
    return written(tmp_path, *hosts)


def written(directory: Path, *hosts: HostPlan) -> Path:
    fleet = FleetPlan(
        environment="production",
        created_at="2026-11-24T12:00:00Z",
        expires_at="2026-11-25T12:00:00Z",
        collection_version="0.1.0",
        commit="ab" * 20,
        hosts=hosts,
        unknown=(("gw5", "left out by --limit"),),
    )
    path = directory / "plan.json"
    path.write_text(json.dumps(plan_document(fleet)))
    return path


class TestTerraformCompliance:
    def test_a_plan_that_keeps_to_it(self, plan: Path) -> None:
        done = read_by("terraform-compliance", "-p", plan, "-f", POLICIES, "--no-ansi", cwd=plan.parent)
        assert done.returncode == 0, done.stdout
        assert "3 scenarios (3 passed)" in done.stdout

    def test_one_that_does_not(self, tmp_path: Path) -> None:
        wrong = a_spec()
        del wrong["gateway_consumers"]["batch"]["limits"]
        wrong["gateway_listeners"]["public"]["tls"]["min_version"] = "1.0"
        plan = written(tmp_path, a_host("gw1", a_spec(), wrong))
        done = read_by("terraform-compliance", "-p", plan, "-f", POLICIES, "--no-ansi", cwd=tmp_path)
        assert done.returncode == 1, done.stdout
        assert 'module.gateway["gw1"].gateway_consumers.this["batch"]' in done.stdout
        assert "3 scenarios (1 passed, 2 failed)" in done.stdout


def test_a_report_of_it_counts_what_the_plan_counts(plan: Path) -> None:
    done = read_by("tf-peek", plan, cwd=plan.parent)
    assert done.returncode == 0, done.stdout
    document = json.loads(plan.read_text())
    actions = [change["change"]["actions"][0] for change in document["resource_changes"]]
    counts = {}
    for action in ("Delete", "Update", "Create"):
        (row,) = re.findall(rf"^\| \S+ {action} \|.*\| \*\*(\d+)\*\* \|$", done.stdout, re.MULTILINE)
        counts[action.lower()] = int(row)
    assert counts == {action: actions.count(action) for action in counts}
    summary = document["gateway"]["summary"]
    assert f"{counts['create']} to add, {counts['update']} to change, {counts['delete']} to remove" in summary
    assert 'module.gateway["gw2"].gateway_models.this["old"]' in done.stdout


def test_rules_in_rego_name_the_place_why_and_how_to_mend_it(plan: Path, tmp_path: Path) -> None:
    def denied(path: Path) -> list[str]:
        done = read_by("python", ROOT / "tests" / "integration" / "rego.py", POLICIES / "gateway.rego", path)
        assert done.returncode == 0, done.stdout
        found: list[str] = json.loads(done.stdout)
        return found

    removed = (
        'module.gateway["gw2"].gateway_models.this["old"]: is removed on {} while clients may use it; announce it first'
    )
    assert denied(plan) == [removed.format("gw2"), removed.format("gw3")]
    wrong = a_spec()
    wrong["gateway_consumers"]["batch"]["limits"] = {"requests_per_minute": 1}
    assert denied(written(tmp_path, a_host("gw1", a_spec(), wrong))) == [
        'module.gateway["gw1"].gateway_consumers.this["batch"]: '
        "may use any number of tokens in a day; set limits.tokens_per_day"
    ]
