# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways to log in to Vault and OpenBao: each is a module ``vault_auth_*`` that looks like `AuthMethod`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets import (
    vault_auth_approle,
    vault_auth_aws_iam,
    vault_auth_cert,
    vault_auth_jwt,
    vault_auth_kubernetes,
    vault_auth_ldap,
    vault_auth_token,
    vault_auth_userpass,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import Login


class AuthMethod(Protocol):
    """A way to get a token."""

    @property
    def NAME(self) -> str:  # noqa: N802
        """What ``vault_auth_method`` calls it."""

    @property
    def MOUNT(self) -> str:  # noqa: N802
        """Where it is mounted when ``vault_auth_mount`` is not given; '' when nowhere."""

    @property
    def OPTIONS(self) -> tuple[str, ...]:  # noqa: N802
        """What a refused login makes one check; ``a|b`` is whichever of the options is given, the first if none is."""

    @property
    def HINTS(self) -> Mapping[str, str]:  # noqa: N802
        """Words in a refusal, and what they mean; the words of a server are never shown themselves."""

    def validate(self, options: VaultOptions) -> None:
        """Raise one SecretError that tells every option that is missing or wrong; asks nobody."""

    def authenticate(self, client: Any, options: VaultOptions) -> Login:
        """Log in with an ``hvac.Client`` that has no token.

        Exceptions of hvac and requests about the server pass. Everything else that goes wrong is a SecretError.
        """


AUTH_METHODS: Mapping[str, AuthMethod] = {
    method.NAME: method
    for method in (
        vault_auth_token,
        vault_auth_approle,
        vault_auth_jwt,
        vault_auth_kubernetes,
        vault_auth_userpass,
        vault_auth_ldap,
        vault_auth_cert,
        vault_auth_aws_iam,
    )
}


def auth_method(options: VaultOptions) -> AuthMethod:
    """The method that the options name. Raises SecretError."""
    if options.auth_method not in AUTH_METHODS:
        raise SecretError(f"vault_auth_method must be one of {', '.join(AUTH_METHODS)}")
    return AUTH_METHODS[options.auth_method]


def refusal(method: AuthMethod, options: VaultOptions, said: str) -> str:
    """What to tell about a login that the server refused with the words ``said``, which may be ''."""
    advice = next((hint for words, hint in method.HINTS.items() if words in said), "")
    if not advice:
        checked = (_given(options, names.split("|")) for names in method.OPTIONS)
        advice = f"check {', '.join(checked)} (auth/{options.auth_mount or method.MOUNT})"
    return f"refused the login ({method.NAME}): {advice}"


def _given(options: VaultOptions, names: Sequence[str]) -> str:
    return next((name for name in names if getattr(options, name.removeprefix("vault_"))), names[0])
