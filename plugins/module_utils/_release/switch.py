# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have the process that serves read another release, in steps that lose no request, or all of it as it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import BundleFile
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.union import transition
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release import admin, store
from ansible_collections.gatewayops.openai.plugins.module_utils._release.binary import reasons
from ansible_collections.gatewayops.openai.plugins.module_utils._release.layout import is_digest
from ansible_collections.gatewayops.openai.plugins.module_utils._release.live import cluster_names
from ansible_collections.gatewayops.openai.plugins.module_utils._release.site import Site
from ansible_collections.gatewayops.openai.plugins.module_utils._release.view import Target, View, expected_of

#: Seconds that a running process has to accept a step; it takes a few hundredths.
ACCEPT_SECONDS = 30.0


@dataclass(frozen=True)
class Switched:
    """The steps that were accepted, by name, and the clusters of the old release that could not be removed yet."""

    steps: tuple[str, ...]
    busy: tuple[str, ...] = ()


def reload(site: Site, view: View, target: Target, keeper: str, prune_wait: float) -> Switched:
    """Switch `keeper` to `target`. Raises ReleaseError with Envoy's reason after having switched back.

    The last step removes what only the old release needs. It waits at most `prune_wait` seconds for the requests that
    began before; when they take longer, the step before it stays and a later run removes the rest.
    """
    origin = settle(site, view, target, keeper)
    sweep_steps(site)
    old = admin.xds_files(str(site.layout.release(origin)))
    steps = transition(old, target.xds)
    if not steps:  # other files differ, none that Envoy reads
        point(site, target.digest)
        return Switched((target.digest,))
    names = [*(f"{target.digest}.{_number(files)}" for files in steps[:-1]), target.digest]
    try:
        for name, files in zip(names[:-1], steps):
            if name != origin:
                store.fill(site.ops, site.layout.release(name), _step_files(target, files), site.config_owner)
        done: list[str] = []
        before: Mapping[str, bytes] = old
        for name, files in zip(names, steps):
            gone = cluster_names(before) - cluster_names(files)
            if gone:
                busy = site.live.wait_idle(keeper, gone, prune_wait)
                if busy:
                    return Switched(tuple(done), busy)
            _step(site, keeper, name, files, origin, old)
            done.append(name)
            before = files
        return Switched(tuple(done))
    finally:
        sweep_steps(site)


def settle(site: Site, view: View, target: Target, keeper: str) -> str:
    """Make sure that `current` leads to what the keeper runs; the name of that.

    It need not after a run that was killed: then the keeper may be anywhere between two steps.
    """
    candidates = [name for name in (view.linked, view.active, target.digest) if name]
    for name in candidates:
        if not site.live.missing(keeper, expected_of(site, name)):
            if name != view.linked:
                point(site, name)  # in silence: the process has read it long ago
            return name
    name = view.active or candidates[0]
    before = site.live.counters(keeper)
    announce(site, name)
    why = site.live.wait(keeper, expected_of(site, name), before, ACCEPT_SECONDS)
    if why:
        raise ReleaseError(f"the process that serves does not take release {name} again: {'; '.join(why)}")
    return name


def point(site: Site, name: str) -> None:
    """Let `current` lead to `name` without telling the process that runs."""
    if store.linked(site.layout) != name:
        site.ops.link(site.layout.active, name)
    if not store.is_linked(site.layout):
        site.ops.link(site.layout.current, store.current_target(site.layout))


def announce(site: Site, name: str) -> None:
    """Let `current` lead to `name`, and have every process that runs read it: a rename into its directory does that."""
    site.ops.link(site.layout.active, name)
    site.ops.link(site.layout.current, store.current_target(site.layout))


def sweep_steps(site: Site) -> None:
    """Remove the steps that `current` does not lead to any more."""
    linked = store.linked(site.layout)
    store.sweep(site.layout, site.ops, store.leftovers(site.layout, linked))


def refusal(site: Site, instance: str, mark: str, why: tuple[str, ...], what: str) -> ReleaseError:
    """The error that says what was refused, and why in Envoy's own words where its log has them."""
    said = reasons(site.manager.log_since(instance, mark))
    details = "; ".join(why)
    return ReleaseError(f"{what}: {said} ({details})" if said else f"{what}: {details}")


def _step(
    site: Site, keeper: str, name: str, files: Mapping[str, bytes], origin: str, old: Mapping[str, bytes]
) -> None:
    mark = site.manager.mark(keeper)
    before = site.live.counters(keeper)
    announce(site, name)
    why = site.live.wait(keeper, admin.expectation(files), before, ACCEPT_SECONDS)
    if not why:
        return
    again = site.live.counters(keeper)
    announce(site, origin)
    still = site.live.wait(keeper, admin.expectation(old), again, ACCEPT_SECONDS)
    back = f"{origin.partition('.')[0]} serves as before"
    if still:
        back = f"going back to {origin} was not accepted either ({'; '.join(still)})"
    release = name if is_digest(name) else name.partition(".")[0]
    raise refusal(site, keeper, mark, why, f"Envoy refuses release {release}, {back}")


def _number(files: Mapping[str, bytes]) -> str:
    """Which step this is: its version ends with it. The same step has the same number in every run."""
    return str(json.loads(files["envoy/lds.json"])["version_info"]).rpartition(".")[2]


def _step_files(target: Target, files: Mapping[str, bytes]) -> list[BundleFile]:
    """A step has to be one that a process can start with: the target's other files, and Envoy's of the step."""
    modes = {path: file.mode for path, file in target.files.items()}
    rest = [file for path, file in target.files.items() if path not in target.xds]
    return rest + [BundleFile(path, content, modes.get(path, 0o644)) for path, content in files.items()]
