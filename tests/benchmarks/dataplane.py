"""What a request costs on its way through the gateway, in CPU time of Envoy.

Prints a table and then lines `figure NAME VALUE UNIT`. In one run, in rounds that take turns: the canned upstream alone
(this file, an asyncio server), Envoy as a proxy that does nothing else, the smallest gateway, and the fullest with one
deployment and with fallbacks that are not needed; each with small bodies (300 B, 1.2 kB back), large ones (20 kB, 4 kB
back) and streams of 100 chunks. Every Envoy has one worker. A ratio is the median, over the rounds, of a gateway's time
by that of the proxy in the same round, so that it matters little what else the machine does. Time is what the kernel
gave to the process; the client's is not in it.

`--rounds N` takes more of them, `--requests N` longer ones; `--litellm` measures LiteLLM's proxy too, which it installs
from PyPI into a temporary environment.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# In place of this folder, whose secrets.py is not Python's.
sys.path[:1] = [str(ROOT / ".cache" / "collections"), str(ROOT / "tests")]

CLIENTS = 16
CHUNKS = 100
# Far enough apart to be read one by one.
CHUNK_SECONDS = 0.002
CHAT = "/v1/chat/completions"
KEY = "sk-team"
KEYS, MODELS = 10000, 1000

# As OpenAI writes them: https://platform.openai.com/docs/api-reference/chat/object
USAGE = {
    "prompt_tokens": 60,
    "completion_tokens": 100,
    "total_tokens": 160,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
ENDS = {"service_tier": "default", "system_fingerprint": None}


def completion(kind: str, choices: list[dict[str, Any]], **more: object) -> dict[str, object]:
    head = {"id": "chatcmpl-DKh2xWbiZRyXhwNI8SyBVVYfMA4Rn", "object": kind, "created": 1767225600}
    return {**head, "model": "gpt-5-2025-08-07", "choices": choices, **more}


def event(choices: list[dict[str, Any]], **more: object) -> bytes:
    text = json.dumps(completion("chat.completion.chunk", choices, **ENDS, **more), separators=(",", ":"))
    return b"data: %s\n\n" % text.encode()


CHUNK = event([{"index": 0, "delta": {"content": "token "}, "finish_reason": None}], usage=None)
LAST = event([], usage=USAGE) + b"data: [DONE]\n\n"


# ---- the canned upstream: answers by the length of what it is asked, and looks at nothing else


def canned_answer(size: int) -> bytes:
    message = {"role": "assistant", "content": "", "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    text = json.dumps(completion("chat.completion", [choice], usage=USAGE, **ENDS), indent=2)
    body = text.replace('"content": ""', f'"content": "{"x" * (size - len(text))}"').encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def chunked(text: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(text), text)


class Canned(asyncio.Protocol):
    """HTTP/1.1 as far as Envoy and the client below speak it."""

    short, long = canned_answer(1200), canned_answer(4000)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or 0)
        if len(body) < length:
            return
        self.received = body[length:]
        if b'"stream": true' in body:
            self.transport.write(self.head)
            self._tick(CHUNKS)
        else:
            self.transport.write(self.long if length > 10000 else self.short)

    def _tick(self, left: int) -> None:
        if left:
            self.transport.write(chunked(CHUNK))
            asyncio.get_running_loop().call_later(CHUNK_SECONDS, self._tick, left - 1)
        else:
            self.transport.write(chunked(LAST) + chunked(b""))


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# ---- the client


@dataclass(frozen=True)
class Body:
    """What is asked, and how often in a round."""

    name: str
    content: bytes
    share: float
    end: bytes | None = None


def body(model: str, kind: str) -> Body:
    asked: dict[str, object] = {"model": model, "temperature": 0.2}
    length, share, end = {"small": (200, 1.0, None), "large": (19900, 0.7, None), "stream": (200, 0.06, b"0\r\n\r\n")}[
        kind
    ]
    if end:
        asked.update(stream=True, stream_options={"include_usage": True})
    asked["messages"] = [{"role": "user", "content": "word " * (length // 5)}]
    return Body(kind, json.dumps(asked).encode(), share, end)


def request(port: int, asked: Body, path: str = CHAT, key: str = KEY) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\nuser-agent: bench\r\n"
        f"accept: application/json\r\ncontent-type: application/json\r\ncontent-length: {len(asked.content)}\r\n\r\n"
    )
    return head.encode() + asked.content


class Client(asyncio.Protocol):
    """Asks again and again on one connection."""

    def __init__(self, text: bytes, end: bytes | None, left: list[int], done: asyncio.Future[None]) -> None:
        self.text, self.end, self.left, self.done = text, end, left, done
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self._ask()

    def _ask(self) -> None:
        if self.left[0] <= 0:
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self.left[0] -= 1
        self.transport.write(self.text)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.received.startswith(b"HTTP/1.1 200"[: len(self.received)]):
            raise AssertionError(self.received[:500])
        if self.end is not None:
            if self.received.endswith(self.end):
                self.received = b""
                self._ask()
            return
        head, found, answer = self.received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if found and (len(answer) >= int(length) if length else answer.endswith(b"0\r\n\r\n")):
            self.received = b""
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or AssertionError("the connection ended"))


async def ask(port: int, asked: Body, times: int, key: str = KEY, clients: int = CLIENTS) -> float:
    """Ask so many times; the seconds that it took."""
    loop = asyncio.get_running_loop()
    # What a callback raises ends the run.
    failed: list[BaseException] = []
    loop.set_exception_handler(lambda _loop, what: failed.append(what.get("exception") or RuntimeError(str(what))))
    left = [times]
    started = time.monotonic()
    waiting = []
    for _number in range(min(clients, times)):
        done: asyncio.Future[None] = loop.create_future()
        make = partial(Client, request(port, asked, key=key), asked.end, left, done)
        await loop.create_connection(make, "127.0.0.1", port)
        waiting.append(done)
    while not all(done.done() for done in waiting) and not failed:
        await asyncio.wait(waiting, timeout=0.5)
        assert time.monotonic() - started < 300, "no answers"
    if failed:
        raise failed[0]
    for done in waiting:
        done.result()
    return time.monotonic() - started


# ---- what is measured


@dataclass
class Subject:
    """A process with a port. `scope` says which bodies it is asked."""

    name: str
    port: int
    pid: int
    model: str = "gpt-small"
    share: float = 1.0

    def cpu(self) -> float:
        """The CPU seconds of all threads so far: to the nanosecond, where `stat` counts hundredths."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def memory(self) -> float:
        """MB of memory that is in use."""
        (line,) = [line for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if "VmRSS" in line]
        return int(line.split()[1]) / 1024


