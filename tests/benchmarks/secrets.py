"""What a run asks of a secret store, beside what the lookups of community.hashi_vault ask of it in the same play.

Prints a table in Markdown and lines `figure NAME VALUE UNIT`. Requests are counted in the audit log of a real OpenBao.
A play has 3 tasks that use 10 secrets on each of 1, 10 and 50 hosts, all of them this machine; the ways to get at the
secrets take turns. Then 10 forks resolve the same 200 references from a store that is 40 ms away.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# In place of this directory, whose secrets.py is not the one that others import.
sys.path[:1] = [str(ROOT / "tests"), str(ROOT / ".cache" / "collections")]

import json  # noqa: E402
import multiprocessing  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from contextlib import ExitStack, suppress  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from typing import Any  # noqa: E402
from urllib.error import HTTPError  # noqa: E402

from benchmarks.slow_store import delayed  # noqa: E402
from integration import openbao  # noqa: E402

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import (  # noqa: E402
    Reference,
    parse_source,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache  # noqa: E402
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import (  # noqa: E402
    SecretOptions,
    VaultOptions,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession  # noqa: E402

HOSTS, SECRETS, TASKS, ROUNDS = (1, 10, 50), 10, 3, 3
REFERENCES, FORKS, DELAY = 200, 10, 0.04
#: How long to wait for what comes after the end of a run, in seconds.
PATIENCE = 15.0
POLICY = """
path "kv/data/*" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
"""


@dataclass(frozen=True, eq=False)
class Way:
    """A way to get at the secrets: variables of every host, and tasks before those that use `keys`.

    `revokes` says whether the token is revoked after the end of the run, which is then waited for.
    """

    name: str
    variables: Callable[[str, str, str], dict[str, Any]]
    before: tuple[dict[str, Any], ...] = ()
    revokes: bool = False


@dataclass(frozen=True)
class Run:
    """What one run of ansible-playbook asked for by kind, and what it took in seconds.

    `locked` says that the store refuses the role's right secret id after it.
    """

    requests: Counter[str]
    wall: float
    cpu: float
    locked: bool

    @property
    def total(self) -> int:
        return self.requests.total()


def ours(address: str, role_id: str, secret_id: str) -> dict[str, Any]:
    """Half of the secrets by each of the two lookups."""
    expressions = [
        f"lookup('gatewayops.openai.vault_kv', 'kv/bench/{number}', field='api_key')"
        if number % 2
        else f"lookup('gatewayops.openai.secret', 'vault://kv/bench/{number}#api_key')"
        for number in range(SECRETS)
    ]
    return {
        "gateway_vault_addr": address,
        "gateway_vault_auth_method": "approle",
        "gateway_vault_role_id": role_id,
        "gateway_vault_secret_id": secret_id,
        "keys": [f"{{{{ {expression} }}}}" for expression in expressions],
    }


def community(address: str, role_id: str, secret_id: str) -> dict[str, Any]:
    """The same, by the two lookups that read the key-value engine."""
    expressions = [
        f"lookup('community.hashi_vault.vault_kv2_get', 'bench/{number}', engine_mount_point='kv').secret.api_key"
        if number % 2
        else f"lookup('community.hashi_vault.hashi_vault', 'kv/data/bench/{number}').api_key"
        for number in range(SECRETS)
    ]
    return {
        "ansible_hashi_vault_url": address,
        "ansible_hashi_vault_auth_method": "approle",
        "ansible_hashi_vault_role_id": role_id,
        "ansible_hashi_vault_secret_id": secret_id,
        "keys": [f"{{{{ {expression} }}}}" for expression in expressions],
    }


def community_token(address: str, role_id: str, secret_id: str) -> dict[str, Any]:
    """The same, with a token that a task has set as a fact."""
    return {
        **community(address, "", ""),
        "ansible_hashi_vault_auth_method": "token",
        "credentials": {"auth_method": "approle", "role_id": role_id, "secret_id": secret_id},
    }


def community_values(address: str, role_id: str, secret_id: str) -> dict[str, Any]:
    """Nothing but the way in: the values are set as facts."""
    variables = community(address, role_id, secret_id)
    del variables["keys"]
    return {**variables, "paths": [f"bench/{number}" for number in range(SECRETS)]}


def literal(_address: str, _role_id: str, _secret_id: str) -> dict[str, Any]:
    """No secrets: what the play takes without them."""
    return {"keys": [f"key-{number}" for number in range(SECRETS)]}


LOGIN_ONCE = {
    "name": "Log in once",
    "ansible.builtin.set_fact": {
        # Their options take no templates from variables, so that the option itself is set.
        "ansible_hashi_vault_token": "{{ lookup('community.hashi_vault.vault_login', **credentials)"
        " | community.hashi_vault.vault_login_token }}"
    },
    "run_once": True,
    "no_log": True,
}
READ_ONCE = {
    "name": "Read everything once",
    "ansible.builtin.set_fact": {
        "keys": "{{ query('community.hashi_vault.vault_kv2_get', *paths, engine_mount_point='kv')"
        " | map(attribute='secret.api_key') }}"
    },
    "run_once": True,
    "no_log": True,
}
OURS = Way("gatewayops.openai lookups", ours, revokes=True)
COMMUNITY = Way("community.hashi_vault lookups", community)
COMMUNITY_TOKEN = Way("community.hashi_vault, token in a fact", community_token, (LOGIN_ONCE,))
COMMUNITY_VALUES = Way("community.hashi_vault, values in facts", community_values, (READ_ONCE,))
LITERAL = Way("no secrets", literal)
WAYS = (OURS, COMMUNITY, COMMUNITY_TOKEN, COMMUNITY_VALUES, LITERAL)


def kind_of(path: str) -> str:
    """What the path of a request is about."""
    if path.endswith("/login"):
        return "login"
    if path.startswith("kv/data/"):
        return "read"
    return {"auth/token/revoke-self": "revoke", "auth/token/renew-self": "renewal"}.get(path, path)


class Bench:
    """Runs of ansible-playbook against one store."""

    def __init__(self, directory: Path, store: openbao.OpenBao) -> None:
        self._directory = directory
        self._store = store
        self._turn = 0

    def play(self, way: Way, hosts: int, *, wrong: bool = False) -> Run:
        """One run with a role of its own; `wrong` gives it a secret id that is none. Raises RuntimeError."""
        self._turn += 1
        directory = self._directory / str(self._turn)
        (directory / "group_vars").mkdir(parents=True)
        role_id, secret_id = self._store.approle(f"bench{self._turn}", POLICY)
        self._write(directory, way, hosts, role_id, "wrong" if wrong else secret_id)
        began, started, used = self._store.position(), time.monotonic(), _cpu_of_children()
        done = subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", "-i", "hosts", "play.yml"],
            cwd=directory,
            env=_environment(directory),
            capture_output=True,
            text=True,
            check=False,
        )
        wall, cpu = time.monotonic() - started, _cpu_of_children() - used
        if (done.returncode != 0) != wrong:
            raise RuntimeError(f"{way.name}: {done.stdout}{done.stderr}")
        if way.revokes and not wrong:
            self._wait_for_revoke(began)
        requests = Counter(map(kind_of, self._store.requests(began)))
        return Run(requests, wall, cpu, self._locked(role_id, secret_id))

    def _write(self, directory: Path, way: Way, hosts: int, role_id: str, secret_id: str) -> None:
        use = {
            "ansible.builtin.assert": {"that": "keys | map('length') | min > 0", "quiet": True},
            "no_log": True,
        }
        tasks = [*way.before, *({"name": f"Use every secret, time {turn}", **use} for turn in range(TASKS))]
        play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
        variables = {"ansible_connection": "local", **way.variables(self._store.address, role_id, secret_id)}
        (directory / "hosts").write_text("".join(f"host{number}\n" for number in range(hosts)))
        (directory / "group_vars" / "all.yml").write_text(json.dumps(variables))
        (directory / "play.yml").write_text(json.dumps([play]))

    def _locked(self, role_id: str, secret_id: str) -> bool:
        try:
            self._store.call("POST", "auth/approle/login", {"role_id": role_id, "secret_id": secret_id})
        except HTTPError:
            return True
        return False

    def _wait_for_revoke(self, began: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            # A line that is only half written is read again.
            with suppress(ValueError):
                if "revoke" in map(kind_of, self._store.requests(began)):
                    return
            time.sleep(0.05)


def _environment(directory: Path) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("VAULT_", "BAO_", "ANSIBLE_"))}
    return {
        **inherited,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
        "ANSIBLE_HOME": str(directory / "home"),
        "ANSIBLE_LOCAL_TEMP": str(directory / "local"),
        "ANSIBLE_FORKS": "10",
    }


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _median(runs: Sequence[Run], value: Callable[[Run], float]) -> float:
    return statistics.median(map(value, runs))


def compare(bench: Bench) -> dict[tuple[Way, int], list[Run]]:
    """Every way with every number of hosts, in turns."""
    runs: dict[tuple[Way, int], list[Run]] = {(way, hosts): [] for hosts in HOSTS for way in WAYS}
    for _round in range(ROUNDS):
        for (way, hosts), done in runs.items():
            done.append(bench.play(way, hosts))
    return runs


def print_table(runs: dict[tuple[Way, int], list[Run]]) -> None:
    print("| hosts | | logins | reads | revokes | others | requests | seconds | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (way, hosts), done in runs.items():
        # The most that a round took; nearly always all are the same.
        most = max(done, key=lambda run: run.total)
        counts = [most.requests[kind] for kind in ("login", "read", "revoke")]
        cells: list[object] = [hosts, way.name, *counts, most.total - sum(counts), most.total]
        cells += [f"{_median(done, lambda run: run.wall):.1f}", f"{_median(done, lambda run: run.cpu):.1f}"]
        print("| " + " | ".join(map(str, cells)) + " |")


def resolve(
    address: str, role: tuple[str, str], references: Sequence[Reference], *, at_once: bool, forks: int
) -> float:
    """The seconds that a run of that many forks takes until each has every reference."""
    vault = VaultOptions(addr=address, auth_method="approle", role_id=role[0], secret_id=role[1])
    seconds: multiprocessing.SimpleQueue[float] = multiprocessing.SimpleQueue()

    def fork(directory: str) -> None:
        session = SecretSession(SecretOptions(vault=vault), RunCache(Path(directory), b"the run's authkey"))
        for wanted in [references] if at_once else [[reference] for reference in references]:
            assert len(session.resolve(wanted)) == len(wanted)

    def run() -> None:
        with tempfile.TemporaryDirectory() as directory:
            started = time.monotonic()
            processes = [multiprocessing.Process(target=fork, args=(directory,)) for _host in range(forks)]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            assert not any(process.exitcode for process in processes)
            seconds.put(time.monotonic() - started)

    # A process of its own, which ends as a run does.
    process = multiprocessing.Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == 0
    return seconds.get()


def prefetch(store: openbao.OpenBao) -> tuple[float, float]:
    """The seconds for all references together, by ten forks, and one by one, by one."""
    for number in range(REFERENCES):
        store.put(f"kv/many/{number}", api_key=f"value-{number}")
    sources = [parse_source(f"vault://kv/many/{number}#api_key", allow_path=False) for number in range(REFERENCES)]
    references = [source for source in sources if isinstance(source, Reference)]
    role = store.approle("prefetch", POLICY)
    with delayed(store.address, DELAY) as address:
        together = min(resolve(address, role, references, at_once=True, forks=FORKS) for _turn in range(ROUNDS))
        return together, resolve(address, role, references, at_once=False, forks=1)


def main() -> None:
    multiprocessing.set_start_method("fork")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-secrets-")))
        store = openbao.start(directory / "openbao")
        stack.callback(store.stop)
        for number in range(SECRETS):
            store.put(f"kv/bench/{number}", api_key=f"value-{number}")
        bench = Bench(directory, store)
        runs = compare(bench)
        failed = {way: bench.play(way, 10, wrong=True) for way in (OURS, COMMUNITY)}
        together, one_by_one = prefetch(store)
    print_table(runs)
    for way, run in failed.items():
        then = "refused" if run.locked else "accepted"
        print(
            f"10 hosts with a wrong secret id, {way.name}: {run.requests['login']} logins; the right one is then {then}"
        )
    for hosts in HOSTS:
        for way, name in ((OURS, ""), (COMMUNITY, "community_"), (COMMUNITY_TOKEN, "community_token_")):
            requests = max(run.total for run in runs[way, hosts])
            print(f"figure vault_requests_{name}{hosts}x{SECRETS}x{TASKS} {requests} requests")
    most = HOSTS[-1]
    walls = {way: _median(runs[way, most], lambda run: run.wall) for way in WAYS}
    cpus = {way: _median(runs[way, most], lambda run: run.cpu) for way in WAYS}
    print(f"figure secrets_wall_ratio_{most}x{SECRETS}x{TASKS} {walls[OURS] / walls[COMMUNITY]:.3f} ratio")
    print(f"figure secrets_cpu_ratio_{most}x{SECRETS}x{TASKS} {cpus[OURS] / cpus[COMMUNITY]:.3f} ratio")
    print(f"figure failed_logins_10_hosts {failed[OURS].requests['login']} logins")
    print(f"figure failed_logins_10_hosts_community {failed[COMMUNITY].requests['login']} logins")
    print(f"figure resolve_{REFERENCES}_references_{DELAY * 1000:.0f}ms {together:.2f} s")
    print(f"figure prefetch_ratio {together / one_by_one:.3f} ratio")


if __name__ == "__main__":
    main()
