"""The scripts, in the LuaJIT that Envoy has, against a plain Python model of what they mean."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua

luajit = pytest.importorskip("lupa.luajit21")

# Envoy's side of the scripts: a request, whose headers must not be used any more once the body was waited for.
HARNESS = rb"""
function ask(given, body, of_route)
  local result, current = { headers = {} }, nil
  for name, value in pairs(given) do result.headers[name] = value end
  local function headers()
    local object = { alive = true }
    local function check() if not object.alive then error("object used outside of proper scope") end end
    function object:get(name) check() return result.headers[name] end
    function object:replace(name, value) check() result.headers[name] = value end
    function object:remove(name) check() result.headers[name] = nil end
    current = object
    return object
  end
  local handle = {}
  function handle:headers() return headers() end
  function handle:body()
    if current then current.alive = false end
    if #body == 0 then return nil end
    return {
      length = function() return #body end,
      getBytes = function(_, from, count) return string.sub(body, from + 1, from + count) end,
      setBytes = function(_, bytes) result.body = bytes end,
    }
  end
  function handle:respond(answer, text)
    result.status, result.message, result.allow = answer[":status"], text, answer.allow
  end
  function handle:clearRouteCache() result.cleared = true end
  function handle:metadata()
    return { get = function(_, name) if of_route and name == of_route[1] then return of_route[2] end end }
  end
  function handle:streamInfo()
    return { dynamicMetadata = function() return { set = function(_, space, name, value)
      assert(space == "gw")
      result[name] = value
    end } end }
  end
  envoy_on_request(handle)
  return result
