"""Forms (multipart/form-data) as the scripts read them, against parsers that know nothing of each other."""

from __future__ import annotations

import email.parser
import io
import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from unit.module_utils._envoy.test_lua import Script

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua

pytest.importorskip("lupa.luajit21")
formparser = pytest.importorskip("werkzeug.formparser")

PATH = "/v1/audio/transcriptions"


@pytest.fixture(scope="module")
def reader() -> Script:
    return Script(lua.read_model_script([("team", "group-1")]))


@pytest.fixture(scope="module")
def renamer() -> Script:
    return Script(lua.rename_model_script())


def read(reader: Script, body: bytes, kind: str, name: str | None = None) -> Any:
    return reader.ask(body, name, x_gw_consumer="team", __method="POST", __path=PATH, content_type=kind)


def model_of(result: Any) -> str | None:
    """The model that the script found; None when it refused, for which there must be a reason."""
    found: bytes | None = result.headers[b"x-gw-model"]
    if found is None:
        assert result.status == b"400"
        assert result.message
        return None
    assert result.status is None
    return found.decode()


# ---- parsers: each returns names and contents, with None for the name of a part that has none


def of_werkzeug(body: bytes, boundary: str) -> list[tuple[str | None, bytes]] | None:
    try:
        # In memory: a file of its own would want to be closed, also after an error.
        parser = formparser.MultiPartParser(lambda *_given, **_named: io.BytesIO())
        fields, files = parser.parse(io.BytesIO(body), boundary.encode(), len(body))
    except (ValueError, formparser.RequestEntityTooLarge):
        return None
    found = [(name, text.encode("utf-8", "surrogateescape")) for name, text in fields.items(multi=True)]
    return found + [(name, b"a file") for name, _file in files.items(multi=True)]


def of_email(body: bytes, boundary: str) -> list[tuple[str | None, bytes]] | None:
    head = f'Content-Type: multipart/form-data; boundary="{boundary}"\r\n\r\n'.encode()
    message = email.parser.BytesParser().parsebytes(head + body)
    if not message.is_multipart():
        return None
    found = []
    for part in message.walk():
        if part is message or part.is_multipart():
            continue
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        name = part.get_param("name", header="content-disposition")
        found.append((name if name is None or isinstance(name, str) else name[2], payload))
    return found


def of_careless(body: bytes, boundary: str) -> list[tuple[str | None, bytes]] | None:
    """Takes every occurrence of the boundary for one, whatever is around it, and every name for one."""
    found: list[tuple[str | None, bytes]] = []
    for part in body.split(f"--{boundary}".encode())[1:]:
        head, _separator, content = part.partition(b"\r\n\r\n")
        names = re.findall(rb'name\*?\d*\*?\s*=\s*"?([^";\r\n]*)', head, re.IGNORECASE)
        found += [(name.decode("latin-1"), content.removesuffix(b"\r\n")) for name in names[:1]]
    return found


def models_in(parts: list[tuple[str | None, bytes]] | None) -> list[bytes] | None:
    if parts is None:
        return None
    return [content for name, content in parts if name is not None and name.strip("[]' ").lower() == "model"]


# ---- forms as programs write them

BOUNDARIES = st.from_regex(r"\A[A-Za-z0-9'+_.-]{1,70}\Z") | st.sampled_from(["-" * 24 + "b7", "=_a/b:c?", "b"])
NAMES = st.sampled_from(["file", "prompt", "language", "response_format", "timestamp_granularities[]", "a.b", "models"])
MODELS = st.from_regex(r"\A[!#-\[\]-~]{1,40}\Z") | st.sampled_from(["whisper-1", "org/model:v1"])
CONTENTS = st.binary(max_size=60) | st.sampled_from(
    [
        b'Content-Disposition: form-data; name="model"\r\n\r\nx',
        b'\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nx',
        b"--",
        b"\r\n",
        b"\r\n--",
        b"",
    ]
)
FILES = st.sampled_from(
    ["", "", '; filename="a.wav"', "; filename=a", "; filename*=utf-8''%22", '; filename="model; é"']
)
KINDS = st.sampled_from(["", "text/plain", "text/plain; charset=utf-8", "text/plain;charset=US-ASCII"])
OTHERS = st.sampled_from(["", "Content-Length: 7", "Content-Transfer-Encoding: binary", "X-Other: model=x; name=model"])


