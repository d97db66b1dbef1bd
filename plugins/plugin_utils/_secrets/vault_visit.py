# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A visit to Vault or OpenBao: a connection that is logged in as the run, for as long as it is needed.

Processes of a run visit one after the other, and what they know of the token is in ``state``, which they share. The
token is renewed by the keeper while nobody visits, and by a visit when little of its life is left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

from ansible.utils.display import Display

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.keeper import Lease
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_auth import auth_method, refusal
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_client import (
    DeniedError,
    MissingError,
    RejectedError,
    StoreError,
    TokenError,
    VaultClient,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import Login
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.watch import Keeper

#: A token counts as ended this long before it does, in seconds, or after nine tenths of a life that is shorter.
_MARGIN = 10.0
#: What is left of the life of a token when a visit renews it.
_RENEWED_AT = 1 / 3


class Visit:
    """One visit, under the lock of the store. ``keeper`` is None when what is got has to outlive the run.

    Then it has a login of its own in the same ``state``: one that failed or that cannot be done twice concerns both.
    """

    def __init__(self, options: VaultOptions, state: dict[str, Any], keeper: Keeper | None, stack: ExitStack) -> None:
        """Log in, unless the run is. ``stack`` ends the connections. Raises StoreError."""
        self._options = options
        self._state = state
        self._held = held_of(state, keep=keeper is None)
        self._keeper = keeper
        self._stack = stack
        self._fresh = False
        self._replacing = threading.Lock()
        self.client = self._connect()
        self.client.replace = self._replace

    @property
    def login(self) -> int:
        """The number of the login: what was made with an earlier one has ended."""
        number: int = self._held["logins"]
        return number

    @property
    def token_until(self) -> float | None:
        """When the token ends by the monotonic clock; None when it does not, nobody knows, or it is renewed."""
        token = self._held["token"]
        return None if token["renewable"] and self._keeper else token["until"]

    def hold(self, lease: Lease) -> None:
        """Have a lease renewed while the run lives and revoked after it."""
        if self._keeper is not None:
            self._hand_over(self._held["token"], (lease,))
            if not self._held["token"]["own"]:
                self._check_that_leases_may_be_revoked()

    def _replace(self, refused: str) -> str | None:
        """A new token for one that the store does not know any more; None for one that is new or the user's.

        A token may have been revoked, or a store restored from a backup.
        """
        with self._replacing:
            if self._held["token"]["value"] == refused:
                if self._fresh or not self._held["token"]["own"]:
                    return None
                self._held["token"] = None
                self._connect()
            token: str = self._held["token"]["value"]
            return token

    def _connect(self) -> VaultClient:
        token = self._held["token"]
        if token:
            client = self._open(token["value"])
            if self._lives(token, client):
                return client
        try:
            auth_method(self._options).validate(self._options)
            client = self._open("")
        except SecretError as error:
            raise StoreError(f"cannot be asked: {error}", lasting=True) from None
        if self._keeper is not None and self._options.auth_method != "token":
            # Before the login, so that no token is ever without somebody who revokes it.
            with suppress(OSError), _living_run():
                self._keeper.start()
        login = self._login(client)
        client.hvac.token = login.token
        token = {"value": login.token, "own": login.own, "renewable": login.renewable, **_life(login.seconds)}
        if login.own and self._keeper is not None:
            try:
                self._hand_over(token)
            except StoreError:
                with suppress(StoreError, DeniedError, MissingError, RejectedError):
                    client.post("auth/token/revoke-self", {})
                raise
        self._held["token"] = token
        self._state["again"] = {**self._state.get("again", {}), **login.again}
        self._held["logins"] += 1
        self._fresh = True
        return client

    def _lives(self, token: dict[str, Any], client: VaultClient) -> bool:
        """Whether the token can be used; renews it when that is due."""
        if token["until"] is None:
            return True
        left = token["until"] - time.monotonic()
        usable: bool = left > min(_MARGIN, token["seconds"] / 10)
        # The keeper may have renewed one that seems to have ended.
        if self._keeper is None or not token["renewable"] or left > token["seconds"] * _RENEWED_AT:
            return usable
        try:
            auth = client.post("auth/token/renew-self", {})["auth"]
            token.update(_life(float(auth["lease_duration"])))
        except TokenError:
            return False
        except StoreError:
            if usable:
                return True
            raise
        except (DeniedError, MissingError, RejectedError, KeyError, TypeError):
            return usable
        self._hand_over(token)
        return True

    def _hand_over(self, token: Mapping[str, Any], leases: tuple[Lease, ...] = ()) -> None:
        left = None if token["until"] is None else max(0.0, token["until"] - time.monotonic())
        login = Login(token["value"], left, token["renewable"], token["own"])
        try:
            with _living_run():
                if self._keeper is not None:
                    self._keeper.hold(self._options, login, leases)
        except OSError:
            what = "a lease" if leases else "the token"
            self._warn(f"{what} of this run will not be revoked; it ends after its own time")

    def _check_that_leases_may_be_revoked(self) -> None:
        """Tell when the user's token may not: nobody is there to tell when it is tried."""
        if self._state.get("checked"):
            return
        self._state["checked"] = True
        path = "sys/leases/revoke"
        with suppress(StoreError, DeniedError, MissingError, RejectedError, KeyError, TypeError):
            allowed = self.client.post("sys/capabilities-self", {"paths": [path]})["data"][path]
            if not {"root", "update"} & set(allowed):
                self._warn(f'leases of this run will not be revoked: a policy must allow "update" on {path}')

    def _warn(self, text: str) -> None:
        Display().warning(f"Vault at {self._options.addr}: {text}")

    def _open(self, token: str) -> VaultClient:
        client = VaultClient(self._options, token)
        self._stack.callback(client.close)
        return client

    def _login(self, client: VaultClient) -> Login:
        method = auth_method(self._options)
        try:
            with client.told():
                return method.authenticate(client.hvac, replace(self._options, **self._state.get("again", {})))
        except (DeniedError, MissingError, RejectedError) as error:
            raise StoreError(refusal(method, self._options, str(error)), lasting=True) from None
        except SecretError as error:
            raise StoreError(f"cannot be asked: {error}", lasting=True) from None
        except (KeyError, TypeError):
            raise StoreError("does not answer a login as Vault does; is vault_addr right?", lasting=False) from None


def held_of(state: dict[str, Any], *, keep: bool) -> dict[str, Any]:
    """The part of the state about the token that is revoked with the run, or about the one that is kept."""
    held: dict[str, Any] = state.setdefault("kept" if keep else "run", {"token": None, "logins": 0})
    return held


def _life(seconds: float | None) -> dict[str, float | None]:
    """A life of so many seconds from now on, by the monotonic clock; None or 0: without an end."""
    return {"seconds": seconds or None, "until": time.monotonic() + seconds if seconds else None}


@contextmanager
def _living_run() -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        raise StoreError("is not asked any more: the run was ended", lasting=True) from None
