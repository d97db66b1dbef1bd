from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.gatewayops.openai.plugins.action.gateway_rate_limit_config import ActionModule

from .conftest import Run, failed

SERVICE = {"address": "127.0.0.1"}


@pytest.fixture
def limited(spec: dict[str, Any]) -> dict[str, Any]:
    spec["gateway_rate_limit_service"] = SERVICE
    spec["gateway_consumers"]["search"]["limits"] = {"tokens_per_minute": 7, "tokens_per_day": 9}
    return spec


def test_it_is_written_once(run: Run, limited: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "limits.yaml"
    assert run(ActionModule, arguments={"dest": str(path)}, variables=limited)["changed"] is True
    assert yaml.safe_load(path.read_text()) == {
        "domain": "openai-gateway",
        "descriptors": [
            {
                "key": "consumer",
                "value": "search",
                "descriptors": [
                    {
                        "key": "tokens_per",
                        "value": unit,
                        "rate_limit": {"unit": unit, "requests_per_unit": number},
                    }
                    for unit, number in (("minute", 7), ("day", 9))
                ],
            }
        ],
    }
    assert run(ActionModule, arguments={"dest": str(path)}, variables=limited)["changed"] is False
    assert [each.name for each in tmp_path.iterdir()] == ["limits.yaml"]


def test_check_mode_writes_nothing_and_shows_it(run: Run, limited: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "limits.yaml"
    result = run(ActionModule, arguments={"dest": str(path)}, variables=limited, check=True, diff=True)
    assert (result["changed"], path.exists(), result["diff"]["before"]) == (True, False, "")
    assert "requests_per_unit: 7" in result["diff"]["after"]


def test_without_a_service_there_is_nothing_to_write(run: Run, spec: dict[str, Any], tmp_path: Path) -> None:
    text = failed(run, ActionModule, arguments={"dest": str(tmp_path / "x")}, variables=spec)
    assert "gateway_rate_limit_service: is not set" in text


def test_a_file_that_cannot_be_written(run: Run, limited: dict[str, Any], tmp_path: Path) -> None:
    text = failed(run, ActionModule, arguments={"dest": str(tmp_path / "none" / "x")}, variables=limited)
    assert "the configuration cannot be written" in text
