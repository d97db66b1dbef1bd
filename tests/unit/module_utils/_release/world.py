# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway host that is made of files: a service manager and processes that behave as the real ones were seen to.

Everything lives in one directory, so that it outlasts a run that is killed. Processes read the files of a release when
something is renamed into the directory that they watch, as Envoy does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle import Bundle, build_bundle
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import INSTANCES, Host, host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._release import admin
from ansible_collections.gatewayops.openai.plugins.module_utils._release.layout import Layout
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Ops
from ansible_collections.gatewayops.openai.plugins.module_utils._release.plan import Request
from ansible_collections.gatewayops.openai.plugins.module_utils._release.run import run_on
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import (
    DRAINING,
    RUNNING,
    STOPPED,
    Instance,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._release.site import Site
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

#: A port that cannot be bound in this world, though nobody sees it before.
TAKEN_PORT = 6666
#: Models that Envoy takes neither when it validates a release, or only then.
UNWANTED = "unwanted-by-envoy"
REFUSED_MODEL = "refused-by-envoy"
BUILD = "0" * 40 + "/1.40.0/Clean/RELEASE/BoringSSL"


def spec(*models: str, port: int = 8443, size: str = "small", **more: Any) -> dict[str, Any]:
    """A small spec, whose models have clusters of their own."""

    def model(name: str) -> dict[str, Any]:
        other = {"provider": "p", "model": f"{name}-other"}
        return {"targets": [{"provider": "p", "model": name}], "fallbacks": [other]}

    return {
        "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
        "gateway_providers": {"p": {"type": "openai_compatible", "base_url": "http://127.0.0.1:1/v1"}},
        "gateway_models": {name: model(name) for name in models},
        "gateway_consumers": {"alice": {"api_keys": ["vault://kv/alice#key"], "models": ["*"]}},
        "gateway_size": size,
        **more,
    }


class World:
    """The host. Its directory holds `etc`, `run`, `log`, `root` and `world.json`."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.options = options
        self.layout = Layout(self.host, directory / "root")
        self._state = directory / "world.json"
        if not self._state.exists():
            (directory / "root").mkdir(parents=True)
            self.save({name: {"state": STOPPED, "at_boot": False, "log": ""} for name in INSTANCES})

    @property
    def host(self) -> Host:
        """The host's options: systemd, so that releases have files on the system."""
        return host_from_options(
            {
                "config_dir": str(self.directory / "etc"),
                "runtime_dir": str(self.directory / "run"),
                "secrets_dir": str(self.directory / "run" / "secrets"),
                "log_dir": str(self.directory / "log"),
                "state_dir": str(self.directory / "state"),
                "envoy": "/opt/envoy/envoy",
                **self.options,
            }
        )

    def bundle(self, raw: Mapping[str, Any]) -> Bundle:
        """The bundle of a spec for this host."""
        return build_bundle(parse_spec(raw), self.host)

    def request(self, raw: Mapping[str, Any], **more: Any) -> Request:
        """What the action asks for."""
        bundle = self.bundle(raw)
        sources = dict.fromkeys(source for file in bundle.secrets for source in file.references)
        keys = {source: f"sk-1{number or ''}" for number, source in enumerate(sources)}
        secrets = {file.name: file.render(keys) for file in bundle.secrets}
        options: dict[str, Any] = {
            "digest": bundle.digest,
            "files": bundle.files,
            "secrets": secrets,
            "prune_wait": 0.0,
        }
        return Request(**{**options, "drain_wait": 5.0, **more})

    def site(self, ops: Ops | None = None) -> Site:
        """The site that a run works on."""
        ops = ops or WorldOps(self)
        return Site(self.layout, ops, Manager(self, ops), Live(self), Envoy(), HostKey(ops))

    def run(self, request: Request, state: str = "active", *, check: bool = False, ops: Ops | None = None) -> Any:
        """One run."""
        return run_on(self.site(ops), state, request, check=check)

    def load(self) -> dict[str, dict[str, Any]]:
        """The instances."""
        found: dict[str, dict[str, Any]] = json.loads(self._state.read_text())
        return found

    def save(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Remember the instances, in one step."""
        temporary = self._state.with_name("world.new")
        temporary.write_text(json.dumps(state))
        temporary.replace(self._state)

    def change(self, name: str, **values: Any) -> None:
        """Change an instance."""
        state = self.load()
        state[name].update(values)
        self.save(state)

    def states(self) -> dict[str, str]:
        """The state of each instance."""
        return {name: values["state"] for name, values in self.load().items()}

    def serving(self) -> dict[str, str]:
        """The instances that take new requests, each with the version of the routes that it serves."""
        return {
            name: values["versions"]["listener_manager.lds"]
            for name, values in self.load().items()
            if values["state"] == RUNNING and "listener_manager.lds" in values["versions"]
        }

    def read(self) -> None:
        """Every process reads the files of the release that `current` leads to: something was renamed beside it."""
        state = self.load()
        for values in state.values():
            if values["state"] in (RUNNING, DRAINING):
                self._read_one(values)
        self.save(state)

    def start(self, name: str) -> None:
        """A process starts with what `current` leads to."""
        state = self.load()
        record = admin.process_digest(admin.hashes(self.host.current))
        state[name].update(state=RUNNING, pid=100 + INSTANCES.index(name), record=record, versions={}, counters={})
        self._read_one(state[name])
        self.save(state)

    def _read_one(self, values: dict[str, Any]) -> None:
        try:
            files = admin.xds_files(self.host.current)
        except OSError:
            return
        if not files:
            return
        refused = {
            "listener_manager.lds": f'"port_value":{TAKEN_PORT}'.encode() in files["envoy/lds.json"],
            "http.gateway.rds.gateway": REFUSED_MODEL.encode() in files["envoy/rds-gateway.json"],
        }
        for subscription, version in admin.expectation(files).items():
            counter = subscription + ".update_rejected"
            values["counters"].setdefault(counter, 0)
            if refused.get(subscription):
                values["counters"][counter] += 1
                values["log"] += f"[2026-01-01 00:00:00.000][1][warning][config] [x.cc:1] {subscription} is not good\n"
            else:
                values["versions"][subscription] = version


class WorldOps(Ops):
    """Operations, of which a rename into the directory that is watched is noticed."""

    def __init__(self, world: World, before: Callable[[str, str], None] = lambda verb, path: None) -> None:
        super().__init__(before)
        self._world = world

    def rename(self, source: Path, target: Path) -> None:
        """Also tell the processes."""
        super().rename(source, target)
        if target.parent == self._world.layout.config:
            self._world.read()

    def run(self, argv: Any, timeout: float = 60.0) -> str:
        """Commands are only noted."""
        self.before("run", " ".join(argv))
        return ""


class HostKey:
    """What encrypts with the key of the host: nothing of the content can be seen, and another key finds nothing."""

    def __init__(self, ops: Ops, key: str = "this host", why: str = "") -> None:
        self._ops = ops
        self._key = key
        self._why = why

    def problem(self) -> str:
        return self._why

    def encrypt(self, name: str, content: bytes) -> bytes:
        self._ops.before("run", "encrypt")
        return json.dumps([self._key, name, content.hex()]).encode()

    def decrypt(self, name: str, text: bytes) -> bytes:
        try:
            key, sealed_name, content = json.loads(text)
        except ValueError:
            raise ReleaseError("it is damaged") from None
        if (key, sealed_name) != (self._key, name):
            raise ReleaseError("it is of another host")
        return bytes.fromhex(content)


class Manager:
    """The service manager."""

    def __init__(self, world: World, ops: Ops) -> None:
        self._world = world
        self._ops = ops

    def instances(self) -> Mapping[str, Instance]:
        """A process that drains is gone when one looks again."""
        state = self._world.load()
        found = {
            name: Instance(name, values["state"], values.get("pid", 0), values["at_boot"])
            for name, values in state.items()
        }
        for name, values in state.items():
            if values["state"] == DRAINING and not values.get("stays"):
                self._world.change(name, state=STOPPED, pid=0)
        return found

    def is_stale(self) -> bool:
        return self._unit() != self._known()

    def reload(self) -> None:
        self._ops.before("manager", "reload")
        (self._world.directory / "known").write_text(self._unit())

    def start(self, name: str) -> None:
        self._ops.before("manager", f"start {name}")
        self._world.start(name)

    def drain(self, name: str) -> None:
        self._ops.before("manager", f"drain {name}")
        self._world.change(name, state=DRAINING)

    def choose(self, name: str) -> None:
        for each in INSTANCES:
            self._ops.before("manager", f"choose {each}")
            self._world.change(each, at_boot=each == name)

    def mark(self, name: str) -> str:
        return str(len(self._world.load()[name]["log"]))

    def log_since(self, name: str, mark: str) -> str:
        return str(self._world.load()[name]["log"][int(mark) :])

    def remove(self) -> None:
        self._ops.before("manager", "remove")
        for name in INSTANCES:
            self._world.change(name, at_boot=False)

    def _unit(self) -> str:
        path = self._world.layout.outside("host/etc/systemd/system/openai-gateway@.service")
        return path.read_text() if path.exists() else ""

    def _known(self) -> str:
        path = self._world.directory / "known"
        return path.read_text() if path.exists() else ""


class Live:
    """The processes."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _statistics(self, name: str) -> dict[str, Any]:
        values = self._world.load()[name]
        texts = {key + ".version_text": value for key, value in values.get("versions", {}).items()}
        return {**texts, **values.get("counters", {}), "listener_manager.workers_started": 1}

    def started_with(self, name: str) -> str:
        return str(self._world.load()[name].get("record", ""))

    def build(self, name: str) -> str:
        return str(self._world.load()[name].get("build", BUILD))

    def counters(self, name: str) -> Mapping[str, int]:
        return admin.counters(self._statistics(name))

    def missing(self, name: str, expected: Mapping[str, str]) -> tuple[str, ...]:
        now = self._statistics(name)
        return admin.missing(now, expected, admin.counters(now))

    def wait(
        self, name: str, expected: Mapping[str, str], before: Mapping[str, int], seconds: float, pid: int = 0
    ) -> tuple[str, ...]:
        return admin.missing(self._statistics(name), expected, before)

    def wait_read(
        self, name: str, expected: Mapping[str, str], before: Mapping[str, int], seconds: float
    ) -> tuple[str, ...]:
        return ("sds.x.update_rejected is 1",) if self._world.load()[name].get("refuses_secrets") else ()

    def unread(self, name: str, expected: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(key for key in expected if key in self._world.load()[name].get("deaf_to", ()))

    def retire(self, name: str) -> None:
        assert self._world.load()[name]["state"] == DRAINING, "nobody must take it for one that serves"

    def wait_idle(self, name: str, clusters: frozenset[str], seconds: float) -> tuple[str, ...]:
        return tuple(clusters) if self._world.load()[name].get("busy") else ()

    def metrics_problem(self, files: Mapping[str, bytes]) -> str:
        return str(self._world.load()[INSTANCES[0]].get("metrics", ""))

    def accepted(self, name: str) -> dict[str, str]:
        return dict(self._world.load()[name]["versions"])

    def clusters(self, name: str) -> list[dict[str, Any]]:
        return []


class Envoy:
    """The binary."""

    def build(self) -> str:
        return BUILD

    def version(self) -> str:
        return "1.40.0"

    def validate(self, files: Mapping[str, bytes]) -> None:
        if any(UNWANTED.encode() in content for content in files.values()):
            raise ReleaseError(f"Envoy 1.40.0 refuses this release, nothing was switched: {UNWANTED}")


def snapshot(directory: Path) -> dict[str, tuple[Any, ...] | None]:
    """Everything below a directory: type, mode, owner, time of the last change, and content."""
    found: dict[str, tuple[Any, ...] | None] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_ino, content)
    return found
