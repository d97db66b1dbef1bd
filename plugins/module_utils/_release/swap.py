# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have another process serve: the first one, or one that takes over from the one that serves, without a gap."""

from __future__ import annotations

import time
from contextlib import suppress

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import INSTANCES
from ansible_collections.gatewayops.openai.plugins.module_utils._host.service import START_SECONDS
from ansible_collections.gatewayops.openai.plugins.module_utils._release import admin, store
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import DRAINING, RUNNING
from ansible_collections.gatewayops.openai.plugins.module_utils._release.site import Site
from ansible_collections.gatewayops.openai.plugins.module_utils._release.switch import point, refusal
from ansible_collections.gatewayops.openai.plugins.module_utils._release.view import Target, View

_LOOK = 0.25


def start(site: Site, view: View, target: Target, drain_wait: float | None) -> str:
    """Start an instance with `target`, none being running; its name. Raises ReleaseError with Envoy's reason."""
    enabled = [instance.name for instance in view.instances.values() if instance.at_boot]
    name = enabled[0] if enabled else INSTANCES[0]
    return _take_over(site, view, target, name, drain_wait)


def replace(site: Site, view: View, target: Target, drain_wait: float | None) -> str:
    """Start the other instance with `target`, beside the one that serves; its name.

    The one that serves sees nothing of it, and serves on when this raises ReleaseError with Envoy's reason.
    """
    running = [instance for instance in view.instances.values() if instance.state == RUNNING]
    if len(running) == len(INSTANCES):
        # Both are of no use any more. The one that starts with the machine is the one that served longer.
        leaving = min(running, key=lambda instance: bool(instance.at_boot)).name
        site.manager.drain(leaving)
    else:
        leaving = next(name for name in INSTANCES if name != running[0].name)
    return _take_over(site, view, target, leaving, drain_wait)


def wait_stopped(site: Site, name: str, seconds: float | None) -> None:
    """Wait until an instance that drains is gone. Raises ReleaseError when it takes longer than `seconds`.

    With None it takes as long as the service manager lets it, which kills what takes longer than its release says.
    """
    began = time.monotonic()
    while site.manager.instances()[name].state == DRAINING:
        if seconds is not None and time.monotonic() - began > seconds:
            raise ReleaseError(
                f"the instance {name} still serves connections of an earlier release, and has to end first: "
                f"it was waited for {seconds:g} s and nothing was switched. Try again later"
            )
        time.sleep(_LOOK)


def _take_over(site: Site, view: View, target: Target, name: str, drain_wait: float | None) -> str:
    wait_stopped(site, name, drain_wait)
    origin = view.linked
    mark = site.manager.mark(name)
    point(site, target.digest)
    why: tuple[str, ...] = ()
    try:
        site.manager.start(name)
    except ReleaseError as error:
        why = (str(error),)
    else:
        pid = site.manager.instances()[name].pid
        why = site.live.wait(name, admin.expectation(target.xds), {}, float(START_SECONDS), pid)
    if not why:
        return name
    if origin:
        point(site, origin)
    elif store.linked(site.layout):
        site.ops.unlink(site.layout.active)
    with suppress(ReleaseError):
        site.manager.drain(name)
    serves = [each.name for each in view.running if each.name != name]
    rest = f"{view.active} serves as before" if serves else "nothing serves"
    raise refusal(site, name, mark, why, f"Envoy does not start with release {target.digest}, {rest}")
