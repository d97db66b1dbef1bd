#!/usr/bin/python
# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_release
short_description: Stage, activate and roll back releases of a gateway
version_added: 0.1.0
author:
  - GatewayOps maintainers (@gatewayops)
description:
  - Works on a gateway host for the M(gatewayops.openai.gateway) action, which is what most playbooks call. Called on
    its own it rolls back, activates a release that is on the host, or removes a gateway.
  - A release is a directory that never changes, named by the digest of its files. It is staged beside the others,
    checked by Envoy as a whole, and switched to in steps that Envoy has to accept one by one. What is refused is
    switched back, and the error says why in Envoy's own words.
  - What a running process cannot read again (bootstrap, unit, size, scripts, Envoy itself) is changed by starting a
    second instance on the same ports. The first one is drained in the background once the second has accepted the
    release.
  - One call verifies everything that belongs to a release, its files, those on the system, owners, links, the service,
    the version that Envoy has accepted and the metrics, and repairs what differs.
  - A run that is killed leaves the old release serving. The next run puts in order what it finds.
options:
  state:
    description:
      - V(active) serves the release O(digest).
      - V(present) stages and checks it, and leaves the one that is active alone.
      - V(absent) drains and stops the gateway, then removes its secrets and then everything else, other releases
        included, at last the logs and the user of the service.
    type: str
    choices: [active, present, absent]
    default: active
  host:
    description:
      - Where the gateway lives on the host.
      - Every key is the option of the M(gatewayops.openai.gateway) action with this name.
      - When it is not given, all of them are taken from the variables of these names with C(gateway_) before them.
    type: dict
  digest:
    description:
      - The release.
      - V(previous) is the release that was active before the one that is, as long as it is on the host. To go back
        twice comes back to where one was.
    type: str
  bundle:
    description:
      - The files of the release, as the compiler of this collection encodes them.
      - Without it, and without the release on the host, nothing is done and RV(needs_bundle) is returned.
    type: str
  secrets:
    description:
      - The secret files that the release reads, as names and contents; the same as for
        M(gatewayops.openai.gateway_secrets). Those of the release that is active stay valid until the switch is done.
      - Others are removed, except those that the release before needs, so that it can be gone back to.
      - Without it secrets are left alone.
    type: dict
  secrets_pending:
    description:
      - Take it that secret files that the release reads and that are not on the host come later. For check mode, which
        then tells what would happen without an access to a secret store.
    type: bool
    default: false
  meta:
    description:
      - Where the release came from, noted in its manifest and in the history.
    type: dict
    suboptions:
      spec_digest:
        description: The digest of the specification.
        type: str
      inventory_commit:
        description: The Git commit of the inventory.
        type: str
      collection_version:
        description: The version of this collection.
        type: str
      applied_by:
        description: Who applies it.
        type: str
      workspace:
        description: The workspace that the specification is of.
        type: str
  keep:
    description:
      - How many releases stay on the host. The active one and the one before are never removed.
    type: int
    default: 5
  validate:
    description:
      - Whether Envoy checks the release before anything is switched.
    type: bool
    default: true
  prune_wait:
    description:
      - The seconds to wait at most for requests to clusters that only the old release has, before they are removed.
        When that takes longer, a later run removes them; requests are not affected.
    type: float
    default: 30
  lock_wait:
    description:
      - The seconds to wait at most for another run on the host to end. Without it the second of two runs fails at once.
    type: float
    default: 0
  expected:
    description:
      - The release that has to be active when the run begins, V(none) for a host without one. When another one is,
        nothing is changed and the module fails.
    type: str
  guard:
    description:
      - What keeps the run from removing too much. With it, resources with C(protected) are not removed, a release of
        another workspace is not replaced, and consumers that would be removed although they sent requests within the
        last hour are returned.
    type: dict
    suboptions:
      most:
        description: The highest number of resources to remove.
        type: int
      percent:
        description: The highest share of the resources to remove.
        type: int
      replaces:
        description: The workspace whose release may be replaced by one of another workspace.
        type: str
  drain_wait:
    description:
      - The seconds to wait at most for an instance that is still being drained, when its place is needed, and with
        O(state=absent) for the connections that are open.
      - When it is not given, as long as the release that is drained lets them take, see C(gateway_drain).
    type: float
  keep_logs:
    description:
      - With O(state=absent), whether the logs stay, and with them the user whom they belong to.
    type: bool
    default: false
