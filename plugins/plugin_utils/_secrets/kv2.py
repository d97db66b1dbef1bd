# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read and write one secret of a key-value engine of version 2, whose check-and-set lets one of several writers win."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.backend_vault import VaultBackend
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_client import (
    DeniedError,
    MissingError,
    RejectedError,
    VaultClient,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_kv import Place

#: What Vault and OpenBao say when the version is not the one that was to be replaced.
_LOST = "check-and-set parameter did not match"


class LostRaceError(Exception):
    """Somebody else wrote first."""


class Held(NamedTuple):
    """What a secret holds: ``fields`` is None when there is none or a deleted one; ``version`` 0 before the first."""

    fields: Mapping[str, Any] | None
    version: int


class Kv2Secret:
    """A secret by its ``location``, MOUNT/PATH."""

    def __init__(self, client: VaultClient, place: Place, location: str) -> None:
        self._client = client
        self._mount = place.mount
        self._path = location.removeprefix(place.mount)
        self._data = f"{place.mount}data/{self._path}"

    def read(self) -> Held:
        """The newest version. Raises SecretError and StoreError."""
        try:
            data = self._client.get(self._data)["data"]
        except MissingError as error:
            return Held(None, _version((error.body.get("data") or {}).get("metadata")))
        except DeniedError:
            raise self._denied("read") from None
        except RejectedError as error:
            raise SecretError(f"rejected the request for {self._path} in {self._mount} (HTTP 400): {error}") from None
        fields = data.get("data")
        return Held(fields if isinstance(fields, dict) else None, _version(data.get("metadata")))

    def write(self, fields: Mapping[str, Any], *, over: int) -> int:
        """Write the version after ``over`` and return its number.

        Raises LostRaceError, with nothing written, when ``over`` is not the newest version; SecretError; StoreError.
        """
        try:
            answer = self._client.post(self._data, {"data": dict(fields), "options": {"cas": over}})
        except RejectedError as error:
            if _LOST in str(error):
                raise LostRaceError from None
            raise SecretError(f"rejected {self._path} in {self._mount} (HTTP 400): {error}") from None
        except (DeniedError, MissingError):
            raise self._denied("update" if over else "create") from None
        return _version(answer.get("data"))

    def wrap(self, fields: Mapping[str, str], seconds: int) -> str:
        """A token that can be exchanged for ``fields`` once, within so many seconds. Raises SecretError, StoreError."""
        try:
            answer = self._client.post("sys/wrapping/wrap", dict(fields), wrap_ttl=f"{seconds}s")
            return str(answer["wrap_info"]["token"])
        except (DeniedError, MissingError, RejectedError, KeyError, TypeError):
            raise SecretError('does not wrap: a policy must allow "update" on sys/wrapping/wrap') from None

    def _denied(self, capability: str) -> SecretError:
        return SecretError(
            f'denies it for {self._path} in {self._mount}: a policy must allow "create", "update" and "read" on '
            f'{self._data}, and "{capability}" is refused'
        )


@contextmanager
def kv2_secret(vault: VaultBackend, location: str) -> Iterator[Kv2Secret]:
    """The secret, for as long as nobody else of the run asks the store.

    Raises one SecretError for whatever goes wrong, which names location and store and never a value.
    """
    try:
        with vault.visit(location) as (client, place):
            try:
                yield Kv2Secret(client, _suitable(place, location), location)
            except SecretError as error:
                raise SecretError(f"{vault.store} {error}") from None
    except SecretError as error:
        raise SecretError(f"{location}: {error}") from None


def _suitable(place: Place | None, location: str) -> Place:
    if place is None:
        raise SecretError("has no key-value engine there, or denies everything in it")
    if place.version != 2:
        raise SecretError(
            f"keeps no versions in {place.mount}, which is KV version {place.version}: without check-and-set two "
            "runs could make two keys. Use an engine of version 2"
        )
    if location == place.mount.rstrip("/") or not location.removeprefix(place.mount):
        raise SecretError(f"has an engine at {place.mount}, and the path names no secret in it")
    return place


def _version(metadata: Any) -> int:
    version = metadata.get("version") if isinstance(metadata, Mapping) else None
    return version if isinstance(version, int) else 0
