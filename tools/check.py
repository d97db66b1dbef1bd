"""Run the project's checks and sum them up.

    python3 -m tools.check                all of them: what `make test` does
    python3 -m tools.check lint unit      some kinds

A failed leg never stops the others, and always fails the whole. A leg whose interpreter this machine has not is left
out, and the summary says so.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from typing import TextIO

from tools.legs import CACHE, OUTPUT, ROOT, Leg, all_legs


@dataclasses.dataclass(frozen=True)
class Outcome:
    leg: Leg
    seconds: float
    passed: int
    failed: int
    skipped: list[str]


def environment_for(leg: Leg) -> dict[str, str]:
    folder = CACHE / leg.environment.folder
    # What make tells a make below it is not for the makes that tests start.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return {
        **inherited,
        # Molecule and ansible-lint call their companions by name.
        "PATH": "%s:%s:/usr/sbin:/sbin" % (folder / "bin", os.environ["PATH"]),
        "NO_COLOR": "1",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_COLLECTIONS_PATH": str(CACHE / "collections"),
    }


def execute(command: list[str], *, leg: Leg, log: TextIO, show: bool) -> bool:
    log.write("$ %s\n" % " ".join(command))
    log.flush()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment_for(leg),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    for line in process.stdout or ():
        log.write(line)
        if show:
            print(line, end="", flush=True)
    return process.wait() == 0


def run(leg: Leg, *, show: bool) -> Outcome:
    """Run one leg: into its log and, while no other leg runs, on the screen as well."""
    print("start  %s" % leg.title, flush=True)
    began = time.monotonic()
    with leg.log.open("w") as log:
        good = execute(leg.environment.make, leg=leg, log=log, show=show)
        for command in leg.commands if good else ():
            good = execute(command, leg=leg, log=log, show=show) and good
    seconds = time.monotonic() - began
    passed, failed, skipped = count(leg, good=good)
    print("%s  %s  %.0f s" % ("FAIL " if failed else "ok   ", leg.title, seconds), flush=True)
    if failed and not show:
        print(leg.log.read_text(), flush=True)
    return Outcome(leg=leg, seconds=seconds, passed=passed, failed=failed, skipped=skipped)


def run_lane(lane: list[Leg], *, show: bool) -> list[Outcome]:
    return [run(leg, show=show) for leg in lane]


def count(leg: Leg, *, good: bool) -> tuple[int, int, list[str]]:
    """Passed, failed, reasons of the skipped. A leg without pytest is one test, and so is one that never got to it."""
    if not (leg.report and leg.report.exists()):
        return int(good), int(not good), []
    cases = ET.parse(leg.report).getroot().findall(".//testcase")  # noqa: S314 - pytest wrote it just now
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    skipped = [reason.get("message", "") for case in cases for reason in case.findall("skipped")]
    return len(cases) - failed - len(skipped), failed if good else max(failed, 1), skipped


def summarise(outcomes: list[Outcome], missing: list[Leg], *, seconds: float) -> bool:
    print("\n" + "=" * 100)
    for outcome in outcomes:
        state = "FAILED" if outcome.failed else "ok"
        counts = "%4d passed, %d failed, %d skipped" % (outcome.passed, outcome.failed, len(outcome.skipped))
        print("%-6s %6.0f s  %-50s %s" % (state, outcome.seconds, outcome.leg.title, counts))
        for reason in sorted(set(outcome.skipped)):
            print("                  skipped: %s" % reason)
    for leg in missing:
        print("ABSENT           %s: THIS MACHINE HAS NO SUCH PYTHON, SO THIS WAS NOT TESTED" % leg.title)
    print("=" * 100)
    print("All of it took %.0f s. The logs are in %s." % (seconds, OUTPUT.relative_to(ROOT)))
    failed = sum(outcome.failed for outcome in outcomes)
    passed = sum(outcome.passed for outcome in outcomes)
    print("%d passed, %d failed, %d skipped" % (passed, failed, sum(len(each.skipped) for each in outcomes)))
    return not failed


def main(kinds: list[str]) -> int:
    steps = [[[leg for leg in lane if not kinds or leg.kind in kinds] for lane in lanes] for lanes in all_legs()]
    legs = [leg for lanes in steps for lane in lanes for leg in lane]
    if unknown := set(kinds) - {leg.kind for leg in legs}:
        sys.exit("No such check: %s" % ", ".join(sorted(unknown)))
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for lanes in steps:
            busy = [[leg for leg in lane if not leg.missing] for lane in lanes]
            running = [pool.submit(run_lane, lane, show=sum(map(bool, busy)) == 1) for lane in busy]
            outcomes += [outcome for lane in running for outcome in lane.result()]
    missing = [leg for leg in legs if leg.missing]
    good = summarise(outcomes, missing, seconds=time.monotonic() - began)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
