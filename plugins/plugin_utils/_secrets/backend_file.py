# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``file:///PATH[#JSON_KEY]``: a file on the controller."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.fields import field_of


def fetch(references: Sequence[Reference]) -> Mapping[Reference, str | SecretError]:
    """The content of each file, or the text under one top-level key of its JSON, or why there is none.

    Exactly one line break at the end of a whole file is dropped: editors and ``echo`` put it there, and it is no part
    of a key. A value under a JSON key stays as it is.
    """
    return {reference: _read(reference) for reference in references}


def _read(reference: Reference) -> str | SecretError:
    try:
        content = Path(reference.location).read_bytes().decode("utf-8")
    except OSError as error:
        return SecretError(f"{reference.text}: cannot be read on the controller: {error.strerror}")
    except UnicodeDecodeError:
        return SecretError(f"{reference.text}: is not UTF-8 text")
    if reference.field is None:
        return content[:-2] if content.endswith("\r\n") else content.removesuffix("\n")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return SecretError(f"{reference.text}: the file is not a JSON object")
    return field_of(reference, document, "the file")