end
"""
ENDPOINT = "/v1/chat/completions"


class Script:
    """A script as Envoy runs it."""

    def __init__(self, source: str) -> None:
        self._lua = luajit.LuaRuntime(encoding=None)
        self._lua.execute(source.encode())
        self._lua.execute(HARNESS)
        self._ask = self._lua.globals().ask

    def ask(self, body: bytes, name: str | None = None, *, setting: str = "model", **headers: str) -> Any:
        """Send a request on a route that has ``name`` as its ``setting``."""
        table = {key.replace("__", ":").replace("_", "-").encode(): value.encode() for key, value in headers.items()}
        of_route = None if name is None else self._lua.table_from([setting.encode(), name.encode()])
        return self._ask(self._lua.table_from(table), body, of_route)


@pytest.fixture(scope="module")
def reader() -> Script:
    return Script(lua.read_model_script([("team", "group-1"), ("other", "group-2")]))


@pytest.fixture(scope="module")
def renamer() -> Script:
    return Script(lua.rename_model_script())


def read(reader: Script, body: bytes, **headers: str) -> Any:
    given = {"x_gw_consumer": "team", "__method": "POST", "__path": ENDPOINT, "content_type": "application/json"}
    return reader.ask(body, **{**given, **headers})


def model_of(result: Any) -> str | None:
    """The model that the script found; None when it refused, for which there must be a reason."""
    found = result.headers[b"x-gw-model"]
    if found is None:
        assert result.status == b"400"
        assert result.message
        return None
    assert result.status is None
    assert result.cleared
    text: bytes = found
    return text.decode()


# ---- a plain model: texts of JSON of which it is known how their top-level keys and values are spelled

WHITESPACE = st.text(" \t\r\n", max_size=3)
PLAIN_NAMES = st.text([c for c in string.printable.strip() if c not in '"\\'], min_size=1, max_size=20)
KEYS = st.one_of(
    st.sampled_from(["model", "model", "Model", "MODEL", "models", "mode", "m\\u006fdel", "\\u006d", "x", "", "a\\n"]),
    st.text("model{}[]:, ", max_size=6),
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "a", '"', "\\"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def spelled_strings(draw: st.DrawFn) -> tuple[str, str | None]:
    """A JSON string literal, and the name that the gateway should read in it, if it should."""
    kind = draw(st.sampled_from(["plain", "slash", "escaped", "odd"]))
    if kind == "plain":
        name = draw(PLAIN_NAMES)
        return f'"{name}"', name
    if kind == "slash":
        return '"org\\/model"', "org/model"
    if kind == "escaped":
        return draw(st.sampled_from(['"a\\u0062c"', '"a\\"b"', '"a\\\\"', '"\\\\\\/"', '"a\\n"'])), None
    return draw(st.sampled_from(['""', '"a b"', '"é"', '"' + "x" * 257 + '"', '"a\x7f"'])), None


@st.composite
def objects(draw: st.DrawFn) -> tuple[str, str | None]:
    """The text of a JSON object, and the model that the gateway should read in it, if it should."""
    parts, models, refused = [], [], False
    for _turn in range(draw(st.integers(0, 5))):
        key = draw(KEYS)
        refused = refused or "\\" in key
        if draw(st.booleans()):
            value, name = draw(spelled_strings())
        else:
            decoded = draw(JSON_VALUES)
            value, name = json.dumps(decoded, ensure_ascii=draw(st.booleans())), None
            if isinstance(decoded, str) and decoded and "\\" not in value and fits(decoded):
                name = decoded
        if key.lower() == "model":
            models.append((key, name))
        space = [draw(WHITESPACE) for _turn in range(4)]
        parts.append(f'{space[0]}"{key}"{space[1]}:{space[2]}{value}{space[3]}')
    text = draw(WHITESPACE) + "{" + ",".join(parts) + "}" + draw(WHITESPACE)
    wanted = models[0][1] if len(models) == 1 and models[0][0] == "model" and not refused else None
    return text, wanted


@st.composite
def good_objects(draw: st.DrawFn) -> tuple[str, str]:
    """The text of a JSON object with one model, and that model."""
    other = KEYS.filter(lambda key: key.lower() != "model" and "\\" not in key)
    pairs = [(key, json.dumps(draw(JSON_VALUES))) for key in draw(st.lists(other, max_size=4))]
    name = draw(PLAIN_NAMES)
    pairs.insert(draw(st.integers(0, len(pairs))), ("model", f'"{name}"'))
    return "{" + ",".join(f'{draw(WHITESPACE)}"{key}"{draw(WHITESPACE)}:{value}' for key, value in pairs) + "}", name


def fits(name: str) -> bool:
    return 0 < len(name) <= 256 and all("!" <= char <= "~" for char in name)


class TestReading:
    @given(objects() | good_objects())
    @settings(max_examples=800, deadline=None)
    def test_json_means_the_same_to_both(self, reader: Script, case: tuple[str, str | None]) -> None:
        text, wanted = case
        assert model_of(read(reader, text.encode())) == wanted

    @given(objects() | good_objects(), st.data())
    @settings(max_examples=800, deadline=None)
    def test_what_is_read_is_what_a_parser_reads(
        self, reader: Script, case: tuple[str, str | None], data: st.DataObject
    ) -> None:
        """Bodies that were tampered with: refused, or no JSON, or read as every parser reads them."""
        body = bytearray(case[0].encode())
        for _turn in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(body)))
            body[at : at + data.draw(st.integers(0, 2))] = data.draw(
                st.sampled_from([b'"', b"\\", b"{", b"}", b",", b'"model":"b"', b"\0", b""])
            )
        found = model_of(read(reader, bytes(body)))
        if found is not None:
            for pairs in parsed(bytes(body)):
                assert [value for key, value in pairs if key.lower() == "model"] == [found]

    @given(st.binary(max_size=60) | st.text('{}[]":,\\model \n', max_size=60).map(str.encode))
    @settings(max_examples=600, deadline=None)
    def test_no_body_breaks_it(self, reader: Script, body: bytes) -> None:
        found = model_of(read(reader, body))
        assert found is None or fits(found)

    def test_depth_and_strings_do_not_mislead_it(self, reader: Script) -> None:
        body = rb'{"a":"\"model\":\"x\"","b":{"model":"y"},"c":[{"model":"z"}],"d":"}","e":"\\","model":"right"}'
        assert model_of(read(reader, body)) == "right"

    def test_a_nested_model_alone_is_none(self, reader: Script) -> None:
        assert read(reader, b'{"a":{"model":"x"}}').message == b"You must provide a model parameter."

    @pytest.mark.parametrize("space", ["\v", "\f", "\xa0", "\ufeff"])
    def test_what_is_no_space_in_json(self, reader: Script, space: str) -> None:
        assert model_of(read(reader, (space + '{"model":"x"}').encode())) is None
        assert model_of(read(reader, ('{"model":"x"}' + space).encode())) is None

    @pytest.mark.parametrize(
        "body",
        [
            '{/*"*/"model":"b",/*":1,"model":"a","x":"*/"y":1}',
            """{"x":['"'],"model":"b","y":['"'],"model":"a"}""",
            """{"x":["a" //"\n],"model":"b","y":[ //"\n],"model":"a"}""",
            """{"x":["a" #"\n],"model":"b","y":[ #"\n],"model":"a"}""",
            '{model:"b","x":1,"model":"a"}',
            """{'model':"b","x":1,"model":"a"}""",
            '{"x":1 model:"b","model":"a"}',
            '{"x" 1,"model":"a"}',
            '{"x":"y""model":"a"}',
            '{,"model":"a"}',
            '{"model":"a",}',
            '{"model":"a"}}',
        ],
    )
    def test_what_only_lenient_parsers_read(self, reader: Script, body: str) -> None:
        assert read(reader, body.encode()).message == b"The request body is not valid JSON."

    @pytest.mark.parametrize(
        "key", [b"mode\xc5\x82", b"\xc5\xbftream", b"mo\xffdel", b"model\0", b"\0", b"\xef\xbd\x8dodel", b"mo\\ndel"]
    )
    def test_keys_that_some_parser_takes_for_another(self, reader: Script, key: bytes) -> None:
        """Go folds the long s to an s, others leave out what is no UTF-8, and C ends a text at its first NUL."""
        assert b"plain ASCII" in read(reader, b'{"model":"x","%s":true}' % key).message

    def test_utf_16_is_not_taken_for_ascii(self, reader: Script) -> None:
        """Python's parser finds out by itself in which encoding a body is."""
        inner = b',"model":"a","x":"'.decode("utf-16-le")
        body = ('{"x":"\u2200' + inner + '","model":"b"}').encode("utf-16-le")
        assert json.loads(body)["model"] == "b"
        assert model_of(read(reader, body)) is None

    def test_a_megabyte_of_brackets(self, reader: Script) -> None:
        body = b'{"x":' + b"[" * 500000 + b"]" * 500000 + b',"model":"x"}'
        assert model_of(read(reader, body)) == "x"


