"""`make demo` from a bare checkout, again, after a crash, and away with it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of what Git would have of this checkout, in a directory whose name has a space."""
    copy = tmp_path_factory.mktemp("demo") / "a checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.rstrip("\0").split("\0"):
        if (ROOT / name).is_file():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target, follow_symlinks=False)
    yield copy
    make(copy, "demo-down")


def make(checkout: Path, target: str, *, timeout: float = 600) -> str:
    done = subprocess.run(
        ["make", target, f"PYTHON={sys.executable}"],
        cwd=checkout,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def value(output: str, name: str) -> str:
    found = re.findall(rf"^{name}=(\S+)$", output, re.MULTILINE)
    assert len(found) == 1, output
    return str(found[0])


def ask(output: str) -> str:
    with openai.OpenAI(
        base_url=value(output, "GATEWAY_URL"), api_key=value(output, "GATEWAY_API_KEY"), timeout=30
    ) as client:
        stream = client.chat.completions.create(
            model="gpt-5", messages=[{"role": "user", "content": "Hi"}], stream=True, extra_body={"x_chunks": 4}
        )
        return "".join(event.choices[0].delta.content or "" for event in stream if event.choices)


def memory(checkout: Path) -> Path:
    return Path(json.loads((checkout / ".cache" / "demo" / "demo.json").read_text())["memory"])


def processes(*places: Path) -> dict[int, str]:
    """The processes whose command line names one of these places."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if any(str(place) in command for place in places):
                found[int(entry.name)] = command
    return found


def test_demo(checkout: Path) -> None:
    first = make(checkout, "demo")
    assert ask(first) == "0 1 2 3"
    assert "changed=0" in first
    assert value(first, "VAULT_ADDR").startswith("http://127.0.0.1:")

    began = time.monotonic()
    second = make(checkout, "demo")
    seconds = time.monotonic() - began
    assert ask(second) == "0 1 2 3"
    for name in ("GATEWAY_URL", "GATEWAY_API_KEY", "VAULT_ADDR"):
        assert value(second, name) == value(first, name)
    assert seconds < 60, f"a second `make demo` took {seconds:.0f} s"

    places = (checkout / ".cache", memory(checkout))
    for pid in processes(*places):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(memory(checkout))
    rebooted = make(checkout, "demo")
    assert ask(rebooted) == "0 1 2 3"
    assert value(rebooted, "GATEWAY_URL") == value(first, "GATEWAY_URL")
    assert value(rebooted, "GATEWAY_API_KEY") != value(first, "GATEWAY_API_KEY")

    make(checkout, "demo-down")
    assert processes(*places) == {}
    assert [place for place in (checkout / ".cache" / "demo", places[1]) if place.exists()] == []
    make(checkout, "demo-down")


def test_secrets_stay_in_memory(checkout: Path) -> None:
    """No secret of the demo is in a file of the checkout, in an argument, or in an environment."""
    make(checkout, "demo")
    keys = memory(checkout) / "keys"
    secrets = [
        file.read_text().strip().encode() for file in keys.iterdir() if not file.name.startswith(("role", "bao-i"))
    ]
    assert len(secrets) >= 6
    for file in (checkout / ".cache" / "demo").rglob("*"):
        if file.is_file() and not file.is_symlink():
            content = file.read_bytes()
            assert not any(secret in content for secret in secrets), file
    for pid in processes(checkout / ".cache", memory(checkout)):
        for part in ("cmdline", "environ"):
            content = Path(f"/proc/{pid}/{part}").read_bytes()
            assert not any(secret in content for secret in secrets), (pid, part)
    assert {file.stat().st_mode & 0o777 for file in keys.iterdir()} == {0o600}
    make(checkout, "demo-down")


@pytest.mark.parametrize("target", ["demo", "demo-down"])
def test_old_python_is_named(checkout: Path, target: str, tmp_path: Path) -> None:
    old = next(iter(sorted(Path.home().glob(".pyenv/versions/3.9.*/bin/python3"))), None)
    if old is None:
        pytest.skip("no Python 3.9 here")
    done = subprocess.run(
        ["make", target, f"PYTHON={old}"], cwd=checkout, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "this is Python 3.9, and the demo needs 3.11 or newer" in done.stderr
    assert "Traceback" not in done.stderr
