"""A million random bodies for the Lua scripts: what the gateway decides about is what providers' parsers read.

Prints what is wrong and then lines `figure NAME VALUE UNIT`. A body is a request, which is read, asked for its usage,
renamed and renamed again, or an answer, whose usage is read; see tests/script_fuzz.py for what must hold. Every process
has dice of its own; `--seed` throws them again.
"""

from __future__ import annotations

import argparse
import functools
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


def check(seed: int, share: int) -> tuple[list[str], int]:
    """What is wrong with a share of the bodies, and how many of the requests were let in."""
    from script_fuzz import Fuzz

    fuzz = Fuzz(seed)
    wrong = [f"seed {seed}: {why}" for why in (fuzz.one() for _turn in range(share)) if why]
    return wrong, fuzz.accepted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=1000000)
    parser.add_argument("--seed", type=int, default=None, help="of the first share; the others follow it")
    options = parser.parse_args()
    first = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    seeds = range(first, first + -(-options.bodies // SHARE))
    share = functools.partial(check, share=min(SHARE, options.bodies))
    started = time.monotonic()
    wrong: list[str] = []
    accepted = 0
    with multiprocessing.Pool(initializer=os.nice, initargs=(10,)) as pool:
        for found, let_in in pool.imap_unordered(share, seeds):
            wrong += found
            accepted += let_in
    print(*wrong[:MOST_TOLD], sep="\n")
    print(f"figure bodies {len(seeds) * share.keywords['share']} bodies")
    print(f"figure let_in {accepted} bodies")
    print(f"figure disagreements {len(wrong)} bodies")
    print(f"figure fuzz_time {time.monotonic() - started:.0f} s")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
