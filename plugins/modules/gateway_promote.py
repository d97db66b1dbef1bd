# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_promote
short_description: Tell what it would bring to one environment to become as another is
version_added: 0.1.0
description:
  - Compares what two environments are specified to serve, and tells what would change in one if it were to become as
    the other is. What is meant to differ, such as sizes, hosts and references to secrets, is told apart.
  - An environment is a workspace of the inventory, by its name in C(gateway_workspaces), or an inventory of its own.
    That is the one of that name beside the inventory that Ansible was called with, or below C(inventories) in the
    working directory, or a path.
  - Neither a host nor a secret store is asked, and nothing is changed. Runs on the controller.
author:
  - GatewayOps maintainers (@gatewayops)
options:
  from:
    description: The environment that is as it should be, such as V(staging). The variable C(from) unless it is given.
    type: str
    required: true
  to:
    description: The environment that is to become so, such as V(production). The variable C(to) unless it is given.
    type: str
    required: true
  expected:
    description:
      - What is meant to differ, besides the sizes, hosts and references that always are. Each entry is the path of a
        resource or field, such as C(gateway_consumers.*.limits); V(*) stands for any characters, and what is below it
        counts, too.
      - The variable C(gateway_promote_expected) unless it is given, which may be one of the environment O(to).
    type: list
    elements: str
  inventories:
    description:
      - The directory that has the inventories of the environments. The variable C(gateway_inventories) unless it is
        given.
    type: path
  path:
    description:
      - A file to write it to as JSON, with a comment for a pull request beside it, of the suffix C(.md). The variable
        C(gateway_promote_file) unless it is given.
    type: path
attributes:
  check_mode:
    support: full
    description: Changes nothing, and tells the same in check mode.
  diff_mode:
    support: none
    description: It is a difference itself.
  platform:
    support: full
    description: Runs on the controller.
    platforms: posix
seealso:
  - module: gatewayops.openai.gateway_plan
"""

EXAMPLES = r"""
- name: Compare two environments
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Tell what a promotion would bring
      gatewayops.openai.gateway_promote:
        from: staging
        to: production
        expected: [gateway_consumers.*.limits]
        path: promote.json
"""

RETURN = r"""
pending:
  description: Whether a promotion would bring anything.
  type: bool
  returned: success
summary:
  description: What it would bring, in a line.
  type: str
  returned: success
  sample: "Promotion: 1 to add, 2 to change, 0 to remove; 3 meant to differ"
"""
