# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a gateway lives on its host: paths, user, service manager.

A `Host` is what the compiler and the target-side worker have to know of a machine besides the spec. It holds
no secret and is the same for all hosts of a group, so that their bundles are equal byte for byte.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SYSTEMD = "systemd"
SUPERVISOR = "supervisor"

#: Whether secrets are kept over a restart of the machine: encrypted with its key, or not at all.
ENCRYPTED = "encrypted"
NEVER = "never"

#: The two processes that take turns on the listeners' ports. The first start is the first of them.
INSTANCES: tuple[str, str] = ("blue", "green")


@dataclass(frozen=True)
class Host:
    """One gateway host.

    `config_dir` holds `releases/`, the `current` link, the lock and the history; `runtime_dir` the admin sockets
    `<instance>.sock`; `secrets_dir` is a tmpfs. `fleet_size` counts the hosts that share the limits when their
    scope is the fleet. `supervisord` is empty under systemd. `state_dir` is for the encrypted secrets, and unused when
    `secrets_persist` is NEVER, as it always is under supervisor.
    """

    service_manager: str
    config_dir: str
    runtime_dir: str
    secrets_dir: str
    log_dir: str
    envoy: str
    user: str
    fleet_size: int
    ca_file: str
    python: str
    supervisord: str
    secrets_persist: str
    state_dir: str

    @property
    def current(self) -> str:
        """The link to the release that Envoy reads."""
        return posixpath.join(self.config_dir, "current")

    @property
    def releases(self) -> str:
        """The directory of the immutable releases."""
        return posixpath.join(self.config_dir, "releases")

    def admin_socket(self, instance: str) -> str:
        """The admin socket of `instance`, one of INSTANCES."""
        return posixpath.join(self.runtime_dir, instance + ".sock")


#: What a host looks like under systemd, and what every option falls back to. `envoy` has no default.
DEFAULTS: dict[str, Any] = {
    "service_manager": SYSTEMD,
    "config_dir": "/etc/openai-gateway",
    "runtime_dir": "/run/openai-gateway",
    "secrets_dir": "/run/openai-gateway/secrets",
    "log_dir": "/var/log/openai-gateway",
    "user": "openai-gateway",
    "fleet_size": 1,
    "ca_file": "/etc/ssl/certs/ca-certificates.crt",
    "python": "/usr/bin/python3",
    "supervisord": "",
    "secrets_persist": ENCRYPTED,
    "state_dir": "/var/lib/openai-gateway",
}

_PATHS = (
    "config_dir",
    "runtime_dir",
    "secrets_dir",
    "log_dir",
    "envoy",
    "ca_file",
    "python",
    "supervisord",
    "state_dir",
)
#: Paths are written into units, configuration files, JSON and a shell script: characters that mean something there are
#: refused.
_UNSAFE = frozenset("\"'\\%$;{} `&|()<>*?[]!#~")
#: Wider than useradd(8), for the users of a directory, but nothing that means something in a unit or to a command.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*\Z")
#: Of a Unix socket's path, from unix(7): 107 bytes, of which the name of the longest socket takes some.
_SOCKET_DIRECTORY = 107 - len("/green.sock")


def host_from_options(options: Mapping[str, Any]) -> Host:
    """Build a Host from plain options; what is missing or None takes the systemd default.

    Raises ValueError with one message for each wrong option, one per line.
    """
    known = tuple(Host.__dataclass_fields__)
    problems = [f"host.{key} is not an option of a host ({', '.join(known)})" for key in options if key not in known]
    values = dict(DEFAULTS, envoy="")
    if options.get("service_manager") == SUPERVISOR:
        values["secrets_persist"] = NEVER
    values.update({str(key): value for key, value in options.items() if key in known and value is not None})
    try:
        values["fleet_size"] = int(values["fleet_size"])
    except (TypeError, ValueError):
        problems.append(f"host.fleet_size must be a whole number, not {values['fleet_size']!r}")
        values["fleet_size"] = 1
    if values["fleet_size"] < 1:
        problems.append("host.fleet_size must be at least 1")
    for key in known:
        if key != "fleet_size":
            values[key] = str(values[key])
    problems.extend(_path_problems(values))
    if len(values["runtime_dir"].encode("utf-8", "surrogateescape")) > _SOCKET_DIRECTORY:
        problems.append(f"host.runtime_dir is too long for the path of a socket (at most {_SOCKET_DIRECTORY} bytes)")
    if values["service_manager"] not in (SYSTEMD, SUPERVISOR):
        problems.append(f"host.service_manager must be {SYSTEMD} or {SUPERVISOR}")
    problems.extend(_persist_problems(values))
    if not _USER.match(values["user"]):
        problems.append("host.user must be the name of a user")
    if values["service_manager"] == SUPERVISOR and not values["supervisord"]:
        problems.append("host.supervisord must be the path of supervisord when the service manager is supervisor")
    if problems:
        raise ValueError("\n".join(problems))
    return Host(**values)


def host_to_options(host: Host) -> dict[str, Any]:
    """The options that `host_from_options` turns into `host` again."""
    return asdict(host)


def _persist_problems(values: Mapping[str, Any]) -> tuple[str, ...]:
    if values["secrets_persist"] not in (ENCRYPTED, NEVER):
        return (f"host.secrets_persist must be {ENCRYPTED} or {NEVER}",)
    if values["secrets_persist"] == ENCRYPTED and values["service_manager"] == SUPERVISOR:
        return (f"host.secrets_persist must be {NEVER} under {SUPERVISOR}: only root can encrypt with the host's key",)
    return ()


def _path_problems(values: Mapping[str, Any]) -> tuple[str, ...]:
    problems = []
    for key in _PATHS:
        path = values[key]
        if key == "supervisord" and not path:
            continue
        if not path.startswith("/") or path == "/" or posixpath.normpath(path) != path:
            problems.append(f"host.{key} must be a plain absolute path, not {path!r}")
        elif set(path) & _UNSAFE or not path.isprintable():
            signs = " ".join(sorted(_UNSAFE - set("\"' ")))
            problems.append(f"host.{key} must not contain blanks, quotes or any of {signs}: {path!r}")
    return tuple(problems)
