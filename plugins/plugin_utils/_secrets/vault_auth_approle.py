# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authenticate with an AppRole: the role's id and a secret id, which may come in a response-wrapping token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import Login, log_in, refuse

NAME = "approle"
MOUNT = NAME
OPTIONS = ("vault_role_id", "vault_secret_id|vault_wrapped_secret_id", "vault_auth_mount")
HINTS: Mapping[str, str] = {}


def validate(options: VaultOptions) -> None:
    """Raise SecretError with every option that is missing or too much; asks nobody.

    A role may be bound to networks instead of a secret id, so only the store knows whether that is missing.
    """
    problems = []
    if not options.role_id:
        problems.append("needs vault_role_id")
    if options.secret_id and options.wrapped_secret_id:
        problems.append("takes vault_secret_id or vault_wrapped_secret_id, not both")
    refuse(NAME, problems)


def authenticate(client: Any, options: VaultOptions) -> Login:
    """Log in with an hvac.Client."""
    mount = options.auth_mount or MOUNT
    secret_id = _unwrap(client, options, mount) if options.wrapped_secret_id else options.secret_id
    login = log_in(client, mount, {"role_id": options.role_id} | ({"secret_id": secret_id} if secret_id else {}))
    if options.wrapped_secret_id:
        return replace(login, again={"wrapped_secret_id": "", "secret_id": secret_id})
    return login


def _unwrap(client: Any, options: VaultOptions, mount: str) -> str:
    """The secret id in the wrapping token, which ends with this. Raises SecretError.

    The server is asked first what made the token: whoever took it on its way could have put another in its place,
    but cannot make one that says it comes from this endpoint.
    """
    from hvac import exceptions

    token = options.wrapped_secret_id
    try:
        made_by = str(client.adapter.post("/v1/sys/wrapping/lookup", json={"token": token})["data"]["creation_path"])
        made_by = made_by.removeprefix(f"{options.namespace.strip('/')}/")
        if not re.fullmatch(rf"auth/{re.escape(mount)}/role/[^/]+/(custom-)?secret-id", made_by):
            raise SecretError(
                f"vault_wrapped_secret_id was not made by auth/{mount}/role/NAME/secret-id but by {made_by}:"
                " it was not used, since somebody may have put it in the place of the right one"
            )
        client.token = token
        try:
            return str(client.sys.unwrap()["data"]["secret_id"])
        finally:
            client.token = ""
    except (exceptions.InvalidRequest, exceptions.Forbidden):
        raise SecretError(
            "vault_wrapped_secret_id has been used already, or its time is over: make a new one;"
            " if nothing of yours has used it, somebody else has the secret id, so destroy that first"
        ) from None
