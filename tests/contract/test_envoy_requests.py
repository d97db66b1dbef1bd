"""What a client of a running gateway sees: answers, refusals in OpenAI's shape, limits; and what is written down."""

from __future__ import annotations

import http.client
import json
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from contract.gateway_process import Gateway, Provider, free_port, gateway, providers

CHAT = "/v1/chat/completions"
ALL, ONE, LIMITED, NOBODY = "sk-all", "sk-one", "sk-limited", "sk-nobody"
ODD = "%REQ(authorization)%{${jndi:x}}]]--"
ODD_DEPLOYMENT = "a/../b?c=d&e#f%2e$1{0}"
MAX_BODY = 10 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"message", "type", "param", "code"}
        return self.json["error"]


def call(
    port: int, path: str = CHAT, body: object = None, *, key: str | None = ALL, method: str = "POST", **headers: str
) -> Answer:
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        given.setdefault("authorization", f"Bearer {key}")
    if content is not None:
        given.setdefault("content-type", "application/json")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, content, given)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read().decode())
    finally:
        connection.close()


def call_with(port: int, body: object, headers: list[tuple[str, str]]) -> Answer:
    """Ask with these headers, some of which may be there twice."""
    content = json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with closing(connection):
        connection.putrequest("POST", CHAT)
        for name, value in (("content-type", "application/json"), ("content-length", str(len(content))), *headers):
            connection.putheader(name, value)
        connection.endheaders(content)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read().decode())


def chat(model: str, **extra: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **extra}


@dataclass
class World:
    gateway: Gateway
    port: int
    metrics: int
    alpha: Provider
    beta: Provider

    def client(self, key: str = ALL) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=key, max_retries=0, timeout=20)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port, metrics = free_port(), free_port()
    with providers("alpha", "beta") as running:
        alpha, beta = running["alpha"], running["beta"]
        raw = {
            "gateway_listeners": {"public": {"address": "127.0.0.1", "port": port}},
            "gateway_metrics": {"port": metrics},
            "gateway_providers": {
                "alpha": {"type": "openai", "base_url": f"{alpha.url}/v1", "api_key": "env://ALPHA"},
                "beta": {
                    "type": "azure_openai",
                    "base_url": beta.url,
                    "api_version": "2024-10-21",
                    "api_key": "env://BETA",
                },
            },
            "gateway_models": {
                "same": {"targets": [{"provider": "alpha", "model": "same"}]},
                "renamed": {"targets": [{"provider": "alpha", "model": "upstream/name-1.5"}]},
                "azure": {"targets": [{"provider": "beta", "model": "deployment-eu"}]},
                "text-embedding-3-small": {"targets": [{"provider": "alpha", "model": "text-embedding-3-small"}]},
                ODD: {"targets": [{"provider": "beta", "model": ODD_DEPLOYMENT}]},
                "odd-upstream": {"targets": [{"provider": "alpha", "model": ODD}]},
                "org/model:v1.0@x": {"targets": [{"provider": "alpha", "model": "org/model:v1.0@x"}]},
            },
            "gateway_consumers": {
                "all": {"api_keys": ["env://ALL", "env://ALL_PREVIOUS"], "models": ["*"]},
                "one": {"api_keys": ["env://ONE"], "models": ["same"]},
                "limited": {
                    "api_keys": ["env://LIMITED"],
                    "models": ["*"],
                    "limits": {"requests_per_minute": 10},
                },
            },
        }
        with gateway(tmp_path_factory.mktemp("gateway"), raw, fleet_size=4) as started:
            yield World(started, port, metrics, alpha, beta)


@pytest.fixture(autouse=True)
def forget(world: World) -> None:
    world.alpha.reset()
    world.beta.reset()


