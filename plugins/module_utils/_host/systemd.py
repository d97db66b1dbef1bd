# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd needs to run a gateway: a unit of which two instances take turns, a user, directories, logs."""

from __future__ import annotations

import posixpath

from ansible_collections.gatewayops.openai.plugins.module_utils._host import nftables
from ansible_collections.gatewayops.openai.plugins.module_utils._host.envoy_command import (
    envoy_command,
    libexec,
    stop_command,
    stop_seconds,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import ENCRYPTED, INSTANCES, Host
from ansible_collections.gatewayops.openai.plugins.module_utils._host.service import (
    LOGROTATE_FILE,
    NFTABLES_FILE,
    NFTABLES_UNIT,
    NFTABLES_UNIT_FILE,
    PROMPT_LOG,
    SECRETS_UNIT,
    SECRETS_UNIT_FILE,
    START_SECONDS,
    SYSCTL_FILE,
    SYSUSERS_FILE,
    TMPFILES_FILE,
    UNIT_FILE,
    USER_HOME,
    USER_NAME,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._release.admin import BRIEF
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec

_HEAD = "# Part of a release of the gateway: changes are undone by the next run.\n"
#: Each connection takes one file on the client's side and one on the provider's.
_OPEN_FILES = 65536
#: Files that Envoy may watch, in both instances.
_WATCHES = 8192
#: What crashes must not write its memory, with all secrets, to a disk. systemd-coredump(8) honours it too.
_NO_CORE = "LimitCORE=0\n"

# There is no MemoryDenyWriteExecute: LuaJIT makes code while it runs, and Envoy aborts with the first request when it
# may not. No PrivateUsers: with it port 443 cannot be bound.
_HARDENING = """\
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
KeyringMode=private
DevicePolicy=closed
"""


_RESTORING_HARDENING = """\
CapabilityBoundingSet=CAP_SETUID CAP_SETGID
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateNetwork=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
KeyringMode=private
DevicePolicy=closed
"""


def files(spec: Spec, host: Host) -> tuple[tuple[str, str], ...]:
    """The files on the system, by absolute path: all of `service.SYSTEM_FILES` that this host needs."""
    restoring = ((SECRETS_UNIT_FILE, secrets_unit(host)),) if host.secrets_persist == ENCRYPTED else ()
    filtering: tuple[tuple[str, str], ...] = ()
    if spec.nftables is not None:
        filtering = ((NFTABLES_FILE, nftables.rules(spec, spec.nftables)), (NFTABLES_UNIT_FILE, nftables.unit()))
    return (
        (UNIT_FILE, unit(spec, host)),
        (SYSUSERS_FILE, sysusers(host)),
        (TMPFILES_FILE, tmpfiles(host)),
        (SYSCTL_FILE, sysctl(spec)),
        (LOGROTATE_FILE, logrotate(spec, host)),
        *restoring,
        *filtering,
    )


def unit(spec: Spec, host: Host) -> str:
    """The template unit, see systemd.exec(5) and systemd.resource-control(5).

    Envoy tells systemd nothing: it has started when ExecStartPost has seen that it accepted the release.
    """
    socket = host.admin_socket("%i")
    record = " ".join((*libexec(host, "gateway-admin"), f"{host.runtime_dir}/%i.release", "record", host.current))
    ready = " ".join((*libexec(host, "gateway-admin"), socket, "ready", str(START_SECONDS), host.current))
    command = " \\\n  ".join(_pairs(envoy_command(spec, host, instance="%i", node="%H")))
    executable = sorted({"/usr", "/lib", "/lib64", posixpath.dirname(host.envoy), posixpath.dirname(host.python)})
    ports = sorted({listener.port for listener in spec.listeners} | {spec.metrics.port})
    helpers = SECRETS_UNIT if spec.nftables is None else f"{SECRETS_UNIT} {NFTABLES_UNIT}"
    return (
        f"{_HEAD}[Unit]\n"
        "Description=OpenAI gateway, instance %i (blue or green)\n"
        # Also where there is no such unit, which is no error: a process need not be replaced for it.
        f"Wants=network-online.target {helpers}\n"
        f"After=network-online.target systemd-tmpfiles-setup.service {helpers}\n"
        "StartLimitIntervalSec=0\n"
        "\n[Service]\n"
        "Type=exec\n"
        f"User={host.user}\n"
        f"Group={host.user}\n"
        f"ExecStartPre={record}\n"
        f"ExecStart={command}\n"
        f"ExecStartPost={ready}\n"
        f"ExecStop={' '.join(stop_command(spec, host, instance='%i'))}\n"
        f"TimeoutStartSec={START_SECONDS + int(BRIEF) + 15}\n"
        f"TimeoutStopSec={stop_seconds(spec)}\n"
        "KillMode=mixed\n"
        "Restart=always\n"
        "RestartSec=1\n"
        "UMask=0077\n"
        f"LimitNOFILE={_OPEN_FILES}\n"
        f"{_NO_CORE}"
        f"{_limits(spec)}"
        f"\n{_HARDENING}"
        f"ReadWritePaths={host.runtime_dir} {host.log_dir}\n"
        "NoExecPaths=/\n"
        f"ExecPaths={' '.join(executable)}\n"
        "SocketBindDeny=any\n"
        + "".join(f"SocketBindAllow=tcp:{port}\n" for port in ports)
        + "\n[Install]\nWantedBy=multi-user.target\n"
    )


def secrets_unit(host: Host) -> str:
    """The unit that brings back into memory what is missing there, before each start of the gateway.

    When it fails the gateway tries to start all the same, until a run brings the secrets. It runs as root, who alone
    can read the host's key, and writes as Envoy's user.
    """
    sealed = f"{host.state_dir}/secrets.sealed"
    words = (*libexec(host, "restore-secrets"), sealed, host.secrets_dir, host.user, f"{host.config_dir}/.lock")
    return (
        f"{_HEAD}[Unit]\n"
        "Description=Secrets of the OpenAI gateway, from the disk into memory\n"
        f"ConditionPathExists={sealed}\n"
        "After=systemd-tmpfiles-setup.service\n"
        # As often as the gateway starts, which may be once a second.
        "StartLimitIntervalSec=0\n"
        "\n[Service]\n"
        "Type=oneshot\n"
        f"ExecStart={' '.join(words)}\n"
        "TimeoutStartSec=90\n"
        "UMask=0077\n"
        f"{_NO_CORE}"
        f"\n{_RESTORING_HARDENING}"
        f"ReadWritePaths=-{host.secrets_dir}\n"
    )


def sysusers(host: Host) -> str:
    """The user that Envoy runs as, see sysusers.d(5). Both instances share it, or they could not share a port."""
    return f'{_HEAD}u {host.user} - "{USER_NAME}" {USER_HOME}\n'


def tmpfiles(host: Host) -> str:
    """The directories, see tmpfiles.d(5): those in memory have to be made again after every start of the machine."""
    user = host.user
    return (
        f"{_HEAD}"
        f"d {host.config_dir} 0750 root {user} -\n"
        f"d {host.runtime_dir} 0750 {user} {user} -\n"
        f"d {host.secrets_dir} 0700 {user} {user} -\n"
        f"d {host.log_dir} 0750 {user} {user} -\n"
    )


def sysctl(spec: Spec) -> str:
    """The kernel settings without which changes lose requests, see ip-sysctl and inotify(7), and those of the spec.

    Connections that wait at a listener that closes go to the other instance, not into the void. And Envoy takes an
    inotify instance for each file that it watches, one for each key and certificate among them: where the user has none
    left it aborts, also while it serves. Linux grants 128, to both instances together. These need not be possible, as
    the `-` says; those of the spec have to be.
    """
    return (
        f"{_HEAD}# '-': inside a container they may not be allowed to be set.\n"
        "-net.ipv4.tcp_migrate_req = 1\n"
        f"-fs.inotify.max_user_instances = {_WATCHES}\n"
    ) + "".join(f"{name} = {value}\n" for name, value in spec.sysctls)


def logrotate(spec: Spec, host: Host) -> str:
    """See logrotate(8). Envoy opens its log again when it is asked to; an instance that is not there is no error."""
    reopen = " ".join((*libexec(host, "gateway-admin"), '"$socket"', "reopen-logs"))
    sockets = " ".join(host.admin_socket(instance) for instance in INSTANCES)
    reopened = (
        "    postrotate\n"
        f"        for socket in {sockets}; do\n"
        f'            [ ! -S "$socket" ] || {reopen} >/dev/null 2>&1 || true\n'
        "        done\n"
        "    endscript\n"
    )
    return (
        f"{_HEAD}{host.log_dir}/*.log {{\n"
        f"    su {host.user} {host.user}\n"
        "    daily\n"
        "    rotate 14\n"
        "    maxsize 1G\n"
        "    missingok\n"
        "    notifempty\n"
        "    compress\n"
        "    delaycompress\n"
        "    sharedscripts\n"
        f"{reopened}"
        "}\n"
        f"\n{host.log_dir}/{PROMPT_LOG} {{\n"
        f"    su {host.user} {host.user}\n"
        "    daily\n"
        "    rotate 400\n"
        # Where none are logged any more, what is left of an earlier release goes.
        f"    maxage {1 if spec.prompt_log is None else spec.prompt_log.retention}\n"
        "    maxsize 1G\n"
        "    missingok\n"
        # An empty file is rotated, too: only then is it looked at which others are too old.
        "    ifempty\n"
        f"    create 0600 {host.user} {host.user}\n"
        "    compress\n"
        "    delaycompress\n"
        f"{reopened}"
        "}\n"
    )


def _limits(spec: Spec) -> str:
    text = ""
    if spec.size.memory_max is not None:
        text += f"MemoryMax={spec.size.memory_max}\n"
    if spec.size.cpu_quota is not None:
        text += f"CPUQuota={spec.size.cpu_quota}%\n"
    return text


def _pairs(words: tuple[str, ...]) -> tuple[str, ...]:
    """Options together with their values, so that each gets a line of the unit."""
    lines: list[str] = []
    for word in words:
        if lines and not word.startswith("-") and lines[-1].startswith("-") and " " not in lines[-1]:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return tuple(lines)
