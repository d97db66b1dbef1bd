# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When certificates in PEM text end. Only as much of X.509 (RFC 5280) is read as that takes."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import datetime, timezone

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Literal

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----")
_SEQUENCE, _VERSION, _UTC_TIME, _TIME = 0x30, 0xA0, 0x17, 0x18


def certificate_ends(spec: Spec) -> Iterator[tuple[str, float]]:
    """Yield where certificates are written in a spec, and when they end, in seconds since 1970.

    A chain ends with the first that does; CAs of others with the last one, since bundles keep those that are over.
    """
    own: list[tuple[str, object]] = []
    others: list[tuple[str, object]] = []
    for listener in spec.listeners:
        if listener.tls is not None:
            own.append((f"gateway_listeners.{listener.name}.tls.certificate", listener.tls.certificate))
            others.append((f"gateway_listeners.{listener.name}.tls.client_ca", listener.tls.client_ca))
    for provider in spec.providers:
        if provider.tls is not None:
            own.append((f"gateway_providers.{provider.name}.tls.certificate", provider.tls.certificate))
            others.append((f"gateway_providers.{provider.name}.tls.ca", provider.tls.ca))
    if spec.otlp is not None:
        others.append(("gateway_otlp.ca", spec.otlp.ca))
    if spec.rate_limit_service is not None and spec.rate_limit_service.tls is not None:
        others.append(("gateway_rate_limit_service.tls.ca", spec.rate_limit_service.tls.ca))
    for sources, choose in ((own, min), (others, max)):
        for path, source in sources:
            found = ends(source.value) if isinstance(source, Literal) else ()
            if found:
                yield path, choose(found)


def ends(pem: str) -> tuple[float, ...]:
    """Return when each certificate of a text ends, in seconds since 1970. What is no certificate is left out."""
    return tuple(_ends(pem))


def _ends(pem: str) -> Iterator[float]:
    for match in _BLOCK.finditer(pem):
        try:
            yield _not_after(base64.b64decode("".join(match.group(1).split()), validate=True))
        except (ValueError, IndexError):
            continue


def _not_after(der: bytes) -> float:
    """Return the end of a certificate. Raises ValueError or IndexError for what is none."""
    _tag, start, _end = _element(der, 0, _SEQUENCE)
    _tag, at, _end = _element(der, start, _SEQUENCE)
    if der[at] == _VERSION:
        at = _element(der, at)[2]
    # The serial number, the algorithm and the issuer.
    for _field in range(3):
        at = _element(der, at)[2]
    _tag, at, _end = _element(der, at, _SEQUENCE)
    at = _element(der, at)[2]
    tag, start, end = _element(der, at)
    text = der[start:end].decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    elif tag != _TIME:
        raise ValueError("not a time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()


def _element(der: bytes, at: int, expected: int | None = None) -> tuple[int, int, int]:
    """Return the tag of an element of DER, and where its content begins and ends."""
    tag, length, start = der[at], der[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        length = int.from_bytes(der[start : start + octets], "big")
        start += octets
    if expected not in (None, tag) or start + length > len(der):
        raise ValueError("not a certificate")
    return tag, start, start + length
