#!/usr/bin/python
# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_secrets
short_description: Deliver or rotate the secrets of a gateway, and nothing else
version_added: 0.1.0
author:
  - GatewayOps maintainers (@gatewayops)
description:
  - Replaces the files that Envoy reads keys and certificates from. Envoy serves on, without a restart or a new release.
  - Without O(secrets) it rotates. What the release that the host serves refers to is read from the stores and delivered
    where it differs from what is on the host; a file that was lost or changed by hand is brought back. The
    specification in the variables may be ahead of the host; secrets of what is not released are not delivered.
  - Waits until each process has read the new files. When Envoy refuses one, those that were there are put back.
  - The files are kept in memory (tmpfs), readable by Envoy's user only. A directory on a disk is refused.
  - A change is found by comparing on the host. Neither values nor hashes of them are returned, shown or stored.
  - The M(gatewayops.openai.gateway) action delivers secrets itself. This module is for changing nothing but them.
options:
  host:
    description:
      - Where the gateway lives on the host; the same as for M(gatewayops.openai.gateway_release).
      - When it is not given, it is taken from the variables that the M(gatewayops.openai.gateway) action reads.
    type: dict
  secrets:
    description:
      - File names and their content, JSON with a list C(resources), as the compiler of this collection makes them.
      - A C(version_info) is added on the host whenever the content changes.
      - Without it they come from the stores that the release which the host serves refers to.
    type: dict
  prune:
    description:
      - Whether O(secrets) are all the secrets of the gateway. Other files, and keys of clients that are not among
        them, are removed.
      - Without it, other files stay, and other keys of clients stay valid.
      - A rotation keeps what the release and the one before it read, whatever this says.
    type: bool
    default: true
  spec_digest:
    description:
      - The digest of the specification that O(secrets) belong to. When the release that the host serves is made of it,
        those that it reads are delivered.
      - When it is made of another one, or without O(secrets), nothing is done and RV(needs_references) is returned.
      - The action sets it when it rotates; there is no need to give it.
    type: str
  keep_clients:
    description:
      - Names of clients whose keys stay as they are on the host, beside those in O(secrets), when it is rotated.
      - The action sets it for clients whose keys it cannot read.
    type: list
    elements: str
attributes:
  check_mode:
    description: Can run in check mode and return what would change without changing it.
    support: full
  diff_mode:
    description: Shows whose secrets change, by name. What changes is never shown.
    support: full
  platform:
    description: Systems that the module is for.
    support: full
    platforms: posix
"""

EXAMPLES = r"""
- name: Deliver what changed in the stores
  gatewayops.openai.gateway_secrets:

- name: Put another key of a provider in place, and leave everything else alone
  gatewayops.openai.gateway_secrets:
    prune: false
    secrets:
      provider-openai-c6275da3.json: "{{ {'resources': [secret]} | to_json }}"
  vars:
    secret:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
      name: provider-openai-c6275da3
      generic_secret:
        secret:
          inline_string: "{{ lookup('gatewayops.openai.secret', 'vault://kv/providers/openai#api_key') }}"
"""

RETURN = r"""
rotated:
  description: Whose secrets changed, or would in check mode, by the names that they have in the specification.
  returned: success
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
  sample: {consumers: [search-team], providers: [openai], listeners: [], issuers: [], collector_headers: []}
message:
  description: The same in one line, or that nothing changed.
  returned: success
  type: str
  sample: "consumers: search-team; providers: openai"
changed_names:
  description:
    - Names of the files that were written, or would be in check mode.
    - V(.) stands for the directory itself, whose mode or owner was wrong.
  returned: success
  type: list
  elements: str
  sample: [provider-openai-c6275da3.json]
removed:
  description: Names of the files that were removed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: []
repaired:
  description:
    - What is kept encrypted for the next boot, with what was wrong with it, when somebody else changed that.
  returned: success
  type: list
  elements: str
  sample: []
active:
  description: The release that the host serves.
  returned: when secrets are rotated
  type: str
  sample: 3f0c1a2b4d5e6f70
needs_references:
  description: Nothing was done; what the host serves is not made of O(spec_digest), or O(secrets) were not given.
  returned: when it is so
  type: bool
  sample: true
spec_digest:
  description: The digest of the specification that the release which the host serves is made of.
  returned: with RV(needs_references)
  type: str
resources:
  description: What the release that the host serves is made of, by the names of variables; without secrets.
  returned: with RV(needs_references)
  type: dict
  sample: {}
"""

import json
import sys
from typing import Any

from ansible.module_utils.basic import AnsibleModule

if sys.version_info >= (3, 9):  # noqa: UP036 - older ones fail with a message instead of a traceback
    from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError
    from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
    from ansible_collections.gatewayops.openai.plugins.module_utils._release.rotate import Order, run

ARGUMENT_SPEC: dict[str, Any] = {
    "host": {"type": "dict"},
    "secrets": {"type": "dict", "no_log": True},
    "prune": {"type": "bool", "default": True},
    "spec_digest": {"type": "str"},
    "keep_clients": {"type": "list", "elements": "str"},
}


def main() -> None:
    """The module's entry point."""
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC, supports_check_mode=True, required_one_of=[("secrets", "spec_digest")]
    )
    if sys.version_info < (3, 9):  # noqa: UP036
        module.fail_json(msg=f"a gateway host needs Python 3.9 or newer, {sys.executable} is {sys.version.split()[0]}")
    try:
        answer = run(host_from_options(module.params["host"] or {}), order_of(module.params), check=module.check_mode)
    except (GatewayError, ValueError) as error:
        module.fail_json(msg=str(error))
    for warning in answer.pop("warnings", ()):
        module.warn(warning)
    module.exit_json(**answer)


def order_of(params: dict[str, Any]) -> Order:
    """What the module's parameters ask for."""
    given = params["secrets"]
    files = None if given is None else {str(name): _text(content) for name, content in given.items()}
    keep_clients = tuple(params["keep_clients"] or ())
    return Order(files, params["spec_digest"], only_these=params["prune"], keep_clients=keep_clients)


def _text(content: Any) -> str:
    """A template that makes JSON comes in as text or, from an older ansible-core, as what the text means."""
    return content if isinstance(content, str) else json.dumps(content)


if __name__ == "__main__":
    main()
