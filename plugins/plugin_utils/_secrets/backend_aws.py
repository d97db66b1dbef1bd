# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``aws-sm://NAME[#JSON_KEY][?stage=STAGE|?version_id=ID]``: AWS Secrets Manager.

A run reads each secret once, whatever the number of its keys, hosts, tasks and forks: everything that was learned goes
into the run's cache, refusals included. What is wanted together is asked for together, 20 secrets a request.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.aws_client import (
    THREADS,
    AwsClient,
    RefusedError,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.fields import field_of
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import AwsOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_client import StoreError

#: What one request may ask for.
_BATCH = 20
#: How long a service that failed or was throttled is not asked again, in seconds.
_RETRY_AFTER = 60.0
_ARN = re.compile(r"arn:[^:]+:secretsmanager:([^:]+):")


class Secret(NamedTuple):
    """What is read as a whole; ``version`` is None, ``stage=…`` or ``version_id=…``."""

    name: str
    version: str | None

    @property
    def key(self) -> str:
        return f"{self.name}?{self.version or ''}"


class AwsBackend:
    """Reads secrets of AWS Secrets Manager for one run, in the regions that the references name."""

    def __init__(self, options: AwsOptions, cache: RunCache) -> None:
        self._options = options
        self._cache = cache

    def fetch(self, references: Sequence[Reference]) -> Mapping[Reference, str | SecretError]:
        """The text of each secret, or of the JSON key that is named, or why there is none.

        Raises SecretError when the only region that is asked cannot be used as a whole.
        """
        by_region: dict[str, list[Reference]] = {}
        for reference in references:
            arn = _ARN.match(reference.location)
            by_region.setdefault(arn.group(1) if arn else self._options.region, []).append(reference)
        values: dict[Reference, str | SecretError] = {}
        for region, wanted in by_region.items():
            try:
                values.update(_Region(self._options, self._cache, region).fetch(wanted))
            except SecretError as error:
                if len(by_region) == 1:
                    raise
                values.update({reference: SecretError(f"{reference.text}: {error}") for reference in wanted})
        return values


class _Region:
    """The service in one region; '' is the one that boto3 finds."""

    def __init__(self, options: AwsOptions, cache: RunCache, region: str) -> None:
        self._options = options
        self._cache = cache
        self._region = region
        # How long to wait is no part of who asks whom; whatever boto3 reads from the environment is.
        identity = asdict(replace(options, region=region, timeout=AwsOptions.timeout))
        environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        self._name = cache.name("aws " + json.dumps([identity, environment], sort_keys=True))

    def fetch(self, references: Sequence[Reference]) -> Mapping[Reference, str | SecretError]:
        wanted = {reference: _secret(reference) for reference in references}
        state: Mapping[str, Any] = self._cache.load(self._name)
        if self._unknown(state, wanted.values()):
            try:
                state = self._learn(list(wanted.values()))
            except OSError as error:
                raise SecretError(f"the cache of this run cannot be written: {error.strerror}") from None
        return {reference: self._value(state, reference, secret) for reference, secret in wanted.items()}

    def _value(self, state: Mapping[str, Any], reference: Reference, secret: Secret) -> str | SecretError:
        known = state["secrets"][secret.key]
        if "error" in known:
            return SecretError(f"{reference.text}: {self._store(state)} {known['error']}")
        text: str = known["text"]
        if reference.field is None:
            return text
        where = f"the secret in {self._store(state)}"
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            return SecretError(f"{reference.text}: {where} is not a JSON object")
        return field_of(reference, document, where)

    def _store(self, state: Mapping[str, Any]) -> str:
        """What messages call it."""
        region = self._region or state.get("region")
        address = f" at {self._options.endpoint_url}" if self._options.endpoint_url else ""
        return "AWS Secrets Manager" + (f" in {region}" if region else "") + address

    def _unknown(self, state: Mapping[str, Any], wanted: Iterable[Secret]) -> list[Secret]:
        """Those that have to be asked for. Raises SecretError when the service failed for good or not long ago."""
        unknown = _missing(state, wanted)
        failure = state.get("failure")
        if unknown and failure and (failure["until"] is None or time.monotonic() < failure["until"]):
            raise self._failed(state)
        return unknown

    def _failed(self, state: Mapping[str, Any]) -> SecretError:
        return SecretError(f"{self._store(state)} {state['failure']['text']}")

    def _learn(self, wanted: Sequence[Secret]) -> Mapping[str, Any]:
        """Ask for what no process of the run has asked for yet, and publish the answers. Raises OSError as well."""
        with self._cache.lock(self._name):
            state: dict[str, Any] = {"secrets": {}, "batch": True, **self._cache.load(self._name)}
            unknown = self._unknown(state, wanted)
            if not unknown:
                return state
            state["failure"] = None
            try:
                with closing(AwsClient(self._options, self._region)) as client:
                    state["region"] = client.region
                    _Visit(client, state).read(unknown)
            except StoreError as failure:
                until = None if failure.lasting else time.monotonic() + _RETRY_AFTER
                state["failure"] = {"text": str(failure), "until": until}
            self._cache.publish(self._name, state)
            if state["failure"] and _missing(state, wanted):
                raise self._failed(state)
            return state


