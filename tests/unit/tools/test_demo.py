"""The parts of the demo that decide something: whose process it is, which ports, whether a run changed anything."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tools.demo import places, processes, say, up


@contextmanager
def running(*command: str) -> Iterator[int]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # The kernel tells the parent that the program runs a moment before it tells everybody else.
        while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
            pass
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "a demo"
    directory.mkdir()
    return directory


def sleeper(directory: Path, name: str) -> str:
    script = directory / name
    script.write_text("import time\ntime.sleep(60)\n")
    return str(script)


def test_only_what_the_demo_starts_is_ours(home: Path, tmp_path: Path) -> None:
    log = home / "access.log"
    log.touch()
    script = sleeper(tmp_path, "supervisord")
    elsewhere = f"{home} too/supervisord.conf"
    with (
        running(sys.executable, script, "-c", f"{home}/supervisord.conf") as ours,
        running(sys.executable, script, "-c", elsewhere),
        running(sys.executable, sleeper(home, "editor.py"), str(log)),
        running(shutil.which("tail") or "tail", "-f", str(log)),
    ):
        (found,) = processes.running([home])
        assert (found.pid, found.program, found.supervises) == (ours, "supervisord", True)
        assert processes.end([found], patience=10) == ()
        assert processes.running([home]) == ()


def test_a_stubborn_process_is_killed_and_named(home: Path) -> None:
    script = home / "envoy"
    ready = home / "ready"
    script.write_text(
        f"import signal, time, pathlib\nsignal.signal(15, signal.SIG_IGN)\npathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)\n"
    )
    with running(sys.executable, str(script)):
        while not ready.exists():
            pass
        assert [process.program for process in processes.end(processes.running([home]), patience=0.2)] == ["envoy"]


def test_a_number_that_passed_to_another_process_is_left_alone(home: Path) -> None:
    with running(sys.executable, sleeper(home, "bao")) as pid:
        stale = processes.Process(pid=pid, program="bao", arguments=("bao", "server"))
        assert processes.end([stale], patience=0.1) == ()
        assert len(processes.running([home])) == 1


def test_ports_are_a_row_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(places, "FIRST_PORT", port - 2)
        monkeypatch.setattr(places, "LAST_PORT", port + 5000)
        chosen = places._free_ports()
        assert port not in chosen.values()
        assert sorted(chosen) == sorted(places.PORTS)
        monkeypatch.setattr(places, "LAST_PORT", port - 1)
        with pytest.raises(say.DemoError, match="too few are free"):
            places._free_ports()


def test_a_secret_file_is_private(tmp_path: Path) -> None:
    places.write_secret(tmp_path / "key", "sk-1\n")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "recap",
    [
        "local                      : ok=5    changed=0    unreachable=0    failed=0\n",
        "\x1b[0;32mlocal\x1b[0m                      : \x1b[0;32mok=5   \x1b[0m changed=0    unreachable=0\n",
    ],
)
def test_a_run_that_changed_nothing(recap: str) -> None:
    up._nothing_changed(f"PLAY RECAP ***\n{recap}")


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("local : ok=5    changed=2    unreachable=0\n", "changed 2 things on local"),
        ("a : ok=5 changed=0 unreachable=0\nb : ok=5 changed=1 unreachable=0\n", "changed 1 things on b"),
        ("nothing of the kind\n", "no recap"),
    ],
)
def test_a_run_that_changed_something_fails_the_demo(output: str, says: str) -> None:
    with pytest.raises(say.DemoError, match=says):
        up._nothing_changed(output)


def test_what_would_lead_ansible_elsewhere_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_CHECK_MODE", "1")
    monkeypatch.setenv("VAULT_ADDR", "https://vault.example.com")
    monkeypatch.setenv("BAO_TOKEN", "x")
    monkeypatch.setenv("NO_PROXY", "internal.example")
    made = say.clean_environment(ANSIBLE_HOME="/x")
    assert made["ANSIBLE_HOME"] == "/x"
    assert made["NO_PROXY"] == "internal.example,127.0.0.1,localhost"
    assert not {"ANSIBLE_CHECK_MODE", "VAULT_ADDR", "BAO_TOKEN"} & set(made)
