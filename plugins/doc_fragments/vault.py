# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of Vault and OpenBao: one declaration for lookups, actions and their documentation."""

from __future__ import annotations


class ModuleDocFragment:
    """``gatewayops.openai.vault`` describes the options; ``gatewayops.openai.vault.plugins`` adds their other sources.

    They are two because the documentation of a module or action must not have ``env``, ``vars`` and ``ini``. An action
    takes its options from the same sources nevertheless.
    """

    DOCUMENTATION = r"""
options:
  vault_addr:
    description:
      - URL of the Vault or OpenBao server.
      - Required as soon as a C(vault://) reference has to be resolved.
    type: str
  vault_namespace:
    description: Namespace that all paths are in.
    type: str
  vault_ca_file:
    description:
      - File or directory on the controller with the certificate authorities to verify the server with.
      - Without it, those that the Python package C(requests) trusts. Verification cannot be switched off.
    type: str
  vault_auth_method:
    description: How to authenticate.
    type: str
    choices: [token, approle]
    default: token
  vault_token:
    description:
      - Token for O(vault_auth_method=token).
      - C(~/.vault-token) is never read.
    type: str
  vault_role_id:
    description: Id of the AppRole for O(vault_auth_method=approle).
    type: str
  vault_secret_id:
    description:
      - Secret id of the AppRole for O(vault_auth_method=approle).
      - A wrong one is tried once in a run, so that the store does not lock the role.
    type: str
  vault_mount_approle:
    description: Where the AppRole method is mounted, without C(auth/).
    type: str
    default: approle
  vault_timeout:
    description:
      - How long to wait for one answer of the server, such as V(10s), V(2m) or a number of seconds.
      - A server that did not answer, or was sealed or unreachable, is not asked again for 60 seconds.
    type: str
    default: 10s
  vault_kv_version:
    description:
      - Version of the key-value engines.
      - With V(auto), each engine is read as version 2 first. When that is refused, the server is asked which version
        the engine is and where it is mounted, which a token may know of every engine in which it may read anything.
      - V(1) and V(2) are used without asking, and the engine is then the first part of the path.
    type: str
    choices: [auto, "1", "2"]
    default: auto
requirements:
  - hvac (Python package on the controller), for C(vault://) references
notes:
  - One run of Ansible logs in once and reads each secret once, whatever the number of hosts, tasks and forks.
    What was read is shared by the forks in a file that only this run can decrypt.
  - Precedence of the sources of an option is argument, Ansible variable, environment variable, C(ansible.cfg), default.
    Of two environment variables that are both set, C(BAO_*) wins, as it does for C(bao) itself.
  - Environment variables are seen by every process that the run starts on the controller. A token there should be
    short-lived; an Ansible variable encrypted with C(ansible-vault) is not passed on to other processes.
"""

    PLUGINS = r"""
options:
  vault_addr:
    vars: [{name: gateway_vault_addr}]
    env: [{name: VAULT_ADDR}, {name: BAO_ADDR}]
    ini: [{section: gatewayops_openai, key: vault_addr}]
  vault_namespace:
    vars: [{name: gateway_vault_namespace}]
    env: [{name: VAULT_NAMESPACE}, {name: BAO_NAMESPACE}]
    ini: [{section: gatewayops_openai, key: vault_namespace}]
  vault_ca_file:
    vars: [{name: gateway_vault_ca_file}]
    env: [{name: VAULT_CACERT}, {name: BAO_CACERT}]
    ini: [{section: gatewayops_openai, key: vault_ca_file}]
  vault_auth_method:
    vars: [{name: gateway_vault_auth_method}]
    env: [{name: VAULT_AUTH_METHOD}, {name: BAO_AUTH_METHOD}]
    ini: [{section: gatewayops_openai, key: vault_auth_method}]
  vault_token:
    vars: [{name: gateway_vault_token}]
    env: [{name: VAULT_TOKEN}, {name: BAO_TOKEN}]
  vault_role_id:
    vars: [{name: gateway_vault_role_id}]
    env: [{name: VAULT_ROLE_ID}, {name: BAO_ROLE_ID}]
    ini: [{section: gatewayops_openai, key: vault_role_id}]
  vault_secret_id:
    vars: [{name: gateway_vault_secret_id}]
    env: [{name: VAULT_SECRET_ID}, {name: BAO_SECRET_ID}]
  vault_mount_approle:
    vars: [{name: gateway_vault_mount_approle}]
    env: [{name: VAULT_MOUNT_APPROLE}, {name: BAO_MOUNT_APPROLE}]
    ini: [{section: gatewayops_openai, key: vault_mount_approle}]
  vault_timeout:
    vars: [{name: gateway_vault_timeout}]
    env: [{name: VAULT_CLIENT_TIMEOUT}, {name: BAO_CLIENT_TIMEOUT}]
    ini: [{section: gatewayops_openai, key: vault_timeout}]
  vault_kv_version:
    vars: [{name: gateway_vault_kv_version}]
    env: [{name: VAULT_KV_VERSION}, {name: BAO_KV_VERSION}]
    ini: [{section: gatewayops_openai, key: vault_kv_version}]
"""
