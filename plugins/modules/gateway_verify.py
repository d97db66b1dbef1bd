# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_verify
short_description: Ask a gateway what a client would ask
version_added: 0.1.0
description:
  - Sends requests with the key of a consumer and compares the answers with what the specification says.
  - The checks of the profile V(smoke) are C(healthy) (C(/healthz)), C(models) (exactly the models that the key may
    use), C(chat completion), C(stream) (to its end, C([DONE])), C(embeddings), C(wrong key) (401), C(forbidden model)
    (403) and C(unknown model) (404). All of them run, and every one that failed is named.
  - What the specification has no model for is skipped.
  - The profile V(contract) checks what clients know from OpenAI's API, C(docs/verify.md) has the list.
  - Three small requests reach providers, six with V(contract), and cost what such requests cost. Their checks are those
    with RV(checks[].paid).
  - Each option that is not given is taken from the variable of its name with C(gateway_verify_) before it, and the
    specification from the variables of the role C(gatewayops.openai.gateway).
author:
  - GatewayOps maintainers (@gatewayops)
extends_documentation_fragment:
  - gatewayops.openai.spec
  - gatewayops.openai.vault
  - gatewayops.openai.aws
options:
  profile:
    description:
      - What is checked.
      - V(smoke) is whether the gateway serves what the specification says.
      - V(contract) is whether it keeps OpenAI's API (statuses and shapes of errors, shapes of answers, streams,
        headers). It is 23 requests, which count for the limits of the consumer.
    type: str
    choices: [smoke, contract]
    default: smoke
  from:
    description:
      - Who asks.
      - V(controller) asks over the network, as clients do, and uses no connection of Ansible.
      - V(host) asks from the gateway's own host, as for a listener that the controller does not reach.
    type: str
    choices: [controller, host]
    default: controller
  consumer:
    description:
      - Whose first key is used, and whose models are expected.
      - When it is not given, the first one by name that leaves out the least, such as one that may use a model for chat
        and a model for embeddings, but not all models. Of several, the one with the highest limit on requests.
    type: str
  url:
    description:
      - Where the gateway is, such as V(https://gateway.example:443).
      - Made from the first listener (by name) that is not on loopback, or else the first, and the name of the host when
        it is not given.
    type: str
  chat_model:
    description:
      - The model that is asked for completions. The first one (by name) that does not look like one for embeddings
        when it is not given.
    type: str
  embedding_model:
    description:
      - The model that is asked for embeddings. The first one (by name) with C(embed) in its name when it is not given.
    type: str
  responses_model:
    description:
      - The model that is asked for responses, with V(contract).
      - When it is not given, O(chat_model) or else the first one (by name) that only providers of the types C(openai)
        and C(azure_openai), with the version C(v1), serve. Others need not have that API.
    type: str
  ca_file:
    description:
      - The CAs that the gateway's certificate is checked with, instead of the system's.
    type: path
  validate_certs:
    description:
      - Whether the gateway's certificate is checked.
    type: bool
    default: true
  client_cert:
    description:
      - The certificate to show to a listener with a C(client_ca), a PEM file where it is asked from.
      - The gateway is asked at a listener without C(client_ca) if there is one.
    type: path
  client_key:
    description:
      - The private key of O(client_cert), if it is not in the same file.
    type: path
  timeout:
    description:
      - How long each exchange may take, in seconds.
    type: float
    default: 60
attributes:
  check_mode:
    support: full
    description: Changes nothing, and so does the same in check mode.
  diff_mode:
    support: none
    description: Changes nothing.
  platform:
    support: full
    description: Linux.
    platforms: posix
seealso:
  - module: gatewayops.openai.gateway
  - module: gatewayops.openai.gateway_probe
"""

EXAMPLES = r"""
- name: Ask the gateway what a client would ask
  gatewayops.openai.gateway_verify:

- name: Check that it keeps OpenAI's API
  gatewayops.openai.gateway_verify:
    profile: contract

- name: Ask as another consumer, from the host itself
  gatewayops.openai.gateway_verify:
    consumer: batch-team
    from: host
"""

RETURN = r"""
checks:
  description: The outcome of each check, in the order in which they ran.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: What was checked.
      type: str
    ok:
      description: Whether it was right; also true where it was skipped.
      type: bool
    skipped:
      description: Whether there was nothing to check.
      type: bool
    seconds:
      description: How long it took.
      type: float
    reason:
      description: Why it failed or was skipped; otherwise empty.
      type: str
    paid:
      description: Whether it asks a provider, which may cost money.
      type: bool
cannot_ask:
  description:
    - There is nobody to ask as or nowhere to ask, such as without a consumer that has a key. Nothing was checked.
  type: bool
  returned: when it is so
  sample: true
url:
  description: The gateway that was asked.
  type: str
  returned: always
  sample: https://gateway.example:443
"""
