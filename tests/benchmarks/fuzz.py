"""A million random bodies for the Lua scripts of each kind: the gateway does with them what a model in Python does.

Prints what is wrong and then lines `figure NAME VALUE UNIT`. The kinds are

json       requests, which are read, asked for their usage, renamed and renamed again, and answers, whose usage is read
form       requests as multipart/form-data, which are read and renamed
tokens     requests and answers that are charged to buckets
anthropic  requests that are translated to Anthropic's API, and answers and streams that are translated back

See tests/*_fuzz.py for what must hold. Every process has dice of its own; `--seed` throws them again.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# In place of this folder, whose secrets.py is not Python's.
sys.path[:1] = [str(ROOT / ".cache" / "collections"), str(ROOT / "tests")]

SHARE = 10000
MOST_TOLD = 20
KINDS = {
    "json": ("script_fuzz", "Fuzz"),
    "form": ("form_fuzz", "FormFuzz"),
    "tokens": ("token_fuzz", "TokenFuzz"),
    "anthropic": ("anthropic_fuzz", "AnthropicFuzz"),
}


def check(seed: int, share: int, kind: str) -> tuple[list[str], int]:
    """What is wrong with a share of the bodies, and how many of the requests were let in."""
    module, name = KINDS[kind]
    fuzz = getattr(importlib.import_module(module), name)(seed)
    wrong = [f"{kind}, seed {seed}: {why}" for why in (fuzz.one() for _turn in range(share)) if why]
    return wrong, fuzz.accepted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=1000000, help="of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=None, help="of the first share; the others follow it")
    options = parser.parse_args()
    first = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    seeds = range(first, first + -(-options.bodies // SHARE))
    share = min(SHARE, options.bodies)
    failed = False
    with multiprocessing.Pool(initializer=os.nice, initargs=(10,)) as pool:
        for kind in options.kinds:
            started = time.monotonic()
            wrong: list[str] = []
            accepted = 0
            for found, let_in in pool.imap_unordered(functools.partial(check, share=share, kind=kind), seeds):
                wrong += found
                accepted += let_in
            print(*wrong[:MOST_TOLD], sep="\n", end="\n" if wrong else "")
            print(f"figure fuzz_{kind}_bodies {len(seeds) * share} bodies")
            print(f"figure fuzz_{kind}_let_in {accepted} bodies")
            print(f"figure fuzz_{kind}_disagreements {len(wrong)} bodies")
            print(f"figure fuzz_{kind}_time {time.monotonic() - started:.0f} s", flush=True)
            failed = failed or bool(wrong)
    sys.exit(failed)


if __name__ == "__main__":
    main()
