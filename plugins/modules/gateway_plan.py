# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_plan
short_description: Tell what a specification would change on a host
version_added: 0.1.0
description:
  - Compiles the specification and asks the host what M(gatewayops.openai.gateway) would do there. Nothing is written on
    the host, in check mode or not, and Envoy checks the release from memory.
  - No secret store is asked unless O(secrets) says so. So the plan says nothing of secrets that changed in a store, and
    takes it that those which the host lacks come when the plan is carried out.
  - The playbook C(gatewayops.openai.plan) asks all hosts, and writes one plan of all with
    M(gatewayops.openai.gateway_plan_file).
author:
  - GatewayOps maintainers (@gatewayops)
extends_documentation_fragment:
  - gatewayops.openai.spec
  - gatewayops.openai.host
  - gatewayops.openai.vault
  - gatewayops.openai.aws
options:
  lock_wait:
    description:
      - The seconds to wait at most for a run on the host to end. Without it a look at a host that is just being changed
        fails at once.
    type: float
    default: 0
  removals_max:
    description: The highest number of listeners, providers, models and so on that one run may remove; any by default.
    type: int
  removals_max_percent:
    description: The highest share of them that one run may remove, from 0 to 100; any by default.
    type: int
  workspace_replaces:
    description:
      - The workspace whose hosts become hosts of this one. Without it a host that serves another workspace is refused.
    type: str
  secrets:
    description:
      - Read the secrets and compare them on the host, too. The variable C(gateway_plan_secrets) where it is not given.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Changes nothing, and so does the same in check mode.
  diff_mode:
    support: full
    description: Shows which resources differ, and how.
  platform:
    support: full
    description: Linux with Python 3.9 or newer, and systemd or supervisor.
    platforms: posix
seealso:
  - module: gatewayops.openai.gateway
  - module: gatewayops.openai.gateway_plan_file
"""

EXAMPLES = r"""
- name: See what the specification would change
  gatewayops.openai.gateway_plan:
    envoy: /opt/envoy/1.40.0/envoy
  become: true
  register: plan

- name: Say how many resources are not as specified
  ansible.builtin.debug:
    msg: "{{ plan.summary }}; Envoy: {{ plan.planned.process }}"
"""

RETURN = r"""
summary:
  description: How many resources would be created, updated and deleted.
  type: str
  returned: success
  sample: "Plan: 1 to add, 2 to change, 0 to remove"
planned:
  description: What would happen.
  type: dict
  returned: success
  contains:
    changed:
      description: Whether anything on the host would change, secrets left aside.
      type: bool
    active:
      description: The release that the host serves, empty when there is none.
      type: str
    release:
      description: The release that it would serve.
      type: str
    spec_digest:
      description: Identifies the specification.
      type: str
    envoy_version:
      description: The version of the host's Envoy, empty when it has none yet.
      type: str
    process:
      description: What happens to Envoy, as M(gatewayops.openai.gateway_release) says it.
      type: str
    process_why:
      description: Why, as M(gatewayops.openai.gateway_release) says it.
      type: list
      elements: str
    before:
      description: The resources that are served, by address; not there when they are as RV(planned.after).
      type: dict
    after:
      description: The resources that would be served.
      type: dict
    drift:
      description: What somebody else had changed on the host.
      type: list
      elements: str
    secrets:
      description: The secrets that are others in the stores than on the host, such as V(key of consumer search).
      type: list
      elements: str
      returned: with O(secrets)
    in_use:
      description: Consumers that would be removed and sent requests within the last hour, with how many.
      type: dict
    findings:
      description: Where the specification breaks a policy that only warns, see M(gatewayops.openai.gateway_validate).
      type: list
      elements: dict
"""
