# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of Ansible as a user starts them, on ten hosts that are all this machine, and what they ask the store for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from integration import openbao

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
HOSTS = 10
LOGIN = "auth/approle/login"
RENEW = "auth/token/renew-self"
REVOKE = "auth/token/revoke-self"


def environment_in(directory: Path, **more: str) -> dict[str, str]:
    """The environment of a run of Ansible in a directory of its own, which no setting of this machine reaches."""
    strange = ("ANSIBLE_", "AWS_", "BAO_", "VAULT_")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(strange)},
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
        "ANSIBLE_HOME": str(directory / "home"),
        "ANSIBLE_LOCAL_TEMP": str(directory / "local"),
        "ANSIBLE_FORKS": "10",
        "ANSIBLE_NOCOLOR": "1",
        **more,
    }


class Ansible:
    """Runs of Ansible in a directory of their own, on hosts that are all this machine."""

    def __init__(self, directory: Path, bao: openbao.OpenBao) -> None:
        self.directory = directory
        self.bao = bao
        self.began = bao.position()
        (directory / "hosts").write_text("\n".join(f"host{number}" for number in range(HOSTS)))
        (directory / "group_vars").mkdir()
        self.given: dict[str, Any] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "gateway_vault_addr": bao.address,
        }

    def role(self, policy: str, name: str = "run", **settings: object) -> None:
        """Log in with a new AppRole whose tokens are so."""
        role_id, secret_id = self.bao.approle(name, policy, **settings)
        self.variables(
            gateway_vault_auth_method="approle", gateway_vault_role_id=role_id, gateway_vault_secret_id=secret_id
        )

    def variables(self, **more: object) -> None:
        """Set variables of all hosts, besides those that are set already."""
        self.given |= more
        (self.directory / "group_vars" / "all.yml").write_text(json.dumps(self.given))

    @contextmanager
    def started(
        self, program: str, *arguments: str, through: tuple[str, ...] = (), **environment: str
    ) -> Iterator[subprocess.Popen[str]]:
        """A program of Ansible, in a process group of its own, as a shell would start it, or ``through`` another."""
        self.began = self.bao.position()
        process = subprocess.Popen(
            [*through, str(BIN / program), "-i", "hosts", *arguments],
            cwd=self.directory,
            env=environment_in(self.directory, ANSIBLE_PIPELINING="1", **environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def run(self, program: str, *arguments: str, **environment: str) -> tuple[int, str]:
        """The exit status and the output, as soon as nobody can write there any more."""
        with self.started(program, *arguments, through=(), **environment) as process:
            output, _none = process.communicate(timeout=120)
            return process.returncode, output

    def write(self, *tasks: dict[str, Any], **play: object) -> None:
        """Write a play for all hosts."""
        content = [{"hosts": "all", "gather_facts": False, "tasks": list(tasks), **play}]
        (self.directory / "play.yml").write_text(json.dumps(content))

    def play(self, *tasks: dict[str, Any], arguments: tuple[str, ...] = (), **environment: str) -> tuple[int, str]:
        """Run a play for all hosts: the exit status and the output."""
        self.write(*tasks)
        return self.run("ansible-playbook", "play.yml", *arguments, **environment)

    def requests(self) -> Counter[str]:
        """How often each path was asked for since the last start, but for what the tests ask themselves."""
        asked = self.bao.requests(self.began)
        return Counter(path for path in asked if not path.startswith(("auth/token/accessors", "auth/token/lookup-")))

    def finished(self) -> Counter[str]:
        """The same, once no process of ours is left, which has to be soon."""
        eventually(lambda: not self.keepers())
        return self.requests()

    def keepers(self) -> list[int]:
        """The processes that keep something for a run in this directory."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    arguments = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if b"keeper.py" in arguments and str(self.directory).encode() in arguments:
                    found.append(int(entry.name))
        return found

    def end_keepers(self) -> None:
        """End what a failed test left."""
        for pid in self.keepers():
            os.kill(pid, signal.SIGKILL)


def eventually(condition: Callable[[], object], seconds: float = 5) -> None:
    """Wait until the condition holds, at most so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
