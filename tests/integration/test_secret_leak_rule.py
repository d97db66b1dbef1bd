# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lint rule refuses shows the secret in spite of `no_log`, and what it lets through does not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ansiblelint")

from ansiblelint.file_utils import Lintable
from ansiblelint.rules import load_plugins

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-6f02c4"
# Each task has `no_log`. The name says with which tag the rule refuses it, if it does.
PLAY = """---
- name: Show
  hosts: localhost
  gather_facts: false
  connection: local
  no_log: true
  vars:
    key: "{{ lookup('gatewayops.openai.secret', 'env://PROVIDER_KEY') }}"
  tasks:
    - name: "name {{ key }}"
      ansible.builtin.debug: {msg: x}
    - name: environment
      ansible.builtin.command: "true"
      environment: {KEY: "{{ key }}"}
    - name: keyword (delegate_to)
      ansible.builtin.command: "true"
      delegate_to: "{{ key }}"
      ignore_unreachable: true
      ignore_errors: true
    - name: argv (raw)
      ansible.builtin.raw: "true {{ key }}"
    - name: argv (command)
      ansible.builtin.shell: "grep -ao {{ key }} /proc/self/cmdline >{{ kept }}/argv"
    - name: message
      ansible.builtin.fail: {msg: "{{ key }}"}
      ignore_errors: true
    - name: stats
      ansible.builtin.set_stats: {data: {key: "{{ key }}"}}
    - name: cache
      ansible.builtin.set_fact: {fact: "{{ key }}", cacheable: true}
    - name: async
      ansible.builtin.command: {cmd: sleep 2, stdin: "{{ key }}"}
      async: 20
      poll: 0
    - name: And this is where
      ansible.builtin.shell: "grep -rlZ {{ '[c]' ~ 'anary-6f02c4' }} {{ kept }}/tmp >{{ kept }}/found"

    - name: A loop
      ansible.builtin.debug: {msg: "{{ item }}"}
      loop: ["{{ key }}"]
      loop_control: {label: "{{ key }}"}
    - name: A loop of files
      ansible.builtin.include_tasks: "{{ kept }}/tasks.yml"
      loop: ["{{ key }}"]
    - name: A file with a difference
      ansible.builtin.copy: {content: "{{ key }}", dest: "{{ kept }}/file", mode: "0600"}
    - name: A command that fails and says what it was told
      ansible.builtin.shell: {cmd: "cat >&2; exit 3", stdin: "{{ key }}"}
      ignore_errors: true
    - name: A request that fails
      ansible.builtin.uri: {url: "http://127.0.0.1:1", headers: {key: "{{ key }}"}}
      ignore_errors: true
    - name: A module that fails
      ansible.builtin.copy: {content: "{{ key }}", dest: /nonexistent/file, mode: "0600"}
      ignore_errors: true
    - name: A condition
      ansible.builtin.assert: {that: key == 'x'}
      ignore_errors: true
    - name: A fact
      ansible.builtin.set_fact: {other: "{{ key }}"}
"""
REFUSED = ["name", "environment", "keyword", "argv", "argv", "message", "stats", "cache", "async"]


def test_the_rule_refuses_exactly_what_shows_the_secret(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "tasks.yml").write_text("- name: Nothing\n  ansible.builtin.debug: {msg: x}\n")
    (rule,) = load_plugins([str(ROOT / "tools" / "lint_rules")])
    assert [match.tag for match in rule.matchyaml(Lintable(tmp_path / "play.yml"))] == [
        f"secret-leak[{tag}]" for tag in REFUSED
    ]
    environment = {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
        "ANSIBLE_HOME": str(tmp_path / "home"),
        "ANSIBLE_REMOTE_TEMP": str(tmp_path / "tmp"),
        "ANSIBLE_ASYNC_DIR": str(tmp_path / "async"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SHOW_CUSTOM_STATS": "1",
        "ANSIBLE_CACHE_PLUGIN": "jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(tmp_path / "facts"),
        "PROVIDER_KEY": CANARY,
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "play.yml", "-vvvv", "--diff"]
    more = json.dumps({"kept": str(tmp_path), "ansible_python_interpreter": sys.executable})
    ran = subprocess.run(
        [*command, "-e", more],
        cwd=tmp_path,
        env={**{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    sections = re.split(r"^(?:TASK \[|(CUSTOM STATS))", ran.stdout, flags=re.MULTILINE)
    shows = [section.split("]")[0] for section in sections if section and CANARY in section]
    words = [name.split()[0] for name in shows]
    assert words[:-1] == ["name", "environment", "keyword", "argv", "message"], ran.stdout
    assert CANARY in sections[-1], "the statistics"
    assert CANARY in (tmp_path / "argv").read_text()
    assert (tmp_path / "found").stat().st_size
    assert CANARY in (tmp_path / "facts" / "s1_localhost").read_text()
