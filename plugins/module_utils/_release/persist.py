# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the secrets over a restart of the machine: on its disk, encrypted with its key, and nowhere in plain text.

All of them are in one file, which a rename replaces: a run that is killed leaves the old ones or the new ones.
`restore_secrets` brings them back into memory before the gateway starts.
"""

from __future__ import annotations

import json
import stat
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import ENCRYPTED
from ansible_collections.gatewayops.openai.plugins.module_utils._release import secrets
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Owner, exists, temporary_of
from ansible_collections.gatewayops.openai.plugins.module_utils._release.restore_secrets import (
    FORMAT,
    UnreadableError,
    part_name,
    unpack,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._release.secrets import Document
from ansible_collections.gatewayops.openai.plugins.module_utils._release.site import Site

MODE = 0o600
DIRECTORY_MODE = 0o700
#: systemd-creds encrypts 1 MiB at once, and decrypts 1.1 MiB of its own text, which is a third longer than its content.
PART_BYTES = 512 * 1024

#: What can be wrong with what is kept, see `fault`.
MISSING = "missing"
UNREADABLE = "cannot be decrypted"
CONTENT = "content"
ACCESS = "mode or owner"
UNEXPECTED = "unexpected"


def applies(site: Site) -> bool:
    """Whether secrets are kept on this host."""
    return site.host.secrets_persist == ENCRYPTED


def problem(site: Site) -> str:
    """Why secrets cannot be kept on this host as they should be; '' when they can."""
    if not applies(site):
        return ""
    why = site.sealer.problem()
    if why:
        return f"{why}: set gateway_secrets_persist to never to keep secrets in memory only"
    directory = site.layout.sealed_secrets.parent
    if _others(site) and not _is_right(directory, DIRECTORY_MODE, site.system_owner):
        return f"{directory} must be closed to all but root, and others use it: set gateway_state_dir to one of its own"
    return ""


def fault(site: Site, documents: Mapping[str, Document]) -> str:
    """What is wrong with what is kept, `documents` being what should be (name -> content without `version_info`).

    '' when nothing is, or when this host has no place for it.
    """
    if not applies(site):
        return UNEXPECTED if traces(site) else ""
    file = site.layout.sealed_secrets
    try:
        kept = unpack(file.read_bytes(), site.sealer.decrypt)
    except FileNotFoundError:
        return MISSING if documents else ""
    except (OSError, ReleaseError, UnreadableError):
        return UNREADABLE
    if kept != _comparable(documents):
        return CONTENT
    right = _is_right(file, MODE, site.system_owner) and _is_right(file.parent, DIRECTORY_MODE, site.system_owner)
    return "" if right else ACCESS


def save(site: Site, documents: Mapping[str, Document], *, check: bool) -> bool:
    """Keep exactly `documents`, which are `secrets.current` of what is settled; whether they had to be written.

    With `check` nothing is. Where secrets are not kept this does nothing. Raises OSError, and ReleaseError when they
    cannot be encrypted.
    """
    if not applies(site) or not fault(site, documents):
        return False
    if not check:
        _write(site, documents)
    return True


def remove(site: Site, *, check: bool) -> bool:
    """Remove what is kept; whether there was anything. With `check` nothing is removed. Raises OSError."""
    found = traces(site)
    if not check:
        for path in found:
            if path.is_dir():
                site.ops.rmdir(path)
            else:
                site.ops.unlink(path)
    return bool(found)


def prove(site: Site) -> None:
    """Encrypt something, so that a host that cannot is found before anything is changed. Raises ReleaseError."""
    name = part_name(1, 1)
    try:
        works = site.sealer.decrypt(name, site.sealer.encrypt(name, b"?")) == b"?"
        why = "" if works else "something else comes back"
    except ReleaseError as error:
        why = str(error)
    if why:
        raise ReleaseError(
            f"secrets cannot be encrypted with the key of this host, nothing was changed: {why}. Set "
            "gateway_secrets_persist to never to keep secrets in memory only"
        )


def traces(site: Site) -> tuple[Path, ...]:
    """What is kept, what a killed run has left, and the directory if there is nothing else in it."""
    if not site.layout.systemd:
        return ()
    file = site.layout.sealed_secrets
    ours = [path for path in (file, temporary_of(file)) if exists(path)]
    if file.parent.is_dir() and not _others(site):
        ours.append(file.parent)
    return tuple(ours)


def half_written(site: Site) -> tuple[Path, ...]:
    """What a run that was killed has left."""
    left = temporary_of(site.layout.sealed_secrets)
    return (left,) if applies(site) and exists(left) else ()


def _others(site: Site) -> frozenset[str]:
    """What is not ours in the directory; nothing when there is none."""
    file = site.layout.sealed_secrets
    with suppress(OSError):
        return frozenset(path.name for path in file.parent.iterdir()) - {file.name, temporary_of(file).name}
    return frozenset()


def _write(site: Site, documents: Mapping[str, Document]) -> None:
    file, owner = site.layout.sealed_secrets, site.system_owner
    if file.parent.is_dir():
        site.ops.protect(file.parent, DIRECTORY_MODE, owner)
    else:
        site.ops.mkdir(file.parent, DIRECTORY_MODE, owner)
    packed = zlib.compress(canonical_json(_comparable(documents)), 1)
    pieces = [packed[start : start + PART_BYTES] for start in range(0, len(packed), PART_BYTES)]
    sealed = [site.sealer.encrypt(part_name(at, len(pieces)), piece) for at, piece in enumerate(pieces, 1)]
    content = {"format": FORMAT, "parts": [text.decode("ascii") for text in sealed]}
    site.ops.write(file, json.dumps(content).encode(), MODE, owner)


def _comparable(documents: Mapping[str, Document]) -> dict[str, Document]:
    return {name: secrets.comparable(document) for name, document in documents.items()}


def _is_right(path: Path, mode: int, owner: Owner) -> bool:
    status = path.stat()
    return stat.S_IMODE(status.st_mode) == mode and (owner is None or (status.st_uid, status.st_gid) == owner)
