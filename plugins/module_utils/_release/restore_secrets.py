# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a start of the machine, put the secrets back into memory that `persist` has kept encrypted on its disk.

This file is `libexec/restore-secrets` of every release that keeps them, run as root with `python3 -I`: it imports the
standard library only.

    restore-secrets FILE DIRECTORY USER LOCK

Decrypts FILE with the host's key and writes into DIRECTORY, as USER, what is missing there: what is there is newer. A
run that holds LOCK brings the secrets itself. What the file looks like is said here, for `persist` too.
"""

from __future__ import annotations

# A program of its own, without an AnsibleModule whose run_command could be called.
# pylint: disable=ansible-bad-function
import fcntl
import json
import os
import pwd
import secrets
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Document = dict[str, Any]

#: Of the file: JSON, `{"format": 1, "parts": [...]}`, each part as systemd-creds wrote it.
FORMAT = 1
#: More than a second of it for a part is a host that hangs.
_SECONDS = 60.0


class UnreadableError(Exception):
    """What was kept cannot be brought back; the text says why and holds nothing of it."""


def part_name(number: int, parts: int) -> str:
    """The name that is sealed with a part: one that is swapped, or of a file with more parts, is not accepted."""
    return f"openai-gateway.{number}-of-{parts}"


def decrypt_command(name: str) -> tuple[str, ...]:
    """What decrypts the part `name` from standard input to standard output, see systemd-creds(1)."""
    return ("systemd-creds", "decrypt", f"--name={name}", "-", "-")


def unpack(content: bytes, decrypt: Callable[[str, bytes], bytes]) -> dict[str, Document]:
    """The documents in a file by their names; `decrypt` is given a part's name and text. Raises UnreadableError."""
    try:
        parts = json.loads(content)["parts"]
        texts = [part.encode("ascii") for part in parts]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UnreadableError("it is damaged") from None
    packed = b"".join(decrypt(part_name(number, len(texts)), text) for number, text in enumerate(texts, 1))
    try:
        found: dict[str, Document] = json.loads(zlib.decompress(packed))
    except (ValueError, zlib.error):
        raise UnreadableError("its parts do not belong together") from None
    return found


def _decrypt(name: str, text: bytes) -> bytes:
    command = decrypt_command(name)
    try:
        done = subprocess.run(command, input=text, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnreadableError(f"systemd-creds does not run: {type(error).__name__}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise UnreadableError(said[-1] if said else f"systemd-creds ended with {done.returncode}")
    return done.stdout


def _become(user: str) -> None:
    """Go on as `user`: in a directory of somebody else, root could be led astray."""
    entry = pwd.getpwnam(user)
    if os.geteuid() == 0:
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)


def _restore(directory: str, documents: dict[str, Document]) -> list[str]:
    """Write the files that are missing; their names."""
    restored = []
    for name, document in sorted(documents.items()):
        path = Path(directory, name)
        if path.is_symlink() or path.exists():
            continue
        # A nonce, as `secrets.deliver` makes it: Envoy tells by it what it has read.
        version = f"{time.time_ns()}-{secrets.token_hex(4)}"
        text = json.dumps({"version_info": version, **document}, separators=(",", ":"))
        temporary = path.with_name(f".{name}.{secrets.token_hex(8)}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.rename(path)
        restored.append(name)
    return restored


def main(arguments: list[str]) -> int:
    """Restore; the exit status."""
    file, directory, user, lock = arguments
    try:
        documents = unpack(Path(file).read_bytes(), _decrypt)
    except (OSError, UnreadableError) as error:
        # '<3>' is the priority "error" for the journal, see sd-daemon(3).
        print(
            f"<3>The secrets in {file} cannot be decrypted with this host's key ({error}). The gateway cannot "
            "serve without them: run the playbook gatewayops.openai.site, which brings them.",
            file=sys.stderr,
        )
        return 1
    try:
        with Path(lock).open("rb") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("A run is applying to this host and brings the secrets itself.")
                return 0
            _become(user)
            restored = _restore(directory, documents)
    except (KeyError, OSError) as error:
        print(f"<3>The secrets cannot be written to {directory}: {error}", file=sys.stderr)
        return 1
    print(f"Restored: {', '.join(restored)}" if restored else "Nothing was missing.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
