# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a release's files on the system, and have read again what was changed: nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import BundleFile
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.service import NFTABLES_FILE
from ansible_collections.gatewayops.openai.plugins.module_utils._release import kernel
from ansible_collections.gatewayops.openai.plugins.module_utils._release.layout import Layout
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Ops, Owner, exists, temporary_of
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import Manager


def put(
    layout: Layout,
    ops: Ops,
    manager: Manager,
    files: Mapping[str, BundleFile],
    writes: Iterable[str],
    removes: Iterable[str],
    owner: Owner,
) -> None:
    """Write the files `writes` and remove `removes`, both as `host/<…>`."""
    written, removed = tuple(writes), tuple(removes)
    for path in written:
        ops.write(
            layout.outside(path),
            files[path].content,
            files[path].mode,
            owner,
            lambda place, path=path: _apply(ops, path, place),  # type: ignore[misc]
        )
    if "host" + NFTABLES_FILE in removed:
        kernel.unload(ops)
    for path in removed:
        with suppress(FileNotFoundError):
            ops.unlink(layout.outside(path))
    if any("/systemd/" in path for path in written + removed) or manager.is_stale():
        manager.reload()


def half_written(layout: Layout, paths: Iterable[str]) -> tuple[Path, ...]:
    """What a run that was killed has left beside `current` and the files `paths`."""
    places = (layout.current, *(layout.outside(path) for path in sorted(paths)))
    return tuple(path for path in (temporary_of(place) for place in places) if exists(path))


def _apply(ops: Ops, path: str, place: Path) -> None:
    """Do now what the system does at its start with the file `path`, which is at `place`."""
    if "/sysusers.d/" in path:
        ops.run(["systemd-sysusers", str(place)])
    elif "/tmpfiles.d/" in path:  # noqa: S108
        ops.run(["systemd-tmpfiles", "--create", str(place)])
    elif "/sysctl.d/" in path:
        # A container may not set it. It is no condition for serving, only for losing nothing when the process changes.
        with suppress(ReleaseError):
            ops.run(["sysctl", "-q", "-e", "-p", str(place)])
