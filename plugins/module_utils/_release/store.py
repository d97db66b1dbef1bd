# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The releases on a host: staging, mending, removing. Nothing here changes what is served."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import BundleFile
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release import manifest as manifests
from ansible_collections.gatewayops.openai.plugins.module_utils._release.layout import (
    RELEASE_MODE,
    Layout,
    digest_of,
    is_digest,
    is_leftover,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._release.manifest import Damage, Manifest
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Ops, Owner, exists


def releases(layout: Layout) -> dict[str, Manifest]:
    """The releases on the host by digest; one whose manifest cannot be read is left out."""
    found = {}
    for name in _names(layout.releases):
        if is_digest(name):
            with suppress(ReleaseError):
                found[name] = manifests.read(layout.release(name))
    return found


def linked(layout: Layout) -> str:
    """The name in `releases/` that is served: a digest or a step towards one; '' when nothing is."""
    try:
        name = str(layout.active.readlink())
    except OSError:
        return ""
    return name if digest_of(name) and layout.release(name).is_dir() else ""


def is_linked(layout: Layout) -> bool:
    """Whether `current` is the link that it has to be."""
    try:
        return str(layout.current.readlink()) == current_target(layout)
    except OSError:
        return False


def current_target(layout: Layout) -> str:
    """What `current` points to."""
    return str(layout.active.relative_to(layout.config))


def bundle(layout: Layout, digest: str, manifest: Manifest) -> tuple[BundleFile, ...]:
    """The files of a release on the host, as they are there."""
    return tuple(
        BundleFile(path, (layout.release(digest) / path).read_bytes(), entry.mode)
        for path, entry in sorted(manifest.entries.items())
    )


def stage(layout: Layout, ops: Ops, files: Iterable[BundleFile], manifest: Manifest, owner: Owner) -> Path:
    """Write a release under a name that nothing reads, manifest last; its directory.

    A disk that is full leaves nothing behind. Raises OSError.
    """
    directory = layout.release(f".stage-{manifest.digest}-{os.getpid()}")
    try:
        fill(ops, directory, files, owner)
        ops.create(directory / manifests.NAME, manifests.to_bytes(manifest), manifests.MODE, owner)
    except OSError:
        discard(ops, directory)
        raise
    return directory


def fill(ops: Ops, directory: Path, files: Iterable[BundleFile], owner: Owner) -> None:
    """Make a directory with `files` in it. Raises OSError."""
    ops.mkdir(directory, RELEASE_MODE, owner)
    made = {directory}
    for file in files:
        path = directory / file.path
        for parent in reversed(path.relative_to(directory).parents):
            if directory / parent not in made:
                ops.mkdir(directory / parent, RELEASE_MODE, owner)
                made.add(directory / parent)
        ops.create(path, file.content, file.mode, owner)


def publish(layout: Layout, ops: Ops, staged: Path, digest: str) -> None:
    """Give a staged release its name."""
    ops.rename(staged, layout.release(digest))


def mend(
    layout: Layout,
    ops: Ops,
    files: Mapping[str, BundleFile],
    manifest: Manifest,
    damages: Iterable[Damage],
    owner: Owner,
) -> None:
    """Bring back a release that somebody changed, file by file and in place: it may be the one that is served."""
    directory = layout.release(manifest.digest)
    # What must not be there first: it may be the temporary file of one that is about to be written.
    for damage in sorted(damages, key=lambda each: each.what != "unexpected"):
        path = directory / damage.path
        if damage.what == "unexpected":
            ops.unlink(path)
            continue
        if path.is_dir() and not path.is_symlink():
            ops.rmtree(path)
        if not path.parent.is_dir():
            ops.mkdir(path.parent, RELEASE_MODE, owner)
        if damage.path == manifests.NAME:
            ops.write(path, manifests.to_bytes(manifest), manifests.MODE, owner)
        else:
            ops.write(path, files[damage.path].content, files[damage.path].mode, owner)


def outside_damages(layout: Layout, manifest: Manifest, owner: Owner) -> tuple[Damage, ...]:
    """How the files that a release puts on the system differ from it; they belong to `owner`."""
    found = []
    for path in manifest.outside:
        what = manifests.difference(layout.outside(path), manifest.entries[path], owner)
        if what:
            found.append(Damage(path, what))
    return tuple(found)


def outside_leftovers(layout: Layout, known: Iterable[Manifest], wanted: Manifest) -> tuple[str, ...]:
    """Files on the system, as `host/<…>`, that one of the releases `known` has put there and `wanted` does not want."""
    paths = {path for manifest in known for path in manifest.outside} - set(wanted.outside)
    return tuple(path for path in sorted(paths) if exists(layout.outside(path)))


def leftovers(layout: Layout, keep: str) -> tuple[str, ...]:
    """Names in `releases/` that a run that did not end has left; the step `keep` is in use."""
    return tuple(
        name
        for name in _names(layout.releases)
        if is_leftover(name) or (digest_of(name) and not is_digest(name) and name != keep)
    )


def sweep(layout: Layout, ops: Ops, names: Iterable[str]) -> None:
    """Remove what `leftovers` found."""
    for name in names:
        path = layout.release(name)
        if path.is_dir() and not path.is_symlink():
            ops.rmtree(path)
        else:
            ops.unlink(path)


def remove(layout: Layout, ops: Ops, digest: str) -> None:
    """Remove a release: at once out of sight, then file by file."""
    trash = layout.release(f".trash-{digest}-{os.getpid()}")
    ops.rename(layout.release(digest), trash)
    ops.rmtree(trash)


def discard(ops: Ops, directory: Path) -> None:
    """Remove a directory that was being staged, whatever state it is in."""
    with suppress(OSError):
        if directory.is_dir():
            ops.rmtree(directory)


def _names(directory: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry.name for entry in directory.iterdir()))
    except OSError:
        return ()
