from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.gatewayops.openai.plugins.action.gateway_key import ActionModule
from ansible_collections.gatewayops.openai.plugins.modules import gateway_key

from .conftest import Run, failed

PATH = "kv/consumers/search"
NOWHERE = {"path": PATH, "vault_addr": "http://127.0.0.1:1", "vault_token": "canary"}


def refusal(run: Run, **options: Any) -> str:
    """What is said before the store is asked, which would be refused."""
    text = failed(run, ActionModule, arguments={**NOWHERE, **options})
    assert "canary" not in text
    return text


def test_right_options_go_to_the_store(run: Run) -> None:
    refused = f"{PATH}: Vault at http://127.0.0.1:1 cannot be reached: Connection refused"
    assert refusal(run) == refused
    assert refusal(run, state="rotated", grace="0s", force=True) == refused
    assert refusal(run, max_age="90d", grace=60, prefix="", bytes=16, wrap_ttl="1h") == refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": None}, "missing required arguments: path"),
        *(
            ({"path": path}, "path must be MOUNT/PATH of a secret, such as kv/consumers/search")
            for path in ("", "kv", "/kv/a", "kv/a/", "kv//a", "kv/../a", "kv/a#b", "kv/a?version=1", "kv/a b", "kv/a\n")
        ),
        ({"state": "gone"}, "value of state must be one of: present, rotated, absent, got: gone"),
        *(
            ({"grace": grace}, "grace must be a time such as 24h, 90d, 30m or 20s, of 0 seconds or more")
            for grace in ("soon", "-1s", "1.5h", "1h30m", "", " 1h", "1w", "1e3", "4000d", "٣h")
        ),
        ({"max_age": "0s", "grace": "0s"}, "max_age must be a time such as 24h, 90d, 30m or 20s, of 1 seconds or more"),
        ({"max_age": "24h"}, "max_age must be longer than grace"),
        ({"wrap_ttl": "0"}, "wrap_ttl must be a time such as"),
        ({"wrap_ttl": "1h", "state": "absent"}, "wrap_ttl: with state=absent there is no key to wrap"),
        ({"prefix": "a b"}, "prefix must be printable ASCII"),
        ({"prefix": "ü"}, "prefix must be printable ASCII"),
        ({"bytes": 15}, "bytes must be from 16 to 512"),
        ({"bytes": 513}, "bytes must be from 16 to 512"),
        ({"vault_adr": "x"}, "vault_adr. Supported parameters include: "),
    ],
)
def test_wrong_options_are_told_before_the_store_is_asked(run: Run, options: dict[str, Any], message: str) -> None:
    given = {name: value for name, value in {**NOWHERE, **options}.items() if value is not None}
    assert failed(run, ActionModule, arguments=given).startswith(message)


def test_all_that_is_wrong_is_told_at_once(run: Run) -> None:
    lines = refusal(run, path="kv", grace="x", prefix=" ", bytes=1).splitlines()
    assert [line.split()[0] for line in lines] == ["grace", "prefix", "bytes", "path"]


def test_options_that_the_task_does_not_give_are_variables(run: Run) -> None:
    variables = {"gateway_key_max_age": "1h", "gateway_key_grace": "2h"}
    text = failed(run, ActionModule, arguments=NOWHERE, variables=variables)
    assert text.startswith("max_age must be longer than grace")


def test_the_documentation_says_what_the_action_takes() -> None:

    documented = yaml.safe_load(gateway_key.DOCUMENTATION)["options"]
    for name, option in ActionModule.OPTIONS.items():
        for key in ("type", "default", "choices", "required"):
            assert documented[name].get(key) == option.get(key), (name, key)
    assert set(documented) == set(ActionModule.OPTIONS)
