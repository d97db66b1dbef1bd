# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_rollout
short_description: Decide over a rollout in batches, and say what was and what was not changed
version_added: 0.1.0
description:
  - The playbooks C(gatewayops.openai.site) and C(gatewayops.openai.apply) call it. By what their tasks registered on
    each host it says which gateways are to be changed, whether a batch was good, which gateways go back to the release
    that they had, and in the end what became of each.
  - Runs on the controller and does nothing on any host. Use it with C(run_once) and C(delegate_to=localhost).
author:
  - GatewayOps maintainers (@gatewayops)
options:
  step:
    description:
      - V(begin) says which gateways differ from their specification. It fails when one of them cannot be as specified,
        or when more than O(max_unreachable) cannot be reached.
      - V(batch) judges the batch that has ended.
      - V(end) tells what became of every gateway.
    type: str
    choices: [begin, batch, end]
    required: true
  rollback:
    description:
      - What goes back after a batch that failed, V(batch) the gateways of that batch, V(all) those of the batches
        before it, too, V(none) nothing.
    type: str
    choices: [batch, all, none]
    default: batch
  max_unreachable:
    description:
      - How many gateways may be out of reach, as a number or a share, before nothing is changed any more.
    type: str
    default: 50%
notes:
  - Where O(rollback) is not given it is the variable C(gateway_rollback), and O(max_unreachable) is
    C(gateway_max_unreachable).
attributes:
  check_mode:
    support: full
    description: Changes nothing, and tells what would be changed.
  diff_mode:
    support: none
    description: Changes nothing.
  platform:
    support: full
    description: Runs on the controller.
    platforms: posix
seealso:
  - module: gatewayops.openai.gateway
  - module: gatewayops.openai.gateway_verify
"""

EXAMPLES = r"""
- name: Tell what became of every gateway
  gatewayops.openai.gateway_rollout:
    step: end
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
changing:
  description: The gateways that are to be changed, in the order of the inventory.
  type: list
  elements: str
  returned: with O(step=begin)
lost:
  description: Those that cannot be reached.
  type: list
  elements: str
  returned: with O(step=begin)
count:
  description: How many gateways the run is for.
  type: int
  returned: with O(step=begin)
number:
  description: The number of the batch, from 1.
  type: int
  returned: with O(step=batch)
reasons:
  description: Why the rollout stops after the batch, by host; empty when it goes on.
  type: dict
  returned: with O(step=batch)
  sample: {gateway2: "1 of 8 checks of http://127.0.0.1:8080 failed: chat completion: status 502, expected 200"}
roll_back:
  description: The gateways that go back.
  type: list
  elements: str
  returned: with O(step=batch)
hosts:
  description: What became of each gateway (RV(ignore:outcome)), why (RV(ignore:reason)), and in which batch.
  type: dict
  returned: with O(step=end)
  sample: {gateway1: {outcome: changed and verified, reason: "", batch: 1}}
wrong:
  description: The gateways that are not as specified, and why.
  type: dict
  returned: with O(step=end)
summary:
  description: The same in a line.
  type: str
  returned: with O(step=begin) and O(step=end)
  sample: "Rollout of 3 gateways: 1 changed and verified, 2 as specified"
"""
