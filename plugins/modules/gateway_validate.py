# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_validate
short_description: Check the specification of a gateway
version_added: 0.1.0
description:
  - Parses the specification, holds it against the policies and compiles it, as M(gatewayops.openai.gateway) does before
    it touches a host. Everything that is wrong is in one message.
  - No connection to the host is made, no secret is resolved, and nothing is written anywhere. This is what a pull
    request can be checked with.
author:
  - GatewayOps maintainers (@gatewayops)
extends_documentation_fragment:
  - gatewayops.openai.spec
  - gatewayops.openai.host
  - gatewayops.openai.vault
  - gatewayops.openai.aws
attributes:
  check_mode:
    support: full
    description: Changes nothing, and so does the same in check mode.
  diff_mode:
    support: none
    description: Changes nothing.
  platform:
    support: full
    description: Runs on the controller.
    platforms: posix
seealso:
  - module: gatewayops.openai.gateway
"""

EXAMPLES = r"""
- name: Check the specification of every gateway before any of them is touched
  hosts: gateways
  gather_facts: false
  any_errors_fatal: true
  tasks:
    - name: Check the variables gateway_*
      gatewayops.openai.gateway_validate:
"""

RETURN = r"""
findings:
  description: Where the specification breaks a policy that only warns.
  type: list
  elements: dict
  returned: success
  contains:
    rule:
      description: The policy.
      type: str
      sample: consumer_without_limit
    severity:
      description: Always V(warn), since others fail the task.
      type: str
    path:
      description: The place in the variables.
      type: str
      sample: gateway_consumers.search-team
    message:
      description: What is the matter.
      type: str
    remedy:
      description: What to write instead.
      type: str
resources:
  description: How many resources the specification describes.
  type: int
  returned: success
spec_digest:
  description: Identifies the specification; equal ones have the same.
  type: str
  returned: success
"""
