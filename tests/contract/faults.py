"""Kill runs of the modules at every point where they change something, and see what becomes of the host."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from contract.gateway_process import Values
from contract.release_host import Site

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import encode_files
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import INSTANCES, host_to_options
from ansible_collections.gatewayops.openai.plugins.module_utils._release import rotate
from ansible_collections.gatewayops.openai.plugins.module_utils._release.plan import Request
from ansible_collections.gatewayops.openai.plugins.module_utils._release.run import run

KILLER = Path(__file__).with_name("killer.py")
COLLECTIONS = Path(__file__).resolve().parents[2] / ".cache" / "collections"
#: Seconds in which every reload, start and drain here ends.
SECONDS = 20.0

#: (key, model): what a client asks for.
Question = tuple[str, str]
Answers = tuple[int, ...]
#: The number of a point and the side of it.
Point = tuple[int, str]


class Killer:
    """The program `killer.py`, which has the modules loaded."""

    def __init__(self) -> None:
        command = [sys.executable, str(KILLER), str(COLLECTIONS)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, order: Mapping[str, Any], at: int | None = None, side: str = "before") -> dict[str, Any]:
        """Run a module to its end or to a point; see `killer.py`."""
        return self._say(json.dumps({**order, "at": at, "side": side}))

    def hold(self, order: Mapping[str, Any], at: int, side: str = "before") -> None:
        """Run a module and hold it at a point, until `go_on`."""
        answer = self._say(json.dumps({**order, "at": at, "side": side, "pause": True}))
        assert "paused" in answer, answer

    def go_on(self) -> dict[str, Any]:
        """Let the run that is held go on to its end; what the module answers."""
        answer: dict[str, Any] = self._say("")["answer"]
        return answer

    def stop(self) -> None:
        with self._process:
            assert self._process.stdin
            self._process.stdin.close()

    def _say(self, line: str) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def killer() -> Iterator[Killer]:
    made = Killer()
    try:
        yield made
    finally:
        made.stop()


@dataclass(frozen=True)
class State:
    """What a host is to be: `raw` None is one without a gateway. `answers` are those to the sweep's questions."""

    raw: Mapping[str, Any] | None
    answers: Answers = ()
    values: Mapping[str, str] = field(default_factory=dict)
    keep: int = 5
    fresh: bool = False

    def anew(self, turn: int) -> State:
        """The same with another digest, so that it has to be staged, and an older one pruned."""
        if self.raw is None or not self.fresh:
            return self
        models = {name: {**model, "timeouts": {"idle": f"{300 + turn}s"}} for name, model in self.models.items()}
        return replace(self, raw={**self.raw, "gateway_models": models})

    @property
    def models(self) -> Mapping[str, Any]:
        models: Mapping[str, Any] = (self.raw or {})["gateway_models"]
        return models

    def order(self, site: Site) -> dict[str, Any]:
        """What brings a host here."""
        if self.raw is None:
            return {"module": "gateway_release", "arguments": {"host": host_to_options(site.host), "state": "absent"}}
        bundle = site.bundle(self.raw)
        arguments = {
            "host": host_to_options(site.host),
            "digest": bundle.digest,
            "bundle": encode_files(bundle.files),
            "secrets": self.secrets(site),
            "keep": self.keep,
        }
        return {"module": "gateway_release", "arguments": arguments}

    def secrets(self, site: Site) -> dict[str, str]:
        table = Values(self.values)
        files = site.bundle(self.raw or {}).secrets
        return {file.name: file.render({source: table.of(source) for source in file.references}) for file in files}

    def bring(self, site: Site) -> str:
        """Bring the host here by what any later run does; what that changed, '' when nothing."""
        if self.raw is None:
            return _changed(run(site.host, "absent", Request(drain_wait=SECONDS), check=False))
        bundle = site.bundle(self.raw)
        request = Request(bundle.digest, bundle.files, self.secrets(site), keep=self.keep, drain_wait=SECONDS)
        return _changed(run(site.host, "active", request, check=False))


class Back(State):
    """A state that is gone back to, without a bundle and without secrets."""

    def order(self, site: Site) -> dict[str, Any]:
        return {
            "module": "gateway_release",
            "arguments": {"host": host_to_options(site.host), "digest": "previous"},
        }


class Rotated(State):
    """A state that differs from the other in its secrets only."""

    def order(self, site: Site) -> dict[str, Any]:
        arguments = {
            "host": host_to_options(site.host),
            "secrets": self.secrets(site),
            "spec_digest": self._made_of(site),
        }
        return {"module": "gateway_secrets", "arguments": arguments}

    def bring(self, site: Site) -> str:
        order = rotate.Order(self.secrets(site), self._made_of(site))
        return _changed(rotate.run(site.host, order, check=False))

    def _made_of(self, site: Site) -> str:
        (content,) = (file.content for file in site.bundle(self.raw or {}).files if file.path == "resources.json")
        return hashlib.sha256(content).hexdigest()


