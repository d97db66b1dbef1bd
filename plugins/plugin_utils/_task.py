# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all actions do alike: how a task fails, and how a module reaches the host."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError


def failure(error: GatewayError) -> dict[str, Any]:
    """The result of a task that failed with `error`. To raise AnsibleActionFail adds a traceback before core 2.19."""
    return {"failed": True, "changed": False, "msg": str(error)}


def pipeline(connection: Any) -> None:
    """Send modules through the connection's standard input, whatever is configured, where the connection can.

    Otherwise Ansible writes a module with its arguments to a file on the host, which takes four more round trips and
    puts secrets on a disk.
    """
    with suppress(AttributeError, KeyError):
        connection.set_option("pipelining", True)
