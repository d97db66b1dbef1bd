# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one call that brings a release to a host, or says what it would do; the bundle goes where it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import encode_files
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host, host_to_options
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kernel import DROP
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GatewayAction, OptionsError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._compile import Compiled
from ansible_collections.gatewayops.openai.plugins.plugin_utils._provenance import (
    applied_by,
    collection_version,
    inventory_commit,
)

Answer = dict[str, Any]

#: The options that say how much a run may remove, and whose place it may take.
GUARD_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "removals_max": {"type": "int"},
    "removals_max_percent": {"type": "int"},
    "workspace_replaces": {"type": "str"},
}


def guard_of(options: Mapping[str, Any]) -> dict[str, int | str | None]:
    """What may be removed and replaced, in the words of the module `gateway_release`."""
    return {
        "most": options["removals_max"],
        "percent": options["removals_max_percent"],
        "replaces": options["workspace_replaces"],
    }


def in_use_warnings(answer: Mapping[str, Any]) -> list[str]:
    """What is to be said of consumers that are removed while they use the gateway."""
    return [
        f"gateway_consumers.{name} is removed and sent {count} request{'' if count == 1 else 's'} within the last hour"
        for name, count in answer.get("in_use", {}).items()
    ]


def activate(
    action: GatewayAction, compiled: Compiled, host: Host, secrets: Mapping[str, str] | None, **more: Any
) -> tuple[Answer, dict[str, Any]]:
    """Have `compiled` served on the host: what `gateway_release` answers, and the resources that are served before.

    Without `secrets` it is taken that they come later, which is for check mode only. `more` are further options of the
    module `gateway_release`. Raises OptionsError when the packet filter would lock the controller out.
    """
    arguments: dict[str, Any] = {
        "state": "active",
        "host": host_to_options(host),
        "digest": compiled.bundle.digest,
        "keep": compiled.spec.release_keep,
        "meta": {
            "spec_digest": compiled.spec_digest,
            "inventory_commit": inventory_commit(action.variables.get("inventory_dir")),
            "collection_version": collection_version(),
            "applied_by": applied_by(),
            "workspace": compiled.spec.workspace,
        },
        **({"secrets_pending": True} if secrets is None else {"secrets": secrets}),
        **more,
    }
    _stay_connected(action, compiled.spec)
    answer = action.call("gateway_release", arguments)
    # A host that serves the release already does not repeat what it is made of.
    before = answer.get("resources", compiled.resources)
    if answer.get("needs_bundle"):
        answer = action.call("gateway_release", {**arguments, "bundle": encode_files(compiled.bundle.files)})
    return answer, before


def _stay_connected(action: GatewayAction, spec: Spec) -> None:
    """Refuse a packet filter that would let in no further connection of this one's kind."""
    if action.is_local or spec.nftables is None or spec.nftables.others != DROP:
        return
    if action.port not in spec.nftables.ports:
        raise OptionsError(
            f"gateway_nftables.ports: does not have {action.port}, the port that this run has connected to; nothing "
            "was changed"
        )
