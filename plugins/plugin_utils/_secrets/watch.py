# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start the keeper of a run (`keeper`), one for all its stores, and hand over to it what has to end with the run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets import keeper
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.keeper import Lease, Order
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import Login

_NAME = "keeper"
#: Where requests and OpenSSL look for authorities.
_PATHS = frozenset(["CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"])
#: What the keeper needs of the environment, which may hold a token of the user: how to start Python, how to trust and
#: how to reach a server.
_ENVIRONMENT = frozenset(
    [
        *_PATHS,
        *("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE"),
        *("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "all_proxy", "https_proxy", "http_proxy", "no_proxy"),
    ]
)
#: How long the keeper may take to start, in seconds; it takes a fiftieth of one.
_START = 10.0
#: How long to wait until it has taken an order, in seconds. While it asks the store itself, it takes none.
_BUSY = 1.0


class Keeper:
    """The keeper of the run that a cache belongs to; of a cache that belongs to no run, nothing is kept."""

    def __init__(self, cache: RunCache) -> None:
        self._cache = cache

    def start(self) -> None:
        """Start it unless it is there already. Raises OSError."""
        if self._cache.run is None:
            return
        with self._cache.lock(_NAME):
            try:
                self._connect().close()
            except (FileNotFoundError, ConnectionRefusedError):
                self._spawn(self._cache.run)

    def hold(self, options: VaultOptions, login: Login, leases: tuple[Lease, ...] = ()) -> None:
        """Hand over a token, or its life anew, and leases made with it. Starts the keeper when there is none.

        Raises OSError.
        """
        if self._cache.run is None:
            return
        content = json.dumps(order_of(options, login, leases)).encode()
        try:
            taken = self._send(content)
        except (FileNotFoundError, ConnectionError):
            taken = False
        if not taken:
            self.start()
            if not self._send(content):
                raise OSError("the process that would revoke the token does not take it")

    def _send(self, content: bytes) -> bool:
        """Whether the keeper took it, or is only busy: what was sent to it waits for it. Raises OSError."""
        with self._connect() as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(_BUSY)
            try:
                return connection.recv(1) == keeper.TAKEN
            except TimeoutError:
                return True
            except ConnectionError:
                return False

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(_START)
            with _short(self._cache.directory) as directory:
                connection.connect(f"{directory}/{_NAME}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _spawn(self, run: int) -> None:
        pidfd = _pidfd(run)
        with socket.socket(socket.AF_UNIX) as listener:
            with _short(self._cache.directory) as directory:
                with suppress(FileNotFoundError):
                    (self._cache.directory / _NAME).unlink()
                listener.bind(f"{directory}/{_NAME}")
            listener.listen(128)
            try:
                done = subprocess.run(
                    [sys.executable, "-P", keeper.__file__, str(self._cache.directory), str(run), str(pidfd)],
                    stdin=listener.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=() if pidfd < 0 else (pidfd,),
                    env=environment_of(os.environ),
                    start_new_session=True,
                    timeout=_START,
                    check=False,
                )
            except subprocess.SubprocessError:
                done = None
            finally:
                if pidfd >= 0:
                    os.close(pidfd)
        if done is None or done.returncode:
            raise OSError("the process that would revoke the token cannot be started")


def environment_of(ours: Mapping[str, str]) -> dict[str, str]:
    """What the keeper gets of the environment of a run; it works in another directory."""
    return {
        name: str(Path(value).absolute()) if name in _PATHS and value else value
        for name, value in ours.items()
        if name in _ENVIRONMENT
    }


def order_of(options: VaultOptions, login: Login, leases: tuple[Lease, ...] = ()) -> Order:
    """What the keeper has to know; it works in another directory."""
    cert = [str(Path(each).absolute()) for each in (options.client_cert, options.client_key) if each]
    return Order(
        addr=options.addr,
        namespace=options.namespace,
        verify=str(Path(options.ca_file).absolute()) if options.ca_file else True,
        cert=cert or None,
        timeout=options.timeout,
        token=login.token,
        own=login.own,
        seconds=login.seconds,
        renewable=login.renewable,
        leases=list(leases),
    )


def _pidfd(run: int) -> int:
    """A descriptor of the run's main process, -1 where the system has none. Raises OSError when it has ended."""
    try:
        return os.pidfd_open(run)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):
        # No Linux, one before 5.3, or a container that may not ask for it.
        return -1


@contextmanager
def _short(directory: Path) -> Iterator[str]:
    """A short name of a directory: the path of a socket is limited to some hundred bytes."""
    if not Path("/proc/self/fd").exists():
        yield str(directory)
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
