"""Hosts and playbooks for the tests of this scenario."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scenario
import yaml
from hosts import Gateway, Host

SPEC_FILE = Path(__file__).parent.parent / "group_vars" / "gateways.yml"


@pytest.fixture
def spec() -> dict[str, Any]:
    """The variables of the gateways, to be changed."""
    loaded: dict[str, Any] = yaml.safe_load(SPEC_FILE.read_text())
    return loaded


@pytest.fixture
def gw1() -> Gateway:
    return Gateway("gw1")


@pytest.fixture
def vault1() -> Host:
    return Host("vault1")


@pytest.fixture
def site() -> Iterator[scenario.Site]:
    """The playbook `site` on gw1."""
    gw1 = scenario.Site("gw1")
    yield gw1
    gw1.restore()
