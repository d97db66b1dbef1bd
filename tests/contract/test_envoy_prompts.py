"""Prompts and answers in a file of their own: whose, how much, how long; and nothing of anybody else's anywhere."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from contract.gateway_process import Gateway, Provider, free_port, gateway, providers

from ansible_collections.gatewayops.openai.plugins.module_utils._release import admin

CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS = "chat/completions", "completions", "responses", "embeddings"
LONGEST = 2048


@dataclass
class World:
    gateway: Gateway
    port: int
    metrics: int
    alpha: Provider
    raw: dict[str, Any]

    @property
    def file(self) -> Path:
        return Path(self.gateway.host.log_dir, "prompts.jsonl")

    def send(
        self, consumer: str, endpoint: str, body: str | bytes
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"authorization": f"Bearer sk-{consumer}", "content-type": "application/json"}
        connection.request("POST", f"/v1/{endpoint}?canary-query", body, headers)
        return connection, connection.getresponse()

    def ask(self, consumer: str, endpoint: str = CHAT, **body: Any) -> tuple[bytes, str]:
        """The answer, and the id of the request."""
        return self.ask_raw(consumer, endpoint, json.dumps({**prompt(endpoint), **body}))

    def ask_raw(self, consumer: str, endpoint: str, body: str | bytes) -> tuple[bytes, str]:
        connection, response = self.send(consumer, endpoint, body)
        text = response.read()
        connection.close()
        return text, str(response.headers["x-request-id"])

    def line(self, request_id: str) -> Any:
        """What was written of a request."""
        self.gateway.logged({"x-request-id": request_id})
        found = [line for line in self.lines() if line["request_id"] == request_id]
        assert len(found) < 2
        return found[0] if found else None

    def lines(self) -> list[Any]:
        admin.ask(self.gateway.socket, "/reopen_logs", "POST")
        time.sleep(0.1)
        # The last line may be there in part.
        return [json.loads(line) for line in self.file.read_text().split("\n")[:-1]] if self.file.exists() else []


def prompt(endpoint: str) -> dict[str, Any]:
    if endpoint == CHAT:
        return {"model": "m", "messages": [{"role": "user", "content": "canary-prompt one two"}]}
    return {"model": "m", "prompt" if endpoint == COMPLETIONS else "input": "canary-prompt one two"}


def moment(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port, metrics = free_port(), free_port()
    with providers("alpha") as running:
        alpha = running["alpha"]
        names = ("team-a", "team-b", "other")
        raw = {
            "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
            "gateway_metrics": {"port": metrics},
            "gateway_providers": {"alpha": {"type": "openai", "base_url": f"{alpha.url}/v1", "api_key": "env://ALPHA"}},
            "gateway_models": {
                "m": {"targets": [{"provider": "alpha", "model": "m"}]},
                "renamed": {"targets": [{"provider": "alpha", "model": "other-name"}]},
                "fallback": {
                    "targets": [{"provider": "alpha", "model": "fail-500"}],
                    "fallbacks": [{"provider": "alpha", "model": "second"}],
                },
            },
            "gateway_consumers": {
                name: {"api_keys": [f"env://{name.upper().replace('-', '_')}"], "models": ["*"]} for name in names
            },
            "gateway_prompt_log": {"consumers": ["team-*"], "until": moment(days=1), "max_size": "2K"},
        }
        with gateway(tmp_path_factory.mktemp("prompts"), raw) as started:
            yield World(started, port, metrics, alpha, raw)


class TestWhatIsWritten:
    @pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS])
    @pytest.mark.parametrize("model", ["m", "renamed", "fallback"])
    def test_a_request_and_its_answer(self, world: World, endpoint: str, model: str) -> None:
        world.alpha.reset()
        text, request_id = world.ask("team-a", endpoint, model=model)
        line = world.line(request_id)
        assert line["consumer"] == "team-a"
        assert line["gen_ai.request.model"] == model
        assert line["http.response.status_code"] == 200
        assert json.loads(line["request.body"])["model"]
        assert "canary-prompt" in line["request.body"]
        assert line["response.body"] == text.decode()[:LONGEST]
        assert (line["request.body_cut"], line["response.text"]) == (None, None)

    @pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS, RESPONSES])
    @pytest.mark.parametrize("split", [0, 7])
    def test_a_stream_is_its_text(self, world: World, endpoint: str, split: int) -> None:
        text, request_id = world.ask("team-b", endpoint, stream=True, x_chunks=4, x_split=split)
        line = world.line(request_id)
        assert line["response.text"] == "0 1 2 3"
        assert line["response.body"] is None
        # The usage was read all the same, and hidden from who did not ask for it.
        logged = world.gateway.logged({"x-request-id": request_id})
        assert logged["gen_ai.usage.output_tokens"] == 4
        assert b'"usage": {' not in text or endpoint == RESPONSES

    def test_any_text(self, world: World) -> None:
        said = 'a "quoted" \\ text\n\t/ é € 😀 \u2028 \x01 ]}[{ data: {"content": 1}'
        for ascii_only in (True, False):
            deltas = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in (said[:9], said[9:])]
            raw = "".join(f"data: {json.dumps(each, ensure_ascii=ascii_only)}\n\n" for each in deltas)
            text, request_id = world.ask(
                "team-a", stream=True, x_raw=raw, x_content_type="text/event-stream", x_split=5
            )
            assert text.decode() == raw
            assert world.line(request_id)["response.text"] == said

    @pytest.mark.parametrize(
        "raw",
        [
            "data: [DONE]\n\n",
            'data: {"choices":[]}\n\n',
            'data: {"choices":[{"delta":{"content":null}}]}\n\n',
            'data: {"choices":[{"delta":"x"},3,{"text":4}]}\n\n',
            'data: {"choices":{"delta":{"content":"x"}}}\n\n',
            'data: {"choices":[{"delta":{"content":"\\ud800\\u12',
            "data: {" + "[" * 5000 + "\n\n",
            ": comment\n\nevent: x\ndata: \xff\n\n",
            "",
        ],
    )
    def test_a_stream_without_text_passes(self, world: World, raw: str) -> None:
        text, request_id = world.ask("team-a", stream=True, x_raw=raw, x_content_type="text/event-stream")
        assert text.decode() == raw
        assert world.line(request_id)["response.text"] is None

    def test_bytes_that_are_no_text(self, world: World) -> None:
        body = b'{"model":"m","messages":[{"role":"user","content":"\xff\xc3 broken"}]}'
        _text, request_id = world.ask_raw("team-a", CHAT, body)
        assert "broken" in world.line(request_id)["request.body"]

    def test_what_is_too_long_is_cut(self, world: World) -> None:
        long = "€" * 1000
        messages = [{"role": "user", "content": long}]
        _text, request_id = world.ask("team-a", messages=messages, x_raw=json.dumps(long * 9))
        line = world.line(request_id)
        assert len(line["request.body"].encode()) <= LONGEST
        assert (line["request.body_cut"], line["response.body_cut"]) == (True, True)
        text, request_id = world.ask("team-a", stream=True, x_chunks=2000)
        line = world.line(request_id)
        assert LONGEST - 4 <= len(line["response.text"]) <= LONGEST
        assert line["response.text_cut"] is True
        assert text.endswith(b"data: [DONE]\n\n")

    def test_a_client_that_leaves(self, world: World) -> None:
        body = json.dumps({**prompt(CHAT), "stream": True, "x_chunks": 50, "x_delay": 0.1})
        connection, response = world.send("team-a", CHAT, body)
        assert response.readline().startswith(b"data: ")
        response.close()
        connection.close()
        line = world.line(str(response.headers["x-request-id"]))
        assert line["flags"] == "DC"
        assert line["response.text"].startswith("0")

    def test_an_error_of_the_provider(self, world: World) -> None:
        text, request_id = world.ask("team-a", x_status=400)
        line = world.line(request_id)
        assert line["http.response.status_code"] == 400
        assert line["response.body"] == text.decode()

    def test_pieces_arrive_as_they_are_sent(self, world: World) -> None:
        body = json.dumps({**prompt(CHAT), "stream": True, "x_chunks": 5, "x_delay": 0.1})
        connection, response = world.send("team-a", CHAT, body)
        times = []
        while line := response.readline():
            if line.strip():
                times.append(time.monotonic())
        connection.close()
        assert times[4] - times[0] > 0.3

    def test_what_was_refused_is_not_written(self, world: World) -> None:
        _text, request_id = world.ask_raw("team-a", CHAT, '{"model":"m","model":"x","messages":"canary-refused"}')
        assert world.line(request_id) is None
        assert "canary-refused" not in world.file.read_text()


class TestPrivacy:
    def test_the_file_is_closed_to_others(self, world: World) -> None:
        _text, request_id = world.ask("team-a")
        assert world.line(request_id)
        world.gateway.logged({"x-request-id": request_id})
        # The service has UMask=0077; a test has its own.
        assert world.file.stat().st_mode & 0o7022 == 0

    def test_nothing_of_others_is_anywhere(self, world: World) -> None:
        for stream in (False, True):
            said = f"canary-answer-{stream}"
            kind = "text/event-stream" if stream else "application/json"
            raw = 'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % said if stream else json.dumps({"text": said})
            _text, request_id = world.ask(
                "other",
                messages=[{"role": "user", "content": "canary-of-others"}],
                x_raw=raw,
                x_content_type=kind,
                stream=stream,
            )
            assert world.line(request_id) is None
        places = [path.read_text() for path in (world.file, world.gateway.log, Path(world.gateway.access_log))]
        for path in ("/stats", "/stats/prometheus", "/config_dump", "/clusters", "/memory"):
            places.append(str(admin.ask(world.gateway.socket, path)))
        for place in places:
            assert "canary-of-others" not in place
            assert "canary-answer" not in place

    def test_those_of_the_listed_are_in_their_file_only(self, world: World) -> None:
        _text, request_id = world.ask("team-a", messages=[{"role": "user", "content": "canary-listed"}])
        assert "canary-listed" in world.line(request_id)["request.body"]
        for path in (world.gateway.log, Path(world.gateway.access_log)):
            assert "canary-listed" not in path.read_text()

    def test_no_keys(self, world: World) -> None:
        world.lines()
        text = world.file.read_text()
        for key in ("sk-team-a", "sk-team-b", "sk-alpha", "canary-query"):
            assert key not in text

    def test_envoy_has_nothing_to_complain_about(self, world: World) -> None:
        world.gateway.complains("never")
        lines = world.gateway.complaints().splitlines()
        assert not [line for line in lines if "[error]" in line or "[warn" in line or "script" in line]


def test_it_ends_by_itself_and_can_change_without_a_new_listener(world: World) -> None:
    """The last test of the module: it changes the world."""
    before = world.gateway.statistic("listener_manager.lds.version")
    log = {**world.raw["gateway_prompt_log"], "consumers": ["other"], "until": moment(seconds=6)}
    world.gateway.switch({**world.raw, "gateway_prompt_log": log})
    resources = json.loads({f.path: f.content for f in world.gateway.active.files}["envoy/lds.json"])["resources"]
    assert "team-a" not in json.dumps(resources)
    assert before is not None
    _text, request_id = world.ask("other")
    assert world.line(request_id)["consumer"] == "other"
    _text, request_id = world.ask("team-a")
    assert world.line(request_id) is None
    # A stream that begins before the end and ends after it.
    _text, request_id = world.ask("other", stream=True, x_chunks=16, x_delay=0.5)
    assert world.line(request_id) is None
    _text, request_id = world.ask("other")
    assert world.line(request_id) is None


def test_off_costs_nothing(world: World) -> None:
    raw = {key: value for key, value in world.raw.items() if key != "gateway_prompt_log"}
    world.gateway.switch(raw)
    for file in world.gateway.active.files:
        if file.path.startswith("envoy/"):
            assert b"gw.prompts" not in file.content
