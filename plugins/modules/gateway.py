# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway
short_description: Have a gateway as its specification says
version_added: 0.1.0
description:
  - Compiles the specification on the controller, and lets the host change what differs from it.
  - A specification that is wrong, or that breaks a policy, stops before the host is touched, with everything that is
    wrong in one message.
  - Secrets are resolved on the controller at the last moment, and go to the memory of the host.
  - A host that is right already takes one round trip.
  - A change that Envoy does not accept is taken back, and fails with Envoy's reason. Requests are served throughout.
author:
  - GatewayOps maintainers (@gatewayops)
extends_documentation_fragment:
  - gatewayops.openai.spec
  - gatewayops.openai.host
  - gatewayops.openai.vault
  - gatewayops.openai.aws
options:
  state:
    description:
      - V(present) has the gateway as the specification says.
      - V(absent) stops it and leaves the host as it was before, without secrets, releases, service, logs, user and
        Envoy. The specification is not looked at.
    type: str
    choices: [present, absent]
    default: present
  keep_logs:
    description:
      - With O(state=absent), whether the logs stay, and with them the user whom they belong to.
    type: bool
    default: false
  envoy_root:
    description:
      - With O(state=absent), the directory whose versions of Envoy are removed as well, those that
        M(gatewayops.openai.envoy_binary) has put there. None are when it is empty or not given.
      - The role C(gateway) sets it to the C(envoy_root) of the role C(envoy), unless C(envoy_method) is V(path).
    type: str
  lock_wait:
    description:
      - The seconds to wait at most for another run on the host to end. Without it the second of two runs fails at once.
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
  expected:
    description:
      - The release that has to be active before the run, V(none) for a host without one. When another one is, nothing
        is changed and the task fails. The playbook C(gatewayops.openai.apply) sets it from a plan.
    type: str
attributes:
  check_mode:
    support: full
    description: Predicts the change and writes nothing on the host. Secrets are read, to see whether they changed.
  diff_mode:
    support: full
    description: Shows which resources of the specification change, and which fields. Of a secret only its name.
  platform:
    support: full
    description: Linux with systemd, or with supervisor.
    platforms: posix
seealso:
  - module: gatewayops.openai.gateway_validate
  - module: gatewayops.openai.gateway_verify
  - module: gatewayops.openai.gateway_release
"""

EXAMPLES = r"""
- name: Have the gateway as the variables gateway_* say
  gatewayops.openai.gateway:

- name: Have a gateway as the task says
  gatewayops.openai.gateway:
    envoy: /opt/envoy/1.40.0/envoy
    listeners:
      public: {address: 127.0.0.1, port: 8080}
    providers:
      openai: {type: openai, base_url: https://api.openai.com/v1, api_key: vault://kv/providers/openai#api_key}
    models:
      gpt-5:
        targets: [{provider: openai, model: gpt-5}]
    consumers:
      search-team:
        api_keys: [vault://kv/consumers/search#current]
        models: [gpt-5]
        limits: {requests_per_minute: 600}

- name: Remove it
  gatewayops.openai.gateway:
    state: absent
"""

RETURN = r"""
digest:
  description: The release that is active, or in check mode would be.
  type: str
  returned: when O(state=present)
  sample: 3f1c0a5be27d9c41
previous:
  description: The release that was active before it, and that a rollback brings back.
  type: str
  returned: when O(state=present)
process:
  description:
    - What happens to Envoy's process. V(reload) changes its configuration, V(replace) brings up a second process beside
      the first one and then ends that, V(start) is the first one.
  type: str
  returned: when O(state=present)
  sample: reload
removed:
  description: What was there of a gateway and of Envoy.
  type: list
  elements: str
  returned: when O(state=absent)
  sample: [instance blue, /etc/openai-gateway/releases, user openai-gateway, /opt/envoy]
message:
  description: What happened, said for people.
  type: str
  returned: success
changes:
  description: The resources of the specification that change.
  type: list
  elements: dict
  returned: when O(state=present)
  contains:
    address:
      description: The resource.
      type: str
      sample: gateway_models.gpt-5
    action:
      description: What is done with it, V(create), V(update) or V(delete).
      type: str
    fields:
      description: The fields that differ, each with RV(ignore:path), RV(ignore:before) and RV(ignore:after).
      type: list
      elements: dict
plan:
  description: How many resources change.
  type: str
  returned: when O(state=present)
  sample: "Plan: 3 to add, 1 to change, 0 to remove"
rotated:
  description: Whose secrets change, by the names that they have in the specification.
  type: dict
  returned: when O(state=present)
  contains:
    consumers:
      description: Consumers with another set of keys.
      type: list
      elements: str
    providers:
      description: Providers with another key, client certificate or CAs.
      type: list
      elements: str
    listeners:
      description: Listeners with another certificate or private key.
      type: list
      elements: str
    collector_headers:
      description: Headers for the collector of C(gateway_otlp) with another value.
      type: list
      elements: str
secrets:
  description: The same in one line, empty when nothing changes.
  type: str
  returned: when O(state=present)
  sample: "consumers: search-team; providers: openai"
secrets_changed:
  description: The names of the secret files that change.
  type: list
  elements: str
  returned: when O(state=present)
pruned:
  description: The releases that are removed.
  type: list
  elements: str
  returned: when O(state=present)
envoy_version:
  description: The version of Envoy.
  type: str
  returned: when O(state=present)
"""
