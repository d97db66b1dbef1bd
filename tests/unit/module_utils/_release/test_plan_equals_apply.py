"""For random pairs of specifications: what is planned without secrets is what a run with them does."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import diff_resources
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.guard import Guard
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import ReadOnlyOps

from .world import World, snapshot, spec

#: What only a run that has secrets can know.
_OF_SECRETS = ("secrets_changed", "rotated", "steps")


def a_spec(chance: random.Random) -> dict[str, Any]:
    models = chance.sample("abcdefg", chance.randint(1, 5))
    raw = spec(*models, port=chance.choice([8443, 9443]), size=chance.choice(["small", "small", "medium"]))
    for name in chance.sample(["bob", "carol", "dave"], chance.randint(0, 3)):
        raw["gateway_consumers"][name] = {
            "api_keys": [f"vault://kv/{name}#key"],
            "models": chance.choice([["*"], models[:1]]),
            "limits": {"requests_per_minute": chance.choice([10, 20])},
        }
    if chance.random() < 0.3:
        raw["gateway_models"][models[0]]["fallbacks"] = []
    if chance.random() < 0.2:
        raw["gateway_limits_scope"] = "host"
    if chance.random() < 0.3:
        raw["gateway_providers"]["p"]["api_key"] = "vault://kv/p#key"
    return raw


@pytest.mark.parametrize("seed", range(40))
def test_a_plan_is_what_a_run_does(world: World, seed: int) -> None:
    chance = random.Random(seed)
    first, second = a_spec(chance), a_spec(chance)
    world.run(world.request(first))
    planned = world.request(second, secrets=None, secrets_pending=True, guard=Guard())
    before = snapshot(world.directory)
    predicted = world.run(planned, check=True, ops=ReadOnlyOps())
    assert snapshot(world.directory) == before
    bundle = world.bundle(second)
    (content,) = (file.content for file in bundle.files if file.path == "resources.json")
    after = json.loads(content)
    served = predicted.get("resources", after)
    done = world.run(world.request(second, guard=Guard()))
    assert {name: value for name, value in predicted.items() if name not in _OF_SECRETS} == {
        name: value for name, value in done.items() if name not in _OF_SECRETS
    }
    assert predicted["digest"] == bundle.digest
    live = json.loads((world.layout.release(bundle.digest) / "resources.json").read_bytes())
    changed = {change.address: change.after for change in diff_resources(served, after)}
    kept = {address: value for address, value in served.items() if address not in changed}
    assert live == {**kept, **{address: value for address, value in changed.items() if value}}
    again = world.run(planned, check=True, ops=ReadOnlyOps())
    assert not again["changed"]