class TestAnswers:
    def test_a_chat_completion(self, world: World) -> None:
        with world.client() as client:
            answer = client.chat.completions.create(model="same", messages=[{"role": "user", "content": "hi"}])
        assert answer.model == "same"
        assert answer.system_fingerprint == "alpha"
        (seen,) = world.alpha.seen()
        assert seen["path"] == CHAT
        assert seen["headers"]["authorization"] == "Bearer sk-alpha"

    def test_a_stream_arrives_as_it_is_made(self, world: World) -> None:
        arrived = []
        with world.client() as client:
            stream = client.chat.completions.create(
                model="same",
                messages=[{"role": "user", "content": "hi"}],
                stream=True,
                extra_body={"x_chunks": 4, "x_delay": 0.2},
            )
            for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    arrived.append((chunk.choices[0].delta.content, time.monotonic()))
        assert "".join(text for text, _other in arrived) == "0 1 2 3"
        # It takes 0.6 seconds to make, and would arrive all at once were it held back.
        assert arrived[-1][1] - arrived[0][1] > 0.3

    def test_a_stream_is_passed_on_to_its_end(self, world: World) -> None:
        answer = call(world.port, body=chat("same", stream=True, x_chunks=3))
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.text.endswith("data: [DONE]\n\n")

    def test_embeddings(self, world: World) -> None:
        with world.client() as client:
            answer = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
        assert [item.index for item in answer.data] == [0, 1]

    def test_responses_and_completions(self, world: World) -> None:
        with world.client() as client:
            assert client.responses.create(model="same", input="hi").model == "same"
            assert client.completions.create(model="renamed", prompt="hi").model == "upstream/name-1.5"

    def test_the_model_has_the_providers_name(self, world: World) -> None:
        body = b'{"messages": [{"role": "user", "content": "\\"model\\": \\"x\\""}] ,\n "model" : "renamed", "n":1}'
        assert call(world.port, body=body).json["model"] == "upstream/name-1.5"
        (seen,) = world.alpha.seen()
        assert seen["body"] == body.decode().replace("renamed", "upstream/name-1.5")
        assert int(seen["headers"]["content-length"]) == len(seen["body"])

    def test_an_unchanged_name_leaves_the_body_alone(self, world: World) -> None:
        body = b' {"model":"org\\/model:v1.0@x" ,"messages":[]}\n'
        assert call(world.port, body=body).json["model"] == "org/model:v1.0@x"
        assert world.alpha.seen()[0]["body"] == body.decode()

    def test_azure_gets_its_path_and_its_header(self, world: World) -> None:
        assert call(world.port, body=chat("azure")).json["model"] == "deployment-eu"
        (seen,) = world.beta.seen()
        assert seen["path"] == "/openai/deployments/deployment-eu/chat/completions?api-version=2024-10-21"
        assert seen["headers"]["api-key"] == "sk-beta"
        assert "authorization" not in seen["headers"]

    def test_odd_names_are_only_names(self, world: World) -> None:
        answer = call(world.port, body=chat(ODD))
        assert answer.json["model"] == ODD_DEPLOYMENT
        assert world.beta.seen()[0]["path"].startswith(
            "/openai/deployments/a%2F..%2Fb%3Fc%3Dd%26e%23f%252e%241%7B0%7D/chat/"
        )
        assert json.loads(world.beta.seen()[0]["body"])["model"] == ODD_DEPLOYMENT
        line = world.gateway.logged(answer.headers)
        assert (line["gen_ai.request.model"], line["upstream_model"]) == (ODD, ODD_DEPLOYMENT)
        assert call(world.port, body=chat("odd-upstream")).json["model"] == ODD
        assert "%REQ(authorization)%?" in call(world.port, body=chat("%REQ(authorization)%?")).error["message"]

    def test_a_query_is_dropped(self, world: World) -> None:
        assert call(world.port, f"{CHAT}?api-version=1&x=y", chat("azure")).status == 200
        assert world.beta.seen()[0]["path"].endswith("/chat/completions?api-version=2024-10-21")

    @pytest.mark.parametrize("size", [MAX_BODY - 1, MAX_BODY])
    def test_a_large_body(self, world: World, size: int) -> None:
        frame = b'{"model":"renamed","messages":[],"x":"%s"}'
        body = frame % (b"x" * (size - len(frame) + 2))
        assert len(body) == size
        assert call(world.port, body=body).status == 200
        assert int(world.alpha.seen()[0]["headers"]["content-length"]) == size + len("upstream/name-1.5") - len(
            "renamed"
        )

    def test_a_chunked_body(self, world: World) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=20)
        parts = iter([b'{"mod', b'el":"ren', b'amed","messages":[]}'])
        headers = {"authorization": f"Bearer {ALL}", "content-type": "application/json; charset=utf-8"}
        connection.request("POST", CHAT, parts, headers, encode_chunked=True)
        assert json.loads(connection.getresponse().read())["model"] == "upstream/name-1.5"
        connection.close()

    def test_an_error_of_the_provider_is_passed_on(self, world: World) -> None:
        answer = call(world.port, body=chat("same", x_status=422))
        assert answer.status == 422
        assert answer.json["error"]["type"] == "upstream_error"

    def test_health(self, world: World) -> None:
        assert call(world.port, "/healthz", key=None, method="GET").status == 200


