# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talk to a running Envoy over its admin socket: has it accepted a release, is it idle, drain it.

The modules use these functions on the gateway host, and the very same file is `libexec/gateway-admin` of every
release, which the service manager runs with `python3 -I`. So it imports the standard library only.

    gateway-admin SOCKET ready SECONDS CURRENT   wait until the release in CURRENT is accepted; 1 and the reason if not
    gateway-admin SOCKET stop WAIT SECONDS       fail health checks and serve on for WAIT seconds, unless the other
                                                 instance goes on serving; then drain
    gateway-admin SOCKET drain SECONDS           take no new connections, wait for those that are open
    gateway-admin SOCKET reopen-logs             open the log files again, after they were moved away
    gateway-admin SOCKET fail | ok               answer health checks with 503 (to leave a load balancer), or 200 again
    gateway-admin FILE record CURRENT            note in FILE which release a process is about to start with
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import re
import socket
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Union

#: Seconds that the workers take to follow the main thread, which is the one that reports acceptance.
SETTLE = 0.2
#: Seconds of draining that a process is granted that never became ready.
BRIEF = 15.0
#: The statistics prefix of the listeners that clients use.
GATEWAY = "gateway"

_OTHER = {"blue.sock": "green.sock", "green.sock": "blue.sock"}

#: What runs before the gateway starts, and is no part of its process.
_BEFORE_IT = ("libexec/restore-secrets", "host/etc/systemd/system/openai-gateway-secrets.service")

_COUNTERS = ("update_rejected", "update_failure")
# A listener or cluster that drains still looks for the file of its certificate or CAs, or of its filters for tokens,
# when a release has pruned it. What else a missing file means shows: who needs one stays warming.
_PRUNED = re.compile(
    r"(sds\.(listener|clients|identity|authorities)-.*|extension_config_discovery\.http_filter\.jwt_(issuers|consumers))"
    r"\.update_failure"
)
_IN_FLIGHT = ("rq_active", "rq_pending_active")
_MANAGERS = (
    "cluster_manager.warming_clusters",
    "listener_manager.total_listeners_warming",
    "listener_manager.listener_create_failure",
    "listener_manager.workers_started",
)
_FILTER = (
    r"^(listener_manager\.lds|cluster_manager\.cds|http\..*\.rds\..*|extension_config_discovery\..*|sds\..*)"
    r"\.(version_text|update_rejected|update_failure)$|^(" + "|".join(map(re.escape, _MANAGERS)) + ")$"
)

Statistics = Mapping[str, Union[int, str]]


class AdminError(Exception):
    """The admin socket does not answer, or not as Envoy does."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("admin", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(path: str, query: str, method: str = "GET", timeout: float = 5.0) -> str:
    """The answer of the admin socket at `path` to `query`. Raises AdminError, also for a status other than 200."""
    connection = _UnixConnection(path, timeout)
    try:
        connection.request(method, query)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise AdminError(f"{path} does not answer: {error or type(error).__name__}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise AdminError(f"{path} answers {method} {query} with {answer.status}: {text.strip()[:200]}")
    return text


#: What Envoy reports once it runs a set of files: the version of each subscription.
Expectation = Mapping[str, str]


def xds_files(directory: str) -> dict[str, bytes]:
    """The xDS files of a release's directory: `envoy/<name>.json` -> content, without the bootstraps."""
    return {
        "envoy/" + path.name: path.read_bytes()
        for path in sorted(Path(directory, "envoy").glob("*.json"))
        if not path.name.startswith("bootstrap-")
    }


def expectation(files: Mapping[str, bytes]) -> Expectation:
    """What to expect of `files` (`envoy/…` -> content). Raises ValueError when they are no xDS files.

    Only what the files themselves deliver is expected: a filter whose file holds secrets has a life of its own.
    """
    lds = json.loads(files["envoy/lds.json"])
    names = {"cluster_manager.cds", "listener_manager.lds"}
    for item in _objects(lds["resources"]):
        if "rds" in item and "stat_prefix" in item and _delivered(item["rds"].get("config_source"), files):
            names.add(f"http.{item['stat_prefix']}.rds.{item['rds']['route_config_name']}")
        discovery = item.get("config_discovery")
        if isinstance(discovery, dict) and _delivered(discovery.get("config_source"), files):
            names.add(f"extension_config_discovery.http_filter.{item['name']}")
    return dict.fromkeys(sorted(names), str(lds["version_info"]))


