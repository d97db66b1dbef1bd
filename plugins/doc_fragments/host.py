# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that say what a gateway host looks like."""

from __future__ import annotations


class ModuleDocFragment:
    """`gatewayops.openai.host`, for every action that works on a gateway host."""

    DOCUMENTATION = r"""
options:
  service_manager:
    description:
      - What runs Envoy on the host.
      - V(systemd) makes the gateway a service of the system, and needs root.
      - V(supervisor) runs it as the user who connects, below O(root), and needs no root.
    type: str
    choices: [systemd, supervisor]
    default: systemd
  root:
    description:
      - With O(service_manager=supervisor), the directory that everything but secrets is kept in.
    type: str
  config_dir:
    description:
      - The directory of the releases and of the link to the one that is active.
      - C(/etc/openai-gateway) under systemd, C(config) below O(root) under supervisor.
    type: str
  runtime_dir:
    description:
      - The directory of Envoy's admin sockets.
      - C(/run/openai-gateway) under systemd, C(run) below O(root) under supervisor.
    type: str
  secrets_dir:
    description:
      - The directory of the secrets, on a tmpfs.
      - C(/run/openai-gateway/secrets) under systemd, a directory in C(/dev/shm) under supervisor.
    type: str
  log_dir:
    description:
      - The directory of the access log.
      - C(/var/log/openai-gateway) under systemd, C(log) below O(root) under supervisor.
    type: str
  envoy:
    description:
      - The path of Envoy's binary. The role C(gatewayops.openai.gateway) takes it from the role
        C(gatewayops.openai.envoy).
    type: str
  user:
    description:
      - The user that Envoy runs as.
      - C(openai-gateway) under systemd, the one who connects under supervisor.
    type: str
  fleet_size:
    description:
      - How many hosts share the limits of consumers, when their scope is the fleet.
      - The number of hosts in the group C(gateways) when it is not given.
    type: int
  ca_file:
    description:
      - The CAs on the host that providers' certificates are checked with.
    type: str
    default: /etc/ssl/certs/ca-certificates.crt
  python:
    description:
      - The Python on the host that the gateway's scripts run with.
    type: str
    default: /usr/bin/python3
  supervisord:
    description:
      - The path of C(supervisord) on the host. Required with O(service_manager=supervisor).
    type: str
  secrets_persist:
    description:
      - Whether the gateway serves again after a restart of its host while the secret store cannot be reached.
      - V(encrypted) keeps the secrets in O(state_dir), encrypted by C(systemd-creds) with the host's key. It needs
        systemd 250 or newer.
      - V(never) keeps them in memory only. After a restart of the host the gateway does not serve until the playbook
        C(gatewayops.openai.site) has been run.
      - V(encrypted) under systemd. Under supervisor it is V(never), and nothing else is possible.
    type: str
    choices: [encrypted, never]
  state_dir:
    description:
      - The directory of the encrypted secrets, for root only. It belongs to the gateway alone.
      - C(/var/lib/openai-gateway) under systemd, unused under supervisor.
      - When it is changed, what is in the old directory stays there.
    type: str
notes:
  - Each option that is not given is taken from the variable of its name with C(gateway_) before it, such as
    C(gateway_models) for O(models). The defaults hold where there is no such variable either.
"""
