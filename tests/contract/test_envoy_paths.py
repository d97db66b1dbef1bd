"""Paths of the API beside JSON with a model: forms, one model, and endpoints without a model, on a running gateway."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from contract.gateway_process import Gateway, Provider, free_port, gateway, providers
from contract.test_envoy_requests import Answer, call

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.endpoints import ENDPOINTS

ALL, ONE, LIMITED = "sk-all", "sk-one", "sk-limited"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
MAX_BODY = 2 * 1024 * 1024
SOUND = b"RIFF\r\n\r\n--\r\n\0\xff" * 10


def form(*parts: tuple[str, bytes], boundary: str = "b0undary", end: str = "--\r\n") -> bytes:
    text = b""
    for head, content in parts:
        text += f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
    return text + f"--{boundary}{end}".encode()


def sound(model: str, content: bytes = SOUND) -> bytes:
    return form(('name="file"; filename="a.wav"', content), ('name="model"', model.encode()))


@dataclass
class World:
    gateway: Gateway
    port: int
    metrics: int
    alpha: Provider
    beta: Provider
    spec: dict[str, Any]

    def client(self, key: str = ALL) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=key, max_retries=0, timeout=20)

    def post(self, body: bytes, path: str = TRANSCRIPTIONS, boundary: str = "b0undary", key: str = ALL) -> Answer:
        return call(self.port, path, body, key=key, content_type=f"multipart/form-data; boundary={boundary}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port, metrics = free_port(), free_port()
    with providers("alpha", "beta") as running:
        alpha, beta = running["alpha"], running["beta"]
        raw = {
            "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
            "gateway_metrics": {"port": metrics},
            "gateway_max_request_size": "2M",
            "gateway_providers": {
                "alpha": {"type": "openai", "base_url": f"{alpha.url}/team/v1", "api_key": "env://ALPHA"},
                "beta": {
                    "type": "azure_openai",
                    "base_url": f"{beta.url}/eu",
                    "api_version": "2024-10-21",
                    "api_key": "env://BETA",
                },
                "keyless": {"type": "openai", "base_url": f"{alpha.url}/v1", "api_key": "env://WRONG"},
            },
            "gateway_models": {
                "whisper": {"targets": [{"provider": "alpha", "model": "whisper"}]},
                "renamed": {"targets": [{"provider": "alpha", "model": "openai/whisper-large-v3"}]},
                "azure": {"targets": [{"provider": "beta", "model": "whisper-eu"}]},
                "org/model:v1": {"targets": [{"provider": "alpha", "model": "org/model:v1"}]},
                "two": {
                    "targets": [{"provider": "alpha", "model": "fail-503"}],
                    "fallbacks": [{"provider": "beta", "model": "whisper-second"}],
                },
                "dashes": {"targets": [{"provider": "alpha", "model": "--b0undary"}]},
            },
            "gateway_endpoints": {
                "files": {"provider": "alpha"},
                "uploads": {"provider": "beta"},
                "batches": {"provider": "beta"},
                "evals": {"provider": "keyless"},
                "chat_completions": {"provider": "alpha"},
                **{
                    name: {"provider": "alpha"}
                    for name in ENDPOINTS
                    if name not in ("files", "uploads", "batches", "evals")
                },
            },
            "gateway_consumers": {
                "all": {"api_keys": ["env://ALL"], "models": ["*"], "endpoints": list(ENDPOINTS)},
                "one": {"api_keys": ["env://ONE"], "models": ["whisper", "org/*"]},
                "limited": {
                    "api_keys": ["env://LIMITED"],
                    "models": ["*"],
                    "endpoints": ["files"],
                    "limits": {"requests_per_minute": 2},
                },
            },
        }
        with gateway(tmp_path_factory.mktemp("gateway"), raw) as started:
            yield World(started, port, metrics, alpha, beta, raw)


@pytest.fixture(autouse=True)
def forget(world: World) -> None:
    world.alpha.reset()
    world.beta.reset()


class TestForms:
    def test_a_transcription(self, world: World) -> None:
        with world.client() as client:
            answer = client.audio.transcriptions.create(model="whisper", file=("talk.mp3", SOUND))
        assert answer.text == f"talk.mp3 of {len(SOUND)} bytes for whisper"
        (seen,) = world.alpha.seen()
        assert (seen["path"], seen["model"]) == ("/team/v1/audio/transcriptions", "whisper")
        assert seen["headers"]["authorization"] == "Bearer sk-alpha"

    def test_the_model_has_the_providers_name(self, world: World) -> None:
        with world.client() as client:
            answer = client.audio.transcriptions.create(
                model="renamed", file=("talk.mp3", SOUND), prompt='name="model"', temperature=0.5
            )
        assert answer.text == f"talk.mp3 of {len(SOUND)} bytes for openai/whisper-large-v3"

    def test_nothing_else_changes(self, world: World) -> None:
        body = sound("renamed")
        assert world.post(body).status == 200
        (seen,) = world.alpha.seen()
        wanted = body.replace(b"renamed", b"openai/whisper-large-v3")
        assert seen["body"] == wanted.decode("utf-8", "replace")
        assert int(seen["headers"]["content-length"]) == len(wanted)
        assert seen["headers"]["content-type"] == "multipart/form-data; boundary=b0undary"

    def test_pictures(self, world: World) -> None:
        with world.client() as client:
            edited = client.images.edit(model="renamed", image=("a.png", b"\x89PNG"), prompt="x")
        assert edited.data
        assert edited.data[0].b64_json
        assert world.post(sound("whisper"), "/v1/images/variations").status == 200
        assert [seen["path"] for seen in world.alpha.seen()] == ["/team/v1/images/edits", "/team/v1/images/variations"]

    def test_azure(self, world: World) -> None:
        assert world.post(sound("azure")).json["text"].endswith("for whisper-eu")
        (seen,) = world.beta.seen()
        assert seen["path"] == "/eu/openai/deployments/whisper-eu/audio/transcriptions?api-version=2024-10-21"

    def test_a_fallback(self, world: World) -> None:
        assert world.post(sound("two")).json["text"].endswith("for whisper-second")
        (first,), (second,) = world.alpha.seen(), world.beta.seen()
        assert first["model"] == "fail-503"
        assert 'name="model"\r\n\r\nwhisper-second\r\n' in second["body"]
        assert int(second["headers"]["content-length"]) == len(sound("whisper-second"))

    @pytest.mark.parametrize("size", [MAX_BODY - 1, MAX_BODY])
    def test_a_large_file(self, world: World, size: int) -> None:
        body = sound("renamed", b"-" * (size - len(sound("renamed", b""))))
        assert len(body) == size
        assert world.post(body).status == 200
        assert int(world.alpha.seen()[0]["headers"]["content-length"]) == size + 16

    def test_a_file_that_is_too_large(self, world: World) -> None:
        answer = world.post(sound("whisper", b"x" * MAX_BODY))
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        assert not world.alpha.seen()

    def test_who_may_use_a_model(self, world: World) -> None:
        assert world.post(sound("whisper"), key=ONE).status == 200
        answer = world.post(sound("renamed"), key=ONE)
        assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
        answer = world.post(sound("unknown"))
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (form(('name="file"; filename="a"', SOUND)), "provide a model"),
            (form(('name="model"', b"whisper"), ('name="model"', b"whisper")), "exactly one"),
            (form(('name="model"', b"whisper"), ('name="MODEL"', b"renamed")), "exactly one"),
            (form(('name="model"; filename="a"', b"whisper")), "plain text"),
            (form(('name="model"', b"a b")), "256"),
            (form(('name="model"', b"whisper"), end=""), "not a valid form"),
            (form(('name="mo\\del"', b"whisper")), "not a valid form"),
            (form(('name="model"', b"whisper"), boundary="other"), "not a valid form"),
            (b'{"model":"whisper"}', "not a valid form"),
            (form(('name="model"', b"dashes")), "another boundary"),
            (b"", "JSON object or a form"),
        ],
    )
    def test_a_form_without_exactly_one_model(self, world: World, body: bytes, message: str) -> None:
        answer = world.post(body)
        assert (answer.status, answer.error["code"]) == (400, "invalid_request")
        assert message in answer.error["message"]
        assert not world.alpha.seen()

    def test_the_kind_of_the_body_decides(self, world: World) -> None:
        assert call(world.port, TRANSCRIPTIONS, {"model": "whisper"}).status == 200
        assert world.alpha.seen()[0]["headers"]["content-type"] == "application/json"
        assert (
            call(
                world.port, "/v1/embeddings", sound("whisper"), content_type="multipart/form-data; boundary=b0undary"
            ).status
            == 400
        )
        assert call(world.port, TRANSCRIPTIONS, sound("whisper"), content_type="multipart/form-data").status == 400

    def test_it_is_written_down(self, world: World) -> None:
        line = world.gateway.logged(world.post(sound("renamed")).headers)
        wanted = {
            "gen_ai.operation.name": "transcription",
            "gen_ai.request.model": "renamed",
            "upstream_model": "openai/whisper-large-v3",
            "gen_ai.usage.input_tokens": 14,
            "gen_ai.usage.output_tokens": 5,
        }
        assert {key: line[key] for key in wanted} == wanted


class TestOneModel:
    def test_it_is_shown(self, world: World) -> None:
        with world.client(ONE) as client:
            assert client.models.retrieve("whisper").model_dump(exclude_none=True) == {
                "id": "whisper",
                "object": "model",
                "created": 0,
                "owned_by": "gateway",
            }
            assert client.models.retrieve("org/model:v1").id == "org/model:v1"
        answer = call(world.port, "/v1/models/org/model:v1", method="GET", key=ONE)
        assert (answer.json["id"], answer.headers["content-type"]) == ("org/model:v1", "application/json")
        assert int(answer.headers["content-length"]) == len(answer.text)
        assert not world.alpha.seen()

    @pytest.mark.parametrize(
        "name", ["renamed", "gpt-99", "whispe", "whisper/", "%22whisper%22", "a%0d%0ab", "whisper%5c"]
    )
    def test_others_are_not(self, world: World, name: str) -> None:
        answer = call(world.port, f"/v1/models/{name}", method="GET", key=ONE)
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")
        assert answer.error["param"] == "model"
        assert not world.alpha.seen()

    def test_the_client_library_knows_it(self, world: World) -> None:
        with world.client(ONE) as client, pytest.raises(openai.NotFoundError) as unknown:
            client.models.retrieve("renamed")
        assert unknown.value.code == "model_not_found"
        answer = call(world.port, "/v1/models/Az-09_~%22", method="GET", key=ONE)
        assert answer.error["message"] == "The model 'Az-09_~?' does not exist."

    def test_it_is_written_down(self, world: World) -> None:
        line = world.gateway.logged(call(world.port, "/v1/models/renamed", method="GET", key=ONE).headers)
        assert (line["http.response.status_code"], line["url.path"]) == (404, "/v1/models/renamed")
        line = world.gateway.logged(call(world.port, "/v1/models/whisper", method="GET", key=ONE).headers)
        assert (line["http.response.status_code"], line["url.path"]) == (200, "/v1/models/whisper")

    def test_it_needs_a_key(self, world: World) -> None:
        assert call(world.port, "/v1/models/whisper", method="GET", key=None).error["code"] == "invalid_api_key"


class TestEndpoints:
    def test_files(self, world: World) -> None:
        with world.client() as client:
            file = client.files.create(file=("a.jsonl", b'{"a":1}\n'), purpose="batch")
            assert file.filename == "a.jsonl"
            assert [each.id for each in client.files.list(limit=7)] == [file.id]
            assert client.files.content(file.id).read() == b'{"a":1}\n'
            assert client.files.retrieve(file.id).bytes == 8
            assert client.files.delete(file.id).deleted
        assert [(seen["method"], seen["path"]) for seen in world.alpha.seen()] == [
            ("POST", "/team/v1/files"),
            ("GET", "/team/v1/files?limit=7"),
            ("GET", f"/team/v1/files/{file.id}/content"),
            ("GET", f"/team/v1/files/{file.id}"),
            ("DELETE", f"/team/v1/files/{file.id}"),
        ]
        assert {seen["headers"]["authorization"] for seen in world.alpha.seen()} == {"Bearer sk-alpha"}
        assert not [name for seen in world.alpha.seen() for name in seen["headers"] if name.startswith("x-gw-")]

    def test_batches_at_azure(self, world: World) -> None:
        with world.client() as client:
            batch = client.batches.create(
                completion_window="24h", endpoint="/v1/chat/completions", input_file_id="file-1"
            )
            assert client.batches.cancel(batch.id).status == "cancelling"
            assert [each.id for each in client.batches.list(limit=2, extra_query={"API-Version": "1"})] == [batch.id]
        assert [(seen["method"], seen["path"]) for seen in world.beta.seen()] == [
            ("POST", "/eu/openai/batches?api-version=2024-10-21"),
            ("POST", f"/eu/openai/batches/{batch.id}/cancel?api-version=2024-10-21"),
            ("GET", "/eu/openai/batches?api-version=2024-10-21&limit=2"),
        ]
        assert {seen["headers"]["api-key"] for seen in world.beta.seen()} == {"sk-beta"}
        assert not [seen for seen in world.beta.seen() if "authorization" in seen["headers"]]

    @pytest.mark.parametrize("endpoint", [name for name in ENDPOINTS if name not in ("evals", "batches", "uploads")])
    def test_every_path_arrives(self, world: World, endpoint: str) -> None:
        wanted = []
        for methods, template in ENDPOINTS[endpoint]:
            path = template.replace("*", "id_1-a.b:c")
            for method in methods.split(", "):
                answer = call(world.port, f"/v1/{path}", {} if method == "POST" else None, method=method)
                assert answer.headers.get("x-upstream-name") == "alpha"
                wanted.append((method, f"/team/v1/{path}"))
            answer = call(world.port, f"/v1/{path}", b"", method="PATCH")
            assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
            assert answer.headers["allow"] == methods
        assert [(seen["method"], seen["path"]) for seen in world.alpha.seen()] == wanted

    def test_who_may_not(self, world: World) -> None:
        with world.client(ONE) as client, pytest.raises(openai.PermissionDeniedError) as denied:
            client.files.list()
        assert denied.value.code == "no_access"
        assert "'files'" in denied.value.message
        forged = call(world.port, "/v1/files", method="GET", key=ONE, x_gw_endpoint="files")
        assert forged.status == 403
        assert call(world.port, "/v1/models", method="GET", key=ONE, x_gw_endpoint="files").json["object"] == "list"
        assert call(world.port, "/v1/files", method="GET", key=None).status == 401
        assert not world.alpha.seen()

    @pytest.mark.parametrize(
        "path",
        [
            "/v1/files/",
            "/v1/files/a/b",
            "/v1/files/a/content/",
            "/v1/files/a%2fb",
            "/v1/files/%2e%2e",
            "/v1/files/..%2fmodels",
            "/v1/files/...",
            "/v1/files/a;b",
            "/v1/Files",
            "/files",
            "/v1/organization/users",
            "/v1/realtime/client_secrets",
            "/v1/nothing",
        ],
    )
    def test_everything_else(self, world: World, path: str) -> None:
        answer = call(world.port, path, method="GET")
        assert (answer.status, answer.error["code"]) == (404, "unknown_url")
        assert not world.alpha.seen()

    def test_a_large_file_is_not_held(self, world: World) -> None:
        """Ten times what a request with a model may have; the provider has the beginning before the end is sent."""
        size = 20 * 1024 * 1024
        connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=20)
        connection.putrequest("POST", "/v1/uploads/upload_1/parts")
        for name, value in (("authorization", f"Bearer {ALL}"), ("content-length", str(size))):
            connection.putheader(name, value)
        connection.endheaders()
        for _turn in range(20):
            connection.send(b"x" * 1024 * 1024)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        (seen,) = world.beta.seen()
        assert answer.getheader("x-upstream-name") == "beta"
        assert seen["path"] == "/eu/openai/uploads/upload_1/parts?api-version=2024-10-21"
        assert int(seen["headers"]["content-length"]) == size

    def test_limits_of_a_consumer_hold(self, world: World) -> None:
        answers = [call(world.port, "/v1/files", method="GET", key=LIMITED) for _turn in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[2].error["code"] == "rate_limit_exceeded"
        assert answers[0].headers["x-ratelimit-remaining-requests"] == "1"

    def test_a_provider_that_refuses_the_key(self, world: World) -> None:
        answer = call(world.port, "/v1/evals", method="GET")
        assert (answer.status, answer.error["code"]) == (502, "refused_key")

    def test_it_is_written_down(self, world: World) -> None:
        answer = call(world.port, "/v1/files?after=sk-secret", method="GET")
        line = world.gateway.logged(answer.headers)
        wanted = {
            "consumer": "all",
            "gen_ai.request.model": None,
            "gen_ai.provider.name": "alpha",
            "http.response.status_code": 200,
            "http.request.method": "GET",
        }
        assert {key: line[key] for key in wanted} == wanted
        assert line["url.path"].endswith("/v1/files")
        assert "sk-secret" not in world.gateway.access_log.read_text()
        text = call(world.metrics, "/metrics", key=None, method="GET").text
        assert 'envoy_llm_requests{consumer="all",model="",provider="alpha",code="200"}' in text


def test_endpoints_come_and_go(world: World) -> None:
    """In this order no request is lost, and who loses an endpoint is refused."""
    without = {**world.spec, "gateway_endpoints": {"files": {"provider": "beta"}}}
    without["gateway_consumers"] = {
        **world.spec["gateway_consumers"],
        "all": {"api_keys": ["env://ALL"], "models": ["*"], "endpoints": ["files"]},
    }
    assert world.gateway.switch(without)
    assert call(world.port, "/v1/files", method="GET").headers["x-upstream-name"] == "beta"
    assert call(world.port, "/v1/batches", method="GET").status == 404
    none = {**without, "gateway_consumers": {"all": {"api_keys": ["env://ALL"], "models": ["*"]}}}
    del none["gateway_endpoints"]
    world.gateway.switch(none)
    assert call(world.port, "/v1/files", method="GET").error["code"] == "unknown_url"
    assert call(world.port, "/v1/models", method="GET").status == 200
    world.gateway.switch(world.spec)
    assert call(world.port, "/v1/files", method="GET").headers["x-upstream-name"] == "alpha"
