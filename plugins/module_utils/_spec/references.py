# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a secret or a certificate comes from: a reference to a store, a path on the gateway host, or a literal.

References are resolved on the controller at the last moment; nothing here reads a secret. Error texts never repeat
what was written, since it may be a secret that was pasted into the wrong place.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import Any, Union

#: How a reference of each scheme is written.
FORMS = {
    "vault": "vault://MOUNT/PATH#FIELD[?version=N]",
    "aws-sm": "aws-sm://NAME[#JSON_KEY][?stage=STAGE|?version_id=ID]",
    "env": "env://NAME",
    "file": "file:///PATH[#JSON_KEY]",
    "lookup": "lookup://PLUGIN/TERM[#JSON_KEY]",
}

# Regular expressions of both Python and ECMAScript: the parser and the JSON schema use the same ones.
_WORD = r"[^\s\x00-\x1f\x7f#?]+"
_SEGMENT = r"(?!\.{1,2}[/#])[^\s\x00-\x1f\x7f/#?]+"
_PATH = r"(?:/(?!\.{1,2}(?:[/#]|$))[^/#\x00-\x1f\x7f]+)+"
_VAULT = rf"vault://({_SEGMENT}(?:/{_SEGMENT})+)#({_WORD})(?:\?version=([1-9][0-9]{{0,8}}))?"
_ENV = r"env://([A-Za-z_][A-Za-z0-9_]*)"
_FILE = rf"file://({_PATH})(?:#({_WORD}))?"
# The characters that AWS allows in a name; an ARN has the region and the account before it.
_AWS_ARN = r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:"
_AWS = (
    rf"aws-sm://((?:{_AWS_ARN})?[A-Za-z0-9/_+=.@-]{{1,519}})(?:#({_WORD}))?"
    r"(?:\?(stage=[A-Za-z0-9/_+.:@-]{1,256}|version_id=[A-Za-z0-9/_+.:@-]{32,64}))?"
)
_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_LOOKUP = rf"lookup://({_IDENTIFIER}(?:\.{_IDENTIFIER})*/[^#\x00-\x1f\x7f]+)(?:#({_WORD}))?"
_PATTERNS = {"vault": _VAULT, "aws-sm": _AWS, "env": _ENV, "file": _FILE, "lookup": _LOOKUP}
_REFERENCE = "|".join(_PATTERNS.values())
_PEM = "-----BEGIN "
KEY_PATTERN = rf"^(?:{_REFERENCE}|(?![A-Za-z][A-Za-z0-9+.-]*://)[!-~]+)$"
CERTIFICATE_PATTERN = rf"^(?:(?:{_REFERENCE}|{_PATH})$|{_PEM})"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class SourceError(ValueError):
    """A text is no usable source; the message does not repeat the text."""


@dataclass(frozen=True)
class Reference:
    """A secret in a store that the controller reads.

    ``location`` is ``MOUNT/PATH`` for ``vault``, the name or ARN for ``aws-sm``, the variable's name for ``env``, the
    absolute path for ``file`` and ``PLUGIN/TERM`` for ``lookup``. ``field`` is the field of a ``vault`` secret (always
    there) or a top-level JSON key (optional). ``version`` is an ``int`` for ``vault`` and the text ``stage=STAGE`` or
    ``version_id=ID`` for ``aws-sm``; None stands for the newest.
    """

    scheme: str
    location: str
    field: str | None = None
    version: Any = None

    @property
    def text(self) -> str:
        """The canonical spelling, which parses to an equal reference."""
        text = f"{self.scheme}://{self.location}"
        if self.field is not None:
            text += "#" + self.field
        if self.version is not None:
            text += f"?version={self.version}" if isinstance(self.version, int) else f"?{self.version}"
        return text


@dataclass(frozen=True)
class HostPath:
    """A file that is already on the gateway host; ``path`` is absolute."""

    path: str


@dataclass(frozen=True)
class Literal:
    """A value written into the spec; neither ``repr()`` nor ``str()`` shows it."""

    value: str = field(repr=False)


Source = Union[Reference, HostPath, Literal]


def parse_source(text: str, *, allow_path: bool) -> Source:
    """Parse a source as it is written in a spec.

    With ``allow_path`` (certificates and private keys) an absolute path on the host and PEM text are understood;
    without it (API keys) whatever is not a reference is a literal. Raises :class:`SourceError`.
    """
    match = _SCHEME.match(text)
    if match is not None:
        return _reference(match.group(1), text)
    if not allow_path:
        if not _matches(r"[!-~]+", text):
            raise SourceError("a literal key must be printable ASCII without spaces or line breaks")
        return Literal(text)
    if text.startswith(_PEM):
        return Literal(text)
    if not text.startswith("/"):
        raise SourceError(f"must be a reference such as {FORMS['vault']}, an absolute path on the host, or PEM text")
    if not _matches(_PATH, text):
        raise SourceError("a path must be absolute, printable and without '#', '.', '..' and '//'")
    return HostPath(text)


def source_text(source: Source) -> str:
    """Return what may be shown of a source: its reference or path, or ``(literal)`` in place of a literal."""
    if isinstance(source, Reference):
        return source.text
    if isinstance(source, HostPath):
        return source.path
    return "(literal)"


def _reference(scheme: str, text: str) -> Reference:
    if scheme not in FORMS:
        message = "unknown kind of reference; known: " + ", ".join(known + "://" for known in FORMS)
        close = difflib.get_close_matches(scheme.lower(), FORMS, n=1)
        raise SourceError(message + (f"; did you mean '{close[0]}://'?" if close else ""))
    match = _matches(_PATTERNS[scheme], text)
    if match is None:
        raise SourceError(f"{scheme}:// references are written {FORMS[scheme]}")
    location, *rest = match.groups()
    field_name, version = (*rest, None, None)[:2]
    return Reference(scheme, str(location), field_name, int(version) if scheme == "vault" and version else version)


def _matches(pattern: str, text: str) -> re.Match[str] | None:
    """Match all of ``text``, which holds no invisible characters."""
    return re.fullmatch(pattern, text) if text.isprintable() else None
