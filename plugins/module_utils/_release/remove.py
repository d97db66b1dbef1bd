# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a gateway off its host. What stays: Envoy's user, and the logs, which are the operator's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import INSTANCES
from ansible_collections.gatewayops.openai.plugins.module_utils._host.service import SYSTEM_FILES
from ansible_collections.gatewayops.openai.plugins.module_utils._release import persist, secrets, store
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import exists, temporary_of
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import STOPPED
from ansible_collections.gatewayops.openai.plugins.module_utils._release.site import Site
from ansible_collections.gatewayops.openai.plugins.module_utils._release.swap import wait_stopped


def traces(site: Site) -> tuple[str, ...]:
    """What there is of a gateway on the host: instances, files and directories."""
    found = []
    for each in site.manager.instances().values():
        found += [f"instance {each.name}"] if each.state != STOPPED or each.at_boot else []
    places = (*_files(site), *_entries(site), *(path for path in _directories(site) if _is_empty(path)))
    found += [str(path) for path in places if exists(path)]
    found += [str(path) for path in persist.traces(site)]
    found += [str(Path(site.host.secrets_dir, name)) for name in secrets.prune(site.host.secrets_dir, (), check=True)]
    return tuple(found)


def remove(site: Site, drain_wait: float) -> None:
    """Drain and stop what serves, at most `drain_wait` seconds, then remove the secrets, then everything else.

    Of the secrets those on the disk go first: nothing would bring them back into memory after that.

    Raises ReleaseError when connections outlast that time; then nothing is removed, and no new ones are taken.
    """
    files = _files(site)
    instances = site.manager.instances()
    for instance in instances.values():
        if instance.state != STOPPED:
            site.manager.drain(instance.name)
    for name in instances:
        wait_stopped(site, name, drain_wait)
    site.manager.remove()
    persist.remove(site, check=False)
    site.ops.before("secrets", site.host.secrets_dir)
    secrets.prune(site.host.secrets_dir, (), check=False)
    removed = [path for path in files if exists(path)]
    for path in removed:
        site.ops.unlink(path)
    if removed:
        site.manager.reload()
    for path in _entries(site):
        if path.parent == site.layout.config and path.is_dir() and not path.is_symlink():
            site.ops.rmtree(path)
        elif exists(path):
            site.ops.unlink(path)
    for directory in _directories(site):
        if _is_empty(directory):
            site.ops.rmdir(directory)


def _directories(site: Site) -> tuple[Path, ...]:
    """Directories that go when nothing is left in them; anybody may have put something there."""
    return (Path(site.host.secrets_dir), Path(site.host.runtime_dir), site.layout.config)


def _entries(site: Site) -> tuple[Path, ...]:
    """What is made in those directories.

    The runtime directory belongs to Envoy's user, while this usually runs as root. A directory there is none of ours:
    whoever takes over Envoy could put a link in its place while it is being emptied.
    """
    runtime = Path(site.host.runtime_dir)
    names = [instance + end for instance in INSTANCES for end in (".sock", ".release", ".release.new")]
    names += ["supervisor.sock", "supervisord.pid"]
    layout = site.layout
    links = (layout.current, temporary_of(layout.current))
    running = (path for path in (runtime / name for name in names) if path.is_symlink() or not path.is_dir())
    return (*links, layout.releases, *running, layout.lock)


def _files(site: Site) -> tuple[Path, ...]:
    """Every file that a release has put on the system, those of releases that are not there any more too."""
    known: Iterable[str] = {path for each in store.releases(site.layout).values() for path in each.outside}
    usual = {"host" + path for path in SYSTEM_FILES} if site.layout.systemd else set()
    return tuple(site.layout.outside(path) for path in sorted(usual.union(known)))


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and not any(directory.iterdir())
