# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper as a process, for a run that is a process of the test, with a store that only counts."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets import keeper
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache, remove_stale
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.keeper import Lease
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import Login
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.watch import Keeper, environment_of, order_of

CANARY = "canary-b3b3"
REVOKE = f"/v1/auth/token/revoke-self {CANARY}"


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """The path and the token of each request to the store; ``addr`` is where it listens."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            requests.append(f"{self.path} {self.headers['X-Vault-Token']}")
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Store.options = VaultOptions(addr=f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield requests
        server.shutdown()
        thread.join()


class Store:
    options = VaultOptions()


class Run:
    """A run that does nothing, and its keeper."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(["sleep", "60"])
        self.use(directory)

    def use(self, directory: Path) -> None:
        self.directory = directory
        self.keeper = Keeper(RunCache(directory, b"one", self.process.pid))

    def hold(self, options: VaultOptions, *leases: Lease, own: bool = True) -> None:
        self.keeper.hold(options, Login(CANARY, 600.0, False, own), leases)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def keepers(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            except OSError:
                continue
            if str(self.directory).encode() in arguments:
                found.append(int(entry.name))
        return found


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path / f"ansible-local-{'x' * 100}" / "cache")
    yield made
    made.end()
    for pid in made.keepers():
        os.kill(pid, signal.SIGKILL)


