# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a login to Vault or OpenBao brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Login:
    """A token; ``seconds`` is its life, None when it does not end or nobody knows.

    ``own`` tells that this run made it: such a token is kept alive while the run needs it, and revoked after.
    """

    token: str = field(repr=False)
    seconds: float | None
    renewable: bool
    own: bool


def login_of(answer: Mapping[str, Any]) -> Login:
    """The login in the answer of an auth method. Raises KeyError or TypeError for an answer that Vault does not give.

    Source: the ``auth`` object of Vault's HTTP API; a ``lease_duration`` of 0 means that the token does not end.
    """
    auth = answer["auth"]
    return Login(
        token=str(auth["client_token"]),
        seconds=float(auth["lease_duration"]) or None,
        renewable=bool(auth.get("renewable")),
        own=True,
    )
