"""The secret store of the run, as its administrator sees it."""

from __future__ import annotations

import json
import subprocess
import sys

import openbao_setup
import scenario


class Store:
    """OpenBao on vault1."""

    def __init__(self) -> None:
        self.address = f"https://{scenario.addresses()['vault1']}:8200"
        self._api = openbao_setup.Client(self.address, scenario.CA_FILE)
        self._api.token = json.loads((scenario.DIRECTORY / "secrets" / "openbao.json").read_text())["root_token"]

    def put(self, path: str, **fields: str) -> None:
        self._api.call("POST", f"kv/data/{path}", {"data": fields})

    def fields(self, path: str) -> dict[str, str]:
        found: dict[str, str] = self._api.call("GET", f"kv/data/{path}")["data"]["data"]
        return found

    def make_token(self, name: str, policy: str) -> str:
        """A token that has the policy, and none of those that others have."""
        self._api.call("PUT", f"sys/policies/acl/{name}", {"policy": policy})
        made = self._api.call(
            "POST", "auth/token/create", {"policies": [name], "no_default_policy": True, "ttl": "30m"}
        )
        token: str = made["auth"]["client_token"]
        return token

    def unseal(self) -> None:
        """Wait for the server, which has just been started, and open it."""
        command = [sys.executable, openbao_setup.__file__, self.address, str(scenario.DIRECTORY / "secrets")]
        subprocess.run(command, check=True)
