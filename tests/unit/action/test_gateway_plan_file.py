from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.utils.display import Display

from ansible_collections.gatewayops.openai.plugins.action.gateway_plan import ActionModule as PlanAction
from ansible_collections.gatewayops.openai.plugins.action.gateway_plan_file import ActionModule as FileAction

from .conftest import Host, Run, failed

ANSWER = {
    "changed": True,
    "digest": "new",
    "active": "old",
    "previous": "old",
    "process": "reload",
    "process_why": ["envoy/cds.json"],
    "envoy_version": "1.40.0",
    "drift": [],
    "in_use": {},
    "message": "reloaded",
}
LACKS = {"changed": False, "needs_bundle": True, "active": "old", "resources": {}}


class Hostvars(dict[str, Any]):
    """What Ansible knows of the hosts, without rendering it."""

    def raw_get(self, host: str) -> dict[str, Any]:
        found: dict[str, Any] = self[host]
        return found


def test_no_store_is_asked_and_the_host_is_only_looked_at(run: Run, spec: dict[str, Any]) -> None:
    spec["gateway_providers"]["openai"]["api_key"] = "vault://kv/nobody/can#reach"
    spec["gateway_vault_addr"] = "http://127.0.0.1:1"
    host = Host(LACKS, ANSWER)
    result = run(PlanAction, variables=spec, host=host, diff=True)
    assert not result["changed"]
    assert result["summary"].startswith("Plan: 9 to add")
    assert result["planned"]["process"] == "reload"
    assert result["planned"]["before"] == {}
    assert len(result["planned"]["after"]) == 9
    assert "+ gateway_consumers.search" in result["diff"]["prepared"]
    for module, arguments in host.calls:
        assert module == "gateway_release"
        assert arguments["secrets_pending"]
        assert "secrets" not in arguments
    assert "bundle" in host.calls[1][1]


def test_a_host_that_is_right_has_nothing_before(run: Run, spec: dict[str, Any]) -> None:
    host = Host({**ANSWER, "changed": False, "active": "new", "process": "none"})
    result = run(PlanAction, variables=spec, host=host, diff=True)
    assert "before" not in result["planned"]
    assert "diff" not in result
    assert result["summary"] == "Plan: 0 to add, 0 to change, 0 to remove"


def test_a_host_that_cannot_serve_it_says_why(run: Run, spec: dict[str, Any]) -> None:
    result = run(PlanAction, variables=spec, host=Host({"failed": True, "msg": "port 443 is taken"}))
    assert result["failed"]
    assert result["msg"] == "port 443 is taken"


def planned(run: Run, spec: dict[str, Any]) -> dict[str, Any]:
    return run(PlanAction, variables=spec, host=Host(LACKS, ANSWER))


def test_the_plan_of_all_hosts(run: Run, spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Display, "display", lambda self, text, *rest, **more: said.append(text))
    hostvars = {
        "gw1": {"__gateway_plan": planned(run, spec)},
        "gw2": {"__gateway_plan": {"unreachable": True, "msg": "no route\nto host"}},
        "gw3": {},
        "gw4": {"__gateway_plan": {"failed": True, "msg": "port 443 is taken"}},
    }
    variables = {
        "hostvars": Hostvars(hostvars),
        "groups": {"gateways": ["gw1", "gw2", "gw3", "gw4"]},
        "ansible_play_hosts_all": ["gw1", "gw2", "gw4"],
        "gateway_plan": str(tmp_path / "today.json"),
        "gateway_environment": "production",
    }
    result = run(FileAction, variables=variables)
    assert not result["changed"]
    assert result["pending"]
    assert result["files"] == [str(tmp_path / f"today.{suffix}") for suffix in ("json", "md", "html")]
    assert result["unknown"] == {
        "gw2": "cannot be reached: no route to host",
        "gw3": "left out by --limit",
        "gw4": "no plan could be made: port 443 is taken",
    }
    document = json.loads((tmp_path / "today.json").read_text())
    assert document["errored"]
    assert document["gateway"]["environment"] == "production"
    assert (tmp_path / "today.md").read_text().startswith("### Plan: 9 to add")
    assert "<h1>Plan: 9 to add" in (tmp_path / "today.html").read_text()
    assert said[-1].endswith("Plan: 9 to add, 0 to change, 0 to remove, on 1 host; nothing is known of 3 hosts")


def test_the_page_can_be_elsewhere(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "index.html"
    page.parent.mkdir()
    variables = {
        "hostvars": Hostvars({}),
        "groups": {},
        "gateway_plan": str(tmp_path / "plan.json"),
        "gateway_plan_html": str(page),
    }
    assert run(FileAction, variables=variables)["files"][-1] == str(page)
    assert "No changes. 0 hosts as specified" in page.read_text()


def test_a_place_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    variables = {"hostvars": Hostvars({}), "groups": {}, "gateway_plan": str(tmp_path / "absent" / "plan.json")}
    said = failed(run, FileAction, variables=variables)
    assert said == f"the plan cannot be written: {tmp_path}/absent/plan.json: No such file or directory"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gateway_plan": ""}, "gateway_plan: '' is no name of a file"),
        (
            {"gateway_plan": "x.md"},
            "gateway_plan, gateway_plan_html: the plan (x.md), the comment (x.md) and the page ",
        ),
        ({"gateway_plan": "x.html"}, "gateway_plan, gateway_plan_html: "),
        ({"gateway_plan": "x.json", "gateway_plan_html": "x.json"}, "gateway_plan, gateway_plan_html: "),
    ],
)
def test_no_file_of_a_plan_overwrites_another(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    variables = {"hostvars": Hostvars({}), "groups": {}, **given}
    assert failed(run, FileAction, variables=variables).startswith(message)
    assert not list(tmp_path.iterdir())


def test_a_variable_that_nothing_reads_is_told(run: Run, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(Display, "warning", lambda self, text: warned.append(text))
    run(PlanAction, variables={**spec, "gateway_modles": {}}, host=Host(ANSWER))
    assert warned == ["gateway_modles: the collection has no such variable; did you mean gateway_models?"]
