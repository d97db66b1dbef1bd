# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of the processes that serve, whose user may have been taken over."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._release.layout import Layout
from ansible_collections.gatewayops.openai.plugins.module_utils._release.live import Live, cluster_names


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "blue.release"


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return Live(Layout(host_from_options({"runtime_dir": str(tmp_path), "envoy": "/opt/envoy"})))


class TestWhatAProcessWasStartedWith:
    def test_it_is_in_a_file(self, live: Live, record: Path) -> None:
        assert live.started_with("blue") == ""
        record.write_text("0123456789abcdef\n")
        assert live.started_with("blue") == "0123456789abcdef"

    def test_a_link_is_not_followed(self, live: Live, record: Path, tmp_path: Path) -> None:
        (tmp_path / "other").write_text("0123456789abcdef\n")
        record.symlink_to("other")
        assert live.started_with("blue") == ""

    def test_nothing_is_waited_for(self, live: Live, record: Path) -> None:
        os.mkfifo(record)
        assert live.started_with("blue") == ""
        writer = os.open(record, os.O_RDWR)
        try:
            assert live.started_with("blue") == ""
        finally:
            os.close(writer)

    @pytest.mark.parametrize("content", [b"\xff\xfe", b"\0" * 10000])
    def test_nonsense(self, live: Live, record: Path, content: bytes) -> None:
        record.write_bytes(content)
        assert len(live.started_with("blue")) <= 100


def test_tunnels_of_proxies_are_not_waited_for() -> None:
    clusters = [{"name": name} for name in ("provider:a@1", "proxy:p.example:3128@2", "model:proxy:x@3")]
    files = {"envoy/cds.json": json.dumps({"resources": clusters}).encode()}
    assert cluster_names(files) == {"provider:a@1", "model:proxy:x@3"}
