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
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Union

VAULT_FORM = "vault://MOUNT/PATH#FIELD[?version=N]"
ENV_FORM = "env://NAME"
FILE_FORM = "file:///PATH[#JSON_KEY]"

SCHEMES = ("vault", "env", "file")
UNSUPPORTED_SCHEMES = ("aws-sm",)

# Regular expressions of both Python and ECMAScript: the parser and the JSON schema use the same ones.
_WORD = r"[^\s\x00-\x1f\x7f#?]+"
_SEGMENT = r"(?!\.{1,2}[/#])[^\s\x00-\x1f\x7f/#?]+"
_PATH = r"(?:/(?!\.{1,2}(?:[/#]|$))[^/#\x00-\x1f\x7f]+)+"
_VAULT = rf"vault://({_SEGMENT}(?:/{_SEGMENT})+)#({_WORD})(?:\?version=([1-9][0-9]{{0,8}}))?"
_ENV = r"env://([A-Za-z_][A-Za-z0-9_]*)"
_FILE = rf"file://({_PATH})(?:#({_WORD}))?"
_PEM = "-----BEGIN "
KEY_PATTERN = rf"^(?:{_VAULT}|{_ENV}|{_FILE}|(?![A-Za-z][A-Za-z0-9+.-]*://)[!-~]+)$"
CERTIFICATE_PATTERN = rf"^(?:(?:{_VAULT}|{_ENV}|{_FILE}|{_PATH})$|{_PEM})"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class SourceError(ValueError):
    """A text is no usable source; the message does not repeat the text."""


@dataclass(frozen=True)
class Reference:
    """A secret in a store that the controller reads.

    ``location`` is ``MOUNT/PATH`` for ``vault``, the variable's name for ``env`` and the absolute path for ``file``.
    ``field`` is the field of a ``vault`` secret (always there) or the top-level JSON key of a ``file`` (optional).
    """

    scheme: str
    location: str
    field: str | None = None
    version: int | None = None

    @property
    def text(self) -> str:
        """The canonical spelling, which parses to an equal reference."""
        text = f"{self.scheme}://{self.location}"
        if self.field is not None:
            text += "#" + self.field
        if self.version is not None:
            text += f"?version={self.version}"
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
        raise SourceError(
            f"must be a reference ({VAULT_FORM}, {ENV_FORM} or {FILE_FORM}), an absolute path on the host, or PEM text"
        )
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
    if scheme == "vault":
        location, field_name, version = _parts(_VAULT, text, f"a vault reference is written {VAULT_FORM}")
        return Reference(scheme, location, field_name, int(version) if version else None)
    if scheme == "env":
        return Reference(scheme, *_parts(_ENV, text, f"an env reference is written {ENV_FORM}"))
    if scheme == "file":
        return Reference(scheme, *_parts(_FILE, text, f"a file reference is written {FILE_FORM}"))
    if scheme in UNSUPPORTED_SCHEMES:
        raise SourceError(f"{scheme}:// is not supported yet")
    message = "unknown kind of reference; known: " + ", ".join(known + "://" for known in SCHEMES)
    close = difflib.get_close_matches(scheme.lower(), SCHEMES, n=1)
    raise SourceError(message + (f"; did you mean '{close[0]}://'?" if close else ""))


def _parts(pattern: str, text: str, problem: str) -> Sequence[Any]:
    match = _matches(pattern, text)
    if match is None:
        raise SourceError(problem)
    return match.groups()


def _matches(pattern: str, text: str) -> re.Match[str] | None:
    """Match all of ``text``, which holds no invisible characters."""
    return re.fullmatch(pattern, text) if text.isprintable() else None
