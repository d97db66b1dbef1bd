# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authenticate with an AppRole: the role's id and a secret id."""

from __future__ import annotations

from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions

NAME = "approle"
OPTIONS = ("vault_role_id", "vault_secret_id", "vault_mount_approle")


def validate(options: VaultOptions) -> None:
    """Raise SecretError when an option is missing; asks nobody.

    A role may be bound to networks instead of a secret id, so only the store knows whether that is missing.
    """
    if not options.role_id:
        raise SecretError("the auth method approle needs vault_role_id")


def authenticate(client: Any, options: VaultOptions) -> tuple[str, float | None]:
    """Log in (hvac.Client) and return the token and its lifetime in seconds, None when it does not end."""
    answer = client.auth.approle.login(
        role_id=options.role_id,
        secret_id=options.secret_id or None,
        mount_point=options.mount_approle,
        use_token=False,
    )
    auth = answer["auth"]
    return str(auth["client_token"]), float(auth["lease_duration"]) or None