def parsed(body: bytes) -> list[list[tuple[str, Any]]]:
    """The pairs of a top-level JSON object; nothing when it is no JSON."""
    try:
        return [json.JSONDecoder(object_pairs_hook=Pairs, strict=True).decode(body.decode()).pairs]
    except (ValueError, AttributeError):
        return []


class Pairs:
    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


class TestRequests:
    def test_a_group_is_set(self, reader: Script) -> None:
        assert read(reader, b'{"model":"x"}').headers[b"x-gw-access"] == b"group-1"
        assert read(reader, b'{"model":"x"}', x_gw_consumer="other").headers[b"x-gw-access"] == b"group-2"

    @pytest.mark.parametrize("consumer", ["nobody", "", "tea", "team\n", "group-1"])
    def test_who_has_no_access(self, reader: Script, consumer: str) -> None:
        result = read(reader, b'{"model":"x"}', x_gw_consumer=consumer)
        assert result.status == b"403"
        assert result.headers[b"x-gw-access"] is None
        assert not result.cleared

    def test_nobody_at_all(self, reader: Script) -> None:
        assert reader.ask(b"{}", __method="POST", __path=ENDPOINT).status == b"403"

    @pytest.mark.parametrize(
        ("method", "path"), [("POST", "/v1/chat"), ("GET", "/v1/models?x=1"), ("GET", "/v1/files"), ("PUT", "/")]
    )
    def test_other_requests_have_no_model(self, reader: Script, method: str, path: str) -> None:
        result = read(reader, b'{"model":"x"}', __method=method, __path=path)
        assert result.headers[b"x-gw-model"] is None
        assert result.cleared
        assert result.headers[b":path"] == path.partition("?")[0].encode()

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", ENDPOINT, b"POST"),
            ("DELETE", "/v1/audio/transcriptions", b"POST"),
            ("POST", "/v1/models", b"GET"),
            ("DELETE", "/v1/models/x", b"GET"),
        ],
    )
    def test_another_method(self, reader: Script, method: str, path: str, allowed: bytes) -> None:
        result = read(reader, b'{"model":"x"}', __method=method, __path=path)
        assert (result.status, result.allow) == (b"405", allowed)
        assert allowed in result.message

    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("x", b"x"),
            ("org/m%2fv1:a", b"org/m/v1:a"),
            ("%", b"%"),
            ("%2525", b"%25"),
            ("a%zz%4", b"a%zz%4"),
            ("a/", b"a/"),
        ],
    )
    def test_one_model(self, reader: Script, path: str, name: bytes) -> None:
        """It is shown out of the list of all of them."""
        result = read(reader, b"", __method="GET", __path=f"/v1/models/{path}")
        assert result.shown_model == name
        assert result.headers[b":path"] == b"/v1/models"
        assert result.headers[b"x-envoy-original-path"] == f"/v1/models/{path}".encode()
        assert result.cleared

    def test_a_request_without_a_path(self, reader: Script) -> None:
        """Of the method CONNECT, for one. An error would go to Envoy's log, and the request would go on."""
        result = reader.ask(b"", x_gw_consumer="team", __method="CONNECT")
        assert result.status == b"404"

    @pytest.mark.parametrize(
        "kind",
        [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            'application/json;Charset="UTF-8"',
            "application/json ;x",
            "application/json;x,text/plain",
            "application/json;charset=utf-8;charset=utf-7",
        ],
    )
    def test_kinds_of_json(self, reader: Script, kind: str) -> None:
        """The provider is told the one kind that the body was read as, whatever else stands there."""
        result = read(reader, b'{"model":"x"}', content_type=kind)
        assert model_of(result) == "x"
        assert result.headers[b"content-type"] == b"application/json"

    def test_no_kind(self, reader: Script) -> None:
        given = {"x_gw_consumer": "team", "__method": "POST", "__path": ENDPOINT}
        result = reader.ask(b'{"model":"x"}', **given)
        assert model_of(result) == "x"
        assert result.headers[b"content-type"] == b"application/json"

    @pytest.mark.parametrize(
        "headers",
        [
            {"content_type": "multipart/form-data; boundary=application/json"},
            {"content_type": "application/jsonp"},
            {"content_type": "application/x-www-form-urlencoded"},
            {"content_type": "application/json; charset=utf-7"},
            {"content_type": 'application/json;x=y; CharSet = "shift_jis"'},
            {"content_encoding": "gzip"},
            {"content_encoding": "identity, gzip"},
        ],
    )
    def test_others(self, reader: Script, headers: Mapping[str, str]) -> None:
        assert model_of(read(reader, b'{"model":"x"}', **headers)) is None

    @given(
        st.lists(
            st.tuples(
                st.text(st.characters(blacklist_characters="\t\n", codec="utf-8"), min_size=1),
                st.sampled_from(["g1", "g2"]),
            ),
            max_size=5,
            unique_by=lambda pair: pair[0],
        )
    )
    @settings(max_examples=100, deadline=None)
    def test_names_of_consumers_stay_names(self, access: list[tuple[str, str]]) -> None:
        script = Script(lua.read_model_script(access))
        for consumer, group in access:
            result = read(script, b'{"model":"x"}', x_gw_consumer=consumer)
            assert result.headers[b"x-gw-access"] == group.encode()

    def test_more_consumers_than_lua_has_constants(self) -> None:
        script = Script(lua.read_model_script((f"consumer-{n}", f"group-{n % 7}") for n in range(100000)))
        assert read(script, b'{"model":"x"}', x_gw_consumer="consumer-99999").headers[b"x-gw-access"] == b"group-4"


