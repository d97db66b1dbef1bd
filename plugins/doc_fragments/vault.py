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
  vault_client_cert:
    description:
      - File on the controller with the client certificate (PEM) of TLS connections to the server.
      - With O(vault_auth_method=cert) it is who logs in.
    type: str
  vault_client_key:
    description: File on the controller with the private key (PEM) of O(vault_client_cert).
    type: str
  vault_auth_method:
    description:
      - How to authenticate.
      - V(jwt) takes the token of a workload identity, such as that of a job in GitHub Actions, GitLab CI or AWX.
      - V(aws_iam) uses the credentials that C(boto3) finds.
    type: str
    choices: [token, approle, jwt, kubernetes, userpass, ldap, cert, aws_iam]
    default: token
  vault_auth_mount:
    description:
      - Where the method is mounted, without C(auth/).
      - When it is not given, the name of the method; C(aws) for O(vault_auth_method=aws_iam).
    type: str
  vault_token:
    description:
      - Token for O(vault_auth_method=token). It is neither renewed nor revoked.
      - C(~/.vault-token) is never read unless O(vault_token_file) says so.
    type: str
  vault_token_file:
    description: File on the controller with the token, when O(vault_token) is not given.
    type: str
  vault_role_id:
    description: Id of the AppRole for O(vault_auth_method=approle).
    type: str
  vault_secret_id:
    description:
      - Secret id of the AppRole for O(vault_auth_method=approle).
      - A wrong one is tried once in a run, so that the store does not lock the role.
    type: str
  vault_wrapped_secret_id:
    description:
      - Response-wrapping token that holds the secret id, in place of O(vault_secret_id).
      - It is unwrapped once in a run, and only when it was made by an AppRole's C(secret-id) endpoint.
    type: str
  vault_role:
    description:
      - Role to log in as, for O(vault_auth_method=jwt), V(kubernetes), V(cert) and V(aws_iam).
      - V(kubernetes) needs it. Otherwise, when it is not given, the server takes the default role of the method, the
        one that fits the certificate, or the one named like the AWS principal.
    type: str
  vault_jwt:
    description: JSON Web Token for O(vault_auth_method=jwt).
    type: str
  vault_jwt_file:
    description:
      - File on the controller with the token, when O(vault_jwt) is not given.
      - With O(vault_auth_method=kubernetes) that of the service account, by default
        C(/var/run/secrets/kubernetes.io/serviceaccount/token).
    type: str
  vault_jwt_github_audience:
    description:
      - In a job of GitHub Actions, ask for a token for this audience, when neither O(vault_jwt) nor O(vault_jwt_file)
        is given. The job needs the permission C(id-token) with the value C(write).
    type: str
  vault_username:
    description: Name of the user for O(vault_auth_method=userpass) and V(ldap).
    type: str
  vault_password:
    description:
      - Password of the user for O(vault_auth_method=userpass) and V(ldap).
      - A wrong one is tried once in a run, so that the user is not locked.
    type: str
  vault_aws_server_id:
    description: Value of the header C(X-Vault-AWS-IAM-Server-ID) for O(vault_auth_method=aws_iam).
    type: str
  vault_aws_sts_region:
    description:
      - Region of the AWS STS that the server asks with O(vault_auth_method=aws_iam), when it was given an
        C(sts_endpoint) and C(sts_region).
      - Without it, the one global STS, which is what a server asks that was given none.
    type: str
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
  - One run of Ansible logs in once, reads each secret once, and revokes its token once when it has ended, whatever the
    number of hosts, tasks and forks. What was read is shared by the forks in files that only this run can decrypt.
  - A small process beside the run (C(keeper.py)) renews the token while the run lives, if it can be renewed, and
    revokes it when the run has ended, however it ended. It needs no callback and no setting, holds up nothing, and ends
    within a minute when the store does not answer. If it is killed as well, as in a container that is removed by force,
    the token lives for its own time, so that should be short.
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
  vault_client_cert:
    vars: [{name: gateway_vault_client_cert}]
    env: [{name: VAULT_CLIENT_CERT}, {name: BAO_CLIENT_CERT}]
    ini: [{section: gatewayops_openai, key: vault_client_cert}]
  vault_client_key:
    vars: [{name: gateway_vault_client_key}]
    env: [{name: VAULT_CLIENT_KEY}, {name: BAO_CLIENT_KEY}]
    ini: [{section: gatewayops_openai, key: vault_client_key}]
  vault_auth_method:
    vars: [{name: gateway_vault_auth_method}]
    env: [{name: VAULT_AUTH_METHOD}, {name: BAO_AUTH_METHOD}]
    ini: [{section: gatewayops_openai, key: vault_auth_method}]
  vault_auth_mount:
    vars: [{name: gateway_vault_auth_mount}]
    env: [{name: VAULT_AUTH_MOUNT}, {name: BAO_AUTH_MOUNT}]
    ini: [{section: gatewayops_openai, key: vault_auth_mount}]
  vault_token:
    vars: [{name: gateway_vault_token}]
    env: [{name: VAULT_TOKEN}, {name: BAO_TOKEN}]
  vault_token_file:
    vars: [{name: gateway_vault_token_file}]
    env: [{name: VAULT_TOKEN_FILE}, {name: BAO_TOKEN_FILE}]
    ini: [{section: gatewayops_openai, key: vault_token_file}]
  vault_role_id:
    vars: [{name: gateway_vault_role_id}]
    env: [{name: VAULT_ROLE_ID}, {name: BAO_ROLE_ID}]
    ini: [{section: gatewayops_openai, key: vault_role_id}]
  vault_secret_id:
    vars: [{name: gateway_vault_secret_id}]
    env: [{name: VAULT_SECRET_ID}, {name: BAO_SECRET_ID}]
  vault_wrapped_secret_id:
    vars: [{name: gateway_vault_wrapped_secret_id}]
    env: [{name: VAULT_WRAPPED_SECRET_ID}, {name: BAO_WRAPPED_SECRET_ID}]
  vault_role:
    vars: [{name: gateway_vault_role}]
    env: [{name: VAULT_ROLE}, {name: BAO_ROLE}]
    ini: [{section: gatewayops_openai, key: vault_role}]
  vault_jwt:
    vars: [{name: gateway_vault_jwt}]
    env: [{name: VAULT_JWT}, {name: BAO_JWT}]
  vault_jwt_file:
    vars: [{name: gateway_vault_jwt_file}]
    env: [{name: VAULT_JWT_FILE}, {name: BAO_JWT_FILE}]
    ini: [{section: gatewayops_openai, key: vault_jwt_file}]
  vault_jwt_github_audience:
    vars: [{name: gateway_vault_jwt_github_audience}]
    env: [{name: VAULT_JWT_GITHUB_AUDIENCE}, {name: BAO_JWT_GITHUB_AUDIENCE}]
    ini: [{section: gatewayops_openai, key: vault_jwt_github_audience}]
  vault_username:
    vars: [{name: gateway_vault_username}]
    env: [{name: VAULT_USERNAME}, {name: BAO_USERNAME}]
    ini: [{section: gatewayops_openai, key: vault_username}]
  vault_password:
    vars: [{name: gateway_vault_password}]
    env: [{name: VAULT_PASSWORD}, {name: BAO_PASSWORD}]
  vault_aws_server_id:
    vars: [{name: gateway_vault_aws_server_id}]
    env: [{name: VAULT_AWS_SERVER_ID}, {name: BAO_AWS_SERVER_ID}]
    ini: [{section: gatewayops_openai, key: vault_aws_server_id}]
  vault_aws_sts_region:
    vars: [{name: gateway_vault_aws_sts_region}]
    env: [{name: VAULT_AWS_STS_REGION}, {name: BAO_AWS_STS_REGION}]
    ini: [{section: gatewayops_openai, key: vault_aws_sts_region}]
  vault_timeout:
    vars: [{name: gateway_vault_timeout}]
    env: [{name: VAULT_CLIENT_TIMEOUT}, {name: BAO_CLIENT_TIMEOUT}]
    ini: [{section: gatewayops_openai, key: vault_timeout}]
  vault_kv_version:
    vars: [{name: gateway_vault_kv_version}]
    env: [{name: VAULT_KV_VERSION}, {name: BAO_KV_VERSION}]
    ini: [{section: gatewayops_openai, key: vault_kv_version}]
"""
