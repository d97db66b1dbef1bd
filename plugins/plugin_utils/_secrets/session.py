# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve references into values: the one door to all stores, on the controller, at the last moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets import backend_env, backend_file
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.backend_vault import VaultBackend
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.fields import EndedError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import SecretOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_kv import Found, Secret
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_path import Request

if TYPE_CHECKING:
    # The stores of a rare kind: Ansible compiles what is imported in every fork again.
    from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.backend_aws import AwsBackend
    from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.backend_lookup import (
        LookupBackend,
        Surroundings,
    )

#: Answers each reference with its value or with an error that names reference and store; raises SecretError, which
#: names the store alone, when the store as a whole cannot be used.
Fetch = Callable[[Sequence[Reference]], Mapping[Reference, str | SecretError]]

_SHOWN = 5

Question = TypeVar("Question", Secret, Request)
Answer = TypeVar("Answer")


class SecretSession:
    """Reads secrets for the whole run: what any process of it has read or been refused is not asked again."""

    def __init__(
        self, options: SecretOptions, cache: RunCache | None = None, *, surroundings: Surroundings | None = None
    ) -> None:
        """``surroundings`` are for ``lookup://`` references, which cannot be had without."""
        self._options = options
        self._cache = cache
        self._surroundings = surroundings

    def resolve(
        self, references: Iterable[Reference], *, may_end: Container[Reference] = frozenset()
    ) -> Mapping[Reference, str]:
        """The value of every reference, each secret read once; '' for a key that has ended and is in `may_end`.

        Raises one SecretError for all that cannot be had: a line for each, with its reference and store, never a value.
        """
        by_scheme: dict[str, list[Reference]] = {}
        for reference in dict.fromkeys(references):
            by_scheme.setdefault(reference.scheme, []).append(reference)
        values: dict[Reference, str] = {}
        problems: list[str] = []
        for scheme, wanted in by_scheme.items():
            try:
                answers = self._fetch(scheme)(wanted)
            except SecretError as error:
                problems.append(f"{_list([reference.text for reference in wanted])}: {error}")
                continue
            for reference, answer in answers.items():
                if isinstance(answer, EndedError) and reference in may_end:
                    values[reference] = ""
                elif isinstance(answer, SecretError):
                    problems.append(str(answer))
                elif not answer:
                    problems.append(f"{reference.text}: is empty")
                else:
                    values[reference] = answer
        if problems:
            raise SecretError("\n".join(problems))
        return values

    def read(self, references: Iterable[Reference]) -> Mapping[Reference, Found]:
        """All fields of ``vault`` secrets, and what their engine knows of them; fields of the references are ignored.

        Raises one SecretError with a line for each secret that cannot be had.
        """
        secrets = {reference: Secret(reference.location, reference.version) for reference in references}
        names = {secret: Reference("vault", secret.location, None, secret.version).text for secret in secrets.values()}
        answers = _all(self.vault.read, names)
        return {reference: answers[secret] for reference, secret in secrets.items()}

    def ask(
        self, paths: Iterable[str], body: Mapping[str, Any] | None, *, keep: bool
    ) -> Mapping[str, Mapping[str, Any]]:
        """The data that the store answers to GET, or to POST with a ``body``, for any paths.

        With ``keep`` neither the answers' leases nor the token they were got with are revoked. Raises one SecretError
        with a line for each path that gives no answer.
        """
        try:
            text = None if body is None else json.dumps(body, sort_keys=True)
        except TypeError:
            raise SecretError("the data to send must be made of texts, numbers, lists and dictionaries") from None
        requests = {Request(path, text): path for path in paths}
        answers = _all((self._keeping if keep else self.vault).ask, requests)
        return {path: answers[request] for request, path in requests.items()}

    @cached_property
    def vault(self) -> VaultBackend:
        """The store itself, for more than reading."""
        return VaultBackend(self._options.vault, self._cache or RunCache.of_this_run())

    @cached_property
    def _keeping(self) -> VaultBackend:
        return VaultBackend(self._options.vault, self._cache or RunCache.of_this_run(), keep=True)

    @cached_property
    def _aws(self) -> AwsBackend:
        from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.backend_aws import AwsBackend

        return AwsBackend(self._options.aws, self._cache or RunCache.of_this_run())

    @cached_property
    def _lookups(self) -> LookupBackend:
        if self._surroundings is None:
            raise SecretError("lookup plugins cannot be asked here")
        from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.backend_lookup import LookupBackend

        return LookupBackend(self._surroundings, self._cache or RunCache.of_this_run())

    def _fetch(self, scheme: str) -> Fetch:
        backends: Mapping[str, Callable[[], Fetch]] = {
            "vault": lambda: self.vault.fetch,
            "aws-sm": lambda: self._aws.fetch,
            "env": lambda: backend_env.fetch,
            "file": lambda: backend_file.fetch,
            "lookup": lambda: self._lookups.fetch,
        }
        return backends[scheme]()


def _all(
    ask: Callable[[Iterable[Question]], Mapping[Question, Answer | SecretError]], names: Mapping[Question, str]
) -> Mapping[Question, Answer]:
    """The answers to all questions, whose names are given. Raises one SecretError that names those without."""
    try:
        answers = ask(names)
    except SecretError as error:
        raise SecretError(f"{_list(list(names.values()))}: {error}") from None
    found: dict[Question, Answer] = {}
    problems: list[str] = []
    for question, name in names.items():
        answer = answers[question]
        if isinstance(answer, SecretError):
            problems.append(f"{name}: {answer}")
        else:
            found[question] = answer
    if problems:
        raise SecretError("\n".join(problems))
    return found


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
