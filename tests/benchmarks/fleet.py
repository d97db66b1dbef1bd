"""What a run on a fleet costs, beside `ansible.builtin.setup` and a role built the usual way on the same hosts.

Prints a table in Markdown and lines `figure NAME VALUE UNIT`. The hosts are addresses of this machine (127.0.1.N)
behind one sshd that the benchmark starts: each has a connection, directories, ports and a real Envoy under supervisor
of its own. They share this machine's processors with the controller, so times are long, and are to be compared with
each other. `fleet.py 1 10` has 10 hosts instead of 50, `--rounds 1` does each thing once instead of three times.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# In place of this directory, whose secrets.py is not the one that others import.
sys.path[:1] = [str(ROOT / "tests"), str(ROOT / ".cache" / "collections")]

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Iterator, Mapping  # noqa: E402
from contextlib import ExitStack, contextmanager, suppress  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from typing import Any  # noqa: E402

from integration.openbao import free_port  # noqa: E402
from integration.site_gateway import a_provider, real_envoy  # noqa: E402

BIN = Path(sys.executable).parent
SIZES = (1, 10, 50)
FORKS = 10


@dataclass(frozen=True)
class Run:
    """One ansible-playbook: wall and CPU in seconds (the controller's, ssh clients included), its peak in MiB.

    `tasks` is the most that it executed on a host.
    """

    wall: float
    cpu: float
    peak: float
    tasks: int
    changed: int


class Fleet:
    """Hosts of this machine in an inventory, and runs on the first of them."""

    def __init__(self, directory: Path, shared: Path, size: int, sshd: Mapping[str, Any], provider: int) -> None:
        self.directory = directory
        self.names = [f"gw{number}" for number in range(size)]
        self.environment = {"PROVIDER_KEY": "sk-canary-a", "CONSUMER_KEY": "sk-consumer-1"}
        self.model = "gpt-5"
        self._shared, self._sshd, self._provider = shared, sshd, provider
        self._ports = {name: (free_port(), free_port()) for name in self.names}

    def _write(self) -> None:
        hosts = {
            name: {
                "ansible_host": address_of(number),
                "gateway_root": str(self.directory / name),
                "gateway_secrets_dir": str(self._shared / name),
                "gateway_listeners": {"local": {"address": "127.0.0.1", "port": self._ports[name][0]}},
                "gateway_metrics": {"port": self._ports[name][1]},
            }
            for number, name in enumerate(self.names)
        }
        variables = {
            **self._sshd,
            "ansible_python_interpreter": sys.executable,
            "envoy_method": "path",
            "envoy_path": str(real_envoy()),
            "gateway_service_manager": "supervisor",
            "gateway_supervisord": str(BIN / "supervisord"),
            "gateway_python": sys.executable,
            "gateway_size": "small",
            "gateway_max_unreachable": "0",
            "gateway_providers": {
                "a": {
                    "type": "openai_compatible",
                    "base_url": f"http://127.0.0.1:{self._provider}/v1",
                    "api_key": "env://PROVIDER_KEY",
                }
            },
            "gateway_models": {
                f"model-{number}": {"targets": [{"provider": "a", "model": self.model}]} for number in range(20)
            },
            "gateway_consumers": {
                "search": {
                    "api_keys": ["env://CONSUMER_KEY"],
                    "models": ["*"],
                    "limits": {"requests_per_minute": 1000000},
                }
            },
        }
        inventory = {"gateways": {"hosts": hosts, "vars": variables}}
        (self.directory / "inventory.yml").write_text(json.dumps(inventory))

    def run(self, playbook: str, hosts: int, **extra: str) -> Run:
        """Run a playbook on so many hosts, as a new controller that has no connection yet. Raises RuntimeError."""
        self._write()
        control = self.directory / "control"
        command = [str(BIN / "ansible-playbook"), "-i", "inventory.yml", "--limit", ",".join(self.names[:hosts])]
        command += [playbook, "-e", json.dumps({"gateway_fleet_size": len(self.names), **extra})]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment = {
            **inherited,
            **self.environment,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
            "ANSIBLE_FORKS": str(FORKS),
            "ANSIBLE_HOME": str(self.directory / "home"),
            "ANSIBLE_HOST_KEY_CHECKING": "false",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(control),
        }
        with (self.directory / "output").open("w+") as output:
            began = time.monotonic()
            process = subprocess.Popen(
                command, cwd=self.directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            status, used = os.wait4(process.pid, 0)[1:]
            wall = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            printed = output.read()
        for path in control.glob("*"):
            subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={path}", "x"], check=False, capture_output=True)
        if process.returncode:
            raise RuntimeError(f"{playbook}: {printed[-6000:]}")
        done = Counter(re.findall(r"^(?:ok|changed): \[(gw\d+)\](?: =>.*)?$", printed, re.MULTILINE))
        changed = len(set(re.findall(r"^changed: \[(gw\d+)\]", printed, re.MULTILINE)))
        return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, max(done.values(), default=0), changed)

    def write_playbooks(self) -> None:
        """`setup` alone, and a role built the usual way: a task for each file of the release that the hosts have."""
        play: dict[str, Any] = {"hosts": "gateways", "gather_facts": False}
        setup = {"name": "Gather facts", "ansible.builtin.setup": {}}
        (self.directory / "setup.yml").write_text(json.dumps([{**play, "tasks": [setup]}]))
        served = self.directory / self.names[0] / "config" / "current"
        names = sorted(str(path.relative_to(served)) for path in served.rglob("*") if path.is_file())
        templates = self.directory / "templates"
        tasks: list[dict[str, Any]] = [
            {
                "name": "Have Envoy's version",
                "ansible.builtin.command": {"argv": [str(real_envoy()), "--version"]},
                "changed_when": False,
            }
        ]
        folders = sorted({str(Path(name).parent) for name in names})
        tasks.append(
            {
                "name": "Make the directories",
                "ansible.builtin.file": {"path": "{{ usual }}/{{ item }}", "state": "directory", "mode": "0755"},
                "loop": folders,
            }
        )
        for name in names:
            source = templates / f"{name.replace('/', '_')}.j2"
            source.parent.mkdir(exist_ok=True)
            source.write_text("{% raw %}" + (served / name).read_text() + "{% endraw %}")
            tasks.append(
                {
                    "name": f"Have {name}",
                    "ansible.builtin.template": {
                        "src": str(source),
                        "dest": f"{{{{ usual }}}}/{name}",
                        "mode": "0644",
                    },
                    "notify": "Restart",
                }
            )
        tasks.append(
            {
                "name": "Have it running",
                "ansible.builtin.command": {
                    "argv": [
                        str(BIN / "supervisorctl"),
                        "-c",
                        "{{ gateway_root }}/config/current/supervisor/supervisord.conf",
                        "status",
                    ]
                },
                "changed_when": False,
                "failed_when": False,
            }
        )
        handlers = [{"name": "Restart", "ansible.builtin.command": {"argv": ["true"]}, "changed_when": False}]
        usual = {**play, "vars": {"usual": "{{ gateway_root }}/usual"}, "tasks": tasks, "handlers": handlers}
        (self.directory / "usual.yml").write_text(json.dumps([usual]))


def address_of(number: int) -> str:
    return f"127.0.1.{number + 1}"


@contextmanager
def an_sshd(directory: Path, size: int) -> Iterator[dict[str, Any]]:
    """An sshd on an address for each host; the variables with which Ansible gets in."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program is not None
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    shutil.copy(directory / "user.pub", directory / "authorized_keys")
    port = free_port()
    lines = [
        *(f"ListenAddress {address_of(number)}:{port}" for number in range(size)),
        f"HostKey {directory}/host",
        f"AuthorizedKeysFile {directory}/authorized_keys",
        f"PidFile {directory}/sshd.pid",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "PermitRootLogin prohibit-password",
        "MaxStartups 200",
    ]
    (directory / "sshd_config").write_text("\n".join(lines) + "\n")
    if os.geteuid() == 0:  # others need no such directory
        Path("/run/sshd").mkdir(exist_ok=True)
    with (directory / "sshd.log").open("w") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", directory / "sshd_config"], stdin=-3, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            with suppress(OSError), socket.create_connection((address_of(size - 1), port), 1):
                break
            if time.monotonic() > deadline:
                raise RuntimeError((directory / "sshd.log").read_text())
            time.sleep(0.1)
        yield {
            "ansible_port": port,
            "ansible_ssh_private_key_file": str(directory / "user"),
            "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes -o LogLevel=ERROR",
        }
    finally:
        process.terminate()
        process.wait()


def end_gateways(directory: Path) -> None:
    """End what was started below the directory, by its command lines."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for _turn in range(50):
            pids = [pid for pid in _below(directory) if pid != os.getpid()]
            for pid in pids:
                with suppress(OSError):
                    os.kill(pid, number)
            if not pids:
                return
            time.sleep(0.2)


def _below(directory: Path) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and str(directory).encode() in (entry / "cmdline").read_bytes():
                yield int(entry.name)


def measure(fleet: Fleet, sizes: tuple[int, ...], rounds: int) -> dict[tuple[str, int], list[Run]]:
    """The kinds of runs in turns, by kind and number of hosts."""
    most = sizes[-1]
    fleet.run("gatewayops.openai.site", most, gateway_rollout_verify="off", gateway_serial="100%")
    fleet.write_playbooks()
    fleet.run("usual.yml", most)
    runs: dict[tuple[str, int], list[Run]] = {}

    def note(kind: str, playbook: str, hosts: int, *, changed: int = 0) -> None:
        run = fleet.run(playbook, hosts)
        if run.changed != changed:
            raise RuntimeError(f"{kind}: {run.changed} hosts of {hosts} changed")
        runs.setdefault((kind, hosts), []).append(run)
        print(f"{kind}, {hosts} hosts: {run.wall:.1f} s", file=sys.stderr, flush=True)

    for turn in range(rounds):
        for size in sizes:
            note("setup", "setup.yml", size)
            note("no-op", "gatewayops.openai.site", size)
        note("usual role, no-op", "usual.yml", most)
        fleet.model = f"gpt-5-{turn}"
        note("one change", "gatewayops.openai.site", most, changed=most)
        fleet.environment["CONSUMER_KEY"] = f"sk-consumer-{turn + 2}"
        note("rotation", "gatewayops.openai.rotate", most, changed=most)
    return runs


def report(runs: Mapping[tuple[str, int], list[Run]], sizes: tuple[int, ...]) -> None:
    print("| hosts | | seconds | CPU seconds | of `setup` | tasks on a host | peak, MiB |")
    print("|---|---|---|---|---|---|---|")
    walls = {key: statistics.median(run.wall for run in done) for key, done in runs.items()}
    for (kind, hosts), done in sorted(runs.items(), key=lambda item: item[0][1]):
        cpu, peak = (statistics.median(getattr(run, name) for run in done) for name in ("cpu", "peak"))
        cells = [f"{walls[kind, hosts]:.1f}", f"{cpu:.1f}"]
        cells += [f"{walls[kind, hosts] / walls['setup', hosts]:.2f}", str(done[0].tasks), f"{peak:.0f}"]
        print(f"| {hosts} | {kind} | " + " | ".join(cells) + " |")
    most = sizes[-1]
    setup = walls["setup", most]
    print(f"figure noop_ratio_{most} {walls['no-op', most] / setup:.2f} ratio")
    print(f"figure noop_tasks_per_host {max(run.tasks for run in runs['no-op', most])} tasks")
    print(f"figure usual_role_ratio_{most} {walls['usual role, no-op', most] / setup:.2f} ratio")
    print(f"figure model_change_ratio_{most} {walls['one change', most] / setup:.2f} ratio")
    print(f"figure rotation_ratio_{most} {walls['rotation', most] / setup:.2f} ratio")
    for fewer in sizes[1:-1]:
        print(f"figure growth_{fewer}_to_{most} {walls['no-op', most] / walls['no-op', fewer]:.2f} ratio")
    for size in sizes:
        peak = max(run.peak for run in runs["no-op", size])
        print(f"figure noop_controller_peak_{size} {peak:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    sizes = tuple(sorted(given.sizes))
    needed = ["ssh:openssh-client", "sshd:openssh-server"]
    if subprocess.run([ROOT / "tools" / "host-packages", *needed], check=False).returncode:
        sys.exit(1)
    # What was started is ended, however this ends.
    signal.signal(signal.SIGTERM, lambda *_frame: sys.exit(1))
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="fl-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        shared = Path(tempfile.mkdtemp(prefix="fl-", dir="/dev/shm"))
        stack.callback(shutil.rmtree, shared, ignore_errors=True)
        sshd = stack.enter_context(an_sshd(directory, sizes[-1]))
        provider = stack.enter_context(a_provider("a"))
        stack.callback(end_gateways, directory)
        fleet = Fleet(directory, shared, sizes[-1], sshd, provider.port)
        report(measure(fleet, sizes, given.rounds), sizes)


if __name__ == "__main__":
    main()