class TestModels:
    def test_each_key_sees_what_it_may_use(self, world: World) -> None:
        with world.client(ONE) as client:
            assert [model.id for model in client.models.list()] == ["same"]
        with world.client() as client:
            assert sorted(model.id for model in client.models.list()) == [
                ODD,
                "azure",
                "odd-upstream",
                "org/model:v1.0@x",
                "renamed",
                "same",
                "text-embedding-3-small",
            ]

    def test_they_need_a_key(self, world: World) -> None:
        assert call(world.port, "/v1/models", key=None, method="GET").error["code"] == "invalid_api_key"


class TestRefusals:
    @pytest.mark.parametrize("key", ["wrong", "", " ", "sk-alpha", "sk-ALL"])
    def test_a_wrong_key(self, world: World, key: str) -> None:
        answer = call(world.port, body=chat("same"), key=key)
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")

    def test_no_key(self, world: World) -> None:
        answer = call(world.port, body=chat("same"), key=None)
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")

    def test_the_client_library_knows_them(self, world: World) -> None:
        messages: Any = [{"role": "user", "content": "hi"}]
        with world.client("wrong") as client, pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="same", messages=messages)
        with world.client(ONE) as client, pytest.raises(openai.PermissionDeniedError) as denied:
            client.chat.completions.create(model="renamed", messages=messages)
        assert denied.value.code == "model_not_allowed"
        with world.client() as client, pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="gpt-99", messages=messages)
        assert unknown.value.code == "model_not_found"
        assert unknown.value.param == "model"
        with world.client() as client, pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model='a"b', messages=messages)

    def test_an_unknown_model_is_not_forbidden_but_unknown(self, world: World) -> None:
        answer = call(world.port, body=chat("gpt-99"), key=ONE)
        assert answer.status == 404
        assert "gpt-99" in answer.error["message"]

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/v1/fine_tuning/jobs"),
            ("GET", "/v1/files"),
            ("POST", "/v1/chat/completions/"),
            ("POST", "/chat/completions"),
            ("GET", "/v1/models/"),
            ("GET", "/"),
        ],
    )
    def test_an_unknown_url(self, world: World, method: str, path: str) -> None:
        answer = call(world.port, path, chat("same") if method == "POST" else None, method=method)
        assert (answer.status, answer.error["code"]) == (404, "unknown_url")

    @pytest.mark.parametrize(
        ("method", "path", "allowed"), [("GET", CHAT, "POST"), ("DELETE", "/v1/models/same", "GET")]
    )
    def test_another_method(self, world: World, method: str, path: str, allowed: str) -> None:
        answer = call(world.port, path, method=method)
        assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
        assert answer.headers["allow"] == allowed

    @pytest.mark.parametrize(
        "path", ["/v1/chat%2fcompletions", "/v1/x%5C..%5Cchat/completions", "/v1%2f/chat/completions"]
    )
    def test_a_disguised_path(self, world: World, path: str) -> None:
        assert call(world.port, path, chat("same")).status == 404
        assert not world.alpha.seen()

    def test_a_request_without_a_path(self, world: World) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=20)
        connection.putrequest("CONNECT", "host:443", skip_host=True)
        for name, value in (("host", "host:443"), ("authorization", f"Bearer {ALL}")):
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (404, "unknown_url")
        connection.close()

    def test_a_path_has_one_spelling(self, world: World) -> None:
        assert call(world.port, "/v1//x/../chat/./completions", chat("same")).status == 200
        assert world.alpha.seen()[0]["path"] == CHAT

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b'{"model":"same","model":"same"}', "exactly one"),
            (b'{"model":"same","Model":"renamed"}', "exactly one"),
            (b'{"model":"same","\xc5\xbftream":true}', "ASCII"),
            (b'{/*"*/"model":"renamed",/*":1,"model":"same","x":"*/"y":1}', "not valid JSON"),
            (b'{"messages":[]}', "provide a model"),
            (b'{"m\\u006fdel":"same"}', "escapes"),
            (b'{"model":"s\\u0061me"}', "without escapes"),
            (b'{"model":7}', "must be a string"),
            (b'{"model":""}', "256"),
            (b'{"model":"a b"}', "256"),
            (b'{"model":"' + b"a" * 257 + b'"}', "256"),
            (b'{"model":"a\nx-gw-access: b"}', "256"),
            (b'[{"model":"same"}]', "JSON object"),
            (b'{"x":{"model":"same"}}', "provide a model"),
            (b'{"model":"same"', "not valid JSON"),
            (b'{"model":"same"} {}', "not valid JSON"),
            (b"", "JSON object"),
            (b"model=same", "JSON object"),
        ],
    )
    def test_a_body_without_exactly_one_model(self, world: World, body: bytes, message: str) -> None:
        answer = call(world.port, body=body)
        assert answer.status == 400
        assert answer.error["type"] == "invalid_request_error"
        assert message in answer.error["message"]
        assert not world.alpha.seen()

    @pytest.mark.parametrize(
        "headers",
        [
            {"content_type": "multipart/form-data; boundary=x"},
            {"content_type": "text/plain"},
            {"content_type": "application/json; charset=utf-7"},
            {"content_encoding": "gzip"},
        ],
    )
    def test_a_body_that_others_may_read_otherwise(self, world: World, headers: dict[str, str]) -> None:
        assert call(world.port, body=chat("same"), **headers).error["code"] == "invalid_request"

    def test_a_body_that_is_too_large(self, world: World) -> None:
        answer = call(world.port, body=b'{"model":"same","x":"%s"}' % (b"x" * MAX_BODY))
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        assert not world.alpha.seen()

    def test_a_key_without_access(self, world: World) -> None:
        """A new consumer's key is delivered before the release that says what it may use."""
        path = Path(world.gateway.host.secrets_dir, "consumers.json")
        before = path.read_text()
        document = json.loads(before)
        document["resources"][0]["typed_config"]["credentials"].append({"key": NOBODY, "client": "nobody"})
        document["version_info"] = "with-nobody"
        replace(path, json.dumps(document))
        try:
            answer = until(lambda: call(world.port, body=chat("same"), key=NOBODY), 403)
            assert answer.error["code"] == "no_access"
            assert call(world.port, "/v1/models", key=NOBODY, method="GET").status == 403
        finally:
            replace(path, before)
        assert not world.alpha.seen()


