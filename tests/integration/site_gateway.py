"""A whole gateway on this machine for tests of the playbooks: OpenBao, two providers, an inventory of its own."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from integration import openbao

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
CANARY = "canary"
POLICY = 'path "kv/data/*" { capabilities = ["read"] }'


@dataclass
class Ran:
    """A playbook that ran: its exit code and everything it printed."""

    status: int
    output: str

    @property
    def recap(self) -> dict[str, int]:
        """The counts of the one host."""
        found = re.findall(r"^gw1\s+: (.*)$", self.output, re.MULTILINE)
        assert len(found) == 1, self.output
        return {name: int(count) for name, count in (pair.split("=") for pair in found[0].split())}

    @property
    def plan(self) -> list[str]:
        """The lines of the plan that `--diff` shows."""
        lines = self.output.splitlines()
        ends = [number for number, line in enumerate(lines) if line.startswith("Plan: ")]
        begin = end = ends[0] if ends else 0
        while begin and lines[begin - 1].startswith("  "):
            begin -= 1
        return lines[begin : end + 1]


@dataclass
class Provider:
    """A provider on a port of its own."""

    name: str
    port: int
    process: subprocess.Popen[str]


@dataclass
class Gateway:
    """A gateway under supervisor, and what it takes to change it and to ask it."""

    directory: Path
    bao: openbao.OpenBao
    port: int
    providers: dict[str, Provider]
    variables: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def secrets(self) -> Path:
        return Path(str(self.variables["gateway_secrets_dir"]))

    @property
    def log(self) -> Path:
        """Everything that Ansible logged."""
        return self.directory / "ansible.log"

    def play(self, name: str, *arguments: str, **environment: str) -> Ran:
        """Run a playbook of the collection, with the variables as they are now."""
        self.write_variables()
        return self.ansible("ansible-playbook", f"gatewayops.openai.{name}", *arguments, **environment)

    def write_variables(self) -> None:
        """Have Ansible see the variables as they are now."""
        (self.directory / "inventory" / "group_vars" / "gateways.yml").write_text(json.dumps(self.variables))

    @property
    def surroundings(self) -> dict[str, str]:
        """The environment that Ansible runs in."""
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("VAULT_", "BAO_", "ANSIBLE_"))
        }
        return {
            **inherited,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
            "ANSIBLE_HOME": str(self.directory / "home"),
            "ANSIBLE_LOG_PATH": str(self.log),
            "ANSIBLE_NOCOLOR": "1",
            **self.environment,
        }

    def ansible(self, program: str, *arguments: str, **environment: str) -> Ran:
        done = subprocess.run(
            [str(BIN / program), "-i", str(self.directory / "inventory"), *arguments],
            cwd=self.directory,
            env={**self.surroundings, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Ran(done.returncode, done.stdout)

    @property
    def release(self) -> str:
        """The name of the active release."""
        return (self.root / "config" / "current").resolve().name.split(".")[0]

    def snapshot(self) -> dict[str, bytes]:
        """Every file of the releases and what is beside them, but for the lock, which names the last run."""
        files = (path for path in sorted((self.root / "config").rglob("*")) if path.is_file() and path.name != ".lock")
        return {str(path): path.read_bytes() for path in files}


@contextmanager
def restored(gateway: Gateway) -> Iterator[Gateway]:
    """The gateway; what is changed in its variables meanwhile is taken back, and applied by who needs it."""
    variables = copy.deepcopy(gateway.variables)
    yield gateway
    gateway.variables.clear()
    gateway.variables.update(variables)


def real_envoy() -> Path:
    """Envoy itself, not the script that starts it."""
    spec = find_spec("envoy")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "_bin" / "envoy"


@contextmanager
def a_provider(name: str) -> Iterator[Provider]:
    """It admits its key and the one that comes after that."""
    command = [sys.executable, str(ROOT / "tests" / "upstream" / "upstream.py"), "--port", "0", "--name", name]
    for key in (f"sk-{CANARY}-{name}", f"sk-{CANARY}-{name}-next"):
        command += ["--api-key", key]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield Provider(name, int(process.stdout.readline().removeprefix("PORT ")), process)
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def a_gateway() -> Iterator[Gateway]:
    """Everything but the gateway's own process, which a playbook starts. That one is ended afterwards too."""
    # Not pytest's directory: the paths of unix sockets are limited to 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="gw-"))
    secrets = Path(tempfile.mkdtemp(prefix="gw-", dir="/dev/shm"))
    server = openbao.start(directory / "openbao")
    try:
        with a_provider("a") as first, a_provider("b") as second:
            for provider in (first, second):
                server.put(f"kv/providers/{provider.name}", api_key=f"sk-{CANARY}-{provider.name}")
            server.put("kv/consumers/search", current=f"sk-{CANARY}-search", previous=f"sk-{CANARY}-search-old")
            server.put("kv/consumers/batch", current=f"sk-{CANARY}-batch")
            inventory = directory / "inventory"
            (inventory / "group_vars").mkdir(parents=True)
            (inventory / "hosts.yml").write_text("gateways: {hosts: {gw1: }}\n")
            port = openbao.free_port()
            variables = _variables(directory, secrets, server, port, first, second)
            gateway = Gateway(directory, server, port, {"a": first, "b": second}, variables)
            try:
                yield gateway
            finally:
                end_processes(directory)
    finally:
        server.stop()
        shutil.rmtree(directory)
        shutil.rmtree(secrets)


