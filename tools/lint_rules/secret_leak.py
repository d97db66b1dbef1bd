"""A rule for ansible-lint: no task shows a secret that it got from a secret store.

    ansible-lint -R -r ~/.ansible/collections/ansible_collections/gatewayops/openai/tools/lint_rules

A secret is what a lookup in LOOKUPS returns, and a variable that is made from one where the linter can see it: in the
same task, block or play, by `set_fact` before, in the role's `defaults` and `vars`, in `vars_files`, in `group_vars`
and `host_vars` beside the playbook. What each finding says was seen in runs of ansible-core 2.19 and 2.21, and a test
runs it again: `no_log` hides results and items of a loop, but not names, environments, commands, facts and errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from ansible.parsing.yaml.loader import AnsibleLoader
from ansible.playbook.block import Block
from ansible.playbook.handler import Handler
from ansible.playbook.task_include import TaskInclude
from ansiblelint.constants import SKIPPED_RULES_KEY
from ansiblelint.rules import AnsibleLintRule
from jinja2 import Environment, TemplateError, nodes

if TYPE_CHECKING:
    from ansiblelint.errors import MatchError
    from ansiblelint.file_utils import Lintable

_OWN = "gatewayops.openai."
#: Lookups that return secrets: those of this collection, and those that people come from.
LOOKUPS = frozenset(
    [
        *(_OWN + name for name in ("secret", "vault_kv", "vault_read", "aws_secret")),
        *("secret", "vault_kv", "vault_read", "aws_secret", "hashi_vault", "unvault", "ansible.builtin.unvault"),
        *(
            "community.hashi_vault." + name
            for name in ("hashi_vault", "vault_kv1_get", "vault_kv2_get", "vault_login", "vault_read")
        ),
        *("amazon.aws.secretsmanager_secret", "amazon.aws.aws_secret", "community.general.onepassword"),
    ]
)
_CALLS = frozenset(["lookup", "query", "q"])
#: Their first argument is a program's arguments or goes to a shell.
_COMMANDS = frozenset(["command", "shell", "raw", "script"])
_COMMAND_OPTIONS = ("_raw_params", "argv", "cmd", "free_form", "removes", "creates", "executable")
#: Keywords and options that are expressions without braces.
_EXPRESSIONS = frozenset(["when", "changed_when", "failed_when", "until", "that", "var"])
#: Keywords that are shown whatever `no_log` says.
_SHOWN = ("name", "notify", "listen", "delegate_to")
#: Parts of a registered result that repeat what the task was given.
_REPEATED = frozenset(["invocation", "cmd", "diff", "item", "results", "stdout", "stdout_lines", "content"])
_TELLING = re.compile(r"passw|secret|token|api_?key|private_?key|credential", re.IGNORECASE)
_KEYWORDS = frozenset([*Handler.fattributes, *TaskInclude.fattributes, *Block.fattributes])
_JINJA = Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"], autoescape=True)
_FILES = ("*.yml", "*.yaml")


@dataclass(frozen=True)
class Leak:
    """What may be shown: in which task, play or prompt, the tag of the finding, and what to do."""

    where: Mapping[str, Any]
    tag: str
    message: str


@dataclass
class Scope:
    """What is known where a task stands: secret variables, results of tasks with secrets, and inherited keywords."""

    names: set[str] = field(default_factory=set)
    results: set[str] = field(default_factory=set)
    no_log: Any = None

    def inner(self, data: Mapping[str, Any]) -> Scope:
        """The scope of what has its own `vars` and `no_log`. What is registered inside is known after it too."""
        names = with_secrets(self.names, data.get("vars"))
        return Scope(names, self.results, data.get("no_log", self.no_log))


def secret_in(value: Any, names: set[str], *, expression: bool = False) -> str:
    """Return which secret is in a value, a lookup or a variable, as a person would call it; '' when there is none."""
    if isinstance(value, Mapping):
        pairs = ((inner, name in _EXPRESSIONS) for name, inner in value.items())
        return next(filter(None, (secret_in(inner, names, expression=bare) for inner, bare in pairs)), "")
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return next(filter(None, (secret_in(inner, names, expression=expression) for inner in value)), "")
    if not isinstance(value, str) or not (expression or "{" in value):
        return ""
    return _secret_in_text(f"{{{{ {value} }}}}" if expression and "{{" not in value else str(value), frozenset(names))


def with_secrets(names: set[str], variables: Any) -> set[str]:
    """Return the names and those of the variables that are made from a secret, directly or by way of another."""
    known = set(names)
    pairs = list(variables.items()) if isinstance(variables, Mapping) else []
    while found := {name for name, value in pairs if name not in known and secret_in(value, known)}:
        known |= found
    return known


@lru_cache(maxsize=4096)
def _secret_in_text(text: str, names: frozenset[str]) -> str:
    try:
        tree = _JINJA.parse(text)
    except TemplateError:
        # What only Ansible's own settings of Jinja could read. A lookup is found all the same.
        found = re.search(r"\b(?:lookup|query|q)\(\s*['\"]([\w.]+)['\"]", text)
        return f"the lookup {found[1]}" if found and found[1] in LOOKUPS else ""
    harmless = {id(part) for test in _harmless(tree) for part in _all(test)}
    return next((said for part in _all(tree) if id(part) not in harmless and (said := _said(part, names))), "")


def _all(tree: nodes.Node) -> Iterator[nodes.Node]:
    yield tree
    yield from tree.find_all(nodes.Node)


def _harmless(tree: nodes.Node) -> Iterator[nodes.Node]:
    """Whether something is there, how long it is, and what its metadata are, tells no secret."""
    yield from (test for test in tree.find_all(nodes.Test) if test.name in ("defined", "undefined"))
    yield from (each for each in tree.find_all(nodes.Filter) if each.name in ("length", "count"))
    parts = (part for part in _all(tree) if isinstance(part, nodes.Getattr | nodes.Getitem))
    yield from (part for part in parts if _key(part) == "metadata")


def _said(part: nodes.Node, names: frozenset[str]) -> str:
    if isinstance(part, nodes.Call) and isinstance(part.node, nodes.Name) and part.node.name in _CALLS:
        plugin = part.args[0].value if part.args and isinstance(part.args[0], nodes.Const) else None
        return f"the lookup {plugin}" if plugin in LOOKUPS else ""
    if isinstance(part, nodes.Name) and part.ctx == "load":
        return f"the variable {part.name}" if part.name in names else ""
    if isinstance(part, nodes.Getattr | nodes.Getitem) and f"{_root(part)}.{_key(part)}" in names:
        return f"the result {_root(part)}.{_key(part)}"
    # vars['key'], hostvars[host].key
    if isinstance(part, nodes.Getattr | nodes.Getitem) and _root(part) in ("vars", "hostvars"):
        return f"the variable {_key(part)}" if _key(part) in names else ""
    return ""


def _key(part: nodes.Getattr | nodes.Getitem) -> Any:
    if isinstance(part, nodes.Getattr):
        return part.attr
    return part.arg.value if isinstance(part.arg, nodes.Const) else None


def _root(part: nodes.Node) -> str:
    while isinstance(part, nodes.Getattr | nodes.Getitem):
        part = part.node
    return part.name if isinstance(part, nodes.Name) else ""


def leaks_in_play(play: Mapping[str, Any], scope: Scope, folder: Path) -> Iterator[Leak]:
    """What a play may show: it, its prompts and its tasks. `folder` is where the playbook is."""
    files = [folder / name for name in _listed(play.get("vars_files")) if isinstance(name, str)]
    inside = Scope(secrets_in_files(scope.names, files), scope.results).inner(play)
    yield from _always_shown(play, inside)
    for prompt in play.get("vars_prompt") or ():
        if isinstance(prompt, Mapping) and prompt.get("private") in (False, "no", "false"):
            name = str(prompt.get("name"))
            if _TELLING.search(name):
                said = f"{name} is shown while it is typed; take `private: false` away"
                yield Leak(prompt if "__line__" in prompt else play, "prompt", said)
    for section in ("pre_tasks", "roles", "tasks", "post_tasks", "handlers"):
        tasks = play.get(section)
        yield from leaks_in_tasks(tasks if section != "roles" else None, inside, folder)


def leaks_in_tasks(tasks: Any, scope: Scope, folder: Path) -> Iterator[Leak]:
    """What a list of tasks and blocks may show. What one task sets, the next ones know."""
    for task in _listed(tasks):
        if not isinstance(task, Mapping):
            continue
        inside = scope.inner(task)
        if any(section in task for section in ("block", "rescue", "always")):
            yield from _always_shown(task, inside)
            for section in ("block", "rescue", "always"):
                yield from leaks_in_tasks(task.get(section), inside, folder)
            scope.names |= inside.names - with_secrets(scope.names, task.get("vars"))
        else:
            yield from _leaks_in_task(task, inside, folder)
            module, arguments = action_of(task)
            if module.rpartition(".")[2] == "set_fact":
                scope.names |= with_secrets(inside.names, arguments) - inside.names
            wraps = module == f"{_OWN}gateway_key" and bool(_option(arguments, "wrap_ttl"))
            if isinstance(task.get("register"), str) and (wraps or _used(task, module, arguments, inside, folder)):
                scope.results.add(task["register"])
                scope.names |= {f"{task['register']}.wrapped_token"} if wraps else set()


def _leaks_in_task(task: Mapping[str, Any], scope: Scope, folder: Path) -> Iterator[Leak]:
    module, arguments = action_of(task)
    short = module.removeprefix("ansible.builtin.").removeprefix("ansible.legacy.")
    yield from _always_shown(task, scope)
    if short in _COMMANDS:
        given = arguments if isinstance(arguments, str) else [arguments.get(name) for name in _COMMAND_OPTIONS]
        if said := secret_in(given, scope.names):
            yield Leak(
                task,
                "argv",
                f"{said} is an argument of a process, which every user of the host can list; "
                "give it to the command's `stdin`",
            )
    if short in ("fail", "assert") and (said := secret_in(_messages(arguments), scope.names)):
        yield Leak(task, "message", f"{said} is in the message of an error, which is shown in spite of `no_log`")
    if short == "set_stats" and (said := secret_in(arguments, scope.names)):
        yield Leak(task, "stats", f"{said} becomes a statistic of the run, which is shown in spite of `no_log`")
    if short == "set_fact" and _true(_option(arguments, "cacheable")) and (said := secret_in(arguments, scope.names)):
        yield Leak(task, "cache", f"{said} is written to the fact cache as it is; take `cacheable` away")
    if short == "debug" and not _true(scope.no_log) and (result := _result_in(arguments, scope.results)):
        yield Leak(
            task,
            "register",
            f"{result} is the result of a task with a secret, and repeats what that got; show the part that you need",
        )

    said = _used(task, module, arguments, scope, folder)
    if said and task.get("async"):
        yield Leak(
            task, "async", f"{said} is written to a file on the host, as all arguments of a task with `async` are"
        )
    if said and not _true(scope.no_log):
        if isinstance(scope.no_log, str) and "{" in scope.no_log:
            yield Leak(task, "switch", f"the task uses {said}, and its `no_log` can be switched off; make it `true`")
        else:
            yield Leak(task, "no-log", f"the task uses {said}; give it `no_log: true`")


def _always_shown(data: Mapping[str, Any], scope: Scope) -> Iterator[Leak]:
    for keyword in _SHOWN:
        if said := secret_in(data.get(keyword), scope.names):
            tag = "name" if keyword == "name" else "keyword"
            yield Leak(data, tag, f"{said} is in `{keyword}`, which is shown in spite of `no_log`")
    if said := secret_in(data.get("environment"), scope.names):
        yield Leak(
            data,
            "environment",
            f"{said} is in `environment`, so in the command line of a shell on the host, "
            "and shown at -vvv in spite of `no_log`; give it to the command's `stdin`",
        )


def _used(task: Mapping[str, Any], module: str, arguments: Any, scope: Scope, folder: Path) -> str:
    """The secret that a task uses; '' when it uses none or keeps it itself."""
    # The modules of this collection show none of their arguments; tests search for them.
    if not module.startswith(_OWN):
        if said := secret_in(arguments, scope.names):
            return said
        if module.rpartition(".")[2] == "template" and (said := _secret_in_template(arguments, scope, folder)):
            return said
    for keyword, value in task.items():
        if keyword in ("loop", "loop_control", *_EXPRESSIONS) or keyword.startswith("with_"):
            if keyword.removeprefix("with_") in LOOKUPS:
                return f"the lookup {keyword.removeprefix('with_')}"
            if said := secret_in(value, scope.names, expression=keyword in _EXPRESSIONS):
                return said
    return ""


def _secret_in_template(arguments: Any, scope: Scope, folder: Path) -> str:
    source = _option(arguments, "src")
    if not isinstance(source, str) or "{" in source:
        return ""
    for place in (folder, folder / "templates", folder.parent / "templates"):
        try:
            said = secret_in((place / source).read_text(encoding="utf-8"), scope.names)
        except (OSError, ValueError):
            continue
        return said and f"{said} (in {source})"
    return ""


def _result_in(arguments: Any, results: set[str]) -> str:
    """The result that `debug` shows as a whole, or in a part that repeats what the task was given."""
    shown = [_option(arguments, "var"), *re.findall(r"{{(.+?)}}", str(_option(arguments, "msg")))]
    for text in shown:
        found = re.match(r"\s*(\w+)(?:\.(\w+)|\[['\"](\w+)['\"]\])?", str(text))
        if found and found[1] in results and (found[2] or found[3] or "results") in _REPEATED:
            return found[1]
    return ""


def action_of(task: Mapping[str, Any]) -> tuple[str, Any]:
    """Return a task's module and its arguments: a mapping, or the text of the free form."""
    legacy = task.get("action", task.get("local_action"))
    if isinstance(legacy, Mapping):
        return str(legacy.get("module", "")), legacy
    if isinstance(legacy, str):
        module, _space, rest = legacy.partition(" ")
        return module, rest
    for keyword, value in task.items():
        if keyword not in _KEYWORDS and not keyword.startswith(("with_", "__")):
            more = task.get("args")
            if isinstance(value, Mapping) or not isinstance(more, Mapping):
                return keyword, {} if value is None else value
            return keyword, {**more, "_raw_params": value}
    return "", {}


