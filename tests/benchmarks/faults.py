"""Kill the modules before and after every single system call that changes something: `make bench-faults`.

Real modules, a real supervisord, a real Envoy that answers real requests. Prints how often a run was killed, and how
often the host did not serve or was not healed by the next run, with what was wrong then. Takes an hour on two
cores. An Envoy takes a dozen of the 128 inotify instances that a user has by default, so few hosts run side by side.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# In place of this folder, whose secrets.py is not Python's.
sys.path[:1] = [str(ROOT / "tests"), str(ROOT / ".cache" / "collections")]

from contract.faults import Found, killer, sweep, sweeps  # noqa: E402
from contract.release_host import migrating_requests, site  # noqa: E402

#: Each change, and among how many its points are shared, each with a host of its own.
PARTS = {"rollback": 1, "rotate": 1, "replace": 6, "change": 12, "deploy and absent": 8}


PROCESSES = 3


def killed(name: str, part: int) -> Found:
    with site() as gateway, killer() as program:
        return sweep(gateway, program, sweeps(gateway)[name], part=(part, PARTS[name]))


def main() -> int:
    began = time.monotonic()
    kills = dict.fromkeys(PARTS, 0)
    failures: list[str] = []
    with migrating_requests(), ProcessPoolExecutor(PROCESSES) as pool:
        # The first parts of all changes first: what is wrong is seen early.
        work = sorted((part / parts, name, part) for name, parts in PARTS.items() for part in range(parts))
        running = {pool.submit(killed, name, part): name for _order, name, part in work}
        for done in as_completed(running):
            found = done.result()
            kills[running[done]] += found.kills
            failures += found.failures
            print(f"{sum(kills.values())} kills, {len(failures)} not healed", flush=True)
    for name, count in kills.items():
        print(f"figure kills_{name.replace(' ', '_')} {count} kills")
    print(f"figure kills {sum(kills.values())} kills")
    print(f"figure kills_not_healed {len(failures)} kills")
    print(f"figure kills_seconds {time.monotonic() - began:.0f} s")
    for failure in failures:
        print(f"  {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
