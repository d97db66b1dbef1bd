# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the public keys of an issuer of tokens come from (a JSON Web Key Set, RFC 7517)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar, Union

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import KindError, Scalar, plain_text
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import (
    CERTIFICATE_PATTERN,
    HostPath,
    Reference,
    SourceError,
    parse_source,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import URL_PATTERN, BaseUrl, Url

_FORM = "must be a URL, a reference, an absolute path on the host, or a key set as JSON text"
_KINDS = ("RSA", "EC", "OKP")
# What only the issuer may have, of keys of every kind (RFC 7518).
_PRIVATE = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))
_URL_OR_PATH = f"(?:{URL_PATTERN}|{CERTIFICATE_PATTERN})"


class JwksError(ValueError):
    """A text is no usable key set; ``str()`` completes a sentence, and does not repeat the text."""


@dataclass(frozen=True)
class JwksText:
    """A key set that is written in the spec: public keys, which are no secret."""

    text: str


JwksSource = Union[BaseUrl, Reference, HostPath, JwksText]


@dataclass(frozen=True)
class Jwks(Scalar):
    """The URL of a key set, where it is kept, or the key set itself."""

    pattern: ClassVar[str] = rf"{_URL_OR_PATH}|^\s*\{{"

    def convert(self, value: object) -> JwksSource:
        text = plain_text(value)
        if not text:
            raise KindError("must not be empty")
        if text.lower().startswith(("http://", "https://")):
            found: BaseUrl = Url().convert(text)
            return found
        if text.lstrip().startswith("{"):
            try:
                check_key_set(text)
            except JwksError as error:
                raise KindError(str(error)) from None
            return JwksText(text)
        try:
            source = parse_source(text, allow_path=True)
        except SourceError as error:
            raise KindError(str(error) if "://" in text else _FORM) from None
        if isinstance(source, (Reference, HostPath)):
            return source
        raise KindError(f"{_FORM}; PEM is not read")

    def render(self, value: JwksSource) -> str:
        return value.path if isinstance(value, HostPath) else value.text


def check_key_set(text: str) -> None:
    """Raise :class:`JwksError` unless ``text`` is a set of public keys.

    A key that both sides have (``oct``) is none: whoever may read it could make tokens.
    """
    try:
        keys = json.loads(text)["keys"]
        kinds = [key["kty"] for key in keys]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise JwksError("is no key set: it must be a JSON object with 'keys', a list of keys with a 'kty'") from None
    if not isinstance(keys, list) or not kinds:
        raise JwksError("is a key set without keys")
    if any(kind not in _KINDS for kind in kinds):
        raise JwksError("has a key that is not public: the kinds (kty) may be " + ", ".join(_KINDS))
    if any(_PRIVATE.intersection(key) for key in keys):
        raise JwksError("has a private key, which counts as disclosed now; write public keys only")