class _Visit:
    """One visit to the service, under the lock; writes what it learns into ``state``."""

    def __init__(self, client: AwsClient, state: dict[str, Any]) -> None:
        self._client = client
        self._state = state

    def read(self, secrets: Sequence[Secret]) -> None:
        """Read all of them; what was read before a StoreError stays in the state."""
        plain = [secret for secret in secrets if secret.version is None]
        for start in range(0, len(plain), _BATCH):
            self._read_together(plain[start : start + _BATCH])
        rest = _missing(self._state, secrets)
        if rest:
            # The first StoreError that map() raises cancels what has not begun.
            with ThreadPoolExecutor(min(THREADS, len(rest))) as pool:
                list(pool.map(self._read_one, rest))

    def _read_together(self, secrets: Sequence[Secret]) -> None:
        # A request for several needs a permission of its own, which one secret alone can do without.
        if len(secrets) == 1 or not self._state["batch"]:
            return
        try:
            answers = self._client.get_batch([secret.name for secret in secrets])
        except RefusedError as error:
            # Read one by one, the secrets say what is wrong with which.
            self._state["batch"] = not error.denied
            return
        for secret in secrets:
            if secret.name in answers:
                self._note(secret, answers[secret.name])

    def _read_one(self, secret: Secret) -> None:
        try:
            self._note(secret, self._client.get(secret.name, secret.version))
        except RefusedError as error:
            self._note(secret, error)

    def _note(self, secret: Secret, answer: str | bytes | RefusedError) -> None:
        try:
            text = answer.decode() if isinstance(answer, bytes) else answer
        except UnicodeDecodeError:
            known = {"error": f"has in {secret.name} binary content that is not UTF-8 text"}
        else:
            known = {"error": _problem(secret, text)} if isinstance(text, RefusedError) else {"text": text}
        self._state["secrets"][secret.key] = known


def _secret(reference: Reference) -> Secret:
    return Secret(reference.location, None if reference.version is None else str(reference.version))


def _missing(state: Mapping[str, Any], secrets: Iterable[Secret]) -> list[Secret]:
    known = state.get("secrets", {})
    return [secret for secret in dict.fromkeys(secrets) if secret.key not in known]


def _problem(secret: Secret, error: RefusedError) -> str:
    """What is wrong with one secret; the service's own words may name it in ways that differ between its releases."""
    version = (secret.version or "").replace("=", " ").replace("_", " ")
    if error.code == "ResourceNotFoundException":
        if "secret value" in error.words:
            return f"has no version of {secret.name} with {version or 'a value'}"
        return f"has no secret {secret.name}" + (f", or no version of it with {version}" if version else "")
    if error.denied and "kms" in error.words:
        return f'denies decrypting {secret.name}: a policy must allow "kms:Decrypt" with its key'
    if error.denied:
        return f'denies reading {secret.name}: a policy must allow "secretsmanager:GetSecretValue" on it'
    if error.code == "DecryptionFailure":
        return f"cannot decrypt {secret.name}: its KMS key is disabled, deleted or not allowed"
    if error.code == "InvalidRequestException" and "delet" in error.words:
        return f"has no secret {secret.name} any more: it was marked for deletion"
    return f"refuses {secret.name} ({error.code})"
