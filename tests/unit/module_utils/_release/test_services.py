# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the service managers are told, and what is made of their answers; and of Envoy's log."""

from __future__ import annotations

import http.server
import os
import socketserver
import stat
import subprocess
import sys
import threading
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._release import binary, service_systemd
from ansible_collections.gatewayops.openai.plugins.module_utils._release.layout import Layout
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Ops
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import (
    DRAINING,
    FAILED,
    RUNNING,
    STARTING,
    STOPPED,
    Instance,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service_supervisor import Supervisor
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service_systemd import Systemd

SYSTEMCTL = """\
#!/bin/sh
echo "systemctl $*" >>"$CALLS"
case "$1" in
show) cat <<'EOF'
Id=openai-gateway@blue.service
MainPID=4242
ActiveState=active
SubState=running
UnitFileState=enabled
NeedDaemonReload=no

Id=openai-gateway@green.service
MainPID=0
ActiveState=activating
SubState=auto-restart
UnitFileState=disabled
NeedDaemonReload=yes
EOF
;;
restart) echo "Job for $2 failed because a fatal signal was delivered" >&2; exit 1 ;;
esac
"""
JOURNALCTL = """\
#!/bin/sh
echo "journalctl $*" >>"$CALLS"
echo log
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `systemctl` and a `journalctl` that note how they were called."""
    for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def test_systemd_instances(calls: Path) -> None:
    assert Systemd(Ops()).instances() == {
        "blue": Instance("blue", RUNNING, 4242, True),
        "green": Instance("green", FAILED, 0, False),
    }
    assert Systemd(Ops()).is_stale()
    assert len(calls.read_text().splitlines()) == 2, "one question for both"


@pytest.mark.parametrize(
    ("active", "sub", "state"),
    [
        ("active", "running", RUNNING),
        ("activating", "start-post", STARTING),
        ("activating", "auto-restart", FAILED),
        ("deactivating", "stop", DRAINING),
        ("failed", "failed", STOPPED),
        ("inactive", "dead", STOPPED),
    ],
)
def test_systemd_states(active: str, sub: str, state: str) -> None:
    properties = {"ActiveState": active, "SubState": sub, "MainPID": ""}
    assert service_systemd.instance_of("blue", properties) == Instance("blue", state, 0, False)


def test_systemd_commands(calls: Path) -> None:
    systemd = Systemd(Ops())
    systemd.drain("blue")
    systemd.choose("green")
    systemd.reload()
    assert calls.read_text().splitlines() == [
        "systemctl stop --no-block openai-gateway@blue.service",
        "systemctl disable openai-gateway@blue.service",
        "systemctl enable openai-gateway@green.service",
        "systemctl daemon-reload",
    ]


def test_systemd_start_that_fails(calls: Path) -> None:
    with pytest.raises(ReleaseError, match=r"^systemd could not start openai-gateway@green\.service$"):
        Systemd(Ops()).start("green")


def test_systemd_log(calls: Path) -> None:
    systemd = Systemd(Ops())
    assert systemd.log_since("blue", systemd.mark("blue")) == "log\n"
    assert calls.read_text().splitlines()[-1].endswith("_SYSTEMD_UNIT=openai-gateway@blue.service")


class Supervisord(socketserver.UnixStreamServer):
    """supervisord's XML-RPC interface: `answers` by method, which may be faults."""

    def __init__(self, path: str) -> None:
        super().__init__(path, Handler)
        self.answers: dict[str, Any] = {"getState": {"statecode": 1}}
        self.asked: list[tuple[Any, ...]] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Supervisord

    def do_POST(self) -> None:
        arguments, method = xmlrpc.client.loads(self.rfile.read(int(self.headers["content-length"])))
        name = str(method).partition(".")[2]
        self.server.asked.append((name, *arguments))
        answer = self.server.answers.get(name, True)
        if isinstance(answer, dict) and arguments and arguments[0] in answer:
            answer = answer[arguments[0]]
        is_fault = isinstance(answer, xmlrpc.client.Fault)
        body = xmlrpc.client.dumps(answer if is_fault else (answer,), methodresponse=True).encode()
        self.send_response(200)
        self.send_header("content-type", "text/xml")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def layout(directory: Path) -> Layout:
    options = {name: str(directory / name) for name in ("config_dir", "runtime_dir", "secrets_dir", "log_dir", "envoy")}
    for name in ("runtime_dir", "log_dir"):
        Path(options[name]).mkdir()
    return Layout(host_from_options({**options, "service_manager": "supervisor", "supervisord": "/bin/false"}))


@pytest.fixture
def supervisord(layout: Layout) -> Iterator[Supervisord]:
    server = Supervisord(f"{layout.host.runtime_dir}/supervisor.sock")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_supervisor_instances(layout: Layout, supervisord: Supervisord) -> None:
    supervisord.answers["getProcessInfo"] = {
        "blue": {"statename": "RUNNING", "pid": 7},
        "green": {"statename": "BACKOFF", "pid": 0},
    }
    manager = Supervisor(layout, Ops())
    assert manager.instances() == {"blue": Instance("blue", RUNNING, 7), "green": Instance("green", FAILED, 0)}
    supervisord.answers["getProcessInfo"]["blue"]["statename"] = "STOPPING"
    assert manager.instances()["blue"].state == DRAINING


def test_supervisor_that_does_not_know_an_instance(layout: Layout, supervisord: Supervisord) -> None:
    supervisord.answers["getProcessInfo"] = xmlrpc.client.Fault(10, "BAD_NAME: blue")
    assert Supervisor(layout, Ops()).instances()["blue"] == Instance("blue", STOPPED)


def test_supervisor_that_does_not_run(layout: Layout) -> None:
    manager = Supervisor(layout, Ops())
    assert {each.state for each in manager.instances().values()} == {STOPPED}
    with pytest.raises(ReleaseError, match=r"/bin/false -c .*/current/supervisor/supervisord\.conf failed"):
        manager.start("blue")


def test_supervisor_gives_a_new_configuration_to_the_one_that_starts_only(
    layout: Layout, supervisord: Supervisord
) -> None:
    supervisord.answers["reloadConfig"] = [[[], ["blue", "green"], []]]
    supervisord.answers["getProcessInfo"] = {"statename": "EXITED", "pid": 0}
    supervisord.answers["startProcess"] = xmlrpc.client.Fault(60, "ALREADY_STARTED: blue")
    Supervisor(layout, Ops()).start("blue")
    assert supervisord.asked == [
        ("getState",),
        ("getProcessInfo", "blue"),
        ("reloadConfig",),
        ("removeProcessGroup", "blue"),
        ("addProcessGroup", "blue"),
        ("startProcess", "blue", False),
    ]


def test_supervisor_start_that_fails(layout: Layout, supervisord: Supervisord) -> None:
    supervisord.answers["reloadConfig"] = [[[], [], []]]
    supervisord.answers["getProcessInfo"] = {"statename": "STOPPED", "pid": 0}
    supervisord.answers["startProcess"] = xmlrpc.client.Fault(50, "SPAWN_ERROR: blue")
    with pytest.raises(ReleaseError, match="supervisord cannot start blue: SPAWN_ERROR: blue"):
        Supervisor(layout, Ops()).start("blue")


def test_supervisor_drain_of_what_does_not_run(layout: Layout, supervisord: Supervisord) -> None:
    supervisord.answers["stopProcess"] = xmlrpc.client.Fault(70, "NOT_RUNNING: blue")
    Supervisor(layout, Ops()).drain("blue")
    assert supervisord.asked == [("stopProcess", "blue", False)]


def test_supervisor_drain_says_it_again_once_the_process_can_hear_it(layout: Layout, supervisord: Supervisord) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()", "/run-envoy"], stdin=subprocess.PIPE) as process:
        supervisord.answers["getProcessInfo"] = {"statename": "STOPPING", "pid": process.pid}
        supervisord.answers["signalProcess"] = xmlrpc.client.Fault(70, "NOT_RUNNING: blue")
        Supervisor(layout, Ops()).drain("blue")
        process.communicate(b"\n")
    assert supervisord.asked[0] == ("stopProcess", "blue", False), "it does not wait"
    assert supervisord.asked[-1] == ("signalProcess", "blue", "TERM")


def test_supervisor_that_shuts_down(layout: Layout, supervisord: Supervisord) -> None:
    fault = xmlrpc.client.Fault(6, "SHUTDOWN_STATE")
    supervisord.answers.update(getState=fault, reloadConfig=fault)
    supervisord.answers["getProcessInfo"] = {"statename": "STOPPED", "pid": 0}
    manager = Supervisor(layout, Ops())
    assert manager.is_running()
    with pytest.raises(ReleaseError, match="supervisord is shutting down"):
        manager.start("blue")


def test_supervisor_log(layout: Layout) -> None:
    manager = Supervisor(layout, Ops())
    log = Path(layout.host.log_dir, "blue.log")
    assert manager.mark("blue") == "0"
    log.write_text("before\n")
    mark = manager.mark("blue")
    with log.open("a") as file:
        file.write("after\n")
    assert manager.log_since("blue", mark) == "after\n"
    log.write_text("anew\n")
    assert manager.log_since("blue", mark) == "anew\n"


AT = "[2026-11-24 08:51:15.835][9889]"
IN_USE = "cannot bind '127.0.0.1:18444': Address already in use"
LOG = f"""\
{AT}[warning][main] [source/server/server.cc:1059] There is no configured limit to the number of allowed connections.
{AT}[error][main] [source/server/cgroup_cpu_util.cc:1] Expected cgroup v1 files not accessible at /sys/fs/cgroup/
gateway-admin: not accepted: x
{AT}[error][config] [source/common/x.cc:1405] listener 'extra' failed to bind or apply socket options: {IN_USE}
{AT}[info][upstream] [source/common/listener_manager/lds_api.cc:89] something else
{AT}[warning][config] [source/x.cc:81] Filesystem config update rejected: Error adding/updating listener(s)
extra: {IN_USE}

{AT}[warning][config] [source/x.cc:81] Filesystem config update rejected: Error adding/updating listener(s)
extra: {IN_USE}
"""


def test_reasons_in_envoys_log() -> None:
    assert binary.reasons(LOG) == (
        f"listener 'extra' failed to bind or apply socket options: {IN_USE}; "
        f"Filesystem config update rejected: Error adding/updating listener(s) extra: {IN_USE}"
    )
    assert binary.reasons("") == ""
    assert binary.reasons("some other program\n") == ""


def fake_envoy(directory: Path, script: str) -> str:
    path = directory / "envoy"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_version_of_the_binary(tmp_path: Path) -> None:
    build = "9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL"
    found = binary.Binary(fake_envoy(tmp_path, f"echo; echo 'envoy  version: {build}'"), None)
    assert (found.build(), found.version()) == (build, "1.40.0")


def test_no_binary(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="there is no Envoy at"):
        binary.Binary(str(tmp_path / "envoy"), None).build()
    path = Path(fake_envoy(tmp_path, ""))
    path.chmod(stat.S_IRUSR)
    with pytest.raises(ReleaseError, match="there is no Envoy at"):
        binary.Binary(str(path), None).build()


def test_a_program_that_is_not_envoy(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="does not tell a version of Envoy"):
        binary.Binary(fake_envoy(tmp_path, "echo hello"), None).build()
