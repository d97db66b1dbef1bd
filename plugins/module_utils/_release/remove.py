# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a gateway off its host, which is then as it was before, but for the logs where these are to stay."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import INSTANCES
from ansible_collections.gatewayops.openai.plugins.module_utils._host.service import (
    LOG_FILES,
    NFTABLES_FILE,
    SYSTEM_FILES,
    SYSUSERS_FILE,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._release import account, kernel, persist, secrets, store
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import exists, temporary_of
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import STOPPED
from ansible_collections.gatewayops.openai.plugins.module_utils._release.site import Site
from ansible_collections.gatewayops.openai.plugins.module_utils._release.swap import wait_stopped


def traces(site: Site, *, keep_logs: bool) -> tuple[str, ...]:
    """What there is of a gateway on the host: instances, files and directories, its user."""
    found = []
    for each in site.manager.instances().values():
        found += [f"instance {each.name}"] if each.state != STOPPED or each.at_boot else []
    places = (*_files(site), *_entries(site), *(path for path in _directories(site) if _is_empty(path)))
    if not keep_logs:
        places += (*_logs(site), *_empty_log_directory(site))
    found += [str(path) for path in places if exists(path)]
    found += [str(path) for path in persist.traces(site)]
    found += [str(Path(site.host.secrets_dir, name)) for name in secrets.prune(site.host.secrets_dir, (), check=True)]
    found += [f"user {site.host.user}"] if not keep_logs and account.is_ours(site) else []
    return tuple(found)


def remove(site: Site, drain_wait: float | None, *, keep_logs: bool) -> None:
    """Drain and stop what serves, at most `drain_wait` seconds, then remove the secrets, then everything else.

    Of the secrets those on the disk go first: nothing would bring them back into memory after that. Where the logs
    stay, the user stays whom they belong to.

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
    if site.layout.outside("host" + NFTABLES_FILE) in removed:
        kernel.unload(site.ops)
    for path in removed:
        site.ops.unlink(path)
    if removed:
        site.manager.reload()
    for path in _entries(site):
        if path.parent == site.layout.config and path.is_dir() and not path.is_symlink():
            site.ops.rmtree(path)
        elif exists(path):
            site.ops.unlink(path)
    logs = () if keep_logs else _logs(site)
    for path in logs:
        site.ops.unlink(path)
    for directory in (*_directories(site), *(() if keep_logs else _empty_log_directory(site))):
        if _is_empty(directory):
            site.ops.rmdir(directory)
    if not keep_logs and account.is_ours(site):
        account.remove(site)


def _directories(site: Site) -> tuple[Path, ...]:
    """Directories that go when nothing is left in them; anybody may have put something there.

    The last ones are where nothing but our file may be: not every system has such directories before.
    """
    files = (SYSUSERS_FILE, NFTABLES_FILE) if site.layout.systemd else ()
    made = tuple(site.layout.outside("host" + path).parent for path in files)
    return (Path(site.host.secrets_dir), Path(site.host.runtime_dir), site.layout.config, *made)


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
    """Every file that a release has put on the system, also of releases that are gone, and half of one."""
    known: Iterable[str] = {path for each in store.releases(site.layout).values() for path in each.outside}
    usual = {"host" + path for path in SYSTEM_FILES} if site.layout.systemd else set()
    places = [site.layout.outside(path) for path in sorted(usual.union(known))]
    return (*places, *(path for path in map(temporary_of, places) if exists(path)))


def _logs(site: Site) -> tuple[Path, ...]:
    """What Envoy, supervisor and logrotate have written into the directory of the logs; no directories, as above."""
    directory = Path(site.host.log_dir)
    found = {path for pattern in LOG_FILES for path in directory.glob(pattern) if path.is_symlink() or path.is_file()}
    return tuple(sorted(found))


def _empty_log_directory(site: Site) -> tuple[Path, ...]:
    """The directory of the logs, unless there is something else in it."""
    directory = Path(site.host.log_dir)
    return (directory,) if directory.is_dir() and set(directory.iterdir()) <= set(_logs(site)) else ()


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and not any(directory.iterdir())
