from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.action.gateway_secrets import ActionModule
from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json, digest
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import spec_resources

from .conftest import Host, Run, failed

PROVIDER_FILE = "provider-openai-c6275da3.json"
DONE = {
    "changed": True,
    "changed_names": ["consumers.json", PROVIDER_FILE],
    "removed": [".consumers.json.0123"],
    "rotated": {"consumers": ["search"], "providers": [], "listeners": [], "issuers": []},
    "message": "consumers: search; files: " + PROVIDER_FILE,
    "warnings": ["from the host"],
}


def digest_of(spec: dict[str, Any]) -> str:
    return digest(canonical_json(resources_of(spec)))


def resources_of(spec: dict[str, Any]) -> dict[str, Any]:
    raw = {name: value for name, value in spec.items() if name.startswith("gateway_") and name != "gateway_envoy"}
    return spec_resources(parse_spec(raw))


def serving(spec: dict[str, Any]) -> dict[str, Any]:
    """What a host answers that serves this spec, and was asked for another."""
    return {
        "changed": False,
        "needs_references": True,
        "active": "3f0c1a2b4d5e6f70",
        "spec_digest": digest_of(spec),
        "resources": json.loads(json.dumps(resources_of(spec))),
        "message": "",
    }


def test_what_the_task_gives_is_handed_over(run: Run) -> None:
    host = Host({**DONE})
    given = {"secrets": {"provider-a.json": '{"resources": []}'}, "prune": False}
    run(ActionModule, variables={"gateway_secrets_dir": "/run/elsewhere"}, arguments=given, host=host)
    ((module, arguments),) = host.calls
    assert module == "gateway_secrets"
    assert {name: arguments[name] for name in given} == given
    assert "spec_digest" not in arguments
    assert arguments["host"]["secrets_dir"] == "/run/elsewhere"


def test_a_host_that_serves_the_specification_takes_one_call(run: Run, spec: dict[str, Any]) -> None:
    host = Host({**DONE})
    result = run(ActionModule, variables=spec, host=host)
    ((module, arguments),) = host.calls
    assert module == "gateway_secrets"
    assert arguments["spec_digest"] == digest_of(spec)
    assert set(arguments["secrets"]) == {"consumers.json", PROVIDER_FILE}
    assert "sk-provider-canary" in arguments["secrets"][PROVIDER_FILE]
    assert {**result, "invocation": None} == {**DONE, "invocation": None}


@pytest.mark.parametrize("diff", [False, True])
def test_a_diff_shows_names_only(run: Run, spec: dict[str, Any], diff: bool) -> None:
    result = run(ActionModule, variables=spec, host=Host({**DONE}), diff=diff)
    shown = (
        "  ~ key of consumer search (not shown)\n"
        f"  ~ secret file {PROVIDER_FILE} (not shown)\n"
        "  - secret file .consumers.json.0123\n"
    )
    assert result.get("diff") == ({"prepared": shown} if diff else None)
    assert "canary" not in json.dumps(result)


def ahead(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The variables with a consumer more, whose key is in the store."""
    monkeypatch.setenv("NEW_KEY", "sk-unreleased-canary")
    more = copy.deepcopy(spec)
    more["gateway_consumers"]["later"] = {"api_keys": ["env://NEW_KEY"], "models": ["*"], "limits": {}}
    return more


def test_what_is_not_released_is_not_delivered(run: Run, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(serving(spec), {**DONE})
    result = run(ActionModule, variables=ahead(spec, monkeypatch), host=host)
    first, second = (arguments for module, arguments in host.calls)
    assert first["spec_digest"] != second["spec_digest"] == digest_of(spec)
    assert "sk-consumer-canary" in second["secrets"]["consumers.json"]
    assert "sk-unreleased-canary" not in json.dumps(second)
    assert result["message"].startswith(DONE["message"])
    assert "is not what release 3f0c1a2b4d5e6f70 on the host is made of" in result["message"]
    assert not {"needs_references", "resources"} & set(result)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("gateway_consumers", "search", "api_keys"), ["env://CONSUMER_KEY", "env://NOT_THERE_YET"]),
        (("gateway_models", "gpt-5", "targets"), [{"provider": "nobody", "model": "x"}]),
        (("gateway_models",), 7),
    ],
)
def test_a_change_that_cannot_be_released_yet_stops_no_rotation(
    run: Run, spec: dict[str, Any], path: tuple[str, ...], value: Any
) -> None:
    variables = copy.deepcopy(spec)
    place: Any = variables
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    host = Host(serving(spec), {**DONE})
    assert run(ActionModule, variables=variables, host=host)["changed"]
    assert "secrets" not in host.calls[0][1]
    assert set(host.calls[1][1]["secrets"]) == {"consumers.json", PROVIDER_FILE}


def test_what_cannot_be_read_back_is_a_warning(run: Run, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    served = copy.deepcopy(spec)
    served["gateway_consumers"]["search"]["api_keys"] = ["sk-literal-canary"]
    served["gateway_providers"]["openai"]["api_key"] = "lookup://ansible.builtin.pipe/id"
    host = Host(serving(served), {**DONE})
    result = run(ActionModule, variables=ahead(spec, monkeypatch), host=host)
    delivered = host.calls[1][1]
    assert set(delivered["secrets"]) == {"consumers.json"}
    assert "search" not in delivered["secrets"]["consumers.json"]
    assert delivered["keep_clients"] == ["search"]
    first, second, third = result["warnings"]
    assert first == "from the host"
    assert second.startswith("the keys of consumer search stay as they are: a value is written in the specification")
    assert third.startswith(f"{PROVIDER_FILE} stays as it is: the host names lookup://")


def test_a_secret_that_cannot_be_had_is_said(run: Run, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROVIDER_KEY")
    host = Host(serving(spec))
    message = failed(run, ActionModule, variables=spec, host=host)
    assert "secrets cannot be had; nothing was changed\n  env://PROVIDER_KEY: " in message
    assert len(host.calls) == 1


def test_a_host_that_changes_while_it_is_asked(run: Run, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(serving(spec), serving(spec))
    message = failed(run, ActionModule, variables=ahead(spec, monkeypatch), host=host)
    assert message == "another run switched this host to another release meanwhile; nothing was changed"


def test_failures_of_the_host_are_told(run: Run, spec: dict[str, Any]) -> None:
    refused = {"failed": True, "changed": False, "msg": "there is no gateway on this host"}
    result = run(ActionModule, variables=spec, host=Host(refused), diff=True)
    assert (result["failed"], result["msg"]) == (True, refused["msg"])
    assert "diff" not in result


@pytest.mark.parametrize("answer", [{"needs_references": True}, {"changed": True}])
def test_a_host_that_answers_nonsense_is_told(run: Run, spec: dict[str, Any], answer: dict[str, Any]) -> None:
    result = run(ActionModule, variables=spec, host=Host(answer), diff=True)
    assert result.get("failed", False) is ("needs_references" in answer)


def test_options_that_do_not_exist_are_refused(run: Run, spec: dict[str, Any]) -> None:
    message = failed(run, ActionModule, variables=spec, arguments={"secretz": {}}, host=Host())
    assert "secretz" in message