class TestHeaders:
    def test_what_clients_send_never_counts(self, world: World) -> None:
        forged = {"x_gw_consumer": "all", "x_gw_access": "x", "x_gw_deployment": "d", "x_gw_model": "renamed"}
        forbidden = call(world.port, body=chat("renamed"), key=ONE, **forged)
        unknown = call(world.port, body=chat("same"), key=None, **forged)
        allowed = call(world.port, body=chat("same"), key=ONE, x_envoy_retry_on="5xx", **forged)
        assert (forbidden.status, unknown.status, allowed.status) == (403, 401, 200)
        assert world.gateway.logged(forbidden.headers)["consumer"] == "one"
        assert world.gateway.logged(unknown.headers)["consumer"] is None

    def test_nothing_of_the_gateway_reaches_a_provider(self, world: World) -> None:
        call(
            world.port,
            body=chat("same"),
            cookie="a=b",
            x_api_key="secret",
            api_key="sk-other",
            proxy_authorization="Basic x",
            openai_organization="org",
            openai_project="p",
            x_forwarded_for="10.1.1.1",
            x_request_id="abc",
            x_http_method="DELETE",
            x_http_method_override="DELETE",
            x_method_override="DELETE",
            x_original_url="/v1/files",
            x_rewrite_url="/v1/files",
            x_custom="kept",
        )
        (seen,) = world.alpha.seen()
        assert set(seen["headers"]) == {
            "host",
            "content-length",
            "content-type",
            "authorization",
            "x-custom",
        }
        assert seen["headers"]["authorization"] == "Bearer sk-alpha"
        assert seen["headers"]["host"] == f"127.0.0.1:{world.alpha.port}"

    def test_azures_clients_use_another_header(self, world: World) -> None:
        assert call(world.port, body=chat("same"), key=None, api_key=ALL).status == 200
        assert "api-key" not in world.alpha.seen()[0]["headers"]

    def test_every_key_of_a_consumer_is_admitted(self, world: World) -> None:
        answer = call(world.port, body=chat("same"), key="sk-all-previous")
        assert answer.status == 200
        assert world.gateway.logged(answer.headers)["consumer"] == "all"

    @pytest.mark.parametrize(
        ("headers", "status", "consumer"),
        [
            # Authorization counts, and the other is not tried.
            ([("authorization", f"Bearer {ALL}"), ("api-key", ONE)], 200, "all"),
            ([("authorization", f"Bearer {ONE}"), ("api-key", ALL)], 200, "one"),
            ([("authorization", f"Bearer {ALL}"), ("api-key", "wrong")], 200, "all"),
            ([("authorization", "Bearer wrong"), ("api-key", ALL)], 401, None),
            ([("authorization", "Basic eDp5"), ("api-key", ALL)], 401, None),
            ([("authorization", "Bearer "), ("api-key", ALL)], 401, None),
            # An empty one is none.
            ([("authorization", ""), ("api-key", ALL)], 200, "all"),
            ([("authorization", f"Bearer {ALL}"), ("authorization", f"Bearer {ALL}")], 401, None),
            ([("authorization", f"Bearer {ONE}"), ("authorization", f"Bearer {ALL}")], 401, None),
            ([("api-key", ONE), ("api-key", ALL)], 200, "one"),
            ([("api-key", "wrong"), ("api-key", ALL)], 401, None),
        ],
    )
    def test_two_keys(self, world: World, headers: list[tuple[str, str]], status: int, consumer: str | None) -> None:
        answer = call_with(world.port, chat("same"), headers)
        assert answer.status == status
        assert world.gateway.logged(answer.headers)["consumer"] == consumer
        for seen in world.alpha.seen():
            assert seen["headers"]["authorization"] == "Bearer sk-alpha"
            assert "api-key" not in seen["headers"]
            assert "x-api-key" not in seen["headers"]
        assert len(world.alpha.seen()) == (status == 200)

    def test_an_answer_names_its_request(self, world: World) -> None:
        answer = call(world.port, body=chat("same"))
        assert world.gateway.logged(answer.headers)["http.response.status_code"] == 200
        assert not [name for name in answer.headers if name.startswith(("x-gw-", "x-envoy-"))]


