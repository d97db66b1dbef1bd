#!/usr/bin/python
# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_secrets
short_description: Put secret files on a gateway host
version_added: 0.1.0
author:
  - GatewayOps maintainers (@gatewayops)
description:
  - Replaces the files that Envoy reads keys and certificates from. Envoy notices, and serves on without a restart.
  - The files are kept in memory (tmpfs), readable by Envoy's user only. A directory on a disk is refused.
  - A change is found by comparing on the host. Neither values nor hashes of them are returned, shown or stored.
  - The M(gatewayops.openai.gateway) action delivers secrets itself. This module is for changing nothing but them.
options:
  host:
    description:
      - Where the gateway lives on the host; the same as for M(gatewayops.openai.gateway_release).
      - When it is not given, it is taken from the variables that the M(gatewayops.openai.gateway) action reads.
    type: dict
  secrets:
    description:
      - File names and their content, JSON with a list C(resources), as the compiler of this collection makes them.
      - A C(version_info) is added on the host whenever the content changes.
    type: dict
    required: true
  prune:
    description:
      - Whether these are all the secrets of the gateway. Other files, and keys of clients that are not among them, are
        removed.
      - Without it, other files stay, and other keys of clients stay valid.
    type: bool
    default: true
attributes:
  check_mode:
    description: Can run in check mode and return what would change without changing it.
    support: full
  diff_mode:
    description: Never returns what changed in a file, since that is a secret.
    support: none
  platform:
    description: Systems that the module is for.
    support: full
    platforms: posix
"""

EXAMPLES = r"""
- name: Rotate the key of a provider, and leave everything else alone
  gatewayops.openai.gateway_secrets:
    prune: false
    secrets:
      provider-openai.json: "{{ {'resources': [secret]} | to_json }}"
  vars:
    secret:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
      name: provider-openai
      generic_secret:
        secret:
          inline_string: "{{ lookup('gatewayops.openai.secret', 'vault://kv/providers/openai#api_key') }}"
"""

RETURN = r"""
changed_names:
  description:
    - Names of the files that were written, or would be in check mode.
    - V(.) stands for the directory itself, whose mode or owner was wrong.
  returned: success
  type: list
  elements: str
  sample: [provider-openai.json]
removed:
  description: Names of the files that were removed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: []
"""

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host, host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._release.layout import Layout
from ansible_collections.gatewayops.openai.plugins.module_utils._release.lock import exclusively, looking
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Ops, told
from ansible_collections.gatewayops.openai.plugins.module_utils._release.secrets import deliver, owner_of, prune

ARGUMENT_SPEC: dict[str, Any] = {
    "host": {"type": "dict"},
    "secrets": {"type": "dict", "required": True, "no_log": True},
    "prune": {"type": "bool", "default": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    # A template that makes JSON comes in as text or, from an older ansible-core, as what the text means.
    given = module.params["secrets"].items()
    files = {str(name): content if isinstance(content, str) else json.dumps(content) for name, content in given}
    try:
        host = host_from_options(module.params["host"] or {})
    except ValueError as error:
        module.fail_json(msg=str(error))
    try:
        answer = apply(host, files, only_these=module.params["prune"], check=module.check_mode)
    except GatewayError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(told(error, Path(host.config_dir))))
    module.exit_json(**answer)


def apply(host: Host, files: dict[str, str], *, only_these: bool, check: bool) -> dict[str, Any]:
    """Deliver the files under the lock of the host; the result of the module. Raises GatewayError."""
    with _alone(host, check=check):
        changed = deliver(host.secrets_dir, files, owner_of(host.user), keep_others=not only_these, check=check)
        removed = prune(host.secrets_dir, files, check=check) if only_these else ()
    return {"changed": bool(changed or removed), "changed_names": list(changed), "removed": list(removed)}


def _alone(host: Host, *, check: bool) -> AbstractContextManager[None]:
    """Keep releases from changing the same files; a host without a configuration has none."""
    layout = Layout(host)
    if not layout.config.is_dir():
        return nullcontext()
    return looking(layout.lock) if check else exclusively(layout.lock, Ops())


if __name__ == "__main__":
    main()
