from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible.utils.display import Display

from ansible_collections.gatewayops.openai.plugins.action.gateway_validate_fleet import ActionModule
from ansible_collections.gatewayops.openai.plugins.module_utils._release.binary import Binary
from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation import envoy as envoy_room
from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation import run as run_room

from .conftest import Run, failed
from .test_gateway_plan_file import Hostvars

try:
    from ansible.template import trust_as_template as template
except ImportError:  # before ansible-core 2.19, which trusts everything
    template = str

Play = Callable[..., dict[str, Any]]
EXCEPTION = {
    "policy": "consumer_without_limit",
    "path": "gateway_consumers.search",
    "owner": "ada@example.com",
    "reason": "soon",
    "expires": "2199-01-01T00:00Z",
}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(Display, "display", lambda self, text, *rest, **more: lines.append(text))
    return lines


@pytest.fixture(autouse=True)
def no_envoy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(envoy_room.shutil, "which", lambda name: None)


@pytest.fixture
def play(run: Run, spec: dict[str, Any]) -> Play:
    """The variables of a play on the hosts, each with what it has beside those of the spec."""

    def _play(hosts: dict[str, dict[str, Any]], **variables: Any) -> dict[str, Any]:
        del spec["gateway_envoy"]
        spec.pop("inventory_hostname")
        known = {name: {**spec, **own, "inventory_hostname": name} for name, own in hosts.items()}
        first = next(iter(hosts))
        return {
            **known[first],
            **variables,
            "hostvars": Hostvars(known),
            "groups": {"gateways": list(hosts)},
            "ansible_play_hosts_all": list(hosts),
            "inventory_dir": "/srv/inventories/production",
        }

    return _play


