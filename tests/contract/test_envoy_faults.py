"""What a client of a running gateway sees of a provider that fails, in every way that tests/upstream/faulty.py knows.

Each fault is met by a model with one deployment, by one with a fallback, whose first provider is asked in one hop
(without and with TLS), and by one with more fallbacks, which takes two; by requests for JSON and for a stream.
They are asked all at once: many faults are silences.
"""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from contract.certificates import Authority
from contract.gateway_process import FAULTY, Gateway, Provider, free_port, gateway
from contract.network import TlsFront
from contract.test_envoy_requests import ALL, CHAT, Answer, call, chat
from upstream import faulty

CHUNKS = 4
# With one fallback all waits for a first byte are shorter than a silence, with two they are not.
FIRST_BYTE, IDLE = 0.9, 2.0
FALLBACKS = {"alone": [], "one-hop": ["second"], "tls": ["second"], "two-hops": ["second", "third"]}
MEGABYTE = 1024 * 1024

# Nothing of it reaches a client that has a fallback; others get this status and this code.
BEFORE: dict[str, tuple[int, str | None]] = {
    "rate-limited": (429, "rate_limit_exceeded"),
    "fail-500": (500, "told_to_fail"),
    "fail-503": (503, "told_to_fail"),
    # Passed on as it is.
    "html-error": (502, None),
    "quoted-key": (502, "refused_key"),
    "hang": (504, "timeout"),
    **dict.fromkeys(("reset", "close"), (503, "unavailable")),
    **dict.fromkeys(
        ("huge-headers", "two-lengths", "length-and-chunks", "no-http", "bad-status"), (503, "unavailable")
    ),
}
# The answer has begun, so it is cut and nobody else is asked.
INSIDE = ("reset-inside", "close-inside", "hang-inside", "bad-chunks")
# The answer is passed on: those whose usage is counted, and those that have none that can be read.
COUNTED = ("drip", "huge", "no-length", "short-length", "informational", "trailers")
# Where usage was asked for, an answer is read as a stream whatever it says that it is.
UNCOUNTED = ("wrong-type", "huge-line", "broken-json", "absurd-usage", "compressed")
# Not an answer at all, see below.
OTHERS = ("switching",)
# What adds time only: the same fault for the other kind of request, and much to encrypt for a server in Python.
LEFT_OUT = {
    *((fault, "tls", False) for fault in (*BEFORE, *INSIDE, *COUNTED, *UNCOUNTED, *OTHERS)),
    *((fault, "two-hops", True) for fault in (*BEFORE, *INSIDE, *COUNTED, *UNCOUNTED, *OTHERS)),
    ("huge", "tls", True),
    ("huge-line", "tls", True),
}


class Case(NamedTuple):
    fault: str
    way: str
    stream: bool

    @property
    def first(self) -> str:
        """The provider that is asked first; both are the same server."""
        return "tls" if self.way == "tls" else "alpha"

    @property
    def model(self) -> str:
        return f"{self.fault}-{self.way}-{'stream' if self.stream else 'json'}"


def cases(*faults: str) -> Any:
    """For pytest.mark.parametrize."""
    found = itertools.starmap(Case, itertools.product(faults, FALLBACKS, (False, True)))
    return [pytest.param(case, id=case.model) for case in found if case not in LEFT_OUT]


EVERY = [parameter.values[0] for parameter in cases(*BEFORE, *INSIDE, *COUNTED, *UNCOUNTED, *OTHERS)]


@dataclass(frozen=True)
class Seen:
    """What a client got, how long it took, what is logged, and who was asked with which headers."""

    answer: Answer
    size: int
    cut: bool
    seconds: float
    line: dict[str, Any]
    asked: list[tuple[str, dict[str, str]]]


