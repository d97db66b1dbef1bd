"""The legs of `make test`: which check runs on which interpreter, and with what commands."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
# Under this path the code has its full name; see link_checkout() in env.py.
COLLECTION = ".cache/collections/ansible_collections/gatewayops/openai"
OUTPUT = ROOT / "tests" / "output" / "check"
# Unit tests do not depend on each other.
SPREAD = ("--numprocesses=2",)
# Tests that wait more than they compute; those of a file share what they have started.
WAITING = ("--numprocesses=4", "--dist=loadfile")

Command = list[str]


@dataclasses.dataclass(frozen=True)
class Environment:
    """A virtual environment: what `tools/env.py` makes with one interpreter from one lock."""

    title: str
    python: str  # empty where this machine has no such interpreter
    name: str
    folder: str

    @property
    def make(self) -> Command:
        return [self.python, "tools/env.py", self.name, "--path", str(CACHE / self.folder)]

    def run(self, program: str, *arguments: str) -> Command:
        return [str(CACHE / self.folder / "bin" / program), *arguments]


@dataclasses.dataclass(frozen=True)
class Leg:
    """One kind of check in one environment."""

    kind: str
    environment: Environment
    commands: tuple[Command, ...]  # after the environment is made; each runs, whatever became of those before
    detail: str = ""
    report: Path | None = None  # where pytest leaves its counts

    @property
    def title(self) -> str:
        return "%s (%s)" % (" ".join(filter(None, [self.kind, self.detail])), self.environment.title)

    @property
    def missing(self) -> bool:
        return not self.environment.python

    @property
    def log(self) -> Path:
        return OUTPUT / ("".join(c if c.isalnum() or c in ".-" else "_" for c in self.title) + ".log")


def find_python(*versions: str) -> str:
    """An interpreter that runs: a version manager's shim on PATH also answers for versions that it cannot run."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for version in versions:
        installed = sorted(pyenv.glob("versions/%s.*/bin/python" % version), reverse=True)
        for candidate in [sys.executable, "python" + version, *map(str, installed)]:
            probe = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
            try:
                found = subprocess.run(probe, capture_output=True, text=True, check=False).stdout.strip()
            except OSError:
                continue
            if found == version:
                return candidate
    return ""


def dev_environments() -> list[Environment]:
    """The one in daily use first, then that of the other generation of ansible-core."""
    here = "%d.%d" % sys.version_info[:2]
    old, new = "core 2.19, Python %s", "core 2.21, Python %s"
    first, second, versions = (new, old, ("3.11", "3.12")) if here >= "3.13" else (old, new, ("3.13", "3.14"))
    other = find_python(*versions)
    return [
        Environment(title=first % here, python=sys.executable, name="dev", folder="venv"),
        Environment(title=second % versions[0], python=other, name="dev", folder="venv-other"),
    ]


def pytest_leg(
    kind: str, environment: Environment, *arguments: str, detail: str = "", needs: tuple[Command, ...] = ()
) -> Leg:
    """``needs`` are commands that run before pytest."""
    report = OUTPUT / ("%s.xml" % "-".join(filter(None, [kind, detail, environment.folder])))
    command = environment.run("pytest", "--quiet", "--junitxml=%s" % report, *arguments)
    return Leg(kind=kind, detail=detail, environment=environment, commands=(*needs, command), report=report)


def contract(environment: Environment) -> list[Leg]:
    """Most of these tests wait for processes most of the time; what a gateway is put under load for runs alone."""
    alone = ["tests/contract/test_release_%s.py" % name for name in ("faults", "kills", "load")]
    others = ["--ignore=%s" % path for path in alone]
    browser = ["tools/host-packages"]  # which one of the tests needs
    return [
        pytest_leg("contract", environment, *WAITING, *others, "tests/contract", needs=(browser,)),
        pytest_leg("contract", environment, *alone, detail="alone"),
    ]


def lint(environment: Environment) -> Leg:
    yaml = tracked("*.yml", "*.yaml")
    docs = ["--plugin-docs", "--skip-rstcheck", "--validate-collection-refs=self"]
    return Leg(
        kind="lint",
        environment=environment,
        commands=(
            environment.run("ruff", "check", "--output-format=concise"),
            environment.run("ruff", "format", "--check"),
            environment.run("yamllint", "--strict", *yaml),
            environment.run("ansible-lint", "--offline", "--strict"),
            environment.run("antsibull-changelog", "lint"),
            environment.run("antsibull-docs", "lint-collection-docs", *docs, "."),
        ),
    )


def types(environment: Environment) -> Leg:
    mypy = environment.run("mypy", "--cache-dir", str(CACHE / ("mypy-" + environment.folder)))
    return Leg(
        kind="types",
        environment=environment,
        commands=(
            [*mypy, COLLECTION + "/plugins"],
            [*mypy, "tools", "tests/conftest.py", "tests/contract", "tests/upstream"],
        ),
    )


def unit_legs(environments: list[Environment]) -> list[Leg]:
    oldest_core = Environment(
        title="core 2.16, Python 3.11", python=find_python("3.11"), name="core216", folder="venv-core216"
    )
    target = Environment(title="target, Python 3.9", python=find_python("3.9"), name="target", folder="venv-target")
    return [
        *(pytest_leg("unit", each, *SPREAD, "tests/unit") for each in [*environments, oldest_core]),
        pytest_leg("unit", target, *SPREAD, "tests/unit/module_utils", "tests/unit/modules"),
    ]


def sanity(environment: Environment) -> Leg:
    # Without shellcheck on the machine, ansible-test would leave its check of shell scripts out.
    commands = (["tools/host-packages"], environment.run("python", "tools/sanity.py"))
    return Leg(kind="sanity", environment=environment, commands=commands)


def molecule_legs(environment: Environment) -> list[Leg]:
    scenarios = sorted(path.parent.name for path in ROOT.glob("extensions/molecule/*/molecule.yml"))
    return [
        Leg(
            kind="molecule",
            detail=name,
            environment=environment,
            commands=(
                ["tools/host-packages"],
                environment.run("molecule", "test", "--scenario-name", name),
            ),
        )
        for name in scenarios
    ]


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, check=True, capture_output=True, text=True)
    return listed.stdout.splitlines()


def all_legs() -> list[Leg]:
    """One after the other: many of them measure time, and on two cores a neighbour makes that fail."""
    environments = dev_environments()
    daily = environments[0]
    return [
        lint(daily),
        *map(types, environments),
        *unit_legs(environments),
        *map(sanity, environments),
        *contract(daily),
        pytest_leg("integration", daily, *WAITING, "tests/integration"),
        *molecule_legs(daily),
    ]
