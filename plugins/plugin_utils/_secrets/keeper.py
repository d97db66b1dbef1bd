# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program that keeps what a run of Ansible holds in Vault or OpenBao, and ends it with the run.

A token has to be revoked when the run is over, however it ends, and nothing of ours runs in the process that ends last
(a callback would have to be switched on in everybody's ``ansible.cfg``). So the first process of a run that logs in
starts this one: ``keeper.py DIRECTORY PID PIDFD``, where ``DIRECTORY`` is the cache of the run, ``PID`` its main
process and ``PIDFD`` a descriptor of that process (-1 where the system has none). Its standard input is a listening
socket, on which the processes of the run hand over what they got (`Order`): nothing secret is in an argument, in the
environment or on a disk.

- While the run lives it renews at half of each life what can be renewed.
- When the run is over it revokes. The run is over when its process has ended, SIGKILL included, or when its directory
  is gone: Ansible removes that some time before the process ends. In a container whose first process is the run, this
  process is killed together with it, so every millisecond counts.
- It has a session of its own and ignores what a terminal sends to the run. SIGTERM, which systemd sends to what a
  service leaves behind, lets it try once more at once instead of waiting for a store that does not answer.
- It ends by itself: each request has a timeout, and the attempts to revoke are counted.

Killed, it revokes nothing, and the tokens live for their time.

It runs by itself, without the collection or Ansible: the standard library, and ``requests`` (which hvac needs).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import socket
import sys
import syslog
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict
from urllib.parse import quote

#: What became of a request: done (or what it is about has ended already), refused for good, or to be tried again.
Outcome = Literal["done", "refused", "again"]

#: What is answered to an order.
TAKEN = b"\n"
#: Pauses between attempts to revoke, in seconds, for a store that does not answer: one minute altogether.
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
#: How long one request may take, in seconds, whatever the user's timeout is.
_TIMEOUT = 30.0
#: The least time between two renewals of one thing, in seconds.
_LEAST = 0.5
#: How often to look whether the run still lives where the system does not tell, in seconds.
_LOOK = 0.5
#: The longest wait at a time, in seconds: poll() takes 24 days, and half the life of a token may be more.
_LONGEST = 86400.0


class Lease(TypedDict):
    """A lease: ``seconds`` is its life."""

    id: str
    seconds: float
    renewable: bool


class Order(TypedDict):
    """What a process of the run hands over, as one JSON object: a token, and leases made with it.

    ``own`` tells that the run logged in: such a token is renewed and revoked, and its leases end with it. With a token
    of the user only the leases are. ``verify`` and ``cert`` are what requests calls so.
    """

    addr: str
    namespace: str
    verify: bool | str
    cert: list[str] | None
    timeout: float
    token: str
    own: bool
    seconds: float | None
    renewable: bool
    leases: list[Lease]


@dataclass(frozen=True)
class Call:
    """A request: the part of the URL after ``/v1/``, and the body."""

    path: str
    body: dict[str, str] = field(default_factory=dict)


@dataclass
class Held:
    """A token or a lease: when it ends and when to renew it, by the monotonic clock; None: never."""

    order: Order
    renewal: Call
    revocation: Call
    until: float | None
    renew_at: float | None

    def granted(self, seconds: float | None, now: float) -> None:
        """Note the life that the store granted at ``now``; None or 0: it does not end."""
        self.until = now + seconds if seconds else None
        self.renew_at = now + max(seconds / 2, _LEAST) if seconds and self.renew_at is not None else None

    def lives(self, now: float) -> bool:
        """Whether it has not ended yet."""
        return self.until is None or now < self.until


def held_by(order: Order, now: float) -> tuple[Held | None, dict[str, Held]]:
    """The token of an order, when it is the run's own, and the leases by their ids."""

    def held(renewal: Call, revocation: Call, seconds: float | None, renewable: bool) -> Held:
        thing = Held(order, renewal, revocation, None, now if renewable else None)
        thing.granted(seconds, now)
        return thing

    token = None
    if order["own"]:
        renewal, revocation = Call("auth/token/renew-self"), Call("auth/token/revoke-self")
        token = held(renewal, revocation, order["seconds"], order["renewable"])
    leases = {}
    for lease in order["leases"]:
        body = {"lease_id": lease["id"]}
        renewal, revocation = Call("sys/leases/renew", body), Call("sys/leases/revoke", body)
        leases[lease["id"]] = held(renewal, revocation, lease["seconds"], lease["renewable"])
    return token, leases


#: Sends a request with the token of an order; returns the HTTP status and the JSON of the answer. Raises OSError.
Ask = Callable[[Order, Call], "tuple[int, dict[str, Any]]"]


@dataclass
class Holdings:
    """Everything that the run holds: tokens, and leases by token and id.

    A later order about a token adds leases, or tells its life anew when it has none.
    """

    ask: Ask
    tokens: dict[str, Held] = field(default_factory=dict)
    leases: dict[str, dict[str, Held]] = field(default_factory=dict)

    def add(self, order: Order, now: float) -> None:
        """Take an order."""
        token, leases = held_by(order, now)
        if token is not None and (not leases or order["token"] not in self.tokens):
            self.tokens[order["token"]] = token
        self.leases.setdefault(order["token"], {}).update(leases)

    def next_renewal(self) -> float | None:
        """When something has to be renewed next."""
        return min((each.renew_at for each in self._all() if each.renew_at is not None), default=None)

    def renew(self, now: float) -> None:
        """Renew what is due at ``now``, each once."""
        for each in self._all():
            if each.renew_at is not None and each.renew_at <= now:
                self._renew(each, now)

    def revoke(self, now: float) -> bool:
        """Revoke everything that still lives, each once; return whether something has to be tried again."""
        for text, token in list(self.tokens.items()):
            outcome = self._revoke(token, now)
            if outcome != "again":
                del self.tokens[text]
            # A batch token cannot be revoked; any other takes its leases with it.
            if outcome == "done":
                self.leases.pop(text, None)
        for text in [text for text in self.leases if text not in self.tokens]:
            left = self.leases[text].items()
            self.leases[text] = {name: lease for name, lease in left if self._revoke(lease, now) == "again"}
        return bool(self.tokens or any(self.leases.values()))

    def _all(self) -> Iterable[Held]:
        yield from self.tokens.values()
        for leases in self.leases.values():
            yield from leases.values()

    def _renew(self, held: Held, now: float) -> None:
        try:
            status, answer = self.ask(held.order, held.renewal)
        except OSError:
            status, answer = 503, {}
        if outcome_of(status) == "again":
            left = None if held.until is None else held.until - now
            held.renew_at = now + max(_LEAST, 10.0 if left is None else left / 4) if held.lives(now) else None
        elif status < 300:
            # A token's life is in ``auth``, a lease's in the answer itself.
            granted = (answer.get("auth") or answer).get("lease_duration")
            held.granted(float(granted) if isinstance(granted, (int, float)) else None, now)
        else:
            held.renew_at = None

    def _revoke(self, held: Held, now: float) -> Outcome:
        if not held.lives(now):
            return "done"
        try:
            return outcome_of(self.ask(held.order, held.revocation)[0])
        except OSError:
            return "again"


def outcome_of(status: int) -> Outcome:
    """What an HTTP status means. 403 and 404: the store does not know the token or the lease (any more)."""
    if status in (429, 412) or status >= 500:
        return "again"
    return "done" if status < 300 or status in (403, 404) else "refused"


def ask(order: Order, call: Call) -> tuple[int, dict[str, Any]]:
    """Send a request to the store. Raises OSError, as which the errors of requests count."""
    import requests

    headers = {"X-Vault-Token": order["token"], "X-Vault-Request": "true"}
    if order["namespace"]:
        headers["X-Vault-Namespace"] = order["namespace"]
    try:
        answer = requests.post(
            f"{order['addr']}/v1/{quote(call.path)}",
            json=call.body,
            headers=headers,
            timeout=min(order["timeout"], _TIMEOUT),
            verify=order["verify"],
            cert=None if order["cert"] is None else (order["cert"][0], order["cert"][1]),
            # Without one of our own, requests would look for a password in ~/.netrc.
            auth=lambda request: request,
        )
        content = answer.json() if answer.content else {}
    except ValueError:
        # A proxy's page, or a setting that makes no URL.
        return 502, {}
    return answer.status_code, content if isinstance(content, dict) else {}


class Run:
    """The run that is watched, and the signals and sockets that wake this process."""

    def __init__(self, directory: Path, pid: int, pidfd: int, listener: socket.socket) -> None:
        self._directory = directory
        self._pid = pid
        self._pidfd = pidfd
        self._listener = listener
        self._told_to_end = False
        self._woken, waker = socket.socketpair()
        for each in (self._woken, waker, listener):
            each.setblocking(False)
        self._waker = waker
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._end)
        with contextlib.suppress(OSError):
            self._watch_directory()

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        if self._pidfd >= 0:
            return bool(_ready([self._pidfd], 0))
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    @property
    def is_over(self) -> bool:
        """Whether nothing will ask for a secret any more."""
        return self.has_ended or not self._directory.exists()

    @property
    def told_to_end(self) -> bool:
        """Whether SIGTERM came."""
        return self._told_to_end

    def wait(self, seconds: float | None) -> list[Order]:
        """Wait for orders, a signal or the end of the run, at most so long."""
        watched = [self._listener.fileno(), self._woken.fileno()]
        if self._pidfd >= 0:
            watched.append(self._pidfd)
        else:
            seconds = _LOOK if seconds is None else min(seconds, _LOOK)
        _ready(watched, seconds)
        self._was_woken()
        return list(self._orders())

    def pause(self, seconds: float) -> None:
        """Wait for a signal, at most so long."""
        _ready([self._woken.fileno()], seconds)
        self._was_woken()

    def last_orders(self) -> list[Order]:
        """Refuse orders from now on, and return those that came before."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RD)
        return list(self._orders())

    def remove_leftovers(self) -> None:
        """Remove what a run that was killed could not remove itself."""
        if self.has_ended and self._directory.exists():
            import shutil

            shutil.rmtree(self._directory, ignore_errors=True)
            with contextlib.suppress(OSError):
                self._directory.parent.rmdir()

    def _was_woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)

    def _orders(self) -> Iterable[Order]:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            with connection:
                # Whoever connects sends at once; one that is killed in between must not stop us.
                connection.settimeout(1.0)
                content = b""
                with contextlib.suppress(OSError):
                    while chunk := connection.recv(65536):
                        content += chunk
                    connection.sendall(TAKEN)
            with contextlib.suppress(ValueError):
                yield json.loads(content)

    def _watch_directory(self) -> None:
        self._notifier = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
        # For runs in other containers with the same directory, which cannot see that this run lives.
        fcntl.flock(self._notifier, fcntl.LOCK_SH | fcntl.LOCK_NB)
        signal.signal(signal.SIGIO, lambda number, frame: None)
        if hasattr(fcntl, "F_NOTIFY"):
            fcntl.fcntl(self._notifier, fcntl.F_NOTIFY, fcntl.DN_DELETE | fcntl.DN_MULTISHOT)

    def _end(self, number: int, frame: object) -> None:
        self._told_to_end = True


def _ready(descriptors: Iterable[int], seconds: float | None) -> list[int]:
    """Those that can be read, after at most so long. Not select(): the run's descriptor may be over 1023."""
    poll = select.poll()
    for each in descriptors:
        poll.register(each, select.POLLIN)
    return [each for each, _event in poll.poll(None if seconds is None else min(seconds, _LONGEST) * 1000)]


def keep(run: Run, holdings: Holdings) -> None:
    """Renew until the run is over, then revoke."""
    while not run.is_over:
        due = holdings.next_renewal()
        for order in run.wait(None if due is None else max(0.0, due - time.monotonic())):
            holdings.add(order, time.monotonic())
            # It takes a tenth of a second, which is better spent now than at the end.
            import requests  # noqa: F401
        holdings.renew(time.monotonic())
    for order in run.last_orders():
        holdings.add(order, time.monotonic())
    for pause in (0.0, *_PAUSES):
        run.pause(pause)
        again = holdings.revoke(time.monotonic())
        run.remove_leftovers()
        if not again:
            return
        if run.told_to_end:
            break
    syslog.syslog(syslog.LOG_WARNING, "gatewayops.openai: a token or lease was not revoked; it ends after its own time")


def main() -> None:
    """Become a process of its own, and keep."""
    # The process that started us waits for the first fork to end, so that nobody has to wait for the second.
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    directory, pid, pidfd = sys.argv[1:]
    listener = socket.socket(fileno=os.dup(0))
    keep(Run(Path(directory), int(pid), int(pidfd), listener), Holdings(ask))


if __name__ == "__main__":
    main()
