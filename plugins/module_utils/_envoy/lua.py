# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Lua scripts: real files beside this one, with the tables that the compiler generates put before them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import CompileError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.limits import Rates

_HERE = Path(__file__).parent
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _.-/:")
_ESCAPES = {byte: f"\\{byte:03d}" for byte in range(256) if chr(byte) not in _PLAIN}


@dataclass(frozen=True)
class Resources:
    """The endpoints without a model: ``paths`` are endpoint, methods and path, ``users`` consumer and endpoint."""

    paths: tuple[tuple[str, str, str], ...] = ()
    users: tuple[tuple[str, str], ...] = ()


NO_RESOURCES = Resources()


def lua_string(text: str) -> str:
    """Return a Lua string literal with the UTF-8 bytes of ``text``: nothing in it can end the literal."""
    return '"' + text.encode("utf-8").decode("latin-1").translate(_ESCAPES) + '"'


def read_model_script(
    access: Iterable[tuple[str, str]],
    endpoints: Resources = NO_RESOURCES,
    *,
    to_anthropic: bool = False,
    more: str = "",
) -> str:
    """Return the script that reads the model, and later what the answer says of itself.

    ``access`` is pairs of a consumer and the name of its access group. With ``to_anthropic`` it also looks at what may
    go to a provider of that type. ``more`` is put after all of it.

    One string that is split when the script loads, since Lua has a limit of constants in a function.
    """
    tables: dict[str, Iterable[tuple[str, ...]]] = {"ACCESS": access}
    without_model: list[str] = []
    if endpoints.paths:
        tables.update({"RESOURCES": endpoints.paths, "ENDPOINT_USERS": endpoints.users})
        without_model = ["endpoints.lua"]
    found = [f"local {name} = {lua_string(_lines(rows))}" for name, rows in tables.items()]
    asked = ("locate.lua", "locate_field.lua", "ask_usage.lua", *without_model, "read_model.lua")
    answered = ["one_model.lua", "tell_limits.lua", "read_usage.lua"]
    if to_anthropic:
        answered += ["json.lua", "anthropic_request.lua", "anthropic_check.lua"]
    return "\n".join([*found, *map(_source, (*asked, *answered)), *([more] if more else [])])


def token_consumer_script(claims: Iterable[tuple[str, str]], tokens: Iterable[tuple[str, str, str]]) -> str:
    """Return the script that knows whose a token is.

    ``claims`` is pairs of an issuer and the claim that it names consumers by, ``tokens`` is triples of an issuer, the
    value of the claim and the consumer.
    """
    tables = (("CLAIMS", claims), ("TOKENS", tokens))
    lines = (
        f"local {name} = {lua_string(''.join(chr(9).join(row) + chr(10) for row in rows))}" for name, rows in tables
    )
    return "\n".join([*lines, _source("token_consumer.lua")])


def prompts_script(consumers: Iterable[str], until: int, longest: int) -> str:
    """Return the script that notes prompts and answers; it wraps those that are before it.

    ``until`` is in seconds since the epoch, ``longest`` in bytes.
    """
    logged = lua_string("".join(f"{name}\n" for name in consumers))
    return f"local LOGGED, UNTIL, LONGEST = {logged}, {until}, {longest}\n{_source('prompts.lua')}"


def limits_script(tables: Mapping[str, Rates]) -> str:
    """Return the script of the limits; ``tables`` are the rates of each consumer that has some for models."""
    return "\n".join([*_rates(tables), _source("limits.lua")])


def tokens_script(tables: Mapping[str, Rates], consumers: Mapping[str, int], models: Mapping[str, int]) -> str:
    """Return the script that knows what is owed: the limits of consumers for models, of consumers and of models."""
    texts = (
        ("CONSUMERS", "".join(f"{name}\t{rate}\n" for name, rate in consumers.items())),
        ("MODELS", "".join(f"{name}\t{rate}\n" for name, rate in models.items())),
    )
    found = [*_rates(tables), *(f"local {name} = {lua_string(text)}" for name, text in texts)]
    parts = ("locate.lua", "tell_limits.lua", "read_usage.lua", "estimate.lua", "tokens.lua")
    return "\n".join([*found, *map(_source, parts)])


def service_tokens_script(limited: Iterable[tuple[str, str]]) -> str:
    """Return the script that says what a request costs; ``limited`` is pairs of a kind of limit and who has it."""
    parts = ("locate.lua", "tell_limits.lua", "read_usage.lua", "estimate.lua", "service_tokens.lua")
    return "\n".join([f"local LIMITED = {lua_string(_lines(limited))}", *map(_source, parts)])


def _rates(tables: Mapping[str, Rates]) -> tuple[str, str]:
    """Return the tables as Lua's MEMBERS, which names that of each consumer, and TABLES; equal ones are one."""
    names: dict[Rates, str] = {}
    members = "".join(f"{consumer}\t{names.setdefault(rates, str(len(names)))}\n" for consumer, rates in tables.items())
    texts = (
        f"{name}\n" + "".join(f"\t{model}\t{rate}\n" for model, rate in rates) + "\n" for rates, name in names.items()
    )
    return f"local MEMBERS = {lua_string(members)}", f"local TABLES = {lua_string(''.join(texts))}"


def anthropic_script(most_tokens: int) -> str:
    """Return the script that translates to Anthropic's API and back.

    ``most_tokens`` is the limit of answers to requests that have none.
    """
    parts = ("locate.lua", "json.lua", "anthropic_request.lua", "anthropic_answer.lua", "anthropic.lua")
    return "\n".join([f"local MOST_TOKENS = {lua_string(str(most_tokens))}", *map(_source, parts)])


def rename_model_script() -> str:
    """Return the script that renames the model in a body."""
    return "\n".join(map(_source, ("locate.lua", "locate_field.lua", "rename_model.lua")))


def _lines(rows: Iterable[tuple[str, ...]]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


@cache
def _source(name: str) -> str:
    try:
        return (_HERE / name).read_text(encoding="utf-8")
    except OSError as error:
        raise CompileError(f"the script {name} is missing from the collection; install it again") from error
