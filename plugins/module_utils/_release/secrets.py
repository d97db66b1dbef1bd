# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put secret files where Envoy reads them: a directory in memory, mode 0700, files 0600 and replaced by a rename.

A file is one xDS answer, ``{"version_info": ..., "resources": [...]}``. The caller gives it without ``version_info``;
it is added here when the content changes, and is a nonce: a hash of the content would be a hash of a secret.

The directory belongs to the user that Envoy runs as, while this code usually runs as root. So it is opened once,
without following a link, and every file is reached through that descriptor: whoever takes over Envoy cannot make
root write anywhere else.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import secrets
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Optional

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release import disk

#: The keys of the gateway's own clients; the one file whose old entries stay valid while a release is switched.
CONSUMERS = "consumers.json"
#: Stands for the directory itself among the changed names.
DIRECTORY = "."

_MEMORY = ("tmpfs", "ramfs")
#: What has to be a text, and what has to be an object, wherever it stands in a document.
_TEXTS = ("key", "client", "inline_string", "filename")
_OBJECTS = ("secret", "certificate_chain", "private_key")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.json\Z")
_MOUNTINFO = Path("/proc/self/mountinfo")

Owner = Optional[tuple[int, int]]
Document = dict[str, Any]


def owner_of(user: str) -> Owner:
    """What ``deliver`` takes as the owner for a user of this host; None for the one who runs this.

    Raises ReleaseError when there is no such user.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ReleaseError(f"there is no user {user} on this host") from None
    return None if entry.pw_uid == os.geteuid() else (entry.pw_uid, entry.pw_gid)


def require_tmpfs(directory: str) -> None:
    """Refuse a directory that is not in memory; of one that does not exist yet, the closest parent counts.

    Raises ReleaseError. Sources: proc_pid_mountinfo(5) for the types of the mounted filesystems.
    """
    existing = Path(directory)
    while not _exists(existing):
        existing = existing.parent
    with _told("read", directory):
        _require_memory(existing.stat().st_dev, directory)


def current(directory: str) -> dict[str, Document]:
    """The documents that are delivered now, by file name and without ``version_info``; unreadable ones are left out."""
    found = delivered(directory)
    for document in found.values():
        document.pop("version_info", None)
    return found


def delivered(directory: str) -> dict[str, Document]:
    """The documents that are delivered now, by file name; unreadable ones are left out."""
    try:
        folder = _open_directory(directory)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _cannot("read", directory, error) from None
    try:
        found = {name: _load(folder, name) for name in _names(folder) if _NAME.match(name)}
    finally:
        os.close(folder)
    return {name: document for name, document in found.items() if document is not None}


def deliver(
    directory: str,
    files: Mapping[str, str],
    owner: Owner,
    *,
    keep_others: bool,
    check: bool,
    again: Collection[str] = (),
    allow_disk: bool = False,
) -> tuple[str, ...]:
    """Bring ``files`` (name -> JSON text with ``resources``) into ``directory`` and return the names that changed.

    ``owner`` is the (uid, gid) that directory and files get; None leaves them with the caller. With ``keep_others``
    the credentials that ``consumers.json`` has now stay valid beside the new ones; a key in both belongs to the new
    client. Files that are not named stay in any case (``prune``). ``DIRECTORY`` among the names means that the
    directory's own mode or owner was wrong. With ``check`` nothing is written. Files in ``again`` are written even when
    they are as they should be, so that Envoy reads them. ``allow_disk`` skips the check that the directory is in
    memory. Raises ReleaseError, whose text names files and never holds content.
    """
    documents = parsed(files)
    if not allow_disk:
        require_tmpfs(directory)
    if not _exists(Path(directory)):
        if check:
            return tuple(documents)
        with _told("create", directory):
            Path(directory).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            Path(directory).mkdir(0o700)
    with _told("open", directory):
        folder = _open_directory(directory)
    try:
        if not allow_disk:
            _require_memory(os.fstat(folder).st_dev, directory)
        changed = [DIRECTORY] if _mend(folder, directory, owner, check=check) else []
        for name, document in documents.items():
            wanted = merge_credentials(_read(folder, name), document) if keep_others and name == CONSUMERS else document
            if name not in again and _is_delivered(folder, name, wanted, owner):
                continue
            changed.append(name)
            if not check:
                with _told("write", f"{directory}/{name}"):
                    _write(folder, name, wanted, owner)
    finally:
        os.close(folder)
    return tuple(changed)


def prune(directory: str, names: Iterable[str], *, check: bool) -> tuple[str, ...]:
    """Remove every file that is not in ``names``, what a killed run left behind included; return what went."""
    try:
        folder = _open_directory(directory)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _cannot("open", directory, error) from None
    try:
        keep = set(names)
        removed = []
        for name in _names(folder):
            with _told("remove", f"{directory}/{name}"):
                if name in keep or stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    continue
                removed.append(name)
                if not check:
                    os.unlink(name, dir_fd=folder)
    finally:
        os.close(folder)
    return tuple(removed)


def filesystem_type(mountinfo: str, device: int) -> str:
    """The type of the mounted filesystem with that device number, '' when none has it (pure)."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        mount, _dash, source = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) > 2 and fields[2] == wanted:
            return source.split(" ")[0]
    return ""


