"""What passes with which type of provider, asked with OpenAI's client; the table in docs/verify.md says the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from contract.capabilities import KEY, PROVIDERS, spec_of, start_providers
from contract.gateway_process import Gateway, Provider, free_port, gateway

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verify.md"
BEGIN, END = "<!-- what passes: compared by tests/contract/test_envoy_capabilities.py -->\n", "<!-- end -->\n"
HELLO: Any = [{"role": "user", "content": "Hello"}]
PNG = b"\x89PNG\r\n"


class Said(pydantic.BaseModel):
    answer: str


TOOLS: Any = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
SCHEMA: Any = {
    "type": "json_schema",
    "json_schema": {"name": "said", "strict": True, "schema": Said.model_json_schema()},
}


def text_of(provider: str) -> str:
    return f"This is {provider} answering for {provider}."


def chat(client: openai.OpenAI, name: str) -> None:
    answer = client.chat.completions.create(model=name, messages=HELLO)
    assert answer.choices[0].message.content == text_of(name)
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0


def tools(client: openai.OpenAI, name: str) -> None:
    """A call, and the answer to what it has found."""
    first = client.chat.completions.create(model=name, messages=HELLO, tools=TOOLS, tool_choice="required")
    (call,) = first.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, first.choices[0].finish_reason) == ("look_up", "tool_calls")
    found: Any = {"role": "tool", "tool_call_id": call.id, "content": "found"}
    messages: Any = [*HELLO, first.choices[0].message.model_dump(exclude_none=True), found]
    second = client.chat.completions.create(model=name, messages=messages, tools=TOOLS)
    assert second.choices[0].message.content == text_of(name)


def structured(client: openai.OpenAI, name: str) -> None:
    answer = client.chat.completions.create(model=name, messages=HELLO, response_format=SCHEMA)
    assert json.loads(answer.choices[0].message.content or "") == {"answer": text_of(name)}


def parsed(client: openai.OpenAI, name: str) -> None:
    answer = client.chat.completions.parse(model=name, messages=HELLO, response_format=Said)
    assert answer.choices[0].message.parsed == Said(answer=text_of(name))


def stream(client: openai.OpenAI, name: str) -> None:
    """With the usage for those who asked, and without it for others."""
    for options in ({}, {"stream_options": {"include_usage": True}}):
        given: Any = options
        chunks = list(client.chat.completions.create(model=name, messages=HELLO, stream=True, **given))
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        assert text == text_of(name)
        assert [chunk.usage is not None for chunk in chunks][-1] is bool(options)
        assert sum(chunk.usage is not None for chunk in chunks) == bool(options)


def stream_helper(client: openai.OpenAI, name: str) -> None:
    with client.chat.completions.stream(model=name, messages=HELLO) as events:
        deltas = [event.delta for event in events if event.type == "content.delta"]
        final = events.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content == text_of(name)


def embeddings(client: openai.OpenAI, name: str) -> None:
    answer = client.embeddings.create(model=name, input=["a", "bc"])
    assert [entry.embedding for entry in answer.data] == [[1.0, 0.5, 0.0, 1.0], [1.0, 0.5, 1.0, 2.0]]


def responses(client: openai.OpenAI, name: str) -> None:
    assert client.responses.create(model=name, input="Hello").output_text == text_of(name)


def responses_stream(client: openai.OpenAI, name: str) -> None:
    events = list(client.responses.create(model=name, input="Hello", stream=True))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == text_of(name)


def completions(client: openai.OpenAI, name: str) -> None:
    assert client.completions.create(model=name, prompt="Hello").choices[0].text == text_of(name)


def transcription(client: openai.OpenAI, name: str) -> None:
    answer = client.audio.transcriptions.create(model=name, file=("a.wav", b"RIFF"))
    assert answer.text == f"a.wav of 4 bytes for {name}"


def speech(client: openai.OpenAI, name: str) -> None:
    answer = client.audio.speech.create(model=name, input="Hello", voice="alloy")
    assert answer.content == f"Sound of Hello by {name}".encode()


def images(client: openai.OpenAI, name: str) -> None:
    made = client.images.generate(model=name, prompt="a cat")
    edited = client.images.edit(model=name, image=("a.png", PNG), prompt="a cat")
    assert [bool(answer.data and answer.data[0].b64_json) for answer in (made, edited)] == [True, True]


def models(client: openai.OpenAI, name: str) -> None:
    assert name in {model.id for model in client.models.list()}
    assert client.models.retrieve(name).id == name


def files(client: openai.OpenAI, name: str) -> None:
    """The gateway's files are kept by this provider."""
    made = client.files.create(file=("a.jsonl", b"{}"), purpose="batch")
    assert client.files.retrieve(made.id).bytes == 2
    assert made.id in {file.id for file in client.files.list()}
    assert client.files.content(made.id).content == b"{}"
    assert client.files.delete(made.id).deleted


CAPABILITIES: dict[str, Callable[[openai.OpenAI, str], None]] = {
    "chat": chat,
    "chat: `tools`": tools,
    "chat: `response_format` with a JSON schema": structured,
    "chat: the client's `.parse`": parsed,
    "chat: streams": stream,
    "chat: the client's `.stream`": stream_helper,
    "completions": completions,
    "responses": responses,
    "responses: streams": responses_stream,
    "embeddings": embeddings,
    "audio: transcriptions": transcription,
    "audio: speech": speech,
    "images: generations, edits": images,
    "models": models,
    "files": files,
}
HEADS = ("`openai`", "`azure_openai`, `v1`", "`azure_openai`, dated", "`openai_compatible`", "`anthropic`")


@dataclass
class World:
    gateway: Gateway
    port: int
    up: dict[str, Provider]

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=KEY, max_retries=0, timeout=20)

    def try_out(self, capability: str, provider: str) -> str:
        """What the table says of it."""
        try:
            with self.client() as client:
                CAPABILITIES[capability](client, provider)
        except openai.APIStatusError as error:
            return f"no ({error.status_code})"
        return "yes"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port = free_port()
    with ExitStack() as stack:
        up = start_providers(stack)
        started = stack.enter_context(gateway(tmp_path_factory.mktemp("gateway"), spec_of(port, up)))
        yield World(started, port, up)


def test_the_table_in_the_documentation(world: World) -> None:
    """With GOLDEN_UPDATE=1 it is written."""
    found: dict[str, list[str]] = {name: [] for name in CAPABILITIES}
    for provider in PROVIDERS:
        # It serves models only, which a spec is told that says otherwise.
        has_files = provider != "anthropic"
        if has_files and provider != PROVIDERS[0]:
            world.gateway.switch(spec_of(world.port, world.up, files=provider))
        for name in CAPABILITIES:
            skip = name == "files" and not has_files
            found[name].append("no" if skip else world.try_out(name, provider))
        if has_files:
            kept = [seen for seen in world.up[provider].seen() if "/files" in seen["path"]]
            assert len(kept) == 5
    lines = [f"| | {' | '.join(HEADS)} |", "|---" * (len(HEADS) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in found.items()]
    table = "\n".join(lines) + "\n"
    before, rest = PAGE.read_text().split(BEGIN)
    written, after = rest.split(END)
    if os.environ.get("GOLDEN_UPDATE"):
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")
    else:
        assert written.strip("\n") + "\n" == table