def test_what_is_right_needs_no_host_no_secret_and_no_envoy(
    run: Run, play: Play, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROVIDER_KEY")
    result = run(ActionModule, variables=play({"gw1": {}, "gw2": {}}))
    assert result["results"] == []
    assert (
        said
        == [result["summary"]]
        == [
            "Validate: 0 errors, 0 warnings, on 2 hosts; Envoy was not asked: no Envoy 1.40.0 was found on this machine"
        ]
    )


def test_every_error_of_every_host_is_told_at_once_by_the_hosts_that_have_it(
    run: Run, play: Play, said: list[str], spec: dict[str, Any]
) -> None:
    spec["gateway_models"]["gpt-5"]["targets"][0]["provider"] = "openay"
    hosts: dict[str, dict[str, Any]] = {
        "gw1": {},
        "gw2": {"gateway_size": "enormous"},
        "gw3": {"gateway_release_keep": template("{{ nosuch }}"), "gateway_metrics": template("{{ other }}")},
        "gw4": {"gateway_config_dir": "etc"},
    }
    summary = "Validate: 5 errors, 0 warnings, on 4 hosts with 4 specifications; Envoy was not asked: "
    assert failed(run, ActionModule, variables=play(hosts)).startswith(summary)
    lines = said[0].splitlines()
    assert lines[:2] == [
        "gw1, gw2, gw4:",
        "  error: gateway_models.gpt-5.targets[0].provider: no provider named 'openay'; did you mean 'openai'?",
    ]
    assert "gw2:\n  error: gateway_size: 'enormous' is not one of small, medium, large" in said[0]
    assert "gw3:\n  error: gateway_release_keep: 'nosuch' is undefined" in said[0]
    assert "gateway_metrics: 'other' is undefined" in said[0]
    assert "gw4:\n  error: gateway_config_dir must be a plain absolute path, not 'etc'" in said[0]


def test_hosts_with_the_same_specification_are_compiled_once(
    run: Run, play: Play, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []
    build = run_room.build_bundle
    monkeypatch.setattr(run_room, "build_bundle", lambda spec, host: compiled.append(spec) or build(spec, host))
    hosts = {f"gw{n}": {"gateway_release_keep": template("{{ 4 + 1 }}"), "own": n} for n in range(4)}
    result = run(ActionModule, variables=play({**hosts, "gw9": {"gateway_size": "large"}}))
    assert "on 5 hosts with 2 specifications" in result["summary"]
    assert len(compiled) == 2


def test_what_a_play_sets_goes_before_what_its_hosts_have(run: Run, play: Play, said: list[str]) -> None:
    variables = play({"gw1": {"gateway_size": "small"}, "gw2": {"gateway_size": "large"}}, gateway_size="enormous")
    assert failed(run, ActionModule, variables=variables).startswith("Validate: 1 error, ")
    assert said[0].startswith("gw1, gw2:\n  error: gateway_size: 'enormous'")


def test_the_reports(run: Run, play: Play, said: list[str], spec: dict[str, Any], tmp_path: Path) -> None:
    del spec["gateway_consumers"]["search"]["limits"]
    spec["gateway_listeners"]["local"]["address"] = "0.0.0.0"
    spec["gateway_policy_exceptions"] = [EXCEPTION]
    sarif, junit = tmp_path / "x.sarif", tmp_path / "x.xml"
    variables = play({"gw1": {}, "gw2": {}}, gateway_validate_sarif=str(sarif), gateway_validate_junit=str(junit))
    failed(run, ActionModule, variables=variables)
    log = json.loads(sarif.read_text())["runs"][0]
    rules = log["tool"]["driver"]["rules"]
    denied, excepted = log["results"]
    assert denied["message"]["text"].startswith("gateway_listeners.local: serves plain HTTP on 0.0.0.0")
    assert (denied["level"], denied["properties"]) == ("error", {"hosts": ["gw1", "gw2"]})
    assert rules[denied["ruleIndex"]]["name"] == "PlainHttpOutsideLoopback"
    assert "suppressions" not in denied
    assert excepted["suppressions"] == [
        {
            "kind": "external",
            "status": "accepted",
            "justification": "soon (ada@example.com, until 2199-01-01T00:00Z)",
        }
    ]
    off = next(rule for rule in rules if rule["id"] == "wildcard_models")
    assert off["defaultConfiguration"] == {"enabled": False, "level": "note"}
    assert log["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"].startswith("accepted-by-envoy: no")
    suite = ElementTree.parse(junit).getroot()[0]
    assert suite.get("name") == "production"
    cases = {str(case.get("name")): case for case in suite}
    assert len(cases) == len(rules) == int(suite.get("tests", 0))
    failure = cases["plain_http_outside_loopback"].find("failure")
    assert failure is not None
    assert "give it tls, or a loopback address" in str(failure.text)
    assert str(failure.text).endswith("on gw1, gw2")
    assert "excepted: gateway_consumers.search" in str(cases["consumer_without_limit"].findtext("system-out"))
    assert cases["wildcard_models"].find("skipped") is not None
    assert cases["accepted-by-envoy"].find("skipped") is not None
    assert not list(cases["tls_version"])


def test_policies_are_held_to_what_can_be_read_where_only_the_host_is_wrong(
    run: Run, play: Play, said: list[str], tmp_path: Path
) -> None:
    sarif, junit = tmp_path / "x.sarif", tmp_path / "x.xml"
    own = {"mine": {"for": "spec", "that": "false", "message": "is wrong", "fix": "mend it"}}
    host = {"gateway_config_dir": "etc", "gateway_policy_rules": own}
    variables = play({"gw1": host}, gateway_validate_sarif=str(sarif), gateway_validate_junit=str(junit))
    assert failed(run, ActionModule, variables=variables).startswith("Validate: 2 errors, 0 warnings, on 1 host; ")
    results = json.loads(sarif.read_text())["runs"][0]["results"]
    assert [each["ruleId"] for each in results] == ["valid-specification", "mine"]
    cases = {str(case.get("name")): case for case in ElementTree.parse(junit).getroot()[0]}
    assert cases["mine"].find("failure") is not None
    assert not list(cases["tls_version"])
    assert cases["accepted-by-envoy"].find("skipped") is not None
    assert cases["compiled-release"].find("skipped") is not None


def test_the_reports_are_of_the_workspace(run: Run, play: Play, said: list[str], tmp_path: Path) -> None:
    junit = tmp_path / "x.xml"
    hosts = {
        "gw1": {"gateway_workspace": template("{{ nosuch }}")},
        "gw2": {"gateway_workspace": template("{{ 'a' }}")},
    }
    failed(run, ActionModule, variables=play(hosts, gateway_validate_junit=str(junit)))
    assert ElementTree.parse(junit).getroot()[0].get("name") == "a"


def test_a_workspace_that_is_no_name(run: Run, play: Play, said: list[str]) -> None:
    host = {"gateway_workspace": ["production"], "gateway_workspaces": {"production": {}}}
    failed(run, ActionModule, variables=play({"gw1": host}))
    assert said[0].startswith("gw1:\n  error: gateway_workspace: ")


def test_policies_are_not_held_to_what_cannot_be_read(run: Run, play: Play, said: list[str], tmp_path: Path) -> None:
    junit = tmp_path / "x.xml"
    variables = play({"gw1": {"gateway_models": 5}}, gateway_validate_junit=str(junit))
    failed(run, ActionModule, variables=variables)
    suite = ElementTree.parse(junit).getroot()[0]
    skipped = {str(case.get("name")) for case in suite if case.find("skipped") is not None}
    assert {str(case.get("name")) for case in suite} - skipped == {"valid-specification"}


def test_a_place_that_cannot_be_written(run: Run, play: Play, said: list[str], tmp_path: Path) -> None:
    variables = play({"gw1": {}}, gateway_validate_sarif=str(tmp_path / "no" / "x"))
    assert failed(run, ActionModule, variables=variables) == (
        f"the report cannot be written: {tmp_path}/no/x: No such file or directory"
    )
    assert said[0].startswith("Validate: 0 errors")


class Refusing:
    """Stands in for an Envoy of a version, which refuses everything."""

    asked: int

    def __init__(self, version: str) -> None:
        self._version = version
        self.asked = 0

    def __call__(self, path: str, owner: object) -> Refusing:
        return self

    def version(self) -> str:
        return self._version

    def refusal(self, files: Any, *, offline: bool) -> str:
        assert offline
        self.asked += 1
        return "no such field"


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    envoy = Refusing("1.40.0")
    monkeypatch.setattr(envoy_room, "Binary", envoy)
    return envoy


def test_envoy_is_asked_once_of_each_and_its_refusal_is_an_error(
    run: Run, play: Play, said: list[str], refusing: Refusing
) -> None:
    variables = play({"gw1": {}, "gw2": {}, "gw3": {"gateway_size": "large"}}, gateway_validate_envoy="/opt/envoy")
    assert failed(run, ActionModule, variables=variables).endswith("; Envoy 1.40.0 accepts 0 of 2")
    assert said[0].startswith("gw1, gw2, gw3:\n  error: Envoy 1.40.0 refuses it: no such field\n")
    assert refusing.asked == 2


def test_an_envoy_of_another_version_is_not_asked_but_refused_when_it_was_named(
    run: Run, play: Play, said: list[str], refusing: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = play({"gw1": {"envoy_version": "1.41.0"}})
    monkeypatch.setattr(envoy_room.shutil, "which", lambda name: "/usr/bin/envoy")
    told = run(ActionModule, variables=variables)["summary"]
    assert told.endswith("the Envoy on this machine (/usr/bin/envoy) is 1.40.0 and not 1.41.0")
    assert refusing.asked == 0
    named = {**variables, "gateway_validate_envoy": "/opt/envoy"}
    assert failed(run, ActionModule, variables=named) == "/opt/envoy is Envoy 1.40.0, expected 1.41.0"


def test_one_that_is_named_has_to_be_there(run: Run, play: Play, said: list[str]) -> None:
    variables = play({"gw1": {}}, gateway_validate_envoy="/nonexistent/envoy")
    assert failed(run, ActionModule, variables=variables).startswith("there is no Envoy at /nonexistent/envoy")


def test_the_artifact_of_an_earlier_run_is_unpacked_once(
    run: Run, play: Play, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checksum = "a" * 64
    (tmp_path / checksum).write_text("#!/bin/sh\necho 'envoy version: %s/1.40.0/Clean'\n" % ("0" * 40))
    monkeypatch.setattr(Binary, "refusal", lambda self, files, offline: "")
    variables = play(
        {"gw1": {"envoy_cache_dir": str(tmp_path), "envoy_checksums": {"x86_64": checksum, "aarch64": checksum}}}
    )
    assert run(ActionModule, variables=variables)["envoy"] == "Envoy 1.40.0 accepts it"
    made = (tmp_path / f"envoy-{checksum}").stat()
    run(ActionModule, variables=variables)
    assert (tmp_path / f"envoy-{checksum}").stat().st_ino == made.st_ino
