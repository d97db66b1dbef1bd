# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: aws_secret
short_description: Secret of AWS Secrets Manager
version_added: 0.1.0
author:
  - GatewayOps maintainers (@gatewayops)
description:
  - Reads secrets of AWS Secrets Manager on the controller.
  - Each is read once in a run, whatever the number of hosts, tasks and keys, and several are read in one request.
options:
  _terms:
    description: Names or ARNs of secrets, such as V(prod/openai). The region in an ARN wins.
    type: list
    elements: str
    required: true
  key:
    description:
      - Key of the JSON object in the secret, whose value must be text and not empty.
      - Without it, the whole secret is returned as text.
    type: str
  stage:
    description: Staging label of the version, such as V(AWSPREVIOUS). Without it and O(version_id), V(AWSCURRENT).
    type: str
  version_id:
    description: Id of the version. It cannot be given together with O(stage).
    type: str
extends_documentation_fragment:
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
- name: Take one key of a secret
  ansible.builtin.set_fact:
    api_key: "{{ lookup('gatewayops.openai.aws_secret', 'prod/openai', key='api_key') }}"
  no_log: true

- name: Take what it was before it was rotated, from another region
  ansible.builtin.set_fact:
    previous: "{{ lookup('gatewayops.openai.aws_secret', 'prod/openai', key='api_key', stage='AWSPREVIOUS') }}"
  vars:
    gateway_aws_region: eu-west-1
  no_log: true

- name: Take two whole secrets in one request
  ansible.builtin.set_fact:
    keys: "{{ query('gatewayops.openai.aws_secret', 'prod/openai', 'prod/azure') }}"
  no_log: true
"""

RETURN = r"""
_raw:
  description: For each name the text of O(key), or the whole secret.
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
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import plugin_options
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession


class LookupModule(LookupBase):
    def run(self, terms: Sequence[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        try:
            session = SecretSession(plugin_options(self, kwargs, variables or {}))
            version = _version(self.get_option("stage"), self.get_option("version_id"))
            references = [_reference(term, self.get_option("key"), version) for term in terms]
            values = session.resolve(references)
        except SecretError as error:
            raise AnsibleLookupError(str(error)) from None
        return [values[reference] for reference in references]


def _version(stage: str | None, version_id: str | None) -> str | None:
    if stage is not None and version_id is not None:
        raise SecretError("the lookup takes a stage or a version_id, not both")
    if stage is not None:
        return f"stage={stage}"
    return None if version_id is None else f"version_id={version_id}"


def _reference(term: Any, key: str | None, version: str | None) -> Reference:
    reference = Reference("aws-sm", str(term), key, version)
    try:
        source = parse_source(reference.text, allow_path=False)
    except SourceError:
        source = None
    # What the parser split in another way had a '#' or '?' in it. The term may be a pasted secret: it is not shown.
    if source != reference:
        raise SecretError(
            "the lookup takes names or ARNs such as prod/openai, the name of a key, and a stage or the id of a version"
        )
    return reference
