# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring secrets to processes that run: see that they take them, and put back what was there when they do not."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release import admin, secrets, switch
from ansible_collections.gatewayops.openai.plugins.module_utils._release.admin import AdminError
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import Instance
from ansible_collections.gatewayops.openai.plugins.module_utils._release.site import Site

#: Seconds that a process has to read a secret file again; it takes a few hundredths.
SECONDS = 5.0


def deliver(
    site: Site,
    running: Iterable[Instance],
    files: Mapping[str, str],
    *,
    keep_others: bool,
    again: Collection[str] = (),
) -> tuple[str, ...]:
    """Write `files`, and those in `again` anew, and wait until each of the instances has read them; what changed.

    Raises ReleaseError with Envoy's reason when one refuses them; then they are there, see `put_back`.
    """
    where = site.host.secrets_dir
    before = {each.name: (site.live.counters(each.name), site.manager.mark(each.name)) for each in running}
    site.ops.before("secrets", where)
    changed = secrets.deliver(where, files, site.private_owner, keep_others=keep_others, check=False, again=again)
    expected = expectation(where, changed)
    for name, (counters, mark) in before.items():
        why = site.live.wait_read(name, expected, counters, SECONDS)
        if why:
            raise switch.refusal(site, name, mark, why, "Envoy refuses a secret, those that were there are put back")
    return changed


def expectation(where: str, names: Iterable[str]) -> Mapping[str, str]:
    """What a process reports that has read those of the files that are there."""
    documents = secrets.delivered(where)
    return admin.secret_expectation({name: documents[name] for name in names if name in documents})


def unread(site: Site, running: Iterable[Instance], names: Iterable[str]) -> frozenset[str]:
    """Those of the files that one of the instances reads, and has not read as they are now.

    They were not put there by a rename, or its watch of the directory is lost, as when that was replaced.
    """
    documents = secrets.delivered(site.host.secrets_dir)
    expected = {name: admin.secret_expectation({name: documents[name]}) for name in names if name in documents}
    found: set[str] = set()
    for instance in running:
        with suppress(AdminError):
            found.update(name for name, each in expected.items() if site.live.unread(instance.name, each))
    return frozenset(found)


def put_back(site: Site, kept: Mapping[str, Mapping[str, Any]]) -> None:
    """Have the secrets as `secrets.current` found them; as far as it goes, for another error is what is told."""
    with suppress(OSError, ReleaseError):
        where = site.host.secrets_dir
        site.ops.before("secrets", where)
        documents = {name: json.dumps(document) for name, document in kept.items()}
        secrets.deliver(where, documents, site.private_owner, keep_others=False, check=False)
        secrets.prune(where, kept, check=False)