def merge_credentials(now: Document | None, new: Document, clients: Collection[str] | None = None) -> Document:
    """``new`` plus the credentials of ``now``, or those of ``clients``, whose keys it does not have (pure)."""
    wanted = credentials(new)
    if now is None or wanted is None:
        return new
    keys = {credential["key"] for credential in wanted}
    kept = [
        credential
        for credential in credentials(now) or ()
        if credential["key"] not in keys and (clients is None or credential.get("client") in clients)
    ]
    merged: Document = json.loads(json.dumps(new))
    merged["resources"][0]["typed_config"]["credentials"] = list(wanted) + kept
    return merged


def parsed(files: Mapping[str, str]) -> dict[str, Document]:
    """The documents that `files` (name -> JSON text) are, without ``version_info`` (pure). Raises ReleaseError."""
    return {name: _parse(name, files[name]) for name in sorted(files)}


def credentials(document: Document) -> list[dict[str, Any]] | None:
    """The credentials of Envoy's api_key_auth filter (extensions.filters.http.api_key_auth.v3.ApiKeyAuth)."""
    resources = document["resources"]
    if len(resources) != 1 or not isinstance(resources[0], dict):
        return None
    config = resources[0].get("typed_config")
    found = config.get("credentials") if isinstance(config, dict) else None
    return found if isinstance(found, list) and all(map(_is_credential, found)) else None


def comparable(document: Document) -> Document:
    """The document with its credentials in one order: what was kept stands elsewhere than what is new."""
    found = credentials(document)
    if found is None:
        return document
    in_order = sorted(found, key=lambda credential: (credential["key"], str(credential.get("client"))))
    first = document["resources"][0]
    config = dict(first["typed_config"], credentials=in_order)
    return dict(document, resources=[dict(first, typed_config=config)])


def _require_memory(device: int, directory: str) -> None:
    kind = filesystem_type(_MOUNTINFO.read_text(encoding="utf-8", errors="replace"), device)
    if kind not in _MEMORY:
        raise ReleaseError(
            f"{directory} is on {kind or 'an unknown filesystem'}, not in memory (tmpfs): secrets would reach a disk. "
            "Mount a tmpfs there or choose another secrets_dir."
        )


def _is_delivered(folder: int, name: str, document: Document, owner: Owner) -> bool:
    now = _read(folder, name)
    return now is not None and comparable(now) == comparable(document) and _is_private(folder, name, owner)


