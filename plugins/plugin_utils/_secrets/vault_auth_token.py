# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authenticate with a token that is there already."""

from __future__ import annotations

from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import Login

NAME = "token"
OPTIONS = ("vault_token",)


def validate(options: VaultOptions) -> None:
    """Raise SecretError when an option is missing; asks nobody."""
    if not options.token:
        raise SecretError("the auth method token needs vault_token (a token in ~/.vault-token is not read)")


def authenticate(client: Any, options: VaultOptions) -> Login:
    """The token as it is; the store is not asked for its life."""
    del client
    return Login(options.token, seconds=None, renewable=False, own=False)
