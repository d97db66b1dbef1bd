"""A gateway under supervisor with a real Envoy, to which bad things happen: killed runs and programs, a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from contract.release_host import Load, Site, migrating_requests, site

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import encode_files
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_to_options
from ansible_collections.gatewayops.openai.plugins.module_utils._release.plan import Request
from ansible_collections.gatewayops.openai.plugins.module_utils._release.run import run

COLLECTIONS = Path(__file__).resolve().parents[2] / ".cache" / "collections"
#: One run in a process of its own: options, bundle and secrets on standard input.
PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import decode_files
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._release.plan import Request
from ansible_collections.gatewayops.openai.plugins.module_utils._release.run import run
given = json.loads(sys.stdin.readline())
print("ready", flush=True)
sys.stdin.readline()
request = Request(files=decode_files(given["bundle"]), secrets=given["secrets"], prune_wait=2.0)
run(host_from_options(given["host"]), "active", request, check=False)
"""


@pytest.fixture
def gateway() -> Iterator[Site]:
    with site() as made, migrating_requests():
        yield made


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)


def serves(gateway: Site, model: str = "a") -> bool:
    try:
        return gateway.ask(model) == 200
    except OSError:
        return False


def killed_after(gateway: Site, request: Request, seconds: float) -> int:
    """Run in another process that is killed after some time; its exit status."""
    given = {
        "host": host_to_options(gateway.host),
        "bundle": encode_files(request.files or ()),
        "secrets": request.secrets,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(COLLECTIONS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    with process.stdin, process.stdout:
        process.stdin.write(json.dumps(given) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(seconds)
        process.kill()
    return process.wait()


def test_killed_runs_lose_no_request_and_the_next_one_ends_well(gateway: Site) -> None:
    old, new = gateway.spec("a", "b"), gateway.spec("a", "c")
    gateway.apply(old)
    with Load(gateway, "a") as load:
        for number in range(12):
            killed_after(gateway, gateway.request(new), 0.02 + number * 0.06)
            goal = (old, new)[number % 2]
            gateway.apply(goal)
            assert not gateway.apply(goal)["changed"]
            assert gateway.leftovers() == []
            gateway.apply(old)
    assert load.failures == []
    assert load.answered > 500


def test_killed_swaps_lose_no_request_and_the_next_one_ends_well(gateway: Site) -> None:
    old, new = gateway.spec("a", "b"), gateway.spec("a", "c", gateway_size="medium")
    gateway.apply(old)
    with Load(gateway, "a") as load:
        for seconds in (0.1, 0.25, 0.4, 0.55):
            killed_after(gateway, gateway.request(new), seconds)
            gateway.apply(new)
            assert not gateway.apply(new)["changed"]
            assert gateway.leftovers() == []
            old, new = new, old
    assert load.failures == []


def test_killed_envoy_comes_back(gateway: Site) -> None:
    gateway.apply(gateway.spec("a"))
    before = gateway.process()
    os.kill(gateway.envoy_pid("blue"), signal.SIGKILL)
    until(lambda: serves(gateway) and gateway.process() != before)
    assert not gateway.apply(gateway.spec("a"))["changed"]


def test_killed_supervisord_is_started_by_the_next_run(gateway: Site) -> None:
    gateway.apply(gateway.spec("a"))
    pid = gateway.envoy_pid("blue")
    gateway.kill_supervisord()
    until(lambda: not Path(f"/proc/{pid}").exists(), 30)  # it is told to end, and drained
    result = gateway.apply(gateway.spec("a"))
    assert (result["changed"], result["process"]) == (True, "start")
    assert serves(gateway)
    assert not gateway.apply(gateway.spec("a"))["changed"]


def test_first_start_that_fails_and_then_one_that_does_not(gateway: Site) -> None:
    request = gateway.request(gateway.spec("a"))
    given = request.secrets or {}
    bad = Request(
        files=request.files,
        secrets={name: text if name == "consumers.json" else '{"resources": [{}]}' for name, text in given.items()},
    )
    with pytest.raises(ReleaseError, match="nothing serves"):
        run(gateway.host, "active", bad, check=False)
    assert gateway.info()["active"] == ""
    assert gateway.apply(gateway.spec("a"))["process"] == "start"
    assert serves(gateway)


def test_absent(gateway: Site) -> None:
    gateway.apply(gateway.spec("a"))
    pid = gateway.envoy_pid("blue")
    assert run(gateway.host, "absent", Request(), check=True)["changed"]
    assert serves(gateway)
    run(gateway.host, "absent", Request(), check=False)
    assert not Path(f"/proc/{pid}").exists()
    assert list(gateway.folder.iterdir()) == []
    assert not Path(gateway.host.secrets_dir).exists()
    assert not run(gateway.host, "absent", Request(), check=False)["changed"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_full_disk(gateway: Site) -> None:
    config = Path(gateway.host.config_dir)
    config.mkdir(0o750)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=768k,mode=0750", "tmpfs", str(config)], check=False)
    if mounted.returncode:
        pytest.skip("may not mount")
    try:
        gateway.apply(gateway.spec("a"))
        before = gateway.active
        filler = config / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        with Load(gateway, "a") as load, pytest.raises(ReleaseError) as error:
            gateway.apply(gateway.spec("a", "b"))
        assert "no space left to write" in str(error.value)
        assert f"0 kB free in {config}" in str(error.value)
        assert "nothing was switched, what was staged is removed" in str(error.value)
        assert load.failures == []
        assert gateway.active == before
        assert gateway.leftovers() == ["filler"]
        filler.unlink()
        assert gateway.apply(gateway.spec("a", "b"))["changed"]
    finally:
        gateway.kill()
        time.sleep(0.5)
        subprocess.run(["umount", "-l", str(config)], check=True)
