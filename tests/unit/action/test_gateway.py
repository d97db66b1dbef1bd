from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.gatewayops.openai.plugins.action.gateway import ActionModule
from ansible_collections.gatewayops.openai.plugins.action.gateway_plan import ActionModule as Plan
from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import decode_files

from .conftest import Connection, Host, Run, failed

DONE = {
    "changed": True,
    "digest": "new",
    "previous": "old",
    "process": "reload",
    "process_why": ["envoy/cds.json"],
    "message": "reloaded",
    "secrets_changed": ["provider-openai-c6275da3.json"],
    "rotated": {"consumers": [], "providers": ["openai"], "listeners": [], "issuers": []},
}
LACKS = {"changed": False, "needs_bundle": True, "active": "old"}


def resources_of(run: Run, variables: dict[str, Any]) -> dict[str, Any]:
    """The resources that a host with this spec gives back."""
    host = Host({**LACKS, "resources": {}}, DONE)
    run(ActionModule, variables=variables, host=host)
    files = {file.path: file.content for file in decode_files(host.calls[1][1]["bundle"])}
    resources: dict[str, Any] = json.loads(files["resources.json"])
    return resources


def test_a_host_that_is_right_takes_one_call(run: Run, spec: dict[str, Any]) -> None:
    host = Host({"changed": False, "digest": "same", "process": "none"})
    result = run(ActionModule, variables=spec, host=host)
    assert not result["changed"]
    assert result["plan"] == "Plan: 0 to add, 0 to change, 0 to remove"
    ((module, arguments),) = host.calls
    assert module == "gateway_release"
    assert "bundle" not in arguments
    assert arguments["state"] == "active"
    assert arguments["keep"] == 5
    assert set(arguments["meta"]) == {
        "spec_digest",
        "inventory_commit",
        "collection_version",
        "applied_by",
        "workspace",
    }
    assert arguments["host"]["envoy"] == "/opt/envoy/1.40.0/envoy"
    assert set(arguments["secrets"]) == {"consumers.json", "provider-openai-c6275da3.json"}
    assert "sk-provider-canary" in arguments["secrets"]["provider-openai-c6275da3.json"]


def test_a_host_that_lacks_the_release_gets_it(run: Run, spec: dict[str, Any]) -> None:
    host = Host({**LACKS, "resources": {}}, DONE)
    result = run(ActionModule, variables=spec, host=host)
    assert [module for module, arguments in host.calls] == ["gateway_release", "gateway_release"]
    first, second = (arguments for module, arguments in host.calls)
    assert {name: value for name, value in second.items() if name != "bundle"} == first
    assert "resources.json" in {file.path for file in decode_files(second["bundle"])}
    assert {key: result[key] for key in ("changed", "digest", "previous", "process", "message")} == {
        key: DONE[key] for key in ("changed", "digest", "previous", "process", "message")
    }
    assert result["plan"] == "Plan: 9 to add, 0 to change, 0 to remove"
    assert not {"resources", "needs_bundle", "invocation", "diff"} & set(result)


def test_the_result_names_what_changes(run: Run, spec: dict[str, Any]) -> None:
    before = resources_of(run, spec)
    spec = copy.deepcopy(spec)
    spec["gateway_consumers"]["search"]["limits"]["requests_per_minute"] = 1200
    result = run(ActionModule, variables=spec, host=Host({**LACKS, "resources": before}, DONE), diff=True)
    assert result["changes"] == [
        {
            "address": "gateway_consumers.search",
            "action": "update",
            "fields": [{"path": "limits.requests_per_minute", "before": 600, "after": 1200}],
        }
    ]
    assert result["diff"]["prepared"] == (
        "  ~ key of provider openai (not shown)\n"
        "  ~ gateway_consumers.search\n"
        "      limits.requests_per_minute: 600 -> 1200\n"
        "Plan: 0 to add, 1 to change, 0 to remove\n"
        "  reload: Envoy reads its files again (envoy/cds.json)\n"
    )


def test_no_secret_is_in_the_result_nor_in_the_release(run: Run, spec: dict[str, Any]) -> None:
    spec["gateway_policies"] = {"plain_secret": "warn"}
    spec["gateway_consumers"]["search"]["api_keys"].append("sk-literal-canary")
    host = Host({**LACKS, "resources": {}}, DONE)
    result = run(ActionModule, variables=spec, host=host, diff=True)
    assert "canary" not in json.dumps(result)
    assert all("sk-literal-canary" in arguments.pop("secrets")["consumers.json"] for module, arguments in host.calls)
    assert "canary" not in json.dumps(host.calls)
    assert all(b"canary" not in file.content for file in decode_files(host.calls[1][1]["bundle"]))


