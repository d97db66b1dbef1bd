# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authenticate as a user of the directory that the server asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import Login, log_in, refuse

NAME = "ldap"
MOUNT = NAME
OPTIONS = ("vault_username", "vault_password", "vault_auth_mount")
#: What Vault says when the directory itself does not answer, or the method has no settings.
HINTS: Mapping[str, str] = {
    "permission denied": "check vault_auth_mount; the user may be locked after too many wrong passwords",
    "error connecting to host": "the server does not reach its directory",
    "ldap backend not configured": "the method at vault_auth_mount has no settings: see auth/MOUNT/config",
}


def validate(options: VaultOptions) -> None:
    """Raise SecretError with every option that is missing; asks nobody."""
    refuse(NAME, [f"needs vault_{name}" for name in ("username", "password") if not getattr(options, name)])


def authenticate(client: Any, options: VaultOptions) -> Login:
    """Log in with an hvac.Client."""
    return log_in(client, options.auth_mount or MOUNT, {"password": options.password}, user=options.username)
