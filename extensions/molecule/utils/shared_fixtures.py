"""Hosts and playbooks for the tests of every scenario; pytest loads this as a plugin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import scenario
import yaml
from hosts import Gateway, Host


@pytest.fixture
def spec() -> dict[str, Any]:
    """The variables of the gateways, to be changed."""
    loaded: dict[str, Any] = yaml.safe_load(scenario.SPEC_FILE.read_text())
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
