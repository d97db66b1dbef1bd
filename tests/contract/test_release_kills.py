"""The module is killed, by the kernel, where it changes something: the host serves, the next run heals it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from contract.faults import Found, killer, sweep, sweeps
from contract.release_host import migrating_requests, site

#: (change, number, of how many), each on a host of its own -> at how many points; `make bench-faults` has all of them.
KILLS = {
    ("deploy and absent", 0, 1): 12,
    ("change", 0, 2): 10,
    ("change", 1, 2): 10,
    ("replace", 0, 1): 14,
    ("rollback", 0, 1): 8,
    ("rotate", 0, 1): 10,
}


def killed(work: tuple[str, int, int]) -> Found:
    with site() as gateway, killer() as program:
        most = 0 if os.environ.get("FAULTS_ALL") else KILLS[work]
        return sweep(gateway, program, sweeps(gateway)[work[0]], most=most, part=work[1:])


@pytest.fixture
def found() -> Iterator[list[Found]]:
    """All at the same time: they mostly wait."""
    with migrating_requests(), ThreadPoolExecutor(3) as pool:
        yield list(pool.map(killed, KILLS))


def test_killed_at_any_system_call_that_changes_something(
    found: list[Found], capsys: pytest.CaptureFixture[str]
) -> None:
    kills = sum(each.kills for each in found)
    failures = [failure for each in found for failure in each.failures]
    with capsys.disabled():
        print(f"\nfigure kills {kills} kills\nfigure kills_not_healed {len(failures)} kills")
    assert failures == []
    assert kills > 50
