# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module `gateway_secrets`: other secrets for a gateway that goes on with the release that it serves.

Nothing is restarted and no release is made. Files are written, each process that runs is seen to read them, and what
was there before is put back when one refuses them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._release import (
    admin,
    checks,
    delivery,
    lock,
    manifest,
    persist,
    rotation,
    secrets,
    view,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._release.admin import AdminError
from ansible_collections.gatewayops.openai.plugins.module_utils._release.layout import Layout
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Ops, ReadOnlyOps, told
from ansible_collections.gatewayops.openai.plugins.module_utils._release.site import Site, make_site
from ansible_collections.gatewayops.openai.plugins.module_utils._release.view import View

#: The file in a release that tells what it is made of, see `_bundle.RESOURCES`.
_RESOURCES = "resources.json"
#: Seconds more that a process has to read secrets before it counts as one that does not: it may be busy.
_PATIENCE = 10.0
_SITE = "run gatewayops.openai.site"

Result = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """What is asked for: these files; or, when the active release is made of `spec_digest`, those that it reads.

    `files` None with a digest asks what the release is made of. `only_these` says that other files are to go, and other
    keys of clients with them; a release knows that for itself. In a rotation the keys of `keep_clients` stay.
    """

    files: Mapping[str, str] | None
    spec_digest: str | None = None
    only_these: bool = True
    keep_clients: tuple[str, ...] = ()

    @property
    def rotates(self) -> bool:
        """Whether the files are those of what the host serves, rather than any."""
        return self.spec_digest is not None


def run(host: Host, order: Order, *, check: bool) -> Result:
    """Deliver secrets; what the module returns. Raises ReleaseError for everything that goes wrong."""
    layout = Layout(host)
    try:
        if order.rotates or layout.config.is_dir():
            return run_on(make_site(host, ReadOnlyOps() if check else Ops()), order, check=check)
        return _without_gateway(host, order, check=check)
    except OSError as error:
        raise told(error, layout.config) from None


def run_on(site: Site, order: Order, *, check: bool) -> Result:
    """The same on a given site; also raises OSError."""
    if order.rotates and not site.layout.config.is_dir():
        raise _no_gateway()
    with _held(site, check=check):
        now = view.look(site)
        if order.rotates:
            return _rotate(site, now, order, check=check)
        if not site.has_user:
            raise ReleaseError(f"there is no user {site.host.user} on this host")
        files = order.files or {}
        keep = frozenset(files) if order.only_these else None
        return _exchange(site, now, files, keep, check=check)


def _without_gateway(host: Host, order: Order, *, check: bool) -> Result:
    """Nothing runs that could refuse anything, and nobody else changes these files."""
    files, owner = order.files or {}, secrets.owner_of(host.user)
    names = rotation.rotated(secrets.current(host.secrets_dir), secrets.parsed(files)).as_dict()
    changed = secrets.deliver(host.secrets_dir, files, owner, keep_others=not order.only_these, check=check)
    removed = secrets.prune(host.secrets_dir, files, check=check) if order.only_these else ()
    return _result(names, changed, removed)


def _rotate(site: Site, now: View, order: Order, *, check: bool) -> Result:
    if now.active not in now.releases:
        raise _no_gateway()
    made_of = now.releases[now.active].entries.get(_RESOURCES)
    spec_digest = made_of.sha256 if made_of else ""
    if order.files is None or order.spec_digest != spec_digest:
        return {
            "changed": False,
            "needs_references": True,
            "active": now.active,
            "spec_digest": spec_digest,
            "resources": _resources(site, now),
            "message": f"this host serves release {now.active}",
        }
    reads = _reads(site, now.active)
    files = {name: text for name, text in order.files.items() if name in reads}
    keyless: list[str] = []
    if secrets.CONSUMERS in files:
        files[secrets.CONSUMERS], keyless = _with_keys_of(site, files[secrets.CONSUMERS], order.keep_clients)
    # What the release before reads stays, so that going back needs no store.
    keep = reads.union(*(_reads(site, name) for name in (now.linked, now.previous) if name))
    result = _exchange(site, now, files, keep, check=check)
    lost = sorted(name for name in reads - set(files) if not Path(site.host.secrets_dir, name).is_file())
    if lost:
        result["warnings"].append(f"release {now.active} reads {', '.join(lost)}, which is not on this host: {_SITE}")
    if keyless:
        result["warnings"].append(f"no key of {', '.join(keyless)} is on this host: {_SITE}")
    return {**result, "active": now.active}


def _with_keys_of(site: Site, text: str, clients: Sequence[str]) -> tuple[str, list[str]]:
    """The file of the consumers with the keys that these clients have on the host, and those of them without any."""
    if not clients:
        return text, []
    kept = secrets.current(site.host.secrets_dir).get(secrets.CONSUMERS)
    merged = secrets.merge_credentials(kept, secrets.parsed({secrets.CONSUMERS: text})[secrets.CONSUMERS], clients)
    known = {credential.get("client") for credential in secrets.credentials(merged) or ()}
    return json.dumps(merged), [client for client in clients if client not in known]


def _exchange(site: Site, now: View, files: Mapping[str, str], keep: frozenset[str] | None, *, check: bool) -> Result:
    """Bring `files`; with `keep` others than those go, and other keys of clients. The result of the module."""
    where, others = site.host.secrets_dir, keep is None
    before = secrets.current(where)
    wanted = _wanted(before, files, keep_others=others)
    names = rotation.rotated(before, wanted).as_dict()
    again = delivery.unread(site, now.running, files)
    changed = secrets.deliver(where, files, site.private_owner, keep_others=others, check=True, again=again)
    removed = () if keep is None else secrets.prune(where, keep, check=True)
    settled = {**{name: each for name, each in before.items() if keep is None or name in keep}, **wanted}
    fault = _sealed_fault(site, now, settled)
    if not check:
        if fault and persist.applies(site):
            persist.prove(site)
        if changed or removed:
            _replace(site, now, files, keep, before, again)
        if fault:
            persist.save(site, settled, check=False)
        if changed or removed:
            _require_read(site, now, files)
    idle = () if now.running or not now.active else ("no process of this gateway runs: it reads them when it starts",)
    # That what is kept follows what is in memory is no repair.
    follows = fault == persist.CONTENT and (changed or removed)
    repaired = (f"{site.layout.sealed_secrets} ({fault})",) if fault and not follows else ()
    return _result(names, changed, removed, repaired, idle if changed else ())


def _replace(
    site: Site,
    now: View,
    files: Mapping[str, str],
    keep: frozenset[str] | None,
    before: Mapping[str, secrets.Document],
    again: frozenset[str],
) -> None:
    """Write the files; what was there is put back when they are refused."""
    try:
        delivery.deliver(site, now.running, files, keep_others=keep is None, again=again)
    except (OSError, ReleaseError):
        delivery.put_back(site, before)
        raise
    if keep is not None:
        secrets.prune(site.host.secrets_dir, keep, check=False)


def _sealed_fault(site: Site, now: View, settled: Mapping[str, secrets.Document]) -> str:
    """What is wrong with the secrets that are kept for the next boot. Raises ReleaseError where they cannot be kept."""
    if not now.active or not persist.applies(site):
        return ""
    why = persist.problem(site)
    if why:
        raise ReleaseError(f"nothing was changed: {why}")
    return persist.fault(site, settled)


def _result(
    names: Mapping[str, list[str]],
    changed: tuple[str, ...],
    removed: tuple[str, ...],
    repaired: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
) -> Result:
    parts = [rotation.describe(names, changed)] if changed or not (removed or repaired) else []
    parts += [f"removed: {', '.join(removed)}"] if removed else []
    parts += [f"brought back: {', '.join(repaired)}"] if repaired else []
    return {
        "changed": bool(changed or removed or repaired),
        "changed_names": list(changed),
        "removed": list(removed),
        "repaired": list(repaired),
        "rotated": dict(names),
        "message": "; ".join(parts),
        "warnings": list(warnings),
    }


def _wanted(
    before: Mapping[str, secrets.Document], files: Mapping[str, str], *, keep_others: bool
) -> dict[str, secrets.Document]:
    """The documents as they are to be."""
    wanted = secrets.parsed(files)
    if keep_others and secrets.CONSUMERS in wanted:
        merged = secrets.merge_credentials(before.get(secrets.CONSUMERS), wanted[secrets.CONSUMERS])
        wanted[secrets.CONSUMERS] = merged
    return wanted


def _require_read(site: Site, now: View, files: Mapping[str, str]) -> None:
    """See that every process that runs is at these files. Raises ReleaseError; what was written stays."""
    expected = delivery.expectation(site.host.secrets_dir, files)
    end = time.monotonic() + _PATIENCE
    for instance in now.running:
        try:
            while (unread := site.live.unread(instance.name, expected)) and time.monotonic() < end:
                time.sleep(0.1)
        except AdminError as error:
            raise ReleaseError(f"the new secrets are on this host, but {error}") from None
        if unread:
            raise ReleaseError(
                f"the new secrets are on this host, but {instance.name} has not read them ({', '.join(unread)}): its "
                f"watch of {site.host.secrets_dir} is lost, as when that directory was replaced; {_SITE}, which has "
                "another process take over"
            )


def _reads(site: Site, name: str) -> frozenset[str]:
    """The files with secrets that a release, or a step towards one, reads."""
    return checks.secret_files(site.host, admin.xds_files(str(site.layout.release(name))))


def _resources(site: Site, now: View) -> Any:
    """What the active release is made of; only as it was made, for references are taken from it."""
    path = site.layout.release(now.active) / _RESOURCES
    entry = now.releases[now.active].entries.get(_RESOURCES)
    damage = manifest.difference(path, entry, site.config_owner) if entry else "missing"
    if damage:
        raise ReleaseError(f"release {now.active} on this host is not as it was made, {path} ({damage}): {_SITE}")
    return json.loads(path.read_bytes())


def _no_gateway() -> ReleaseError:
    return ReleaseError(f"there is no gateway on this host whose secrets could be rotated: {_SITE} first")


@contextmanager
def _held(site: Site, *, check: bool) -> Iterator[None]:
    """Keep releases from changing the same files."""
    with lock.looking(site.layout.lock) if check else lock.exclusively(site.layout.lock, site.ops):
        yield
