# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways to log in to Vault and OpenBao: each is a module ``vault_auth_*`` that looks like `AuthMethod`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets import vault_auth_approle, vault_auth_token
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import Login


class AuthMethod(Protocol):
    """A way to get a token."""

    @property
    def NAME(self) -> str:  # noqa: N802
        """What ``vault_auth_method`` calls it."""

    @property
    def OPTIONS(self) -> tuple[str, ...]:  # noqa: N802
        """The options that a refused login makes one check."""

    def validate(self, options: VaultOptions) -> None:
        """Raise SecretError with a line for each option that is missing or wrong; asks nobody."""

    def authenticate(self, client: Any, options: VaultOptions) -> Login:
        """Log in with an ``hvac.Client`` that has no token. Exceptions of hvac and requests pass."""


AUTH_METHODS: Mapping[str, AuthMethod] = {method.NAME: method for method in (vault_auth_token, vault_auth_approle)}


def auth_method(options: VaultOptions) -> AuthMethod:
    """The method that the options name. Raises SecretError."""
    if options.auth_method not in AUTH_METHODS:
        raise SecretError(f"vault_auth_method must be one of {', '.join(AUTH_METHODS)}")
    return AUTH_METHODS[options.auth_method]
