"""What a Rego policy says of a plan: rego.py POLICY PLAN prints the messages of `deny` as JSON.

Run by the interpreter of the programs that read plans, which has regopy.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path


def denied(policy: str, plan: object) -> list[str]:
    from regopy import Interpreter

    rego = Interpreter()
    fault = rego.add_module("main", policy)
    assert fault is None, fault
    rego.set_input(plan)
    # regopy does not escape the quotes that are in an address.
    found = json.loads(str(rego.query("found = [base64.encode(message) | data.main.deny[message]]")))
    return sorted(base64.b64decode(each).decode() for each in found["bindings"]["found"])


if __name__ == "__main__":
    policy, plan = (Path(argument).read_text(encoding="utf-8") for argument in sys.argv[1:])
    print(json.dumps(denied(policy, json.loads(plan))))
