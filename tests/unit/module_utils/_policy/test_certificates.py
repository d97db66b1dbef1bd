"""The ends of certificates, read without a library."""

from __future__ import annotations

import base64
import time
from datetime import datetime, timezone
from typing import Any

import pytest
from spec_examples import changed

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import fold
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.certificates import ends
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.check import check_policies
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

REAL = fold._pem("certificate_chain", fold._CERTIFICATE)


def element(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes([tag, len(body)]) + body


def pem(end: str) -> str:
    """As much of a certificate as its end takes, which may be in either form."""
    tag = 0x17 if len(end) == len("yymmddhhmmssZ") else 0x18
    validity = element(0x30, element(0x17, b"200101000000Z"), element(tag, end.encode()))
    fields = (element(0xA0, b"\x02\x01\x02"), element(2, b"\x01"), element(0x30), element(0x30), validity)
    text = base64.b64encode(element(0x30, element(0x30, *fields))).decode()
    return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"


def in_days(days: float) -> str:
    return pem(datetime.fromtimestamp(time.time() + days * 86400, tz=timezone.utc).strftime("%Y%m%d%H%M%SZ"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (REAL, ["2126-10-31T09:06:23"]),
        (pem("491231235959Z"), ["2049-12-31T23:59:59"]),
        (pem("500101000000Z"), ["1950-01-01T00:00:00"]),
        ("subject: x\n" + pem("20990101000000Z") + REAL, ["2099-01-01T00:00:00", "2126-10-31T09:06:23"]),
        (pem("20991301000000Z"), []),
        ("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n", []),
        ("-----BEGIN CERTIFICATE-----\nMIIBizCCATGgAw==\n-----END CERTIFICATE-----\n", []),
        (REAL.replace("CERTIFICATE", "PRIVATE KEY"), []),
    ],
)
def test_the_ends_of_all_certificates_of_a_text(text: str, expected: list[str]) -> None:
    assert [datetime.fromtimestamp(end, tz=timezone.utc).isoformat()[:19] for end in ends(text)] == expected


LISTENER = ("gateway_listeners", "public", "tls", "certificate")
CLIENTS = ("gateway_listeners", "public", "tls", "client_ca")
OTLP = ("gateway_otlp", "ca")


@pytest.mark.parametrize(
    ("place", "text", "rule"),
    [
        (LISTENER, REAL, ""),
        (LISTENER, in_days(-1), "certificate_expired"),
        (LISTENER, in_days(29), "certificate_expires"),
        (LISTENER, in_days(31), ""),
        # A chain is worth as much as the part of it that ends first, a bundle of CAs as the one that ends last.
        (LISTENER, REAL + in_days(-1), "certificate_expired"),
        (CLIENTS, REAL + in_days(-1), ""),
        (CLIENTS, in_days(-2) + in_days(1), "certificate_expires"),
        (("gateway_providers", "openai", "tls", "certificate"), in_days(-1), "certificate_expired"),
        (("gateway_providers", "openai", "tls", "ca"), in_days(1), "certificate_expires"),
        (OTLP, in_days(-1), "certificate_expired"),
        (("gateway_rate_limit_service", "tls", "ca"), in_days(-1), "certificate_expired"),
        (LISTENER, "vault://kv/tls#certificate", ""),
        (LISTENER, "/etc/ssl/gateway.pem", ""),
    ],
)
def test_certificates_in_a_spec(place: tuple[Any, ...], text: str, rule: str) -> None:
    found = check_policies(parse_spec(changed((place, text))))
    severity = {"certificate_expired": "deny", "certificate_expires": "warn"}
    expected = [(rule, severity[rule], ".".join(place))] if rule else []
    assert [(each.rule, each.severity, each.path) for each in found] == expected
