from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

from ansible_collections.gatewayops.openai.plugins.module_utils._release.traffic import requests_of

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=timezone.utc)


def test_requests_within_the_last_hour_are_counted_by_consumer(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    entries = [
        {"time": "2026-11-24T10:59:59.999Z", "consumer": "a"},
        {"time": "2026-11-24T11:00:00.000Z", "consumer": "a"},
        {"time": "2026-11-24T11:59:59.000Z", "consumer": "a"},
        {"time": "2026-11-24T11:59:59.000Z", "consumer": "b"},
        {"time": "2026-11-24T11:59:59.000Z", "consumer": "c", "details": "a"},
        {"time": "2026-11-24T11:59:59.000Z", "consumer": None},
    ]
    lines = [json.dumps(entry, separators=(",", ":")) for entry in entries]
    log.write_text("\n".join([*lines, '{"time": "2026-11-24T11:59:59Z", "consumer":"a', '["a"]', ""]))
    assert requests_of(["a", "b", "z"], log, NOW) == {"a": 2, "b": 1}
    assert requests_of([], log, NOW) == {}


def test_without_a_log_nothing_is_known(tmp_path: Path) -> None:
    assert requests_of(["a"], tmp_path / "access.log", NOW) == {}
