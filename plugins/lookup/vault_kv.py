# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: vault_kv
short_description: Secret of a key-value engine of Vault or OpenBao
version_added: 0.1.0
author:
  - GatewayOps maintainers (@gatewayops)
description:
  - Reads a secret of a key-value engine, version 2 or 1, on the controller.
options:
  _terms:
    description: Paths of secrets with the mount of the engine in front, such as V(kv/providers/openai).
    type: list
    elements: str
    required: true
  field:
    description:
      - Field to return, which must be text and not empty.
      - Without it, the whole secret is returned as a dictionary.
    type: str
  version:
    description: Version of the secret, for engines of version 2; without it, the newest.
    type: int
  with_metadata:
    description:
      - Return for each path a dictionary with V(value), which is what is returned otherwise, and V(metadata), which is
        what the engine knows of that version, such as V(version), V(created_time) and V(custom_metadata).
      - It costs no request more. An engine of version 1 knows nothing, so its V(metadata) is empty.
    type: bool
    default: false
extends_documentation_fragment:
  - gatewayops.openai.vault
  - gatewayops.openai.vault.plugins
  - gatewayops.openai.aws
  - gatewayops.openai.aws.plugins
notes:
  - The value is not protected once it is in a template. Put C(no_log) on tasks that use it, and do not use it in a
    task's name, in a loop, in C(environment) or in an argument that is shown.
seealso:
  - plugin: gatewayops.openai.secret
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Take one field
  ansible.builtin.set_fact:
    api_key: "{{ lookup('gatewayops.openai.vault_kv', 'kv/providers/openai', field='api_key') }}"
  no_log: true

- name: Take a field of an older version, with an AppRole
  ansible.builtin.set_fact:
    previous: "{{ lookup('gatewayops.openai.vault_kv', 'kv/providers/openai', field='api_key', version=3) }}"
  vars:
    gateway_vault_addr: https://vault.example.com:8200
    gateway_vault_auth_method: approle
    gateway_vault_role_id: 2b7c2f0e-0000-4000-8000-000000000000
    gateway_vault_secret_id: "{{ lookup('gatewayops.openai.secret', 'file:///etc/gateway/secret-id') }}"
  no_log: true

- name: Take all fields
  ansible.builtin.set_fact:
    provider: "{{ lookup('gatewayops.openai.vault_kv', 'kv/providers/openai') }}"
  no_log: true

- name: Show how old a key is
  ansible.builtin.debug:
    msg: >-
      {{ lookup('gatewayops.openai.vault_kv', 'kv/providers/openai', with_metadata=true).metadata.created_time }}
"""

RETURN = r"""
_raw:
  description:
    - For each path the text of O(field), or the whole secret as a dictionary; with O(with_metadata) a dictionary that
      holds it.
  type: list
  elements: raw
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import (
    Reference,
    SourceError,
    parse_source,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import plugin_options
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession


class LookupModule(LookupBase):
    def run(
        self, terms: Sequence[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[str | dict[str, Any]]:
        try:
            session = SecretSession(plugin_options(self, kwargs, variables or {}))
            references = [_reference(term, self.get_option("field"), self.get_option("version")) for term in terms]
            whole = self.get_option("field") is None
            with_metadata = self.get_option("with_metadata")
            found = session.read(references) if whole or with_metadata else {}
            values = {} if whole else session.resolve(references)
        except SecretError as error:
            raise AnsibleLookupError(str(error)) from None
        results: list[str | dict[str, Any]] = []
        for reference in references:
            value = dict(found[reference].fields) if whole else values[reference]
            results.append({"value": value, "metadata": dict(found[reference].metadata)} if with_metadata else value)
        return results


def _reference(term: Any, field: str | None, version: int | None) -> Reference:
    written = f"vault://{term}#{'field' if field is None else field}"
    try:
        source = parse_source(written if version is None else f"{written}?version={version}", allow_path=False)
    except SourceError:
        source = None
    # What the parser split in another way had a '#' or '?' in it.
    if not isinstance(source, Reference) or source.location != term or source.version != version:
        raise SecretError(
            "the lookup takes a path such as kv/providers/openai, the name of a field and a version from 1"
        )
    return source
