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
from tools.demo.places import HOME, LOGS, ROOT, VENV, Places
from tools.demo.say import DemoError, clean_environment, note

CONFIG = HOME / "supervisord.conf"
BAO_CONFIG = HOME / "bao.hcl"
UPSTREAM = ROOT / "tests" / "upstream" / "upstream.py"
WAIT = 30.0
# Loopback, so never through a proxy.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def supervisors(places: Places) -> tuple[processes.Process, ...]:
    """The supervisord of these services, if it runs: at most one."""
    return tuple(p for p in processes.running([HOME, places.memory]) if p.supervises and str(CONFIG) in p.arguments)


def start(places: Places, *, keys: dict[str, Path]) -> None:
    """Start what does not run yet, and wait until each service answers.

    keys: for each provider the file that holds the API key it asks for.
    """
    if supervisors(places) and _socket(places).exists():
        note("already running")
    else:
        _end_all(places)
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


def end_gateway_without_supervisor(places: Places) -> None:
    """End an Envoy whose supervisord is gone: a new one would share its port with it."""
    found = [p for p in processes.running([HOME, places.memory]) if p.program in ("envoy", "run-envoy", "supervisord")]
    gateway = [p for p in found if str(CONFIG) not in p.arguments]
    if gateway and not any(p.supervises for p in gateway):
        note(f"ending {len(gateway)} processes of a gateway that lost its supervisor")
        processes.end(gateway, patience=5)


def _end_all(places: Places) -> None:
    """End a supervisord that cannot be spoken to, and services that lost theirs."""
    processes.end(supervisors(places), patience=10)
    left = [p for p in processes.running([HOME, places.memory]) if p.program in ("bao", "upstream.py")]
    if left:
        note(f"ending {len(left)} services that lost their supervisor")
        processes.end(left, patience=5)


def _socket(places: Places) -> Path:
    return places.memory / "run" / "services.sock"


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
    socket = _socket(places)
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
