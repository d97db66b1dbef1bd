from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.action.gateway_info import ActionModule as Info
from ansible_collections.gatewayops.openai.plugins.action.gateway_release import ActionModule as Release

from .conftest import Host, Run, failed

SUPERVISOR = {
    "gateway_service_manager": "supervisor",
    "gateway_root": "/srv/gateway",
    "gateway_supervisord": "/usr/bin/supervisord",
    "gateway_envoy": "/opt/envoy",
}


def test_the_host_is_the_one_that_variables_describe(run: Run) -> None:
    host = Host({"changed": True})
    run(Release, variables=SUPERVISOR, arguments={"digest": "previous"}, host=host)
    ((module, arguments),) = host.calls
    assert module == "gateway_release"
    assert arguments["digest"] == "previous"
    assert arguments["host"]["config_dir"] == "/srv/gateway/config"
    assert arguments["host"]["user"] == "ada"
    assert "@" in arguments["meta"]["applied_by"]


def test_what_the_task_says_goes_to_the_module_as_it_is(run: Run) -> None:
    host = Host({"changed": True})
    arguments: dict[str, Any] = {"host": {"envoy": "/e"}, "meta": {"applied_by": "me"}, "digest": "abc", "keep": 3}
    run(Release, variables=SUPERVISOR, arguments=arguments, host=host)
    assert host.calls == [("gateway_release", arguments)]


def test_a_part_of_the_host_can_be_said(run: Run) -> None:
    host = Host({"changed": False})
    run(Release, variables=SUPERVISOR, arguments={"log_dir": "/var/log/gw", "state": "present"}, host=host)
    assert host.calls[0][1]["host"]["log_dir"] == "/var/log/gw"
    assert "log_dir" not in host.calls[0][1]


def test_the_fleet_is_the_group_gateways(run: Run) -> None:
    sizes = []
    for variables in ({}, {"groups": {"gateways": ["a", "b", "c"]}}, {"gateway_fleet_size": "7"}):
        host = Host({"changed": False})
        run(Info, variables={**SUPERVISOR, **variables}, host=host)
        sizes.append(host.calls[0][1]["host"]["fleet_size"])
    assert sizes == [1, 3, 7]


def test_looking_needs_no_envoy_but_releasing_does(run: Run) -> None:
    host = Host({"changed": False})
    run(Info, host=host)
    assert host.calls[0][0] == "gateway_info"
    assert failed(run, Release).startswith("gateway_envoy must be")


@pytest.mark.parametrize(("transport", "user"), [("ssh", "ada"), ("local", "me")])
def test_the_user_is_who_connects(run: Run, monkeypatch: pytest.MonkeyPatch, transport: str, user: str) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "me")
    host = Host({"changed": False})
    run(Info, variables=SUPERVISOR, host=host, transport=transport)
    assert host.calls[0][1]["host"]["user"] == user