def _option(arguments: Any, name: str) -> Any:
    if isinstance(arguments, Mapping):
        return arguments.get(name)
    found = re.search(rf"\b{name}=(\S+)", str(arguments))
    return found[1] if found else None


def _messages(arguments: Any) -> Any:
    return [arguments.get(name) for name in ("msg", "fail_msg")] if isinstance(arguments, Mapping) else arguments


def _true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() in ("true", "yes", "on"))


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [] if value is None else [value]


def secrets_in_files(names: set[str], files: Sequence[Path]) -> set[str]:
    """Return the names and those of variables in files that are made from a secret."""
    together: dict[str, Any] = {}
    for path in files:
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), Loader=AnsibleLoader)  # noqa: S506 - it is a safe one
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(content, Mapping):
            # A name is a secret when it is one in any of them.
            together.update({name: [together.get(name), value] for name, value in content.items()})
    return with_secrets(names, together)


def _files_around(path: Path, kind: str) -> list[Path]:
    """Where variables of a playbook, or of a role's tasks, are written."""
    if kind == "playbook":
        folders = [path.parent / "group_vars", path.parent / "host_vars"]
        return [file for folder in folders for pattern in _FILES for file in sorted(folder.rglob(pattern))]
    folders = [path.parent.parent / "defaults", path.parent.parent / "vars"]
    return [file for folder in folders for pattern in _FILES for file in sorted(folder.glob(pattern))]


