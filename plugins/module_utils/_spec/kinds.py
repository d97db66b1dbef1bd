# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of value that a spec holds: how each is read, and how it is written back.

A kind is what a field of the model carries as metadata. The parser, the JSON schema, the argument specs and the
reference documentation are all made from it. ``convert`` takes what the user wrote and raises :class:`KindError` with a
message that says what to write instead; ``render`` is its inverse and gives the notation of the spec.
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import (
    CERTIFICATE_PATTERN,
    KEY_PATTERN,
    Source,
    SourceError,
    parse_source,
    source_text,
)

SEVERITIES = ("deny", "warn", "off")

_SHOWN = 60


class KindError(ValueError):
    """A value that a kind cannot read; ``str()`` completes the sentence that begins with the value's path."""


def show(value: object) -> str:
    """Return a short, printable, quoted form of a value for an error message."""
    text = repr(str(value) if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that ``word`` is probably meant to be, or an empty string."""
    close = difflib.get_close_matches(word[:_SHOWN], list(known), n=1)
    return close[0] if close else ""


def did_you_mean(word: str) -> str:
    """Return the end of a message that suggests ``word``, which may be empty."""
    return f"; did you mean {show(word)}?" if word else ""


def type_name(value: object) -> str:
    """Name a value's type in YAML's words."""
    if value is None:
        return "null"
    names: tuple[tuple[Any, str], ...] = (
        (bool, "a boolean"),
        (str, "a string"),
        (int, "a number"),
        (float, "a number"),
        (Mapping, "a dictionary"),
        ((list, tuple), "a list"),
    )
    for type_, name in names:
        if isinstance(value, type_):
            return name
    return "a date" if hasattr(value, "isoformat") else f"a {type(value).__name__}"


def plain_text(value: object) -> str:
    """Return a string without Ansible's tags; what YAML reads as something else has to be quoted."""
    if isinstance(value, str):
        return str.__str__(value)
    if getattr(type(value), "__ENCRYPTED__", False):
        return str(value)
    if isinstance(value, (bool, int, float)) or hasattr(value, "isoformat"):
        raise KindError(f"must be a string, but YAML reads it as {type_name(value)}; put it in quotes")
    raise KindError(f"must be a string, not {type_name(value)}")


class Kind:
    """What a value may be."""


class Scalar(Kind, ABC):
    """A kind whose values have no parts with a path of their own."""

    @abstractmethod
    def convert(self, value: object) -> Any:
        """Return what a user's value is in the model, in plain types; raise :class:`KindError`."""

    @abstractmethod
    def render(self, value: Any) -> Any:
        """Return a value of the model in the notation of the spec."""


@dataclass(frozen=True)
class Text(Scalar):
    """A string that matches ``pattern``; ``form`` says so in words."""

    pattern: str
    form: str
    max_length: int = 256

    def convert(self, value: object) -> str:
        text = plain_text(value)
        if not text:
            raise KindError("must not be empty")
        if len(text) > self.max_length:
            raise KindError(f"is longer than {self.max_length} characters")
        if re.match(self.pattern, text) is None or text.endswith("\n"):
            raise KindError(f"{show(text)} must be {self.form}")
        return text

    def render(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class Choice(Scalar):
    """One of a few words."""

    choices: tuple[str, ...]

    def convert(self, value: object) -> str:
        text = plain_text(value)
        if text in self.choices:
            return text
        known = ", ".join(self.choices)
        raise KindError(f"{show(text)} is not one of {known}{did_you_mean(nearest(text, self.choices))}")

    def render(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class Flag(Scalar):
    """Yes or no; the words ``true`` and ``false`` too, since templates of older ansible-core yield strings."""

    def convert(self, value: object) -> bool:
        if isinstance(value, str) and str.lower(value) in ("true", "false"):
            return str.lower(value) == "true"
        if not isinstance(value, bool):
            raise KindError(f"must be true or false, not {_what(value)}")
        return bool(value)

    def render(self, value: bool) -> bool:
        return value


@dataclass(frozen=True)
class Integer(Scalar):
    """A whole number; its digits as a string are taken too, since templates of older ansible-core yield strings."""

    minimum: int
    maximum: int

    def convert(self, value: object) -> int:
        if isinstance(value, str) and re.match(r"[0-9]{1,15}\Z", value):
            number = int(str.__str__(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            number = int(value)
        else:
            raise KindError(f"must be a whole number, not {_what(value)}")
        if not self.minimum <= number <= self.maximum:
            raise KindError(f"must be between {self.minimum} and {self.maximum}")
        return number

    def render(self, value: int) -> int:
        return value


@dataclass(frozen=True)
class Number(Scalar):
    """A number that is not negative."""

    def convert(self, value: object) -> float:
        if isinstance(value, str) and re.match(r"[0-9]{1,15}(\.[0-9]{1,15})?\Z", value):
            return float(str.__str__(value))
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise KindError(f"must be a number, not {_what(value)}")
        if not 0 <= value <= 1e15 or math.isnan(value):
            raise KindError("must be between 0 and 1e15")
        return float(value)

    def render(self, value: float) -> float:
        return value


@dataclass(frozen=True)
class Quantity(Scalar):
    """A whole number with its unit. A bare number is refused, because nothing says which unit was meant.

    ``units`` maps each suffix to its size in the base unit; values are written with the first that divides them. The
    model holds ``number * size / scale``: ``scale`` is how many base units make one unit of the model.
    """

    units: tuple[tuple[str, int], ...]
    minimum: int
    maximum: int
    example: str
    scale: int = 1

    @property
    def pattern(self) -> str:
        """The notation as a regular expression of both Python and ECMAScript."""
        return "^[0-9]{1,15}(" + "|".join(suffix for suffix, _size in self.units) + ")$"

    @property
    def bounds(self) -> tuple[str, str]:
        """The smallest and the largest quantity, as they are written."""
        return self._write(self.minimum), self._write(self.maximum)

    def convert(self, value: object) -> int | float:
        if not isinstance(value, str):
            kind = "a number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type_name(value)
            raise KindError(f"must have a unit, such as '{self.example}', not be {kind}")
        text = str.__str__(value)
        match = re.match(self.pattern, text)
        if match is None or text.endswith("\n"):
            suffixes = ", ".join(suffix for suffix, _size in self.units)
            raise KindError(f"{show(text)} must be a whole number and its unit ({suffixes}), such as '{self.example}'")
        suffix = match.group(1)
        base = int(text[: -len(suffix)]) * dict(self.units)[suffix]
        if not self.minimum <= base <= self.maximum:
            raise KindError("must be between {} and {}".format(*self.bounds))
        return base if self.scale == 1 else base / self.scale

    def render(self, value: int | float) -> str:
        return self._write(round(value * self.scale))

    def _write(self, base: int) -> str:
        for suffix, size in self.units:
            if base % size == 0:
                return f"{base // size}{suffix}"
        raise ValueError(f"{base} cannot be written in the units of a spec")


# The units are systemd's: K, M, G and T are powers of 1024; a percentage is of one processor.
def duration(minimum_ms: int = 1) -> Quantity:
    """Return the kind of a time, which the model holds in seconds as a float."""
    return Quantity((("s", 1000), ("ms", 1), ("m", 60000), ("h", 3600000)), minimum_ms, 86400000, "120s", scale=1000)


def byte_size(minimum: int, maximum: int = 1024**5, example: str = "2G") -> Quantity:
    """Return the kind of an amount of memory, which the model holds in bytes."""
    return Quantity((("T", 1024**4), ("G", 1024**3), ("M", 1024**2), ("K", 1024)), minimum, maximum, example)


def percent() -> Quantity:
    """Return the kind of a share of processors: 100% is one of them."""
    return Quantity((("%", 1),), 1, 102400, "200%")


@dataclass(frozen=True)
class Address(Scalar):
    """An IPv4 or IPv6 address to bind to, held in its canonical spelling."""

    def convert(self, value: object) -> str:
        text = plain_text(value)
        try:
            if "%" in text:
                raise ValueError
            return str(ipaddress.ip_address(text))
        except ValueError:
            raise KindError(f"{show(text)} must be an IPv4 or IPv6 address") from None

    def render(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class SourceKind(Scalar):
    """A secret or certificate; see references.py. Messages never repeat the value."""

    allow_path: bool

    @property
    def pattern(self) -> str:
        """The notation as a regular expression of both Python and ECMAScript."""
        return CERTIFICATE_PATTERN if self.allow_path else KEY_PATTERN

    def convert(self, value: object) -> Source:
        text = plain_text(value)
        if not text:
            raise KindError("must not be empty")
        try:
            return parse_source(text, allow_path=self.allow_path)
        except SourceError as error:
            raise KindError(str(error)) from None

    def render(self, value: Source) -> str:
        return source_text(value)


@dataclass(frozen=True)
class ListOf(Kind):
    """A list with at least ``minimum`` items, or the problem ``empty``; with ``or_one`` one item may stand alone."""

    item: Any
    minimum: int = 0
    or_one: bool = False
    empty: str = "needs at least one entry"


@dataclass(frozen=True)
class Record(Kind):
    """A dictionary with the keys of a dataclass of the model."""

    type: Any


@dataclass(frozen=True)
class Named(Kind):
    """A dictionary from names to records, which carry the name as their ``name``; ``what`` is one of them in words."""

    type: Any
    name: Text | Choice
    what: str
    minimum: int = 0


@dataclass(frozen=True)
class Pairs(Kind):
    """A dictionary from texts to texts: in the model pairs of them, sorted; ``what`` is a key in words."""

    key: Scalar
    value: Scalar
    what: str


@dataclass(frozen=True)
class Preset(Kind):
    """The name of a ready-made record, or the record itself, whose ``name`` is then ``custom``."""

    type: Any
    presets: tuple[Any, ...] = field(repr=False)

    @property
    def choice(self) -> Choice:
        """The names of the ready-made records."""
        return Choice(tuple(preset.name for preset in self.presets))

    def named(self, name: str) -> Any:
        """Return the ready-made record of that name, which ``choice`` has accepted."""
        return next(preset for preset in self.presets if preset.name == name)


@dataclass(frozen=True)
class Severities(Kind):
    """A dictionary from names of policies to severities."""

    def convert(self, value: object) -> str:
        """Read one severity; YAML 1.1 reads an unquoted ``off`` as false."""
        return "off" if value is False else Choice(SEVERITIES).convert(value)


def spec(kind: Kind, doc: str, *, key: str = "", only_with: tuple[str, str] | None = None) -> dict[str, Any]:
    """Return the metadata of a model's field.

    ``key`` is the key in the spec where it is not the field's name. ``only_with`` is a key of the same dictionary and
    its value: with that the field is required, and without it not allowed.
    """
    return {"kind": kind, "doc": doc, "key": key, "only_with": only_with}


def _what(value: object) -> str:
    return show(value) if isinstance(value, (str, int, float)) or value is None else type_name(value)
