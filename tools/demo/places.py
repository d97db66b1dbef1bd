"""Where the demo keeps its things, and which ports it uses."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.demo.say import DemoError

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
HOME = CACHE / "demo"
VENV = CACHE / "venv-demo"
STATE = HOME / "demo.json"
LOGS = HOME / "logs"
INVENTORY = "inventories/local"

# Below the ports that the kernel gives to outgoing connections, so that none of those can be in the way.
FIRST_PORT, LAST_PORT = 18080, 18480
PORTS = ("gateway", "metrics", "bao", "openai", "azure")


@dataclass(frozen=True)
class Places:
    """What differs between two demos. `demo.json` is this, and inventories/local reads it."""

    memory: Path  # a directory of our own on tmpfs
    ports: dict[str, int]
    checkout: Path  # ROOT, by a name without characters that a configuration file could take amiss

    @property
    def bao_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['bao']}"

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['gateway']}/v1"


def read() -> Places | None:
    """What an earlier run chose; None when there was none, or when its file cannot be used."""
    try:
        state = json.loads(STATE.read_text())
        ports = {name: int(state["ports"][name]) for name in PORTS}
        return Places(memory=Path(state["memory"]), ports=ports, checkout=Path(state["checkout"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def prepare(known: Places | None, *, held: frozenset[str]) -> Places:
    """Make the directories, and choose the ports or check those that an earlier run chose.

    held: the names of the ports that processes of this demo have already.
    """
    memory = memory_for_this_checkout()
    plain = re.fullmatch(r"[\w/.-]+", str(ROOT), re.ASCII)
    places = Places(
        memory=memory, ports=known.ports if known else _free_ports(), checkout=ROOT if plain else memory / "checkout"
    )
    for name, port in places.ports.items():
        if name not in held and not _is_free(port):
            raise DemoError(
                f"port {port}, which this demo used for {name}, is now taken by another program.\n"
                "Stop that program, or `make demo-down` and `make demo` again to choose other ports."
            )
    _own_directory(places.memory)
    for directory in (HOME, LOGS, HOME / "run"):
        directory.mkdir(parents=True, exist_ok=True)
    for directory in (places.memory / "run", places.memory / "keys"):
        directory.mkdir(mode=0o700, exist_ok=True)
    if not places.checkout.exists():
        places.checkout.symlink_to(ROOT)
    written = {"memory": str(places.memory), "checkout": str(places.checkout), "ports": places.ports}
    STATE.write_text(json.dumps(written, indent=2) + "\n")
    return places


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read, at no time otherwise."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


@contextmanager
def locked() -> Iterator[None]:
    """Refuse to run while another demo command does, in this checkout."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "demo.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoError("another `make demo` or `make demo-down` is running in this checkout.") from None
        yield


def remove(places: Places | None) -> tuple[Path, ...]:
    """Remove what the demo made, and return the directories that are gone."""
    memory = places.memory if places else memory_for_this_checkout()
    found = tuple(directory for directory in (HOME, memory) if directory.is_dir())
    for directory in found:
        shutil.rmtree(directory)
    return found


def memory_for_this_checkout() -> Path:
    """A path for the secrets on tmpfs. Short, since it also holds sockets, whose paths are limited to 107 bytes."""
    name = f"gateway-demo-{os.getuid()}-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"
    for candidate in ("/dev/shm", os.environ.get("XDG_RUNTIME_DIR", "")):  # noqa: S108 - ours is made there with care
        if candidate and _filesystem(candidate) == "tmpfs" and os.access(candidate, os.W_OK):
            return Path(candidate) / name
    raise DemoError("there is no tmpfs to keep secrets in: neither /dev/shm nor $XDG_RUNTIME_DIR is a writable one.")


def _filesystem(directory: str) -> str:
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    kinds = {fields[1]: fields[2] for fields in (mount.split() for mount in mounts)}
    return kinds.get(directory, "")


def _own_directory(path: Path) -> None:
    """Make a directory in a place where everybody can: so see that it is really ours."""
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise DemoError(f"{path} is in the way: it is no directory of yours.")
    path.chmod(0o700)


def _free_ports() -> dict[str, int]:
    """The first row of ports that are all free: a demo that is only half up still has its row for itself."""
    for first in range(FIRST_PORT, LAST_PORT, 10):
        row = {name: first + number for number, name in enumerate(PORTS)}
        if all(_is_free(port) for port in row.values()):
            return row
    raise DemoError(f"of the ports {FIRST_PORT} to {LAST_PORT} on 127.0.0.1 too few are free.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do, so that connections which are only waiting to be forgotten do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