class SecretLeakRule(AnsibleLintRule):
    """A secret may be shown."""

    id = "secret-leak"
    description = "A task that uses a secret has to keep it from the output, the arguments of processes, and the facts."
    severity = "VERY_HIGH"
    tags = ["security"]  # noqa: RUF012 - ansible-lint has it so
    version_changed = "0.1.0"

    @property
    def url(self) -> str:
        """Where the rule is described."""
        return "docs/secrets/guarantee.md"

    def matchyaml(self, file: Lintable) -> list[MatchError]:
        """All findings in a playbook or in a file of tasks."""
        kind = str(file.kind)
        if kind not in ("playbook", "tasks", "handlers") or not isinstance(file.data, list):
            return []
        path = Path(file.abspath)
        scope = Scope(secrets_in_files(set(), _files_around(path, kind)))
        if kind == "playbook":
            plays = (play for play in file.data if isinstance(play, Mapping))
            found: Iterator[Leak] = (leak for play in plays for leak in leaks_in_play(play, scope, path.parent))
        else:
            found = leaks_in_tasks(file.data, scope, path.parent)
        return [self._match(leak, file) for leak in found if not self._skipped(leak)]

    def _skipped(self, leak: Leak) -> bool:
        skipped = leak.where.get(SKIPPED_RULES_KEY) or ()
        tags = _listed(leak.where.get("tags"))
        return self.id in skipped or f"{self.id}[{leak.tag}]" in skipped or "skip_ansible_lint" in tags

    def _match(self, leak: Leak, file: Lintable) -> MatchError:
        message = leak.message[0].upper() + leak.message[1:] + "."
        return self.create_matcherror(message=message, data=leak.where, filename=file, tag=f"{self.id}[{leak.tag}]")