attributes:
  check_mode:
    description: Can run in check mode and return what would change without changing it.
    support: full
    details:
      - Nothing is written, no temporary file either. Envoy checks the release from memory.
  diff_mode:
    description: Returns what changed when in diff mode.
    support: none
    details:
      - The M(gatewayops.openai.gateway) action shows the differences of specifications.
  platform:
    description: Systems that the module is for.
    support: full
    platforms: posix
    details:
      - Linux with Python 3.9 or newer, and systemd or supervisor.
seealso:
  - module: gatewayops.openai.gateway
  - module: gatewayops.openai.gateway_info
"""

EXAMPLES = r"""
- name: Go back to the release before, without a compiler or a secret store
  gatewayops.openai.gateway_release:
    digest: previous

- name: Serve a release that is on the host
  gatewayops.openai.gateway_release:
    host:
      envoy: /opt/envoy/1.40.0/envoy
    digest: 3f0c1a2b4d5e6f70

- name: Remove the gateway, with a minute for requests that are in flight
  gatewayops.openai.gateway_release:
    state: absent
    drain_wait: 60
"""

RETURN = r"""
digest:
  description: The release.
  returned: when O(state) is not V(absent)
  type: str
  sample: 3f0c1a2b4d5e6f70
previous:
  description: The release that V(previous) means after this run, empty when there is none.
  returned: when O(state) is not V(absent)
  type: str
  sample: 81d2c3b4a5968778
process:
  description:
    - What happens to the process. V(none), it goes on and reads nothing; V(start), none was running; V(reload), it
      reads its files again; V(replace), another one takes over.
  returned: when O(state) is not V(absent)
  type: str
  sample: reload
process_why:
  description:
    - Why that happens to the process. With V(reload) the files that differ; with V(replace) those that a process reads
      only when it starts, with the settings that differ, another version of Envoy, or what else the process lacks.
  returned: when O(state) is not V(absent)
  type: list
  elements: str
  sample: ["/etc/systemd/system/openai-gateway@.service (ExecStart --concurrency, MemoryMax)"]
envoy_version:
  description: The version of Envoy's binary.
  returned: when O(state) is not V(absent)
  type: str
  sample: 1.40.0
steps:
  description: The steps that Envoy has accepted, in order; empty in check mode.
  returned: when O(state) is not V(absent)
  type: list
  elements: str
  sample: [3f0c1a2b4d5e6f70.1, 3f0c1a2b4d5e6f70]
secrets_changed:
  description: The names of secret files that changed or were removed. V(.) stands for their directory.
  returned: when O(state) is not V(absent)
  type: list
  elements: str
  sample: [consumers.json]
rotated:
  description: Whose secrets changed, by the names that they have in the specification.
  returned: when O(state) is not V(absent)
  type: dict
  contains:
    consumers:
      description: Consumers with another set of keys than before.
      type: list
      elements: str
    providers:
      description: Providers with another key, client certificate or CAs.
      type: list
      elements: str
    listeners:
      description: Listeners with another certificate or private key.
      type: list
      elements: str
    issuers:
      description: Issuers of tokens with other public keys.
      type: list
      elements: str
    collector_headers:
      description: Headers for the collector of C(gateway_otlp) with another value.
      type: list
      elements: str
  sample: {consumers: [search-team], providers: [], listeners: [], issuers: [], collector_headers: []}
pruned:
  description: Releases that were removed because there were more than O(keep).
  returned: when O(state) is not V(absent)
  type: list
  elements: str
  sample: []
repaired:
  description: What somebody else had changed and is brought back, with what was wrong.
  returned: when O(state) is not V(absent)
  type: list
  elements: str
  sample: [envoy/lds.json (content)]
drift:
  description: What somebody else had changed of the release that is served, with what is wrong with it.
  returned: when O(state=active)
  type: list
  elements: str
  sample: [envoy/lds.json (content)]
in_use:
  description: Consumers that are removed and have sent requests within the last hour, with how many.
  returned: with O(guard)
  type: dict
  sample: {search-team: 312}
