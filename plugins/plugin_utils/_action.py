# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the actions of a gateway have in common: where their options come from, and how they fail.

An option is an argument of the task, or else the variable of the same name with `gateway_` before it: `models` is
`gateway_models`. So a playbook states nothing twice, and `ansible gateways -m gatewayops.openai.gateway_verify` works
with nothing but an inventory.
"""

from __future__ import annotations

import copy
import difflib
import getpass
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible.template import Templar

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host, host_to_options
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.table import LAYERS, variables
from ansible_collections.gatewayops.openai.plugins.plugin_utils._host_options import HOST_OPTIONS, host_from
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.backend_lookup import Surroundings
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import (
    PREFIXES,
    action_argument_spec,
    action_options,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession
from ansible_collections.gatewayops.openai.plugins.plugin_utils._task import failure, pipeline

PREFIX = "gateway_"
#: How much a variable's name has to be like that of an option to be taken for a misspelling.
_ALIKE = 0.8
#: The hosts that share the limits of consumers, but for those of other workspaces.
GROUP = "gateways"
_WORKSPACE_OPTION = "workspace"
#: The options that make up a spec. They go to its parser as they are, which tells more of what is wrong with them.
SPEC_OPTIONS = tuple(name.removeprefix(PREFIX) for name in (*(field.key for field in variables()), *LAYERS))


class OptionsError(GatewayError):
    """The options of an action are wrong, or a variable that they come from cannot be rendered."""


class _Unshown(dict[str, Any]):
    """Arguments of a module: with ANSIBLE_DEBUG, Ansible prints what it called a module with."""

    def __repr__(self) -> str:
        return "(arguments are not shown)"


class GatewayAction(ActionBase):
    """An action on a gateway; `act` does the work."""

    #: The argument spec of the options beside those of the spec.
    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: The variables that options come from, where it is not the one with `gateway_` before the option's name.
    VARIABLES: ClassVar[Mapping[str, str]] = {}
    #: Envoy's path where none is given. Only for an action to which it makes no difference, such as one that looks.
    ENVOY: ClassVar[str | None] = None

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self.variables = task_vars or {}
        try:
            return self.act()
        except GatewayError as error:
            return failure(error)

    @abstractmethod
    def act(self) -> dict[str, Any]:
        """Do the work. Returns the task's result, raises GatewayError."""

    def call(self, module: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Run a module of the collection on the host and return its answer, which may be a failure."""
        self._keep_arguments_off_the_disk()
        answer: dict[str, Any] = self._execute_module(
            f"gatewayops.openai.{module}", module_args=_Unshown(arguments), task_vars=self.variables
        )
        # It repeats the arguments, which are large, and whose secrets are masked but no news.
        answer.pop("invocation", None)
        return answer

    def _keep_arguments_off_the_disk(self) -> None:
        """Secrets must not be in a file on the host, not even for a moment; where they have to be, say so."""
        pipeline(self._connection)
        if not self._is_pipelining_enabled("new"):
            self._display.warning(
                "secrets pass through temporary files on the controller and the host, since pipelining is not "
                "possible: the connection or become plugin cannot do it, or ANSIBLE_KEEP_REMOTE_FILES is set"
            )

    def warn_of_misspelled(self) -> None:
        """Warn of variables that nothing reads and that look like one that something does.

        At once, since it may be why the specification is wrong.
        """
        known = {*SPEC_OPTIONS, *HOST_OPTIONS}
        given = {name.removeprefix(PREFIX) for name in self.variables if name.startswith(PREFIX)}
        for name in sorted(given - known):
            for alike in difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE):
                self._display.warning(
                    f"{PREFIX}{name}: the collection has no such variable; did you mean {PREFIX}{alike}?"
                )

    @cached_property
    def raw_spec(self) -> dict[str, Any]:
        """The spec as it is given, by the names of the variables. Raises OptionsError for a host elsewhere."""
        raw = {PREFIX + name: value for name, value in self._given(SPEC_OPTIONS).items()}
        self._check_host(raw.get(PREFIX + _WORKSPACE_OPTION))
        return raw

    def _check_host(self, workspace: object) -> None:
        host = self.variables.get("inventory_hostname")
        if host not in self._group(workspace, (host,)):
            raise OptionsError(
                f"gateway_workspace: {host} is not in the group '{workspace}', so it does not serve that workspace; "
                "nothing was changed"
            )

    def _group(self, name: object, otherwise: Sequence[Any]) -> Sequence[Any]:
        """The hosts of a workspace: those of the group of its name, where there is one."""
        found: Sequence[Any] = self.variables.get("groups", {}).get(str(name), otherwise)
        return found

    @property
    def fleet(self) -> tuple[str, ...]:
        """The hosts of the environment: those of the group `gateways` that are of this host's workspace."""
        members = self._group(GROUP, ())
        ours = set(self._group(self._given([_WORKSPACE_OPTION]).get(_WORKSPACE_OPTION), members))
        return tuple(host for host in members if host in ours)

    def elsewhere(self, variables: Mapping[str, Any]) -> GatewayAction:
        """This action as it would be with the variables of another host, which is not touched."""
        other = copy.copy(self)
        other.__dict__.pop("raw_spec", None)
        other.variables = dict(variables)
        other._templar = Templar(loader=self._loader, variables=other.variables)
        return other

    def host_options(self) -> dict[str, Any]:
        """The options that say what the host looks like, as they are given."""
        return self._validated(HOST_OPTIONS, self._given(HOST_OPTIONS))

    def host(self, options: Mapping[str, Any]) -> Host:
        """The Host that the options describe; raises HostOptionsError."""
        given = {name: value for name, value in options.items() if value is not None}
        defaults = {"envoy": self.ENVOY, "fleet_size": len(self.fleet) or 1}
        return host_from({**defaults, **given}, login=self._login())

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine."""
        return getattr(self._connection, "transport", "") == "local"

    @property
    def port(self) -> int:
        """The port of the host that the controller connects to, as far as Ansible knows it."""
        return int(self._play_context.port or 22)

    def _login(self) -> str:
        """Who the controller is on the host."""
        return (not self.is_local and self._play_context.remote_user) or getpass.getuser()

    def session(self) -> SecretSession:
        """The stores, as this task's options and variables say how to reach them."""
        options = action_options(self._task.args, self.variables, self._templar)
        return SecretSession(options, surroundings=Surroundings(self._loader, self._templar, self.variables))

    def options(self) -> dict[str, Any]:
        """The value of every option in OPTIONS, None for one that is not given and has no default."""
        others = {name: value for name, value in self._task.args.items() if name not in SPEC_OPTIONS}
        known = dict(self.OPTIONS)
        if any(name.startswith(PREFIXES) for name in others):
            # Only whether they exist is checked here: the session reads them, from more places than these.
            known.update(action_argument_spec())
        validated = self._validated(known, {**others, **self._given(self.OPTIONS)})
        return {name: validated.get(name) for name in self.OPTIONS}

    def _validated(self, known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        validated = ArgumentSpecValidator(dict(known)).validate(dict(given))
        if validated.error_messages:
            raise OptionsError("\n".join(validated.error_messages))
        found: dict[str, Any] = validated.validated_parameters
        return found

    def _given(self, names: Iterable[str]) -> dict[str, Any]:
        """The options among `names` that are given, as arguments or variables. Raises OptionsError with all errors."""
        given: dict[str, Any] = {}
        wrong = []
        for name in names:
            variable = self.VARIABLES.get(name, PREFIX + name)
            if name in self._task.args:
                given[name] = self._task.args[name]
            elif variable in self.variables:
                try:
                    given[name] = self.rendered(variable)
                except OptionsError as error:
                    wrong.append(str(error))
        if wrong:
            raise OptionsError("\n".join(wrong))
        return given

    def rendered(self, variable: str) -> Any:
        """The value of a variable. Raises OptionsError that names it when its template fails."""
        try:
            return self._templar.template(self.variables[variable])
        except AnsibleError as error:
            raise OptionsError(f"{variable}: {error.message}") from None


class HostAction(GatewayAction):
    """Run a module of the target; where the task does not say `host`, it is the one that options and variables say."""

    MODULE: ClassVar[str]

    def act(self) -> dict[str, Any]:
        return self.call(self.MODULE, self.arguments())

    def arguments(self) -> dict[str, Any]:
        """What the module is told: what the task says, and the host."""
        arguments = {name: value for name, value in self._task.args.items() if name not in HOST_OPTIONS}
        if "host" not in arguments:
            arguments["host"] = host_to_options(self.host(self._given(HOST_OPTIONS)))
        return arguments