def eventually(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_process_revokes_everything_once_when_the_run_is_killed(run: Run, asked: list[str]) -> None:
    run.keeper.start()
    run.hold(Store.options)
    run.keeper.hold(Store.options, Login("another", 600.0, False, True))
    run.keeper.hold(Store.options, Login("given", None, False, False), (Lease(id="a", seconds=60.0, renewable=False),))
    assert len(run.keepers()) == 1
    time.sleep(0.2)
    assert asked == []
    run.end()
    eventually(lambda: not run.keepers())
    assert sorted(asked) == ["/v1/auth/token/revoke-self another", REVOKE, "/v1/sys/leases/revoke given"]
    assert not run.directory.exists(), "what the run could not remove"
    assert not run.directory.parent.exists()


@pytest.mark.parametrize("why", [errno.ENOSYS, errno.EPERM])
def test_it_looks_after_the_run_where_the_system_does_not_tell(
    run: Run, asked: list[str], why: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pidfd_open(pid: int) -> int:
        raise OSError(why, os.strerror(why))

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    run.hold(Store.options)
    (pid,) = run.keepers()
    time.sleep(0.2)
    assert asked == []
    assert run.keepers() == [pid]
    run.end()
    eventually(lambda: not run.keepers())
    assert asked == [REVOKE]


def test_a_token_may_live_for_years(run: Run, asked: list[str]) -> None:
    run.keeper.hold(Store.options, Login(CANARY, 1e8, True, True))
    time.sleep(0.3)
    assert len(run.keepers()) == 1
    run.end()
    eventually(lambda: not run.keepers())
    assert asked == [REVOKE]


def test_files_are_those_that_the_run_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper works in another directory."""
    monkeypatch.chdir(tmp_path)
    given = VaultOptions(ca_file="ca.pem", client_cert="run.pem", client_key="/etc/run.key")
    order = order_of(given, Login(CANARY, None, False, True))
    assert (order["verify"], order["cert"]) == (f"{tmp_path}/ca.pem", [f"{tmp_path}/run.pem", "/etc/run.key"])
    order = order_of(VaultOptions(), Login(CANARY, None, False, True))
    assert (order["verify"], order["cert"]) == (True, None)


def test_runs_in_other_containers_see_that_the_run_lives(run: Run) -> None:
    """They do not see its process, and clear away what dead runs have left in a directory that all of them use."""
    # The name of a process that is none here, as that of a process in another container.
    run.use(run.directory.parent.parent / f"ansible-local-{2**22 + 1}abcdefgh" / "gatewayops-secrets")
    later = time.time() + 7200
    run.keeper.start()
    eventually(lambda: is_held(run.directory))
    remove_stale(run.directory.parent.parent, later)
    assert run.directory.exists()
    (pid,) = run.keepers()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_held(run.directory))
    remove_stale(run.directory.parent.parent, later)
    assert not run.directory.parent.exists()


def is_held(directory: Path) -> bool:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_it_does_not_wait_for_the_process_when_the_directory_is_removed(run: Run, asked: list[str]) -> None:
    """As Ansible does some time before it ends."""
    run.hold(Store.options)
    (run.directory / "sealed").touch()
    shutil.rmtree(run.directory)
    eventually(lambda: not run.keepers(), 2)
    assert asked == [REVOKE]
    assert run.process.poll() is None


def test_what_is_handed_over_at_the_very_end_is_revoked(run: Run, asked: list[str]) -> None:
    run.keeper.start()
    (pid,) = run.keepers()
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    run.hold(Store.options)
    assert time.monotonic() - began < 3, "nobody waits for one that is busy"
    run.end()
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: not run.keepers())
    assert asked == [REVOKE]


def test_a_run_that_has_ended_gets_no_keeper(run: Run) -> None:
    run.end()
    with pytest.raises(ProcessLookupError):
        run.keeper.start()
    assert not run.directory.exists()


def test_nothing_secret_is_in_its_arguments_or_environment_and_it_dumps_no_core(
    run: Run, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", CANARY)
    monkeypatch.setenv("no_proxy", "example.com")
    run.hold(Store.options)
    (pid,) = run.keepers()
    process = Path(f"/proc/{pid}")
    assert CANARY.encode() not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    assert b"no_proxy=example.com" in (process / "environ").read_bytes()
    eventually(lambda: "Max core file size        0                    0" in (process / "limits").read_text())
    assert os.getsid(pid) != os.getsid(0)
    assert int((process / "stat").read_text().rpartition(")")[2].split()[1]) != os.getpid(), "nobody waits for it"
    assert not [file for file in run.directory.rglob("*") if file.is_file() and file.stat().st_size]


def test_it_is_told_to_end_by_a_service_manager(run: Run) -> None:
    """SIGTERM: not while the run lives, and at once after, whatever the store does."""
    run.hold(VaultOptions(addr="http://127.0.0.1:1"))
    (pid,) = run.keepers()
    eventually(lambda: catches(pid, signal.SIGTERM))
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.3)
    assert run.keepers() == [pid]
    run.end()
    eventually(lambda: not run.keepers(), 3)


def test_it_tries_for_some_time_when_the_store_does_not_answer(run: Run) -> None:
    run.hold(VaultOptions(addr="http://127.0.0.1:1"))
    run.end()
    eventually(lambda: not run.directory.exists())
    time.sleep(1)
    assert run.keepers(), "half a second after the first attempt comes the next"


def test_a_keeper_that_is_gone_is_replaced(run: Run, asked: list[str]) -> None:
    run.keeper.start()
    (pid,) = run.keepers()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not run.keepers())
    run.hold(Store.options)
    run.end()
    eventually(lambda: not run.keepers())
    assert asked == [REVOKE]


def test_one_that_cannot_be_started_is_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "__file__", "/does/not/exist.py")
    with pytest.raises(OSError, match="cannot be started"):
        run.keeper.start()


def test_a_cache_by_itself_has_none(tmp_path: Path) -> None:
    Keeper(RunCache(tmp_path / "cache", b"one")).start()
    assert not (tmp_path / "cache").exists()


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for a signal."""
    mask = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(mask, 16) & 1 << number - 1)


def test_the_environment_has_no_token_and_no_path_that_depends_on_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"PATH": "bin:/bin", "BAO_TOKEN": CANARY, "REQUESTS_CA_BUNDLE": "ca.pem", "SSL_CERT_FILE": "/ca.pem"}
    assert environment_of({**given, "CURL_CA_BUNDLE": ""}) == {
        "PATH": "bin:/bin",
        "REQUESTS_CA_BUNDLE": str(tmp_path / "ca.pem"),
        "SSL_CERT_FILE": "/ca.pem",
        "CURL_CA_BUNDLE": "",
    }
