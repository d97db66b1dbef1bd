# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Envoy is started, and how long things may take: what both service managers have in common."""

from __future__ import annotations

from math import ceil

from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._host.service import SERVICE, STOP_MARGIN
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec


def envoy_command(spec: Spec, host: Host, *, instance: str, node: str) -> tuple[str, ...]:
    """The words of the command; `instance` and `node` may be what the service manager puts in their place.

    The flags are those under which changes were measured to lose nothing. Without `--reject-unknown-dynamic-fields` a
    typo is accepted; `misc:error` keeps the warnings about alpha extensions out of the log. What is still open of a
    listener that was changed is cut after `--drain-time-s`: a stream is to have as long there as in a process that is
    replaced. New requests move at once (`immediate`), so that only what has begun stays behind.
    """
    return (
        host.envoy,
        "-c",
        f"{host.current}/envoy/bootstrap-{instance}.json",
        "--service-node",
        node,
        "--service-cluster",
        SERVICE,
        "--disable-hot-restart",
        "--concurrency",
        str(spec.size.concurrency),
        "-l",
        "warning",
        "--reject-unknown-dynamic-fields",
        "--component-log-level",
        "misc:error",
        "--drain-strategy",
        "immediate",
        "--drain-time-s",
        str(ceil(spec.drain.timeout)),
    )


def stop_command(spec: Spec, host: Host, *, instance: str) -> tuple[str, ...]:
    """The words of the command that has an instance leave before it is told to end."""
    waits = (str(ceil(spec.drain.health_wait)), str(ceil(spec.drain.timeout)))
    return (*libexec(host, "gateway-admin"), host.admin_socket(instance), "stop", *waits)


def stop_seconds(spec: Spec) -> int:
    """The longest that an instance takes to stop."""
    return ceil(spec.drain.health_wait) + ceil(spec.drain.timeout) + STOP_MARGIN


def libexec(host: Host, script: str) -> tuple[str, ...]:
    """The words that run a script of the release that is active."""
    return (host.python, "-I", f"{host.current}/libexec/{script}")