@dataclass
class World:
    gateway: Gateway
    port: int
    providers: dict[str, Provider]

    def ask(self, case: Case) -> Seen:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        started = time.monotonic()
        body = chat(case.model, stream=case.stream, x_chunks=CHUNKS, x_model=case.model)
        headers = {"authorization": f"Bearer {ALL}", "content-type": "application/json"}
        connection.request("POST", CHAT, json.dumps(body), headers)
        response = connection.getresponse()
        cut = False
        try:
            content = response.read()
        except http.client.IncompleteRead as error:
            content, cut = error.partial, True
        seconds = time.monotonic() - started
        connection.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        # Without the middle of what is huge: pytest would compare it for minutes.
        kept = content if len(content) < MEGABYTE else content[:1000] + content[-1000:]
        answer = Answer(response.status, found, kept.decode("utf-8", "replace"))
        asked = [
            (name, seen["headers"])
            for name, provider in self.providers.items()
            for seen in provider.seen()
            if json.loads(seen["body"])["x_model"] == case.model
        ]
        return Seen(answer, len(content), cut, seconds, self.gateway.logged(found), asked)

    def memory(self) -> int:
        """Bytes of memory that Envoy has."""
        status = Path(f"/proc/{self.gateway.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def spec(port: int, providers: dict[str, Provider], tls: int) -> dict[str, Any]:
    def model(case: Case) -> dict[str, Any]:
        name = case.fault if case.fault.startswith("fail-") else f"fault-{case.fault}"
        fallbacks = [{"provider": "beta", "model": each} for each in FALLBACKS[case.way]]
        # Silences are short where they are waited for, and elsewhere nothing that a busy machine has.
        factor = 1 if case.fault.startswith("hang") else 10
        first_byte, idle = (f"{seconds * factor * 1000:.0f}ms" for seconds in (FIRST_BYTE, IDLE))
        timeouts = {"first_byte": first_byte, "idle": idle}
        return {"targets": [{"provider": case.first, "model": name}], "fallbacks": fallbacks, "timeouts": timeouts}

    return {
        "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
        "gateway_metrics": {"port": free_port()},
        "gateway_providers": {
            name: {"type": "openai", "base_url": f"{provider.url}/v1", "api_key": f"env://{name.upper()}"}
            for name, provider in providers.items()
        }
        | {"tls": {"type": "openai", "base_url": f"https://127.0.0.1:{tls}/v1", "api_key": "env://ALPHA"}},
        "gateway_models": {
            **{case.model: model(case) for case in EVERY},
            "good": {"targets": [{"provider": "alpha", "model": "good"}]},
        },
        "gateway_consumers": {"all": {"api_keys": ["env://ALL"], "models": ["*"]}},
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("gateway")
    authority, port = Authority(folder, "ca"), free_port()
    with ExitStack() as stack:
        up = {name: Provider(name, "--api-key", f"sk-{name}", program=FAULTY) for name in ("alpha", "beta")}
        for provider in up.values():
            stack.callback(provider.stop)
        front = stack.enter_context(TlsFront(up["alpha"].port, authority.sign("alpha", "127.0.0.1")))
        options = {"ca_file": str(authority.certificate)}
        started = stack.enter_context(gateway(folder, spec(port, up, front.port), **options))
        yield World(started, port, up)


@pytest.fixture(scope="module")
def seen(world: World) -> dict[Case, Seen]:
    with ThreadPoolExecutor(16) as pool:
        return dict(zip(EVERY, pool.map(world.ask, EVERY), strict=True))


def tokens(line: dict[str, Any]) -> tuple[int | None, int | None]:
    return line["gen_ai.usage.input_tokens"], line["gen_ai.usage.output_tokens"]


def test_every_fault_is_met() -> None:
    assert {case.fault for case in EVERY} == {*faulty.FAULTS, "fail-500", "fail-503"}


@pytest.mark.parametrize("case", cases(*BEFORE, *INSIDE, *COUNTED, *UNCOUNTED, *OTHERS))
def test_whoever_is_asked_gets_its_own_key(seen: dict[Case, Seen], case: Case) -> None:
    found = seen[case]
    assert all(headers["authorization"] == f"Bearer sk-{name}" for name, headers in found.asked)
    assert "sk-" not in found.answer.text + str(found.answer.headers) + json.dumps(found.line)


@pytest.mark.parametrize("case", cases(*BEFORE))
def test_before_the_answer(seen: dict[Case, Seen], case: Case) -> None:
    found = seen[case]
    line = found.line
    if FALLBACKS[case.way]:
        assert (found.answer.status, found.cut) == (200, False)
        assert [name for name, _headers in found.asked] == ["alpha", "beta"]
        assert (line["gen_ai.provider.name"], line["attempts"], tokens(line)[1]) == ("beta", 2, CHUNKS)
        assert found.answer.text.endswith("data: [DONE]\n\n" if case.stream else "}")
        assert "retry-after" not in found.answer.headers
    else:
        status, code = BEFORE[case.fault]
        assert found.answer.status == line["http.response.status_code"] == status
        if code is not None:
            assert found.answer.error["code"] == code
        assert [name for name, _headers in found.asked] == ["alpha"]
        assert (line["gen_ai.provider.name"], line["attempts"], tokens(line)) == (case.first, 1, (None, None))
    if case.fault == "hang":
        assert FIRST_BYTE - 0.1 <= found.seconds < FIRST_BYTE + 3


def test_when_to_come_back_is_passed_on(seen: dict[Case, Seen]) -> None:
    assert seen[Case("rate-limited", way="alone", stream=True)].answer.headers["retry-after"] == "7"


@pytest.mark.parametrize("case", cases(*INSIDE))
def test_within_the_answer(seen: dict[Case, Seen], case: Case) -> None:
    """It is cut so that the client knows it: it is neither completed nor followed by another one."""
    found = seen[case]
    assert (found.answer.status, found.cut) == (200, True)
    assert found.answer.text
    assert "[DONE]" not in found.answer.text
    assert [name for name, _headers in found.asked] == ["alpha"]
    assert (found.line["gen_ai.provider.name"], found.line["attempts"]) == (case.first, 1)
    assert tokens(found.line) == (None, None)
    assert found.line["flags"] in ("UPE", "UC", "SI")
    if case.fault == "hang-inside":
        # Envoy gives the client a second to take in what was sent.
        assert IDLE <= found.seconds < IDLE + 1 + FIRST_BYTE


@pytest.mark.parametrize("case", cases(*COUNTED, *UNCOUNTED))
def test_a_strange_answer_is_an_answer(seen: dict[Case, Seen], case: Case) -> None:
    found = seen[case]
    assert (found.answer.status, found.cut) == (200, False)
    assert [name for name, _headers in found.asked] == ["alpha"]
    assert (found.line["attempts"], found.line["http.response.status_code"]) == (1, 200)
    counted = case.fault in COUNTED or (case.fault == "wrong-type" and case.stream)
    assert (tokens(found.line)[1] == CHUNKS) is counted
    if not counted:
        assert tokens(found.line) == (None, None)
    if case.fault in COUNTED:
        assert found.answer.text.endswith("data: [DONE]\n\n" if case.stream else "}")
        assert "smuggled" not in found.answer.text
    if case.fault.startswith("huge"):
        assert found.size > faulty.HUGE - 65536


@pytest.mark.parametrize("case", cases("switching"))
def test_who_switches_protocols_leads_nowhere(world: World, seen: dict[Case, Seen], case: Case) -> None:
    """Envoy passes it on, but nothing that the client sends after it reaches the provider."""
    assert seen[case].answer.status == 101
    body = json.dumps(chat(case.model)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ALL}\r\ncontent-length: {len(body)}\r\n\r\n"
    before = len(world.providers["alpha"].seen())
    with closing(socket.create_connection(("127.0.0.1", world.port), timeout=5)) as client:
        client.sendall(head.encode() + body)
        assert client.recv(1000).startswith(b"HTTP/1.1 101 ")
        client.sendall(b"GET /v1/files HTTP/1.1\r\nhost: x\r\n\r\n")
    assert len(world.providers["alpha"].seen()) == before + 1


def test_what_nobody_asked_for_is_nobodys_answer(world: World) -> None:
    """On the same connection as the answer before comes another one, too early to be one."""
    for _turn in range(10):
        model = Case("short-length", way="alone", stream=False).model
        assert "smuggled" not in call(world.port, body=chat(model, x_chunks=CHUNKS)).text
        assert call(world.port, body=chat("good")).json["model"] == "good"


@pytest.mark.parametrize("case", cases("huge", "huge-line"))
def test_memory_is_bounded(world: World, case: Case) -> None:
    """What a client does not take stays at the provider."""
    before = world.memory()
    body = json.dumps(chat(case.model, stream=case.stream, x_chunks=CHUNKS, x_size=200 * MEGABYTE)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ALL}\r\ncontent-length: {len(body)}\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", world.port), timeout=5)) as client:
        client.sendall(head.encode() + body)
        assert client.recv(1000)
        # Less than the silence that ends it.
        time.sleep(0.5)
        highest, received = world.memory(), 0
        while received < 50 * MEGABYTE:
            part = client.recv(MEGABYTE)
            assert part, received
            received += len(part)
        highest = max(highest, world.memory())
    assert highest - before < 48 * MEGABYTE


def test_the_gateway_lives_on(world: World, seen: dict[Case, Seen]) -> None:
    assert len(seen) == len(EVERY)
    assert call(world.port, body=chat("good")).status == 200
    end = time.monotonic() + 5
    names = ("http.gateway.downstream_rq_active", "http.egress.downstream_rq_active")
    while any(map(world.gateway.statistic, names)) and time.monotonic() < end:
        time.sleep(0.1)
    assert [world.gateway.statistic(name) for name in names] == [0, 0]
    log = world.gateway.log.read_text(errors="replace")
    assert "sk-" not in log + world.gateway.access_log.read_text()
    assert not [line for line in log.splitlines() if "[error]" in line or "[critical]" in line]
