#!/usr/bin/python
# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_info
short_description: Tell what a gateway serves
version_added: 0.1.0
author:
  - GatewayOps maintainers (@gatewayops)
description:
  - Returns the active release and those before it, the process that serves, what Envoy has accepted, and the state of
    the providers as Envoy sees it.
  - Changes nothing, and returns no secret.
options:
  host:
    description:
      - Where the gateway lives on the host.
      - Every key is the option of the M(gatewayops.openai.gateway) action with this name.
      - When it is not given, all of them are taken from the variables of these names with C(gateway_) before them.
    type: dict
attributes:
  check_mode:
    description: Can run in check mode and return what would change without changing it.
    support: full
  diff_mode:
    description: Returns what changed when in diff mode.
    support: none
  platform:
    description: Systems that the module is for.
    support: full
    platforms: posix
seealso:
  - module: gatewayops.openai.gateway_release
"""

EXAMPLES = r"""
- name: Ask what is served
  gatewayops.openai.gateway_info:
  register: gateway

- name: Expect every endpoint to be healthy
  ansible.builtin.assert:
    that: gateway.providers | map(attribute='endpoints') | flatten | rejectattr('healthy') | length == 0
"""

RETURN = r"""
active:
  description: The release that is served, empty when there is none.
  returned: success
  type: str
  sample: 3f0c1a2b4d5e6f70
previous:
  description: The release that was active before, empty when there is none on the host.
  returned: success
  type: str
  sample: 81d2c3b4a5968778
releases:
  description: The releases on the host.
  returned: success
  type: list
  elements: str
  sample: [3f0c1a2b4d5e6f70, 81d2c3b4a5968778]
history:
  description: The activations, the last one first.
  returned: success
  type: list
  elements: dict
  contains:
    digest:
      description: The release.
      type: str
    applied_at:
      description: When it became active, UTC.
      type: str
    applied_by:
      description: Who applied it.
      type: str
    envoy_version:
      description: The version of Envoy that it began with.
      type: str
    collection_version:
      description: The version of this collection.
      type: str
    inventory_commit:
      description: The Git commit of the inventory.
      type: str
    spec_digest:
      description: The digest of the specification.
      type: str
    workspace:
      description: The workspace that the specification is of.
      type: str
    active:
      description: Whether this is what is active now.
      type: bool
service:
  description: The process that serves.
  returned: success
  type: dict
  contains:
    manager:
      description: V(systemd) or V(supervisor).
      type: str
    instance:
      description: V(blue) or V(green), empty when none serves.
      type: str
    running:
      description: Whether one serves.
      type: bool
    pid:
      description: The process that the service manager started.
      type: int
    instances:
      description: The state of both instances, V(running), V(starting), V(draining), V(failed) or V(stopped).
      type: dict
accepted:
  description: The version that each subscription of Envoy is at. Those of files with secrets change with the secrets.
  returned: success
  type: dict
  sample: {"listener_manager.lds": "27a0f3c1b2d4e596"}
providers:
  description: The providers.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name in the specification.
      type: str
    cluster:
      description: The name of Envoy's cluster.
      type: str
    endpoints:
      description: The addresses that the provider is reached at.
      type: list
      elements: dict
      contains:
        address:
          description: Address and port.
          type: str
        hostname:
          description: Name and port.
          type: str
        healthy:
          description: Whether Envoy sends requests there.
          type: bool
        requests:
          description: Requests so far.
          type: int
        errors:
          description: Requests that failed so far.
          type: int
        active_requests:
          description: Requests that are in flight.
          type: int
        failed_connections:
          description: Connections that could not be made so far.
          type: int
envoy_version:
  description: The version of Envoy that serves, or that is installed when none does.
  returned: success
  type: str
  sample: 1.40.0
problem:
  description: Why Envoy could not be asked.
  returned: when it does not answer
  type: str
  sample: /run/openai-gateway/blue.sock does not answer
"""

import sys
from typing import Any

from ansible.module_utils.basic import AnsibleModule

if sys.version_info >= (3, 9):  # noqa: UP036 - older ones fail with a message instead of a traceback
    from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError
    from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
    from ansible_collections.gatewayops.openai.plugins.module_utils._release.info import info

ARGUMENT_SPEC: dict[str, Any] = {"host": {"type": "dict"}}


def main() -> None:
    """The module's entry point."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if sys.version_info < (3, 9):  # noqa: UP036
        module.fail_json(msg=f"a gateway host needs Python 3.9 or newer, {sys.executable} is {sys.version.split()[0]}")
    try:
        result = info(host_from_options(module.params["host"] or {}))
    except (GatewayError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
