# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out a plan. Killed at any point, what served before serves on, and the next run finds what is left to do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release import (
    admin,
    delivery,
    history,
    kernel,
    outside,
    persist,
    secrets,
    store,
    swap,
    switch,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._release.history import Activation
from ansible_collections.gatewayops.openai.plugins.module_utils._release.manifest import manifest_of
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import told
from ansible_collections.gatewayops.openai.plugins.module_utils._release.plan import (
    NONE,
    RELOAD,
    REPLACE,
    START,
    Plan,
    Request,
    kept_secrets,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._release.site import Site, with_user
from ansible_collections.gatewayops.openai.plugins.module_utils._release.view import View


@dataclass(frozen=True)
class Done:
    """What was done: the steps that were accepted, the instance that serves, old clusters that are still in use."""

    steps: tuple[str, ...]
    keeper: str
    busy: tuple[str, ...] = ()


def prepare(site: Site, plan: Plan, request: Request) -> Site:
    """Do what harms nothing: user, directories, the release on the disk. Returns the site as it is then.

    Raises ReleaseError when Envoy does not take the release; then nothing of it stays.
    """
    if plan.make_user:
        accounts = [path for path in plan.outside_writes if "/sysusers.d/" in path]
        outside.put(site.layout, site.ops, site.manager, plan.target.files, accounts, (), site.system_owner)
        site = with_user(site)
        if not site.has_user:
            raise ReleaseError(f"the release does not make the user {site.host.user}")
    for directory in site.layout.directories():
        owner = site.private_owner if directory.private else site.config_owner
        if directory.path.is_dir():
            site.ops.protect(directory.path, directory.mode, owner)
        else:
            site.ops.mkdir(directory.path, directory.mode, owner)
    store.sweep(site.layout, site.ops, plan.leftovers)
    for path in plan.half_written:
        with suppress(FileNotFoundError):
            site.ops.unlink(path)
    try:
        _stage(site, plan, request)
    except OSError as error:
        raise told(error, site.layout.releases, "nothing was switched, what was staged is removed") from None
    return site


def activate(site: Site, view: View, plan: Plan, request: Request) -> Done:
    """Have the target served. When this raises, what served before serves as before, or nothing did."""
    if plan.sealed_fault and persist.applies(site):
        persist.prove(site)
    site = prepare(site, plan, request)
    where = site.host.secrets_dir
    kept = {} if request.secrets is None else secrets.current(where)
    try:
        _deliver(site, view, plan, request)
        outside.put(
            site.layout,
            site.ops,
            site.manager,
            plan.target.files,
            plan.outside_writes,
            plan.outside_removes,
            site.system_owner,
        )
        kernel.load(site.ops, plan.kernel)
        done = _switch(site, view, plan, request)
    except (OSError, ReleaseError):
        _undo(site, view, plan, None if request.secrets is None else kept)
        raise
    _settle(site, view, plan, request, done.keeper)
    return done


def now() -> str:
    """The time, as it is written down."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _stage(site: Site, plan: Plan, request: Request) -> None:
    target = plan.target
    check = request.validate and (plan.stage or plan.process != NONE)
    if target.on_host:
        store.mend(site.layout, site.ops, target.files, target.manifest, target.damages, site.config_owner)
        if check:
            site.envoy.validate(target.envoy)
        return
    facts = dict(target.manifest.facts, envoy_version=site.envoy.version(), staged_at=now())
    manifest = manifest_of(target.files.values(), facts)
    staged = store.stage(site.layout, site.ops, target.files.values(), manifest, site.config_owner)
    try:
        if check:
            site.envoy.validate(target.envoy)
        store.publish(site.layout, site.ops, staged, target.digest)
    except (OSError, ReleaseError):
        store.discard(site.ops, staged)
        raise


def _deliver(site: Site, view: View, plan: Plan, request: Request) -> None:
    """Bring the secrets, those of the release that serves staying, and see that what runs takes them."""
    if not request.secrets or not plan.secrets_changed:
        return
    delivery.deliver(site, view.running, request.secrets, keep_others=True)


def _switch(site: Site, view: View, plan: Plan, request: Request) -> Done:
    target = plan.target
    if plan.process == START:
        return Done((target.digest,), swap.start(site, view, target, request.drain_wait))
    if plan.process == REPLACE:
        return Done((target.digest,), swap.replace(site, view, target, request.drain_wait))
    if plan.process == RELOAD or plan.prune_clusters:
        switched = switch.reload(site, view, target, plan.keeper, request.prune_wait)
        return Done(switched.steps, plan.keeper, switched.busy)
    if plan.relink:
        switch.point(site, target.digest)
    if any(damage.path in target.xds for damage in target.damages):
        # It may have read what was mended.
        _again(site, plan)
    return Done((), plan.keeper)


def _again(site: Site, plan: Plan) -> None:
    before, mark = site.live.counters(plan.keeper), site.manager.mark(plan.keeper)
    switch.announce(site, plan.target.digest)
    why = site.live.wait(plan.keeper, admin.expectation(plan.target.xds), before, switch.ACCEPT_SECONDS)
    if why:
        raise switch.refusal(
            site, plan.keeper, mark, why, f"Envoy refuses release {plan.target.digest} after it was mended"
        )


def _undo(site: Site, view: View, plan: Plan, kept: Mapping[str, Mapping[str, Any]] | None) -> None:
    """Put back what stands beside the link: files on the system, secrets. The error that led here is what is told."""
    former = view.releases.get(view.active)
    if former is not None and view.active != plan.target.digest:
        with suppress(OSError, ReleaseError):
            files = {file.path: file for file in store.bundle(site.layout, view.active, former)}
            writes = [each.path for each in store.outside_damages(site.layout, former, site.system_owner)]
            known = [*view.releases.values(), plan.target.manifest]
            removes = store.outside_leftovers(site.layout, known, former)
            outside.put(site.layout, site.ops, site.manager, files, writes, removes, site.system_owner)
            kernel.load(site.ops, kernel.faults(files))
    if kept is not None:
        delivery.put_back(site, kept)


def _settle(site: Site, view: View, plan: Plan, request: Request, keeper: str) -> None:
    """What comes after the target is served; a run that is killed here leaves it to the next one."""
    target = plan.target
    # A step that a killed run was at is no longer linked now.
    switch.sweep_steps(site)
    if plan.record:
        _record(site, view, plan, request)
    fresh = plan.process in (START, REPLACE)
    if fresh or plan.choose:
        site.manager.choose(keeper)
    others = [each.name for each in view.running if fresh and each.name != keeper]
    for name in (*plan.drain, *others):
        site.manager.drain(name)
        # The manager takes its time; from here on the keeper alone answers.
        site.live.retire(name)
    if request.secrets is not None and (plan.secrets_changed or plan.secrets_removed):
        where = site.host.secrets_dir
        site.ops.before("secrets", where)
        secrets.deliver(where, request.secrets, site.private_owner, keep_others=False, check=False)
        secrets.prune(where, kept_secrets(site, view, target, request.secrets), check=False)
    if plan.sealed_fault:
        _persist(site)
    for digest in plan.prune:
        store.remove(site.layout, site.ops, digest)
    problem = site.live.metrics_problem(target.envoy) if plan.process != NONE else ""
    if problem:
        raise ReleaseError(f"release {target.digest} is served, but its metrics are not: {problem}")


def _persist(site: Site) -> None:
    """Have on the disk what is in memory now, or nothing."""
    if persist.applies(site):
        persist.save(site, secrets.current(site.host.secrets_dir), check=False)
    else:
        persist.remove(site, check=False)


def _record(site: Site, view: View, plan: Plan, request: Request) -> None:
    facts = dict(plan.target.manifest.facts, **{key: value for key, value in (request.facts or {}).items() if value})
    activation = Activation(
        digest=plan.target.digest,
        applied_at=now(),
        applied_by=str(facts.get("applied_by", "")),
        envoy_version=site.envoy.version(),
        collection_version=str(facts.get("collection_version", "")),
        inventory_commit=str(facts.get("inventory_commit", "")),
        spec_digest=str(facts.get("spec_digest", "")),
        workspace=str(facts.get("workspace", "")),
    )
    past = view.history
    if view.active and history.active(past) != view.active:
        # It was served without having been noted: the run that switched to it was killed.
        past = history.appended(past, replace(activation, digest=view.active, applied_by="", inventory_commit=""))
    content = history.to_bytes(history.appended(past, activation))
    site.ops.write(site.layout.history, content, 0o640, site.config_owner)
