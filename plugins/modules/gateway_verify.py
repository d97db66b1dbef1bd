#!/usr/bin/python
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
  - The checks are C(healthy) (C(/healthz)), C(models) (exactly the models that the key may use), C(chat completion),
    C(stream) (to its end, C([DONE])), C(embeddings), C(wrong key) (401), C(forbidden model) (403) and
    C(unknown model) (404). All of them run, and every one that failed is named.
  - What the specification has no model for is skipped.
  - Three small requests reach providers, and cost what such requests cost.
  - Each option that is not given is taken from the variable of its name with C(gateway_verify_) before it, and the
    specification from the variables of the role C(gatewayops.openai.gateway).
author:
  - GatewayOps maintainers (@gatewayops)
extends_documentation_fragment:
  - gatewayops.openai.spec
  - gatewayops.openai.vault
options:
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
      - The first one by name when it is not given.
    type: str
  url:
    description:
      - Where the gateway is, such as V(https://gateway.example:443).
      - Made from the first listener (by name) and the name of the host when it is not given.
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
  ca_file:
    description:
      - The CAs that the gateway's certificate is checked with, instead of the system's.
    type: path
  validate_certs:
    description:
      - Whether the gateway's certificate is checked.
    type: bool
    default: true
  timeout:
    description:
      - How long each exchange may take, in seconds.
    type: float
    default: 60
  address:
    description:
      - Set by the action itself, where to connect to, if that is not the host of O(url).
    type: str
  key:
    description:
      - Set by the action itself, the consumer's key.
    type: str
  forbidden_model:
    description:
      - Set by the action itself, a model that the consumer may not use.
    type: str
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
"""

EXAMPLES = r"""
- name: Ask the gateway what a client would ask
  gatewayops.openai.gateway_verify:

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
url:
  description: The gateway that was asked.
  type: str
  returned: always
  sample: https://gateway.example:443
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.checks import Expectation, report, run_checks
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.client import Endpoint

ARGUMENT_SPEC: dict[str, Any] = {
    "url": {"type": "str", "required": True},
    "address": {"type": "str"},
    "ca_file": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 60},
    "key": {"type": "str", "required": True, "no_log": True},
    "models": {"type": "list", "elements": "str", "required": True},
    "chat_model": {"type": "str"},
    "embedding_model": {"type": "str"},
    "forbidden_model": {"type": "str"},
}


def main() -> None:
    """The module's entry point."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options = module.params
    endpoint = Endpoint(**{name: options[name] for name in ("url", "address", "ca_file", "validate_certs", "timeout")})
    expected = Expectation(
        models=tuple(options["models"]),
        chat_model=options["chat_model"],
        embedding_model=options["embedding_model"],
        forbidden_model=options["forbidden_model"],
    )
    try:
        result = report(run_checks(endpoint, options["key"], expected), endpoint.url)
    except GatewayError as error:
        module.fail_json(msg=str(error))
    else:
        (module.fail_json if result.get("failed") else module.exit_json)(**result)


if __name__ == "__main__":
    main()
