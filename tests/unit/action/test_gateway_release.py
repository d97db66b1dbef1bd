from __future__ import annotations

from typing import Any

from ansible_collections.gatewayops.openai.plugins.action.gateway_release import ActionModule

from .conftest import Host, Run, failed

SUPERVISOR = {
    "gateway_service_manager": "supervisor",
    "gateway_root": "/srv/gateway",
    "gateway_supervisord": "/usr/bin/supervisord",
    "gateway_envoy": "/opt/envoy",
}


def test_the_host_is_the_one_that_variables_describe(run: Run) -> None:
    host = Host({"changed": True})
    run(ActionModule, variables=SUPERVISOR, arguments={"digest": "previous"}, host=host)
    ((module, arguments),) = host.calls
    assert module == "gateway_release"
    assert arguments["digest"] == "previous"
    assert arguments["host"]["config_dir"] == "/srv/gateway/config"
    assert arguments["host"]["user"] == "ada"
    assert "@" in arguments["meta"]["applied_by"]


def test_what_the_task_says_goes_to_the_module_as_it_is(run: Run) -> None:
    host = Host({"changed": True})
    arguments: dict[str, Any] = {"host": {"envoy": "/e"}, "meta": {"applied_by": "me"}, "digest": "abc", "keep": 3}
    run(ActionModule, variables=SUPERVISOR, arguments=arguments, host=host)
    assert host.calls == [("gateway_release", arguments)]


def test_a_part_of_the_host_can_be_said(run: Run) -> None:
    host = Host({"changed": False})
    run(ActionModule, variables=SUPERVISOR, arguments={"log_dir": "/var/log/gw", "state": "present"}, host=host)
    assert host.calls[0][1]["host"]["log_dir"] == "/var/log/gw"
    assert "log_dir" not in host.calls[0][1]


def test_it_has_to_know_where_envoy_is(run: Run) -> None:
    assert failed(run, ActionModule).startswith("gateway_envoy must be")
