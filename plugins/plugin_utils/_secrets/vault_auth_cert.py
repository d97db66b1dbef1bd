# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authenticate with the client certificate of the TLS connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import Login, log_in, refuse

NAME = "cert"
MOUNT = NAME
OPTIONS = ("vault_client_cert", "vault_role", "vault_auth_mount")
_NO_ROLE = "no role admits the certificate: check vault_role, who signed it, its names and its end"
#: Source: the answers of OpenBao 2.7.
HINTS: Mapping[str, str] = {
    "all constraints": _NO_ROLE,
    "invalid certificate": _NO_ROLE,
    "no client certificate found": (
        "the server sees no client certificate: its listener asks for none, or something before it ends the connection"
    ),
}


def validate(options: VaultOptions) -> None:
    """Raise SecretError with every option that is missing or wrong; asks nobody."""
    problems = [f"needs vault_{name}" for name in ("client_cert", "client_key") if not getattr(options, name)]
    if options.addr and not options.addr.startswith("https://"):
        problems.append("needs a vault_addr that begins with https://")
    refuse(NAME, problems)


def authenticate(client: Any, options: VaultOptions) -> Login:
    """Log in with an hvac.Client, whose connections have the certificate."""
    return log_in(client, options.auth_mount or MOUNT, {"name": options.role} if options.role else {})
