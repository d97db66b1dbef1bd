# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose secrets changed, by name: consumers, providers, listeners, issuers. Pure; nothing holds or shows a value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secret_names import (
    header_of_collector,
    is_of_issuers,
    listener_of_clients,
    part_of_provider,
    provider_of,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._release.secrets import (
    CONSUMERS,
    comparable,
    credentials,
)

_LISTENER = re.compile(r"listener-(.+)\.json\Z")
_NOTHING = "nothing changed"
_KINDS = ("consumers", "providers", "listeners", "issuers", "collector_headers")

#: Documents as `secrets.current` returns them: by file name, without `version_info`.
Documents = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Rotated:
    """Names, each kind sorted; of a consumer its set of keys differs, of the others the content of their file."""

    consumers: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    issuers: tuple[str, ...] = ()
    collector_headers: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, list[str]]:
        """Plain data for a module's result."""
        return {
            "consumers": list(self.consumers),
            "providers": list(self.providers),
            "listeners": list(self.listeners),
            "issuers": list(self.issuers),
            "collector_headers": list(self.collector_headers),
        }


def rotated(before: Documents, after: Documents) -> Rotated:
    """Whose secrets are others in `after` than in `before`; files that are not in `after` are left aside (pure)."""
    changed = {name for name, document in after.items() if _differ(before.get(name), document)}
    consumers: set[str] = set()
    if CONSUMERS in changed:
        old, new = _keys(before.get(CONSUMERS)), _keys(after[CONSUMERS])
        consumers = {client for client in {*old, *new} if old.get(client) != new.get(client)}
    return Rotated(
        tuple(sorted(consumers)),
        tuple(sorted({name for name in map(provider_of, changed) if name})),
        tuple(sorted({name for name in map(_listener_of, changed) if name})),
        tuple(
            sorted({name for file in changed if is_of_issuers(file) for name in _issuers(before, after[file], file)})
        ),
        tuple(sorted({name for name in map(header_of_collector, changed) if name})),
    )


def unnamed(files: Iterable[str], names: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Of `files` that were written, those that no name in `Rotated.as_dict()` explains (pure).

    Such a file had the right content and the wrong mode or owner, or it is none that this collection makes.
    """
    providers, listeners = set(names.get("providers", ())), set(names.get("listeners", ()))
    headers = set(names.get("collector_headers", ()))
    explained = {CONSUMERS} if list(names.get("consumers", ())) else set()
    issuers = bool(list(names.get("issuers", ())))
    return tuple(
        name
        for name in sorted(files)
        if name not in explained
        and provider_of(name) not in providers
        and _listener_of(name) not in listeners
        and not (issuers and is_of_issuers(name))
        and header_of_collector(name) not in headers
    )


def describe(names: Mapping[str, Iterable[str]], files: Iterable[str]) -> str:
    """One line for people: `consumers: search; providers: openai`, or `nothing changed` (pure)."""
    kinds = ((kind, list(names.get(kind, ()))) for kind in _KINDS)
    parts = [f"{kind.replace('_', ' ')}: {', '.join(each)}" for kind, each in kinds if each]
    others = unnamed(files, names)
    return "; ".join([*parts, *([f"files: {', '.join(others)}"] if others else [])]) or _NOTHING


def lines(names: Mapping[str, Iterable[str]], files: Iterable[str]) -> tuple[str, ...]:
    """The lines that a diff shows, with names only (pure); `files` are those that were written."""
    files = tuple(files)
    return (
        *(f"  ~ key of consumer {name} (not shown)" for name in names.get("consumers", ())),
        *(f"  ~ {_parts(name, files)} of provider {name} (not shown)" for name in names.get("providers", ())),
        *(f"  ~ {_shown(name, files)} of listener {name} (not shown)" for name in names.get("listeners", ())),
        *(f"  ~ keys of issuer {name} (not shown)" for name in names.get("issuers", ())),
        *(f"  ~ header {name} for the collector (not shown)" for name in names.get("collector_headers", ())),
        *(f"  ~ secret file {name} (not shown)" for name in unnamed(files, names)),
    )


def _parts(provider: str, files: Iterable[str]) -> str:
    """What of a provider is in `files`, such as `key, certificate`."""
    found = {part_of_provider(name) for name in files if provider_of(name) == provider}
    return ", ".join(part for part in ("key", "certificate", "CAs") if part in found) or "key"


def _shown(listener: str, files: Iterable[str]) -> str:
    """What of a listener is in `files`: its certificate, or the CAs of its clients."""
    found = {listener_of_clients(name) is None for name in files if _listener_of(name) == listener}
    return ", ".join(
        part for part, its_own in (("certificate", True), ("CAs of clients", False)) if its_own in found
    ) or ("certificate")


def _differ(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> bool:
    return before is None or comparable(dict(before)) != comparable(dict(after))


def _keys(document: Mapping[str, Any] | None) -> dict[str, frozenset[str]]:
    """The keys of each client."""
    found: dict[str, set[str]] = {}
    for credential in (credentials(dict(document)) if document is not None else None) or ():
        found.setdefault(str(credential.get("client", "")), set()).add(credential["key"])
    return {client: frozenset(keys) for client, keys in found.items()}


def _issuers(before: Documents, document: Mapping[str, Any], file: str) -> set[str]:
    """The issuers of tokens whose keys are others than before; all, where the file is new."""
    old, new = _key_sets(before.get(file)), _key_sets(document)
    return {name for name, keys in new.items() if old.get(name) != keys}


def _key_sets(document: Mapping[str, Any] | None) -> dict[str, Any]:
    """The keys of each issuer that has some in the document."""
    resources: list[Any] = document["resources"] if document is not None else []
    providers = resources[0].get("typed_config", {}).get("providers", {}) if len(resources) == 1 else {}
    return {name: provider["local_jwks"] for name, provider in providers.items() if "local_jwks" in provider}


def _listener_of(name: str) -> str | None:
    match = _LISTENER.match(name)
    return match.group(1) if match else listener_of_clients(name)