def _mend(folder: int, directory: str, owner: Owner, *, check: bool) -> bool:
    """Give the directory its mode and owner; say whether they were wrong.

    Without an owner to give it to, one that belongs to somebody else is refused.
    """
    status = os.fstat(folder)
    if owner is None and status.st_uid != os.geteuid():
        raise ReleaseError(f"{directory} belongs to another user: remove it, or choose another secrets_dir")
    wrong_owner = owner is not None and (status.st_uid, status.st_gid) != owner
    wrong_mode = stat.S_IMODE(status.st_mode) != 0o700
    if not check:
        with _told("protect", directory):
            if wrong_mode:
                os.fchmod(folder, 0o700)
            if owner is not None and wrong_owner:
                os.fchown(folder, *owner)
    return wrong_owner or wrong_mode


def _is_private(folder: int, name: str, owner: Owner) -> bool:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    owned = owner is None or (status.st_uid, status.st_gid) == owner
    return owned and stat.S_IMODE(status.st_mode) == 0o600


def _read(folder: int, name: str) -> Document | None:
    """A delivered document without its version."""
    document = _load(folder, name)
    if document is not None:
        document.pop("version_info", None)
    return document


def _load(folder: int, name: str) -> Document | None:
    """A delivered document; None for what is missing, no regular file, or no document."""
    try:
        # O_NONBLOCK: a FIFO under that name must not hang the run.
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(handle, encoding="utf-8") as file:
            document = json.load(file) if stat.S_ISREG(os.fstat(handle).st_mode) else None
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("resources"), list):
        return None
    return document


def _write(folder: int, name: str, document: Document, owner: Owner) -> None:
    version = f"{time.time_ns()}-{secrets.token_hex(4)}"
    text = json.dumps(dict({"version_info": version}, **document), separators=(",", ":"))
    temporary = f".{name}.{secrets.token_hex(8)}"
    handle = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
    )
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(handle, 0o600)
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.fchown(handle, *owner)
            file.write(text)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _parse(name: str, text: str) -> Document:
    if not _NAME.match(name):
        raise ReleaseError(f"{name!r} is no name of a secret file: letters, digits, '_', '.', '-', ending in .json")
    try:
        document = json.loads(text)
    except (TypeError, ValueError):
        document = None
    # The parser's own message would lead to the text.
    if not isinstance(document, dict) or not isinstance(document.get("resources"), list):
        raise ReleaseError(f"the secret file {name} is not a JSON object with a list of resources")
    problem = next(_problems(document), "")
    if problem:
        raise ReleaseError(f"the secret file {name} cannot be delivered: {problem}")
    document.pop("version_info", None)
    return document


def _problems(value: Any) -> Iterator[str]:
    """What Envoy would refuse, in words that hold no secret: it writes what it refuses to its log, keys and all."""
    for inner in value if isinstance(value, list) else ():
        yield from _problems(inner)
    for name, inner in value.items() if isinstance(value, dict) else ():
        if name in _TEXTS and not (isinstance(inner, str) and inner):
            yield f"a '{name}' in it is empty or no text"
        elif name in _OBJECTS and not isinstance(inner, dict):
            yield f"a '{name}' in it is no object"
        elif name == "credentials":
            if not isinstance(inner, list) or not all(map(_is_credential, inner)):
                yield "its 'credentials' are no list of keys and clients"
            elif len({credential["key"] for credential in inner}) < len(inner):
                yield "it has the same key twice"
        yield from _problems(inner)


def _is_credential(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("key"), str)


def _exists(path: Path) -> bool:
    """Whether there is anything under that name, be it a link to nothing."""
    return path.is_symlink() or path.exists()


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)


def _open_directory(directory: str) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _cannot(verb: str, path: str, error: OSError) -> ReleaseError:
    what, remedy = disk.problem(error, Path(path))
    why = f"{what}. {remedy}" if what else error.strerror or "unknown error"
    return ReleaseError(f"cannot {verb} {path}: {why}")


@contextmanager
def _told(verb: str, path: str) -> Iterator[None]:
    """Turn an OSError into a ReleaseError that says what was tried on which path."""
    try:
        yield
    except OSError as error:
        raise _cannot(verb, path, error) from None
