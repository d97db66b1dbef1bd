# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_validate_fleet
short_description: Validate the specifications of all hosts, offline
version_added: 0.1.0
description:
  - Does for every host of the play what M(gatewayops.openai.gateway_validate) does for one, and has Envoy check the
    configuration where there is one on the controller. Hosts that have the same specification are validated once.
  - Everything that is wrong on any host is told at once, with the hosts, the path, and the line of the inventory.
  - No connection to a host is made and no secret is resolved. Envoy gets placeholders in the place of keys and
    certificates.
  - Runs on the controller. Use it with C(run_once) and C(delegate_to=localhost), as the playbook
    C(gatewayops.openai.validate) does.
author:
  - GatewayOps maintainers (@gatewayops)
options:
  sarif:
    description: Write what was found to this file in SARIF 2.1.0, with exceptions as suppressions.
    type: path
  junit:
    description: Write a test report in JUnit's XML to this file, with a test for each check and each policy.
    type: path
  envoy:
    description:
      - The Envoy to ask, of the version C(envoy_version). By default that of the role C(envoy) in its cache, and
        otherwise the one on C(PATH). Where neither is there, or it is of another version, none is asked, which is said.
    type: path
  environment:
    description: The name of the environment in the reports; the workspace or the inventory's directory by default.
    type: str
notes:
  - What is not given is a variable. O(sarif), O(junit) and O(envoy) are C(gateway_validate_sarif),
    C(gateway_validate_junit) and C(gateway_validate_envoy), and O(environment) is C(gateway_environment).
  - A variable that is a template is rendered for each host. Facts of hosts are not there.
attributes:
  check_mode:
    support: full
    description: Changes nothing on any host; the reports are written in check mode, too.
  diff_mode:
    support: none
    description: Changes nothing.
  platform:
    support: full
    description: Runs on the controller.
    platforms: posix
seealso:
  - module: gatewayops.openai.gateway_validate
"""

EXAMPLES = r"""
- name: Validate the specification of every gateway
  hosts: gateways
  gather_facts: false
  tasks:
    - name: Validate
      gatewayops.openai.gateway_validate_fleet:
        sarif: reports/gateway.sarif
        junit: reports/gateway.xml
      delegate_to: localhost
      run_once: true
"""

RETURN = r"""
summary:
  description: What was found, in a line; the message of a task that fails.
  type: str
  returned: success
  sample: "Validate: 0 errors, 1 warning, on 4 hosts; Envoy 1.40.0 accepts it"
envoy:
  description: What Envoy said, or why it was not asked.
  type: str
  returned: success
  sample: Envoy 1.40.0 accepts it
results:
  description: What was found that does not fail the task.
  type: list
  elements: dict
  returned: success
  contains:
    check:
      description: The policy.
      type: str
      sample: consumer_without_limit
    severity:
      description: V(warn), or V(deny) for what is excepted.
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
    hosts:
      description: The hosts that have it.
      type: list
      elements: str
    where:
      description: The C(file), C(line) and C(column) of the inventory, where Ansible knows them.
      type: dict
    exception:
      description: The exception that holds for it, if any.
      type: dict
"""
