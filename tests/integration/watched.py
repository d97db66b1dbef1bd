# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway whose runs are watched: what they show, write, remove and start, and a search of all that for secrets.

Everything shows as much as it can: highest verbosity, differences, arguments, a callback that writes down all it is
told, a fact cache, a log. Every program that a Python process starts is noted with its arguments and environment, and
what a run removes is kept to be searched too (watching/sitecustomize.py).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contract.certificates import Authority
from integration import canaries, openbao
from integration.site_gateway import CANARY, Gateway, Ran, real_envoy

WATCHING = Path(__file__).parent / "watching"
TOKEN = f"{CANARY}-token-0123456789abcdef"
WRITER = 'path "kv/*" { capabilities = ["read", "create", "update"] }'
#: Where the secrets of a run come from.
SOURCES = ("inventory", "openbao")
SAFE = "ansible.builtin.default"


class Watched:
    """A gateway of which every run is watched, and the secrets to look for, by what they are."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.directory = gateway.directory
        for name in ("home", "local", "remote", "removed", "tmp", "user"):
            (self.directory / name).mkdir()
        folder = self.directory / "openbao"
        authority = Authority(folder, "authority")
        certificate, private_key = (path.read_text() for path in authority.sign("gateway", "localhost"))
        self.other_key = authority.sign("other", "localhost")[1].read_text()
        bao = gateway.bao
        bao.put("kv/tls", certificate=certificate, private_key=private_key)
        bao.call("PUT", "sys/policies/acl/writer", {"policy": WRITER})
        bao.call("POST", "auth/token/create", {"id": TOKEN, "policies": ["writer"], "ttl": "10m"})
        tls = {"certificate": "vault://kv/tls#certificate", "private_key": "vault://kv/tls#private_key"}
        public = {"address": "127.0.0.1", "port": openbao.free_port(), "tls": tls}
        gateway.variables["gateway_listeners"]["public"] = public
        gateway.variables.update(gateway_verify_consumer="search", gateway_envoy=str(real_envoy()))
        self.secrets = {
            "a provider's key": f"sk-{CANARY}-a",
            "another provider's key": f"sk-{CANARY}-b",
            "a consumer's key": f"sk-{CANARY}-search",
            "a consumer's previous key": f"sk-{CANARY}-search-old",
            "another consumer's key": f"sk-{CANARY}-batch",
            "the TLS key": canaries.key_text(private_key),
            "another TLS key": canaries.key_text(self.other_key),
            "the secret id": str(gateway.variables["gateway_vault_secret_id"]),
            "the token": TOKEN,
        }

    def environment(self, callback: str) -> dict[str, str]:
        """Show everything, everywhere, and below this directory."""
        return {
            "HOME": str(self.directory / "user"),
            "TMPDIR": str(self.directory / "tmp"),
            "ANSIBLE_LOCAL_TEMP": str(self.directory / "local"),
            "ANSIBLE_REMOTE_TEMP": str(self.directory / "remote"),
            "ANSIBLE_STDOUT_CALLBACK": callback,
            "ANSIBLE_CALLBACK_PLUGINS": str(WATCHING / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "everything,ansible.builtin.junit,ansible.builtin.tree",
            "EVERYTHING": str(self.directory / "everything"),
            "JUNIT_OUTPUT_DIR": str(self.directory / "junit"),
            "ANSIBLE_CALLBACK_TREE_DIR": str(self.directory / "tree"),
            "ANSIBLE_CACHE_PLUGIN": "jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.directory / "facts"),
            "ANSIBLE_INJECT_INVOCATION": "1",
            "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "1",
            "ANSIBLE_SHOW_CUSTOM_STATS": "1",
            "ANSIBLE_FORKS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(WATCHING),
            "WATCH_LOG": str(self.directory / "watched"),
            "WATCH_KEPT": str(self.directory / "removed"),
            "WATCH_MEMORY": str(self.gateway.secrets),
        }

    def play(self, name: str, *arguments: str, callback: str = SAFE, **more: str) -> Ran:
        """Run one of the collection's playbooks, or a file."""
        (self.directory / "inventory" / "group_vars" / "gateways.yml").write_text(json.dumps(self.gateway.variables))
        name = name if name.endswith(".yml") else f"gatewayops.openai.{name}"
        environment = {**self.environment(callback), **more}
        return self.gateway.ansible("ansible-playbook", name, "-vvvv", "--diff", *arguments, **environment)

    def tasks(self, *tasks: dict[str, Any], hosts: str = "gateways") -> str:
        """The file of a playbook with these tasks."""
        path = self.directory / "play.yml"
        path.write_text(json.dumps([{"hosts": hosts, "gather_facts": False, "tasks": list(tasks)}]))
        return str(path)

    def places(self, ran: Ran) -> Iterator[tuple[str, bytes]]:
        """What was shown, and every file under the run's directory but for the sources of secrets."""
        yield "the output", ran.output.encode()
        yield from canaries.files(self.directory, without=[self.directory / name for name in SOURCES])

    def search(self, ran: Ran, **more: str) -> Ran:
        """Fail, with what it is and where, when a secret is anywhere; `more` are secrets too."""
        assert canaries.sightings({**self.secrets, **more}, self.places(ran)) == []
        assert "Traceback" not in ran.output, ran.output
        assert self.strays() == [], "a run writes below its own directories, so the search misses no file"
        return ran

    def strays(self) -> list[str]:
        """Files that were written where nobody searches."""
        noted = [json.loads(line) for line in (self.directory / "watched").read_text().splitlines()]
        paths = {str(note["writes"]) for note in noted if isinstance(note.get("writes"), str)}
        known = (str(self.directory), str(self.gateway.secrets), "/dev/null")
        # Secrets are written into their directory by names relative to it.
        return sorted(path for path in paths if not path.startswith(known) and not re.match(r"\.[\w.-]+\.json\.", path))

    def forget(self) -> None:
        """Begin anew: what a run before has left is no evidence against this one."""
        for name in ("ansible.log", "everything", "watched"):
            (self.directory / name).unlink(missing_ok=True)
        for name in ("facts", "junit", "local", "remote", "removed", "tree"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
            (self.directory / name).mkdir()
