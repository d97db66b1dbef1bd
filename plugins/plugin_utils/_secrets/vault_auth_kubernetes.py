# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authenticate as the Kubernetes service account that the controller's pod runs as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import (
    Login,
    file_problems,
    log_in,
    read_file,
    refuse,
)

NAME = "kubernetes"
MOUNT = NAME
OPTIONS = ("vault_role", "vault_jwt_file", "vault_auth_mount")
HINTS: Mapping[str, str] = {"not authorized": "the role is not for this service account or namespace"}
#: Where Kubernetes puts the token of a pod's service account.
TOKEN_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - a path


def validate(options: VaultOptions) -> None:
    """Raise SecretError with every option that is missing; asks nobody."""
    problems = [] if options.role else ["needs vault_role"]
    refuse(NAME, problems + file_problems("vault_jwt_file", _file(options)))


def authenticate(client: Any, options: VaultOptions) -> Login:
    """Log in with an hvac.Client. The file is read now: Kubernetes puts a new token there from time to time."""
    token = read_file("vault_jwt_file", _file(options))
    return log_in(client, options.auth_mount or MOUNT, {"role": options.role, "jwt": token})


def _file(options: VaultOptions) -> str:
    return options.jwt_file or TOKEN_FILE