@dataclass(frozen=True)
class Form:
    body: bytes
    kind: str
    boundary: str
    model: str


def written(name: str, content: bytes, headers: list[str], *, quoted: bool, file: str = "") -> bytes:
    shown = f'"{name}"' if quoted or "[" in name else name
    lines = [f"Content-Disposition: form-data; name={shown}{file}", *filter(None, headers)]
    return "\r\n".join([*lines, "", ""]).encode() + content


@st.composite
def forms(draw: st.DrawFn) -> Form:
    boundary, model = draw(BOUNDARIES), draw(MODELS)
    quoted = draw(st.booleans())
    parts = []
    for name in draw(st.lists(NAMES, max_size=4)):
        file = draw(
            st.sampled_from(
                ["", "", '; filename="a.wav"', "; filename=a", "; filename*=utf-8''%22", '; filename="model; é"']
            )
        )
        kind = "Content-Type: audio/wav" if file else ""
        parts.append(written(name, draw(CONTENTS), [kind, draw(OTHERS)], quoted=quoted, file=file))
    kind = draw(KINDS)
    field = written("model", model.encode(), [kind and f"Content-Type: {kind}", draw(OTHERS)], quoted=quoted)
    parts.insert(draw(st.integers(0, len(parts))), field)
    assume(not any(f"--{boundary}".encode() in part for part in parts))
    mark = f"--{boundary}".encode()
    body = (
        b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts)
        + mark
        + b"--"
        + draw(st.sampled_from([b"\r\n", b""]))
    )
    shown = f'"{boundary}"' if draw(st.booleans()) or re.search(r"[^\w'+.-]", boundary) else boundary
    return Form(body, f"multipart/form-data; boundary={shown}", boundary, model)


TAMPERING = st.sampled_from(
    [
        *(b'\r\n \n \r \0 -- - " \\ ; = : \t [ ] * MODEL model'.split(b" ")),
        b"\r\n\r\n",
        b" ",
        b"--b",
        b"\r\n--b\r\n",
        b"\r\n--b--\r\n",
        b"\n--b\n",
        b'Content-Disposition: form-data; name="model"\r\n',
        b'Content-Disposition: form-data; name="model"\r\n\r\nx\r\n--b\r\n',
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n",
        b'; name="model"',
        b"; name*=utf-8''model",
        b'; filename="x"',
        b"",
    ]
)


