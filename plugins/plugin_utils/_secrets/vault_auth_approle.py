# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authenticate with an AppRole: the role's id and a secret id."""

from __future__ import annotations

from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import Login, login_of

NAME = "approle"
OPTIONS = ("vault_role_id", "vault_secret_id", "vault_auth_mount")


def validate(options: VaultOptions) -> None:
    """Raise SecretError when an option is missing; asks nobody.

    A role may be bound to networks instead of a secret id, so only the store knows whether that is missing.
    """
    if not options.role_id:
        raise SecretError("the auth method approle needs vault_role_id")


def authenticate(client: Any, options: VaultOptions) -> Login:
    """Log in with an hvac.Client."""
    return login_of(
        client.auth.approle.login(
            role_id=options.role_id,
            secret_id=options.secret_id or None,
            mount_point=options.auth_mount or NAME,
            use_token=False,
        )
    )