class TestRenamingAtOnce:
    @given(good_objects(), PLAIN_NAMES)
    @settings(max_examples=300, deadline=None)
    def test_nothing_else_changes(self, reader: Script, case: tuple[str, str], name: str) -> None:
        text, model = case
        result = reader.ask(text.encode(), name, x_gw_consumer="team", __method="POST", __path="/v1/embeddings")
        if not fits(model):
            assert (result.status, result.body) == (b"400", None)
            return
        (before,), (after,) = parsed(text.encode()), parsed(result.body)
        assert [key for key, _other in before] == [key for key, _other in after]
        for (key, was), (_other, now) in zip(before, after):
            assert now == name if key == "model" else plain(now) == plain(was)
        assert model_of(result) == model

    def test_no_name_no_change(self, reader: Script) -> None:
        assert read(reader, b'{"model":"x"}', __path="/v1/embeddings").body is None


# ---- usage of streams: what is asked for

OPTIONS = st.dictionaries(
    st.sampled_from(["include_usage", "include_usage", "include_obfuscation", "a{", "x"]),
    st.sampled_from([True, False, None, 1, "true", {"include_usage": True}, [True]]),
    max_size=3,
)
STREAMS = st.fixed_dictionaries(
    {"model": PLAIN_NAMES},
    optional={
        "stream": st.sampled_from([True, True, True, False, None, 1, "true", {}]),
        "stream_options": OPTIONS | st.sampled_from([None, True, "x", []]),
        "messages": JSON_VALUES,
        "streams": st.just({"stream": False, "stream_options": 1}),
    },
).flatmap(lambda body: st.permutations(list(body.items())).map(dict))
REFUSED = object()


