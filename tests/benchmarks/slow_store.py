"""A store that is far away: a proxy on this machine that holds back what goes through it."""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


@contextmanager
def delayed(address: str, seconds: float) -> Iterator[str]:
    """The address of a store whose every request takes that much longer than at ``address``."""
    url = urlsplit(address)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        host = (str(url.hostname), int(url.port or 0))
        proxy = multiprocessing.Process(target=_serve, args=(listener, host, seconds), daemon=True)
        proxy.start()
        try:
            yield f"{url.scheme}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            proxy.terminate()
            proxy.join()


def _serve(listener: socket.socket, host: tuple[str, int], seconds: float) -> None:
    while True:
        near, _peer = listener.accept()
        far = socket.create_connection(host)
        threading.Thread(target=_pass_on, args=(near, far, seconds), daemon=True).start()
        threading.Thread(target=_pass_on, args=(far, near, 0.0), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket, seconds: float) -> None:
    with suppress(OSError):
        while content := source.recv(65536):
            # A request is sent in one piece, and the next one of a connection follows its answer.
            time.sleep(seconds)
            target.sendall(content)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
