# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_plan_check
short_description: Hold a saved plan against what would be planned now
version_added: 0.1.0
extends_documentation_fragment:
  - gatewayops.openai.vault
  - gatewayops.openai.aws
description:
  - Fails when a plan that M(gatewayops.openai.gateway_plan_file) wrote does not hold any more, and says everything that
    moved, before anything is written on any host. Compared are the environment, the version of the collection, the time
    it expires, the hosts, and for each host the digest of the specification, the release that it serves and the one
    that it would serve, the version of Envoy and the files that somebody else changed.
  - A plan that was changed after it was made, or that is not signed, is refused.
  - Runs on the controller, after the role's C(tasks_from=plan) on every host, with C(run_once) and
    C(delegate_to=localhost).
author:
  - GatewayOps maintainers (@gatewayops)
options:
  path:
    description: The plan.
    type: path
    required: true
  environment:
    description: The name of the environment; that of the inventory's directory by default.
    type: str
  key:
    description: A reference to the key that the plan was signed with.
    type: str
    required: true
notes:
  - Where O(path) is not given it is the variable C(gateway_plan), O(environment) is C(gateway_environment) and O(key)
    is C(gateway_plan_key).
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
  - module: gatewayops.openai.gateway_plan_file
"""

EXAMPLES = r"""
- name: See whether the plan still holds
  hosts: gateways
  gather_facts: false
  check_mode: true
  any_errors_fatal: true
  tasks:
    - name: Compare
      ansible.builtin.import_role:
        name: gatewayops.openai.gateway
        tasks_from: plan

    - name: Hold the plan against what would be planned now
      gatewayops.openai.gateway_plan_check:
        path: plan.json
        key: env://PLAN_KEY
      delegate_to: localhost
      run_once: true
"""

RETURN = r"""
summary:
  description: What the plan changes, in a line.
  type: str
  returned: success
  sample: "Plan: 3 to add, 1 to change, 0 to remove, on 4 hosts in 2 groups"
expected:
  description: The release that each host serves, V(none) for one that serves none.
  type: dict
  returned: success
  sample: {gateway1: 3f0c1a2b4d5e6f70, gateway2: none}
"""
