# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: vault_read
short_description: Answer of any path of Vault or OpenBao
version_added: 0.1.0
author:
  - GatewayOps maintainers (@gatewayops)
description:
  - Asks a path of Vault or OpenBao on the controller and returns the data of the answer, such as the credentials of a
    database, a certificate or a decrypted text.
  - A run asks for each path with each O(data) once, and all its hosts and tasks get the same answer.
options:
  _terms:
    description: Paths with the mount of the engine in front and without C(/v1/), such as V(database/creds/reader).
    type: list
    elements: str
    required: true
  data:
    description:
      - What to send. The request is then a C(POST), otherwise a C(GET).
    type: dict
  field:
    description:
      - Field of the answer's data to return as it is.
      - Without it, all of the data is returned as a dictionary.
    type: str
  lease:
    description:
      - What becomes of the answer's lease when the run has ended. Answers without a lease, such as those of a
        C(transit) engine or certificates of a role without C(generate_lease), stay what they are in any case.
      - With V(revoke) it is revoked, and until then renewed if it is shorter than the run and can be renewed. The store
        does that with the token of the run. With a token of yours (O(vault_auth_method=token)) each lease is revoked
        by itself, for which a policy must allow C(update) on C(sys/leases/revoke).
      - With V(keep) it lives for its own time. It is read with a login of its own whose token is not revoked, because a
        lease ends with the token it was got with. So it lives at most as long as that token, whose time is a setting
        of the auth method's role (such as C(token_ttl)).
    type: str
    choices: [revoke, keep]
    default: revoke
extends_documentation_fragment:
  - gatewayops.openai.vault
  - gatewayops.openai.vault.plugins
  - gatewayops.openai.aws
  - gatewayops.openai.aws.plugins
notes:
  - The value is not protected once it is in a template. Put C(no_log) on tasks that use it, and do not use it in a
    task's name, in a loop, in C(environment) or in an argument that is shown.
seealso:
  - plugin: gatewayops.openai.vault_kv
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Use credentials that end with the run
  community.postgresql.postgresql_query:
    login_host: db.example.com
    login_user: "{{ credentials.username }}"
    login_password: "{{ credentials.password }}"
    query: SELECT count(*) FROM requests
  vars:
    credentials: "{{ lookup('gatewayops.openai.vault_read', 'database/creds/reader') }}"
  no_log: true

- name: Issue a certificate that stays
  ansible.builtin.set_fact:
    issued: >-
      {{ lookup('gatewayops.openai.vault_read', 'pki/issue/gateway',
                data={'common_name': 'gw1.example.com', 'ttl': '720h'}, lease='keep') }}
  no_log: true

- name: Decrypt
  ansible.builtin.set_fact:
    text: >-
      {{ lookup('gatewayops.openai.vault_read', 'transit/decrypt/gateway',
                data={'ciphertext': ciphertext}, field='plaintext') | b64decode }}
  no_log: true
"""

RETURN = r"""
_raw:
  description: For each path the value of O(field), or all data as a dictionary.
  type: list
  elements: raw
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import plugin_options
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession


class LookupModule(LookupBase):
    def run(self, terms: Sequence[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        try:
            session = SecretSession(plugin_options(self, kwargs, variables or {}))
            paths = [_path(term, number) for number, term in enumerate(terms, 1)]
            keep = self.get_option("lease") == "keep"
            answers = session.ask(paths, self.get_option("data"), keep=keep)
            field = self.get_option("field")
            return [answers[path] if field is None else _field(path, answers[path], field) for path in paths]
        except SecretError as error:
            raise AnsibleLookupError(str(error)) from None


def _path(term: Any, number: int) -> str:
    # The term may be a secret that was pasted into the wrong place: its text is not shown.
    path = str(term) if isinstance(term, str) else ""
    if not path.isprintable() or {"", ".", ".."} & set(path.split("/")):
        raise SecretError(f"term {number} of the lookup is not a path such as database/creds/reader")
    return path


def _field(path: str, data: Mapping[str, Any], field: str) -> Any:
    if field not in data:
        names = ", ".join(repr(name) for name in sorted(data)) or "none"
        raise SecretError(f"{path}: the answer has no field {str(field)!r}; it has {names}")
    return data[field]
