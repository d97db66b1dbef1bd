#!/usr/bin/python
# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_probe
short_description: Ask a gateway from a host
version_added: 0.1.0
description:
  - Does on a host what M(gatewayops.openai.gateway_verify) does from the controller. That action works out from the
    specification what to expect, and is what users call, with O(gatewayops.openai.gateway_verify#module:from=host).
author:
  - GatewayOps maintainers (@gatewayops)
options:
  profile:
    description:
      - What is checked, as of M(gatewayops.openai.gateway_verify).
    type: str
    choices: [smoke, contract]
    default: smoke
  url:
    description:
      - What the gateway is called (scheme, host and port). A certificate is checked against its host.
    type: str
    required: true
  address:
    description:
      - Where to connect, if that is not the host of O(url).
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
      - The certificate to show to a listener that asks for one, a PEM file.
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
  key:
    description:
      - The consumer's key.
    type: str
    required: true
  models:
    description:
      - Exactly the models that the key may use.
    type: list
    elements: str
    required: true
  chat_model:
    description:
      - The model that is asked for completions. Without it that is skipped.
    type: str
  embedding_model:
    description:
      - The model that is asked for embeddings. Without it that is skipped.
    type: str
  forbidden_model:
    description:
      - A model that the key may not use. Without it that is skipped.
    type: str
  responses_model:
    description:
      - The model that is asked for responses, with V(contract). Without it that is skipped.
    type: str
  max_request_size:
    description:
      - The largest body that the gateway takes, in bytes, with V(contract). Without it that is skipped.
    type: int
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
  - module: gatewayops.openai.gateway_verify
"""

EXAMPLES = r"""
- name: Ask from the host
  gatewayops.openai.gateway_probe:
    url: https://gateway.example:443
    address: 127.0.0.1
    key: "{{ lookup('gatewayops.openai.secret', 'vault://kv/consumers/search#current') }}"
    models: [gpt-5]
    chat_model: gpt-5
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
url:
  description: The gateway that was asked.
  type: str
  returned: always
  sample: https://gateway.example:443
"""

from dataclasses import fields
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.checks import PROFILES, report, run_checks
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.client import Endpoint
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.model import Expectation

ARGUMENT_SPEC: dict[str, Any] = {
    "profile": {"type": "str", "choices": list(PROFILES), "default": "smoke"},
    "url": {"type": "str", "required": True},
    "address": {"type": "str"},
    "ca_file": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path"},
    "timeout": {"type": "float", "default": 60},
    "key": {"type": "str", "required": True, "no_log": True},
    "models": {"type": "list", "elements": "str", "required": True},
    "chat_model": {"type": "str"},
    "embedding_model": {"type": "str"},
    "forbidden_model": {"type": "str"},
    "responses_model": {"type": "str"},
    "max_request_size": {"type": "int"},
}


def main() -> None:
    """The module's entry point."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options = module.params
    endpoint = Endpoint(**{field.name: options[field.name] for field in fields(Endpoint)})
    expected = Expectation(
        models=tuple(options["models"]),
        chat_model=options["chat_model"],
        embedding_model=options["embedding_model"],
        forbidden_model=options["forbidden_model"],
        responses_model=options["responses_model"],
        max_request_size=options["max_request_size"],
    )
    try:
        result = report(run_checks(endpoint, options["key"], expected, options["profile"]), endpoint.url)
    except GatewayError as error:
        module.fail_json(msg=str(error))
    else:
        (module.fail_json if result.get("failed") else module.exit_json)(**result)


if __name__ == "__main__":
    main()
