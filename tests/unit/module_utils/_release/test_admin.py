# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The admin client, against a socket that answers as Envoy does."""

from __future__ import annotations

import http.server
import json
import os
import socketserver
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._release import admin

from .world import World, spec

EXPECTED = {"listener_manager.lds": "v2", "cluster_manager.cds": "v2"}
GOOD: dict[str, Any] = {
    "listener_manager.lds.version_text": "v2",
    "cluster_manager.cds.version_text": "v2",
    "listener_manager.lds.update_rejected": 3,
    "listener_manager.workers_started": 1,
    "listener_manager.total_listeners_warming": 0,
    "cluster_manager.warming_clusters": 0,
}


class Envoy(socketserver.UnixStreamServer):
    """An admin socket; `answers` by path without the query."""

    def __init__(self, path: str) -> None:
        super().__init__(path, Handler)
        self.answers: dict[str, str] = {}
        self.asked: list[str] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Envoy

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {urllib.parse.unquote(self.path)}")
        answer = self.server.answers.get(self.path.partition("?")[0])
        body = (answer or "no such path").encode()
        self.send_response(200 if answer is not None else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def envoy(directory: Path) -> Iterator[Envoy]:
    server = Envoy(str(directory / "admin.sock"))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def as_text(statistics: dict[str, Any]) -> str:
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in statistics.items())


def socket_of(envoy: Envoy) -> str:
    return str(envoy.server_address)


def test_accepted() -> None:
    assert admin.missing(GOOD, EXPECTED, {"listener_manager.lds.update_rejected": 3}) == ()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("listener_manager.lds.version_text", "v1", "listener_manager.lds is at v1, not v2"),
        ("cluster_manager.cds.version_text", "", "cluster_manager.cds is at no version, not v2"),
        ("listener_manager.lds.update_rejected", 4, "listener_manager.lds.update_rejected is 4"),
        ("http.gateway.rds.gateway.update_failure", 1, "http.gateway.rds.gateway.update_failure is 1"),
        ("listener_manager.listener_create_failure", 1, "listener_manager.listener_create_failure is 1"),
        ("listener_manager.total_listeners_warming", 1, "listener_manager.total_listeners_warming is 1"),
        ("cluster_manager.warming_clusters", 2, "cluster_manager.warming_clusters is 2"),
        ("listener_manager.workers_started", 0, "the workers have not started"),
        ("sds.listener-public.update_rejected", 1, "sds.listener-public.update_rejected is 1"),
    ],
)
def test_not_accepted(name: str, value: Any, why: str) -> None:
    now = {**GOOD, name: value}
    assert admin.missing(now, EXPECTED, {"listener_manager.lds.update_rejected": 3}) == (why,)


def test_statistics_are_asked_for_and_read(envoy: Envoy) -> None:
    envoy.answers["/stats"] = as_text(GOOD) + "cluster.x.update_duration: No recorded values\n"
    assert admin.statistics(socket_of(envoy)) == {**GOOD, "cluster.x.update_duration": "No recorded values"}
    (asked,) = envoy.asked
    assert asked.startswith("GET /stats?filter=^(listener_manager")


def test_wait_until_accepted(envoy: Envoy) -> None:
    envoy.answers["/stats"] = as_text({**GOOD, "listener_manager.lds.version_text": "v1"})
    before = {"listener_manager.lds.update_rejected": 3}
    why = admin.wait_accepted(socket_of(envoy), EXPECTED, before, 0.1)
    assert why == ("listener_manager.lds is at v1, not v2",)
    timer = threading.Timer(0.2, envoy.answers.update, [{"/stats": as_text(GOOD)}])
    timer.start()
    assert admin.wait_accepted(socket_of(envoy), EXPECTED, before, 5) == ()
    timer.join()


def test_a_refusal_is_not_waited_for(envoy: Envoy) -> None:
    envoy.answers["/stats"] = as_text(GOOD)
    assert admin.wait_accepted(socket_of(envoy), EXPECTED, {}, 60) == ("listener_manager.lds.update_rejected is 3",)


