"""Run a module of the collection in a process of its own, and stop it at a system call that changes something.

A program: `killer.py COLLECTIONS_PATH`. It reads one order a line, JSON, and answers each with one line:

    {"module": NAME, "arguments": {...}}     run it; the answer has the points that it passed, and what it printed
    …, "at": N, "side": "before"             kill it (SIGKILL) as it enters point N: the call is not made
    …, "at": N, "side": "after"              kill it as it returns from point N
    …, "pause": true                         hold it there instead, say so, and let it go on at the next line

A point is a system call that changes something: files, directories, links, locks, signals, new processes, and requests
to supervisord other than questions. They are seen with ptrace(2), so that neither the code nor Python's own libraries
can forget one. The kernel aborts a call at whose entry the process is killed. Children are not traced and live on, as
they do when the process that runs on a host is killed. Runs on x86_64 and aarch64, Linux 5.3 or newer.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import signal
import stat
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Optional

_TRACEME, _SYSCALL, _SETOPTIONS, _SYSCALL_INFO = 0, 24, 0x4200, 0x420E
#: PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL, from ptrace(2).
_OPTIONS = 1 | 0x100000
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_ENTRY = 1

#: Numbers of system calls, from the kernel's tables.
_TABLES = {
    "x86_64": """
        write=1 open=2 pwrite64=18 writev=20 sendto=44 sendmsg=46 clone=56 fork=57 vfork=58 kill=62 flock=73
        fsync=74 fdatasync=75 truncate=76 ftruncate=77 rename=82 mkdir=83 rmdir=84 creat=85 link=86
        unlink=87 symlink=88 chmod=90 fchmod=91 chown=92 fchown=93 lchown=94 tgkill=234 openat=257
        mkdirat=258 fchownat=260 unlinkat=263 renameat=264 linkat=265 symlinkat=266 fchmodat=268
        utimensat=280 renameat2=316 clone3=435
    """,
    "aarch64": """
        flock=32 mkdirat=34 unlinkat=35 symlinkat=36 linkat=37 renameat=38 truncate=45 ftruncate=46
        fchmod=52 fchmodat=53 fchownat=54 fchown=55 openat=56 write=64 writev=66 pwrite64=68 fsync=82
        fdatasync=83 utimensat=88 kill=129 tgkill=131 sendto=206 sendmsg=211 clone=220 renameat2=276
        clone3=435
    """,
}
_CALLS = {
    int(number): call for call, number in (each.split("=") for each in _TABLES.get(os.uname().machine, "").split())
}
#: Which argument is the path, and which the flags.
_PATHS = {"open": 0, "creat": 0, "truncate": 0, "rename": 1, "mkdir": 0, "rmdir": 0, "unlink": 0, "symlink": 1}
_PATHS.update({"link": 1, "chmod": 0, "chown": 0, "lchown": 0, "openat": 1, "mkdirat": 1, "unlinkat": 1, "renameat": 3})
_PATHS.update({"renameat2": 3, "symlinkat": 2, "linkat": 3, "fchmodat": 1, "fchownat": 1, "utimensat": 1})
_FILES = ("write", "pwrite64", "writev", "ftruncate", "fsync", "fdatasync", "flock", "fchmod", "fchown")
_SENDS = ("sendto", "sendmsg")
_FORKS = ("clone", "fork", "vfork", "clone3")
_OPENS = {"open": 1, "openat": 2}
#: What changes something of what supervisord is asked.
_REQUESTS = re.compile(rb"supervisor\.(start|stop|signal|add|remove|reload|shutdown)\w*")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class Order(NamedTuple):
    """What to run, and where to stop it."""

    module: str
    arguments: dict[str, Any]
    at: Optional[int] = None  # noqa: UP045 - evaluated on Python 3.9
    side: str = "before"
    pause: bool = False


def run(order: Order) -> Iterator[dict[str, Any]]:
    """Run it; what there is to say: of a process that is held, and in the end."""
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if not child:
            _module(order, output.fileno())
        os.waitpid(child, 0)
        _ptrace(_SETOPTIONS, child, _OPTIONS)
        points: list[str] = []
        for point, side in _points(child):
            if side == "before":
                points.append(point)
            if order.at == len(points) - 1 and side == order.side:
                if order.pause:
                    yield {"paused": point}
                else:
                    os.kill(child, signal.SIGKILL)
        # Told by _points: the process is gone.
        output.seek(0)
        text = output.read().decode()
    killed = order.at is not None and order.at < len(points) and not order.pause
    yield {"points": points, "killed": points[-1] if killed else "", "answer": json.loads(text) if text else {}}


def _points(child: int) -> Iterator[tuple[str, str]]:
    """Each point with its side, the process being stopped there; until it ends."""
    point: str | None = None
    forward = 0
    while True:
        with suppress(ProcessLookupError):  # it was killed meanwhile
            _ptrace(_SYSCALL, child, forward)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSTOPPED(status):
            return
        forward = os.WSTOPSIG(status)
        if forward != _SYSCALL_STOP:
            continue
        forward = 0
        call, number, arguments = _info(child)
        if call == _ENTRY:
            point = _point(child, _CALLS.get(number, ""), arguments)
            if point:
                yield point, "before"
        elif point:
            yield point, "after"
            point = None


def _info(child: int) -> tuple[int, int, tuple[int, ...]]:
    buffer = ctypes.create_string_buffer(96)
    _ptrace(_SYSCALL_INFO, child, len(buffer), ctypes.addressof(buffer))
    entry = struct.unpack_from("=B3xIQQ7Q", buffer)
    return entry[0], entry[4], entry[5:]


def _point(child: int, call: str, arguments: tuple[int, ...]) -> str:
    """What a system call changes, '' when it changes nothing."""
    if not call:
        return ""
    if call in _FORKS:
        # A thread is no process.
        return "" if call == "clone" and arguments[0] & 0x10000 else "fork"
    if call in ("kill", "tgkill"):
        return call if arguments[0] != child else ""
    if call in _SENDS:
        found = _REQUESTS.search(_bytes(child, arguments[1], min(arguments[2], 4096)))
        return f"request {found.group().decode()}" if found else ""
    if call in _FILES:
        path = _descriptor(child, arguments[0])
        return f"{call} {path}" if _is_file(child, arguments[0], path) else ""
    flags = arguments[_OPENS[call]] if call in _OPENS else os.O_CREAT
    return f"{call} {_text(child, arguments[_PATHS[call]])}" if flags & (os.O_CREAT | os.O_TRUNC) else ""


def _is_file(child: int, number: int, path: str) -> bool:
    try:
        kind = Path(f"/proc/{child}/fd/{number}").stat().st_mode
    except OSError:
        return False
    return (stat.S_ISREG(kind) or stat.S_ISDIR(kind)) and not path.startswith(("/memfd:", "/tmp/#", "/proc/"))


def _descriptor(child: int, number: int) -> str:
    try:
        return str(Path(f"/proc/{child}/fd/{number}").readlink())
    except OSError:
        return ""


def _bytes(child: int, address: int, length: int) -> bytes:
    try:
        with Path(f"/proc/{child}/mem").open("rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(length)
    except (OSError, OverflowError, ValueError):
        return b""


def _text(child: int, address: int) -> str:
    # Not over the end of a page: the next one may not be there.
    length = 4096 - address % 4096
    found = _bytes(child, address, length)
    if b"\0" not in found:
        found += _bytes(child, address + length, 4096)
    return found.partition(b"\0")[0].decode(errors="replace")


def _module(order: Order, output: int) -> None:
    """Become the module, as Ansible's wrapper does it; does not return."""
    status = 1
    try:
        basic = importlib.import_module("ansible.module_utils.basic")
        main = importlib.import_module(f"ansible_collections.gatewayops.openai.plugins.modules.{order.module}").main
        nothing = os.open(os.devnull, os.O_RDWR)
        for number, target in ((0, nothing), (1, output)):
            os.dup2(target, number)
        vars(basic)["_ANSIBLE_ARGS"] = json.dumps({"ANSIBLE_MODULE_ARGS": order.arguments}).encode()
        vars(basic)["_ANSIBLE_PROFILE"] = "legacy"
        _ptrace(_TRACEME, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        main()
    except SystemExit as error:
        status = int(error.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(status)


def _ptrace(request: int, child: int, address: int = 0, data: int = 0) -> None:
    # SETOPTIONS and SYSCALL have what they take in `data`.
    if request in (_SETOPTIONS, _SYSCALL):
        address, data = 0, address
    if _libc.ptrace(request, child, address, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace {request}: {os.strerror(number)}")


def main() -> None:
    """Carry out orders until there are no more."""
    sys.path.insert(0, sys.argv[1])
    for name in (
        "ansible.module_utils.basic",
        *(f"{_MODULES}.{each}" for each in ("gateway_release", "gateway_secrets")),
    ):
        importlib.import_module(name)
    for line in sys.stdin:
        for answer in run(Order(**json.loads(line))):
            print(json.dumps(answer), flush=True)
            if "paused" in answer:
                sys.stdin.readline()


_MODULES = "ansible_collections.gatewayops.openai.plugins.modules"

if __name__ == "__main__":
    main()
