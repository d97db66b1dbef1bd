# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""supervisor as the service manager of a gateway, as an ordinary user: over the XML-RPC interface of supervisord.

`supervisorctl update` restarts what serves. So a changed configuration is given to an instance only while that one is
stopped, just before it is started.
"""

from __future__ import annotations

import http.client
import socket
import time
import xmlrpc.client
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import INSTANCES
from ansible_collections.gatewayops.openai.plugins.module_utils._release.layout import Layout
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Ops
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import (
    DRAINING,
    FAILED,
    RUNNING,
    STOPPED,
    Instance,
)

#: From supervisor's documentation, "Process States". STARTING lasts for `startsecs`, however soon a process serves.
_STATES = {
    "RUNNING": RUNNING,
    "STARTING": RUNNING,
    "STOPPING": DRAINING,
    "BACKOFF": FAILED,
    "FATAL": STOPPED,
    "UNKNOWN": STOPPED,
    "EXITED": STOPPED,
    "STOPPED": STOPPED,
}
#: Codes of xmlrpc Faults, from supervisor.xmlrpc.Faults.
_SHUTDOWN_STATE = 6
_BAD_NAME = 10
_ALREADY_STARTED = 60
_NOT_RUNNING = 70
_SECONDS = 15.0


class Supervisor:
    """supervisord with the configuration of the release that is active."""

    def __init__(self, layout: Layout, ops: Ops) -> None:
        self._layout = layout
        self._ops = ops
        self._socket = str(Path(layout.host.runtime_dir, "supervisor.sock"))

    @property
    def configuration(self) -> str:
        """The configuration file, by a path that stays the same."""
        return f"{self._layout.host.current}/supervisor/supervisord.conf"

    def is_running(self) -> bool:
        """Whether supervisord is there; while it shuts down it answers every question with a fault."""
        try:
            self._call("getState")
        except OSError:
            return False
        except xmlrpc.client.Fault as fault:
            return fault.faultCode == _SHUTDOWN_STATE
        return True

    def instances(self) -> Mapping[str, Instance]:
        """Both instances by name."""
        return {name: self._instance(name) for name in INSTANCES}

    def is_stale(self) -> bool:
        """Never: an instance gets its configuration when it is started."""
        return False

    def reload(self) -> None:
        """Nothing to do, see `is_stale`."""

    def start(self, name: str) -> None:
        """Start an instance with the configuration that is in place now, and supervisord with it if that is not up.

        Without supervisord it is the first instance that starts, whichever was asked for: `autostart` says so.
        """
        if not self.is_running():
            self._start_supervisord()
            return
        self._ops.before("supervisor", f"update {name}")
        if self._instance(name).state == FAILED:
            self.drain(name)
        added, changed = self._change("reloadConfig")[0][:2]
        if name in changed:
            self._change("removeProcessGroup", name)
        if name in changed or name in added:
            self._change("addProcessGroup", name)
        self._ops.before("supervisor", f"start {name}")
        try:
            self._change("startProcess", name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _ALREADY_STARTED:
                raise ReleaseError(f"supervisord cannot start {name}: {fault.faultString}") from None

    def drain(self, name: str) -> None:
        """Begin to stop an instance: `libexec/run-envoy` drains it on TERM, while supervisord waits for its end."""
        self._ops.before("supervisor", f"drain {name}")
        try:
            self._change("stopProcess", name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _NOT_RUNNING:
                raise ReleaseError(f"supervisord cannot stop {name}: {fault.faultString}") from None
        else:
            self._repeat_stop(name)

    def _repeat_stop(self, name: str) -> None:
        """Say it again to a process that was only being started when it was told.

        Between fork and exec it is a copy of supervisord, whose handlers swallow the signal. Once run-envoy has heard
        it, it ignores more of them.
        """
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            instance = self._instance(name)
            if instance.state != DRAINING:
                return
            if _is_run_envoy(instance.pid):
                with suppress(xmlrpc.client.Fault):  # it may have ended by now
                    self._change("signalProcess", name, "TERM")
                return
            time.sleep(0.05)

    def choose(self, name: str) -> None:
        """Nothing to do: after a start of the machine either instance is right."""

    def mark(self, name: str) -> str:
        """A point in the log: how long it is."""
        try:
            return str(self._log(name).stat().st_size)
        except OSError:
            return "0"

    def log_since(self, name: str, mark: str) -> str:
        """What an instance wrote to its log since `mark`, all of it when the log was begun anew."""
        try:
            content = self._log(name).read_bytes()
        except OSError:
            return ""
        return content[int(mark) if int(mark) <= len(content) else 0 :].decode("utf-8", "replace")

    def remove(self) -> None:
        """Shut supervisord down."""
        if not self.is_running():
            return
        self._ops.before("supervisor", "shutdown")
        self._change("shutdown")
        end = time.monotonic() + _SECONDS
        while self.is_running():
            if time.monotonic() > end:
                raise ReleaseError("supervisord does not shut down")
            time.sleep(0.1)

    def _start_supervisord(self) -> None:
        self._ops.run([self._layout.host.supervisord, "-c", self.configuration], _SECONDS)
        end = time.monotonic() + _SECONDS
        while not self.is_running():
            if time.monotonic() > end:
                raise ReleaseError(f"supervisord does not answer, see {self._layout.host.log_dir}/supervisord.log")
            time.sleep(0.05)

    def _instance(self, name: str) -> Instance:
        try:
            found = self._call("getProcessInfo", name)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == _BAD_NAME:
                return Instance(name, STOPPED)
            raise ReleaseError(f"supervisord says nothing of {name}: {fault.faultString}") from None
        except OSError:
            return Instance(name, STOPPED)
        return Instance(name, _STATES.get(str(found["statename"]), STOPPED), int(found["pid"]))

    def _log(self, name: str) -> Path:
        return Path(self._layout.host.log_dir, name + ".log")

    def _change(self, method: str, *arguments: Any) -> Any:
        try:
            return self._call(method, *arguments)
        except OSError as error:
            raise ReleaseError(f"supervisord does not answer on {self._socket}: {error}") from None
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == _SHUTDOWN_STATE:
                raise ReleaseError("supervisord is shutting down: run this again when it has ended") from None
            raise

    def _call(self, method: str, *arguments: Any) -> Any:
        """Call `supervisor.<method>`. Raises OSError when nobody answers, and xmlrpc.client.Fault."""
        try:
            with xmlrpc.client.ServerProxy("http://supervisor", transport=_UnixTransport(self._socket)) as server:
                return getattr(server.supervisor, method)(*arguments)
        except (http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise OSError(f"no answer to {method}: {error}") from None


def _is_run_envoy(pid: int) -> bool:
    try:
        return b"/run-envoy" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("supervisor", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """A connection to the socket, whatever the host is called; the transport closes what is its `_connection`."""
        self._connection = host, _UnixConnection(self._path)
        return self._connection[1]