def test_a_process_that_ended_is_not_waited_for(directory: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    why = admin.wait_accepted(str(directory / "none.sock"), EXPECTED, {}, 60, ended.pid)
    assert why[0] == "the process has ended"


def test_what_is_expected_of_a_release(world: World) -> None:
    files = {file.path: file.content for file in world.bundle(spec("a")).files if file.path.startswith("envoy/")}
    version = json.loads(files["envoy/lds.json"])["version_info"]
    assert admin.expectation(files) == {
        "cluster_manager.cds": version,
        "extension_config_discovery.http_filter.read_model": version,
        "extension_config_discovery.http_filter.request_limits": version,
        "extension_config_discovery.http_filter.token_limits": version,
        "http.egress.rds.egress": version,
        "http.gateway.rds.gateway": version,
        "listener_manager.lds": version,
    }


def test_what_is_expected_of_secrets() -> None:
    filters = {"@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig", "name": "consumer_keys"}
    key = {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "name": "provider-p"}
    documents = {
        "consumers.json": {"version_info": "n1", "resources": [filters]},
        "provider-p.json": {"version_info": "n2", "resources": [key]},
    }
    assert admin.secret_expectation(documents) == {
        "extension_config_discovery.http_filter.consumer_keys": "n1",
        "sds.provider-p": "n2",
    }


def test_busy_clusters(envoy: Envoy) -> None:
    def cluster(name: str, **stats: int) -> dict[str, Any]:
        return {"name": name, "host_statuses": [{"stats": [{"name": key, "value": str(stats[key])} for key in stats]}]}

    statuses = [cluster("a", rq_active=1), cluster("b", rq_total=5), cluster("c", rq_pending_active=1), {"name": "d"}]
    envoy.answers["/clusters"] = json.dumps({"cluster_statuses": statuses})
    assert admin.busy_clusters(socket_of(envoy), frozenset("abd")) == ("a",)
    assert admin.busy_clusters(socket_of(envoy), frozenset("bc")) == ("c",)


def test_drain(envoy: Envoy) -> None:
    envoy.answers["/drain_listeners"] = "OK\n"
    envoy.answers["/stats"] = "http.gateway.downstream_cx_active: 2\n"
    assert admin.drain(socket_of(envoy), 0.3) == 2
    assert envoy.asked[:2] == ["POST /drain_listeners?graceful&skip_exit", "POST /drain_listeners"]
    envoy.answers["/stats"] = "http.gateway.downstream_cx_active: 0\n"
    assert admin.drain(socket_of(envoy), 30) == 0


def test_drain_of_a_process_that_is_gone(directory: Path) -> None:
    assert admin.drain(str(directory / "none.sock"), 30) is None


def test_an_answer_that_is_not_ok(envoy: Envoy) -> None:
    with pytest.raises(admin.AdminError, match="answers GET /nothing with 404: no such path"):
        admin.ask(socket_of(envoy), "/nothing")


@pytest.fixture
def program(directory: Path, world: World) -> list[str]:
    """`libexec/gateway-admin` as it is in a release, run as it is by a unit."""
    (file,) = (each for each in world.bundle(spec("a")).files if each.path == "libexec/gateway-admin")
    path = directory / "gateway-admin"
    path.write_bytes(file.content)
    return [sys.executable, "-I", str(path)]


@pytest.fixture
def release(world: World) -> Path:
    world.run(world.request(spec("a")))
    return world.layout.current


def run(program: list[str], *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [*program, *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_the_program_waits_until_a_release_is_accepted(envoy: Envoy, program: list[str], release: Path) -> None:
    expected = admin.expectation(admin.xds_files(str(release)))
    texts = {name + ".version_text": version for name, version in expected.items()}
    envoy.answers["/stats"] = as_text({**texts, "listener_manager.workers_started": 1})
    assert run(program, socket_of(envoy), "ready", 5, release).returncode == 0


def test_the_program_tells_why_a_release_is_not_accepted(envoy: Envoy, program: list[str], release: Path) -> None:
    envoy.answers["/stats"] = as_text({"listener_manager.listener_create_failure": 1})
    done = run(program, socket_of(envoy), "ready", 30, release)
    assert done.returncode == 1
    assert "gateway-admin: not accepted: listener_manager.listener_create_failure is 1" in done.stderr
    assert "POST /drain_listeners?graceful&skip_exit" in envoy.asked, "what it was handed is not cut"


def test_the_program_does_not_wait_for_a_process_that_has_ended(program: list[str], release: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    done = run(program, "/nowhere.sock", "ready", 30, release, MAINPID=str(ended.pid))
    assert (done.returncode, "the process has ended" in done.stderr) == (1, True)


def test_the_program_records_what_a_process_is_started_with(directory: Path, program: list[str], release: Path) -> None:
    assert run(program, directory / "blue.release", "record", release).returncode == 0
    assert (directory / "blue.release").read_text().strip() == admin.process_digest(admin.hashes(str(release)))


def test_the_program_opens_logs_again(envoy: Envoy, program: list[str]) -> None:
    envoy.answers["/reopen_logs"] = "OK\n"
    assert run(program, socket_of(envoy), "reopen-logs").returncode == 0
    assert envoy.asked == ["POST /reopen_logs"]


@pytest.mark.parametrize("arguments", [[], ["/x"], ["/x", "dance"], ["/x", "ready", "soon", "/y"], ["/x", "ready"]])
def test_the_program_says_how_it_is_used(program: list[str], arguments: list[str]) -> None:
    done = run(program, *arguments)
    assert done.returncode == 2
    assert "gateway-admin SOCKET ready SECONDS CURRENT" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_program_says_what_does_not_answer(program: list[str]) -> None:
    done = run(program, "/nowhere.sock", "reopen-logs")
    assert (done.returncode, done.stderr) == (
        1,
        "gateway-admin: /nowhere.sock does not answer: [Errno 2] No such file or directory\n",
    )


def test_process_digest() -> None:
    files = {
        "envoy/bootstrap-blue.json": "1",
        "libexec/x": "2",
        "host/etc/systemd/system/x@.service": "3",
        "supervisor/s": "4",
    }
    digest = admin.process_digest(files)
    assert (
        admin.process_digest({**files, "envoy/lds.json": "5", "host/etc/sysctl.d/x": "6", "resources.json": "7"})
        == digest
    )
    for path in files:
        assert admin.process_digest({**files, path: "other"}) != digest


def test_a_pruned_file_of_a_listener_that_drains_is_no_refusal() -> None:
    names = ("listener-a", "clients-a", "provider-a-0123abcd")
    now = {f"sds.{name}.{counter}": 1 for name in names for counter in ("update_failure", "update_rejected")}
    filters = "extension_config_discovery.http_filter"
    now.update({f"{filters}.{name}.update_failure": 1 for name in ("jwt_issuers", "jwt_consumers", "read_model")})
    now[f"{filters}.jwt_issuers.update_rejected"] = 1
    assert [line.partition(" ")[0] for line in admin.refusals(now, {})] == [
        f"{filters}.jwt_issuers.update_rejected",
        f"{filters}.read_model.update_failure",
        "sds.clients-a.update_rejected",
        "sds.listener-a.update_rejected",
        "sds.provider-a-0123abcd.update_failure",
        "sds.provider-a-0123abcd.update_rejected",
    ]
