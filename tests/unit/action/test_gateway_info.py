from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.action.gateway_info import ActionModule

from .conftest import Host, Run

SUPERVISOR = {
    "gateway_service_manager": "supervisor",
    "gateway_root": "/srv/gateway",
    "gateway_supervisord": "/usr/bin/supervisord",
}


def told(run: Run, variables: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The host that the module is told of."""
    host = Host({"changed": False})
    run(ActionModule, variables=variables, host=host, **options)
    ((module, arguments),) = host.calls
    assert module == "gateway_info"
    assert set(arguments) == {"host"}
    described: dict[str, Any] = arguments["host"]
    return described


def test_looking_needs_no_variable(run: Run) -> None:
    assert told(run, {})["config_dir"] == "/etc/openai-gateway"


def test_the_fleet_is_the_group_gateways(run: Run) -> None:
    assert told(run, {})["fleet_size"] == 1
    assert told(run, {"groups": {"gateways": ["a", "b", "c"]}})["fleet_size"] == 3
    assert told(run, {"groups": {"gateways": ["a", "b", "c"]}, "gateway_fleet_size": "7"})["fleet_size"] == 7


@pytest.mark.parametrize(("transport", "user"), [("ssh", "ada"), ("local", "me")])
def test_the_user_under_supervisor_is_who_connects(
    run: Run, monkeypatch: pytest.MonkeyPatch, transport: str, user: str
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "me")
    assert told(run, SUPERVISOR, transport=transport)["user"] == user
