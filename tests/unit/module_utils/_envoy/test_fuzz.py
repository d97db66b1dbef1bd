"""Some of the bodies that `make bench-fuzz` throws at the scripts a million of."""

from __future__ import annotations

import importlib
import json
import random

import pytest
from json_bodies import Json5, Pairs, folded, leniently, strictly, values_of

pytest.importorskip("lupa.luajit21")

BODIES = 20000


def test_what_the_gateway_reads_is_what_providers_read() -> None:
    from script_fuzz import Fuzz

    seed = random.SystemRandom().getrandbits(32)
    fuzz = Fuzz(seed)
    wrong = [why for why in (fuzz.one() for _turn in range(BODIES)) if why]
    assert not wrong, (seed, wrong[:5])
    # Neither of the two is all there is.
    assert BODIES / 5 < fuzz.accepted < BODIES * 3 / 5


@pytest.mark.parametrize(
    ("module", "name", "bodies"),
    [("form_fuzz", "FormFuzz", 2000), ("token_fuzz", "TokenFuzz", 5000), ("anthropic_fuzz", "AnthropicFuzz", 3000)],
)
def test_the_other_scripts(module: str, name: str, bodies: int) -> None:
    pytest.importorskip("werkzeug")
    seed = random.SystemRandom().getrandbits(32)
    fuzz = getattr(importlib.import_module(module), name)(seed)
    wrong = [why for why in (fuzz.one() for _turn in range(bodies)) if why]
    assert not wrong, (seed, wrong[:5])
    assert bodies / 5 < fuzz.accepted < bodies * 19 / 20


class TestParsers:
    """The parsers that the scripts are held against find what they are there for."""

    @pytest.mark.parametrize(
        ("body", "way"),
        [
            (b'{"model":"a\nb"}', "control characters"),
            (b'{"mod\xffel":"a"}', "bytes that are no UTF-8 are left out"),
            ('{"model":"a"}'.encode("utf-16"), "the encoding is guessed"),
            (b'{"model":"a"} {"model":"b"}', "what comes after it"),
            (b'{"model":"a"}\0{"model":"b"}', "it ends at a NUL"),
            (b'{"mod\0el":"a"}', "NULs are left out"),
            (b"""{/*"*/model:'a',}""", "JSON5"),
            (b"""{#"\n"x":["'", '"'],'model':"a" // }\n}""", "JSON5 and #"),
        ],
    )
    def test_lenient_ones(self, body: bytes, way: str) -> None:
        assert strictly(body) is None
        (value,) = values_of(leniently(body)[way], "model")
        assert value[0] == "a"

    @pytest.mark.parametrize("text", ['{"a":[1,{"b":"\\"\'\\u00e9"}],"c":null}', '{"x":"/*","y":"//"}', "{}"])
    def test_json_is_json5(self, text: str) -> None:
        found = Json5(text).read()
        assert found == strictly(text.encode())
        assert isinstance(found, Pairs)
        assert [key for key, _value in found] == list(json.loads(text))

    @pytest.mark.parametrize("key", ["model", "MODEL", "ｍodel", "model\0x"])
    def test_careless_ones(self, key: str) -> None:
        assert folded(key) == "model"
        assert folded("\u017ftream") == "stream"
