"""`gatewayops.openai.validate` as CI runs it: hosts that nobody can reach, stores that are not there, a real Envoy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import junitparser
import pytest
import yaml
from integration.site_gateway import BIN, ROOT, Ran
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as Sarif

RULES = """\
gateway_policy_rules:
  models_have_fallbacks:
    for: models
    that: model.fallbacks | length > 0
    message: has nobody to fall back to
    fix: name a fallback
"""


class Controller:
    """A machine with an inventory, where everything that asks a host or a store is noticed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inventory = folder / "inventories" / "ci"
        (self.inventory / "group_vars").mkdir(parents=True)
        (self.inventory / "host_vars").mkdir()
        self._asked = folder / "asked"
        ssh = folder / "ssh"
        ssh.write_text(f"#!/bin/sh\ntouch {self._asked}\nexit 255\n")
        ssh.chmod(0o755)
        self._store = socket.create_server(("127.0.0.1", 0))
        self._store.setblocking(False)
        self.variables: dict[str, Any] = {
            "ansible_connection": "ssh",
            "ansible_ssh_executable": str(ssh),
            "gateway_vault_addr": f"http://127.0.0.1:{self._store.getsockname()[1]}",
            "gateway_vault_token": "{{ lookup('env', 'NO_SUCH_TOKEN') }}",
        }

    def write(self, text: str, **hosts: str) -> None:
        (self.inventory / "hosts.yml").write_text("gateways: {hosts: {gw1.invalid: , gw2.invalid: , gw3.invalid: }}\n")
        (self.inventory / "group_vars" / "all.yml").write_text(json.dumps(self.variables))
        (self.inventory / "group_vars" / "gateways.yml").write_text(text)
        for host, own in hosts.items():
            (self.inventory / "host_vars" / f"{host}.invalid.yml").write_text(own)

    def validate(self, *arguments: str, envoy: bool = True, playbook: str = "validate") -> Ran:
        path = f"{BIN}:/usr/bin:/bin" if envoy else "/usr/bin:/bin"
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "VAULT_", "BAO_"))},
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
            "ANSIBLE_NOCOLOR": "1",
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "PATH": path,
        }
        done = subprocess.run(
            [str(BIN / "ansible-playbook"), f"gatewayops.openai.{playbook}", "-i", str(self.inventory), *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not self._asked.exists(), "a host was asked"
        with pytest.raises(BlockingIOError):
            self._store.accept()
        assert "Traceback" not in done.stdout
        return Ran(done.returncode, done.stdout)

    def close(self) -> None:
        self._store.close()


@pytest.fixture
def controller(tmp_path: Path) -> Any:
    """A controller without any gateway."""
    made = Controller(tmp_path)
    yield made
    made.close()


def everything() -> str:
    """The example that has every key, with certificates and CAs on hosts that are not there."""
    return (ROOT / "docs" / "examples" / "gateway.yml").read_text()


def test_every_key_is_validated_with_envoy_and_without(controller: Controller) -> None:
    controller.write(everything())
    ran = controller.validate("-e", '{"gateway_policies": {"provider_region": "warn"}}')
    assert ran.status == 0, ran.output
    assert "on 3 hosts; Envoy 1.40.0 accepts it\n" in ran.output
    without = controller.validate("-e", '{"gateway_provider_regions": []}', envoy=False)
    assert without.status == 0, without.output
    assert "; Envoy was not asked: no Envoy 1.40.0 was found on this machine\n" in without.output


def test_what_is_wrong_is_told_to_people_and_programs(controller: Controller) -> None:
    raw = yaml.safe_load((ROOT / "inventories" / "shared" / "gateway.yml").read_text())["gateway_shared"]
    raw["gateway_listeners"] = {"local": {"address": "127.0.0.1", "port": 8080}}
    raw["gateway_consumers"] = {"search": {"api_keys": ["vault://nowhere/x#y"], "models": ["gpt-5"]}}
    text = yaml.safe_dump(raw) + RULES
    controller.write(text, gw2="gateway_release_keep: 1\ngateway_size: '{{ nosuch }}'\n", gw3="\ngateway_size: large\n")
    ran = controller.validate("-e", "gateway_validate_sarif=x.sarif", "-e", "gateway_validate_junit=x.xml", "-v")
    assert ran.status == 2, ran.output
    lines = ran.output.splitlines()
    assert "gw1.invalid, gw3.invalid:" in lines
    assert "gw2.invalid:" in lines
    assert "  error: gateway_size: 'nosuch' is undefined" in lines
    assert "    inventories/ci/host_vars/gw2.invalid.yml:2" in lines
    assert "with 3 specifications; Envoy 1.40.0 accepts 2 of 3" in ran.output

    document = json.loads((controller.folder / "x.sarif").read_text())
    log = Sarif.model_validate(document).runs[0]
    assert log.tool.driver.name == "gatewayops.openai.validate"
    found = {
        (each["ruleId"], place["artifactLocation"]["uri"], place["region"]["startLine"]): each["level"]
        for each in document["runs"][0]["results"]
        for place in (each["locations"][0]["physicalLocation"],)
    }
    group = "inventories/ci/group_vars/gateways.yml"
    at = {name: number for number, line in enumerate(text.splitlines(), 1) for name in [line.strip(" :")]}
    assert found == {
        ("models_have_fallbacks", group, at["gpt-5-mini"]): "error",
        ("models_have_fallbacks", group, at["text-embedding-3-small"]): "error",
        ("consumer_without_limit", group, at["search"]): "warning",
        ("valid-specification", "inventories/ci/host_vars/gw2.invalid.yml", 2): "error",
    }

    (suite,) = junitparser.JUnitXml.fromfile(str(controller.folder / "x.xml"))
    assert (suite.name, suite.failures, suite.errors) == ("ci", 2, 0)
    failed = {case.name for case in suite if any(isinstance(each, junitparser.Failure) for each in case.result)}
    assert failed == {"valid-specification", "models_have_fallbacks"}
    skipped = {case.name for case in suite if any(isinstance(each, junitparser.Skipped) for each in case.result)}
    assert skipped == {"provider_without_tls", "wildcard_models"}


def test_an_inventory_without_gateways_is_no_success(controller: Controller) -> None:
    controller.write("{}")
    (controller.inventory / "hosts.yml").write_text("gateway: {hosts: {gw1.invalid: }}\n")
    ran = controller.validate()
    assert ran.status == 2
    assert "There is no host in the group gateways, so there is nothing to validate." in ran.output
    drift = controller.validate(playbook="drift")
    assert drift.status == 2
    assert "No host is in the group gateways (and in that of the workspace)" in drift.output


def test_a_workspace_without_gateways_is_no_success(controller: Controller) -> None:
    controller.write("{}")
    hosts = "gateways: {hosts: {gw1.invalid: }}\nstaging: {hosts: {db1.invalid: }}\n"
    (controller.inventory / "hosts.yml").write_text(hosts)
    ran = controller.validate("-e", "gateway_workspace=staging")
    assert ran.status == 2
    assert "No host of the group staging is in the group gateways, so there is nothing to validate." in ran.output
    assert controller.validate("-e", "gateway_workspace=staging", playbook="drift").status == 2
