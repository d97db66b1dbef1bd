# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a rejected request. A real store is asked in tests/integration/test_secrets_leases.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_path import without


@pytest.mark.parametrize(
    ("text", "body", "told"),
    [
        ("common name other.org not allowed", {"common_name": "other.org"}, "common name … not allowed"),
        ("no a, b or c", {"x": "a", "y": ["b", {"z": "c"}]}, "no a, b or c"),
        ("cannot parse 123456789 as a key", [["123456789"]], "cannot parse … as a key"),
        ("cannot parse 12345678", {"key": "123456789"}, "cannot parse …"),
        ("missing name", None, "missing name"),
        ("missing name", {"count": 4, "flag": True}, "missing name"),
    ],
)
def test_what_was_sent_is_not_repeated(text: str, body: object, told: str) -> None:
    assert without(text, body) == told


@given(
    before=st.text(), after=st.text(), cut=st.integers(9, 60), secret=st.text(st.characters(codec="ascii"), min_size=9)
)
def test_no_secret_is_repeated_however_long(before: str, after: str, cut: int, secret: str) -> None:
    said = (before + secret + after)[: len(before) + cut]
    assert secret[:9] not in without(said, {"key": secret})
