# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an address can be had, and who has it."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._release import checks, ports

from .world import World, spec

# A socket that listens on all IPv4 addresses and an established connection; one that listens on [::1].
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20901 1
   1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000  1000        0 31415 1
"""
ANY6 = "0" * 32
TCP6 = f"""\
  sl  local_address                         remote_address
   0: {ANY6[:24]}01000000:0277 {ANY6}:0000 0A 00000000:00000000 00:00000000 00000000 0 0 777 1
"""


def test_sockets_in_proc() -> None:
    (ssh,) = ports.parse_proc(TCP)
    assert (str(ssh.address), ssh.port, ssh.inode) == ("0.0.0.0", 22, 20901)
    (printer,) = ports.parse_proc(TCP6)
    assert (str(printer.address), printer.port, printer.inode) == ("::1", 631, 777)


def test_addresses_of_a_release(world: World) -> None:
    raw = spec("a", gateway_metrics={"address": "::1", "port": 9903})
    raw["gateway_listeners"]["other"] = {"address": "127.0.0.2", "port": 80}
    files = {file.path: file.content for file in world.bundle(raw).files if file.path.startswith("envoy/")}
    assert ports.addresses(files) == (
        ("127.0.0.1", 8443, "tcp"),
        ("127.0.0.2", 80, "tcp"),
        ("::1", 9903, "tcp"),
    )


@pytest.fixture
def taken() -> Iterator[ports.Place]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield (*listener.getsockname(), "tcp")


def test_a_free_address(taken: ports.Place) -> None:
    assert ports.conflicts([("127.0.0.3", taken[1], "tcp")], ()) == ()


def test_an_address_in_use_and_by_whom(taken: ports.Place) -> None:
    (sentence,) = ports.conflicts([taken], ())
    assert sentence.startswith(f"127.0.0.1:{taken[1]} is in use by {os.getpid()}/")
    (wider,) = ports.conflicts([("0.0.0.0", taken[1], "tcp")], ())
    assert wider.startswith(f"0.0.0.0:{taken[1]} is in use by {os.getpid()}/")


def test_an_address_in_use_by_ourselves(taken: ports.Place) -> None:
    assert ports.conflicts([taken], [os.getpid()]) == ()
    assert ports.conflicts([taken], [os.getppid()]) == (), "a descendant of what the service manager started"


@pytest.mark.parametrize(("uid", "told"), [(996, False), (0, True)])
def test_an_address_of_a_process_that_cannot_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, told: bool
) -> None:
    """As in a container, where not even root may: then the user of the socket has to do."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(TCP.replace(" 0        0 20901", f" {uid}        0 20901"))
    (tmp_path / "42").mkdir()
    (tmp_path / "42" / "stat").write_text("42 (envoy) S 1 42 42")
    (tmp_path / "42" / "status").write_text("Name:\tenvoy\nUid:\t996\t996\t996\t996\n")
    monkeypatch.setattr(ports, "_bind", lambda address, port, kind: errno.EADDRINUSE)
    sentence = "0.0.0.0:22 is in use by a process of another user"
    assert ports.conflicts([("0.0.0.0", 22, "tcp")], [42], tmp_path) == ((sentence,) if told else ())


def test_an_address_that_is_bound_but_not_listened_at() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        (sentence,) = ports.conflicts([(*bound.getsockname(), "tcp")], [os.getpid()])
    assert sentence.endswith("is in use by a process that does not listen yet")


def test_an_address_of_another_host() -> None:
    assert ports.conflicts([("192.0.2.1", 8443, "tcp")], ()) == ("192.0.2.1:8443 is no address of this host",)


def test_ports_of_udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        assert ports.conflicts([("127.0.0.1", port, "tcp")], ()) == ()
        (sentence,) = ports.conflicts([("127.0.0.1", port, "udp")], ())
        assert sentence.startswith(f"127.0.0.1:{port}/udp is in use by {os.getpid()}/")
        assert ports.conflicts([("127.0.0.1", port, "udp")], [os.getpid()]) == ()
    assert ports.conflicts([("127.0.0.1", port, "udp")], ()) == ()


def test_http3_binds_both(world: World) -> None:
    raw = spec("a")
    pair = {"certificate": "/etc/a.pem", "private_key": "/etc/a.key"}
    raw["gateway_listeners"]["public"].update(tls=pair, http3=True)
    files = {file.path: file.content for file in world.bundle(raw).files if file.path.startswith("envoy/")}
    assert {kind for _address, port, kind in ports.addresses(files) if port == 8443} == {"tcp", "udp"}


def test_a_port_that_may_not_be_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_bind", lambda address, port, kind: errno.EACCES)
    assert ports.conflicts([("::1", 81, "tcp")], ()) == (
        "[::1]:81 may not be bound by this user: ports below 1024 need root",
    )


def test_secret_files_that_a_release_reads(world: World) -> None:
    raw = spec("a")
    raw["gateway_providers"]["p"]["api_key"] = "vault://kv/p#key"
    bundle = world.bundle(raw)
    assert len(bundle.secrets) == 2
    found = checks.secret_files(world.host, {file.path: file.content for file in bundle.files})
    assert found == {file.name for file in bundle.secrets}


def test_certificates_on_the_host(world: World) -> None:
    raw = spec("a")
    pair = {
        "certificate": "/nowhere/a.pem",
        "private_key": str(world.directory / "a.key"),
        "client_ca": "/nowhere/clients.pem",
    }
    raw["gateway_listeners"]["public"]["tls"] = pair
    (world.directory / "a.key").write_text("key")
    files = {file.path: file.content for file in world.bundle(raw).files if file.path.startswith("envoy/")}
    given = ["consumers.json"]
    assert checks.problems(world.host, files, given, (), None) == (
        "the certificate, key, CA or JWKS /nowhere/clients.pem is not on this host",
        "the certificate, key, CA or JWKS /nowhere/a.pem is not on this host",
    )
    if os.geteuid() == 0:
        (world.directory / "a.key").chmod(0o600)
        _clients, unreadable, _absent = checks.problems(world.host, files, given, (), (65534, 65534))
        assert unreadable.endswith("a.key cannot be read by the user that Envoy runs as")


def test_metrics_are_bound_as_well(world: World) -> None:
    files = {file.path: file.content for file in world.bundle(spec("a")).files if file.path.startswith("envoy/")}
    bootstrap = json.loads(files["envoy/bootstrap-blue.json"])
    (metrics,) = bootstrap["static_resources"]["listeners"]
    address = metrics["address"]["socket_address"]
    assert (address["address"], address["port_value"], "tcp") in ports.addresses(files)