def asked(body: Mapping[str, Any]) -> Any:
    """The options of a stream whose usage is to be asked for; None when there is nothing to ask."""
    stream, options = body.get("stream"), body.get("stream_options")
    if not (stream is None or isinstance(stream, bool)):
        return REFUSED
    if not stream:
        return None
    if options is None:
        return {"include_usage": True}
    if not isinstance(options, dict):
        return REFUSED
    wish = options.get("include_usage")
    if not (wish is None or isinstance(wish, bool)):
        return REFUSED
    return None if wish else {**options, "include_usage": True}


class TestAsking:
    @given(STREAMS, st.sampled_from([(None, (",", ":")), (None, (", ", ": ")), (1, (" ,", " : "))]), st.booleans())
    @settings(max_examples=800, deadline=None)
    def test_the_usage_is_asked_for_and_nothing_else_changes(
        self, reader: Script, body: dict[str, Any], layout: tuple[Any, tuple[str, str]], as_is: bool
    ) -> None:
        text = json.dumps(body, indent=layout[0], separators=layout[1]).encode()
        setting = {"name": "as_is", "setting": "stream_usage"} if as_is else {}
        result = read(reader, text, **setting)
        wanted = asked(body)
        if wanted is REFUSED:
            assert result.status == b"400"
            assert result.message
        elif wanted is None or as_is:
            assert result.body is None
            assert not result.request.hide_usage
        else:
            assert json.loads(result.body) == {**body, "stream_options": wanted}
            assert result.request.hide_usage

    @given(STREAMS, PLAIN_NAMES)
    @settings(max_examples=200, deadline=None)
    def test_the_model_is_renamed_as_well(self, reader: Script, body: dict[str, Any], name: str) -> None:
        result = read(reader, json.dumps(body).encode(), name=name)
        wanted = asked(body)
        if wanted is not REFUSED:
            options = {} if wanted is None else {"stream_options": wanted}
            assert json.loads(result.body) == {**body, "model": name, **options}

    @given(STREAMS, st.data())
    @settings(max_examples=500, deadline=None)
    def test_tampered_bodies(self, reader: Script, body: dict[str, Any], data: st.DataObject) -> None:
        """Whatever a parser takes for a stream is asked for its usage, or refused."""
        text = bytearray(json.dumps(body).encode())
        for _turn in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(text)))
            text[at : at + data.draw(st.integers(0, 2))] = data.draw(
                st.sampled_from([b'"', b"{", b"}", b",", b'"stream":true,', b'"stream_options":{},', b"true", b""])
            )
        result = read(reader, bytes(text))
        for pairs in parsed(bytes(text)):
            found = dict(pairs)
            if result.status is None and found.get("stream"):
                sent = json.loads(result.body or bytes(text))
                assert sent["stream_options"]["include_usage"] is True

    @pytest.mark.parametrize("path", ["/v1/responses", "/v1/embeddings"])
    def test_other_endpoints(self, reader: Script, path: str) -> None:
        result = read(reader, b'{"model":"x","stream":true,"stream_options":1}', __path=path)
        assert model_of(result) == "x"
        assert result.body is None

    @pytest.mark.parametrize(
        "text",
        [
            '"stream":true,"stream":true',
            '"Stream":true',
            '"stream":true,"STREAM_OPTIONS":{}',
            '"stream":true,"stream_options":{"Include_Usage":false}',
            '"stream":true,"stream_options":{"include_usag\\u0065":false}',
            '"stream":true,"stream_options":{"include_usage":true,"include_usage":false}',
            '"stream":true,"stream_options":{',
        ],
    )
    def test_what_parsers_could_disagree_on(self, reader: Script, text: str) -> None:
        assert read(reader, ('{"model":"x",' + text + "}").encode()).status == b"400"

    def test_answers_are_asked_for_in_plain(self, reader: Script) -> None:
        assert read(reader, b'{"model":"x"}', accept_encoding="gzip").headers[b"accept-encoding"] is None


