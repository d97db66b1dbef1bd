# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``vault://MOUNT/PATH#FIELD[?version=N]`` and whatever else is read from HashiCorp Vault and OpenBao.

A run logs in once and reads each secret once, whatever the number of its fields, hosts, tasks and forks: everything
that was learned goes into the run's cache, refusals included. A wrong secret id that every host tries makes the store
lock the role, and then right ones are refused too.

The cache has one small object with the token and the engines, which changes with each visit, and one for each answer:
rewriting all answers for each new one would cost a run with 10,000 secrets minutes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets import vault_path
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.fields import field_of
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions, identity
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_client import StoreError, VaultClient
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_kv import Found, KvReader, Place, Secret
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_path import Request

if TYPE_CHECKING:
    from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_visit import Visit

#: Reads at a time: with 40 ms to the store, 50 reads take 0.4 s so, and 2.2 s one by one.
_THREADS = 8
#: How long a store that was down, sealed or slow is not asked again, in seconds: the other hosts of a batch would each
#: wait for the same timeout.
_RETRY_AFTER = 60.0

Question = TypeVar("Question", Secret, Request)
#: What is known about a question: the answer, or ``error``.
Entry = dict[str, Any]


class VaultBackend:
    """Reads secrets of one store for one run; with ``keep``, what is got outlives it: nothing is revoked."""

    def __init__(self, options: VaultOptions, cache: RunCache, *, keep: bool = False) -> None:
        self._options = options
        self._cache = cache
        self._keep = keep
        self._identity = "vault " + json.dumps(identity(options), sort_keys=True)
        self._name = cache.name(self._identity)

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
                values[reference] = field_of(reference, answer.fields, f"the secret in {self.store}")
        return values

    def read(self, secrets: Iterable[Secret]) -> Mapping[Secret, Found | SecretError]:
        """Each secret, or why there is none; the store is asked for what the run does not know yet.

        Raises SecretError when the store as a whole cannot be used and something had to be asked.
        """
        entries = self._entries(list(dict.fromkeys(secrets)), self._read_secrets)
        return {
            secret: self._error(entry) or Found(entry["fields"], entry["metadata"]) for secret, entry in entries.items()
        }

    def ask(self, requests: Iterable[Request]) -> Mapping[Request, Mapping[str, Any] | SecretError]:
        """The data of each answer, or why there is none; raises as `read`.

        An answer with a lease is known for as long as the lease lives.
        """
        entries = self._entries(list(dict.fromkeys(requests)), self._send_requests)
        return {request: self._error(entry) or entry["data"] for request, entry in entries.items()}

    @contextmanager
    def visit(self, location: str) -> Iterator[tuple[VaultClient, Place | None]]:
        """The store itself, with the run's login, and the engine that holds ``location``: for more than reading.

        No other process of the run asks the store meanwhile, and the run reads ``location`` anew after it. Raises
        SecretError, also in place of a StoreError of what is done in it.
        """
        with self._asking() as state, ExitStack() as stack:
            self._cache.forget(self._entry_name(Secret(location, None)))
            visit = self._enter(state, stack)
            try:
                engine = self._reader(visit, state).engine(location)
            except SecretError as error:
                raise SecretError(f"{self.store} {error}") from None
            yield visit.client, engine

    def _entries(
        self, questions: list[Question], learn: Callable[[Visit, dict[str, Any], list[Question]], None]
    ) -> Mapping[Question, Entry]:
        """What is known about each question after those that nobody has asked yet are asked with ``learn``."""
        known = self._known(self._cache.load(self._name), questions)
        if len(known) == len(questions):
            return known
        with self._asking() as state, ExitStack() as stack:
            # Another process may have asked while this one waited for the lock.
            known = self._known(state, questions)
            unknown = [question for question in questions if question not in known]
            if unknown:
                visit = self._enter(state, stack)
                learn(visit, state, unknown)
                known |= self._known(state, unknown)
        return known

    @contextmanager
    def _asking(self) -> Iterator[dict[str, Any]]:
        """The state, under the lock. A StoreError becomes a SecretError, which the other processes get as well."""
        try:
            with self._cache.lock(self._name):
                state = {"mounts": {}, "failure": None, **self._cache.load(self._name)}
                before = json.dumps(state)
                try:
                    yield state
                except StoreError as failure:
                    until = None if failure.lasting else time.monotonic() + _RETRY_AFTER
                    state["failure"] = {"text": str(failure), "until": until}
                    raise self._failed(state["failure"]) from None
                finally:
                    if json.dumps(state) != before:
                        self._cache.publish(self._name, state)
        except OSError as error:
            raise SecretError(f"the cache of this run cannot be written: {error.strerror}") from None

    def _enter(self, state: dict[str, Any], stack: ExitStack) -> Visit:
        """Visit the store. Raises SecretError when it failed for good or not long ago, and StoreError."""
        failure = state["failure"]
        if failure and (failure["until"] is None or time.monotonic() < failure["until"]):
            raise self._failed(failure)
        state["failure"] = None
        # Ansible compiles what is imported in every fork again, and few have to ask.
        from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_visit import Visit
        from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.watch import Keeper

        visit = Visit(self._options, state, None if self._keep else Keeper(self._cache), stack)
        # Should this process be killed, the next one need not log in again.
        self._cache.publish(self._name, state)
        return visit

    def _reader(self, visit: Visit, state: dict[str, Any]) -> KvReader:
        return KvReader(visit.client, state["mounts"], self._options.kv_version)

    def _read_secrets(self, visit: Visit, state: dict[str, Any], secrets: list[Secret]) -> None:
        reader = self._reader(visit, state)

        def read(secret: Secret) -> None:
            try:
                fields, metadata = reader.read(secret)
                self._note(secret, {"fields": fields, "metadata": metadata})
            except SecretError as error:
                self._note(secret, {"error": str(error)})

        rest = []
        for secret in secrets:
            if reader.place(secret.location) is None:
                read(secret)
            else:
                rest.append(secret)
        if rest:
            # The first StoreError that map() raises cancels what has not begun.
            with ThreadPoolExecutor(min(_THREADS, len(rest))) as pool:
                list(pool.map(read, rest))

    def _send_requests(self, visit: Visit, state: dict[str, Any], requests: list[Request]) -> None:
        for request in requests:
            ended = self._cache.load(self._entry_name(request))
            try:
                entry = (vault_path.renewed(visit, ended) if ended else None) or vault_path.ask(visit, request)
            except SecretError as error:
                entry = {"error": str(error)}
            self._note(request, entry)

    def _known(self, state: dict[str, Any], questions: Iterable[Question]) -> dict[Question, Entry]:
        entries = {question: self._cache.load(self._entry_name(question)) for question in questions}
        return {question: entry for question, entry in entries.items() if entry and self._lives(entry, state)}

    def _note(self, question: Secret | Request, entry: Entry) -> None:
        self._cache.publish(self._entry_name(question), entry)

    def _entry_name(self, question: Secret | Request) -> str:
        return self._cache.name(f"{self._identity} {self._keep} {question.key}")

    def _failed(self, failure: Mapping[str, Any]) -> SecretError:
        return SecretError(f"{self.store} {failure['text']}")

    def _error(self, entry: Entry) -> SecretError | None:
        return SecretError(f"{self.store} {entry['error']}") if "error" in entry else None

    def _lives(self, entry: Entry, state: dict[str, Any]) -> bool:
        """Whether what is known is still so: a lease ends in its time, or with the login that it was got with."""
        if "lease" not in entry:
            return True
        from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_visit import held_of

        login = held_of(state, keep=self._keep)["logins"]
        return entry["login"] == login and (entry["until"] is None or time.monotonic() < entry["until"])
