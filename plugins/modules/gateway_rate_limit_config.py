# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_rate_limit_config
short_description: Write the configuration of the rate limit service
version_added: 0.1.0
description:
  - Writes the limits on tokens of a specification as a file that C(envoyproxy/ratelimit) reads, on the controller.
  - Parses the specification and holds it against the policies first, as M(gatewayops.openai.gateway) does. No host is
    connected to, and no secret is resolved.
author:
  - GatewayOps maintainers (@gatewayops)
extends_documentation_fragment:
  - gatewayops.openai.spec
options:
  dest:
    description: Where the file goes. Its directory must exist; the file is replaced at once.
    type: path
    required: true
notes:
  - An O(dest) that is not given is the variable C(dest).
attributes:
  check_mode:
    support: full
    description: Says whether the file would change.
  diff_mode:
    support: full
    description: Shows the file before and after.
  platform:
    support: full
    description: Runs on the controller.
    platforms: posix
seealso:
  - module: gatewayops.openai.gateway_validate
"""

EXAMPLES = r"""
- name: Write what the rate limit service reads
  hosts: gateways
  gather_facts: false
  tasks:
    - name: Write the limits on tokens
      gatewayops.openai.gateway_rate_limit_config:
        dest: limits/openai-gateway.yaml
      run_once: true
      delegate_to: localhost
"""

RETURN = r"""
dest:
  description: The file.
  type: str
  returned: success
  sample: limits/openai-gateway.yaml
"""