class TestReading:
    @given(forms())
    @settings(max_examples=400, deadline=None)
    def test_what_programs_write(self, reader: Script, form: Form) -> None:
        result = read(reader, form.body, form.kind)
        assert model_of(result) == form.model
        assert result.body is None
        sent = result.headers[b"content-type"].decode()
        assert sent.replace('"', "") == f"multipart/form-data; boundary={form.boundary}"

    @given(forms(), st.data())
    @settings(max_examples=1500, deadline=None)
    def test_what_is_read_is_what_parsers_read(self, reader: Script, form: Form, data: st.DataObject) -> None:
        """Forms that were tampered with: refused, or all parsers find the one model that was found."""
        body = bytearray(form.body)
        for _turn in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(body)))
            mark = data.draw(TAMPERING).replace(b"--b", b"--" + form.boundary.encode())
            body[at : at + data.draw(st.integers(0, 2))] = mark
        found = model_of(read(reader, bytes(body), form.kind))
        if found is not None:
            for parse in (of_werkzeug, of_email, of_careless):
                assert models_in(parse(bytes(body), form.boundary)) in (None, [found.encode()]), parse

    @given(st.binary(max_size=80) | st.text('-b\r\n:; "=modelformdata', max_size=80).map(str.encode))
    @settings(max_examples=400, deadline=None)
    @example(b"--b\r\n")
    @example(b"--b--\r\n")
    @example(b"--b\r\n\r\n--b--")
    def test_no_body_breaks_it(self, reader: Script, body: bytes) -> None:
        assert model_of(read(reader, body, "multipart/form-data; boundary=b")) is None

    @pytest.mark.parametrize("size", [8000, 9000])
    def test_the_head_of_a_part_is_short(self, reader: Script, size: int) -> None:
        head = [f"X-Other: {'x' * size}"]
        body = b"--b\r\n" + written("model", b"m", head, quoted=True) + b"\r\n--b--"
        assert (model_of(read(reader, body, "multipart/form-data; boundary=b")) == "m") is (size == 8000)

    @pytest.mark.parametrize("count", [999, 1000])
    def test_there_are_not_many_parts(self, reader: Script, count: int) -> None:
        parts = [written("x", b"", [], quoted=True)] * count + [written("model", b"m", [], quoted=True)]
        body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--"
        assert (model_of(read(reader, body, "multipart/form-data; boundary=b")) == "m") is (count == 999)

    @pytest.mark.parametrize("content", [b"-" * 5000000, b"\r\n-" * 1500000, bytes(range(256)) * 20000])
    def test_a_large_file(self, reader: Script, content: bytes) -> None:
        mark = "-" * 69 + "b"
        parts = [
            written("file", content, [], quoted=True, file='; filename="a"'),
            written("model", b"m", [], quoted=True),
        ]
        body = b"".join(f"--{mark}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{mark}--".encode()
        assert model_of(read(reader, body, f"multipart/form-data; boundary={mark}")) == "m"


def one(head: str, content: str = "m") -> bytes:
    return f"--b\r\n{head}\r\n\r\n{content}\r\n--b--\r\n".encode()


DISPOSITION = "Content-Disposition: form-data"


class TestOneForm:
    @pytest.mark.parametrize(
        "head",
        [
            f'{DISPOSITION}; name="model"',
            f"{DISPOSITION}; name=model",
            f'{DISPOSITION};name="model" ',
            'content-disposition:Form-Data ; NAME="model"',
            f'{DISPOSITION}; name="model"\r\nContent-Type: Text/Plain; charset="UTF-8"',
            f'{DISPOSITION}; name="model"\r\nContent-Transfer-Encoding: 8BIT\r\nContent-Length: 1',
        ],
    )
    def test_is_read(self, reader: Script, head: str) -> None:
        assert model_of(read(reader, one(head), "multipart/form-data; boundary=b")) == "m"

    @pytest.mark.parametrize(
        "head",
        [
            f'{DISPOSITION}; name="Model"',
            f'{DISPOSITION}; name="model[]"',
            f'{DISPOSITION}; name="[model]"',
            f'{DISPOSITION}; name="model.x"',
            f'{DISPOSITION}; name=" model"',
            f'{DISPOSITION}; name="mod%65l"',
            f'{DISPOSITION}; name="mo\\del"',
            f'{DISPOSITION}; name="model"; name="x"',
            f"{DISPOSITION}; name*=utf-8''model",
            f"{DISPOSITION}; name=\"x\"; name*=utf-8''model",
            f'{DISPOSITION}; name*0="mo"; name*1="del"',
            f'{DISPOSITION}; name="model"; filename="x"',
            f"{DISPOSITION}; name=\"model\"; filename*=utf-8''x",
            f'{DISPOSITION}; name="model"; x=y',
            f'{DISPOSITION}; name="model" x',
            f"{DISPOSITION}; name='model'",
            f'{DISPOSITION}; x; name="model"',
            'Content-Disposition: attachment; name="model"',
            f'{DISPOSITION} ; name="model"\r\n x',
            f'{DISPOSITION}\r\n ; name="model"',
            f'{DISPOSITION}; name="model"\r\n{DISPOSITION}; name="x"',
            'Content-Disposition : form-data; name="model"',
            f'{DISPOSITION}; name="model"\nX: y',
            f'{DISPOSITION}; name="model"\r\nContent-Type: application/json',
            f'{DISPOSITION}; name="model"\r\nContent-Type: text/plain; charset=utf-7',
            f'{DISPOSITION}; name="model"\r\nContent-Type: text/plain\r\nContent-Type: text/html',
            f'{DISPOSITION}; name="model"\r\nContent-Transfer-Encoding: base64',
            f'{DISPOSITION}; name="model"\r\nContent-Transfer-Encoding: quoted-printable',
            f'{DISPOSITION}; name="_charset_"',
            "Content-Type: text/plain",
            "",
        ],
    )
    def test_is_refused(self, reader: Script, head: str) -> None:
        assert model_of(read(reader, one(head), "multipart/form-data; boundary=b")) is None

    @pytest.mark.parametrize("content", ["", "a b", " m", "m\r\n", "é", "a\\/b", "x" * 257, "m\0"])
    def test_a_value_that_is_no_name(self, reader: Script, content: str) -> None:
        body = one(f'{DISPOSITION}; name="model"', content)
        assert model_of(read(reader, body, "multipart/form-data; boundary=b")) is None

    @pytest.mark.parametrize(
        "kind",
        [
            "Multipart/Form-Data;boundary=b",
            'multipart/form-data; boundary="b"',
            "multipart/form-data; charset=UTF-8; BOUNDARY=b",
            "multipart/form-data; boundary=b; charset=utf-8 ",
        ],
    )
    def test_kinds(self, reader: Script, kind: str) -> None:
        result = read(reader, one(f'{DISPOSITION}; name="model"'), kind)
        assert model_of(result) == "m"
        assert result.headers[b"content-type"] == b"multipart/form-data; boundary=b"

    @pytest.mark.parametrize(
        "kind",
        [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            'multipart/form-data; boundary=""',
            "multipart/form-data; boundary=b; boundary=b",
            "multipart/form-data; boundary=b; boundary=c",
            "multipart/form-data; boundary*=utf-8''b",
            "multipart/form-data; boundary=b; charset=utf-7",
            "multipart/form-data; boundary=b, text/plain",
            "multipart/form-data; boundary=b c",
            'multipart/form-data; boundary="b" c',
            'multipart/form-data; boundary="b\\b"',
            'multipart/form-data; boundary="b ',
            f"multipart/form-data; boundary={'b' * 71}",
            "multipart/form-datax; boundary=b",
            "multipart/mixed; boundary=b",
            "multipart/form-data boundary=b",
        ],
    )
    def test_other_kinds(self, reader: Script, kind: str) -> None:
        assert model_of(read(reader, one(f'{DISPOSITION}; name="model"'), kind)) is None

    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/images/generations", "/v1/audio/speech"])
    def test_other_paths(self, reader: Script, path: str) -> None:
        given = {"x_gw_consumer": "team", "__method": "POST", "content_type": "multipart/form-data; boundary=b"}
        assert model_of(reader.ask(one(f'{DISPOSITION}; name="model"'), __path=path, **given)) is None

    def test_compressed(self, reader: Script) -> None:
        given = {"x_gw_consumer": "team", "__method": "POST", "__path": PATH, "content_encoding": "gzip"}
        body = one(f'{DISPOSITION}; name="model"')
        assert model_of(reader.ask(body, content_type="multipart/form-data; boundary=b", **given)) is None

    def test_json_may_be_there_too(self, reader: Script) -> None:
        assert model_of(read(reader, b'{"model":"m"}', "application/json")) == "m"
        assert model_of(read(reader, b'{"model":"m"}', "multipart/form-data; boundary=b")) is None


class TestRenaming:
    @given(forms(), MODELS)
    @settings(max_examples=300, deadline=None)
    def test_nothing_else_changes(self, reader: Script, renamer: Script, form: Form, name: str) -> None:
        assume(f"--{form.boundary}" not in name)
        renamed = read(reader, form.body, form.kind, name).body
        kind = read(reader, form.body, form.kind).headers[b"content-type"].decode()
        assert renamer.ask(form.body, name, content_type=kind).body == renamed
        before, after = of_werkzeug(form.body, form.boundary), of_werkzeug(renamed, form.boundary)
        assert before is not None
        assert after == [(key, name.encode() if key == "model" else text) for key, text in before]

    def test_a_name_that_ends_the_part(self, reader: Script, renamer: Script) -> None:
        body, kind = one(f'{DISPOSITION}; name="model"'), "multipart/form-data; boundary=b"
        assert read(reader, body, kind, "a--b").status == b"400"
        assert renamer.ask(body, "a--b", content_type=kind).status == b"500"
