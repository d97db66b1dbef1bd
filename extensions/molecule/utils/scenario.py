"""What the tests of a scenario share: the secrets and addresses of the run, and playbooks run as a user would."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
CA_FILE = DIRECTORY / "secrets" / "ca.pem"
SITE = "gatewayops.openai.site"
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
#: The variables of the gateways, of all scenarios.
SPEC_FILE = SCENARIO.parent / "default" / "group_vars" / "gateways.yml"


def addresses() -> dict[str, str]:
    """The address of each host on the test network."""
    found: dict[str, str] = json.loads((DIRECTORY / "addresses.json").read_text())
    return found


def stored(path: str, field: str) -> str:
    """A secret of this run as it is in the secret store at first."""
    value: str = json.loads((DIRECTORY / "secrets" / "kv.json").read_text())[path][field]
    return value


def needles() -> dict[str, str]:
    """What must not be found where no secret belongs: name -> text that gives the secret away, in its usual codings.

    Of a private key it is one line of its PEM form, which JSON and YAML leave as it is.
    """
    found: dict[str, str] = {}
    for path, fields in json.loads((DIRECTORY / "secrets" / "kv.json").read_text()).items():
        for field, value in fields.items():
            if field == "certificate":
                continue
            name = f"{path}#{field}"
            found[name] = value.splitlines()[1] if value.startswith("-----") else value
            found[f"{name} in base64"] = base64.b64encode(value.encode()).decode()
    openbao = json.loads((DIRECTORY / "secrets" / "openbao.json").read_text())
    return {**found, "secret_id of the AppRole": openbao["secret_id"], "root token": openbao["root_token"]}


def leaks(text: str) -> list[str]:
    """The names of the secrets that stand in a text."""
    return [name for name, value in needles().items() if value in text]


@dataclass(frozen=True)
class Played:
    """The end of an ansible-playbook: `output` is all that it printed."""

    rc: int
    output: str
    seconds: float

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """Host -> {ok, changed, failed, ...}."""
        hosts = {}
        for line in self.output.partition("PLAY RECAP")[2].splitlines()[1:]:
            host, separator, counts = line.partition(" : ")
            if separator:
                hosts[host.strip()] = {name: int(n) for name, n in (part.split("=") for part in counts.split())}
        return hosts


def start(playbook: str, *options: str, variables: Mapping[str, Any] | None = None) -> subprocess.Popen[str]:
    """Start ansible-playbook with the scenario's inventory. `variables` go through a file, as none belongs in `ps`."""
    command = ["ansible-playbook", "--inventory", str(DIRECTORY / "inventory"), *options]
    if variables:
        overrides = DIRECTORY / "overrides.json"
        overrides.write_text(json.dumps(variables))
        command += ["--extra-vars", f"@{overrides}"]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(DIRECTORY / "ansible.cfg"),
        "NO_COLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
    }
    return subprocess.Popen(
        [*command, playbook], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen[str], *, began: float) -> Played:
    """Wait for a playbook, and refuse every output that holds a secret: a check that each of the tests makes."""
    try:
        output = process.communicate(timeout=240)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    found = leaks(output)
    assert not found, f"ansible-playbook printed {', '.join(found)}"
    return Played(process.returncode, output, time.monotonic() - began)


def play(playbook: str, *options: str, variables: Mapping[str, Any] | None = None) -> Played:
    """Run a playbook to its end, whatever that is."""
    began = time.monotonic()
    return finish(start(playbook, *options, variables=variables), began=began)


class Site:
    """Runs of the playbook `site` on one host, with changed variables that `restore` takes back."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._changed = False

    def __call__(self, *options: str, **variables: Any) -> Played:
        return play(SITE, "--limit", self._host, *options, variables=variables)

    def changes(self, *options: str, **variables: Any) -> dict[str, int]:
        """Run it and see that it went well: what the recap says of the host."""
        self._changed = self._changed or "--check" not in options
        played = self(*options, **variables)
        assert played.rc == 0, played.output
        return played.recap[self._host]

    def refused(self, *options: str, **variables: Any) -> str:
        """Run it and see that it failed as for a user, without a traceback: the output, in one line."""
        played = self(*options, **variables)
        assert played.rc == 2, played.output
        assert "Traceback" not in played.output, played.output
        return " ".join(played.output.split())

    def restore(self) -> None:
        if self._changed:
            self.changes()