class TestRequestIds:
    def test_the_client_library_has_it(self, world: World) -> None:
        with world.client() as client:
            answer = client.embeddings.create(model="text-embedding-3-small", input="a")
            stream = client.chat.completions.with_raw_response.create(
                model="same", messages=[{"role": "user", "content": "hi"}], stream=True
            )
            with pytest.raises(openai.NotFoundError) as unknown:
                client.embeddings.create(model="gpt-99", input="a")
        for found in (answer._request_id, stream.request_id, unknown.value.request_id):
            assert found
            assert str(uuid.UUID(found)) == found
            assert world.gateway.logged({"x-request-id": found})

    @pytest.mark.parametrize("name", ["x-request-id", "X-Request-Id"])
    @pytest.mark.parametrize("value", ["abc", "a" * 3000, str(uuid.UUID(int=1)), "%REQ(authorization)%", '"}'])
    def test_one_from_outside_never_counts(self, world: World, name: str, value: str) -> None:
        headers = [("authorization", f"Bearer {ALL}"), (name, value), (name, "other")]
        for given in (headers, headers[1:]):
            answer = call_with(world.port, chat("same"), given)
            assert uuid.UUID(answer.headers["x-request-id"]).int > 1
            line = world.gateway.logged(answer.headers)
            assert line["request_id"] == answer.headers["x-request-id"]
            assert value not in line.values()

    @pytest.mark.parametrize("value", ["trace-1", '"},{"consumer":"one', "%REQ(authorization)%", "x" * 512])
    @pytest.mark.parametrize("model", ["same", "azure"])
    def test_the_clients_own_is_logged_beside_it(self, world: World, model: str, value: str) -> None:
        answer = call(world.port, body=chat(model), x_client_request_id=value)
        assert world.gateway.logged(answer.headers)["client_request_id"] == value
        (seen,) = (world.alpha if model == "same" else world.beta).seen()
        assert seen["headers"]["x-client-request-id"] == value

    def test_a_long_one_is_cut_in_the_log(self, world: World) -> None:
        answer = call(world.port, body=chat("same"), x_client_request_id="x" * 5000)
        assert world.gateway.logged(answer.headers)["client_request_id"] == "x" * 512

    def test_it_is_in_the_log_of_a_refusal(self, world: World) -> None:
        answer = call(world.port, body=chat("same"), key="wrong", x_client_request_id="mine")
        assert world.gateway.logged(answer.headers)["client_request_id"] == "mine"
        assert world.gateway.logged(call(world.port, body=chat("same")).headers)["client_request_id"] is None


