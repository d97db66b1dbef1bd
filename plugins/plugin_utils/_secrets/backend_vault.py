# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``vault://MOUNT/PATH#FIELD[?version=N]``: the key-value engines of HashiCorp Vault and OpenBao, versions 2 and 1.

A run logs in once and reads each secret once, whatever the number of its fields, hosts, tasks and forks: everything
that was learned goes into the run's cache, refusals included. A wrong secret id that every host tries makes the store
lock the role, and then right ones are refused too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

from ansible.utils.display import Display

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.fields import field_of
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_auth import (
    auth_method,
    identity,
    refusal,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_client import (
    DeniedError,
    MissingError,
    RejectedError,
    StoreError,
    VaultClient,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import Login
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.watch import Keeper

#: Reads at a time: with 40 ms to the store, 50 reads take 0.4 s so, and 2.2 s one by one.
_THREADS = 8
#: How long a store that was down, sealed or slow is not asked again, in seconds: the other hosts of a batch would each
#: wait for the same timeout.
_RETRY_AFTER = 60.0
#: A token counts as ended this long before it does, in seconds, or after nine tenths of a life that is shorter.
_MARGIN = 10.0


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


class VaultBackend:
    """Reads secrets of one store for one run."""

    def __init__(self, options: VaultOptions, cache: RunCache) -> None:
        self._options = options
        self._cache = cache
        self._keeper = Keeper(cache)
        self._name = cache.name("vault " + json.dumps(identity(options), sort_keys=True))

    @property
    def store(self) -> str:
        """What messages call the store."""
        namespace = f", namespace {self._options.namespace}" if self._options.namespace else ""
        return f"Vault at {self._options.addr or '(no address)'}{namespace}"

    def fetch(self, references: Sequence[Reference]) -> Mapping[Reference, str | SecretError]:
        """The text of each reference's field, or why there is none."""
        wanted = {reference: Secret(reference.location, reference.version) for reference in references}
        answers = self.read(wanted.values())
        values: dict[Reference, str | SecretError] = {}
        for reference, secret in wanted.items():
            answer = answers[secret]
            if isinstance(answer, SecretError):
                values[reference] = SecretError(f"{reference.text}: {answer}")
            else:
                values[reference] = field_of(reference, answer, f"the secret in {self.store}")
        return values

    def read(self, secrets: Iterable[Secret]) -> Mapping[Secret, Mapping[str, Any] | SecretError]:
        """All fields of each secret, or why there are none; the store is asked for what the run does not know yet.

        Raises SecretError when the store as a whole cannot be used and something had to be asked.
        """
        wanted = list(dict.fromkeys(secrets))
        state: Mapping[str, Any] = self._cache.load(self._name)
        if self._unknown(state, wanted):
            try:
                state = self._learn(wanted)
            except OSError as error:
                raise SecretError(f"the cache of this run cannot be written: {error.strerror}") from None
        return {secret: self._answer(state, secret) for secret in wanted}

    @contextmanager
    def visit(self, location: str) -> Iterator[tuple[VaultClient, Place | None]]:
        """The store itself, with the run's login, and the engine that holds ``location``: for more than reading.

        No other process of the run asks the store meanwhile, and the run reads ``location`` anew after it. Raises
        SecretError, also in place of a StoreError of what is done in it.
        """
        try:
            with self._cache.lock(self._name), ExitStack() as visit:
                state = self._state()
                state["secrets"].pop(Secret(location, None).key, None)
                self._unknown(state, [Secret(location, None)])
                state["failure"] = None
                try:
                    reader = _Reader(self._options, state, visit, self._keeper)
                    yield reader.client, reader.engine(location)
                except StoreError as failure:
                    self._note_failure(state, failure)
                    raise self._failed(state["failure"]) from None
                finally:
                    self._cache.publish(self._name, state)
        except OSError as error:
            raise SecretError(f"the cache of this run cannot be written: {error.strerror}") from None

    def _unknown(self, state: Mapping[str, Any], wanted: Iterable[Secret]) -> list[Secret]:
        """Those that have to be asked for. Raises SecretError when the store failed for good or not long ago."""
        unknown = _missing(state, wanted)
        failure = state.get("failure")
        if unknown and failure and (failure["until"] is None or time.time() < failure["until"]):
            raise self._failed(failure)
        return unknown

    def _failed(self, failure: Mapping[str, Any]) -> SecretError:
        return SecretError(f"{self.store} {failure['text']}")

    def _answer(self, state: Mapping[str, Any], secret: Secret) -> Mapping[str, Any] | SecretError:
        known: Mapping[str, Any] = state["secrets"][secret.key]
        if "error" in known:
            return SecretError(f"{self.store} {known['error']}")
        fields: Mapping[str, Any] = known["fields"]
        return fields

    def _learn(self, wanted: Sequence[Secret]) -> Mapping[str, Any]:
        """Ask the store for what no process of the run has asked for yet, and publish the answers."""
        with self._cache.lock(self._name):
            state = self._state()
            unknown = self._unknown(state, wanted)
            if not unknown:
                return state
            state["failure"] = None
            try:
                with ExitStack() as visit:
                    _Reader(self._options, state, visit, self._keeper).read(unknown)
            except StoreError as failure:
                self._note_failure(state, failure)
            self._cache.publish(self._name, state)
            if state["failure"] and _missing(state, wanted):
                raise self._failed(state["failure"])
            return state

    def _state(self) -> dict[str, Any]:
        return {"token": None, "mounts": {}, "secrets": {}, "failure": None, **self._cache.load(self._name)}

    def _note_failure(self, state: dict[str, Any], failure: StoreError) -> None:
        until = None if failure.lasting else time.time() + _RETRY_AFTER
        state["failure"] = {"text": str(failure), "until": until}


class _Reader:
    """One visit to the store, under the lock; writes what it learns into ``state``. ``visit`` ends its connections."""

    def __init__(self, options: VaultOptions, state: dict[str, Any], visit: ExitStack, keeper: Keeper) -> None:
        self._keeper = keeper
        self._options = options
        self._state = state
        self._visit = visit
        self._mounts: dict[str, int] = state["mounts"]
        self._client = self._connect()

    def read(self, secrets: Sequence[Secret]) -> None:
        """Read all of them; what was read before a StoreError stays in the state."""
        rest = []
        for secret in secrets:
            if self._place(secret.location) is None:
                self._note(secret)
            else:
                rest.append(secret)
        if rest:
            # The first StoreError that map() raises cancels what has not begun.
            with ThreadPoolExecutor(min(_THREADS, len(rest))) as pool:
                list(pool.map(self._note, rest))

    @property
    def client(self) -> VaultClient:
        """The connection, which is logged in."""
        return self._client

    def engine(self, location: str) -> Place | None:
        """The engine that holds a location for certain, whatever the options say; None when nobody knows of one."""
        place = self._known(location) or self._ask(location)
        if place is not None:
            self._mounts[place.mount] = place.version
        return place

    def _connect(self) -> VaultClient:
        token = self._state["token"]
        if token and (token["until"] is None or time.time() < token["until"]):
            return self._open(token["value"])
        try:
            auth_method(self._options).validate(self._options)
            client = self._open("")
        except SecretError as error:
            raise StoreError(f"cannot be asked: {error}", lasting=True) from None
        if self._options.auth_method != "token":
            # Before the login, so that no token is ever without somebody who revokes it.
            with suppress(OSError), _living_run():
                self._keeper.start()
        login = self._login(client)
        self._keep(client, login)
        until = None if login.seconds is None else time.time() + login.seconds - min(_MARGIN, login.seconds / 10)
        self._state["token"] = {"value": login.token, "until": until}
        client.hvac.token = login.token
        return client

    def _keep(self, client: VaultClient, login: Login) -> None:
        if not login.own:
            return
        try:
            with _living_run():
                self._keeper.hold(self._options, login)
        except StoreError:
            client.hvac.token = login.token
            with suppress(StoreError, DeniedError, MissingError, RejectedError):
                client.post("auth/token/revoke-self", {})
            raise
        except OSError:
            what = "the token of this run will not be revoked; it ends after its own time"
            Display().warning(f"Vault at {self._options.addr}: {what}")

    def _open(self, token: str) -> VaultClient:
        client = VaultClient(self._options, token)
        self._visit.callback(client.close)
        return client

    def _login(self, client: VaultClient) -> Login:
        method = auth_method(self._options)
        try:
            with client.told():
                return method.authenticate(client.hvac, self._options)
        except (DeniedError, MissingError, RejectedError) as error:
            raise StoreError(refusal(method, self._options, str(error)), lasting=True) from None
        except SecretError as error:
            raise StoreError(f"cannot be asked: {error}", lasting=True) from None
        except (KeyError, TypeError):
            raise StoreError("does not answer a login as Vault does; is vault_addr right?", lasting=False) from None

    def _note(self, secret: Secret) -> None:
        try:
            self._state["secrets"][secret.key] = {"fields": self._read(secret)}
        except SecretError as error:
            self._state["secrets"][secret.key] = {"error": str(error)}

    def _read(self, secret: Secret) -> Mapping[str, Any]:
        place = self._place(secret.location)
        if place is None:
            # Most engines are version 2 and mounted under one name. Trying that first costs most runs no request, and
            # needs no policy but the one that the secret needs anyway.
            guess = Place(secret.location.partition("/")[0] + "/", 2)
            try:
                fields = self._get(secret, guess)
            except (DeniedError, MissingError) as error:
                place = self._ask(secret.location)
                if place is None:
                    raise _no_engine(secret, error) from None
                self._mounts[place.mount] = place.version
                if place == guess:
                    raise _problem(secret, place, error) from None
            else:
                self._mounts[guess.mount] = guess.version
                return fields
        try:
            return self._get(secret, place)
        except (DeniedError, MissingError) as error:
            raise _problem(secret, place, error) from None

    def _place(self, location: str) -> Place | None:
        """The engine that holds a location, as far as it is known."""
        if self._options.kv_version is not None:
            return Place(location.partition("/")[0] + "/", self._options.kv_version)
        return self._known(location)

    def _known(self, location: str) -> Place | None:
        return next((Place(*known) for known in self._mounts.items() if location.startswith(known[0])), None)

    def _get(self, secret: Secret, place: Place) -> Mapping[str, Any]:
        path = _path(secret, place)
        try:
            if place.version == 1:
                if secret.version is not None:
                    raise SecretError(f"keeps no versions in {place.mount}, which is KV version 1")
                found: Mapping[str, Any] = self._client.get(place.mount + path)["data"]
                return found
            data = self._client.get(f"{place.mount}data/{path}", secret.version)["data"]
        except RejectedError as error:
            raise SecretError(f"rejected the request for {secret.location} (HTTP 400): {error}") from None
        fields = data.get("data")
        if not isinstance(fields, dict) or "metadata" not in data:
            # A secret of a version 1 engine that happens to lie under data/.
            raise MissingError({})
        return fields

    def _ask(self, location: str) -> Place | None:
        """Ask where the engine is mounted; a token may know that of every mount in which it may read anything."""
        try:
            data = self._client.get("sys/internal/ui/mounts/" + location)["data"]
        except (DeniedError, MissingError, RejectedError):
            return None
        if data.get("type") not in ("kv", "generic"):
            raise SecretError(f"has no key-value engine at {data.get('path')}: it is of type {data.get('type')}")
        return Place(str(data["path"]), int((data.get("options") or {}).get("version") or 1))


@contextmanager
def _living_run() -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        raise StoreError("is not asked any more: the run was ended", lasting=True) from None


def _missing(state: Mapping[str, Any], secrets: Iterable[Secret]) -> list[Secret]:
    return [secret for secret in secrets if secret.key not in state.get("secrets", {})]


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
