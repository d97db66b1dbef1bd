# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: secret
short_description: Value of a secret reference
version_added: 0.1.0
author:
  - GatewayOps maintainers (@gatewayops)
description:
  - Resolves a reference to a secret on the controller, the way the roles of this collection do.
  - Roles and the M(gatewayops.openai.gateway) action take references as they are and resolve them at the last moment.
    Use this lookup where something else needs the value.
options:
  _terms:
    description:
      - C(vault://MOUNT/PATH#FIELD[?version=N]), a field of a secret in a key-value engine of Vault or OpenBao.
      - C(aws-sm://NAME[#JSON_KEY][?stage=STAGE|?version_id=ID]), a secret in AWS Secrets Manager or a key of the JSON
        object in it. C(NAME) may be an ARN, whose region then wins.
      - C(env://NAME), an environment variable of the controller.
      - C(file:///PATH[#JSON_KEY]), a file on the controller or a top-level key of its JSON.
        Exactly one line break at the end of a whole file is dropped; everything else stays as it is.
      - C(lookup://PLUGIN/TERM[#JSON_KEY]), what any lookup plugin answers to the term, or a key of the dictionary or
        JSON object that it answers. The plugin takes its options from its own variables, environment variables and
        C(ansible.cfg), and what it answers is kept for the run.
    type: list
    elements: str
    required: true
extends_documentation_fragment:
  - gatewayops.openai.vault
  - gatewayops.openai.vault.plugins
  - gatewayops.openai.aws
  - gatewayops.openai.aws.plugins
notes:
  - The value is not protected once it is in a template. Put C(no_log) on tasks that use it, and do not use it in a
    task's name, in a loop, in C(environment) or in an argument that is shown.
  - An empty value is an error, because an empty key is never meant.
seealso:
  - plugin: gatewayops.openai.vault_kv
    plugin_type: lookup
  - plugin: gatewayops.openai.aws_secret
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Ask a provider for its models
  ansible.builtin.uri:
    url: https://api.openai.com/v1/models
    headers:
      Authorization: "Bearer {{ lookup('gatewayops.openai.secret', 'vault://kv/providers/openai#api_key') }}"
  no_log: true
  delegate_to: localhost

- name: Read two secrets at once
  ansible.builtin.set_fact:
    keys: "{{ query('gatewayops.openai.secret', 'env://OPENAI_API_KEY', 'file:///etc/gateway/keys.json#azure') }}"
  no_log: true
"""

RETURN = r"""
_raw:
  description: The values, in the order of the references.
  type: list
  elements: str
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
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.backend_lookup import Surroundings
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import (
    AWS,
    PREFIXES,
    SecretOptions,
    plugin_options,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession

#: What the names of the options begin with that a scheme needs. A login to Vault may take credentials of AWS.
_OPTIONS = {"vault": PREFIXES, "aws-sm": (AWS,)}


class LookupModule(LookupBase):
    def run(self, terms: Sequence[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        try:
            references = [_reference(term, number) for number, term in enumerate(terms, 1)]
            surroundings = Surroundings(self._loader, self._templar, variables or {})
            options = self._stores(references, kwargs, variables or {})
            values = SecretSession(options, surroundings=surroundings).resolve(references)
        except SecretError as error:
            raise AnsibleLookupError(str(error)) from None
        return [values[reference] for reference in references]

    def _stores(
        self, references: Sequence[Reference], direct: Mapping[str, Any], variables: Mapping[str, Any]
    ) -> SecretOptions:
        # The options of a store may come from this very lookup (a secret id in a file): look only at those needed.
        prefixes = {prefix for reference in references for prefix in _OPTIONS.get(reference.scheme, ())}
        return plugin_options(self, direct, variables, of=tuple(prefixes)) if prefixes else SecretOptions()


def _reference(term: Any, number: int) -> Reference:
    # The term may be a secret that was pasted into the wrong place: its text is not shown.
    try:
        source = parse_source(term, allow_path=False) if isinstance(term, str) else None
    except SourceError as error:
        raise SecretError(f"term {number} of the lookup: {error}") from None
    if not isinstance(source, Reference):
        raise SecretError(f"term {number} of the lookup is not a reference such as vault://MOUNT/PATH#FIELD")
    return source