class TestLimits:
    def test_a_host_enforces_its_share(self, world: World) -> None:
        """Ten a minute for a fleet of four: three each."""
        answers = [call(world.port, body=chat("same"), key=LIMITED) for _turn in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers[:3]] == ["2", "1", "0"]
        refused = answers[3]
        assert refused.headers["x-ratelimit-limit-requests"] == "3"
        assert 0 < int(refused.headers["retry-after"]) <= 20
        assert refused.error["code"] == "rate_limit_exceeded"
        assert len(world.alpha.seen()) == 3
        with world.client(LIMITED) as client, pytest.raises(openai.RateLimitError):
            client.embeddings.create(model="text-embedding-3-small", input="x")

    def test_others_have_none(self, world: World) -> None:
        answer = call(world.port, body=chat("same"))
        assert not [name for name in answer.headers if "ratelimit" in name]


class TestRecords:
    def test_the_access_log(self, world: World) -> None:
        answer = call(world.port, f"{CHAT}?key={ALL}", body=chat("renamed"))
        line = world.gateway.logged(answer.headers)
        wanted = {
            "consumer": "all",
            "gen_ai.request.model": "renamed",
            "gen_ai.provider.name": "alpha",
            "upstream_model": "upstream/name-1.5",
            "attempts": 1,
            "http.response.status_code": 200,
            "http.request.method": "POST",
            "url.path": CHAT,
        }
        assert {key: line[key] for key in wanted} == wanted
        assert line["http.request.body.size"] > 0
        assert line["http.response.body.size"] > 0

    def test_the_path_is_the_clients(self, world: World) -> None:
        for model in ("same", "azure"):
            answer = call(world.port, f"/v1//x/..{CHAT.removeprefix('/v1')}?x=y", body=chat(model))
            assert world.gateway.logged(answer.headers)["url.path"] == CHAT

    def test_no_key_is_written_anywhere(self, world: World) -> None:
        wrong = call(world.port, body=chat("same"), key="sk-wrong-key")
        call(world.port, "/healthz", key=None, method="GET")
        unknown = call(world.port, f"/v1/nothing?api_key={ONE}", key=ONE)
        assert world.gateway.logged(wrong.headers)["url.path"] == CHAT
        assert world.gateway.logged(unknown.headers)["url.path"] == "/v1/nothing"
        assert "/healthz" not in world.gateway.access_log.read_text()
        written = world.gateway.access_log.read_text() + world.gateway.log.read_text()
        written += call(world.metrics, "/metrics", key=None, method="GET").text
        assert "sk-" not in written
        for path in Path(world.gateway.host.config_dir).rglob("*"):
            assert path.is_dir() or b"sk-" not in path.read_bytes()

    def test_metrics_and_nothing_else(self, world: World) -> None:
        call(world.port, body=chat("same"))
        call(world.port, body=chat("made-up-model"))
        text = call(world.metrics, "/metrics", key=None, method="GET").text
        assert 'envoy_llm_requests{consumer="all",model="same",provider="alpha",code="200"}' in text
        assert "made-up-model" not in text
        assert 'envoy_cluster_upstream_rq_total{envoy_cluster_name="provider_alpha"}' in text
        for path in ("/", "/stats", "/config_dump", "/metrics/", "/metrics/../config_dump", "/quitquitquit"):
            assert call(world.metrics, path, key=None, method="GET").status == 404
        assert call(world.metrics, "/metrics", b"", key=None).status == 404

    def test_the_admin_socket_is_the_owners(self, world: World) -> None:
        mode = Path(world.gateway.socket).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600

    def test_envoy_has_nothing_to_complain_about(self, world: World) -> None:
        call(world.port, body=chat("same"))
        assert not [line for line in world.gateway.complaints().splitlines() if "[error]" in line or "[warn" in line]


def replace(path: Path, text: str) -> None:
    temporary = path.with_name(".new")
    temporary.write_text(text)
    temporary.rename(path)


def until(attempt: Any, status: int) -> Answer:
    end = time.monotonic() + 5
    while True:
        answer: Answer = attempt()
        if answer.status == status or time.monotonic() > end:
            return answer
        time.sleep(0.02)
