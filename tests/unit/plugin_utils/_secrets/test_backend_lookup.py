# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import textwrap
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader
from ansible.template import Templar

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference, parse_source
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.backend_lookup import Surroundings
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import SecretOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession

try:
    from ansible.template import trust_as_template
except ImportError:

    def trust_as_template(value: str) -> str:
        """Before 2.19 every text was trusted."""
        return value


CANARY = "canary-55d0"


class Own:
    """A lookup plugin of the test, and what it was asked in this test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # The loader keeps what it has loaded under its name.
        self.name = f"own_{uuid.uuid4().hex}"
        self.log = directory / "log"

    @property
    def asked(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def write(self, body: str, documentation: str = "") -> None:
        (self.directory / f"{self.name}.py").write_text(
            f'DOCUMENTATION = """\nname: {self.name}\n{textwrap.dedent(documentation)}"""\n'
            "from pathlib import Path\n"
            "from ansible.errors import AnsibleError\n"
            "from ansible.plugins.lookup import LookupBase\n"
            "class LookupModule(LookupBase):\n"
            "    def run(self, terms, variables=None, **kwargs):\n"
            f"        with Path({str(self.log)!r}).open('a') as log: log.write(terms[0] + chr(10))\n"
            + textwrap.indent(textwrap.dedent(body), "        ")
        )


@pytest.fixture
def own(tmp_path: Path) -> Own:
    lookup_loader.add_directory(str(tmp_path))
    return Own(tmp_path)


Ask = Callable[..., str]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Resolve a reference, as another process of the run would, on a host with these variables."""

    def of_this_run() -> RunCache:
        return RunCache(tmp_path / "cache", b"secret of the run")

    monkeypatch.setattr(RunCache, "of_this_run", of_this_run)

    def resolve(text: str, **variables: Any) -> str:
        reference = parse_source(text, allow_path=False)
        assert isinstance(reference, Reference)
        loader = DataLoader()
        surroundings = Surroundings(loader, Templar(loader=loader, variables=variables), variables)
        return SecretSession(SecretOptions(), surroundings=surroundings).resolve([reference])[reference]

    return resolve


def refusal(ask: Ask, text: str, **variables: Any) -> str:
    with pytest.raises(SecretError) as caught:
        ask(text, **variables)
    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def test_a_term_is_looked_up_once_in_a_run(own: Own, ask: Ask) -> None:
    own.write("return ['value of ' + terms[0]]")
    for _host in range(3):
        assert ask(f"lookup://{own.name}/team/a key") == "value of team/a key"
    assert own.asked == ["team/a key"]
    assert b"value of" not in b"".join(path.read_bytes() for path in (own.directory / "cache").iterdir())


@pytest.mark.parametrize("answer", ["{'a': '1', 'b': '2'}", """'{"a": "1", "b": "2"}'"""])
def test_keys_of_a_dictionary_or_of_json(own: Own, ask: Ask, answer: str) -> None:
    own.write(f"return [{answer}]")
    assert [ask(f"lookup://{own.name}/x#{key}") for key in "ab"] == ["1", "2"]
    assert own.asked == ["x"]
    assert "has no field 'c'; it has 'a', 'b'" in refusal(ask, f"lookup://{own.name}/x#c")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"return [{{'a': '{CANARY}'}}]", "the answer of the lookup plugin NAME is not text"),
        ("return [5]", "the answer of the lookup plugin NAME is not text"),
        (f"return ['{CANARY}', '{CANARY}']", "the lookup plugin NAME gave 2 values, not one"),
        ("return []", "the lookup plugin NAME gave 0 values, not one"),
        (f"return '{CANARY}'", "the lookup plugin NAME gave no list of values, not one"),
        ("return ['']", "is empty"),
        (
            f"raise AnsibleError('{CANARY}')",
            "the lookup plugin NAME failed (AnsibleError). Call it in a task of its own to see what it says",
        ),
        (f"return [{{}}['{CANARY}']]", "the lookup plugin NAME failed (KeyError). Call it in a task of its own"),
        (f"return [b'{CANARY}']", "the lookup plugin NAME failed (TypeError). Call it in a task of its own"),
    ],
)
def test_what_is_no_value_is_told_without_it_and_asked_once(own: Own, ask: Ask, body: str, message: str) -> None:
    own.write(body)
    reference = f"lookup://{own.name}/x"
    for _host in range(2):
        assert refusal(ask, reference).startswith(f"{reference}: {message.replace('NAME', own.name)}")
    assert own.asked == ["x"]


