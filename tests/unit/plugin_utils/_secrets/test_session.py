# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference, parse_source
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import SecretOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession

CANARY = "canary-1c9d"


def reference(text: str) -> Reference:
    source = parse_source(text, allow_path=False)
    assert isinstance(source, Reference)
    return source


def resolve(*texts: str) -> list[str]:
    wanted = [reference(text) for text in texts]
    values = SecretSession(SecretOptions()).resolve(wanted)
    return [values[each] for each in wanted]


def refusal(*texts: str) -> str:
    with pytest.raises(SecretError) as caught:
        resolve(*texts)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_an_environment_variable_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TEST_KEY", " key \n")
    assert resolve("env://GATEWAY_TEST_KEY") == [" key \n"]


def test_an_environment_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_TEST_KEY", raising=False)
    assert refusal("env://GATEWAY_TEST_KEY") == "env://GATEWAY_TEST_KEY: not set in the environment of the controller"


def test_an_environment_variable_that_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TEST_KEY", CANARY + "\udcff")
    assert "env://GATEWAY_TEST_KEY: is not UTF-8 text" in refusal("env://GATEWAY_TEST_KEY")


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("key", "key"),
        ("key\n", "key"),
        ("key\r\n", "key"),
        ("key\n\n", "key\n"),
        ("key\r", "key\r"),
        ("\nkey ", "\nkey "),
        ("a\r\nb\r\n", "a\r\nb"),
        ("ключ\n", "ключ"),
    ],
)
def test_one_line_break_at_the_end_of_a_file_is_dropped(tmp_path: Path, content: str, value: str) -> None:
    (tmp_path / "key").write_bytes(content.encode())
    assert resolve(f"file://{tmp_path}/key") == [value]


@given(value=st.text(min_size=1).filter(lambda text: not text.endswith("\r")))
def test_whatever_was_written_with_echo_comes_back(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    path = tmp_path_factory.mktemp("file") / "key"
    path.write_bytes(f"{value}\n".encode())
    assert resolve(f"file://{path}") == [value]


def test_a_key_of_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"openai": "sk-1\n", "azure": "az-1"}))
    assert resolve(f"file://{path}#azure", f"file://{path}#openai") == ["az-1", "sk-1\n"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps({"b": CANARY, "a": CANARY}), "the file has no field 'openai'; it has 'a', 'b'"),
        (json.dumps({}), "the file has no field 'openai'; it has none"),
        (json.dumps({"openai": [CANARY]}), "the field 'openai' in the file is not text"),
        (json.dumps({"openai": 12345678}), "the field 'openai' in the file is not text"),
        (json.dumps({"openai": None}), "the field 'openai' in the file is not text"),
        (json.dumps([CANARY]), "the file is not a JSON object"),
        (CANARY, "the file is not a JSON object"),
        ('{"openai": "' + CANARY, "the file is not a JSON object"),
        ("[" * 100_000, "the file is not a JSON object"),
    ],
)
def test_what_is_wrong_with_a_json_file_is_told_without_its_content(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    assert refusal(f"file://{path}#openai") == f"file://{path}#openai: {message}"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert refusal(f"file://{tmp_path}/none") == (
        f"file://{tmp_path}/none: cannot be read on the controller: No such file or directory"
    )
    assert "Is a directory" in refusal(f"file://{tmp_path}")
    (tmp_path / "latin").write_bytes(b"\xe9" + CANARY.encode())
    assert refusal(f"file://{tmp_path}/latin") == f"file://{tmp_path}/latin: is not UTF-8 text"


def test_fields_are_listed_only_so_far(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({f"key{number:03}": CANARY for number in range(50)}))
    message = refusal(f"file://{path}#openai")
    assert "'key019' and 30 more" in message
    assert "'key020'" not in message


def test_an_empty_value_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TEST_KEY", "")
    (tmp_path / "key").write_text("\n")
    assert refusal("env://GATEWAY_TEST_KEY", f"file://{tmp_path}/key").splitlines() == [
        "env://GATEWAY_TEST_KEY: is empty",
        f"file://{tmp_path}/key: is empty",
    ]


def test_an_ended_key_is_an_error_or_nothing_where_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    ended = {
        "old": CANARY,
        "old_expires_at": "2026-01-01T00:00:00Z",
        "gone": "",
        "bad": CANARY,
        "bad_expires_at": "soon",
    }
    path.write_text(json.dumps(ended))
    old, gone, bad, none = (reference(f"file://{path}#{name}") for name in ("old", "gone", "bad", "none"))
    remedy = "write a new key there, or refer to a field with one that is valid"
    assert refusal(old.text, gone.text).splitlines() == [
        f"{old.text}: ended at 2026-01-01T00:00:00Z (old_expires_at): {remedy}",
        f"{gone.text}: is empty, which stands for a key that has ended: {remedy}",
    ]
    session = SecretSession(SecretOptions())
    assert session.resolve([old, gone], may_end=[old, gone]) == {old: "", gone: ""}
    with pytest.raises(SecretError, match=r"^file://\S+#gone: is empty"):
        session.resolve([old, gone], may_end=[old])
    with pytest.raises(SecretError, match="no field 'none'"):
        session.resolve([none], may_end=[none])
    with pytest.raises(SecretError, match="'bad_expires_at' is not a time") as caught:
        session.resolve([bad], may_end=[bad])
    assert "soon" not in str(caught.value)


def test_all_failures_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_TEST_KEY", raising=False)
    (tmp_path / "key").write_text(CANARY)
    lines = refusal(
        "env://GATEWAY_TEST_KEY",
        f"file://{tmp_path}/key",
        f"file://{tmp_path}/none",
        *(f"vault://kv/{number}#key" for number in range(7)),
    ).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "env://GATEWAY_TEST_KEY",
        f"file://{tmp_path}/none",
        ", ".join(f"vault://kv/{number}#key" for number in range(5)) + " and 2 more",
    ]


def test_no_reference_is_no_work() -> None:
    nothing: Sequence[Reference] = ()
    assert SecretSession(SecretOptions()).resolve(nothing) == {}