def measure(subject: Subject, kind: str, times: int) -> tuple[float, float]:
    """CPU microseconds for a request, and requests in a second."""
    asked = body(subject.model, kind)
    times = max(CLIENTS, int(times * asked.share * subject.share))
    before = subject.cpu()
    seconds = asyncio.run(ask(subject.port, asked, times))
    return (subject.cpu() - before) / times * 1e6, times / seconds


def proxy_config(port: int, upstream: int) -> dict[str, Any]:
    """Envoy as the proxy that every gateway at least is."""
    kind = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "proxy",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}],
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "proxy",
                    "address": socket_address(port),
                    "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "upstream",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "upstream",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket_address(upstream)}}]}],
                    },
                }
            ],
        }
    }


def socket_address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def spec(port: int, metrics: int, upstream: int, **changes: Any) -> dict[str, Any]:
    """The smallest gateway: no provider's key, no other name, nothing forbidden, no limit."""
    url = f"http://127.0.0.1:{upstream}/v1"
    return {
        "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
        "gateway_metrics": {"port": metrics},
        "gateway_size": {"concurrency": 1},
        "gateway_providers": {"plain": {"type": "openai_compatible", "base_url": url}},
        "gateway_models": {"gpt-small": {"targets": [{"provider": "plain", "model": "gpt-small"}]}},
        "gateway_consumers": {"team": {"api_keys": ["env://TEAM"], "models": ["*"]}},
        **changes,
    }


