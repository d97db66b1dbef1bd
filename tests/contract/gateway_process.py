"""A whole gateway on this machine, for tests: a real Envoy on a compiled bundle, and servers that play the providers.

Everything lives in one folder and on loopback. Secrets are made up from their references: `secret_of` tells which.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle import Bundle, build_bundle
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.union import transition
from ansible_collections.gatewayops.openai.plugins.module_utils._host.envoy_command import envoy_command
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host, host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._release import admin, secrets
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Source, source_text

UPSTREAM = Path(__file__).resolve().parents[1] / "upstream" / "upstream.py"
FAULTY = UPSTREAM.with_name("faulty.py")
MESSAGES = UPSTREAM.with_name("messages.py")
INSTANCE = "blue"
READY_SECONDS = 20.0


def envoy_binary() -> str:
    """The real program: the one on PATH may be a Python script that becomes it."""
    script = shutil.which("envoy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    assert script, "there is no envoy on PATH: make env"
    library = Path(sys.prefix, "lib", "python%d.%d" % sys.version_info[:2], "site-packages", "envoy", "_bin", "envoy")
    return str(library if library.is_file() else script)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def secret_of(reference: str) -> str:
    """The value that tests give to a reference: `env://OPENAI` is `sk-openai`."""
    return "sk-" + reference.partition("://")[2].replace("/", "-").replace("_", "-").lower()


class Provider:
    """A server that plays a provider. `url` is its base URL."""

    def __init__(self, name: str, *arguments: str, scheme: str = "http", program: Path = UPSTREAM) -> None:
        command = [sys.executable, str(program), "--port", "0", "--name", name, *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.port = int(self._process.stdout.readline().split()[1])
        self.name = name
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    def control(self, **behaviour: object) -> None:
        self._call("/_control", json.dumps(behaviour).encode())

    def reset(self) -> None:
        self._call("/_reset", b"{}")

    def seen(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._call("/_seen"))
        return found

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        if self._process.stdout:
            self._process.stdout.close()

    def _call(self, path: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", body, timeout=5) as answer:
            content: bytes = answer.read()
            return content


@contextmanager
def providers(*names: str) -> Iterator[dict[str, Provider]]:
    """Providers that take the key `sk-<name>` only."""
    running = {name: Provider(name, "--api-key", f"sk-{name}") for name in names}
    try:
        yield running
    finally:
        for provider in running.values():
            provider.stop()


def host_below(folder: Path, **options: object) -> Host:
    """A host whose every path is below `folder`."""
    given: dict[str, object] = {
        "config_dir": str(folder / "config"),
        "runtime_dir": str(folder / "run"),
        "secrets_dir": str(folder / "secrets"),
        "log_dir": str(folder / "log"),
        "envoy": envoy_binary(),
        "user": "root",
    }
    return host_from_options({**given, **options})


class Gateway:
    """A running Envoy. Start it with `gateway()`, change its configuration with `switch`."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.host = host
        self.folder = folder
        self.log = folder / "envoy.log"
        self.socket = host.admin_socket(INSTANCE)
        self.access_log = Path(host.log_dir, "access.log")
        self._process: subprocess.Popen[bytes] | None = None
        self._active: Bundle | None = None
        self.returncode: int | None = None
        #: Of references whose value is none that `secret_of` would make.
        self.values: Mapping[str, str] = {}

    def start(self, raw: Mapping[str, Any]) -> None:
        spec, bundle = self._bundle(raw)
        for path in (self.host.config_dir, self.host.runtime_dir, self.host.log_dir, self.host.releases):
            Path(path).mkdir(parents=True, exist_ok=True)
        self.deliver(bundle)
        self.activate(bundle.digest, xds_of(bundle), bundle)
        command = envoy_command(spec, self.host, instance=INSTANCE, node=INSTANCE)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        why = admin.wait_accepted(self.socket, admin.expectation(xds_of(bundle)), {}, READY_SECONDS, self._process.pid)
        assert not why, (why, self.complaints())
        self._active = bundle

    def switch(self, raw: Mapping[str, Any]) -> list[str]:
        """Change to another spec by the steps that lose nothing; returns the names of the steps."""
        assert self._active
        _other, bundle = self._bundle(raw)
        self.deliver(bundle, keep_others=True)
        steps = transition(xds_of(self._active), xds_of(bundle))
        names = [f"{bundle.digest}.{number}" for number in range(1, len(steps))] + [bundle.digest] * bool(steps)
        for name, files in zip(names, steps, strict=True):
            before = admin.counters(admin.statistics(self.socket))
            self.activate(name, files, bundle)
            why = admin.wait_accepted(self.socket, admin.expectation(files), before, READY_SECONDS)
            assert not why, (name, why, self.complaints())
        self.deliver(bundle)
        self._active = bundle
        return names

    def deliver(
        self, bundle: Bundle, *, keep_others: bool = False, values: Mapping[str, str] | None = None
    ) -> tuple[str, ...]:
        """Write the secret files; `values` are those of references that differ from `secret_of`."""
        table = Values({**self.values, **(values or {})})
        files = {
            file.name: file.render({source: table.of(source) for source in file.references}) for file in bundle.secrets
        }
        return secrets.deliver(
            self.host.secrets_dir, files, None, keep_others=keep_others, check=False, allow_disk=True
        )

    def rotate(self, **values: str) -> None:
        """Deliver the secrets again, with other values for some environment variables."""
        assert self._active
        self.deliver(self._active, values={f"env://{name}": value for name, value in values.items()})

    @property
    def active(self) -> Bundle:
        """What is in force."""
        assert self._active
        return self._active

    @property
    def pid(self) -> int:
        """The process of Envoy."""
        assert self._process
        return self._process.pid

    def statistic(self, name: str) -> int | str | None:
        return admin.parse_statistics(admin.ask(self.socket, f"/stats?filter=^{name}$")).get(name)

    def logged(self, headers: Mapping[str, str]) -> dict[str, Any]:
        """The line of the access log about the answer with these headers; the log is flushed first."""
        end = time.monotonic() + 5
        while time.monotonic() < end:
            admin.ask(self.socket, "/reopen_logs", "POST")
            # The last line may be there in part.
            lines = map(json.loads, self.access_log.read_text().rpartition("\n")[0].splitlines())
            found: list[dict[str, Any]] = [line for line in lines if line["request_id"] == headers["x-request-id"]]
            if found:
                (line,) = found
                return line
            time.sleep(0.05)
        raise AssertionError(f"no line about {headers['x-request-id']}")

    def complaints(self) -> str:
        """What Envoy wrote to its log, at its end."""
        return self.log.read_text(errors="replace")[-4000:]

    def complains(self, text: str) -> bool:
        """Whether `text` comes to stand in Envoy's log, which is flushed first."""
        end = time.monotonic() + 5
        while text not in self.complaints() and time.monotonic() < end:
            admin.ask(self.socket, "/reopen_logs", "POST")
            time.sleep(0.05)
        return text in self.complaints()

    def stop(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGTERM)
            self.returncode = self._process.wait(20)

    def _bundle(self, raw: Mapping[str, Any]) -> tuple[Spec, Bundle]:
        spec = parse_spec(raw)
        return spec, build_bundle(spec, self.host)

    def activate(self, name: str, files: Mapping[str, bytes], bundle: Bundle) -> None:
        """Put files in force as they are, without waiting."""
        release = Path(self.host.releases, name)
        others = {file.path: file.content for file in bundle.files if "/bootstrap-" in file.path}
        for path, content in {**others, **files}.items():
            target = release / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        link = Path(self.host.config_dir, ".current.new")
        link.symlink_to(f"releases/{name}")
        link.rename(self.host.current)


class Values:
    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given

    def of(self, source: Source) -> str:
        text = source_text(source)
        return self._given.get(text) or secret_of(text)


def xds_of(bundle: Bundle) -> dict[str, bytes]:
    """The xDS files of a bundle."""
    return {
        file.path: file.content
        for file in bundle.files
        if file.path.startswith("envoy/") and not file.path.startswith("envoy/bootstrap-")
    }


@contextmanager
def gateway(folder: Path, raw: Mapping[str, Any], **options: object) -> Iterator[Gateway]:
    """A gateway of a spec, stopped in the end."""
    running = Gateway(folder, host_below(folder, **options))
    try:
        running.start(raw)
        yield running
    finally:
        running.stop()