def secret_expectation(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What to expect of files with secrets (name -> content with `version_info`) that something reads (pure)."""
    found = {}
    for document in documents.values():
        for resource in document["resources"]:
            if not isinstance(resource, dict) or "name" not in resource:
                continue
            extension = str(resource.get("@type", "")).endswith("TypedExtensionConfig")
            prefix = "extension_config_discovery.http_filter" if extension else "sds"
            found[f"{prefix}.{resource['name']}"] = str(document.get("version_info"))
    return found


def statistics(path: str) -> dict[str, int | str]:
    """The statistics that tell what Envoy has accepted: texts of versions, numbers otherwise."""
    return parse_statistics(ask(path, "/stats?filter=" + urllib.parse.quote(_FILTER)))


def parse_statistics(text: str) -> dict[str, int | str]:
    """`name: 1` and `name: "text"`, one a line (pure)."""
    found: dict[str, int | str] = {}
    for line in text.splitlines():
        name, value = line.partition(": ")[::2]
        found[name] = int(value) if re.fullmatch(r"-?\d+", value) else value.strip('"')
    return found


def counters(now: Statistics) -> dict[str, int]:
    """The counters of refusals among `now`; what rises above them later is a refusal of something newer."""
    return {
        name: value
        for name, value in now.items()
        if isinstance(value, int)
        and name.endswith((*_COUNTERS, "listener_create_failure"))
        and not _PRUNED.fullmatch(name)
    }


def missing(now: Statistics, expected: Expectation, before: Mapping[str, int]) -> tuple[str, ...]:
    """Why the running configuration is not wholly `expected`; empty = every subscription has accepted it.

    Counters at or under `before` are old. Pure. What counts was found out on Envoy 1.40: `update_attempt` says
    nothing (chains that drain keep subscriptions), and `/ready` says LIVE even when a port could not be bound.
    """
    why = list(refusals(now, before))
    for name, wanted in expected.items():
        version = now.get(name + ".version_text")
        if version != wanted:
            why.append(f"{name} is at {version or 'no version'}, not {wanted}")
    for name in _MANAGERS[:2]:
        if now.get(name):
            why.append(f"{name} is {now[name]}")
    if not now.get("listener_manager.workers_started"):
        why.append("the workers have not started")
    return tuple(why)


def refusals(now: Statistics, before: Mapping[str, int]) -> tuple[str, ...]:
    """The counters of refusals that rose above `before` (pure)."""
    return tuple(f"{name} is {value}" for name, value in sorted(counters(now).items()) if value > before.get(name, 0))


def wait_accepted(
    path: str, expected: Expectation, before: Mapping[str, int], seconds: float, pid: int = 0
) -> tuple[str, ...]:
    """Wait until the process behind `path` has accepted `expected`; empty, or why it has not.

    Returns at once when something is refused, or when the process `pid` is gone. With `pid` 0 no process is watched.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            now = statistics(path)
            why = missing(now, expected, before)
            refused = bool(refusals(now, before))
        except AdminError as error:
            why, refused = (str(error),), False
        if not why:
            time.sleep(SETTLE)
            return ()
        gone = bool(pid) and not os.path.exists(f"/proc/{pid}")  # noqa: PTH110
        if gone:
            why = ("the process has ended", *why)
        if refused or gone or time.monotonic() > end:
            return why
        time.sleep(0.02)


def server_info(path: str) -> dict[str, Any]:
    """Envoy's own description of itself: version, state, command_line_options, uptime_current_epoch."""
    found = json.loads(ask(path, "/server_info"))
    if not isinstance(found, dict):
        raise AdminError(f"{path} does not describe a server")
    return found


def busy_clusters(path: str, names: frozenset[str]) -> tuple[str, ...]:
    """Those of the clusters `names` that have requests in flight, by name."""
    answer = json.loads(ask(path, "/clusters?format=json", timeout=30.0))
    busy = set()
    for cluster in answer.get("cluster_statuses", []):
        if cluster.get("name") not in names:
            continue
        for host in cluster.get("host_statuses", []):
            if any(each.get("name") in _IN_FLIGHT and int(each.get("value", 0)) for each in host.get("stats", [])):
                busy.add(cluster["name"])
    return tuple(sorted(busy))


def retire(path: str) -> None:
    """Let a process take no new connections, and ask those that are open to leave. Raises AdminError.

    The listeners are closed at once: what waits at them goes to the other process (`tcp_migrate_req`), which alone is
    to answer from now on. The drain sequence, begun before that, puts `connection: close` on every answer.
    """
    ask(path, "/drain_listeners?graceful&skip_exit", "POST")
    ask(path, "/drain_listeners", "POST")


def drain(path: str, seconds: float) -> int | None:
    """Retire a process and wait until its last client has left, at most `seconds`.

    Returns the number of connections that are left, None when the process is gone.
    """
    name = f"http.{GATEWAY}.downstream_cx_active"
    end = time.monotonic() + seconds
    quiet = 0
    try:
        retire(path)
        while True:
            time.sleep(0.2)
            left = int(parse_statistics(ask(path, "/stats?filter=" + urllib.parse.quote(f"^{name}$"))).get(name, 0))
            quiet = 0 if left else quiet + 1
            if quiet > 1 or time.monotonic() >= end:
                return left
    except AdminError:
        return None


def _mark(path: str, lock: int) -> int:
    """Lock the file beside the socket that says what an instance was started with. Raises OSError."""
    file = os.open(path[: -len(".sock")] + ".release", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    fcntl.flock(file, lock)
    return file


def _serves(path: str) -> bool:
    try:
        return bool(statistics(path).get("listener_manager.workers_started"))
    except AdminError:
        return False


def _is_stopping(path: str) -> bool:
    try:
        os.close(_mark(path, fcntl.LOCK_EX | fcntl.LOCK_NB))
    except OSError as error:
        return isinstance(error, BlockingIOError)
    return False


def stop(path: str, wait: float, seconds: float) -> int | None:
    """Have a process leave, as `drain` does, which is all when the other instance goes on.

    Otherwise the host leaves its load balancer, in an order that loses nothing: health checks fail, requests are served
    on for `wait` seconds, and then it drains. For the other instance the lock says until this program ends, however it
    does, that this one is being stopped: both are when the machine goes down while one takes over.
    """
    folder, name = os.path.split(path)
    other = os.path.join(folder, _OTHER.get(name, ""))  # noqa: PTH118
    with suppress(OSError):
        _mark(path, fcntl.LOCK_SH)
    if _serves(path) and (_is_stopping(other) or not _serves(other)):
        with suppress(AdminError):
            ask(path, "/healthcheck/fail", "POST")
            time.sleep(wait)
    return drain(path, seconds)


def process_files(paths: Mapping[str, str]) -> dict[str, str]:
    """Of `paths` (path in a release -> hash), those that a running process does not read again (pure)."""
    return {
        path: value
        for path, value in paths.items()
        if path not in _BEFORE_IT
        and (
            path.startswith(("envoy/bootstrap-", "libexec/", "supervisor/"))
            or (path.startswith("host/") and path.endswith(".service"))
        )
    }


def process_digest(paths: Mapping[str, str]) -> str:
    """The identity of what a process is started with, from `paths` (path in a release -> SHA-256 of its content)."""
    text = json.dumps(sorted(process_files(paths).items()), separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hashes(directory: str) -> dict[str, str]:
    """The SHA-256 of every file of a release's directory that belongs to the process, by path."""
    root = Path(directory)
    names = {str(path.relative_to(root)): "" for path in root.rglob("*") if path.is_file()}
    return {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in process_files(names)}


def record(file: str, directory: str) -> None:
    """Note in `file` what a process that starts now is started with."""
    temporary = Path(file + ".new")
    temporary.write_text(process_digest(hashes(directory)) + "\n", encoding="ascii")
    temporary.replace(file)


def _delivered(source: object, files: Mapping[str, bytes]) -> bool:
    """Whether one of `files` is what the config source reads."""
    path = ((source.get("path_config_source") or {}) if isinstance(source, dict) else {}).get("path", "")
    return "envoy/" + str(path).rpartition("/")[2] in files


def _objects(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(inner)


def _ready(path: str, seconds: float, directory: str) -> int:
    why = wait_accepted(path, expectation(xds_files(directory)), {}, seconds, int(os.environ.get("MAINPID") or 0))
    if why:
        _say("not accepted: " + "; ".join(why))
        # It shares its ports with the process that serves: what it was handed must not be cut.
        drain(path, BRIEF)
    return 1 if why else 0


def _left(left: int | None) -> int:
    _say("already gone" if left is None else f"drained, {left} connections are cut")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"gateway-admin: {text}\n")
    sys.stderr.flush()


def _usage() -> int:
    sys.stderr.write(f"{__doc__}\n")
    return 2


def main(arguments: list[str]) -> int:
    """Run one command of `libexec/gateway-admin`; its exit status."""
    path, command, rest = arguments[0], arguments[1], arguments[2:]
    plain = {"reopen-logs": "/reopen_logs", "fail": "/healthcheck/fail", "ok": "/healthcheck/ok"}
    if command == "ready":
        return _ready(path, float(rest[0]), rest[1])
    if command == "drain":
        return _left(drain(path, float(rest[0])))
    if command == "stop":
        return _left(stop(path, float(rest[0]), float(rest[1])))
    if command == "record":
        record(path, rest[0])
        return 0
    if command in plain:
        sys.stdout.write(ask(path, plain[command], "POST").strip() + "\n")
        return 0
    return _usage()


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except (AdminError, OSError) as problem:
        _say(str(problem))
        status = 1
    except (IndexError, KeyError, ValueError):
        status = _usage()
    raise SystemExit(status)