def full_spec(port: int, metrics: int, upstream: int, models: int = 10, keys: int = 10) -> dict[str, Any]:
    """The fullest gateway: keys of providers, other names there, allow-lists, limits, fallbacks of half the models."""
    url = f"http://127.0.0.1:{upstream}/v1"
    first = {"provider": "openai", "model": "gpt-5-2025-08-07"}
    fallback = {"provider": "azure", "model": "gpt5-eu"}
    many = {f"m{number}": {"targets": [first]} for number in range(models // 2 - 1)}
    many.update({f"f{number}": {"targets": [first], "fallbacks": [fallback]} for number in range(models // 2 - 1)})
    limits = {"requests_per_minute": 100000000}
    consumers = {
        f"c{number}": {"api_keys": [f"env://C{number}"], "models": ["m*", "gpt-*"], "limits": limits}
        for number in range(keys - 2)
    }
    consumers["other"] = {"api_keys": ["env://OTHER"], "models": ["m1"]}
    consumers["team"] = {"api_keys": ["env://TEAM"], "models": ["gpt-*"], "limits": limits}
    return spec(
        port,
        metrics,
        upstream,
        gateway_providers={
            "openai": {"type": "openai", "base_url": url, "api_key": "env://OPENAI"},
            "azure": {
                "type": "azure_openai",
                "base_url": url.removesuffix("/v1"),
                "api_version": "2024-10-21",
                "api_key": "env://AZURE",
            },
        },
        gateway_models={
            **many,
            "gpt-one": {"targets": [first]},
            "gpt-several": {"targets": [first], "fallbacks": [fallback]},
        },
        gateway_consumers=consumers,
    )


class Bench:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        command = [sys.executable, __file__, "--serve"]
        canned = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        stack.callback(ended, canned)
        assert canned.stdout
        self.upstream = Subject("upstream", int(canned.stdout.readline()), canned.pid)

    def proxy(self) -> Subject:
        from contract.gateway_process import envoy_binary, free_port

        port = free_port()
        path = self.folder / "proxy.json"
        path.write_text(json.dumps(proxy_config(port, self.upstream.port)))
        log = self.stack.enter_context((self.folder / "proxy.log").open("wb"))
        command = [envoy_binary(), "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        self.stack.callback(ended, process)
        wait_for(port)
        return Subject("proxy", port, process.pid)

    def gateway(self, name: str, make: Callable[..., dict[str, Any]], **arguments: int) -> tuple[Any, int]:
        from contract.gateway_process import free_port, gateway

        port = free_port()
        folder = self.folder / name
        folder.mkdir()
        raw = make(port, free_port(), self.upstream.port, **arguments)
        return self.stack.enter_context(gateway(folder, raw)), port


def ended(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    process.wait(20)


def wait_for(port: int) -> None:
    import socket

    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < end, "it does not start"
            time.sleep(0.05)
        else:
            return


def pid_of(gateway: Any) -> int:
    found: int = gateway._process.pid
    return found


@dataclass
class Table:
    """CPU microseconds of each round, by subject and body."""

    found: dict[tuple[str, str], list[float]]
    rates: dict[tuple[str, str], list[float]]

    def ratio(self, over: str, under: str, kind: str) -> float:
        pairs = zip(self.found[over, kind], self.found[under, kind], strict=True)
        return statistics.median(one / other for one, other in pairs)

    def show(self) -> None:
        for (name, kind), values in self.found.items():
            rate = statistics.median(self.rates[name, kind])
            middle = statistics.median(values)
            print(f"{name:22} {kind:7} {middle:9.1f} us  ({min(values):.1f} to {max(values):.1f}) {rate:8.0f}/s")


def rounds(subjects: list[Subject], kinds: tuple[str, ...], number: int, times: int) -> Table:
    table = Table({}, {})
    for subject in subjects:
        for kind in kinds:
            measure(subject, kind, times // 4)
    for _turn in range(number):
        for kind in kinds:
            for subject in subjects:
                cost, rate = measure(subject, kind, times)
                table.found.setdefault((subject.name, kind), []).append(cost)
                table.rates.setdefault((subject.name, kind), []).append(rate)
    return table


def key_change(gateway: Any, port: int) -> float:
    """Seconds from the moment that a changed file of keys is complete until a new key is let in."""

    async def let_in(key: str) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(port, body("gpt-one", "small"), key=key))
        status = await reader.readline()
        writer.close()
        return b" 200 " in status

    taken = []
    for turn in range(3):
        name = f"sk-changed-{turn}"
        assert not asyncio.run(let_in(name))
        gateway.rotate(OTHER="sk-other", TEAM=name)
        started = time.monotonic()
        while not asyncio.run(let_in(name)):
            assert time.monotonic() - started < 60, "the key does not come into use"
            time.sleep(0.005)
        taken.append(time.monotonic() - started)
    gateway.rotate()
    return statistics.median(taken)


@contextmanager
def litellm(folder: Path, upstream: int) -> Iterator[Subject]:
    """LiteLLM's proxy with one model and one key, in an environment of its own."""
    from contract.gateway_process import free_port

    where = folder / "litellm"
    venv.create(where, with_pip=True)
    subprocess.run([where / "bin" / "pip", "install", "-q", "litellm[proxy]"], check=True)
    port = free_port()
    parameters = {"model": "openai/gpt-small", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "sk-x"}
    config = {"model_list": [{"model_name": "gpt-small", "litellm_params": parameters}]}
    config_file = where / "config.yaml"
    config_file.write_text(json.dumps({**config, "general_settings": {"master_key": KEY}}))
    command = [str(where / "bin" / "litellm"), "--config", str(config_file), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "litellm.log").open("wb") as log:
        environment = {**os.environ, "LITELLM_TELEMETRY": "False"}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            wait_for(port)
            yield Subject("litellm", port, process.pid, share=0.05)
        finally:
            ended(process)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--litellm", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dataplane-")))
        run(Bench(folder, stack), options)


def run(bench: Bench, options: argparse.Namespace) -> None:
    smallest, smallest_port = bench.gateway("smallest", spec)
    fullest, full_port = bench.gateway("fullest", full_spec)
    subjects = [
        bench.upstream,
        bench.proxy(),
        Subject("smallest", smallest_port, pid_of(smallest)),
        Subject("one deployment", full_port, pid_of(fullest), "gpt-one"),
        Subject("with fallbacks", full_port, pid_of(fullest), "gpt-several"),
    ]
    if options.litellm:
        subjects.append(bench.stack.enter_context(litellm(bench.folder, bench.upstream.port)))
    else:
        print("LITELLM IS NOT MEASURED: that takes --litellm, which installs it", file=sys.stderr)
    table = rounds(subjects, ("small", "large", "stream"), options.rounds, options.requests)
    table.show()
    large, large_port = bench.gateway("large", full_spec, models=MODELS, keys=KEYS)
    grown = [
        Subject("ten", full_port, pid_of(fullest), "gpt-one"),
        Subject("thousands", large_port, pid_of(large), "gpt-one"),
    ]
    growth = rounds(grown, ("small",), options.rounds, options.requests)
    growth.show()
    memory = grown[1].memory()
    changed = key_change(large, large_port)
    print(f"figure smallest_ratio {table.ratio('smallest', 'proxy', 'small'):.2f} ratio")
    print(f"figure one_deployment_ratio {table.ratio('one deployment', 'proxy', 'small'):.2f} ratio")
    print(f"figure failover_ratio {table.ratio('with fallbacks', 'proxy', 'small'):.2f} ratio")
    print(f"figure large_ratio {table.ratio('one deployment', 'proxy', 'large'):.2f} ratio")
    print(f"figure stream_ratio {table.ratio('one deployment', 'proxy', 'stream'):.2f} ratio")
    if options.litellm:
        print(f"figure litellm_ratio {table.ratio('litellm', 'one deployment', 'small'):.0f} ratio")
    print(f"figure scale_ratio {growth.ratio('thousands', 'ten', 'small'):.2f} ratio")
    print(f"figure scale_memory {memory:.0f} MB")
    print(f"figure key_change {changed:.2f} s")


if __name__ == "__main__":
    main()
