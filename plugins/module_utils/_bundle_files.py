# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a bundle and how they travel to a host. Apart from the compiler, so that targets need not have that."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError

MODE_FILE = 0o644
MODE_SCRIPT = 0o755

# A thousand models and ten thousand consumers make some 10 MB; more than this is no bundle.
MAX_UNPACKED = 512 * 1024 * 1024


@dataclass(frozen=True)
class BundleFile:
    """One file of a release: its path relative to the release directory, its bytes and its mode."""

    path: str
    content: bytes
    mode: int = MODE_FILE


def encode_files(files: Iterable[BundleFile]) -> str:
    """Return ``files`` as text that can be a module's argument: base64 of zlib of canonical JSON."""
    table = {file.path: [file.mode, base64.b64encode(file.content).decode("ascii")] for file in files}
    return base64.b64encode(zlib.compress(canonical_json(table), 6)).decode("ascii")


def decode_files(text: str) -> tuple[BundleFile, ...]:
    """Return the files that :func:`encode_files` was given, sorted by path.

    Raises :class:`ReleaseError` for what it did not write, and for paths that lead out of the release directory.
    """
    try:
        unpacker = zlib.decompressobj()
        unpacked = unpacker.decompress(base64.b64decode(text, validate=True), MAX_UNPACKED)
        if not unpacker.eof:
            raise ValueError("truncated or too large")
        table = json.loads(unpacked)
        files = [
            BundleFile(path, base64.b64decode(content, validate=True), _plain_mode(mode))
            for path, (mode, content) in table.items()
        ]
    except (AttributeError, TypeError, ValueError, zlib.error) as error:
        raise ReleaseError(
            "the bundle cannot be read: it was damaged on its way, or another version made it"
        ) from error
    for file in files:
        _refuse_escape(file.path)
    return tuple(sorted(files, key=lambda file: file.path))


def _plain_mode(mode: object) -> int:
    if not isinstance(mode, int) or not 0 <= mode <= 0o777:
        raise ValueError("no mode of a file")
    return mode


def _refuse_escape(path: str) -> None:
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise ReleaseError(f"the bundle has a file at {path!r}, which is not below the release directory")
