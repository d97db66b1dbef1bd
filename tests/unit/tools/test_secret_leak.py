"""The lint rule: what it refuses, what it lets through, and that ansible-lint runs it, here and for others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("ansiblelint", reason="the environment of the oldest core has no ansible-lint")

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "tools" / "lint_rules"
LOOKUP = "{{ lookup('gatewayops.openai.secret', 'vault://kv/a#k') }}"


def load() -> ModuleType:
    spec = spec_from_file_location("secret_leak", RULES / "secret_leak.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["secret_leak"] = module
    spec.loader.exec_module(module)
    return module


RULE = load()


def found(path: Path, text: str = "") -> list[tuple[str, int]]:
    """The tags and lines of the findings in a file, in the order of the file."""
    from ansiblelint.file_utils import Lintable

    if text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    matches = RULE.SecretLeakRule().matchyaml(Lintable(path))
    return [(match.tag.removeprefix("secret-leak"), match.lineno) for match in matches]


def tags(tmp_path: Path, task: str, play: str = "") -> list[str]:
    """The tags of the findings in a task, at the top of a play with `key` among its variables."""
    lines = "\n".join("      " + line for line in task.strip().splitlines())
    text = f"""---
- name: Play
  hosts: all
{play}
  vars:
    key: "{LOOKUP}"
    both: {{user: me, password: "{{{{ key }}}}"}}
    plain: text
  tasks:
    - name: Task before
      ansible.builtin.command: {{cmd: mint, stdin: "{{{{ key }}}}"}}
      no_log: true
      register: minted
    - name: Another
      ansible.builtin.command: {{cmd: mint, stdin: "{{{{ key }}}}"}}
      no_log: true
    -
{lines}
"""
    return [tag.strip("[]") for tag, _line in found(tmp_path / "playbook.yml", text)]


USE = 'ansible.builtin.uri: {url: "http://x", headers: {a: "{{ key }}"}}'
BAD = {
    "a lookup": ("no-log", """ansible.builtin.debug: {msg: "{{ lookup('gatewayops.openai.vault_kv', 'kv/a') }}"}"""),
    "query": ("no-log", """ansible.builtin.debug: {msg: "{{ query('gatewayops.openai.aws_secret', 'a') | first }}"}"""),
    "q": ("no-log", """ansible.builtin.debug: {msg: "{{ q('gatewayops.openai.vault_read', 'a')[0].password }}"}"""),
    "a short name": ("no-log", """ansible.builtin.debug: {msg: "{{ lookup('vault_kv', 'kv/a') }}"}"""),
    "another collection's": (
        "no-log",
        """ansible.builtin.debug: {msg: "{{ lookup('community.hashi_vault.vault_kv2_get', 'a').secret }}"}""",
    ),
    "what cannot be parsed": ("no-log", """ansible.builtin.debug: {msg: "{{ lookup('vault_kv', 'a') ?? 1 }}"}"""),
    "a variable": ("no-log", USE),
    "by way of another": ("no-log", """ansible.builtin.debug: {msg: "{{ both }}"}"""),
    "of the task": ("no-log", f"""vars: {{mine: "{LOOKUP}"}}\nansible.builtin.debug: {{msg: "{{{{ mine }}}}"}}"""),
    "vars[]": ("no-log", """ansible.builtin.debug: {msg: "{{ vars['key'] }}"}"""),
    "hostvars": ("no-log", """ansible.builtin.debug: {msg: "{{ hostvars[inventory_hostname].key }}"}"""),
    "debug var": ("no-log", "ansible.builtin.debug: {var: key}"),
    "free form": ("no-log", "ansible.builtin.debug: msg={{ key }}"),
    "action": ("no-log", 'action: ansible.builtin.debug msg="{{ key }}"'),
    "local_action": ("no-log", 'local_action: {module: ansible.builtin.debug, msg: "{{ key }}"}'),
    "a condition": ("no-log", "ansible.builtin.debug: {msg: x}\nwhen: key == 'x'"),
    "a loop": ("no-log", """ansible.builtin.debug: {msg: x}\nloop: ["{{ key }}"]"""),
    "with": ("no-log", """ansible.builtin.debug: {msg: x}\nwith_gatewayops.openai.secret: [env://A]"""),
    "a loop over an own module": ("no-log", """gatewayops.openai.gateway: {}\nloop: ["{{ key }}"]"""),
    "a label": ("no-log", """ansible.builtin.debug: {msg: x}\nloop: [1]\nloop_control: {label: "{{ key }}"}"""),
    "no_log false": ("no-log", f"{USE}\nno_log: false"),
    "a switch": ("switch", f"{USE}\n" + 'no_log: "{{ hide | default(true) }}"'),
    "a name": ("name", """name: With {{ key }}\nansible.builtin.debug: {msg: x}"""),
    "a block's name": ("name", "name: With {{ key }}\nblock: [{ansible.builtin.debug: {msg: x}}]"),
    "a handler": ("keyword", """ansible.builtin.debug: {msg: x}\nnotify: Restart {{ key }}"""),
    "a host": ("keyword", """ansible.builtin.debug: {msg: x}\ndelegate_to: "{{ key }}\""""),
    "an environment": ("environment", """ansible.builtin.command: x\nno_log: true\nenvironment: {K: "{{ key }}"}"""),
    "argv": ("argv", """ansible.builtin.command: {argv: [x, "{{ key }}"]}\nno_log: true"""),
    "a command": ("argv", """ansible.builtin.command: x {{ key }}\nno_log: true"""),
    "a command with args": ("argv", """ansible.builtin.shell: x {{ key }}\nargs: {chdir: /tmp}\nno_log: true"""),
    "raw": ("argv", """ansible.builtin.raw: x {{ key }}\nno_log: true"""),
    "an error": ("message", """ansible.builtin.fail: {msg: "{{ key }}"}\nno_log: true"""),
    "an assertion": ("message", """ansible.builtin.assert: {that: false, fail_msg: "{{ key }}"}\nno_log: true"""),
    "a statistic": ("stats", """ansible.builtin.set_stats: {data: {k: "{{ key }}"}}\nno_log: true"""),
    "a cached fact": ("cache", """ansible.builtin.set_fact: {k: "{{ key }}", cacheable: true}\nno_log: true"""),
    "async": ("async", f"{USE}\nno_log: true\nasync: 10\npoll: 1"),
    "a result": ("register", "ansible.builtin.debug: {var: minted}"),
    "a result's output": ("register", """ansible.builtin.debug: {msg: "{{ minted.stdout }}"}"""),
}
GOOD = {
    "no_log": f"{USE}\nno_log: true",
    "no_log yes": f"{USE}\nno_log: yes",
    "stdin": """ansible.builtin.command: {cmd: x, stdin: "{{ key }}"}\nno_log: true\nchanged_when: false""",
    "a module of the collection": """gatewayops.openai.gateway: {vault_token: "{{ key }}"}""",
    "a variable that is none": """ansible.builtin.debug: {msg: "{{ plain }} {{ both_of_them }} key"}""",
    "whether it is there": "ansible.builtin.debug: {msg: x}\nwhen: key is defined and key | length > 20",
    "a part of a result": """ansible.builtin.debug: {msg: "{{ minted.rc }}"}""",
    "metadata": """ansible.builtin.debug: {msg: "{{ lookup('vault_kv', 'a').metadata.version }}"}""",
    "a hidden result": "ansible.builtin.debug: {var: minted}\nno_log: true",
    "a reference": "ansible.builtin.debug: {msg: vault://kv/a#k}",
    "another lookup": """ansible.builtin.debug: {msg: "{{ lookup('ansible.builtin.file', 'x') }}"}""",
    "an included file": """ansible.builtin.include_tasks: x.yml\nvars: {it: "{{ key }}"}""",
    "a fact": """ansible.builtin.set_fact: {k: "{{ key }}"}\nno_log: true""",
    "a skip by tag": f"tags: [skip_ansible_lint]\n{USE}",
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(tmp_path: Path, case: str) -> None:
    tag, task = BAD[case]
    assert tag in tags(tmp_path, task)


@pytest.mark.parametrize("case", GOOD)
def test_lets_through(tmp_path: Path, case: str) -> None:
    assert tags(tmp_path, GOOD[case]) == []


def test_keywords_of_the_play_and_prompts(tmp_path: Path) -> None:
    assert tags(tmp_path, USE, "  no_log: true") == []
    assert tags(tmp_path, "ansible.builtin.debug:", '  environment: {A: "{{ key }}"}') == ["environment"]
    prompts = "  vars_prompt: [{name: vault_token, private: %s}, {name: port, private: false}]"
    assert tags(tmp_path, "ansible.builtin.debug:", prompts % "false") == ["prompt"]
    assert tags(tmp_path, "ansible.builtin.debug:", prompts % "true") == []


def test_a_wrapped_key_is_a_secret(tmp_path: Path) -> None:
    text = """---
- name: Wrap
  gatewayops.openai.gateway_key: {path: kv/consumers/search, wrap_ttl: 1h}
  register: key
- name: Show it
  ansible.builtin.debug: {msg: "{{ key.wrapped_token }}"}
- name: Show all of it
  ansible.builtin.debug: {var: key}
- name: Show what it is no secret of
  ansible.builtin.debug: {msg: "{{ key.wrapped_until }}"}
- name: Write it
  ansible.builtin.copy: {content: "{{ key['wrapped_token'] }}", dest: /run/token, mode: "0600"}
  no_log: true
- name: No token
  gatewayops.openai.gateway_key: {path: kv/consumers/search}
  register: other
- name: Show what has none
  ansible.builtin.debug: {var: other}
"""
    assert found(tmp_path / "tasks" / "main.yml", text) == [("[no-log]", 5), ("[register]", 7)]


def test_blocks_hand_down_and_what_is_set_is_known_after(tmp_path: Path) -> None:
    text = f"""---
- name: Hidden
  no_log: true
  vars: {{inner: "{LOOKUP}"}}
  block:
    - name: Set
      ansible.builtin.set_fact: {{later: "{{{{ inner }}}}"}}
    - name: Open
      ansible.builtin.debug: {{var: inner}}
      no_log: false
- name: Use
  ansible.builtin.debug: {{var: later}}
- name: Outside of the block
  ansible.builtin.debug: {{var: inner}}
- name: Skipped
  ansible.builtin.debug: {{var: later}} # noqa: secret-leak
- name: Skipped by its tag
  ansible.builtin.debug: {{var: later}} # noqa: secret-leak[no-log]
"""
    assert found(tmp_path / "tasks" / "main.yml", text) == [("[no-log]", 8), ("[no-log]", 11)]


def test_variables_and_templates_of_a_role(tmp_path: Path) -> None:
    for name, content in {
        "defaults/main.yml": f'---\nfirst: "{LOOKUP}"\n',
        "vars/main.yml": '---\nsecond: "{{ first }}"\nthird: 3\n',
        "templates/uses.j2": "key={{ second }}\n",
        "templates/plain.j2": "key={{ third }}\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    task = "- name: Write\n  ansible.builtin.template: {src: %s, dest: /x}\n"
    assert found(tmp_path / "tasks" / "main.yml", "---\n" + task % "uses.j2") == [("[no-log]", 2)]
    assert found(tmp_path / "tasks" / "main.yml", "---\n" + task % "plain.j2") == []
    assert found(tmp_path / "handlers" / "main.yml", "---\n- name: X\n  ansible.builtin.debug: {var: second}\n")


def test_variables_beside_a_playbook(tmp_path: Path) -> None:
    for name, content in {
        "group_vars/all.yml": f'---\nfirst: "{LOOKUP}"\nhidden: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  61\n',
        "more.yml": '---\nsecond: "{{ first }}"\n',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    play = "---\n- name: Play\n  hosts: all\n  vars_files: [more.yml, none.yml]\n  tasks:\n"
    tasks = "    - name: Show\n      ansible.builtin.debug: {var: second}\n"
    assert found(tmp_path / "play.yml", play + tasks) == [("[no-log]", 6)]


def examples() -> dict[str, str]:
    """The examples of the plugins and of the documentation."""
    texts = {
        f"{path.relative_to(ROOT)}": match[1]
        for path in sorted(ROOT.glob("plugins/*/*.py"))
        if (match := re.search(r'EXAMPLES = r"""\n(.*?)"""', path.read_text(), re.DOTALL))
    }
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("roles/*/README.md"))]:
        for number, match in enumerate(
            re.finditer(r"^```ya?ml\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
        ):
            texts[f"{path.relative_to(ROOT)} {number}"] = match[1]
    return texts


def test_examples_in_the_documentation_leak_nothing(tmp_path: Path) -> None:
    checked, leaks = 0, []
    for name, text in examples().items():
        listed = text.lstrip().removeprefix("---").lstrip().startswith("- ")
        where = tmp_path / ("playbook.yml" if "hosts:" in text else "tasks/main.yml")
        checked += listed
        leaks += [(name, *finding) for finding in found(where, text)] if listed else []
    assert leaks == []
    assert checked >= 8


def lint(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ansiblelint", "--offline", "--strict", "--nocolor", "--parseable", *arguments],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_ansible_lint_runs_it_for_others(tmp_path: Path) -> None:
    """As docs/secrets/guarantee.md says, in a project with no configuration and in one with a profile."""
    text = f"---\n- name: Show\n  hosts: all\n  tasks:\n    - name: Key {LOOKUP}\n      ansible.builtin.debug:\n"
    (tmp_path / "playbook.yml").write_text(text)
    ran = lint(tmp_path, "-R", "-r", str(RULES), "playbook.yml")
    assert ran.returncode != 0
    assert "playbook.yml:5" in ran.stdout, ran
    assert "secret-leak[name]" in ran.stdout
    assert "The lookup gatewayops.openai.secret is in `name`" in ran.stdout
    (tmp_path / ".ansible-lint").write_text(
        f"profile: production\nrulesdir: [{RULES}]\nuse_default_rules: true\nenable_list: [secret-leak]\n"
    )
    assert "secret-leak[name]" in lint(tmp_path, "playbook.yml").stdout
