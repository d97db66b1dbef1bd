# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the addresses that a release listens on can be had, told before anything is switched.

Envoy shares its ports between its two processes (SO_REUSEPORT), so an address that one of our own processes holds is
free. The kernel is asked by binding, as nothing else knows all its rules; who holds an address is read from /proc.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

#: An address, a port and `tcp` or `udp`.
Place = tuple[str, int, str]

#: The states of a socket that others can send to (include/net/tcp_states.h): for UDP it is one that is not connected.
_WAITING = {"tcp": "0A", "udp": "07"}
_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@dataclass(frozen=True)
class Socket:
    """A socket that listens, as /proc/net/tcp or udp shows it."""

    address: IPv4Address | IPv6Address
    port: int
    inode: int
    uid: int


def addresses(files: Mapping[str, bytes]) -> tuple[Place, ...]:
    """The addresses that the listeners in the files of a release bind, each once (pure)."""
    found = set()
    for listener in json.loads(files["envoy/lds.json"])["resources"]:
        found.update(_bound(listener))
    for path, content in files.items():
        if path.startswith("envoy/bootstrap-"):
            for listener in json.loads(content).get("static_resources", {}).get("listeners", []):
                found.update(_bound(listener))
    return tuple(sorted(found))


def conflicts(wanted: Iterable[Place], ours: Iterable[int], proc: Path = Path("/proc")) -> tuple[str, ...]:
    """Why addresses cannot be bound, one sentence for each. `ours` are processes that share theirs."""
    family = _with_descendants(frozenset(ours), proc)
    users = _users(family, proc)
    sentences = []
    for address, port, kind in wanted:
        number = _bind(address, port, kind)
        if not number:
            continue
        where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        where += "/udp" if kind == "udp" else ""
        if number == errno.EADDRINUSE:
            holders = [
                (*_holder(item.inode, proc), item.uid)
                for item in _listening(proc, kind)
                if _overlaps(item, address, port)
            ]
            # In a container even root may not see what a process of another user has open: then its user has to do.
            foreign = [(pid, name) for pid, name, uid in holders if pid not in family and (pid or uid not in users)]
            if holders and not foreign:
                continue
            who = ", ".join(sorted({f"{pid}/{name}" if pid else name for pid, name in foreign}))
            sentences.append(f"{where} is in use by {who or 'a process that does not listen yet'}")
        elif number == errno.EACCES:
            sentences.append(f"{where} may not be bound by this user: ports below 1024 need root")
        elif number == errno.EADDRNOTAVAIL:
            sentences.append(f"{where} is no address of this host")
        else:
            sentences.append(f"{where} cannot be bound: {os.strerror(number)}")
    return tuple(sentences)


def parse_proc(text: str, kind: str = "tcp") -> tuple[Socket, ...]:
    """The listening sockets in /proc/net/tcp or tcp6, udp or udp6 (pure), see proc_net(5)."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _WAITING[kind]:
            address, port = fields[1].split(":")
            found.append(Socket(_address(address), int(port, 16), int(fields[9]), int(fields[7])))
    return tuple(found)


def _bound(listener: Mapping[str, Any]) -> set[Place]:
    places = [listener.get("address"), *(extra.get("address") for extra in listener.get("additional_addresses", []))]
    sockets = [place["socket_address"] for place in places if isinstance(place, dict) and "socket_address" in place]
    return {(str(each["address"]), int(each["port_value"]), each.get("protocol", "TCP").lower()) for each in sockets}


def _bind(address: str, port: int, kind: str) -> int:
    """Bind for a moment, without listening; 0 or the number of the error."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, _TYPES[kind]) as probe:
        # Of TCP: addresses of connections that have just ended are free. Of UDP it would share the port with others.
        if kind == "tcp":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.errno or errno.EINVAL
    return 0


def _listening(proc: Path, kind: str) -> tuple[Socket, ...]:
    found: tuple[Socket, ...] = ()
    for name in (f"net/{kind}", f"net/{kind}6"):
        with suppress(OSError):
            found += parse_proc((proc / name).read_text(encoding="ascii"), kind)
    return found


def _overlaps(item: Socket, address: str, port: int) -> bool:
    wanted = ip_address(address)
    if item.port != port:
        return False
    if item.address.version != wanted.version:
        # A socket at [::] usually takes IPv4 connections as well.
        return item.address.version == 6 and item.address.is_unspecified
    return item.address == wanted or item.address.is_unspecified or wanted.is_unspecified


def _address(text: str) -> IPv4Address | IPv6Address:
    """Words of 32 bits, each in the byte order of the machine (little on all that Envoy is built for)."""
    raw = bytes.fromhex(text)
    words = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    if len(words) == 4:
        return IPv4Address(words)
    found = IPv6Address(words)
    return found.ipv4_mapped or found


def _holder(inode: int, proc: Path) -> tuple[int, str]:
    """The process that has a socket open: (pid, name); (0, …) when it cannot be told."""
    wanted = f"socket:[{inode}]"
    for process in _processes(proc):
        with suppress(OSError):
            for handle in (process / "fd").iterdir():
                with suppress(OSError):
                    if str(handle.readlink()) == wanted:
                        return int(process.name), (process / "comm").read_text(errors="replace").strip()
    return 0, "a process of another user"


def _users(pids: Iterable[int], proc: Path) -> frozenset[int]:
    found = set()
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):
            # Not the owner of the directory, which is root when the process may not be traced.
            status = (proc / str(pid) / "status").read_text(errors="replace")
            found.add(int(status.partition("\nUid:")[2].split()[0]))
    return frozenset(found)


def _with_descendants(pids: frozenset[int], proc: Path) -> frozenset[int]:
    parents = {}
    for process in _processes(proc):
        with suppress(OSError, ValueError, IndexError):
            # The name, in parentheses, may contain anything; the parent is the second field after it.
            parents[int(process.name)] = int(
                (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
            )
    family = {pid for pid in pids if pid}
    grown = True
    while grown:
        children = {pid for pid, parent in parents.items() if parent in family} - family
        grown = bool(children)
        family |= children
    return frozenset(family)


def _processes(proc: Path) -> list[Path]:
    with suppress(OSError):
        return [path for path in proc.iterdir() if path.name.isdigit()]
    return []
