"""How exact limits on tokens are under overload, and what they cost a request.

Prints a table and then lines `figure NAME VALUE UNIT`. `tokens_admitted_ratio` is what was let in by what the limit
allows, which is a full bucket and what flows into it meanwhile: of two consumers who never stop asking, one for whole
answers and one for streams, on a host with two workers. The one that is further from 1 counts. The cost is CPU time of
Envoy with one worker, with a limit on tokens and without any, in rounds that take turns.

`--seconds N` is how long they ask, `--rounds N` and `--requests N` are as in `dataplane.py`, whose upstream and clients
these are.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

# In place of this folder, whose secrets.py is not Python's.
sys.path[:1] = [str(Path(__file__).resolve().parents[1])]

from benchmarks import dataplane  # noqa: E402

LIMIT = 48000
WORKERS = 2
PAUSE_SECONDS = 0.02
COST = int(str(dataplane.USAGE["total_tokens"]))


def overloaded(port: int, metrics: int, upstream: int) -> dict[str, Any]:
    def consumer(name: str) -> dict[str, Any]:
        return {"api_keys": [f"env://{name}"], "models": ["*"], "limits": {"tokens_per_minute": LIMIT}}

    consumers = {"whole": consumer("WHOLE"), "stream": consumer("STREAM")}
    return dataplane.spec(port, metrics, upstream, gateway_size={"concurrency": WORKERS}, gateway_consumers=consumers)


def limited(port: int, metrics: int, upstream: int) -> dict[str, Any]:
    consumer = {"api_keys": ["env://TEAM"], "models": ["*"], "limits": {"tokens_per_minute": 500000000}}
    return dataplane.spec(port, metrics, upstream, gateway_consumers={"team": consumer})


async def asking(port: int, asked: dataplane.Body, key: str, until: float) -> int:
    """Ask on one connection until then; how many answers were let in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    text = dataplane.request(port, asked, key=key)
    let_in = 0
    while time.monotonic() < until:
        writer.write(text)
        head = await reader.readuntil(b"\r\n\r\n")
        ok = head.startswith(b"HTTP/1.1 200")
        length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        await (reader.readexactly(int(length)) if length else reader.readuntil(b"\r\n0\r\n\r\n"))
        let_in += ok
        if not ok:
            await asyncio.sleep(PAUSE_SECONDS)
    writer.close()
    return let_in


async def admitted(port: int, seconds: float) -> dict[str, float]:
    """Of each kind, the tokens that were let in by those that the limit allows."""
    began = time.monotonic()
    kinds = {"whole": "small", "stream": "stream"}
    asks = {
        name: [
            asking(port, dataplane.body("gpt-small", kind), f"sk-{name}", began + seconds)
            for _client in range(dataplane.CLIENTS)
        ]
        for name, kind in kinds.items()
    }
    found = await asyncio.gather(*(asyncio.gather(*each) for each in asks.values()))
    allowed = LIMIT * (1 + seconds / 60)
    return {name: sum(answers) * COST / allowed for name, answers in zip(asks, found, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=2000)
    options = parser.parse_args()
    with ExitStack() as stack:
        bench = dataplane.Bench(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tokens-"))), stack)
        _gateway, port = bench.gateway("overloaded", overloaded)
        ratios = asyncio.run(admitted(port, options.seconds))
        for name, ratio in ratios.items():
            print(f"{name:22} {ratio:.4f} of what the limit allows")
        subjects = []
        for name, make in (("without", dataplane.spec), ("with", limited)):
            gateway, port = bench.gateway(name, make)
            subjects.append(dataplane.Subject(name, port, dataplane.pid_of(gateway)))
        table = dataplane.rounds(subjects, ("small", "large", "stream"), options.rounds, options.requests)
        table.show()
        print(f"figure tokens_admitted_ratio {max(ratios.values(), key=lambda ratio: abs(ratio - 1)):.3f} ratio")
        print(f"figure token_limit_ratio {table.ratio('with', 'without', 'small'):.2f} ratio")


if __name__ == "__main__":
    main()
