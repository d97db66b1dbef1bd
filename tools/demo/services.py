"""What the gateway needs around it, kept running by a supervisord of the demo's own: OpenBao and two providers."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.demo import processes
from tools.demo.places import HOME, LOGS, ROOT, VENV, Places, memory_for_this_checkout
from tools.demo.say import DemoError, clean_environment, note

CONFIG = HOME / "supervisord.conf"
BAO_CONFIG = HOME / "bao.hcl"
UPSTREAM = ROOT / "tests" / "upstream" / "upstream.py"
WAIT = 30.0
PATIENCE = 15.0
PROGRAMS = ("bao", "upstream.py")
SERVICE_PORTS = frozenset({"bao", "openai", "azure"})
GATEWAY_PORTS = frozenset({"gateway", "metrics"})
# Loopback, so never through a proxy.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def start(places: Places, *, running: bool, keys: dict[str, Path]) -> None:
    """Start the services unless they run, and wait until each answers.

    keys: for each provider the file that holds the API key it asks for.
    """
    if running:
        note("already running")
    else:
        CONFIG.write_text(_supervisor_config(places, keys))
        BAO_CONFIG.write_text(_bao_config(places))
        script = VENV / "bin" / "supervisord"
        subprocess.run(
            [VENV / "bin" / "python", script, "-c", CONFIG],
            env=clean_environment(),
            check=True,
            stdin=subprocess.DEVNULL,
        )
    wait_for_bao(places)
    for name in ("openai", "azure"):
        _wait_for(name, f"http://127.0.0.1:{places.ports[name]}/_seen")
        note(f"provider {name} answers on 127.0.0.1:{places.ports[name]}")
    note(f"OpenBao answers on {places.bao_url}")


def wait_for_bao(places: Places) -> None:
    _wait_for("bao", f"{places.bao_url}/v1/sys/seal-status")


def steer(places: Places, provider: str, what: str, body: Any = None) -> Any:
    """Ask a provider's control endpoint (see tests/upstream/upstream.py), and return its answer."""
    data = None if what == "_seen" else json.dumps(body or {}).encode()
    url = f"http://127.0.0.1:{places.ports[provider]}/{what}"
    with DIRECT.open(urllib.request.Request(url, data=data), timeout=10) as answer:
        return json.loads(answer.read())


def control(*command: str) -> str:
    """Say something to the demo's supervisord, and return its answer."""
    done = subprocess.run(
        [VENV / "bin" / "python", VENV / "bin" / "supervisorctl", "-c", CONFIG, *command],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def mend(places: Places | None) -> frozenset[str]:
    """End what a crash, a reboot or a removed directory left without its other half; the names of ports still in use.

    places: what is known of an earlier demo of this checkout, None when nothing is.
    """
    memory = memory_for_this_checkout()
    found = processes.running([HOME, memory])
    ours = [process for process in found if process.program in PROGRAMS or str(CONFIG) in process.arguments]
    gateway = [process for process in found if process not in ours]
    held: frozenset[str] = frozenset()
    for part, ports in ((ours, SERVICE_PORTS), (gateway, GATEWAY_PORTS)):
        supervising = [process for process in part if process.supervises]
        if places is not None and memory.is_dir() and supervising:
            held |= ports
        elif part:
            note(f"ending {len(part)} processes that an earlier demo left behind")
            processes.end(supervising, patience=PATIENCE)
            processes.end(part, patience=PATIENCE)
    return held


def _wait_for(name: str, url: str) -> None:
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        try:
            with DIRECT.open(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return  # An answer, whatever it says.
        except OSError:
            time.sleep(0.1)
    log = LOGS / f"{name}.log"
    last = "\n".join(log.read_text(errors="replace").splitlines()[-10:]) if log.exists() else "(nothing)"
    raise DemoError(
        f"{name} did not answer within {WAIT:.0f} s.\n{control('status').strip()}\nThe end of {log}:\n{last}"
    )


def _supervisor_config(places: Places, keys: dict[str, Path]) -> str:
    bao = [VENV / "bin" / "bao", "server", f"-config={BAO_CONFIG}"]
    programs = [_program("bao", bao)]
    for name, key in keys.items():
        arguments = ["--port", places.ports[name], "--name", name, "--api-key-file", key]
        programs.append(_program(name, [VENV / "bin" / "python", UPSTREAM, *arguments]))
    socket = places.memory / "run" / "services.sock"
    # A percent sign starts an expansion in this file.
    return (
        f"""
; Written by `make demo`.
[supervisord]
logfile = {LOGS / "supervisord.log"}
pidfile = {HOME / "run" / "services.pid"}
childlogdir = {LOGS}
directory = {HOME}
umask = 077

[unix_http_server]
file = {socket}
chmod = 0600

[supervisorctl]
serverurl = unix://{socket}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
""".replace("%", "%%").lstrip()
        + "".join(programs)
    )


def _program(name: str, command: Sequence[object]) -> str:
    quoted = " ".join('"{}"'.format(str(part).replace("\\", "\\\\").replace('"', '\\"')) for part in command)
    return f"""
[program:{name}]
command = {quoted}
stdout_logfile = {LOGS / f"{name}.log"}
redirect_stderr = true
stopwaitsecs = 5
""".replace("%", "%%")


def _bao_config(places: Places) -> str:
    # In memory: what OpenBao holds here is made anew when it is gone, and must not be on a disk.
    return f"""
storage "inmem" {{}}
listener "tcp" {{
  address     = "127.0.0.1:{places.ports["bao"]}"
  tls_disable = true
}}
api_addr = "{places.bao_url}"
ui       = false
""".lstrip()
