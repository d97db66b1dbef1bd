# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release consists of, as noted in its `manifest.json`, and whether a directory still is that release."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import BundleFile
from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json, digest
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Owner

NAME = "manifest.json"
MODE = 0o644
_FORMAT = 1
#: What a manifest tells besides the files; '' where it is not known.
FACTS = (
    "spec_digest",
    "inventory_commit",
    "collection_version",
    "envoy_version",
    "applied_by",
    "workspace",
    "staged_at",
)


@dataclass(frozen=True)
class Entry:
    """One file of a release."""

    sha256: str
    mode: int


@dataclass(frozen=True)
class Manifest:
    """The files of a release by path, and where it came from: a value for each of FACTS."""

    entries: Mapping[str, Entry]
    facts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The name of the release, which is that of its bundle."""
        table = [[path, oct(entry.mode), entry.sha256] for path, entry in sorted(self.entries.items())]
        return digest(canonical_json(table))[:16]

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file by path."""
        return {path: entry.sha256 for path, entry in self.entries.items()}

    @property
    def outside(self) -> tuple[str, ...]:
        """The paths of the files that the release puts on the system, `host/<…>`."""
        return tuple(path for path in sorted(self.entries) if path.startswith("host/"))


@dataclass(frozen=True)
class Damage:
    """What is wrong with one file: `missing`, `content`, `mode`, `owner` or `unexpected`."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path} ({self.what})"


def manifest_of(files: Iterable[BundleFile], facts: Mapping[str, str]) -> Manifest:
    """The manifest of a bundle (pure); facts that are not among FACTS are left out."""
    entries = {file.path: Entry(digest(file.content), file.mode) for file in files}
    return Manifest(entries, {name: str(facts.get(name) or "") for name in FACTS})


def to_bytes(manifest: Manifest) -> bytes:
    """The content of `manifest.json`."""
    table = {path: {"mode": f"{entry.mode:04o}", "sha256": entry.sha256} for path, entry in manifest.entries.items()}
    document = {"digest": manifest.digest, "facts": dict(manifest.facts), "files": table, "format": _FORMAT}
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def from_bytes(content: bytes) -> Manifest:
    """Read `manifest.json`. Raises ReleaseError when it is none."""
    try:
        document = json.loads(content)
        entries = {str(path): Entry(str(e["sha256"]), int(e["mode"], 8)) for path, e in document["files"].items()}
        facts = {name: str(document["facts"].get(name) or "") for name in FACTS}
        known = document["format"] == _FORMAT
    except (AttributeError, KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise ReleaseError("this is no manifest of a release that this version of the collection knows")
    return Manifest(entries, facts)


def read(directory: Path) -> Manifest:
    """The manifest of a release. Raises ReleaseError when there is none, or when it is of another release."""
    try:
        manifest = from_bytes((directory / NAME).read_bytes())
    except OSError as error:
        raise ReleaseError(f"{directory / NAME}: {error.strerror}") from None
    except ReleaseError as error:
        raise ReleaseError(f"{directory / NAME}: {error}") from None
    if manifest.digest != directory.name:
        raise ReleaseError(f"{directory / NAME}: it is the manifest of another release, {manifest.digest}")
    return manifest


def damages(directory: Path, manifest: Manifest, owner: Owner) -> tuple[Damage, ...]:
    """Every way in which `directory` differs from the release that `manifest` describes.

    `owner` is who every file has to belong to; None accepts any. Links and special files are unexpected everywhere.
    """
    found = []
    for path, entry in sorted({**manifest.entries, NAME: Entry("", MODE)}.items()):
        what = difference(directory / path, entry, owner)
        if what:
            found.append(Damage(path, what))
    for path in sorted(_paths_below(directory)):
        if path not in manifest.entries and path != NAME:
            found.append(Damage(path, "unexpected"))
    return tuple(found)


def difference(file: Path, entry: Entry, owner: Owner) -> str:
    """How `file` differs from `entry`, '' when it does not. An empty hash accepts any content."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return "missing"
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return "missing"
        if entry.sha256 and digest(stream.read()) != entry.sha256:
            return "content"
    if owner is not None and (status.st_uid, status.st_gid) != owner:
        return "owner"
    return "mode" if stat.S_IMODE(status.st_mode) != entry.mode else ""


def _paths_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_symlink() or not path.is_dir()}
