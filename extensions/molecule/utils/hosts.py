"""A shell on the test hosts, as root, and what the tests ask a gateway host."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
import subprocess
import time
from pathlib import Path

import scenario
import yaml

_SSH = [
    *("ssh", "-q", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "IdentitiesOnly=yes"),
    *("-o", "ControlMaster=auto", "-o", "ControlPersist=60s"),
]

_READ_RELEASE = """
import base64, json, os
found = {}
os.chdir("/etc/openai-gateway/current")
for folder, _, names in os.walk("."):
    for path in (os.path.normpath(os.path.join(folder, name)) for name in names):
        if path != "manifest.json":
            with open(path, "rb") as file:
                found[path] = os.stat(path).st_mode & 0o7777, base64.b64encode(file.read()).decode()
print(json.dumps(found))
"""


_PODMAN = os.environ.get("TEST_PODMAN") or str(Path(__file__).with_name("podman-box"))
#: What `create.yml` calls the containers of this run.
_CONTAINERS = "mol-" + hashlib.sha1(str(scenario.DIRECTORY).encode()).hexdigest()[:6]


class Host:
    """One test host."""

    def __init__(self, name: str) -> None:
        self.name = name
        instances = yaml.safe_load((scenario.DIRECTORY / "instance_config.yml").read_text())
        (found,) = (instance for instance in instances if instance["instance"] == name)
        user_at = f"{found['user']}@{found['address']}"
        kept = ["-o", f"ControlPath={scenario.DIRECTORY}/ssh-{name}"]
        self._ssh = [*_SSH, *kept, "-i", found["identity_file"], "-p", str(found["port"]), user_at]

    def run(self, command: str, *, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a shell command to its end, whatever that is. Secrets go through `stdin`, as `ps` shows commands."""
        as_root = f"sudo sh -c {shlex.quote(command)}"
        return subprocess.run(
            [*self._ssh, as_root], check=False, input=stdin, text=True, capture_output=True, timeout=120
        )

    def out(self, command: str, *, stdin: str = "") -> str:
        """Run a shell command that has to succeed; what it printed, without the last line break."""
        done = self.run(command, stdin=stdin)
        assert done.returncode == 0, f"{self.name}: {command}: {done.stderr}{done.stdout}"
        return done.stdout.rstrip("\n")

    def inside(self, command: str) -> None:
        """Run a shell command past SSH, as on the machine's console."""
        execute = [_PODMAN, "exec", f"{_CONTAINERS}-{self.name}", "sh", "-c", command]
        subprocess.run(execute, check=True, capture_output=True, timeout=60)

    def restart(self, *, seconds: int = 10) -> None:
        """Restart the machine: what it had in memory is gone. It keeps its addresses, which podman would change.

        What takes longer than `seconds` to stop is killed.
        """
        name = f"{_CONTAINERS}-{self.name}"
        addresses, card = scenario.addresses(), self.out("cat /sys/class/net/eth0/address")
        subprocess.run([*self._ssh[:-1], "-O", "exit", self._ssh[-1]], check=False, capture_output=True)
        restart = [_PODMAN, "restart", "--time", str(seconds), name]
        subprocess.run(restart, check=True, capture_output=True, timeout=60 + seconds)
        hosts = "".join(f"{address} {host}\n" for host, address in addresses.items())
        old = f"ip link set eth0 address {card} && ip address replace {addresses[self.name]}/24 dev eth0"
        execute = [_PODMAN, "exec", "--interactive", name, "sh", "-c", f"{old} && cat >>/etc/hosts"]
        subprocess.run(execute, check=True, input=hosts, text=True, capture_output=True, timeout=60)
        end = time.monotonic() + 30
        while self.run("systemctl is-system-running --wait").stdout.strip() not in ("running", "degraded"):
            assert time.monotonic() < end, f"{self.name} does not come up"
            time.sleep(0.2)


class Gateway(Host):
    """A test host with a gateway."""

    def instance(self) -> str:
        """The one of blue and green that serves, and that starts with the machine."""
        serving = [name for name in ("blue", "green") if self.is_("active", name)]
        assert len(serving) == 1, f"{self.name}: serving: {serving}"
        assert self.is_("enabled", serving[0])
        return serving[0]

    def is_(self, state: str, instance: str) -> bool:
        return self.run(f"systemctl is-{state} openai-gateway@{instance}").stdout.strip() == state

    def pid(self) -> str:
        return self.out(f"systemctl show --property MainPID --value openai-gateway@{self.instance()}")

    def release(self) -> str:
        """The name of the release that Envoy reads."""
        return self.out("basename $(readlink -f /etc/openai-gateway/current)")

    def files_of_release(self) -> dict[str, tuple[int, bytes]]:
        """Path -> mode and content of the release that Envoy reads, without the manifest."""
        found = json.loads(self.out("python3 -", stdin=_READ_RELEASE))
        return {path: (mode, base64.b64decode(content)) for path, (mode, content) in found.items()}

    def snapshot(self) -> set[str]:
        """Every file that lasts, and those of the gateway in memory: what a run in check mode must not change.

        Left out is what changes by itself: logs, systemd's own state, and Ansible's directory for temporary files.
        """
        changing = ("/var/log", "/var/lib/systemd", "/tmp", "*/.ansible")
        own = " -o ".join(f"-path '{path}' -prune" for path in changing)
        times = r"-printf '%p %y %m %U:%G %s %T@ %C@ %l\n'"
        lasting = f"find / -xdev {own} -o -path /home/ansible -o {times}"
        return set(self.out(f"{lasting}; find /run/openai-gateway {times} || true").splitlines())
