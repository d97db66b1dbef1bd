# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authenticate with a token that is there already, given or in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import (
    Login,
    file_problems,
    read_file,
    refuse,
)

NAME = "token"
MOUNT = ""
OPTIONS = ("vault_token", "vault_token_file")
HINTS: Mapping[str, str] = {}


def validate(options: VaultOptions) -> None:
    """Raise SecretError when there is no token; asks nobody."""
    if options.token:
        return
    problems = file_problems("vault_token_file", options.token_file)
    if not options.token_file:
        problems = ["needs vault_token or vault_token_file (~/.vault-token is read only when that names it)"]
    refuse(NAME, problems)


def authenticate(client: Any, options: VaultOptions) -> Login:
    """The token as it is; the store is not asked for its life."""
    del client
    token = options.token or read_file("vault_token_file", options.token_file)
    return Login(token, seconds=None, renewable=False, own=False)