def _variables(
    directory: Path, secrets: Path, bao: openbao.OpenBao, port: int, first: Provider, second: Provider
) -> dict[str, Any]:
    role_id, secret_id = bao.approle("gateway", POLICY)
    return {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "envoy_method": "path",
        "envoy_path": str(real_envoy()),
        "gateway_service_manager": "supervisor",
        "gateway_root": str(directory / "root"),
        "gateway_secrets_dir": str(secrets / "secrets"),
        "gateway_supervisord": str(BIN / "supervisord"),
        "gateway_python": sys.executable,
        "gateway_vault_addr": bao.address,
        "gateway_vault_auth_method": "approle",
        "gateway_vault_role_id": role_id,
        "gateway_vault_secret_id": secret_id,
        "gateway_listeners": {"local": {"address": "127.0.0.1", "port": port}},
        "gateway_metrics": {"port": openbao.free_port()},
        "gateway_size": "small",
        "gateway_providers": {
            "a": {
                "type": "openai",
                "base_url": f"http://127.0.0.1:{first.port}/v1",
                "api_key": "vault://kv/providers/a#api_key",
            },
            "b": {
                "type": "openai_compatible",
                "base_url": f"http://127.0.0.1:{second.port}/v1",
                "api_key": "vault://kv/providers/b#api_key",
            },
        },
        "gateway_models": {
            "gpt-5": {
                "targets": [{"provider": "a", "model": "gpt-5"}],
                "fallbacks": [{"provider": "b", "model": "qwen3-32b"}],
            },
            "gpt-5-mini": {"targets": [{"provider": "a", "model": "gpt-5-mini"}]},
            "text-embedding-3-small": {"targets": [{"provider": "b", "model": "embed"}]},
        },
        "gateway_consumers": {
            "search": {
                "api_keys": ["vault://kv/consumers/search#current", "vault://kv/consumers/search#previous"],
                "models": ["gpt-5", "text-embedding-*"],
                "limits": {"requests_per_minute": 100000},
            },
            "batch": {
                "api_keys": ["vault://kv/consumers/batch#current"],
                "models": ["gpt-5-mini"],
                "limits": {"requests_per_minute": 100000},
            },
        },
    }


def end_processes(directory: Path) -> None:
    """End the gateway's processes: those whose command line or working directory is below the directory."""
    deadline = time.monotonic() + 20
    while pids := list(_pids(directory)):
        for pid in pids:
            _signal(pid, signal.SIGTERM if time.monotonic() < deadline - 10 else signal.SIGKILL)
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _pids(directory: Path) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str(directory).encode() in (entry / "cmdline").read_bytes():
                    yield int(entry.name)
            except OSError:
                continue


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
