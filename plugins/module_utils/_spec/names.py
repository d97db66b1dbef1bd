# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What things in a spec may be called."""

from __future__ import annotations

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import Text

NAME = Text(
    r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
    "a name of letters, digits, '_', '.' and '-', beginning with a letter or digit",
    max_length=64,
)
