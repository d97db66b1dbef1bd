"""Generate what is made from the model of the spec: schemas for editors, argument specs, option docs, the reference.

    python3 tools/docs           write the files
    python3 tools/docs --check   write nothing; fail when a file is not what it would be

The sources are plugins/module_utils/_spec/model.py, the policies in plugins/module_utils/_policy/rules.py, the
documentation fragments of the host and of the secret stores, and the role's defaults.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / ".cache" / "collections")]


def main() -> int:
    from tools.docs.outputs import outputs

    parser = argparse.ArgumentParser(prog="tools/docs", description="Generate the documentation of the spec.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    check = parser.parse_args().check
    stale = 0
    for name, content in outputs(ROOT).items():
        path = ROOT / name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if before == content:
            continue
        stale += 1
        if check:
            lines = difflib.unified_diff(before.splitlines(), content.splitlines(), name, name, "is", "should be", n=1)
            print("\n".join(line.rstrip("\n") for line in lines))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            print(f"wrote {name}")
    if check and stale:
        print(f"{stale} generated file{'s are' if stale > 1 else ' is'} stale: run `make docs` and commit the result")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
