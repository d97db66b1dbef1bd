# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Headers that a spec adds to requests: which names it may set, and which values are no plain text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import KindError, Text, plain_text

_CONNECTION = "is about a single connection, which is Envoy's business"
_REQUEST = "describes the request itself, which the gateway passes on as it is"
_ORIGIN = "says where a request comes from, and the gateway removes it"
_OURS = "belongs to the gateway"
_CREDENTIAL = "holds a credential; write the key as api_key, with a reference"
_REFUSED = {
    **dict.fromkeys(
        (
            "connection",
            "expect",
            "http2-settings",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ),
        _CONNECTION,
    ),
    **dict.fromkeys(
        (
            # The usage of an answer could not be read.
            "accept-encoding",
            "content-encoding",
            "content-length",
            "content-type",
            "date",
            "host",
            "range",
            # Frameworks that take the method or the path from these would do what nobody here has allowed.
            "x-http-method",
            "x-http-method-override",
            "x-method-override",
            "x-original-url",
            "x-rewrite-url",
        ),
        _REQUEST,
    ),
    **dict.fromkeys(("forwarded", "via", "x-real-ip"), _ORIGIN),
    "x-request-id": _OURS,
}
_REFUSED_PREFIXES = {"x-forwarded-": _ORIGIN, "x-gw-": _OURS, "x-envoy-": _OURS}
# Parts of names such as "x-api-key", "Helicone-Auth" and "cf-aig-authorization".
_CREDENTIALS = frozenset(
    (
        *("apikey", "auth", "authorization", "bearer", "cookie", "credential", "credentials", "key"),
        *("passwd", "password", "secret", "signature", "token"),
    )
)
_LOOKS_SECRET = re.compile(
    r"(?:bearer|basic)\s|sk[-_]|gh[opsu]_|github_pat_|xox[abp]-|AKIA[0-9A-Z]{16}|AIza|-----BEGIN |"
    r"eyJ[A-Za-z0-9_-]{8,}\.",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"(?:vault|aws-sm|env|file|lookup)://", re.IGNORECASE)


@dataclass(frozen=True)
class HeaderName(Text):
    """The name of a header that may be added to requests, in lower case."""

    def convert(self, value: object) -> str:
        name = super().convert(value).lower()
        reason = _REFUSED.get(name) or next(
            (why for prefix, why in _REFUSED_PREFIXES.items() if name.startswith(prefix)), None
        )
        if reason is None and not _CREDENTIALS.isdisjoint(re.split("[-_]", name)):
            reason = _CREDENTIAL
        if reason is not None:
            raise KindError(f"cannot be set: this header {reason}")
        return name


@dataclass(frozen=True)
class HeaderValue(Text):
    """Plain text. Messages repeat nothing that may be a secret."""

    def convert(self, value: object) -> str:
        text = plain_text(value)
        if _REFERENCE.match(text):
            raise KindError("is a reference, but headers hold plain text; a key is written as api_key")
        if _LOOKS_SECRET.match(text):
            raise KindError("looks like a credential, which is written as api_key, with a reference")
        return super().convert(text)


HEADER_NAME = HeaderName(
    r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
    "the name of a header: letters, digits, '-' and '_', beginning with a letter or digit",
    max_length=64,
)
HEADER_VALUE = HeaderValue(
    r"^[!-~](?:[ -~]*[!-~])?$",
    "printable ASCII characters without blanks around them",
    max_length=1024,
)
