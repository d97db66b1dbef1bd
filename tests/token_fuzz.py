"""Checks of the scripts of limits with random requests and answers: nobody pays twice, and nothing is forgotten.

The buckets are a model of Envoy's. In each of them what was paid and what is owed are what answers have cost, after
every single request. Each check returns what is wrong, or None.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from typing import Any

from unit.module_utils._envoy.test_limits import HARNESS, luajit
from unit.module_utils._envoy.test_tokens import script

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua

CONSUMERS, MODELS = ("c1", "c2", "c.3", "free"), ("m1", "m2", "org/m-3", "m4")
LIMIT = 1000
OF_PAIRS = {"c1": (("m1", LIMIT), ("org/m-3", LIMIT)), "c.3": (("org/m-3", LIMIT),)}
OF_CONSUMERS = {"c1": LIMIT, "c2": LIMIT}
OF_MODELS = {"m1": LIMIT, "m2": LIMIT}
RATES = {"c1": (("m1", 60), ("m10", 7), ("60", 1)), "c.3": (("m1", 5), ("a-m1", 6))}
ASKED = ("m1", "m10", "m", "60", "a-m1", "a", "1", "m1%", ".", "m.")
DURATION = re.compile(rb"\d+ms|\d+(\.\d+)?s|\d+m\d+(\.\d+)?s")
INTERNAL = (b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset")


class TokenFuzz:
    """A world of buckets and debts, and the dice that requests come from."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.accepted = 0
        self.world = script(OF_PAIRS, OF_CONSUMERS, OF_MODELS)
        self.limits = self.world.table_of_limits(LIMIT)
        pairs = [(consumer, model) for consumer, rates in OF_PAIRS.items() for model, _rate in rates]
        # The names of the buckets, and those of the debts.
        self.keys = {
            **{f"consumer-model/{consumer}{model}": f"{consumer}\n{model}" for consumer, model in pairs},
            **{f"consumer/{consumer}": consumer for consumer in OF_CONSUMERS},
            **{f"model/{model}": f"\n{model}" for model in OF_MODELS},
        }
        self.levels = self.world.table_of()
        for name in self.keys:
            self.levels[name.encode()] = LIMIT
        self.paid = dict.fromkeys(self.keys, 0)
        self.spent = dict.fromkeys(self.keys, 0)
        runtime = luajit.LuaRuntime(encoding=None)
        runtime.execute(lua.limits_script(RATES).encode() + HARNESS)
        self.table, self.rate_of = runtime.table_from, runtime.globals().request

    def one(self) -> str | None:
        """Check one request and its answer."""
        return self.rate() if self.dice.random() < 0.1 else self.request()

    # ---- limits on requests

    def rate(self) -> str | None:
        """Check the limit that is found for a consumer and a model."""
        consumer, model = self.dice.choice(CONSUMERS), self.dice.choice(ASKED)
        found = self.rate_of(self.table({b"x-gw-consumer": consumer.encode(), b"x-gw-model": model.encode()}))
        wanted = dict(RATES.get(consumer, ())).get(model)
        got = None if found is None else int(found)
        return None if got == wanted else f"the limit of {consumer} for {model} is {got} instead of {wanted}"

    # ---- limits on tokens

    def request(self) -> str | None:
        """Check what a request pays, and what it owes afterwards."""
        dice = self.dice
        consumer, model, size = dice.choice(CONSUMERS), dice.choice(MODELS), dice.choice((0, 1, 2, self.number(900)))
        names = [f"consumer-model/{consumer}{model}", f"consumer/{consumer}", f"model/{model}"]
        touched = [name for name in names if name in self.keys]
        fill = dice.choice((0, 0, 1, dice.randint(2, LIMIT)))
        before = {}
        for name in self.keys:
            before[name] = min(LIMIT, int(self.levels[name.encode()]) + fill)
            self.levels[name.encode()] = before[name]
        stream = self.world.begin(consumer.encode(), model.encode(), size)
        let_in = self.world.enforce(stream, self.levels, self.limits)
        for name, level in before.items():
            after = self.levels[name.encode()]
            if not 0 <= after <= level or after != int(after):
                return f"{name} was {level} and is {after}"
            self.paid[name] += level - int(after)
        reserve = -(-size // 3)
        story, least, most, told = self.answer(stream, reserve) if let_in else self.refused(stream)
        story = f"{story}, {size} bytes of {consumer} for {model}"
        costs = {
            name: self.paid[name] + int(self.world.owed_by(key.encode())) - self.spent[name]
            for name, key in self.keys.items()
        }
        wrong = {name: cost for name, cost in costs.items() if name not in touched and cost}
        wrong.update({name: costs[name] for name in touched if not least <= costs[name] <= most})
        if wrong or len({costs[name] for name in touched}) > 1:
            return f"{story}: cost {costs} instead of {least} to {most} in {touched}"
        for name in touched:
            self.spent[name] += costs[name]
        return None if told is None or not touched else self.told(told, let_in, story)

    def cost(self, name: str) -> int:
        """What has become of a bucket since the last request: what was paid, and what is owed more than before."""
        return self.paid[name] + int(self.world.owed_by(self.keys[name].encode())) - self.spent[name]

    def refused(self, stream: Any) -> tuple[str, int, int, Any]:
        """Answer as Envoy does to who is refused; nothing is owed for it."""
        return "refused", 0, 0, self.world.respond(stream, b"429", True)

    def answer(self, stream: Any, reserve: int) -> tuple[str, int, int, Any]:
        """Answer in some way: what it was, the least and the most that it costs, and the headers that clients get."""
        dice = self.dice
        self.accepted += 1
        how = dice.choice(("answered", "streamed", "failed", "left at once", "left", "left a stream", "silent"))
        if how == "left at once":
            return how, reserve, reserve, None
        if how == "failed":
            return how, 0, 0, self.world.respond(stream, dice.choice((b"400", b"429", b"500", b"201")), False)
        prompt, completion = self.number(100), self.number(200)
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        cost = prompt + completion
        if how in ("streamed", "left a stream"):
            events = [
                {"choices": [{"delta": {"content": "word " * dice.randint(0, 9)}}]}
                for _turn in range(dice.randint(0, 6))
            ]
            lines = [json.dumps(event) for event in (*events, {"choices": [], "usage": usage})]
            text = "".join(f"data: {line}\n\n" for line in (*lines, "[DONE]")).encode()
            if how == "streamed":
                return f"{how} {text!r}", cost, cost, self.world.respond_stream(stream, *self.pieces(text))
            # Without the usage, or with a part of it.
            text = text[: dice.randint(0, text.index(b'"usage"'))]
            told = self.world.respond_stream(stream, *self.pieces(text))
            return f"{how} {text!r}", reserve, reserve + len(text), told
        text = b"{}" if how == "silent" else json.dumps({"choices": [], "usage": usage}).encode()
        if how == "left":
            text = text[: dice.randint(0, text.index(b'"usage"'))]
        told = self.world.respond(stream, b"200", False, *self.pieces(text))
        if how == "answered":
            return f"{how} {text!r}", cost, cost, told
        estimate = reserve + -(-len(text) // 3)
        return f"{how} {text!r}", estimate, estimate, told

    def number(self, usual: int) -> int:
        """A number of tokens or bytes; seldom one that is more than a bucket holds, which is owed for long."""
        return self.dice.randint(0, 40 * usual if self.dice.random() < 0.002 else usual)

    def pieces(self, text: bytes) -> list[bytes]:
        cuts = sorted(self.dice.randint(0, len(text)) for _turn in range(self.dice.randint(0, 4)))
        return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)]) if start < end]

    def told(self, headers: Mapping[bytes, Any], let_in: bool, story: str) -> str | None:
        """Check what the client is told."""
        known = {name: headers[name] for name in headers}
        inner = [name for name in known if name.startswith(b"x-gw-") or name in INTERNAL]
        left, reset = known.get(b"x-ratelimit-remaining-tokens"), known.get(b"x-ratelimit-reset-tokens", b"")
        fits = left is not None and left.isdigit() and int(left) <= LIMIT and DURATION.fullmatch(reset)
        wait = known.get(b"retry-after")
        waits = wait is None if let_in else wait is not None and wait.isdigit() and 1 <= int(wait) <= 60
        return None if fits and waits and not inner else f"{story}: told {known}"
