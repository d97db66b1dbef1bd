# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``env://NAME``: an environment variable of the controller."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference


def fetch(references: Sequence[Reference]) -> Mapping[Reference, str | SecretError]:
    """The value of each variable, as it is, or why there is none."""
    return {reference: _read(reference) for reference in references}


def _read(reference: Reference) -> str | SecretError:
    value = os.environ.get(reference.location)
    if value is None:
        return SecretError(f"{reference.text}: not set in the environment of the controller")
    try:
        value.encode()
    except UnicodeEncodeError:
        return SecretError(f"{reference.text}: is not UTF-8 text in the environment of the controller")
    return value
