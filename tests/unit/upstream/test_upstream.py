"""The test upstream behaves like OpenAI's API as the official client sees it."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

UPSTREAM = Path(__file__).resolve().parents[2] / "upstream" / "upstream.py"
KEY = "sk-upstream-test"


@contextmanager
def started(*arguments: str, python: str = sys.executable) -> Iterator[int]:
    process = subprocess.Popen(
        [python, str(UPSTREAM), "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        word, port = process.stdout.readline().split()
        assert word == "PORT"
        yield int(port)
    finally:
        process.terminate()
        _other, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert errors == ""


def client_for(port: int, **options: Any) -> openai.OpenAI:
    options.setdefault("api_key", KEY)
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", max_retries=0, timeout=20, **options)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with started("--name", "eu", "--api-key", "sk-other", "--api-key", KEY) as chosen:
        yield chosen


@pytest.fixture
def client(port: int) -> Iterator[openai.OpenAI]:
    call(port, "POST", "/_reset")
    with client_for(port) as made:
        yield made


def call(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def chat(client: openai.OpenAI, model: str = "gpt-5", **fields: Any) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi there"}], **fields)


def test_chat(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-5", messages=[{"role": "user", "content": "Hi there"}], extra_body={"x_chunks": 3}
    )
    answer = raw.parse()
    assert raw.headers["x-upstream-name"] == "eu"
    assert answer.model == "gpt-5"
    assert answer.system_fingerprint == "eu"
    assert answer.choices[0].message.content == "0 1 2"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 3


def test_chat_names_server_and_model(client: openai.OpenAI) -> None:
    assert chat(client).choices[0].message.content == "This is eu answering for gpt-5."


def test_stream_arrives_in_pieces(client: openai.OpenAI) -> None:
    times, text, last = [], "", None
    for event in chat(client, stream=True, extra_body={"x_chunks": 5, "x_delay": 0.2}):
        assert event.object == "chat.completion.chunk"
        assert event.usage is None
        if event.choices[0].delta.content:
            times.append(time.monotonic())
            text += event.choices[0].delta.content
        last = event.choices[0].finish_reason
    assert text == "0 1 2 3 4"
    assert last == "stop"
    # It takes 0.8 seconds to make, and would arrive all at once were it held back.
    assert times[-1] - times[0] > 0.4


def test_stream_usage(client: openai.OpenAI) -> None:
    events = list(chat(client, stream=True, stream_options={"include_usage": True}, extra_body={"x_chunks": 4}))
    assert [event.usage for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1].choices == []
    assert events[-1].usage.completion_tokens == 4


def test_stream_ends_with_done(port: int) -> None:
    body = {"model": "m", "stream": True, "messages": []}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"api-key": KEY})
    answer = connection.getresponse()
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.read().endswith(b"data: [DONE]\n\n")
    connection.close()


@pytest.mark.parametrize("stream", [False, True])
def test_legacy_completions(client: openai.OpenAI, stream: bool) -> None:
    answer: Any = client.completions.create(model="davinci", prompt="Hi", stream=stream, extra_body={"x_chunks": 3})
    parts = answer if stream else [answer]
    assert "".join(part.choices[0].text for part in parts) == "0 1 2"


def test_embeddings(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="text-embedding-3-small", input=["a", "bcd"])
    assert [item.embedding for item in answer.data] == [[1.0, 0.5, 0.0, 1.0], [1.0, 0.5, 1.0, 3.0]]
    assert answer.usage.total_tokens > 0
    plain = client.embeddings.create(model="e", input="a", encoding_format="float")
    assert plain.data[0].embedding == [1.0, 0.5, 0.0, 1.0]


def test_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="gpt-5", input="Hi", extra_body={"x_chunks": 2})
    assert answer.output_text == "0 1"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 2
    events = list(client.responses.create(model="gpt-5", input="Hi", stream=True, extra_body={"x_chunks": 2}))
    assert [event.type for event in events] == [
        "response.created",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == [0, 1, 2, 3]


def test_models(client: openai.OpenAI) -> None:
    assert "gpt-5" in [model.id for model in client.models.list()]


def test_azure(port: int) -> None:
    azure = openai.AzureOpenAI(
        azure_endpoint=f"http://127.0.0.1:{port}", api_key=KEY, api_version="2024-10-21", max_retries=0
    )
    with azure:
        answer = chat(azure, model="gpt5-eu", extra_body={"x_chunks": 1})
        assert answer.model == "gpt5-eu"
        embedded = azure.embeddings.create(model="emb-eu", input="a")
        assert embedded.model == "emb-eu"
    status, _other = call(port, "POST", "/openai/deployments/gpt5-eu/chat/completions", {}, **{"api-key": KEY})
    assert status == 404


def test_key_is_checked(port: int) -> None:
    with client_for(port, api_key="wrong") as wrong, pytest.raises(openai.AuthenticationError):
        chat(wrong)
    assert call(port, "POST", "/v1/chat/completions", {"model": "m"})[0] == 401
    assert call(port, "POST", "/v1/chat/completions", {"model": "m"}, **{"api-key": "sk-other"})[0] == 200
    assert call(port, "POST", "/v1/chat/completions", {"model": "m"}, authorization=f"Bearer {KEY}")[0] == 200
    assert call(port, "POST", "/v1/chat/completions", {"model": "m"}, authorization=KEY)[0] == 401


def test_key_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-filed\n")
    with started("--api-key-file", str(file)) as port:
        assert call(port, "GET", "/v1/models", authorization="Bearer sk-filed")[0] == 200
        assert call(port, "GET", "/v1/models")[0] == 401


def test_models_that_fail(client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as limited:
        chat(client, model="fail-429")
    assert limited.value.response.headers["retry-after"] == "1"
    with pytest.raises(openai.InternalServerError):
        chat(client, model="fail-503")
    with pytest.raises(openai.APIConnectionError):
        chat(client, model="fail-reset")
    assert chat(client).model == "gpt-5"


def test_reset_is_a_tcp_reset(port: int) -> None:
    body = json.dumps({"model": "fail-reset"})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall((head + body).encode())
        with pytest.raises(ConnectionResetError):
            raw.recv(100)


def test_stream_that_breaks_off(client: openai.OpenAI) -> None:
    got = []
    with pytest.raises(Exception, match=r"peer closed|reset|incomplete|Connection") as broken:  # noqa: PT012
        for event in chat(client, model="fail-midstream", stream=True, extra_body={"x_chunks": 6, "x_delay": 0.05}):
            got.append(event.choices[0].delta.content)
    assert not isinstance(broken.value, AssertionError)
    assert "".join(got) == "0 1 2"


def test_first_byte_can_be_slow(client: openai.OpenAI) -> None:
    began = time.monotonic()
    chat(client, extra_body={"x_first_byte_delay": 0.3})
    assert time.monotonic() - began >= 0.3
    with pytest.raises(openai.APITimeoutError):
        chat(client.with_options(timeout=0.3), model="slow-first-byte")


def test_status_of_one_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError):
        chat(client, extra_body={"x_status": 502})
    with pytest.raises(openai.RateLimitError):
        chat(client, extra_headers={"x-status": "429"})


def test_control(client: openai.OpenAI, port: int) -> None:
    assert call(port, "POST", "/_control", {"status": 429})[1]["status"] == 429
    with pytest.raises(openai.RateLimitError):
        chat(client)
    call(port, "POST", "/_control", {"status": None, "first_byte_delay": 1.0, "delay": 0.1})
    began = time.monotonic()
    chat(client, extra_body={"x_chunks": 3})
    assert time.monotonic() - began >= 1.2
    call(port, "POST", "/_reset")
    began = time.monotonic()
    chat(client, extra_body={"x_chunks": 3})
    assert time.monotonic() - began < 1.2


def test_seen(client: openai.OpenAI, port: int) -> None:
    before = time.time()
    chat(client, extra_headers={"X-Trace": "t-1"})
    with pytest.raises(openai.RateLimitError):
        chat(client, model="fail-429")
    first, second = call(port, "GET", "/_seen")[1]
    assert (first["method"], first["path"], first["model"]) == ("POST", "/v1/chat/completions", "gpt-5")
    assert first["headers"]["x-trace"] == "t-1"
    assert first["headers"]["authorization"] == f"Bearer {KEY}"
    assert json.loads(first["body"])["model"] == "gpt-5"
    assert first["time"] == pytest.approx(before, abs=5)
    assert (first["status"], first["complete"]) == (200, True)
    assert (second["status"], second["complete"]) == (429, True)


def test_seen_tells_a_client_that_left(client: openai.OpenAI, port: int) -> None:
    stream = chat(client, stream=True, extra_body={"x_chunks": 50, "x_delay": 0.02})
    next(iter(stream))
    stream.close()
    time.sleep(0.3)
    (only,) = call(port, "GET", "/_seen")[1]
    assert (only["status"], only["complete"]) == (None, False)


def test_seen_keeps_a_thousand(client: openai.OpenAI, port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for number in range(1003):
        connection.request("GET", f"/v1/models?n={number}", headers={"api-key": KEY})
        connection.getresponse().read()
    connection.close()
    seen = call(port, "GET", "/_seen")[1]
    assert [seen[0]["path"], seen[-1]["path"], len(seen)] == ["/v1/models?n=3", "/v1/models?n=1002", 1000]


def test_keep_alive(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/v1/models", headers={"api-key": KEY})
    connection.getresponse().read()
    first = connection.sock
    for body in ({"model": "m", "stream": True}, {"model": "fail-429"}, {"model": "m"}):
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"api-key": KEY})
        connection.getresponse().read()
        assert connection.sock is first
    connection.close()


def test_chunked_request(port: int) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"model": '
        yield b'"chunky", "messages": []}'

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"api-key": KEY, "transfer-encoding": "chunked", "expect": "100-continue"}
    connection.request("POST", "/v1/chat/completions", pieces(), headers, encode_chunked=True)
    assert json.loads(connection.getresponse().read())["model"] == "chunky"
    connection.close()


def test_large_request(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "x" * 10_000_000}]
    assert client.chat.completions.create(model="gpt-5", messages=messages).model == "gpt-5"


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\n",
    ],
)
def test_not_http(port: int, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        assert connection.makefile("rb").readline() == b"HTTP/1.1 400 Bad Request\r\n"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/unheard", {"model": "m"}, 404),
        ("GET", "/v1/chat/completions", None, 404),
        ("POST", "/v1/chat/completions", {}, 400),
        ("POST", "/v1/chat/completions", [], 400),
        ("POST", "/v1/chat/completions", {"model": 3}, 400),
    ],
)
def test_bad_requests(port: int, method: str, path: str, body: Any, status: int) -> None:
    got, answer = call(port, method, path, body, **{"api-key": KEY})
    assert got == status
    assert answer["error"]["message"]


def test_many_streams_at_once(port: int) -> None:
    import asyncio

    async def one(client: openai.AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(
            model="m", messages=[], stream=True, extra_body={"x_chunks": 10, "x_delay": 0.05}
        )
        return "".join([event.choices[0].delta.content or "" async for event in stream])

    async def everything() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, timeout=30) as client:
            return list(await asyncio.gather(*(one(client) for _turn in range(100))))

    assert set(asyncio.run(everything())) == {"0 1 2 3 4 5 6 7 8 9"}


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-keyout", str(key), "-out", str(cert)),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


def test_tls(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    context = ssl.create_default_context(cafile=str(cert))
    with started("--tls-cert", str(cert), "--tls-key", str(key)) as port:
        connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
        connection.request("GET", "/v1/models")
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
        connection.close()


def test_runs_on_the_oldest_supported_python(pythons: Callable[[str], str | None]) -> None:
    python = pythons("3.9")
    if python is None:
        pytest.skip("Python 3.9 is not installed")
    with started(python=python) as port:
        assert call(port, "POST", "/v1/chat/completions", {"model": "m"})[1]["model"] == "m"


@pytest.fixture
def pythons() -> Callable[[str], str | None]:
    """Find an interpreter of a version, on PATH or where pyenv keeps them."""

    def find(version: str) -> str | None:
        kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
        for candidate in [shutil.which(f"python{version}"), *map(str, kept)]:
            if candidate and subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0:
                return candidate
        return None

    return find


class TestWithoutAModel:
    def test_files(self, client: openai.OpenAI) -> None:
        file = client.files.create(file=("a.jsonl", b"{}\r\n--"), purpose="batch")
        assert (file.filename, file.bytes, file.purpose) == ("a.jsonl", 6, "batch")
        assert file.id in [each.id for each in client.files.list()]
        assert client.files.content(file.id).read() == b"{}\r\n--"
        assert client.files.delete(file.id).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(file.id)

    def test_batches(self, client: openai.OpenAI) -> None:
        batch = client.batches.create(completion_window="24h", endpoint="/v1/embeddings", input_file_id="file-1")
        assert client.batches.retrieve(batch.id).endpoint == "/v1/embeddings"
        assert client.batches.cancel(batch.id).status == "cancelling"

    def test_forms(self, client: openai.OpenAI) -> None:
        answer = client.audio.transcriptions.create(model="whisper", file=("a.wav", b"RIFF"))
        assert answer.text == "a.wav of 4 bytes for whisper"
        with pytest.raises(openai.BadRequestError):
            client.audio.transcriptions.create(model="", file=("a.wav", b"RIFF"))
