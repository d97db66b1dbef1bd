from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "examples" / "environment-of-branch.sh"


def answer(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("branch", "environment"),
    [
        ("main", "production"),
        ("staging", "staging"),
        ("release/1.2", "staging"),
        ("add-a-model", "dev"),
        ("mainly", "dev"),
        ("release", "dev"),
    ],
)
def test_a_branch_has_an_environment_that_exists(branch: str, environment: str) -> None:
    assert answer(branch).stdout == f"{environment}\n"
    assert (SCRIPT.parents[1] / "inventories" / environment).is_dir()


@pytest.mark.parametrize("arguments", [[], [""]])
def test_without_a_branch_there_is_none(arguments: list[str]) -> None:
    done = answer(*arguments)
    assert done.returncode
    assert (done.stdout, "which branch?" in done.stderr) == ("", True)
