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
from typing import Union

VAULT_FORM = "vault://MOUNT/PATH#FIELD[?version=N]"
ENV_FORM = "env://NAME"
FILE_FORM = "file:///PATH[#JSON_KEY]"

SCHEMES = ("vault", "env", "file")
UNSUPPORTED_SCHEMES = ("aws-sm",)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PEM = "-----BEGIN "


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
        return _reference(match.group(1), text[match.end() :])
    if not allow_path:
        return _literal_key(text)
    if text.startswith(_PEM):
        return Literal(text)
    if text.startswith("/"):
        return HostPath(_absolute_path(text))
    raise SourceError(
        f"must be a reference ({VAULT_FORM}, {ENV_FORM} or {FILE_FORM}), an absolute path on the host, or PEM text"
    )


def source_text(source: Source) -> str:
    """Return what may be shown of a source: its reference or path, or ``(literal)`` in place of a literal."""
    if isinstance(source, Reference):
        return source.text
    if isinstance(source, HostPath):
        return source.path
    return "(literal)"


def _reference(scheme: str, rest: str) -> Reference:
    if scheme == "vault":
        return _vault(rest)
    if scheme == "env":
        if not _ENV_NAME.match(rest):
            raise SourceError(f"an env reference is written {ENV_FORM}")
        return Reference("env", rest)
    if scheme == "file":
        return _file(rest)
    if scheme in UNSUPPORTED_SCHEMES:
        raise SourceError(f"{scheme}:// is not supported yet")
    message = "unknown kind of reference; known: " + ", ".join(known + "://" for known in SCHEMES)
    close = difflib.get_close_matches(scheme.lower(), SCHEMES, n=1)
    raise SourceError(message + (f"; did you mean '{close[0]}://'?" if close else ""))


def _vault(rest: str) -> Reference:
    wrong = SourceError(f"a vault reference is written {VAULT_FORM}")
    location, hash_mark, tail = rest.partition("#")
    field_name, question, query = tail.partition("?")
    segments = location.split("/")
    if not hash_mark or len(segments) < 2 or not _clean_segments(segments) or "?" in location:
        raise wrong
    if not field_name or not _clean(field_name) or "#" in field_name:
        raise wrong
    if not question:
        return Reference("vault", location, field_name)
    version = re.match(r"version=([1-9][0-9]{0,8})\Z", query)
    if version is None:
        raise wrong
    return Reference("vault", location, field_name, int(version.group(1)))


def _file(rest: str) -> Reference:
    path, hash_mark, key = rest.partition("#")
    if not path.startswith("/") or (hash_mark and not _clean(key)) or "#" in key:
        raise SourceError(f"a file reference is written {FILE_FORM}")
    return Reference("file", _absolute_path(path), key if hash_mark else None)


def _literal_key(text: str) -> Literal:
    if not _clean(text) or not text.isascii():
        raise SourceError("a literal key must be printable ASCII without spaces or line breaks")
    return Literal(text)


def _absolute_path(path: str) -> str:
    segments = path[1:].split("/")
    if not path.isprintable() or any(segment in ("", ".", "..") for segment in segments):
        raise SourceError("a path must be absolute, printable and without '.', '..' and '//'")
    return path


def _clean_segments(segments: list[str]) -> bool:
    return all(_clean(segment) and segment not in (".", "..") for segment in segments)


def _clean(text: str) -> bool:
    """Say whether ``text`` is non-empty, printable and free of spaces."""
    return bool(text) and text.isprintable() and " " not in text
