"""Checks of the scripts that read forms with random ones: the model that the gateway finds is what parsers find.

Each check returns what is wrong, or None.
"""

from __future__ import annotations

import random
import re

from unit.module_utils._envoy import test_form as forms
from unit.module_utils._envoy.test_lua import Script

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua

PARSERS = (forms.of_werkzeug, forms.of_email, forms.of_careless)
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'+_.-"
FIELDS = ("file", "prompt", "language", "response_format", "timestamp_granularities[]", "a.b", "models")
MODELS = ("whisper-1", "org/model:v1", "x", "#", "]", "~" * 256)
NAMES = (None, "upstream/name-1.5", "--", "--bat", "x")
FILES = ("", "", '; filename="a.wav"', "; filename=a", "; filename*=utf-8''%22", '; filename="model; é"')
KINDS = ("", "text/plain", "text/plain; charset=utf-8", "text/plain;charset=US-ASCII")
OTHERS = ("", "Content-Length: 7", "Content-Transfer-Encoding: binary", "X-Other: model=x; name=model")
DISPOSITION = b'Content-Disposition: form-data; name="model"'
CONTENTS = (
    DISPOSITION + b"\r\n\r\nx",
    b"\r\n--b\r\n" + DISPOSITION + b"\r\n\r\nx",
    *(b"--", b"\r\n", b"\r\n--", b"", b"\r\n-", b"a text"),
)
TAMPERING = (
    *(b'\r\n \n \r \0 -- - " \\ ; = : \t [ ] * MODEL model'.split(b" ")),
    *(b"\r\n\r\n", b" ", b"", b"--b", b"\r\n--b\r\n", b"\r\n--b--\r\n", b"\n--b\n", b"--b--", b"--b\r\n"),
    DISPOSITION + b"\r\n",
    DISPOSITION + b"\r\n\r\nx\r\n--b\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    *(b'; name="model"', b"; name*=utf-8''model", b"; name*0=mo", b'; filename="x"'),
)


class FormFuzz:
    """The scripts, and the dice that the forms come from."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.reader = Script(lua.read_model_script([("team", "group-1")]))
        self.renamer = Script(lua.rename_model_script())
        self.accepted = 0

    def one(self) -> str | None:
        """Check one form, which may have been tampered with."""
        dice = self.dice
        body, boundary, model = self.form()
        tampered = dice.random() < 0.7
        if tampered:
            body = self.tampered(body, boundary)
        quoted = dice.random() < 0.5 or re.search(r"[^\w'+.-]", boundary) is not None
        kind = f"multipart/form-data; boundary={chr(34) * quoted}{boundary}{chr(34) * quoted}"
        name = dice.choice(NAMES)
        result = forms.read(self.reader, body, kind, name)
        found = result.headers[b"x-gw-model"]
        if (found is None) != (result.status == b"400") and not self.collides(name, boundary):
            return f"neither read nor refused: {kind} {body!r}"
        if not tampered and found != model:
            return f"read {found!r} instead of {model!r}: {kind} {body!r}"
        if found is None or result.status is not None:
            return f"refused, and sent: {body!r}" if result.body is not None else None
        self.accepted += 1
        return self.same(body, boundary, found, b"the same") or self.sent(body, boundary, kind, name, result.body)

    def collides(self, name: str | None, boundary: str) -> bool:
        """Whether the provider's name of the model would end a part."""
        return name is not None and f"--{boundary}" in name

    def same(self, body: bytes, boundary: str, model: bytes, what: bytes) -> str | None:
        """Check that each parser that reads the form finds ``model``, and no other."""
        for parse in PARSERS:
            models = forms.models_in(parse(body, boundary))
            if models not in (None, [model]):
                return f"{parse.__name__} finds {models} instead of {model!r} ({what.decode()}): {boundary} {body!r}"
        return None

    def sent(self, body: bytes, boundary: str, kind: str, name: str | None, sent: bytes | None) -> str | None:
        """Check what is sent on: the same parts, and another name of the model."""
        if name is None:
            return f"changed without a reason: {body!r}" if sent is not None else None
        if sent is None:
            return f"not renamed: {body!r}"
        again = self.renamer.ask(sent, "other", content_type=kind).body
        if again is None and not self.collides("other", boundary):
            return f"not renamed at the egress listener: {body!r}"
        for text, model in ((sent, name), (again or sent, "other" if again else name)):
            why = self.same(text, boundary, model.encode(), b"renamed")
            why = why or (
                f"something else has changed: {body!r}" if others(body, boundary) != others(text, boundary) else None
            )
            if why:
                return why
        return None

    # ---- forms

    def form(self) -> tuple[bytes, str, bytes]:
        """A form as programs write it, its boundary and its model."""
        dice = self.dice
        while True:
            boundary = dice.choice(
                ("-" * 24 + "b7", "=_a/b:c?", "b", "".join(dice.choices(LETTERS, k=dice.randint(1, 70))))
            )
            model = dice.choice(MODELS)
            quoted = dice.random() < 0.5
            parts = [self.part(quoted) for _turn in range(dice.randint(0, 4))]
            kind = dice.choice(KINDS)
            head = [kind and f"Content-Type: {kind}", dice.choice(OTHERS)]
            parts.insert(dice.randint(0, len(parts)), forms.written("model", model.encode(), head, quoted=quoted))
            mark = f"--{boundary}".encode()
            if not any(mark in part for part in parts):
                body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts)
                return body + mark + b"--" + dice.choice((b"\r\n", b"")), boundary, model.encode()

    def part(self, quoted: bool) -> bytes:
        dice = self.dice
        file = dice.choice(FILES)
        content = dice.choice(CONTENTS) if dice.random() < 0.5 else dice.randbytes(dice.randint(0, 60))
        head = ["Content-Type: audio/wav" if file else "", dice.choice(OTHERS)]
        return forms.written(dice.choice(FIELDS), content, head, quoted=quoted, file=file)

    def tampered(self, body: bytes, boundary: str) -> bytes:
        dice = self.dice
        text = bytearray(body)
        for _turn in range(dice.randint(1, 4)):
            at = dice.randint(0, len(text))
            mark = dice.choice(TAMPERING).replace(b"--b", b"--" + boundary.encode())
            text[at : at + dice.randint(0, 2)] = mark
        return bytes(text)


def others(body: bytes, boundary: str) -> list[tuple[str | None, bytes]]:
    """The parts without the model."""
    return [part for part in forms.of_careless(body, boundary) or () if not forms.models_in([part])]
