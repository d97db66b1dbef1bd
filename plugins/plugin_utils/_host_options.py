# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that say what a gateway host looks like, and the Host that they make."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import (
    ENCRYPTED,
    NEVER,
    SUPERVISOR,
    SYSTEMD,
    Host,
    host_from_options,
)

#: Documented in the fragment `gatewayops.openai.host`. Defaults are those of Host, and of `_below_root` here.
HOST_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "service_manager": {"type": "str", "choices": [SYSTEMD, SUPERVISOR]},
    "root": {"type": "str"},
    "config_dir": {"type": "str"},
    "runtime_dir": {"type": "str"},
    "secrets_dir": {"type": "str"},
    "log_dir": {"type": "str"},
    "envoy": {"type": "str"},
    "user": {"type": "str"},
    "fleet_size": {"type": "int"},
    "ca_file": {"type": "str"},
    "python": {"type": "str"},
    "supervisord": {"type": "str"},
    "secrets_persist": {"type": "str", "choices": [ENCRYPTED, NEVER]},
    "state_dir": {"type": "str"},
}


class HostOptionsError(GatewayError):
    """The options of a host are wrong; a line for each."""


def host_from(options: Mapping[str, Any], *, login: str) -> Host:
    """Build the Host; `login` is who the controller is on it.

    Under supervisor everything is below `root` and belongs to `login`, except for the secrets, which stay in memory.
    Raises HostOptionsError.
    """
    given = {name: options[name] for name in HOST_OPTIONS if options.get(name) is not None}
    root = given.pop("root", None)
    if given.get("service_manager") == SUPERVISOR:
        if root is None and not {"config_dir", "runtime_dir", "secrets_dir", "log_dir"} <= set(given):
            raise HostOptionsError("gateway_root: say which directory the gateway may have, since there is no systemd")
        given = {"user": login, **(_below_root(str(root), login) if root else {}), **given}
    elif root is not None:
        raise HostOptionsError("gateway_root is for the service manager supervisor; systemd has directories of its own")
    try:
        return host_from_options(given)
    except ValueError as error:
        raise HostOptionsError(re.sub(r"(?m)^host\.", "gateway_", str(error))) from None


def _below_root(root: str, login: str) -> dict[str, str]:
    unique = hashlib.sha256(f"{login}:{root}".encode()).hexdigest()[:12]
    return {
        "config_dir": posixpath.join(root, "config"),
        "runtime_dir": posixpath.join(root, "run"),
        "log_dir": posixpath.join(root, "log"),
        "state_dir": posixpath.join(root, "state"),
        "secrets_dir": f"/dev/shm/openai-gateway-{unique}",  # noqa: S108 - the worker makes it 0700 and checks the owner
    }
