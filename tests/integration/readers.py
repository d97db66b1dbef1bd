"""Programs of others that read what this project writes; they have an environment of their own."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def readers() -> Path:
    """Where the programs are. They are installed the first time, from a lock with hashes."""
    made = subprocess.run(
        [sys.executable, "tools/env.py", "readers"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return ROOT / ".cache" / "venv-readers" / "bin"


def read_by(program: str, *arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run one of the programs, with nothing on PATH that they could take for Terraform."""
    return subprocess.run(
        [str(readers() / program), *map(str, arguments)],
        cwd=cwd,
        env={
            "PATH": str(readers()),
            "GIT_PYTHON_REFRESH": "quiet",
            "HOME": str(cwd),
            "NO_COLOR": "1",
            "LANG": "C.UTF-8",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