def _changed(result: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in result.items() if value}) if result["changed"] else ""


@dataclass(frozen=True)
class Sweep:
    """Two states, and what a client asks to tell them apart; `between` are answers that are right on the way, too."""

    name: str
    states: tuple[State, State]
    questions: tuple[Question, ...]
    between: tuple[Answers, ...] = ()


@dataclass
class Found:
    """What came of it: how often a run was killed, and what was wrong afterwards."""

    kills: int = 0
    failures: list[str] = field(default_factory=list)


def sweep(site: Site, program: Killer, plan: Sweep, *, most: int = 0, part: tuple[int, int] = (0, 1)) -> Found:
    """Kill runs from one state to the other, and back, in turns: every point is met once on each of its sides.

    There and back are alike but for a gateway that is made and removed, where each has its own points.

    With `most` that many telling ones are taken, evenly. `part` is (number, of how many): the work can be shared.
    Every fifth host loses its power, too: all that ran ends, and what a boot starts is started. Every fourth is
    brought back to where it was, the others where they were to go.
    """
    found = Found()
    first, second = plan.states
    for state in (second, first):
        State.bring(state, site)
        _settle(site, state)
    recorded = []
    for goal in (second.anew(1), first.anew(2)):
        told = program.run(goal.order(site))
        assert not told["answer"].get("failed"), told["answer"]
        _settle(site, goal)
        recorded.append(list(choose(told["points"], every=not most)))
    pairs = list(zip_longest(*recorded))
    alike = bool(first.raw and second.raw)
    todo = [(None, pair[number % 2]) for number, pair in enumerate(pairs)] if alike else _both(pairs)
    todo = todo[part[0] :: part[1]]
    wanted = [todo[number * len(todo) // most] for number in range(most)] if 0 < most < len(todo) else todo
    origin, where = first.anew(2), 0
    for number, (direction, point) in enumerate(wanted):
        if not point:
            continue
        at, side = point
        if direction not in (None, where):
            origin, where = plan.states[1 - where], 1 - where
            State.bring(origin, site)
        goal = plan.states[1 - where].anew(number + 3)
        told = program.run(goal.order(site), at, side)
        if not told["killed"]:  # a run that was shorter: it asked supervisord less often
            _settle(site, goal)
            origin, where = goal, 1 - where
            continue
        found.kills += 1
        after = origin if number % 4 == 3 else goal
        try:
            if alike:
                _require_served(site, plan)
                if number % 5 == 4:
                    _lose_power(site, plan)
            after.bring(site)
            require_settled(site, after, plan)
            origin, where = after, where if after is origin else 1 - where
        except (AssertionError, ReleaseError, OSError, KeyError) as error:
            found.failures.append(f"{plan.name}: {side} {shorten(told['killed'])}: {error}"[:600])
            site.kill()
            time.sleep(0.5)
            for state in (State(None), second, first):
                State.bring(state, site)
                _settle(site, state)
            origin, where = first, 0
    return found


def _both(pairs: Sequence[tuple[Point | None, ...]]) -> list[tuple[int | None, Point | None]]:
    return [(direction, pair[direction]) for pair in pairs for direction in (0, 1)]


def choose(points: Sequence[str], *, every: bool) -> Iterator[Point]:
    """Where to kill: before and after every point; or of the many files of a release one, the one in the middle."""
    if every:
        yield from ((number, side) for number in range(len(points)) for side in ("before", "after"))
        return
    alike: dict[str, list[int]] = {}
    for number, point in enumerate(points):
        short = shorten(point)
        among = re.sub(r"(\.(stage|trash)-D|/D\.\d+)/.*", r"\1", short)
        alike.setdefault(among if among != short else f"{number}", []).append(number)
    for number in sorted(numbers[len(numbers) // 2] for numbers in alike.values()):
        yield number, "before"
        # In between there is more than the next call.
        if points[number].startswith(("rename", "request", "fork")):
            yield number, "after"


def shorten(point: str) -> str:
    """A point by a name that is the same in every run."""
    short = re.sub(r"/\S*/(config|run|secrets|log)\b", r"\1", point)
    short = re.sub(r"\.json\.[0-9a-f]{16}", ".json.T", short)
    return re.sub(r"\b[0-9a-f]{16}(-\d+)?", "D", short)


def answers(site: Site, questions: Sequence[Question]) -> Answers:
    """The statuses of these requests, all on one connection and so of one process."""
    for _again in range(3):
        client = http.client.HTTPConnection("127.0.0.1", site.port, timeout=SECONDS)
        try:
            return tuple(_status(client, *question) for question in questions)
        except http.client.HTTPException:  # it is one that is being drained
            continue
        finally:
            client.close()
    raise AssertionError("a connection is closed again and again")


def _status(client: http.client.HTTPConnection, key: str, model: str) -> int:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]})
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    client.request("POST", "/v1/chat/completions", body, headers)
    answer = client.getresponse()
    answer.read()
    return answer.status


def _require_served(site: Site, plan: Sweep) -> None:
    """The host serves what it did or what it was to serve.

    Envoy may read files between two of the questions: the first is then answered as before and the second as after.
    """
    right = {*(state.answers for state in plan.states), *plan.between}
    found = answers(site, plan.questions)
    if found not in right:
        time.sleep(1)
        found = answers(site, plan.questions)
    assert found in right, f"it answers {found}, which is neither old nor new"


def require_settled(site: Site, state: State, plan: Sweep) -> None:
    """The host is as it is to be, a further run finds nothing to do, and there is nothing else."""
    if state.raw is None:
        left = [str(path) for path in site.folder.rglob("*") if "log" not in path.relative_to(site.folder).parts[:1]]
        assert not left, f"left: {left}"
        assert not Path(site.host.secrets_dir).exists(), "secrets are left"
        again = state.bring(site)
        assert not again, f"a further run changes something: {again}"
        _until(lambda: processes(site) == [], lambda: f"processes are left: {processes(site)}")
        return
    site.settle()
    digest = site.bundle(state.raw).digest
    assert site.active == digest, f"{site.active} is active, not {digest}"
    assert answers(site, plan.questions) == state.answers, "it answers otherwise"
    before = site.snapshot()
    again = state.bring(site)
    assert not again, f"a further run changes something: {again}"
    after = site.snapshot()
    different = sorted({path for path, _entry in {*before.items()} ^ {*after.items()}})
    assert not different, f"a further run wrote {different}"
    assert not site.leftovers(), f"left: {site.leftovers()}"
    # Envoy leaves its socket when it ends, and has a new one in its place when it starts again.
    known = {"supervisor.sock", "supervisord.pid", *(name + end for name in INSTANCES for end in (".release", ".sock"))}
    extra = {path.name for path in Path(site.host.runtime_dir).iterdir()} - known
    assert not extra, f"left in {site.host.runtime_dir}: {extra}"
    assert not list(Path(site.host.secrets_dir).glob(".*")), "a secret file is left"
    assert site.info()["history"][0]["digest"] == digest
    assert Path(site.host.config_dir, ".lock").read_bytes() == b"", "the lock says that it is held"
    _until(lambda: len(processes(site)) == 3, lambda: f"processes: {processes(site)}")


def processes(site: Site) -> list[str]:
    """What runs for this gateway: supervisord, run-envoy, and Envoy, as long as nothing else does."""
    return sorted(command.replace("\0", " ")[:150] for command in _pids(site).values())


def _pids(site: Site) -> dict[int, str]:
    found = {}
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            command = (process / "cmdline").read_text() if process.name.isdigit() else ""
            if str(site.folder) in command:
                found[int(process.name)] = command
    return found


def _lose_power(site: Site, plan: Sweep) -> None:
    """As far as processes go; `supervisord` is then started as a boot does it, and serves."""

    def ended() -> bool:
        for pid in _pids(site):  # also those that were being started at the first look
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not processes(site)

    _until(ended, lambda: f"they do not end: {processes(site)}")
    configuration = f"{site.host.current}/supervisor/supervisord.conf"
    subprocess.run([site.host.supervisord, "-c", configuration], check=True, timeout=SECONDS)

    def serves() -> bool:
        with suppress(OSError, AssertionError):
            _require_served(site, plan)
            return True
        return False

    _until(serves, lambda: "it does not serve after a boot")


def _settle(site: Site, state: State) -> None:
    if state.raw is not None:
        site.settle()


def _until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


def sweeps(site: Site) -> dict[str, Sweep]:
    """The changes whose runs are killed."""
    one = {"type": "openai_compatible", "base_url": f"{site.provider.url}/v1", "api_key": "env://ALPHA"}

    def spec(models: Mapping[str, str], **more: Any) -> dict[str, Any]:
        return site.spec(
            **{
                "gateway_providers": dict.fromkeys(sorted({*models.values()}), one),
                "gateway_models": {name: {"targets": [{"provider": p, "model": name}]} for name, p in models.items()},
                **more,
            }
        )

    old, new = spec({"a": "p", "b": "q"}), spec({"a": "p", "c": "r"})
    bigger = {**new, "gateway_size": "medium"}
    models = tuple(("sk-alice", name) for name in "abc")
    keys = tuple((key, "a") for key in ("sk-alice", "sk-other"))
    was, is_now = State(old, (200, 200, 404), keep=1, fresh=True), State(new, (200, 404, 200), keep=1, fresh=True)
    again = {"env://ALICE": "sk-other"}
    return {
        each.name: each
        for each in (
            Sweep("deploy and absent", (State(None), was), models),
            Sweep("change", (was, is_now), models),
            Sweep("replace", (was, replace(is_now, raw=bigger)), models),
            Sweep("rollback", (Back(old, was.answers), Back(new, is_now.answers)), models),
            Sweep("rotate", (Rotated(old, (200, 401)), Rotated(old, (401, 200), again)), keys, ((200, 200),)),
        )
    }
