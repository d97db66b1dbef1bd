# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes that serve, seen through their admin sockets."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._release import admin
from ansible_collections.gatewayops.openai.plugins.module_utils._release.admin import AdminError, Expectation
from ansible_collections.gatewayops.openai.plugins.module_utils._release.layout import Layout

#: Seconds between two looks at what is in flight, and how often in a row nothing must be.
_LOOK = 0.3
_LOOKS = 3
_TUNNELS = "proxy:"


class Live:
    """What the instances of one gateway say of themselves. An instance that does not answer raises AdminError."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def _socket(self, name: str) -> str:
        return self._layout.host.admin_socket(name)

    def started_with(self, name: str) -> str:
        """The digest of what an instance was started with (`admin.process_digest`), '' when it is not known.

        The file belongs to Envoy's user: it may be a link, or a FIFO that never says anything.
        """
        try:
            handle = os.open(self._layout.record(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return os.read(handle, 100).decode("ascii").strip()
            finally:
                os.close(handle)
        except (OSError, ValueError):
            return ""

    def build(self, name: str) -> str:
        """The whole text of the version of Envoy that an instance is, '' when it does not answer."""
        try:
            return str(admin.server_info(self._socket(name))["version"])
        except AdminError:
            return ""

    def counters(self, name: str) -> Mapping[str, int]:
        """The counters of refusals as they are now; none when it does not answer."""
        try:
            return admin.counters(admin.statistics(self._socket(name)))
        except AdminError:
            return {}

    def missing(self, name: str, expected: Expectation) -> tuple[str, ...]:
        """Why an instance does not run all of `expected` now, whatever it refused before."""
        try:
            now = admin.statistics(self._socket(name))
        except AdminError as error:
            return (str(error),)
        return admin.missing(now, expected, admin.counters(now))

    def wait(
        self, name: str, expected: Expectation, before: Mapping[str, int], seconds: float, pid: int = 0
    ) -> tuple[str, ...]:
        """Wait until an instance has accepted `expected`; empty, or why it has not."""
        return admin.wait_accepted(self._socket(name), expected, before, seconds, pid)

    def wait_read(self, name: str, expected: Expectation, before: Mapping[str, int], seconds: float) -> tuple[str, ...]:
        """Wait until an instance has read the files of `expected` that it reads at all; empty, or what it refuses.

        That nothing happens is no refusal: a file may belong to what is not there any more.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                now = admin.statistics(self._socket(name))
            except AdminError:
                return ()
            why = admin.refusals(now, before)
            read = all(now.get(key + ".version_text", wanted) == wanted for key, wanted in expected.items())
            if why or read or time.monotonic() > end:
                return why
            time.sleep(0.02)

    def unread(self, name: str, expected: Expectation) -> tuple[str, ...]:
        """The subscriptions of `expected` that an instance has and that are at another version. Raises AdminError."""
        now = admin.statistics(self._socket(name))
        return tuple(key for key, wanted in expected.items() if now.get(key + ".version_text", wanted) != wanted)

    def retire(self, name: str) -> None:
        """Let an instance take no new connections from now on. Only for one that is being stopped."""
        with suppress(AdminError):
            admin.retire(self._socket(name))

    def wait_idle(self, name: str, clusters: frozenset[str], seconds: float) -> tuple[str, ...]:
        """Wait until nothing is in flight to any of `clusters`; those that are still busy after `seconds`.

        Between two attempts of one request nothing is in flight either, so it takes several looks.
        """
        end = time.monotonic() + seconds
        quiet = 0
        while True:
            try:
                busy = admin.busy_clusters(self._socket(name), clusters)
            except AdminError:
                busy = tuple(sorted(clusters))
            quiet = 0 if busy else quiet + 1
            if quiet >= _LOOKS or time.monotonic() > end:
                return busy
            time.sleep(_LOOK)

    def metrics_problem(self, files: Mapping[str, bytes]) -> str:
        """Why the metrics cannot be read where the bootstrap in `files` offers them; '' when they can."""
        for address, port in metrics_addresses(files):
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104
            connection = http.client.HTTPConnection(host, port, timeout=10)
            try:
                connection.request("GET", "/metrics")
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException) as error:
                return f"http://{host}:{port}/metrics cannot be read: {error}"
            finally:
                connection.close()
            if status != 200:
                return f"http://{host}:{port}/metrics answers {status}"
        return ""

    def accepted(self, name: str) -> dict[str, str]:
        """The version that each subscription of an instance is at."""
        now = admin.statistics(self._socket(name))
        return {key.rpartition(".")[0]: str(now[key]) for key in sorted(now) if key.endswith(".version_text")}

    def clusters(self, name: str) -> list[dict[str, Any]]:
        """Envoy's `/clusters?format=json`: `cluster_statuses`."""
        answer = json.loads(admin.ask(self._socket(name), "/clusters?format=json", timeout=30.0))
        return list(answer.get("cluster_statuses", []))


def metrics_addresses(files: Mapping[str, bytes]) -> tuple[tuple[str, int], ...]:
    """The addresses of the bootstrap's own listeners (pure); both instances have the same."""
    for path, content in sorted(files.items()):
        if path.startswith("envoy/bootstrap-"):
            listeners = json.loads(content).get("static_resources", {}).get("listeners", [])
            sockets = [listener.get("address", {}).get("socket_address") for listener in listeners]
            return tuple((str(each["address"]), int(each["port_value"])) for each in sockets if each)
    return ()


def cluster_names(files: Mapping[str, bytes]) -> frozenset[str]:
    """The names of the clusters in the xDS files of a release whose requests are to be waited for (pure).

    Those of forward proxies are left out: a tunnel is a request that lasts as long as a provider's idle connection.
    """
    names = (str(cluster["name"]) for cluster in json.loads(files["envoy/cds.json"])["resources"])
    return frozenset(name for name in names if not name.startswith(_TUNNELS))
