from __future__ import annotations

from ansible_collections.gatewayops.openai.plugins.action.gateway_secrets import ActionModule

from .conftest import Host, Run


def test_the_host_comes_from_variables(run: Run) -> None:
    host = Host({"changed": True, "changed_names": ["provider-a.json"], "removed": []})
    given = {"secrets": {"provider-a.json": '{"resources": []}'}, "prune": False}
    run(ActionModule, variables={"gateway_secrets_dir": "/run/elsewhere"}, arguments=given, host=host)
    ((module, arguments),) = host.calls
    assert module == "gateway_secrets"
    assert {name: arguments[name] for name in given} == given
    assert arguments["host"]["secrets_dir"] == "/run/elsewhere"
