"""How long `gatewayops.openai.validate` takes for a large inventory, as a user runs it.

Prints lines `figure NAME VALUE UNIT`: seconds from the command to its end, without and with Envoy's own validation, for
1,000 models and 1,000 consumers on one host; how that grows from a tenth of them; and what 100 hosts cost in its place.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
MODELS, CONSUMERS, HOSTS = 1000, 1000, 100
TIMES = 3


def raw_spec(models: int, consumers: int) -> dict[str, Any]:
    """A gateway of that many models, with a fallback each, and consumers, with a rule of its own for each kind."""
    rule = {"message": "is wrong", "fix": "mend it"}
    return {
        "gateway_listeners": {"local": {"address": "127.0.0.1", "port": 8080}},
        "gateway_providers": {
            "openai": {
                "type": "openai",
                "base_url": "https://api.openai.com/v1",
                "api_key": "vault://kv/openai#api_key",
            },
            "vllm": {"type": "openai_compatible", "base_url": ["https://10.0.0.5/v1", "https://10.0.0.6/v1"]},
        },
        "gateway_models": {
            f"model-{n:04d}": {
                "targets": [{"provider": "openai", "model": f"model-{n:04d}"}],
                "fallbacks": [{"provider": "vllm", "model": f"local-{n:04d}"}],
            }
            for n in range(models)
        },
        "gateway_consumers": {
            f"team-{n:05d}": {
                "api_keys": [f"vault://kv/consumers/team-{n:05d}#key"],
                "models": [f"model-{n % models:04d}"],
                "limits": {"requests_per_minute": 60 + n % 100},
            }
            for n in range(consumers)
        },
        "gateway_policy_rules": {
            "has_fallbacks": {"for": "models", "that": "model.fallbacks | length > 0", **rule},
            "has_limit": {"for": "consumers", "that": "consumer.limits.requests_per_minute is defined", **rule},
        },
    }


def seconds(folder: Path, models: int, consumers: int, hosts: int, *, envoy: bool) -> float:
    """The time of the fastest of a few runs."""
    (folder / "group_vars").mkdir(parents=True)
    (folder / "group_vars" / "gateways.yml").write_text(json.dumps(raw_spec(models, consumers)))
    (folder / "hosts.yml").write_text(
        json.dumps({"gateways": {"hosts": {f"gw{n}.invalid": None for n in range(hosts)}}})
    )
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
        "HOME": str(folder),
        "PATH": f"{BIN}:/usr/bin:/bin" if envoy else "/usr/bin:/bin",
    }
    command = [str(BIN / "ansible-playbook"), "gatewayops.openai.validate", "-i", str(folder / "hosts.yml")]
    taken = []
    for _turn in range(TIMES):
        began = time.monotonic()
        ran = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        taken.append(time.monotonic() - began)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert ("Envoy was not asked" in ran.stdout) is not envoy, ran.stdout
    return min(taken)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="gw-validate-") as name:
        folder = Path(name)
        whole = seconds(folder / "whole", MODELS, CONSUMERS, 1, envoy=False)
        asked = seconds(folder / "asked", MODELS, CONSUMERS, 1, envoy=True)
        tenth = seconds(folder / "tenth", MODELS // 10, CONSUMERS // 10, 1, envoy=True)
        many = seconds(folder / "many", MODELS, CONSUMERS, HOSTS, envoy=True)
    print(f"figure validate_seconds {whole:.2f} s")
    print(f"figure validate_envoy_seconds {asked:.2f} s")
    print(f"figure validate_growth {asked / tenth:.2f} ratio")
    print(f"figure validate_100_hosts {many / asked:.2f} ratio")


if __name__ == "__main__":
    main()
