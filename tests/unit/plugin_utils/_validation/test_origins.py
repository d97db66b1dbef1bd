"""Lines of an inventory, as every ansible-core that is admitted remembers them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.manager import VariableManager

from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation.origins import where

GROUP = """\
gateway_size: small
gateway_shared:
  gateway_models:
    gpt-5:
      targets: []
    text.embedding-3:
      targets:
        - {provider: openai, model: x}
gateway_models:
  gpt-5:
    fallbacks:
      - provider: openai
        model: x
      - provider: other
gateway_workspace: staging
gateway_workspaces:
  staging:
    gateway_models:
      gpt-4.1:
        price: {input: 5}
gateway_consumers: "{{ elsewhere }}"
"""
HOST = "\ngateway_size: enormous\n"


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "hosts").write_text("[gateways]\ngw1\n")
    for folder, name, text in (("group_vars", "gateways", GROUP), ("host_vars", "gw1", HOST)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.yml").write_text(text)
    loader = DataLoader()
    inventory = InventoryManager(loader, [str(tmp_path / "hosts")])
    found: dict[str, Any] = VariableManager(loader, inventory).get_vars(
        host=inventory.get_host("gw1"), include_hostvars=False
    )
    return found


@pytest.mark.parametrize(
    ("path", "file", "line"),
    [
        ("gateway_size", "gw1.yml", 2),
        ("gateway_models.gpt-5.targets", "gateways.yml", 5),
        ("gateway_models.gpt-5.fallbacks[1].provider", "gateways.yml", 14),
        ("gateway_models.gpt-5.fallbacks[1].model", "gateways.yml", 14),
        ("gateway_models.text.embedding-3.targets[0].provider", "gateways.yml", 8),
        ("gateway_models.gpt-4.1.price.output", "gateways.yml", 20),
        ("gateway_shared.gateway_models", "gateways.yml", 3),
        ("gateway_consumers.search.models[0]", "gateways.yml", 21),
    ],
)
def test_the_line_of_a_place_or_of_what_is_around_it(
    variables: dict[str, Any], path: str, file: str, line: int
) -> None:
    found = where(path, variables)
    assert found is not None
    assert (Path(found.file).name, found.line) == (file, line)


@pytest.mark.parametrize("path", ["", "gateway_listeners", "gateway_listeners.x.port"])
def test_what_is_not_written_anywhere_has_no_place(variables: dict[str, Any], path: str) -> None:
    assert where(path, variables) is None
