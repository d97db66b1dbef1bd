# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The key-value engines, versions 2 and 1: find out where a secret is, read it, and say why it cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_client import (
    DeniedError,
    MissingError,
    RejectedError,
    VaultClient,
)


class Place(NamedTuple):
    """A key-value engine: where it is mounted, with a slash at the end, and its version."""

    mount: str
    version: int


class Secret(NamedTuple):
    """What one request reads: all fields under a path, of the newest version or of a given one."""

    location: str
    version: int | None

    @property
    def key(self) -> str:
        return f"{self.location}?version={self.version or ''}"


class Found(NamedTuple):
    """The fields of a secret, and what the engine knows of that version (nothing in version 1)."""

    fields: Mapping[str, Any]
    metadata: Mapping[str, Any]


class KvReader:
    """Reads secrets with a client that is logged in, and remembers engines in ``mounts``."""

    def __init__(self, client: VaultClient, mounts: dict[str, int], version: int | None) -> None:
        """``version`` None: of each engine, find it out."""
        self._client = client
        self._mounts = mounts
        self._version = version

    def place(self, location: str) -> Place | None:
        """The engine that holds a location, as far as it is known."""
        if self._version is not None:
            return Place(location.partition("/")[0] + "/", self._version)
        return self._known(location)

    def engine(self, location: str) -> Place | None:
        """The engine that holds a location for certain, whatever the options say; None when nobody knows of one."""
        place = self._known(location) or self._ask(location)
        if place is not None:
            self._mounts[place.mount] = place.version
        return place

    def read(self, secret: Secret) -> Found:
        """All fields. Raises SecretError, which is about this secret, and StoreError."""
        place = self.place(secret.location)
        if place is None:
            # Most engines are version 2 and mounted under one name. Trying that first costs most runs no request, and
            # needs no policy but the one that the secret needs anyway.
            guess = Place(secret.location.partition("/")[0] + "/", 2)
            try:
                found = self._get(secret, guess)
            except (DeniedError, MissingError) as error:
                place = self._ask(secret.location)
                if place is None:
                    raise _no_engine(secret, error) from None
                self._mounts[place.mount] = place.version
                if place == guess:
                    raise _problem(secret, place, error) from None
            else:
                self._mounts[guess.mount] = guess.version
                return found
        try:
            return self._get(secret, place)
        except (DeniedError, MissingError) as error:
            raise _problem(secret, place, error) from None

    def _known(self, location: str) -> Place | None:
        return next((Place(*known) for known in self._mounts.items() if location.startswith(known[0])), None)

    def _get(self, secret: Secret, place: Place) -> Found:
        path = _path(secret, place)
        try:
            if place.version == 1:
                if secret.version is not None:
                    raise SecretError(f"keeps no versions in {place.mount}, which is KV version 1")
                return Found(self._client.get(place.mount + path)["data"], {})
            data = self._client.get(f"{place.mount}data/{path}", secret.version)["data"]
        except RejectedError as error:
            raise SecretError(f"rejected the request for {secret.location} (HTTP 400): {error}") from None
        fields, metadata = data.get("data"), data.get("metadata")
        if not isinstance(fields, dict) or not isinstance(metadata, dict):
            # A secret of a version 1 engine that happens to lie under data/.
            raise MissingError({})
        return Found(fields, metadata)

    def _ask(self, location: str) -> Place | None:
        """Ask where the engine is mounted; a token may know that of every mount in which it may read anything."""
        try:
            data = self._client.get("sys/internal/ui/mounts/" + location)["data"]
        except (DeniedError, MissingError, RejectedError):
            return None
        if data.get("type") not in ("kv", "generic"):
            raise SecretError(f"has no key-value engine at {data.get('path')}: it is of type {data.get('type')}")
        return Place(str(data["path"]), int((data.get("options") or {}).get("version") or 1))


def _path(secret: Secret, place: Place) -> str:
    path = secret.location[len(place.mount) :]
    if not path:
        raise SecretError(f"has an engine at {place.mount}, and the reference names no secret in it")
    return path


def _no_engine(secret: Secret, error: Exception) -> SecretError:
    if isinstance(error, DeniedError):
        return SecretError(f"denies reading {secret.location}, or has no key-value engine there")
    return SecretError(f"has no key-value engine for {secret.location}")


def _problem(secret: Secret, place: Place, error: Exception) -> SecretError:
    engine = f"{place.mount} (KV version {place.version})"
    path = _path(secret, place)
    if isinstance(error, DeniedError):
        allowed = place.mount + ("data/" if place.version == 2 else "") + path
        return SecretError(f'denies reading {path} in {engine}: a policy must allow "read" on {allowed}')
    metadata = ((getattr(error, "body", {}).get("data") or {}).get("metadata")) or {}
    if metadata.get("destroyed") or metadata.get("deletion_time"):
        gone = "destroyed" if metadata.get("destroyed") else "deleted"
        return SecretError(f"has no secret {path} in {engine} any more: version {metadata.get('version')} was {gone}")
    version = f"version {secret.version} of " if secret.version else ""
    return SecretError(f"has no {version or 'secret '}{path} in {engine}")
