# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run has to do, decided before anything is done: check mode ends here, and so tells exactly what would be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import BundleFile
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.guard import Guard
from ansible_collections.gatewayops.openai.plugins.module_utils._release import (
    admin,
    causes,
    checks,
    delivery,
    history,
    kernel,
    outside,
    persist,
    rotation,
    secrets,
    store,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._release.layout import Directory, digest_of, is_digest
from ansible_collections.gatewayops.openai.plugins.module_utils._release.rotation import Rotated
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import (
    FAILED,
    RUNNING,
    STARTING,
    Instance,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._release.site import Site
from ansible_collections.gatewayops.openai.plugins.module_utils._release.view import Target, View, expected_of

NONE = "none"
START = "start"
RELOAD = "reload"
REPLACE = "replace"
#: Stands for the release of a host that has none.
NO_RELEASE = "none"


@dataclass(frozen=True)
class Request:
    """What a run is asked for; `secrets` None leaves secrets alone, seconds are how long to wait at most.

    `drain_wait` None waits as long as the release that is drained lets it take.

    `guard` is how much may be removed, None for anything, protected or not.
    `expected` is the release that has to be active when the run begins, NO_RELEASE that there is none, and '' any.
    With `secrets_pending` those that the host lacks are nothing to fail for: they come when the plan is carried out.
    """

    digest: str = ""
    files: tuple[BundleFile, ...] | None = None
    secrets: Mapping[str, str] | None = None
    secrets_pending: bool = False
    facts: Mapping[str, str] | None = None
    keep: int = 5
    validate: bool = True
    prune_wait: float = 30.0
    drain_wait: float | None = None
    lock_wait: float = 0.0
    expected: str = ""
    guard: Guard | None = None
    keep_logs: bool = False


@dataclass(frozen=True)
class Plan:
    """What is to be done to have `target` served. Empty fields are nothing to do."""

    target: Target
    #: The release that is served before, which may be the target.
    before: str
    #: The release that `previous` means once the target is served.
    back: str
    #: What happens to the process: NONE, START, RELOAD, REPLACE.
    process: str
    #: Why that, in a few words each.
    why: tuple[str, ...]
    #: The instance that serves now and goes on serving; '' when it has to be started or replaced.
    keeper: str
    #: Instances that serve beside the keeper and must not.
    drain: tuple[str, ...]
    #: The keeper has to be made the one that starts with the machine.
    choose: bool
    make_user: bool
    directories: tuple[Directory, ...]
    stage: bool
    outside_writes: tuple[str, ...]
    outside_removes: tuple[str, ...]
    #: The service manager has to read its configuration again although no file changes.
    reload_manager: bool
    relink: bool
    secrets_changed: tuple[str, ...]
    secrets_removed: tuple[str, ...]
    #: Whose secrets they are.
    rotated: Rotated
    #: What the kernel has not as the release says, see `kernel.faults`.
    kernel: tuple[str, ...]
    #: What is wrong with the secrets on the disk, see `persist.fault`, and where they are.
    sealed_fault: str
    sealed_path: str
    #: Everything below is housekeeping: it changes nothing that is served or managed.
    record: bool
    prune_clusters: bool
    prune: tuple[str, ...]
    leftovers: tuple[str, ...]
    half_written: tuple[Path, ...]

    @property
    def repaired(self) -> tuple[str, ...]:
        """What somebody else changed and is brought back."""
        if self.before != self.target.digest:
            return tuple(str(damage) for damage in self.target.damages)
        directories = tuple(f"{directory.path} (directory)" for directory in self.directories)
        # That they follow the secrets in memory is no repair.
        follows = self.sealed_fault == persist.CONTENT and (self.secrets_changed or self.secrets_removed)
        sealed = (f"{self.sealed_path} ({self.sealed_fault})",) if self.sealed_fault and not follows else ()
        files = tuple("/" + path[len("host/") :] for path in self.outside_writes + self.outside_removes)
        kernel = tuple(f"{name} (in the kernel)" for name in self.kernel)
        return tuple(str(damage) for damage in self.target.damages) + files + directories + kernel + sealed

    @property
    def changed(self) -> bool:
        """Whether anything of the host's state changes; also what a run that was killed has left to do."""
        return (
            any((self.stage, self.make_user, self.relink, self.choose, self.reload_manager, self.process != NONE))
            or any((self.target.damages, self.directories, self.outside_writes, self.outside_removes, self.drain))
            or any((self.secrets_changed, self.secrets_removed, self.sealed_fault, self.kernel))
            or any((self.record, self.leftovers, self.half_written))
        )


def make_plan(site: Site, view: View, target: Target, request: Request) -> Plan:
    """What it takes to have `target` served and nothing left over."""
    writes = tuple(damage.path for damage in store.outside_damages(site.layout, target.manifest, site.system_owner))
    removes = store.outside_leftovers(site.layout, view.releases.values(), target.manifest)
    expected = admin.expectation(target.xds)
    changed, removed, in_the_end = _secrets(site, view, target, request)
    keeper = _keeper(site, view, target, expected)
    # A unit that somebody changed may be what the process was started with.
    altered = [path[len("host") :] for path in writes if admin.process_files({path: ""})]
    deaf = tuple(f"{path} is not as released" for path in altered if keeper) or _deaf(
        site, view, keeper, target, frozenset(changed)
    )
    if deaf:
        keeper = ""
    unpruned = view.active == target.digest == digest_of(view.linked) and view.linked != target.digest
    accepted = bool(keeper) and not site.live.missing(keeper, expected)
    settled = accepted or (bool(keeper) and unpruned and _runs_link(site, view, keeper))
    process = (NONE if settled else RELOAD) if keeper else REPLACE if view.running else START
    at_boot = view.instances[keeper].at_boot if keeper else None
    others = [instance for name, instance in view.instances.items() if keeper and name != keeper]
    back = view.active if view.active != target.digest else view.previous
    known = [*view.releases.values(), target.manifest]
    return Plan(
        target=target,
        before=view.active,
        back=back,
        process=process,
        why=_why(site, view, target, process, deaf),
        keeper=keeper,
        drain=tuple(each.name for each in others if each.state in (RUNNING, STARTING, FAILED)),
        choose=at_boot is not None and (not at_boot or any(each.at_boot for each in others)),
        make_user=not site.has_user,
        directories=tuple(each for each in site.layout.directories() if _is_wrong(site, each)),
        stage=not target.on_host,
        outside_writes=writes,
        outside_removes=removes,
        reload_manager=site.manager.is_stale(),
        relink=not store.is_linked(site.layout) or not (view.linked == target.digest or (unpruned and settled)),
        secrets_changed=changed,
        secrets_removed=removed,
        rotated=_rotated(site, request),
        kernel=kernel.faults(target.files),
        sealed_fault="" if in_the_end is None else persist.fault(site, in_the_end),
        sealed_path=str(site.layout.sealed_secrets),
        # Also going back to what was noted last, from one that was not noted: it is the one to go back to then.
        record=bool({target.digest, view.active or target.digest} - {history.active(view.history)}),
        prune_clusters=unpruned and settled and not accepted,
        prune=_too_old(site, view, target.digest, back, request.keep),
        leftovers=store.leftovers(site.layout, view.linked),
        half_written=(
            *outside.half_written(site.layout, {path for each in known for path in each.outside}),
            *persist.half_written(site),
        ),
    )


def ahead(site: Site, view: View, plan: Plan, request: Request) -> tuple[str, ...]:
    """Why the plan cannot end well, found before it begins."""
    why = persist.problem(site)
    unkept = (*((why,) if why else ()), *(kernel.problems(plan.target.files) if plan.kernel else ()))
    if plan.process == NONE:
        return unkept
    pending = checks.secret_files(site.host, plan.target.envoy) if request.secrets_pending else ()
    delivered = (*(request.secrets or ()), *pending)
    return (*unkept, *checks.problems(site.host, plan.target.envoy, delivered, view.pids, site.private_owner))


def _keeper(site: Site, view: View, target: Target, expected: Mapping[str, str]) -> str:
    """The instance that serves and was started with what the target has; best one that has accepted it."""
    build = site.envoy.build()
    fitting = [
        instance
        for instance in view.running
        if site.live.started_with(instance.name) == target.process_digest and site.live.build(instance.name) == build
    ]

    def rank(instance: Instance) -> tuple[bool, bool]:
        return (not site.live.missing(instance.name, expected), bool(instance.at_boot))

    return max(fitting, key=rank).name if fitting else ""


def _deaf(site: Site, view: View, keeper: str, target: Target, changed: frozenset[str]) -> tuple[str, ...]:
    """Why the keeper is of no use: it offers no metrics, or has not read secrets that are as they should be."""
    if not keeper:
        return ()
    problem = site.live.metrics_problem(target.envoy)
    if problem:
        return (problem,)
    reads = checks.secret_files(site.host, target.envoy) - changed
    unread = delivery.unread(site, [view.instances[keeper]], reads)
    return ("it has not read all secrets",) if unread else ()


def _why(site: Site, view: View, target: Target, process: str, deaf: tuple[str, ...]) -> tuple[str, ...]:
    if deaf or process in (NONE, START):
        return deaf
    old = causes.released(site.layout.release(view.active)) if view.active else {}
    if process == RELOAD:
        return causes.of_reload(old, target.xds)
    builds = frozenset(site.live.build(each.name) for each in view.running)
    new = {path: file.content for path, file in target.files.items()}
    return (*causes.of_binary(builds, site.envoy.build()), *causes.of_replacement(old, new))


def _runs_link(site: Site, view: View, keeper: str) -> bool:
    """Whether the keeper runs the step towards the target that is linked: only old clusters wait to be removed."""
    return not site.live.missing(keeper, expected_of(site, view.linked))


def _secrets(
    site: Site, view: View, target: Target, request: Request
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, secrets.Document] | None]:
    """The files that change, those that go, and what is there in the end; None when that is not all that is needed."""
    where, owner = site.host.secrets_dir, site.private_owner
    now = secrets.current(where)
    if request.secrets is None:
        complete = checks.secret_files(site.host, target.envoy) <= set(now)
        return (), (), now if complete else None
    changed = secrets.deliver(where, request.secrets, owner, keep_others=False, check=True)
    kept = kept_secrets(site, view, target, request.secrets)
    settled = {name: document for name, document in now.items() if name in kept}
    return changed, secrets.prune(where, kept, check=True), {**settled, **secrets.parsed(request.secrets)}


def _rotated(site: Site, request: Request) -> Rotated:
    if request.secrets is None:
        return Rotated()
    return rotation.rotated(secrets.current(site.host.secrets_dir), secrets.parsed(request.secrets))


def kept_secrets(site: Site, view: View, target: Target, given: Iterable[str]) -> frozenset[str]:
    """The secret files that stay: those given, and those of the release before, so that going back needs no store."""
    back = view.active if view.active != target.digest else view.previous
    kept = frozenset(given)
    if back in view.releases:
        kept |= checks.secret_files(site.host, admin.xds_files(str(site.layout.release(back))))
    return kept


def _too_old(site: Site, view: View, target: str, back: str, keep: int) -> tuple[str, ...]:
    """Releases beyond the `keep` that were active last, the target being the latest; those to go back to stay."""
    staged = {digest: each.facts.get("staged_at", "") for digest, each in view.releases.items()}
    order = [target, *(digest for digest in history.by_recency(view.history, staged) if digest != target)]
    stay = {*order[:keep], target, back, view.active}
    unreadable = {path.name for path in site.layout.releases.glob("*") if is_digest(path.name)} - set(view.releases)
    return tuple(sorted((set(view.releases) | unreadable) - stay))


def _is_wrong(site: Site, directory: Directory) -> bool:
    try:
        status = directory.path.stat()
    except OSError:
        return True
    owner = site.private_owner if directory.private else site.config_owner
    wrong_owner = owner is not None and (status.st_uid, status.st_gid) != owner
    return wrong_owner or status.st_mode & 0o7777 != directory.mode
