"""Bring a new OpenBao to the state that the tests need: openbao_setup.py ADDRESS DIRECTORY

DIRECTORY is that of make_secrets.py. Initializes and unseals the server, makes a kv version 2 engine at kv/ with the
contents of kv.json, and an AppRole for the controller that may read it. Writes openbao.json (0600):
{root_token, unseal_key, role_id, secret_id}. A server that is initialized already is only unsealed.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

POLICY = 'path "kv/data/*" { capabilities = ["read"] }'


class Client:
    """The few calls of the API that are needed here."""

    def __init__(self, address: str, ca_file: Path) -> None:
        self.address = address
        self.context = ssl.create_default_context(cafile=str(ca_file))
        self.token = ""

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"X-Vault-Token": self.token} if self.token else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/v1/{path}", data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10, context=self.context) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            sys.exit(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}")
        result: dict[str, Any] = json.loads(text) if text else {}
        return result

    def wait(self, path: str, *, seconds: float) -> None:
        """Until the server answers 200 there."""
        end = time.monotonic() + seconds
        headers = {"X-Vault-Token": self.token} if self.token else {}
        request = urllib.request.Request(f"{self.address}/v1/{path}", headers=headers)
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10, context=self.context):
                    return
            except OSError as error:  # HTTPError is one
                if time.monotonic() > end:
                    sys.exit(f"{self.address}/v1/{path}: {error}")
                time.sleep(0.1)


def main() -> None:
    os.umask(0o077)
    address, directory = sys.argv[1], Path(sys.argv[2])
    state = directory / "openbao.json"
    bao = Client(address, directory / "ca.pem")
    bao.wait("sys/seal-status", seconds=30)
    if bao.call("GET", "sys/seal-status")["initialized"]:
        bao.call("PUT", "sys/unseal", {"key": json.loads(state.read_text())["unseal_key"]})
        bao.wait("sys/health", seconds=30)
        return
    made = bao.call("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
    result = {"root_token": made["root_token"], "unseal_key": made["keys_base64"][0]}
    state.write_text(json.dumps(result))
    bao.call("PUT", "sys/unseal", {"key": result["unseal_key"]})
    bao.wait("sys/health", seconds=30)  # 200 once it is unsealed and leads
    bao.token = result["root_token"]
    bao.call("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}})
    bao.wait("kv/config", seconds=30)  # it sets itself up, and refuses requests until then
    for path, fields in json.loads((directory / "kv.json").read_text()).items():
        bao.call("POST", f"kv/data/{path}", {"data": fields})
    bao.call("PUT", "sys/policies/acl/gateway-controller", {"policy": POLICY})
    bao.call("POST", "sys/auth/approle", {"type": "approle"})
    role = "auth/approle/role/gateway-controller"
    bao.call("POST", role, {"token_policies": "gateway-controller", "token_ttl": "10m", "token_max_ttl": "30m"})
    result["role_id"] = bao.call("GET", f"{role}/role-id")["data"]["role_id"]
    result["secret_id"] = bao.call("POST", f"{role}/secret-id")["data"]["secret_id"]
    state.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
