"""What a large spec costs: parse, policies, compile and the difference to the release before, in CPU seconds.

Prints lines `figure NAME VALUE UNIT`. The gateway has 1,000 models and 10,000 consumers; a tenth of it shows how the
cost grows. Each consumer has a key and a limit of its own, and one of 50 choices of models.
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# In place of this directory, whose secrets.py is not the one that others import.
sys.path[0] = str(ROOT / ".cache" / "collections")

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle import build_bundle  # noqa: E402
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options  # noqa: E402
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import diff_resources  # noqa: E402
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.check import check_policies  # noqa: E402
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec  # noqa: E402
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import spec_resources  # noqa: E402

MODELS, CONSUMERS, CHOICES = 1000, 10000, 50
TIMES = 3


def raw_spec(models: int, consumers: int) -> dict[str, Any]:
    """A gateway of that many models, with a fallback each, and consumers."""
    providers = {
        "openai": {"type": "openai", "base_url": "https://api.openai.com/v1", "api_key": "vault://kv/openai#api_key"},
        "vllm": {"type": "openai_compatible", "base_url": ["http://10.0.0.5:8000/v1", "http://10.0.0.6:8000/v1"]},
    }
    return {
        "gateway_listeners": {"local": {"address": "127.0.0.1", "port": 8080}},
        "gateway_providers": providers,
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
                "models": [f"model-*{n % CHOICES:02d}", f"model-{n % CHOICES:04d}"],
                "limits": {"requests_per_minute": 60 + n % 100},
            }
            for n in range(consumers)
        },
    }


def work(models: int, consumers: int) -> float:
    """The CPU seconds from variables to a bundle and the difference to the one before."""
    raw, changed = raw_spec(models, consumers), raw_spec(models, consumers)
    changed["gateway_consumers"]["team-00007"]["limits"]["requests_per_minute"] = 1
    host = host_from_options({"envoy": "/opt/envoy/envoy", "fleet_size": 3})
    before = spec_resources(parse_spec(raw))
    gc.collect()
    started = time.process_time()
    spec = parse_spec(changed)
    findings = check_policies(spec)
    bundle = build_bundle(spec, host)
    changes = diff_resources(before, spec_resources(spec))
    seconds = time.process_time() - started
    assert not [finding for finding in findings if finding.severity == "deny"]
    assert len(changes) == 1
    assert len(bundle.secrets) == 2
    return seconds


def main() -> None:
    whole = min(work(MODELS, CONSUMERS) for _turn in range(TIMES))
    tenth = min(work(MODELS // 10, CONSUMERS // 10) for _turn in range(TIMES))
    print(f"figure compile_cpu {whole:.3f} s")
    print(f"figure compile_growth {whole / tenth:.2f} ratio")


if __name__ == "__main__":
    main()
