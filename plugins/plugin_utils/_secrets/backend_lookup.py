# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``lookup://PLUGIN/TERM[#JSON_KEY]``: whatever a lookup plugin of Ansible can read, one of your own included.

Each term is looked up once in a run, and what came of it goes into the run's cache, refusals included. What a plugin
may know besides the term is therefore part of the cache's key: the variables that its documentation says options come
from. It is given no others, for then one host could be served what another's variables made of the same term.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from ansible.plugins.loader import lookup_loader
from ansible.template import Templar

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.fields import field_of


@dataclass(frozen=True)
class Surroundings:
    """What a lookup finds around it: the loader of files, and the templar and the variables of the task."""

    loader: Any
    templar: Any
    variables: Mapping[str, Any]


class LookupBackend:
    """Asks lookup plugins for one run."""

    #: The terms that this process is looking up: a plugin may come back to us, but not for what it is asked itself.
    _asked: ClassVar[list[str]] = []

    def __init__(self, surroundings: Surroundings, cache: RunCache) -> None:
        self._surroundings = surroundings
        self._cache = cache
        self._name = cache.name("lookup")

    def fetch(self, references: Sequence[Reference]) -> Mapping[Reference, str | SecretError]:
        """The text of each answer, or of the JSON key that is named, or why there is none."""
        return {reference: self._value(reference) for reference in references}

    def _value(self, reference: Reference) -> str | SecretError:
        name, _separator, term = reference.location.partition("/")
        try:
            known = self._known(name, term)
        except SecretError as error:
            return SecretError(f"{reference.text}: {error}")
        except OSError as error:
            return SecretError(f"{reference.text}: the cache of this run cannot be written: {error.strerror}")
        if "error" in known:
            return SecretError(f"{reference.text}: {known['error']}")
        where = f"the answer of the lookup plugin {name}"
        answer = known["answer"]
        if reference.field is None:
            return answer if isinstance(answer, str) else SecretError(f"{reference.text}: {where} is not text")
        try:
            document = json.loads(answer) if isinstance(answer, str) else answer
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            return SecretError(f"{reference.text}: {where} is neither a dictionary nor a JSON object")
        return field_of(reference, document, where)

    def _known(self, name: str, term: str) -> Mapping[str, Any]:
        """What came of the term in this run. Raises SecretError for what is not worth remembering, and OSError."""
        plugin, given = self._plugin(name)
        key = json.dumps([name, term, self._surroundings.loader.get_basedir(), given], sort_keys=True, default=str)
        known = self._cache.load(self._name)
        if key not in known:
            if key in self._asked:
                raise SecretError(f"the lookup plugin {name} asks for this very reference")
            with self._turn(key):
                known = self._cache.load(self._name)
                if key not in known:
                    learned = _ask(plugin, name, term, given)
                    # The plugin may have come back to us, so what there is now is not what there was before.
                    known = {**self._cache.load(self._name), key: learned}
                    self._cache.publish(self._name, known)
        found: Mapping[str, Any] = known[key]
        return found

    @contextmanager
    def _turn(self, key: str) -> Iterator[None]:
        """Hold the lock of all lookups; a plugin that comes back to us is in a process that holds it already."""
        self._asked.append(key)
        try:
            if len(self._asked) > 1:
                yield
            else:
                with self._cache.lock(self._name):
                    yield
        finally:
            self._asked.pop()

    def _plugin(self, name: str) -> tuple[Any, dict[str, Any]]:
        """The plugin, and the variables that its options come from. Raises SecretError."""
        around = self._surroundings
        try:
            plugin = lookup_loader.get(name, loader=around.loader)
        except Exception as error:
            raise SecretError(f"the lookup plugin {name} cannot be loaded ({type(error).__name__})") from None
        if plugin is None:
            raise SecretError(
                f"there is no lookup plugin {name}; is its collection installed, or its file in lookup_plugins/ beside "
                "the playbook?"
            )
        options = plugin.option_definitions.values()
        wanted = {entry["name"] for option in options for entry in option.get("vars") or ()}
        try:
            given = {each: around.templar.template(around.variables[each]) for each in wanted & {*around.variables}}
        except Exception as error:
            text = f"a variable for the lookup plugin {name} cannot be rendered ({type(error).__name__})"
            raise SecretError(text) from None
        # A templar of its own: a plugin may replace the variables of the one it has.
        plugin._templar = Templar(loader=around.loader, variables=given)
        return plugin, given


def _ask(plugin: Any, name: str, term: str, given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        plugin.set_options(var_options=dict(given), direct={})
        answers = plugin.run([term], variables=dict(given))
        # To plain JSON and back, for the values have types of Ansible.
        answers = json.loads(json.dumps(answers))
    except Exception as error:
        # Its words, and those of the exceptions in it, may quote the secret.
        kind = type(error).__name__
        return {"error": f"the lookup plugin {name} failed ({kind}). Call it in a task of its own to see what it says"}
    if not isinstance(answers, list) or len(answers) != 1:
        count = len(answers) if isinstance(answers, list) else "no list of"
        return {"error": f"the lookup plugin {name} gave {count} values, not one"}
    return {"answer": answers[0]}
