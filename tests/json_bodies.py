"""Random bodies, most of which are traps, and what parsers of many kinds read in them.

For the fuzz tests of the Lua scripts: tests/unit/module_utils/_envoy/test_fuzz.py and tests/benchmarks/fuzz.py.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

KEYS = ("messages", "input", "stream", "stream_options", "temperature", "user", "n", "stop", "metadata", "x")
MODELS = ("gpt-5", "allowed", "org/model:1@x", "b")
# Keys that some parser takes for another one, or that end the string or the text for somebody.
ODD_KEYS = (
    *("model", "Model", "MODEL", "modeL", "models", "mode", "", "model ", " model", "m\\u006fdel", "mod\\u0065l"),
    *("mod\\/el", "model\\u0000", "model\0", "\0", "mo\\ndel", "ｍodel", "modeł", "mоdel", "stream", "Stream"),
    *("STREAM", "ſtream", "\u017ftream_options", "stream_option\u017f", "\u212aey", "Stream_Options", "stre\\u0061m"),
    *("\\", "\\\\", "\ud7ff", "é", "]", "}", '\\"', '\\",\\"model\\":\\"b', "/*", "*/", "//", "'", "#", "model'"),
)
ODD_VALUES = (
    *('"b"', '"a\\u0062c"', '"gpt\\/5"', '"a\\"b"', '"a\\\\"', '""', '"a b"', '"é"', "null", "true", "7", "{}", "[]"),
    *('{"model":"b"}', '["b"]', '"' + "x" * 257 + '"', '"a\0b"', '"a\nb"', "'b'", "b", "NaN", "-Infinity", "0x10"),
    *('"\\ud800"', '"\ufeff"', "1e999", "-0", "01", '"b\\u0000"', "True", "undefined"),
)
# What tampering puts into a body.
SPLINTERS = (
    *(b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b",", b":", b"/", b"/*", b"*/", b"//", b"#", b"\n", b"\0", b" ", b"`"),
    *(b'"model":"b"', b'"model":"b",', b',"model":"b"', b"model:'b',", b"'model':'b',", b'"Model":"b",', b'/*"*/'),
    *(b"\xef\xbb\xbf", b"\xff", b"\xc0\xa2", b"\xc5\xbf", b"\xe2\x84\xaa", b"\xed\xa0\x80", b"\x1b", b"\x7f", b"\xa0"),
    *(b'"stream":true,', b'"stream_options":{},', b'"include_usage":true', b"true", b"NaN", b"{}", b"\xe2\x80\xa8"),
)
# Where strings begin and end for those who know no comments and no other quotes is somewhere else for those who do.
HIDDEN_QUOTES = ("""'"'""", '/*"*/', '//"\n', '#"\n', """'"',1""")
SPACES = ("", "", "", " ", "\n", "\t", "\r\n", "  ")
ENCODINGS = ("utf-16-le", "utf-16-be", "utf-16", "utf-32-le", "utf-32-be", "utf-32", "utf-8-sig", "utf-7")


def random_body(dice: random.Random) -> bytes:
    """A body, as a client may send it or somebody who means harm."""
    kind = dice.random()
    if kind < 0.03:
        return _hidden(dice).encode("utf-8", "surrogatepass")
    text = _members(dice, odd=0.0 if kind < 0.35 else 0.35)
    if kind < 0.55:
        return text.encode("utf-8", "surrogatepass")
    if kind < 0.58:
        return text.encode(dice.choice(ENCODINGS), "surrogatepass")
    if kind < 0.60:
        # ASCII within a string of UTF-16, between what is ASCII for nobody else.
        inner = _members(dice, odd=0.2).encode("utf-8", "surrogatepass")[1:-1]
        inner += b" " * (len(inner) % 2)
        half = '{"x":"\u2200'.encode("utf-16-le") + b"," + inner + b","
        return half + '","model":"b"}'.encode("utf-16-le")
    body = bytearray(text.encode("utf-8", "surrogatepass"))
    for _turn in range(dice.randint(1, 3)):
        at = dice.randint(0, len(body))
        body[at : at + dice.choice((0, 0, 0, 1, 2))] = dice.choice(SPLINTERS)
    if kind > 0.97:
        body += dice.choice((b"", b" ", b"\0", b"\n", b",")) + _members(dice, odd=0.2).encode("utf-8", "surrogatepass")
    elif kind > 0.94:
        del body[dice.randint(0, len(body)) :]
    return bytes(body)


def _hidden(dice: random.Random) -> str:
    """A model that is within a string for some."""
    quote, inner = dice.choice(HIDDEN_QUOTES), _members(dice, odd=0.2).strip()[1:-1]
    hidden = f'{quote}{dice.choice(("", "]"))},{inner},"y":{dice.choice(("", "["))}{quote}'
    before, after = dice.choice((('{"x":[', "]"), ('{"x":', ""), ("{", '"z":1'), ('{"x":{"v":[', "]}")))
    return f'{before}{hidden}{after},"model":"{dice.choice(MODELS)}"}}'


def _members(dice: random.Random, odd: float) -> str:
    key = "model" if dice.random() > odd / 3 else dice.choice(ODD_KEYS)
    parts = [f'"{key}"{_space(dice)}:{_space(dice)}"{dice.choice(MODELS)}"']
    for key in dice.sample(KEYS, dice.randint(0, 4)):
        parts.append(f'"{key}"{_space(dice)}:{_space(dice)}{_value_of(dice, key)}')
    if dice.random() < odd * 2:
        for _turn in range(dice.randint(1, 2)):
            key = dice.choice(ODD_KEYS) if dice.random() < 0.7 else "model"
            value = dice.choice(ODD_VALUES) if dice.random() < 0.6 else _value(dice, 2)
            parts.append(f'"{key}":{value}')
    dice.shuffle(parts)
    comma = f"{_space(dice)},{_space(dice)}"
    return _space(dice) + "{" + _space(dice) + comma.join(parts) + _space(dice) + "}" + _space(dice)


def _space(dice: random.Random) -> str:
    return dice.choice(SPACES)


def _value_of(dice: random.Random, key: str) -> str:
    if key == "stream":
        return dice.choice(("true", "true", "true", "false", "null", "1", '"true"', "{}"))
    if key == "stream_options":
        options = ("{}", "null", '{"include_usage":true}', '{"include_usage" : false }', '{"x":{"include_usage":1}}')
        more = ('{"Include_usage":false}', '{"include_usage":1}', '{"include_u\u017fage":false}', "[]", '"x"')
        return dice.choice((*options, *options, *more))
    return _value(dice, 3)


def _value(dice: random.Random, depth: int) -> str:
    kind = dice.random()
    if kind < 0.5 or depth == 0:
        scalars = (
            *(
                '"hello"',
                '"say \\"model\\": \\"b\\""',
                '"}"',
                '"]"',
                '"{"',
                '"\\\\"',
                '"\\\\\\""',
                '"é ü"',
                '"\\u00e9"',
            ),
            *('"\\ud83d\\ude00"', '"/*"', '"//"', '"\'"', '"#"', "1", "0.25", "-3e5", "true", "false", "null", '""'),
        )
        return dice.choice(scalars)
    if kind < 0.52:
        deep = dice.choice((10, 40, 300))
        return "[" * deep + "]" * deep
    if kind < 0.524:
        return '"' + "x" * dice.choice((1000, 70000)) + '"'
    count = dice.randint(0, 3)
    if kind < 0.75:
        return "[" + ",".join(_value(dice, depth - 1) for _turn in range(count)) + "]"
    keys = [dice.choice((*KEYS, "model", "model", "Model", "content", "\\u006d", "é")) for _turn in range(count)]
    return "{" + ",".join(f'"{key}":{_value(dice, depth - 1)}' for key in keys) + "}"


# ---- what parsers read: the pairs of a top-level object


class Pairs(list[tuple[str, Any]]):
    """An object: its pairs, doubled ones too."""


WORDS = {"true": True, "false": False, "null": None}


class Number(str):
    """A number or a word, as it is written."""


def _python(text: str, *, strict: bool = True, whole: bool = True) -> Any:
    decoder = json.JSONDecoder(
        object_pairs_hook=Pairs, strict=strict, parse_int=Number, parse_float=Number, parse_constant=Number
    )
    return decoder.decode(text) if whole else decoder.raw_decode(text.lstrip(" \t\r\n"))[0]


def strictly(body: bytes) -> Pairs | None:
    """What a parser of RFC 8259 reads (NaN apart); None where it reads no object."""
    return _object(lambda: _python(body.decode()))


def _object(read: Callable[[], Any]) -> Pairs | None:
    try:
        found = read()
    except (ValueError, RecursionError, IndexError):
        return None
    return found if isinstance(found, Pairs) else None


def leniently(body: bytes) -> dict[str, Pairs]:
    """What parsers read that forgive something, by what they forgive."""
    ways: dict[str, Callable[[], Any]] = {
        "control characters": lambda: _python(body.decode(), strict=False),
        "bytes that are no UTF-8 are left out": lambda: _python(body.decode("utf-8", "ignore"), strict=False),
        "bytes that are no UTF-8 are marked": lambda: _python(body.decode("utf-8", "replace"), strict=False),
        "latin-1": lambda: _python(body.decode("latin-1"), strict=False),
        "the encoding is guessed": lambda: _python(body.decode(json.detect_encoding(body), "ignore"), strict=False),
        "what comes after it": lambda: _python(body.decode("utf-8", "ignore"), strict=False, whole=False),
        "it ends at a NUL": lambda: _python(body.partition(b"\0")[0].decode("utf-8", "ignore"), strict=False),
        "NULs are left out": lambda: _python(body.replace(b"\0", b"").decode("utf-8", "ignore"), strict=False),
        "JSON5": lambda: Json5(body.decode("utf-8", "ignore")).read(),
        "JSON5 and #": lambda: Json5(body.decode("utf-8", "ignore"), hash_comments=True).read(),
    }
    found = {name: _object(way) for name, way in ways.items()}
    return {name: pairs for name, pairs in found.items() if pairs is not None}


class Json5:
    """A parser that takes comments, other quotes, names without quotes, trailing commas and what comes after it."""

    def __init__(self, text: str, *, hash_comments: bool = False) -> None:
        self.text = text.lstrip("\ufeff")
        self.at = 0
        more = r"|#[^\n\r]*" if hash_comments else ""
        self.space = re.compile(r"(?:\s|/\*.*?\*/|//[^\n\r]*" + more + ")*", re.DOTALL)

    def read(self) -> Any:
        self._skip()
        char = self.text[self.at]
        if char == "{":
            return Pairs(self._items("}", self._pair))
        if char == "[":
            return list(self._items("]", self.read))
        if char in "\"'":
            return self._string()
        word = self._word()
        return WORDS[word] if word in WORDS else Number(word)

    def _skip(self) -> str:
        found = self.space.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.text[self.at]

    def _items(self, end: str, one: Callable[[], Any]) -> Iterator[Any]:
        self.at += 1
        while self._skip() != end:
            yield one()
            if self._skip() == ",":
                self.at += 1
            elif self.text[self.at] != end:
                raise ValueError("no comma")
        self.at += 1

    def _pair(self) -> tuple[str, Any]:
        key = self._string() if self._skip() in "\"'" else self._word()
        if self._skip() != ":":
            raise ValueError("no colon")
        self.at += 1
        return key, self.read()

    def _string(self) -> str:
        quote, start = self.text[self.at], self.at + 1
        self.at = start
        while self.text[self.at] != quote:
            self.at += 2 if self.text[self.at] == "\\" else 1
        self.at += 1
        literal = self.text[start : self.at - 1]
        inner = re.sub(r'(?<!\\)"', r"\"", literal.replace("\\'", "'"))
        found: str = json.loads(f'"{inner}"', strict=False)
        return found

    def _word(self) -> str:
        found = re.compile(r"[^\s{}\[\],:\"'/]+").match(self.text, self.at)
        if not found:
            raise ValueError("no word")
        self.at = found.end()
        return found.group()


def folded(key: str) -> str:
    """A key as the most careless parser compares it."""
    return unicodedata.normalize("NFKC", key.partition("\0")[0]).casefold()


def values_of(pairs: Pairs, key: str) -> list[Any]:
    """The values of all keys that may be taken for this one."""
    return [value for found, value in pairs if folded(found) == key]
