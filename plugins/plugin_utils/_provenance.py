# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who applies what from where: what a release's history tells later."""

from __future__ import annotations

import getpass
import json
import re
import socket
import subprocess
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 10


def inventory_commit(directory: str | None) -> str | None:
    """The commit of the repository that holds the inventory, with `+dirty` for one that differs from it.

    The whole repository counts, since what an inventory shares lies outside its directory. None without Git.
    """
    if not directory:
        return None
    commit = _git(directory, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(directory, "status", "--porcelain")
    return commit + ("+dirty" if changed else "")


def collection_version(root: Path = _ROOT) -> str:
    """The version of this collection, as it is installed or as a checkout."""
    manifest = root / "MANIFEST.json"
    if manifest.is_file():
        return str(json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"])
    found = re.search(r"(?m)^version:\s*(\S+)", (root / "galaxy.yml").read_text(encoding="utf-8"))
    return found.group(1) if found else "unknown"


def applied_by() -> str:
    """The user and the controller."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as some execution environments have
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def _git(directory: str, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", directory, *arguments], check=False, capture_output=True, text=True, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
