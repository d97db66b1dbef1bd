# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_plan_file
short_description: Write the plan of all hosts, and tell it
version_added: 0.1.0
extends_documentation_fragment:
  - gatewayops.openai.vault
  - gatewayops.openai.aws
description:
  - Puts together what M(gatewayops.openai.gateway_plan) registered on each host of the play, and writes it on the
    controller as C(plan.json) in the layout of C(terraform show -json), as C(plan.md) for a pull request, and as
    C(plan.html), one page without anything beside it, with a picture of who uses which model, who serves it and what it
    costs. The terminal gets a summary.
  - Hosts that would change alike are told once. Hosts of the group C(gateways) that the play did not look at, could not
    reach or failed on are named, with the reason.
  - Runs on the controller. Use it with C(run_once) and C(delegate_to=localhost).
author:
  - GatewayOps maintainers (@gatewayops)
options:
  path:
    description:
      - Where the plan goes. Its other forms are beside it, with C(.md) and C(.html) in place of the last suffix.
    type: path
    default: plan.json
  html:
    description: Where the page goes, when it is not to be beside the plan.
    type: path
  environment:
    description: The name of the environment in the plan; that of the inventory's directory by default.
    type: str
  ttl:
    description: How long the plan can be applied, such as V(24h) or V(7d).
    type: str
    default: 24h
  key:
    description:
      - A reference to the key that the plan is signed with (HMAC-SHA256), such as V(env://PLAN_KEY) or
        V(vault://kv/plans#key). A plan that is not signed cannot be applied.
    type: str
  encrypt:
    description: Encrypt C(plan.json) with Ansible's vault password; C(plan.md) and C(plan.html) are not encrypted.
    type: bool
    default: false
notes:
  - What is not given is a variable. O(path) is C(gateway_plan), O(environment) is C(gateway_environment), and of the
    others C(gateway_plan_html), C(gateway_plan_ttl), C(gateway_plan_key) and C(gateway_plan_encrypt).
  - The plan of each host is what the role's C(tasks_from=plan) registers.
attributes:
  check_mode:
    support: none
    description: Writes the plan in check mode, too; a plan is what check mode is for.
  diff_mode:
    support: none
    description: A plan is a difference itself.
  platform:
    support: full
    description: Runs on the controller.
    platforms: posix
seealso:
  - module: gatewayops.openai.gateway_plan
  - module: gatewayops.openai.gateway_plan_check
"""

EXAMPLES = r"""
- name: Plan what would change on every gateway
  hosts: gateways
  gather_facts: false
  check_mode: true
  ignore_unreachable: true
  tasks:
    - name: Compare
      ansible.builtin.import_role:
        name: gatewayops.openai.gateway
        tasks_from: plan

    - name: Write the plan
      gatewayops.openai.gateway_plan_file:
        path: plans/today.json
      check_mode: false
      delegate_to: localhost
      run_once: true
"""

RETURN = r"""
pending:
  description: Whether anything would change on any host.
  type: bool
  returned: success
summary:
  description: What would change, in a line.
  type: str
  returned: success
  sample: "Plan: 3 to add, 1 to change, 0 to remove, on 4 hosts in 2 groups"
files:
  description: The files that were written.
  type: list
  elements: str
  returned: success
  sample: [plan.json, plan.md, plan.html]
unknown:
  description: The hosts that nothing is known of, and why.
  type: dict
  returned: success
  sample: {gateway3: left out by --limit}
"""