def test_what_has_no_keys(own: Own, ask: Ask) -> None:
    own.write(f"return ['{CANARY}']")
    assert "is neither a dictionary nor a JSON object" in refusal(ask, f"lookup://{own.name}/x#key")


def test_a_plugin_that_is_not_there(ask: Ask) -> None:
    assert refusal(ask, "lookup://no_such_plugin/x") == (
        "lookup://no_such_plugin/x: there is no lookup plugin no_such_plugin; is its collection installed, or its file "
        "in lookup_plugins/ beside the playbook?"
    )
    assert "there is no lookup plugin no.such.plugin" in refusal(ask, "lookup://no.such.plugin/x")


def test_a_plugin_that_cannot_be_loaded(own: Own, ask: Ask) -> None:
    own.write("")
    (own.directory / f"{own.name}.py").write_text(f"raise ValueError('{CANARY}')")
    assert f"the lookup plugin {own.name} cannot be loaded (" in refusal(ask, f"lookup://{own.name}/x")


OPTIONS = """
options:
  region:
    default: none
    vars: [{name: own_region}]
    env: [{name: OWN_REGION}]
"""


def test_options_come_from_where_the_plugin_says(own: Own, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    own.write("return [self.get_option('region')]", OPTIONS)
    assert ask(f"lookup://{own.name}/default") == "none"
    monkeypatch.setenv("OWN_REGION", "environment")
    assert ask(f"lookup://{own.name}/environment") == "environment"
    assert ask(f"lookup://{own.name}/x", own_region=trust_as_template("{{ where }}"), where="here") == "here"


def test_a_host_with_other_options_is_served_another_secret(own: Own, ask: Ask) -> None:
    own.write("self.set_options(var_options=variables, direct=kwargs)\nreturn [self.get_option('region')]", OPTIONS)
    reference = f"lookup://{own.name}/x"
    assert [ask(reference, own_region=region) for region in ("a", "b", "a", "b")] == ["a", "b", "a", "b"]
    assert len(own.asked) == 2


def test_a_plugin_sees_no_other_variables(own: Own, ask: Ask) -> None:
    """A variable that is not part of the cache's key would serve one host the secret of another."""
    own.write("return [' '.join([*variables, *self._templar.available_variables])]", OPTIONS)
    assert ask(f"lookup://{own.name}/x", own_region="a", other="b") == "own_region own_region"


def test_a_variable_that_cannot_be_rendered(own: Own, ask: Ask) -> None:
    own.write("return ['x']", OPTIONS)
    message = refusal(ask, f"lookup://{own.name}/x", own_region=trust_as_template(f"{{{{ undefined('{CANARY}') }}}}"))
    assert f"a variable for the lookup plugin {own.name} cannot be rendered (" in message


BACK = """
from ansible.plugins.loader import lookup_loader
inner = lookup_loader.get('gatewayops.openai.secret', loader=self._loader, templar=self._templar)
return ['outer ' + inner.run([INNER], variables=variables)[0]]
"""


def test_a_plugin_may_come_back_to_us(own: Own, ask: Ask) -> None:
    inner = f"'lookup://{own.name}/inner'"
    own.write("if terms[0] == 'inner': return ['inner']" + BACK.replace("INNER", inner))
    assert ask(f"lookup://{own.name}/outer") == "outer inner"
    assert ask(f"lookup://{own.name}/inner") == "inner"
    assert own.asked == ["outer", "inner"], "what the inner call learned is not lost"


def test_a_plugin_that_asks_for_itself_is_an_error(own: Own, ask: Ask) -> None:
    own.write(BACK.replace("INNER", f"'lookup://{own.name}/x'"))
    assert f"the lookup plugin {own.name} failed (" in refusal(ask, f"lookup://{own.name}/x")
    assert own.asked == ["x"]


def test_where_lookups_cannot_be_had() -> None:
    with pytest.raises(SecretError, match="lookup://own/x: lookup plugins cannot be asked here"):
        SecretSession(SecretOptions()).resolve([Reference("lookup", "own/x")])
