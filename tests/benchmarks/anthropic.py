"""What the translation to Anthropic's API costs, in CPU time of Envoy: the parts of dataplane.py with another upstream.

In one run, in rounds that take turns: Envoy as a proxy that does nothing else, the same with its own transcoder, the
smallest gateway with a provider that speaks OpenAI's API, and the same with one that speaks Anthropic's. Bodies are
those of dataplane.py. Prints a table and lines `figure NAME VALUE UNIT`: what the translation adds, in microseconds.
`--rounds N` takes more of them, `--requests N` longer ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dataplane
from dataplane import CHUNKS, Bench, Canned, Subject, Table, chunked, ended, pid_of, rounds, spec, wait_for

AI = "type.googleapis.com/envoy.extensions"
KINDS = ("small", "large", "stream")
# https://docs.claude.com/en/api/messages
MESSAGE: dict[str, Any] = {
    "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {
        "input_tokens": 60,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 1,
        "service_tier": "standard",
    },
}


def event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, separators=(',', ':'))}\n\n".encode()


def whole(size: int) -> bytes:
    text = {"type": "text", "text": "x" * (size - 400)}
    body = json.dumps({**MESSAGE, "content": [text], "stop_reason": "end_turn"}, separators=(",", ":")).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


BEGIN = event("message_start", message=MESSAGE) + event(
    "content_block_start", index=0, content_block={"type": "text", "text": ""}
)
DELTA = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "token "})
END = (
    event("content_block_stop", index=0)
    + event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": CHUNKS})
    + event("message_stop")
)


class Messages(Canned):
    """Answers as Anthropic does, to what was translated and to what was not."""

    short, long = whole(1200), whole(4000)

    def data_received(self, data: bytes) -> None:
        super().data_received(data.replace(b'"stream":true', b'"stream": true'))

    def _tick(self, left: int) -> None:
        if left == CHUNKS:
            self.transport.write(chunked(BEGIN))
        if left:
            self.transport.write(chunked(DELTA))
            asyncio.get_running_loop().call_later(dataplane.CHUNK_SECONDS, self._tick, left - 1)
        else:
            self.transport.write(chunked(END) + chunked(b""))


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Messages, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def transcoder_config(port: int, upstream: int) -> dict[str, Any]:
    """The proxy with Envoy's own transcoder."""
    config = dataplane.proxy_config(port, upstream)
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    steps = ({"request_handling": "TO_IR", "response_handling": "FROM_IR"},)
    steps += ({"request_handling": "FROM_IR", "response_handling": "TO_IR"},)
    kind = f"{AI}.http.ai_filters.transcoder.v3.Transcoder"
    transcoders = [
        {"name": "envoy.http.ai_filters.transcoder", "typed_config": {"@type": kind, **step}} for step in steps
    ]
    kind = f"{AI}.filters.http.ai_protocol_manager.v3.AiProtocolManager"
    transcode = {"@type": kind, "request_handling": {}, "filters": transcoders}
    manager["http_filters"].insert(0, {"name": "transcode", "typed_config": transcode})
    protocols = {
        "request": {"llm_protocol": "OPENAI_CHAT_COMPLETIONS"},
        "response": {"llm_protocol": "ANTHROPIC_MESSAGES"},
    }
    (route,) = manager["route_config"]["virtual_hosts"][0]["routes"]
    route["typed_per_filter_config"] = {"transcode": {"@type": f"{kind}PerRoute", **protocols}}
    return config


class AnthropicBench(Bench):
    def messages(self) -> Subject:
        command = [sys.executable, __file__, "--serve"]
        canned = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.stack.callback(ended, canned)
        assert canned.stdout
        return Subject("messages", int(canned.stdout.readline()), canned.pid)

    def transcoder(self, upstream: int) -> Subject:
        from contract.gateway_process import envoy_binary, free_port

        port = free_port()
        path = self.folder / "transcoder.json"
        path.write_text(json.dumps(transcoder_config(port, upstream)))
        log = self.stack.enter_context((self.folder / "transcoder.log").open("wb"))
        command = [envoy_binary(), "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        self.stack.callback(ended, process)
        wait_for(port)
        return Subject("transcoder", port, process.pid)


def anthropic_spec(port: int, metrics: int, upstream: int) -> dict[str, Any]:
    provider = {"type": "anthropic", "base_url": f"http://127.0.0.1:{upstream}/v1"}
    return spec(port, metrics, upstream, gateway_providers={"plain": provider})


def added(table: Table, over: str, under: str, kind: str) -> float:
    pairs = zip(table.found[over, kind], table.found[under, kind], strict=True)
    return statistics.median(one - other for one, other in pairs)


def run(bench: AnthropicBench, options: argparse.Namespace) -> None:
    messages = bench.messages()
    proxy, transcoder = bench.proxy(), bench.transcoder(messages.port)
    plain, plain_port = bench.gateway("plain", spec)
    bench.upstream = messages
    translated, port = bench.gateway("anthropic", anthropic_spec)
    subjects = [
        proxy,
        transcoder,
        Subject("openai", plain_port, pid_of(plain)),
        Subject("anthropic", port, pid_of(translated)),
    ]
    table = rounds(subjects, KINDS, options.rounds, options.requests)
    table.show()
    for kind in KINDS:
        print(f"figure translation_{kind} {added(table, 'anthropic', 'openai', kind):.1f} us")
        print(f"figure transcoder_{kind} {added(table, 'transcoder', 'proxy', kind):.1f} us")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        run(AnthropicBench(Path(folder), stack), options)


if __name__ == "__main__":
    main()
