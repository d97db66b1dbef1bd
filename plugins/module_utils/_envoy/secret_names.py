# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What secret files are called. Apart from the compiler: a host reads the names without having that."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json, digest

_CLIENTS = re.compile(r"clients-(.+)\.json\Z")
_COLLECTOR = re.compile(r"otlp-(.+)-[0-9a-f]{8}\.json\Z")
_PROVIDER = re.compile(r"(provider|identity|authorities)-(.+)-[0-9a-f]{8}\.json\Z")
_PARTS = {"provider": "key", "identity": "certificate", "authorities": "CAs"}
_ISSUERS = re.compile(r"jwt-issuers-[0-9a-f]{8}\.json\Z")


def file_of_provider(name: str, kind: str, urls: Iterable[str], *special: object) -> str:
    """Return the name of the file with a provider's key, which stands for where the key goes, too.

    So a release that changes key and URL together has a file of its own: until the old release is gone each reads its
    own, and no key is ever sent to the other's URL. ``special`` is what else decides that, in plain JSON.
    """
    return f"provider-{name}-{_place(kind, urls, special)}.json"


def file_of_identity(name: str, kind: str, urls: Iterable[str], *special: object) -> str:
    """Return the name of the file with the certificate that is shown to a provider."""
    return f"identity-{name}-{_place(kind, urls, special)}.json"


def file_of_authorities(name: str, kind: str, urls: Iterable[str], *special: object) -> str:
    """Return the name of the file with the CAs that a provider's certificate is from."""
    return f"authorities-{name}-{_place(kind, urls, special)}.json"


def _place(kind: str, urls: Iterable[str], special: tuple[object, ...]) -> str:
    return digest(canonical_json([kind, sorted(urls), *special]))[:8]


def provider_of(file_name: str) -> str | None:
    """Return the name of the provider whose key, certificate or CAs are in a file; None for other files."""
    match = _PROVIDER.match(file_name)
    return match.group(2) if match else None


def part_of_provider(file_name: str) -> str | None:
    """Return which of them it is: ``key``, ``certificate`` or ``CAs``; None for files that are no provider's."""
    match = _PROVIDER.match(file_name)
    return _PARTS[match.group(1)] if match else None


def file_of_collector(header: str, url: str) -> str:
    """Return the name of the file with the value of a collector's header, which stands for where it goes, too."""
    return f"otlp-{header}-{digest(canonical_json(url))[:8]}.json"


def header_of_collector(file_name: str) -> str | None:
    """Return the name of the collector's header whose value is in a file; None for other files."""
    match = _COLLECTOR.match(file_name)
    return match.group(1) if match else None


def file_of_clients(listener: str) -> str:
    """Return the name of the file with the CAs of a listener's clients."""
    return f"clients-{listener}.json"


def listener_of_clients(file_name: str) -> str | None:
    """Return the name of the listener whose clients' CAs are in a file; None for other files."""
    match = _CLIENTS.match(file_name)
    return match.group(1) if match else None


def file_of_issuers(rest: bytes) -> str:
    """Return the name of the file with the keys of issuers of tokens, which stands for the rest of it, too."""
    return f"jwt-issuers-{digest(rest)[:8]}.json"


def is_of_issuers(file_name: str) -> bool:
    """Say whether a file holds the keys of issuers of tokens."""
    return _ISSUERS.match(file_name) is not None
