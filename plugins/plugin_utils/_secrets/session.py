# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve references into values: the one door to all stores, on the controller, at the last moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets import backend_env, backend_file
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.backend_aws import AwsBackend
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.backend_lookup import (
    LookupBackend,
    Surroundings,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.backend_vault import VaultBackend
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.fields import EndedError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import SecretOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_kv import Found, Secret
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_path import Request

#: Answers each reference with its value or with an error that names reference and store; raises SecretError, which
#: names the store alone, when the store as a whole cannot be used.
Fetch = Callable[[Sequence[Reference]], Mapping[Reference, str | SecretError]]

_SHOWN = 5


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
                problems.append(f"{_list(wanted)}: {error}")
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

    def read(self, reference: Reference) -> Mapping[str, Any]:
        """All fields of a ``vault`` secret; the reference's own field is ignored. Raises SecretError."""
        return self._found(reference).fields

    def metadata(self, reference: Reference) -> Mapping[str, Any]:
        """What the engine knows of the version that `read` gives: its number, times and custom metadata.

        An engine of version 1 knows nothing. Raises SecretError.
        """
        return self._found(reference).metadata

    def ask(self, path: str, body: Mapping[str, Any] | None, *, keep: bool) -> Mapping[str, Any]:
        """The data that the store answers to GET, or to POST with a ``body``, for any path. Raises SecretError.

        With ``keep`` neither the answer's lease nor the token it was got with is revoked.
        """
        request = Request(path, None if body is None else json.dumps(body, sort_keys=True))
        vault = self._keeping if keep else self._vault
        try:
            answer = vault.ask([request])[request]
        except SecretError as error:
            raise SecretError(f"{path}: {error}") from None
        if isinstance(answer, SecretError):
            raise SecretError(f"{path}: {answer}")
        return answer

    @property
    def vault(self) -> VaultBackend:
        """The store itself, for more than reading."""
        return self._vault

    def _found(self, reference: Reference) -> Found:
        secret = Secret(reference.location, reference.version)
        where = Reference("vault", reference.location, None, reference.version).text
        try:
            answer = self._vault.read([secret])[secret]
        except SecretError as error:
            raise SecretError(f"{where}: {error}") from None
        if isinstance(answer, SecretError):
            raise SecretError(f"{where}: {answer}")
        return answer

    @cached_property
    def _vault(self) -> VaultBackend:
        return VaultBackend(self._options.vault, self._cache or RunCache.of_this_run())

    @cached_property
    def _keeping(self) -> VaultBackend:
        return VaultBackend(self._options.vault, self._cache or RunCache.of_this_run(), keep=True)

    @cached_property
    def _aws(self) -> AwsBackend:
        return AwsBackend(self._options.aws, self._cache or RunCache.of_this_run())

    @cached_property
    def _lookups(self) -> LookupBackend:
        if self._surroundings is None:
            raise SecretError("lookup plugins cannot be asked here")
        return LookupBackend(self._surroundings, self._cache or RunCache.of_this_run())

    def _fetch(self, scheme: str) -> Fetch:
        backends: Mapping[str, Callable[[], Fetch]] = {
            "vault": lambda: self._vault.fetch,
            "aws-sm": lambda: self._aws.fetch,
            "env": lambda: backend_env.fetch,
            "file": lambda: backend_file.fetch,
            "lookup": lambda: self._lookups.fetch,
        }
        return backends[scheme]()


def _list(references: Sequence[Reference]) -> str:
    more = f" and {len(references) - _SHOWN} more" if len(references) > _SHOWN else ""
    return ", ".join(reference.text for reference in references[:_SHOWN]) + more
