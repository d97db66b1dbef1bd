# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_drift
short_description: Tell how what gateways serve differs from the specification
version_added: 0.1.0
description:
  - Puts together what M(gatewayops.openai.gateway_plan) registered on each host of the play, and tells what is only in
    Git, only live, or different, down to the field, what somebody changed among the files on a host, and with
    O(gatewayops.openai.gateway_plan#module:secrets) which secrets are others in their stores.
  - Fails when there is drift, so that a scheduled run of the playbook C(gatewayops.openai.drift) is seen.
  - Runs on the controller. Use it with C(run_once) and C(delegate_to=localhost).
author:
  - GatewayOps maintainers (@gatewayops)
options:
  path:
    description: Write the drift as JSON to this file, too.
    type: path
  metrics:
    description:
      - Write metrics for the textfile collector of Prometheus' node exporter to this file, such as
        V(/var/lib/node_exporter/gateway_drift.prom). It is replaced in one step.
    type: path
  environment:
    description: The name of the environment; that of the inventory's directory by default.
    type: str
  fail:
    description: Whether drift is a failure.
    type: bool
    default: true
notes:
  - What is not given is a variable. O(path) is C(gateway_drift_file), O(metrics) is C(gateway_drift_metrics), O(fail)
    is C(gateway_drift_fail) and O(environment) is C(gateway_environment).
attributes:
  check_mode:
    support: none
    description: Writes its files in check mode, too; it is what check mode is for.
  diff_mode:
    support: none
    description: Drift is a difference itself.
  platform:
    support: full
    description: Runs on the controller.
    platforms: posix
seealso:
  - module: gatewayops.openai.gateway_plan
"""

EXAMPLES = r"""
- name: See whether every gateway is as specified
  hosts: gateways
  gather_facts: false
  check_mode: true
  ignore_unreachable: true
  tasks:
    - name: Compare, the secrets included
      ansible.builtin.import_role:
        name: gatewayops.openai.gateway
        tasks_from: plan
      vars:
        gateway_plan_secrets: true

    - name: Tell what differs
      gatewayops.openai.gateway_drift:
        path: drift.json
      check_mode: false
      delegate_to: localhost
      run_once: true
"""

RETURN = r"""
drift:
  description: Whether any host differs.
  type: bool
  returned: always
hosts:
  description: What differs, by host.
  type: dict
  returned: always
  contains:
    drift:
      description: Whether the host differs.
      type: bool
    release:
      description: The release that it serves.
      type: str
    process:
      description: What it would take for Envoy to be as specified, V(none) when it is.
      type: str
    only_in_git:
      description: Resources that are specified and not served, by their addresses.
      type: list
      elements: dict
    only_live:
      description: Resources that are served and not specified.
      type: list
      elements: dict
    different:
      description: Resources that differ, with their C(fields). Of each C(before) is live and C(after) is in Git.
      type: list
      elements: dict
    files:
      description: What somebody changed among the files on the host.
      type: list
      elements: str
    secrets:
      description: Secrets that are others in their stores, by name; null when the stores were not asked.
      type: list
      elements: str
unknown:
  description: The hosts that nothing is known of, and why.
  type: dict
  returned: always
"""