def test_policies_that_warn_become_warnings(run: Run, spec: dict[str, Any]) -> None:
    del spec["gateway_consumers"]["search"]["limits"]
    result = run(ActionModule, variables=spec, host=Host({"changed": False, "warnings": ["from the host"]}))
    assert result["warnings"][0] == "from the host"
    assert result["warnings"][1].startswith("gateway_consumers.search: may send any number of requests")


def test_a_key_that_has_ended_is_not_delivered_and_a_consumer_without_one_is_told(
    run: Run, spec: dict[str, Any], tmp_path: Path
) -> None:
    keys = {"current": "sk-now", "previous": "sk-before", "previous_expires_at": "2026-01-01T00:00:00Z"}
    file = tmp_path / "keys.json"
    sources = [f"file://{file}#current", f"file://{file}#previous"]
    spec["gateway_consumers"]["search"]["api_keys"] = sources

    def delivered() -> tuple[str, list[str]]:
        host = Host({"changed": False})
        result = run(ActionModule, variables=spec, host=host)
        return host.calls[0][1]["secrets"]["consumers.json"], result["warnings"]

    file.write_text(json.dumps(keys))
    content, warnings = delivered()
    assert "sk-now" in content
    assert "sk-before" not in content
    assert warnings == []

    file.write_text(json.dumps({**keys, "current": ""}))
    content, warnings = delivered()
    assert json.loads(content)["resources"][0]["typed_config"]["credentials"] == []
    assert warnings == ["gateway_consumers.search: every key of it has ended, so its requests are refused"]

    spec["gateway_providers"]["openai"]["api_key"] = sources[1]
    text = failed(run, ActionModule, variables=spec)
    assert f"{sources[1]}: ended at 2026-01-01T00:00:00Z" in text
    assert f"{sources[0]}" not in text


def test_everything_that_is_wrong_is_said_at_once_before_the_host_is_asked(run: Run, spec: dict[str, Any]) -> None:
    spec["gateway_models"]["gpt-5"]["targets"][0]["provider"] = "opnai"
    spec["gateway_models"]["empty"] = {"targets": []}
    spec["gateway_size"] = "enormous"
    host = Host()
    lines = failed(run, ActionModule, variables=spec, host=host).splitlines()
    assert lines[0] == "the specification has 3 errors; nothing was changed"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "gateway_models.empty.targets",
        "gateway_models.gpt-5.targets[0].provider",
        "gateway_size",
    ]
    assert host.calls == []


def test_a_policy_that_denies_stops_before_the_host_is_asked(run: Run, spec: dict[str, Any]) -> None:
    spec["gateway_listeners"]["local"]["address"] = "0.0.0.0"
    host = Host()
    assert re.search(
        "breaks policies in 1 place; nothing was changed\n  gateway_listeners",
        failed(run, ActionModule, variables=spec, host=host),
    )
    assert host.calls == []


