# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module `gateway_release`: one call, under one lock, from what is asked for to what is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.logs import ACCESS_LOG
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.guard import Guard, refusals, removed
from ansible_collections.gatewayops.openai.plugins.module_utils._release import (
    apply,
    lock,
    manifest,
    plan,
    remove,
    store,
    traffic,
    view,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._release.binary import NoBinary
from ansible_collections.gatewayops.openai.plugins.module_utils._release.layout import CONFIG_MODE
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Ops, ReadOnlyOps, told
from ansible_collections.gatewayops.openai.plugins.module_utils._release.plan import Plan, Request
from ansible_collections.gatewayops.openai.plugins.module_utils._release.rotation import Rotated
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import STARTING
from ansible_collections.gatewayops.openai.plugins.module_utils._release.site import Site, make_site
from ansible_collections.gatewayops.openai.plugins.module_utils._release.view import Target, View

PRESENT = "present"
ACTIVE = "active"
ABSENT = "absent"
#: The file in a release that tells what it is made of, see `_bundle.RESOURCES`.
_RESOURCES = "resources.json"
_CONSUMERS = "gateway_consumers."
#: Seconds that an instance gets which is just being started by somebody else.
_STARTING_SECONDS = 10.0

Result = dict[str, Any]


def run(host: Host, state: str, request: Request, *, check: bool) -> Result:
    """Bring a release into `state`; what the module returns. Raises ReleaseError for everything that goes wrong."""
    site = make_site(host, ReadOnlyOps() if check else Ops())
    unchecked = check and state != ABSENT and not Path(host.envoy).exists()
    if unchecked:
        site = replace(site, envoy=NoBinary())
    try:
        result = run_on(site, state, request, check=check)
    except OSError as error:
        raise told(error, site.layout.config) from None
    if unchecked and not result.get("needs_bundle"):
        result["warnings"] = [f"there is no Envoy at {host.envoy} yet, so that it could not check the release"]
    return result


def run_on(site: Site, state: str, request: Request, *, check: bool) -> Result:
    """The same on a given site; also raises OSError."""
    if state == ABSENT:
        return _absent(site, request, check=check)
    with _held(site, request.lock_wait, check=check):
        if not check:
            _wait_started(site)
        now = view.look(site)
        _expect(now, request.expected)
        target = view.find_target(site, now, request.digest, request.files, request.facts or {})
        if target is None:
            return _needs_bundle(site, now, request)
        if state == PRESENT:
            return _present(site, now, target, request, check=check)
        return _active(site, now, target, request, check=check)


def _active(site: Site, now: View, target: Target, request: Request, *, check: bool) -> Result:
    todo = plan.make_plan(site, now, target, request)
    problems = plan.ahead(site, now, todo, request)
    if problems:
        raise ReleaseError(f"release {target.digest} cannot be served, nothing was changed: {'; '.join(problems)}")
    resources = _resources(site, now)
    before = {"resources": resources, "drift": list(_drift(site, now, todo))}
    if request.guard is not None:
        before["in_use"] = _guarded(site, resources, target, request.guard)
    if not check:
        done = apply.activate(site, now, todo, request)
        return _told(site, todo, before, done.steps, _message(todo, done.busy))
    if request.validate and (todo.stage or todo.process != plan.NONE):
        site.envoy.validate(target.envoy)
    return _told(site, todo, before, (), _message(todo, ()))


def _guarded(site: Site, before: Mapping[str, Any], target: Target, guard: Guard) -> dict[str, int]:
    """The consumers that are removed and sent requests lately. Raises ReleaseError for what must not be removed."""
    after = json.loads(target.files[_RESOURCES].content)
    refused = refusals(before, after, guard)
    if refused:
        raise ReleaseError("; ".join((*refused, "nothing was changed")))
    gone = [address.partition(".")[2] for address in removed(before, after) if address.startswith(_CONSUMERS)]
    return traffic.requests_of(gone, Path(site.host.log_dir, ACCESS_LOG), datetime.now(timezone.utc))


def _drift(site: Site, now: View, todo: Plan) -> tuple[str, ...]:
    """What somebody else changed of the release that is served, whether or not it is the one to be served."""
    known = now.releases.get(todo.before)
    if todo.before == todo.target.digest or known is None:
        return todo.repaired
    inside = manifest.damages(site.layout.release(known.digest), known, site.config_owner)
    outside = store.outside_damages(site.layout, known, site.system_owner)
    return (*map(str, inside), *(f"/{damage.path[len('host/') :]} ({damage.what})" for damage in outside))


def _present(site: Site, now: View, target: Target, request: Request, *, check: bool) -> Result:
    todo = plan.make_plan(site, now, target, request)
    changed = any((todo.stage, target.damages, todo.make_user, todo.directories))
    if check:
        if request.validate and todo.stage:
            site.envoy.validate(target.envoy)
    else:
        apply.prepare(site, todo, request)
    return {
        "changed": changed,
        "digest": target.digest,
        "active": now.active,
        "previous": now.previous,
        "process": plan.NONE,
        "process_why": [],
        "envoy_version": site.envoy.version(),
        "steps": [],
        "secrets_changed": [],
        "rotated": Rotated().as_dict(),
        "pruned": [],
        "repaired": [str(damage) for damage in target.damages],
        "message": f"release {target.digest} is {'staged' if changed else 'already staged'}, not active",
    }


def _absent(site: Site, request: Request, *, check: bool) -> Result:
    found = remove.traces(site, keep_logs=request.keep_logs)
    if found and not check:
        if site.layout.config.is_dir():
            with _held(site, request.lock_wait, check=False):
                remove.remove(site, request.drain_wait, keep_logs=request.keep_logs)
        else:
            remove.remove(site, request.drain_wait, keep_logs=request.keep_logs)
    message = "the gateway is removed; its logs and their user stay" if request.keep_logs else "the gateway is removed"
    return {
        "changed": bool(found),
        "removed": list(found),
        "message": message if found else "there is no gateway",
    }


def _resources(site: Site, now: View) -> dict[str, Any]:
    """What the active release is made of, `{}` when there is none."""
    try:
        found = json.loads((site.layout.release(now.active) / _RESOURCES).read_bytes()) if now.active else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _needs_bundle(site: Site, now: View, request: Request) -> Result:
    return {
        "changed": False,
        "needs_bundle": True,
        "resources": _resources(site, now),
        "active": now.active,
        "digest": request.digest,
        "message": f"release {request.digest} is not on this host, or not as it was made",
    }


def _told(site: Site, todo: Plan, before: Result, steps: tuple[str, ...], message: str) -> Result:
    result = {
        "changed": todo.changed,
        "digest": todo.target.digest,
        "active": todo.before,
        "previous": todo.back,
        "process": todo.process,
        "process_why": list(todo.why),
        "envoy_version": site.envoy.version(),
        "steps": list(steps),
        "secrets_changed": sorted({*todo.secrets_changed, *todo.secrets_removed}),
        "rotated": todo.rotated.as_dict(),
        "pruned": list(todo.prune),
        "repaired": list(todo.repaired),
        "message": message,
        **before,
    }
    if todo.before == todo.target.digest:
        del result["resources"]
    return result


_PROCESS = {
    plan.NONE: "the process goes on",
    plan.START: "a process is started",
    plan.RELOAD: "the process reads its files again",
    plan.REPLACE: "another process takes over, the old one is drained in the background",
}


def _message(todo: Plan, busy: tuple[str, ...]) -> str:
    if not todo.changed:
        text = f"release {todo.target.digest} is active and as it was made"
    else:
        text = f"release {todo.target.digest}: {_PROCESS[todo.process]}"
    if todo.repaired:
        text += f"; brought back: {', '.join(todo.repaired)}"
    if busy:
        text += f"; {len(busy)} clusters of the old release still have requests, a later run removes them"
    return text


@contextmanager
def _held(site: Site, wait: float, *, check: bool) -> Iterator[None]:
    if check:
        with lock.looking(site.layout.lock, wait):
            yield
        return
    if not site.layout.config.is_dir():
        site.ops.mkdir(site.layout.config, CONFIG_MODE, site.config_owner)
    with lock.exclusively(site.layout.lock, site.ops, wait):
        yield


def _expect(now: View, expected: str) -> None:
    if expected and expected != (now.active or plan.NO_RELEASE):
        raise ReleaseError(
            f"the host serves release {now.active or plan.NO_RELEASE} and not {expected}, which was expected; "
            "nothing was changed"
        )


def _wait_started(site: Site) -> None:
    end = time.monotonic() + _STARTING_SECONDS
    while time.monotonic() < end and any(each.state == STARTING for each in site.manager.instances().values()):
        time.sleep(0.2)