needs_bundle:
  description: Nothing was done; the release is not on the host, or is damaged there, and O(bundle) was not given.
  returned: when it is so
  type: bool
  sample: true
active:
  description: The release that was active before this run, empty when there was none.
  returned: when O(state) is not V(absent)
  type: str
  sample: 81d2c3b4a5968778
resources:
  description: What the release that was active before this run is made of, by the names of variables; without secrets.
  returned: when another release becomes active, and with RV(needs_bundle)
  type: dict
  sample: {}
removed:
  description: What was there of a gateway.
  returned: when O(state=absent)
  type: list
  elements: str
  sample: [instance blue, /etc/openai-gateway/releases]
message:
  description: What happened, in a sentence.
  returned: success
  type: str
  sample: "release 3f0c1a2b4d5e6f70: the process reads its files again"
"""

import json
import sys
from typing import Any

from ansible.module_utils.basic import AnsibleModule

if sys.version_info >= (3, 9):  # noqa: UP036 - older ones fail with a message instead of a traceback
    from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import decode_files
    from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError
    from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
    from ansible_collections.gatewayops.openai.plugins.module_utils._plan.guard import Guard
    from ansible_collections.gatewayops.openai.plugins.module_utils._release.plan import Request
    from ansible_collections.gatewayops.openai.plugins.module_utils._release.run import run

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["active", "present", "absent"], "default": "active"},
    "host": {"type": "dict"},
    "digest": {"type": "str"},
    "bundle": {"type": "str", "no_log": True},
    "secrets": {"type": "dict", "no_log": True},
    "secrets_pending": {"type": "bool", "default": False, "no_log": False},
    "meta": {
        "type": "dict",
        "options": {
            "spec_digest": {"type": "str"},
            "inventory_commit": {"type": "str"},
            "workspace": {"type": "str"},
            "collection_version": {"type": "str"},
            "applied_by": {"type": "str"},
        },
    },
    "keep": {"type": "int", "default": 5},
    "validate": {"type": "bool", "default": True},
    "prune_wait": {"type": "float", "default": 30.0},
    "drain_wait": {"type": "float"},
    "lock_wait": {"type": "float", "default": 0.0},
    "expected": {"type": "str"},
    "guard": {
        "type": "dict",
        "options": {"most": {"type": "int"}, "percent": {"type": "int"}, "replaces": {"type": "str"}},
    },
    "keep_logs": {"type": "bool", "default": False},
}


def main() -> None:
    """The module's entry point."""
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        supports_check_mode=True,
        required_if=[("state", name, ("digest", "bundle"), True) for name in ("active", "present")],
    )
    if sys.version_info < (3, 9):  # noqa: UP036
        module.fail_json(msg=f"a gateway host needs Python 3.9 or newer, {sys.executable} is {sys.version.split()[0]}")
    try:
        result = run(
            host_from_options(module.params["host"] or {}),
            module.params["state"],
            request_of(module.params),
            check=module.check_mode,
        )
    except (GatewayError, ValueError) as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    module.exit_json(**result)


def request_of(params: dict[str, Any]) -> Request:
    """What the module's parameters ask for. Raises ReleaseError for a bundle that cannot be read."""
    bundle, secrets = params["bundle"], params["secrets"]
    return Request(
        digest=params["digest"] or "",
        files=decode_files(bundle) if bundle else None,
        secrets=None if secrets is None else {str(name): _text(content) for name, content in secrets.items()},
        secrets_pending=params["secrets_pending"],
        facts={name: value for name, value in (params["meta"] or {}).items() if value},
        keep=params["keep"],
        validate=params["validate"],
        prune_wait=params["prune_wait"],
        drain_wait=params["drain_wait"],
        lock_wait=params["lock_wait"],
        expected=params["expected"] or "",
        guard=None if params["guard"] is None else Guard(**params["guard"]),
        keep_logs=params["keep_logs"],
    )


def _text(content: Any) -> str:
    """A template that makes JSON comes in as text or, from an older ansible-core, as what the text means."""
    return content if isinstance(content, str) else json.dumps(content)


if __name__ == "__main__":
    main()
