# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What supervisor needs to run a gateway as an ordinary user."""

from __future__ import annotations

from math import ceil

from ansible_collections.gatewayops.openai.plugins.module_utils._host.envoy_command import (
    envoy_command,
    libexec,
    stop_seconds,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import INSTANCES, Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec


def configuration(spec: Spec, host: Host) -> str:
    """The file `supervisord.conf`, see supervisord's documentation, "Configuration File".

    Only the first instance starts with supervisord: which one serves is not important, two would not be wrong, but one
    is enough.
    """
    return (
        "; Part of a release of the gateway: changes are undone by the next run.\n"
        "[supervisord]\n"
        "nodaemon=false\n"
        f"directory={host.config_dir}\n"
        f"pidfile={host.runtime_dir}/supervisord.pid\n"
        f"logfile={host.log_dir}/supervisord.log\n"
        f"childlogdir={host.log_dir}\n"
        "umask=077\n"
        "\n[unix_http_server]\n"
        f"file={host.runtime_dir}/supervisor.sock\n"
        "chmod=0600\n"
        "\n[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        "\n[supervisorctl]\n"
        f"serverurl=unix://{host.runtime_dir}/supervisor.sock\n"
        + "".join(_program(spec, host, instance) for instance in INSTANCES)
    )


def _program(spec: Spec, host: Host, instance: str) -> str:
    command = " ".join(
        (
            *libexec(host, "run-envoy"),
            host.admin_socket(instance),
            str(ceil(spec.drain.health_wait)),
            str(ceil(spec.drain.timeout)),
            f"{host.runtime_dir}/{instance}.release",
            host.current,
            *envoy_command(spec, host, instance=instance, node="%(host_node_name)s"),
        )
    )
    return (
        f"\n[program:{instance}]\n"
        f"command={command}\n"
        f"autostart={'true' if instance == INSTANCES[0] else 'false'}\n"
        "autorestart=unexpected\n"
        "exitcodes=0\n"
        # A process that is stopped at once has not failed to start; run-envoy keeps it from starting without pause.
        "startsecs=0\n"
        "stopsignal=TERM\n"
        f"stopwaitsecs={stop_seconds(spec)}\n"
        "stopasgroup=false\n"
        "killasgroup=true\n"
        "redirect_stderr=true\n"
        f"stdout_logfile={host.log_dir}/{instance}.log\n"
        "stdout_logfile_maxbytes=10MB\n"
        "stdout_logfile_backups=3\n"
    )