def test_a_secret_that_is_missing_stops_before_the_host_is_asked(
    run: Run, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROVIDER_KEY")
    monkeypatch.delenv("CONSUMER_KEY")
    host = Host()
    lines = failed(run, ActionModule, variables=spec, host=host).splitlines()
    assert lines[0] == "secrets cannot be had; nothing was changed"
    assert sorted(line.split(": ")[0] for line in lines[1:]) == ["  env://CONSUMER_KEY", "  env://PROVIDER_KEY"]
    assert host.calls == []


@pytest.mark.parametrize(("capable", "warnings"), [(True, 0), (False, 1)])
def test_secrets_are_not_written_to_the_host_by_ansible(
    run: Run, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capable: bool, warnings: int
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(Display, "warning", lambda self, text: warned.append(text))
    monkeypatch.setattr(Connection, "has_pipelining", capable)
    run(ActionModule, variables=spec, host=Host({"changed": False}))
    assert len(warned) == warnings


def test_a_failure_of_the_host_is_the_tasks(run: Run, spec: dict[str, Any]) -> None:
    host = Host({"failed": True, "changed": False, "msg": "another run is applying to this host"})
    result = run(ActionModule, variables=spec, host=host, diff=True)
    assert result["failed"]
    assert result["msg"] == "another run is applying to this host"
    assert not {"diff", "changes", "plan"} & set(result)


def test_arguments_win_over_variables(run: Run, spec: dict[str, Any]) -> None:
    host = Host({"changed": False})
    run(ActionModule, variables=spec, arguments={"envoy": "/usr/bin/envoy", "release_keep": 7}, host=host)
    assert host.calls[0][1]["host"]["envoy"] == "/usr/bin/envoy"
    assert host.calls[0][1]["keep"] == 7


def trusted(template: str) -> str:
    """A template as it comes out of an inventory; from ansible-core 2.19 on only such ones are rendered."""
    try:
        from ansible.template import trust_as_template
    except ImportError:
        return template
    tagged: str = trust_as_template(template)
    return tagged


def test_variables_are_templates(run: Run, spec: dict[str, Any]) -> None:
    host = Host({"changed": False})
    spec.update(envoy_root="/opt/e", gateway_envoy=trusted("{{ envoy_root }}/envoy"))
    run(ActionModule, variables=spec, host=host)
    assert host.calls[0][1]["host"]["envoy"] == "/opt/e/envoy"


def test_a_template_that_fails_names_the_variable(run: Run, spec: dict[str, Any]) -> None:
    spec["gateway_models"]["gpt-5"]["targets"] = trusted("{{ nope }}")
    assert re.search(r"^gateway_models: .*'nope' is undefined", failed(run, ActionModule, variables=spec))


def test_options_that_do_not_exist_are_named(run: Run, spec: dict[str, Any]) -> None:
    assert re.search("modles", failed(run, ActionModule, variables=spec, arguments={"modles": {}}))
    assert re.search("vault_tokn", failed(run, ActionModule, variables=spec, arguments={"vault_tokn": "x"}))
    run(ActionModule, variables=spec, arguments={"vault_token": "x"}, host=Host({"changed": False}))


def test_absent_needs_no_specification(run: Run) -> None:
    host = Host({"changed": True})
    result = run(ActionModule, arguments={"state": "absent"}, variables={"gateway_envoy": "/usr/bin/envoy"}, host=host)
    assert result == {"changed": True}
    assert [(module, arguments["state"]) for module, arguments in host.calls] == [("gateway_release", "absent")]


@pytest.mark.parametrize("removed", [[], ["/opt/envoy"]])
def test_absent_removes_envoy_at_last(run: Run, removed: list[str]) -> None:
    variables = {"gateway_envoy": "/usr/bin/envoy", "gateway_envoy_root": "/opt/envoy", "gateway_keep_logs": True}
    host = Host({"changed": False, "removed": []}, {"changed": bool(removed), "removed": removed})
    result = run(ActionModule, arguments={"state": "absent"}, variables=variables, host=host)
    assert result == {"changed": bool(removed), "removed": removed}
    (release, asked), (envoy, root) = host.calls
    assert (release, asked["keep_logs"]) == ("gateway_release", True)
    assert (envoy, root) == ("envoy_binary", {"state": "absent", "root": "/opt/envoy"})


def test_a_plan_that_is_carried_out_removes_no_gateway(run: Run) -> None:
    variables = {"gateway_envoy": "/usr/bin/envoy", "gateway_state": "absent", "gateway_expected": "0123456789abcdef"}
    host = Host()
    result = run(ActionModule, variables=variables, host=host)
    assert result["failed"]
    assert result["msg"].startswith("gateway_state: is absent, and a plan that is carried out removes no gateway")
    assert host.calls == []


def test_absent_keeps_envoy_while_the_gateway_is_not_removed(run: Run) -> None:
    variables = {"gateway_envoy": "/usr/bin/envoy", "gateway_envoy_root": "/opt/envoy"}
    host = Host({"failed": True, "msg": "still serves connections"})
    assert run(ActionModule, arguments={"state": "absent"}, variables=variables, host=host)["failed"]
    assert len(host.calls) == 1


@pytest.mark.parametrize("action", [ActionModule, Plan])
def test_a_filter_that_would_shut_this_run_out_is_refused(
    run: Run, action: type[ActionBase], spec: dict[str, Any]
) -> None:
    spec["gateway_nftables"] = {"others": "drop", "ports": [2222]}
    host = Host({"changed": False})
    result = run(action, variables=spec, host=host)
    assert result["failed"]
    assert result["msg"].startswith("gateway_nftables.ports: does not have 22, the port that this run has connected to")
    assert host.calls == []
    spec["gateway_nftables"]["ports"].append(22)
    assert not run(ActionModule, variables=spec, host=host)["changed"]
