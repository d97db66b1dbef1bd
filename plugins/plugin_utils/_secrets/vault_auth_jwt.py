# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authenticate with a JSON Web Token: that of a workload identity in GitHub Actions, GitLab CI, AWX and the like."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_client import StoreError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import (
    Login,
    file_problems,
    log_in,
    read_file,
    refuse,
)

NAME = "jwt"
MOUNT = NAME
OPTIONS = ("vault_jwt|vault_jwt_file|vault_jwt_github_audience", "vault_role", "vault_auth_mount")
_CLOCKS = "compare the clocks of the server and of who made the token"
#: Source: the answers of OpenBao 2.7; Vault's method is the same code up to the letter case.
HINTS: Mapping[str, str] = {
    "token is expired": f"the JSON Web Token has expired: take a new one, or {_CLOCKS}",
    "token not yet valid": f"the JSON Web Token is not valid yet: {_CLOCKS}",
    "issued in the future": f"the JSON Web Token was made in the future: {_CLOCKS}",
    "(aud) claim": "the JSON Web Token is for another audience than those of the role (bound_audiences)",
    "(iss) claim": "the JSON Web Token is from another issuer than that of the method (bound_issuer)",
    "(sub) claim": "the JSON Web Token is of another subject than that of the role (bound_subject)",
    "bound claim": "the role does not admit the claims of the JSON Web Token (bound_claims)",
    "three parts": "what was sent is not a JSON Web Token, which has three parts with dots between them",
    "verifying token signature": "the JSON Web Token is not signed by a key that the method at vault_auth_mount trusts",
    "missing role": "vault_role is not set, and the method at vault_auth_mount has no default_role",
    "could not be found": "there is no role vault_role in the method at vault_auth_mount",
}
#: GitHub sets these in a job that has the permission.
_GITHUB_URL = "ACTIONS_ID_TOKEN_REQUEST_URL"
_GITHUB_TOKEN = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"  # noqa: S105 - the name of a variable


def validate(options: VaultOptions) -> None:
    """Raise SecretError when there is no way to a token; asks nobody. A server may have a default role."""
    problems = []
    if options.jwt:
        pass
    elif options.jwt_file:
        problems = file_problems("vault_jwt_file", options.jwt_file)
    elif not options.jwt_github_audience:
        problems = ["needs vault_jwt, vault_jwt_file or vault_jwt_github_audience"]
    elif not (os.environ.get(_GITHUB_URL) and os.environ.get(_GITHUB_TOKEN)):
        problems = ["gets a token from GitHub in a job of GitHub Actions that has the permission id-token: write only"]
    refuse(NAME, problems)


def authenticate(client: Any, options: VaultOptions) -> Login:
    """Log in with an hvac.Client; files are read, and GitHub is asked, now."""
    if options.jwt:
        token = options.jwt
    elif options.jwt_file:
        token = read_file("vault_jwt_file", options.jwt_file)
    else:
        token = _from_github(options)
    return log_in(client, options.auth_mount or MOUNT, {"role": options.role, "jwt": token})


def _from_github(options: VaultOptions) -> str:
    """A token for the audience. Raises SecretError, or StoreError where asking again may help.

    Source: docs.github.com, OpenID Connect reference, "Requesting the JWT using environment variables".
    """
    import requests

    try:
        answer = requests.get(
            os.environ[_GITHUB_URL],
            params={"audience": options.jwt_github_audience},
            headers={"Authorization": f"Bearer {os.environ[_GITHUB_TOKEN]}"},
            timeout=options.timeout,
            allow_redirects=False,
        )
        if answer.status_code == requests.codes.ok:
            return str(answer.json()["value"])
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout):
        raise StoreError("was not asked: GitHub does not answer when asked for a token", lasting=False) from None
    except (requests.exceptions.RequestException, ValueError, KeyError, TypeError):
        raise SecretError("GitHub gave no token") from None
    raise SecretError(f"GitHub gave no token (HTTP {answer.status_code})")