class TestRenaming:
    @given(good_objects(), PLAIN_NAMES)
    @settings(max_examples=300, deadline=None)
    def test_nothing_else_changes(self, renamer: Script, case: tuple[str, str], name: str) -> None:
        text, _other = case
        renamed = renamer.ask(text.encode(), name).body
        (before,), (after,) = parsed(text.encode()), parsed(renamed)
        assert [key for key, _other in before] == [key for key, _other in after]
        for (key, was), (_other, now) in zip(before, after):
            assert now == name if key == "model" else plain(now) == plain(was)

    def test_no_name_no_change(self, renamer: Script) -> None:
        assert renamer.ask(b'{"model":"x"}').body is None

    def test_what_was_not_read_is_not_renamed(self, renamer: Script) -> None:
        result = renamer.ask(b"{}", "y")
        assert result.status == b"500"
        assert result.body is None


def plain(value: Any) -> Any:
    """A parsed value that can be compared: objects are lists of pairs."""
    if isinstance(value, Pairs):
        return [(key, plain(item)) for key, item in value.pairs]
    return [plain(item) for item in value] if isinstance(value, list) else value


@given(st.text(st.characters(codec="utf-8")))
@settings(deadline=None)
def test_a_text_stays_a_text(text: str) -> None:
    literal = lua.lua_string(text)
    assert literal.isascii()
    assert luajit.LuaRuntime(encoding=None).eval(literal.encode()) == text.encode()


@pytest.mark.parametrize("text", ['"', "\\", "\n", "\r", "]]", "--[[", '" .. os.exit() .. "', "\0", "é", "1\0002"])
def test_hostile_texts(text: str) -> None:
    assert luajit.LuaRuntime(encoding=None).eval(lua.lua_string(text).encode()) == text.encode()
