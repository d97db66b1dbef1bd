# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results that all actions share."""

from __future__ import annotations

from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError


def failure(error: GatewayError) -> dict[str, Any]:
    """The result of a task that failed with `error`. To raise AnsibleActionFail adds a traceback before core 2.19."""
    return {"failed": True, "changed": False, "msg": str(error)}
