# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A login to Vault or OpenBao: the request that all methods share, what it brings, and what they check before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_client import StoreError


@dataclass(frozen=True)
class Login:
    """A token; ``seconds`` is its life, None when it does not end or nobody knows.

    ``own`` tells that this run made it: such a token is kept alive while the run needs it, and revoked after. ``again``
    are options for a later login of the run, in place of those that could be used only once.
    """

    token: str = field(repr=False)
    seconds: float | None
    renewable: bool
    own: bool
    again: Mapping[str, str] = field(default_factory=dict, repr=False)


def log_in(client: Any, mount: str, body: Mapping[str, Any], *, user: str = "") -> Login:
    """Send ``body`` to the login of the method at ``auth/MOUNT`` with an ``hvac.Client``; exceptions as `AuthMethod`.

    hvac has a call for each method, but not all of them quote what they put into the path.
    """
    path = f"/v1/auth/{quote(mount)}/login" + (f"/{quote(user, safe='')}" if user else "")
    return login_of(client.adapter.login(url=path, use_token=False, json=dict(body)))


def login_of(answer: Mapping[str, Any]) -> Login:
    """The login in the answer of an auth method.

    Raises StoreError when the server wants a second factor, and KeyError or TypeError for an answer that Vault does
    not give. Source: the ``auth`` object of Vault's HTTP API; a ``lease_duration`` of 0 is a token that does not end.
    """
    auth = answer["auth"]
    if not auth["client_token"] and auth.get("mfa_requirement"):
        text = "asks for a second factor, which a run cannot give: exempt this login from MFA on the server"
        raise StoreError(text, lasting=True)
    return Login(
        token=str(auth["client_token"]),
        seconds=float(auth["lease_duration"]) or None,
        renewable=bool(auth.get("renewable")),
        own=True,
    )


def refuse(method: str, problems: Sequence[str]) -> None:
    """Raise SecretError with all problems of a method's options, in one sentence; nothing when there are none."""
    if problems:
        raise SecretError(f"the auth method {method} " + "; it ".join(problems))


def file_problems(option: str, path: str) -> list[str]:
    """What is wrong with a file that an option names, as far as it can be told without reading it."""
    if path and not Path(path).expanduser().is_file():
        return [f"needs the file {path} ({option}), which is not there on the controller"]
    return []


def read_file(option: str, path: str) -> str:
    """The one line that a file on the controller holds; ``~`` is the user's home. Raises SecretError."""
    try:
        text = Path(path).expanduser().read_bytes().decode().strip()
    except (OSError, RuntimeError) as error:
        raise SecretError(f"{option} {path} cannot be read: {getattr(error, 'strerror', None) or 'no home'}") from None
    except UnicodeDecodeError:
        text = "\n"
    if not text:
        raise SecretError(f"{option} {path} is empty")
    if not (text.isascii() and text.isprintable()):
        raise SecretError(f"{option} {path} must hold one line of ASCII text and nothing else")
    return text
