# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look for secrets in whatever a run leaves behind, in the encodings that programs put texts into."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

#: What the tokens look like that the store makes itself, whose values no test knows beforehand.
_TOKEN = re.compile(rb"(?<![A-Za-z0-9_.-])(?:hvs|hvb|s|b)\.[A-Za-z0-9]{24}")


def forms(secret: str) -> dict[str, bytes]:
    """A secret as it would look in a text, by the name of the encoding. A short one would be found everywhere."""
    raw = secret.encode()
    found = {
        "plain": raw,
        "JSON": json.dumps(secret)[1:-1].encode(),
        "URL": urllib.parse.quote(secret, safe="").encode(),
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "UTF-16": secret.encode("utf-16-le"),
    }
    for offset in range(3):
        # Of what is encoded together with other bytes, the characters that depend on the secret alone.
        text = base64.b64encode(bytes(offset) + raw).rstrip(b"=")
        end = len(text) - (1 if (offset + len(raw)) % 3 else 0)
        part = text[(0, 2, 3)[offset] : end]
        found[f"base64, {offset} bytes in"] = part
        found[f"URL-safe base64, {offset} bytes in"] = part.translate(bytes.maketrans(b"+/", b"-_"))
    return {form: text for form, text in found.items() if form == "plain" or text != raw}


def sightings(secrets: Mapping[str, str], places: Iterable[tuple[str, bytes]]) -> list[str]:
    """Which secrets are in which places, and how: what a test says when it finds one, so without the secret itself."""
    needles = [(name, form, text) for name, secret in secrets.items() for form, text in forms(secret).items()]
    found = []
    for place, content in places:
        found += [f"{name} in {place} ({form})" for name, form, text in needles if text in content]
        found += [f"a token of the store in {place}" for _match in _TOKEN.finditer(content)]
    return found


def key_text(pem: str) -> str:
    """A part of a private key on the curve P-256 in PKCS #8: the end of the first line, which is secret as a whole."""
    return pem.splitlines()[1][48:64]


def files(directory: Path, *, without: Iterable[Path] = ()) -> Iterator[tuple[str, bytes]]:
    """Every file under a directory, and its name, which may tell something too."""
    leave = tuple(without)
    for path in sorted(directory.rglob("*")):
        if any(path.is_relative_to(each) for each in leave):
            continue
        yield "a file name", str(path).encode()
        if path.is_file() and not path.is_symlink():
            yield str(path), path.read_bytes()
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    yield from ((f"{path}: {name}", archive.read(name)) for name in archive.namelist())


def processes(pids: Iterable[int]) -> Iterator[tuple[str, bytes]]:
    """The arguments and the environment of processes, as `ps` shows them."""
    for pid in pids:
        for name in ("cmdline", "environ"):
            yield f"{name} of process {pid}", Path(f"/proc/{pid}/{name}").read_bytes()
