"""Run the project's checks and sum them up.

    python3 -m tools.check                all of them: what `make test` does
    python3 -m tools.check lint unit      some kinds

A failed leg never stops the others, and always fails the whole. A leg whose interpreter this machine has not is left
out, and the summary says so.
"""

from __future__ import annotations

import dataclasses
import os
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
    failed: list[str]
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


def execute(command: list[str], *, leg: Leg, log: TextIO) -> bool:
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
        print(line, end="", flush=True)
    return process.wait() == 0


def run(leg: Leg) -> Outcome:
    """Run one leg, on the screen and into its log."""
    print("\n=== %s" % leg.title, flush=True)
    began = time.monotonic()
    if leg.report:
        leg.report.unlink(missing_ok=True)  # an older one would speak for a pytest that never started
    with leg.log.open("w") as log:
        good = execute(leg.environment.make, leg=leg, log=log)
        for command in leg.commands if good else ():
            good = execute(command, leg=leg, log=log) and good
    seconds = time.monotonic() - began
    if not (leg.report and leg.report.exists()):  # without pytest, or never got to it: the leg is one test
        return Outcome(leg=leg, seconds=seconds, passed=int(good), failed=[] if good else [leg.log.name], skipped=[])
    cases = ET.parse(leg.report).getroot().findall(".//testcase")  # noqa: S314 - pytest wrote it just now
    failed = ["%s::%s" % (case.get("classname"), case.get("name")) for case in cases if broken(case)]
    # Of a file that is skipped as a whole only the text says why.
    skipped = ["%s %s" % (each.get("message"), each.text) for case in cases for each in case.findall("skipped")]
    passed = len(cases) - len(failed) - len(skipped)
    if not (good or failed):
        failed.append(leg.log.name)
    return Outcome(leg=leg, seconds=seconds, passed=passed, failed=failed, skipped=skipped)


def broken(case: ET.Element) -> bool:
    return case.find("failure") is not None or case.find("error") is not None


def summarise(outcomes: list[Outcome], missing: list[Leg], *, seconds: float) -> bool:
    print("\n" + "=" * 100)
    for outcome in outcomes:
        state = "FAILED" if outcome.failed else "ok"
        counts = "%4d passed, %d failed, %d skipped" % (outcome.passed, len(outcome.failed), len(outcome.skipped))
        print("%-6s %6.0f s  %-50s %s" % (state, outcome.seconds, outcome.leg.title, counts))
        for name in outcome.failed:
            print("                  failed: %s" % name)
        for reason in sorted(set(outcome.skipped)):
            print("                  skipped: %s" % reason)
    for leg in missing:
        print("ABSENT           %s: THIS MACHINE HAS NO SUCH PYTHON, SO THIS WAS NOT TESTED" % leg.title)
    print("=" * 100)
    print("All of it took %.0f s. The logs are in %s." % (seconds, OUTPUT.relative_to(ROOT)))
    passed = sum(outcome.passed for outcome in outcomes)
    failed = sum(len(outcome.failed) for outcome in outcomes)
    skipped = sum(len(outcome.skipped) for outcome in outcomes)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return not failed


def main(kinds: list[str]) -> int:
    legs = [leg for leg in all_legs() if not kinds or leg.kind in kinds]
    if unknown := set(kinds) - {leg.kind for leg in legs}:
        sys.exit("No such check: %s" % ", ".join(sorted(unknown)))
    OUTPUT.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    outcomes = [run(leg) for leg in legs if not leg.missing]
    missing = [leg for leg in legs if leg.missing]
    good = summarise(outcomes, missing, seconds=time.monotonic() - began)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
