"""A gateway under supervisor on this machine, changed by the code of `gateway_release`, and clients that never stop."""

from __future__ import annotations

import getpass
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from contract.gateway_process import Provider, Values, envoy_binary, free_port

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle import Bundle, build_bundle
from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import BundleFile
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import INSTANCES, Host, host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._release.info import info
from ansible_collections.gatewayops.openai.plugins.module_utils._release.plan import Request
from ansible_collections.gatewayops.openai.plugins.module_utils._release.run import run
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

MIGRATE = Path("/proc/sys/net/ipv4/tcp_migrate_req")
KEY = "sk-alice"


class Site:
    """One gateway. `spec` makes specs for it, `apply` has one served."""

    def __init__(self, folder: Path, secrets: Path, provider: Provider) -> None:
        self.folder = folder
        self.provider = provider
        self.port, self.metrics = free_port(), free_port()
        #: Of references whose value is none that `secret_of` would make.
        self.values: dict[str, str] = {}
        self.host: Host = host_from_options(
            {
                "service_manager": "supervisor",
                "supervisord": str(Path(sys.executable).with_name("supervisord")),
                "config_dir": str(folder / "config"),
                "runtime_dir": str(folder / "run"),
                "log_dir": str(folder / "log"),
                "secrets_dir": str(secrets),
                "envoy": envoy_binary(),
                "user": getpass.getuser(),
            }
        )

    def spec(self, *models: str, **more: Any) -> dict[str, Any]:
        """A spec that serves these models."""
        return {
            "gateway_listeners": {"public": {"address": "127.0.0.1", "port": self.port}},
            "gateway_metrics": {"port": self.metrics},
            "gateway_drain": {"health_wait": "0s"},
            "gateway_providers": {
                "p": {"type": "openai_compatible", "base_url": f"{self.provider.url}/v1", "api_key": "env://ALPHA"}
            },
            "gateway_models": {name: {"targets": [{"provider": "p", "model": name}]} for name in models},
            "gateway_consumers": {"alice": {"api_keys": ["env://ALICE"], "models": ["*"]}},
            "gateway_size": "small",
            **more,
        }

    def bundle(self, raw: Mapping[str, Any]) -> Bundle:
        return build_bundle(parse_spec(raw), self.host)

    def request(self, raw: Mapping[str, Any], **more: Any) -> Request:
        """What the action asks for."""
        bundle = self.bundle(raw)
        table = Values(self.values)
        secrets = {
            file.name: file.render({source: table.of(source) for source in file.references}) for file in bundle.secrets
        }
        return Request(**{"digest": bundle.digest, "files": bundle.files, "secrets": secrets, **more})

    def apply(self, raw: Mapping[str, Any], *, check: bool = False, **more: Any) -> dict[str, Any]:
        return run(self.host, "active", self.request(raw, **more), check=check)

    def back(self, *, check: bool = False) -> dict[str, Any]:
        return run(self.host, "active", Request(digest="previous"), check=check)

    def with_file(self, raw: Mapping[str, Any], path: str, change: Callable[[Any], None]) -> Request:
        """A request for a bundle of which one JSON file was changed by hand."""
        request = self.request(raw)
        files = []
        for file in request.files or ():
            content = json.loads(file.content) if file.path == path else None
            if content is not None:
                change(content)
            files.append(file if content is None else BundleFile(path, json.dumps(content).encode(), file.mode))
        return Request(digest="", files=tuple(files), secrets=request.secrets)

    def info(self) -> dict[str, Any]:
        return info(self.host)

    def process(self) -> tuple[str, int]:
        """The instance that serves and its process."""
        service = self.info()["service"]
        return service["instance"], service["pid"]

    def settle(self) -> None:
        """Wait until nothing drains in the background."""
        end = time.monotonic() + 30
        while "draining" in self.info()["service"]["instances"].values():
            assert time.monotonic() < end, "it does not end"
            time.sleep(0.1)

    @property
    def active(self) -> str:
        return Path(self.host.current).resolve().name

    def leftovers(self) -> list[str]:
        """What a run must not leave behind."""
        known = {"history.json", "active", *self.info()["releases"]}
        inner = {path.name for path in Path(self.host.releases).iterdir()} - known
        outer = {path.name for path in Path(self.host.config_dir).iterdir()} - {".lock", "current", "releases"}
        return sorted(inner | outer)

    def snapshot(self) -> dict[str, Any]:
        """Everything that is managed, but for the lock: type, mode, time of the last change, inode, content."""
        found: dict[str, Any] = {}
        for top in (self.host.config_dir, self.host.runtime_dir, self.host.secrets_dir):
            for path in [Path(top), *sorted(Path(top).rglob("*"))]:
                if path.name == ".lock" or not os.path.lexists(path):
                    continue
                status = path.lstat()
                content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
                found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_ino, content)
        return found

    def ask(self, model: str, **more: Any) -> int:
        """The status of one request on a connection of its own; `more` goes into its body."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            return _ask(client, model, **more)[0]
        finally:
            client.close()

    @contextmanager
    def slow_request(self, seconds: float) -> Iterator[None]:
        """A request that is answered after some time, well, after the block at the earliest."""
        statuses: list[int] = []
        thread = threading.Thread(target=lambda: statuses.append(self.ask("a", x_first_byte_delay=seconds)))
        thread.start()
        time.sleep(0.3)
        yield
        assert not statuses, "the block took longer"
        thread.join()
        assert statuses == [200]

    def kill(self) -> None:
        """Stop everything at once."""
        for pid in (self._supervisord(), *(self._pid(name) for name in INSTANCES)):
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _supervisord(self) -> int:
        with suppress(OSError, ValueError):
            return int(Path(self.host.runtime_dir, "supervisord.pid").read_text())
        return 0

    def kill_supervisord(self) -> None:
        os.kill(self._supervisord(), signal.SIGKILL)

    def _pid(self, name: str) -> int:
        """The `run-envoy` of an instance, told by its command line."""
        wanted = self.host.admin_socket(name).encode()
        for process in Path("/proc").iterdir():
            with suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0") if process.name.isdigit() else []
                if wanted in words and any(word.endswith(b"/run-envoy") for word in words):
                    return int(process.name)
        return 0

    def envoy_pid(self, name: str) -> int:
        """Envoy itself."""
        (pid,) = Path(f"/proc/{self._pid(name)}/task/{self._pid(name)}/children").read_text().split()
        return int(pid)


def _ask(client: http.client.HTTPConnection, model: str, **more: Any) -> tuple[int, bytes, bool]:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    client.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = client.getresponse()
    content = answer.read()
    return answer.status, content, answer.will_close


class Load:
    """Clients with kept connections, with new ones, and with streams, until the block is left."""

    def __init__(self, site: Site, model: str) -> None:
        self._site = site
        self._model = model
        self._over = threading.Event()
        self.failures: list[str] = []
        self.answered = 0
        self.streamed = 0

    def __enter__(self) -> Load:
        kinds = [self._kept, self._kept, self._new, self._new, self._stream]
        self._threads = [threading.Thread(target=kind) for kind in kinds]
        for thread in self._threads:
            thread.start()
        time.sleep(0.3)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.3)
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._site.port, timeout=30)

    def _kept(self) -> None:
        client = self._connect()
        while not self._over.wait(0.01):
            if self._once(client):
                client.close()
                client = self._connect()
        client.close()

    def _new(self) -> None:
        while not self._over.wait(0.01):
            client = self._connect()
            self._once(client)
            client.close()

    def _stream(self) -> None:
        while not self._over.wait(0.01):
            client = self._connect()
            self._once(client, stream=True)
            client.close()

    def _once(self, client: http.client.HTTPConnection, *, stream: bool = False) -> bool:
        """One request; whether the connection is of no more use."""
        try:
            more = {"stream": True, "x_chunks": 15, "x_delay": 0.1} if stream else {}
            status, content, closes = _ask(client, self._model, **more)
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(f"{time.time():.3f} {type(error).__name__} {error}")
            return True
        if status != 200 or (stream and b"[DONE]" not in content):
            self.failures.append(f"{time.time():.3f} {status} {content[-200:]!r}")
        elif stream:
            self.streamed += 1
        else:
            self.answered += 1
        return closes


@contextmanager
def site() -> Iterator[Site]:
    """A host without a gateway; in the end nothing runs there and nothing is left."""
    # Short: the path of a Unix socket has at most 107 bytes.
    folder, secrets = Path(tempfile.mkdtemp(prefix="gw-")), Path(tempfile.mkdtemp(prefix="gw-", dir="/dev/shm"))
    provider = Provider("p", "--api-key", "sk-alpha")
    made = Site(folder, secrets / "secrets", provider)
    try:
        yield made
    finally:
        made.kill()
        provider.stop()
        shutil.rmtree(folder)
        shutil.rmtree(secrets)


@contextmanager
def migrating_requests() -> Iterator[None]:
    """The kernel setting of a gateway, which a release makes under systemd only, see `_host/systemd.py`."""
    before = MIGRATE.read_text()
    try:
        with suppress(OSError):
            MIGRATE.write_text("1")
        yield
    finally:
        with suppress(OSError):
            MIGRATE.write_text(before)


@contextmanager
def occupied(port: int) -> Iterator[int]:
    """A port that another process listens at; its pid."""
    program = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print(1, flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.communicate("\n")
