"""The model of the spec is the one source: of the parser, the schemas, the argument specs and the documentation."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from spec_examples import REMOVED, changed, every_key

from ansible_collections.gatewayops.openai.plugins.doc_fragments.spec import ModuleDocFragment
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SpecError
from ansible_collections.gatewayops.openai.plugins.module_utils._policy.rules import RULES
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import (
    ListOf,
    Named,
    Preset,
    Record,
    Severities,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.table import (
    LAYERS,
    SHARED,
    WORKSPACES,
    SpecField,
    fields_of,
    refused_keys,
    variables,
)

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "docs" / "schema"
VARIABLES = {field.key: field for field in variables()}
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.yml"))
INVENTORY_FILES = sorted((ROOT / "inventories").glob("*/group_vars/gateways/*.yml"))
ENVIRONMENTS = sorted({path.parents[2] for path in INVENTORY_FILES})
GOLDEN = sorted(ROOT.glob("tests/unit/**/cases/*/spec.yml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def parts(schema: jsonschema.Draft202012Validator) -> dict[str, Any]:
    assert isinstance(schema.schema, dict)
    return schema.schema


FILE = validator("gateway.schema.json")
LAYER = validator("gateway-layer.schema.json")


def complaints(schema: jsonschema.Draft202012Validator, document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in schema.iter_errors(document)]


def problems(raw: Any) -> list[str]:
    try:
        parse_spec(raw)
    except SpecError as error:
        return [str(problem) for problem in error.errors]
    return []


class TestGenerated:
    def tool(self, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(root / "tools" / "docs"), *arguments]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

    def test_what_is_committed_is_what_is_generated(self) -> None:
        done = self.tool(ROOT, "--check")
        assert done.returncode == 0, done.stdout + done.stderr

    def test_a_stale_file_is_told_and_written_again(self, tmp_path: Path) -> None:
        for name in ("tools/docs", "docs", "plugins", "roles"):
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        link = tmp_path / ".cache" / "collections" / "ansible_collections" / "gatewayops" / "openai"
        link.parent.mkdir(parents=True)
        link.symlink_to(tmp_path)
        model = tmp_path / "plugins" / "module_utils" / "_spec" / "model.py"
        text = model.read_text(encoding="utf-8")
        assert "default=9902" in text
        model.write_text(text.replace("default=9902", "default=9912"), encoding="utf-8")
        done = self.tool(tmp_path, "--check")
        assert done.returncode == 1
        assert "5 generated files are stale" in done.stdout
        assert '+          "default": 9912' in done.stdout
        assert self.tool(tmp_path).returncode == 0
        assert self.tool(tmp_path, "--check").returncode == 0
        assert "9912" in (tmp_path / "docs" / "spec.md").read_text(encoding="utf-8")


def stated_defaults(field: SpecField, option: dict[str, Any], nested: str) -> Iterator[tuple[SpecField, Any]]:
    """Yield each field that an option and its suboptions describe, with the default stated for it, or None."""
    yield field, option.get("default")
    if isinstance(field.kind, Record):
        assert set(option[nested]) == {inner.key for inner in fields_of(field.kind.type)}
        for inner in fields_of(field.kind.type):
            yield from stated_defaults(inner, option[nested][inner.key], nested)


def value_of(field: SpecField, written: Any) -> Any:
    """Return what a written default is in the model."""
    if written is None:
        return None
    return field.kind.named(written) if isinstance(field.kind, Preset) else field.kind.convert(written)  # type: ignore[attr-defined]


def has_scalar_default(field: SpecField) -> bool:
    return field.default not in (None, ()) and not isinstance(field.kind, (Record, Named, Severities))


class TestOptions:
    def test_the_fragment_describes_every_variable_with_its_default(self) -> None:
        options = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
        assert [f"gateway_{name}" for name in options] == [*VARIABLES, *LAYERS]
        for key, field in VARIABLES.items():
            for inner, written in stated_defaults(field, options[key.removeprefix("gateway_")], "suboptions"):
                assert value_of(inner, written) == (inner.default if has_scalar_default(inner) else None), inner.key

    def test_every_key_of_an_entry_is_described(self) -> None:
        options = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
        for key, field in VARIABLES.items():
            if isinstance(field.kind, (Named, Preset)):
                text = "\n".join(options[key.removeprefix("gateway_")]["description"])
                for path in keys_of(field.kind.type):
                    assert f"C({path})" in text

    def test_the_role_describes_every_variable_with_the_default_it_has(self) -> None:
        specs = load(ROOT / "roles" / "gateway" / "meta" / "argument_specs.yml")
        options = specs["argument_specs"]["main"]["options"]
        assert {*VARIABLES, *LAYERS} <= set(options)
        role = load(ROOT / "roles" / "gateway" / "defaults" / "main.yml")
        for key, field in VARIABLES.items():
            option = options[key]
            assert option.get("default") == role.get(key)
            if key in role:
                assert value_of(field, role[key]) == field.default
            elif has_scalar_default(field):
                shown = field.default.name if isinstance(field.kind, Preset) else field.kind.render(field.default)  # type: ignore[attr-defined]
                assert option["description"][-1] == f"Default V({shown})."
        assert options["gateway_vault_token"]["no_log"] is True
        assert options["gateway_vault_secret_id"]["no_log"] is True


# Those within an entry.
DICTIONARIES_OF_NAMES = {"limits.models"}
DICTIONARIES_OF_TEXTS = {"headers"}


def keys_of(record: Any, prefix: str = "") -> Iterator[str]:
    for field in fields_of(record):
        inner = field.kind.item if isinstance(field.kind, ListOf) else field.kind
        path = prefix + field.key
        if isinstance(inner, (Record, Named)):
            path += "[]" if isinstance(field.kind, ListOf) else ""
            yield from keys_of(inner.type, f"{path}.*." if isinstance(inner, Named) else f"{path}.")
        yield path


def records() -> Iterator[Any]:
    """Yield every record that a spec has."""
    waiting: list[Any] = [field.kind for field in variables()]
    for kind in waiting:
        if isinstance(kind, ListOf):
            waiting.append(kind.item)
        elif isinstance(kind, (Record, Named, Preset)):
            yield kind.type
            waiting += [field.kind for field in fields_of(kind.type)]


@pytest.mark.parametrize("schema", [FILE, LAYER], ids=["file", "layer"])
class TestSchema:
    def test_it_has_the_keys_of_the_model(self, schema: jsonschema.Draft202012Validator) -> None:
        assert set(parts(schema)["properties"]) == {*VARIABLES, *LAYERS}
        assert set(parts(schema)["properties"][SHARED]["properties"]) == set(VARIABLES)
        definitions = {name: value for name, value in parts(schema)["$defs"].items() if name != "template"}
        assert set(definitions) == {record.__name__.lower() for record in records()}
        for record in records():
            definition = definitions[record.__name__.lower()]
            assert set(definition["properties"]) == {field.key for field in fields_of(record)}
            assert definition["additionalProperties"] is False
            required = [field.key for field in fields_of(record) if field.required]
            assert definition.get("required", []) == (required if schema is FILE else [])

    def test_its_defaults_are_those_of_the_model(self, schema: jsonschema.Draft202012Validator) -> None:
        pairs = [(field, parts(schema)["properties"][field.key]) for field in variables()]
        for record in records():
            properties = parts(schema)["$defs"][record.__name__.lower()]["properties"]
            pairs += [(field, properties[field.key]) for field in fields_of(record)]
        for field, described in pairs:
            if has_scalar_default(field):
                assert value_of(field, described["default"]) == field.default
            else:
                assert described.get("default") in (None, [])

    def test_its_policies_are_the_rules(self, schema: jsonschema.Draft202012Validator) -> None:
        policies = parts(schema)["properties"]["gateway_policies"]["anyOf"][0]["properties"]
        assert {name: policy["default"] for name, policy in policies.items()} == {
            rule.name: rule.severity for rule in RULES
        }

    def test_a_template_may_stand_for_anything(self, schema: jsonschema.Draft202012Validator) -> None:
        templates = [changed((path, "{{ elsewhere }}")) for path in places_of(every_key())]
        assert [complaints(schema, raw) for raw in templates] == [[]] * len(templates)

    def test_other_variables_are_no_business_of_it(self, schema: jsonschema.Draft202012Validator) -> None:
        assert complaints(schema, {"ansible_user": "x", "gateway_vault_addr": "y"}) == []


def places_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in [(*path, key), *places_of(item, (*path, key))]]


PUBLIC = ("gateway_listeners", "public")
OPENAI, AZURE = ("gateway_providers", "openai"), ("gateway_providers", "azure_eu")
GPT = ("gateway_models", "gpt-5")
SEARCH = ("gateway_consumers", "search-team")
PEM = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"

GOOD: list[tuple[tuple[Any, ...], Any]] = [
    ((*PUBLIC, "port"), "8443"),
    ((*PUBLIC, "address"), "fd00::1"),
    (("gateway_listeners", "local", "tls"), None),
    ((*PUBLIC, "tls", "certificate"), PEM),
    ((*PUBLIC, "tls", "certificate"), "/etc/ssl/gateway.pem"),
    ((*PUBLIC, "tls", "private_key"), "file:///run/keys/gateway key.pem"),
    ((*PUBLIC, "tls", "min_version"), REMOVED),
    (("gateway_listeners", "local"), None),
    ((*OPENAI, "base_url"), ["https://a.example/v1/", "https://b.example:8443/v1"]),
    ((*OPENAI, "base_url"), "https://[fd00::1]:8000"),
    ((*OPENAI, "api_key"), "sk-literal/with+every=kind"),
    ((*OPENAI, "api_key"), "aws-sm://prod/openai#key?stage=AWSPREVIOUS"),
    ((*OPENAI, "api_key"), "aws-sm://arn:aws:secretsmanager:eu-west-1:123456789012:secret:openai-AbCdEf"),
    ((*OPENAI, "api_key"), "lookup://community.general.onepassword/OpenAI key#api_key"),
    ((*PUBLIC, "tls", "private_key"), "lookup://own/tls/gateway"),
    ((*OPENAI, "api_version"), None),
    ((*GPT, "targets", 0, "weight"), REMOVED),
    ((*GPT, "fallbacks"), []),
    ((*GPT, "timeouts"), {}),
    ((*GPT, "timeouts", "idle"), "1500ms"),
    ((*GPT, "price"), {"input": 0, "output": "10.5"}),
    ((*SEARCH, "limits"), None),
    ((*SEARCH, "limits", "models"), {}),
    ((*SEARCH, "limits", "models", "gpt-*"), {"requests_per_minute": "7"}),
    ((*SEARCH, "limits", "models", "gpt-5"), None),
    ((*SEARCH, "limits", "models", "gpt-5"), {"tokens_per_minute": 1}),
    ((*GPT, "limits"), {}),
    (("gateway_consumers",), REMOVED),
    (("gateway_consumers",), {}),
    (("gateway_size",), "large"),
    (("gateway_size",), {"concurrency": 1}),
    (("gateway_policies", "plain_secret"), False),
    (("gateway_policies", "plain_secret"), None),
    (("gateway_metrics",), {"address": "10.0.5.2"}),
    ((SHARED,), {"gateway_size": "small"}),
    ((WORKSPACES,), {"production": {"gateway_size": "small"}, "staging": None}),
]

BAD: list[tuple[tuple[Any, ...], Any]] = [
    ((*PUBLIC, "adress"), "::"),
    ((*PUBLIC, "port"), True),
    ((*PUBLIC, "port"), 0),
    ((*PUBLIC, "port"), 65536),
    ((*PUBLIC, "port"), 1.5),
    ((*PUBLIC, "port"), "https"),
    ((*PUBLIC, "port"), REMOVED),
    ((*PUBLIC, "port"), None),
    ((*PUBLIC, "address"), "localhost"),
    ((*PUBLIC, "tls", "client_ca"), "clients.pem"),
    *(
        ((*PUBLIC, "cors"), {"allow_origins": [origin]})
        for origin in (
            "*",
            "null",
            "https://*",
            "https://*.com",
            "https://*.*.example.com",
            "https://a.*.example.com",
            "https://app.example.com/",
            "https://App.example.com",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://user@app.example.com",
            "app.example.com",
            "ftp://app.example.com",
        )
    ),
    ((*PUBLIC, "cors"), {"allow_origins": []}),
    ((*PUBLIC, "cors"), {}),
    ((*PUBLIC, "cors"), {"allow_origins": ["https://a.example"], "allow_credentials": True}),
    ((*PUBLIC, "cors"), {"allow_origins": ["https://a.example"], "max_age": 600}),
    ((*PUBLIC, "tls", "min_version"), 1.2),
    ((*PUBLIC, "tls", "min_version"), "1.4"),
    ((*PUBLIC, "tls", "certificate"), "relative.pem"),
    ((*PUBLIC, "tls", "private_key"), REMOVED),
    (("gateway_listeners",), []),
    (("gateway_listeners", "two words"), {"address": "127.0.0.1", "port": 1}),
    (("gateway_listeners", "x" * 65), {"address": "127.0.0.1", "port": 1}),
    ((*OPENAI, "type"), "bedrock"),
    ((*OPENAI, "base_url"), "api.openai.com/v1"),
    ((*OPENAI, "base_url"), "https://user:password@api.openai.com/v1"),
    ((*OPENAI, "base_url"), "https://api.openai.com/v1?x=y"),
    ((*OPENAI, "base_url"), []),
    ((*OPENAI, "api_key"), "aws-sm://prod/openai#key?version=1"),
    ((*OPENAI, "api_key"), "aws-sm://prod:openai"),
    ((*OPENAI, "api_key"), "lookup://own"),
    ((*OPENAI, "api_key"), "vault://kv/providers/openai"),
    ((*OPENAI, "api_key"), "vault://kv/../openai#key"),
    ((*OPENAI, "api_key"), "vault://kv/openai#key?version=0"),
    ((*OPENAI, "api_key"), "env://NOT-A-NAME"),
    ((*OPENAI, "api_key"), "file://relative"),
    ((*OPENAI, "api_key"), "two words"),
    ((*OPENAI, "api_version"), "2024-10-21"),
    ((*AZURE, "api_version"), REMOVED),
    ((*AZURE, "api_version"), 2024),
    ((*GPT, "targets"), []),
    ((*GPT, "targets"), REMOVED),
    ((*GPT, "targets", 0), None),
    ((*GPT, "targets", 0, "model"), "two words"),
    ((*GPT, "targets", 0, "model"), 5),
    ((*GPT, "targets", 0, "weight"), -1),
    ((*GPT, "fallbacks", 0, "weight"), 1),
    ((*GPT, "timeouts", "idle"), 300),
    ((*GPT, "timeouts", "idle"), "300"),
    ((*GPT, "timeouts", "idle"), "5 m"),
    ((*GPT, "price", "input"), -1),
    ((*GPT, "price", "input"), REMOVED),
    (("gateway_models", "star*"), {"targets": [{"provider": "openai", "model": "x"}]}),
    ((*SEARCH, "api_keys"), "vault://kv/a#b"),
    ((*SEARCH, "api_keys"), []),
    ((*SEARCH, "models"), []),
    ((*SEARCH, "models", 0), "two words"),
    ((*SEARCH, "limits", "requests_per_minute"), 0),
    ((*SEARCH, "limits", "tokens_per_minute"), 0),
    ((*SEARCH, "limits", "tokens_per_day"), 0),
    ((*SEARCH, "limits", "models"), ["gpt-5"]),
    ((*SEARCH, "limits", "models", "two words"), {"requests_per_minute": 1}),
    ((*GPT, "limits", "requests_per_minute"), 0),
    ((*GPT, "limits", "tokens_per_minute"), 500000001),
    (("gateway_size",), "tiny"),
    (("gateway_size",), 4),
    (("gateway_size", "concurrency"), REMOVED),
    (("gateway_size", "memory_max"), "2GB"),
    (("gateway_size", "cpu_quota"), 400),
    (("gateway_limits_scope",), "world"),
    (("gateway_max_request_size",), 10485760),
    (("gateway_max_request_size",), "10MB"),
    (("gateway_release_keep",), 1),
    (("gateway_metrics", "prot"), 1),
    (("gateway_policies", "plain secret"), "off"),
    (("gateway_policies", "plain_secret"), "no"),
    ((*SEARCH, "limits", "models", "gpt-5"), {}),
    ((*SEARCH, "limits", "models", "gpt-5"), {"requests_per_minute": None}),
    ((*SEARCH, "limits", "concurrent_requests"), 5),
    ((*SEARCH, "limits", "models", "gpt-5", "concurrent_requests"), 5),
    ((*GPT, "limits", "concurrent_requests"), 0),
    ((*OPENAI, "concurrent_requests"), 100001),
    ((SHARED,), {"gateway_modles": {}}),
    ((WORKSPACES,), {"production": {"gateway_modles": {}}}),
    ((WORKSPACES,), {"production": []}),
    (("gateway_workspace",), "two words"),
]


@pytest.mark.parametrize("change", GOOD, ids=str)
def test_what_the_parser_takes_the_schema_takes(change: tuple[tuple[Any, ...], Any]) -> None:
    assert problems(changed(change)) == []
    assert complaints(FILE, changed(change)) == []


@pytest.mark.parametrize("change", BAD, ids=str)
def test_what_the_parser_refuses_the_schema_refuses(change: tuple[tuple[Any, ...], Any]) -> None:
    assert problems(changed(change))
    assert complaints(FILE, changed(change))


def test_every_refused_key_is_among_the_bad() -> None:
    refused = {key for record in records() for key in refused_keys(record)}
    assert refused <= {str(path[-1]) for path, _value in BAD}


values = st.sampled_from([value for _path, value in GOOD if value is not REMOVED]) | st.integers(0, 70000) | st.text()


@given(st.sampled_from(places_of(every_key())), values)
def test_the_schema_never_refuses_what_the_parser_takes(path: tuple[Any, ...], value: Any) -> None:
    raw = changed((path, value))
    if not problems(raw):
        assert complaints(FILE, raw) == []
        assert complaints(LAYER, raw) == []


class TestExamples:
    def test_there_are_some(self) -> None:
        assert EXAMPLES
        assert ENVIRONMENTS

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
    def test_an_example_fits_the_schema_that_it_names(self, path: Path) -> None:
        name = path.read_text(encoding="utf-8").partition("$schema=../schema/")[2].split()[0]
        assert complaints({"gateway.schema.json": FILE, "gateway-layer.schema.json": LAYER}[name], load(path)) == []

    def test_the_example_of_every_key_has_every_key_and_parses(self) -> None:
        example = load(ROOT / "docs" / "examples" / "gateway.yml")
        assert problems(example) == []
        assert list(example) == list(VARIABLES)
        for example_or_test in (example, every_key()):
            for key, field in VARIABLES.items():
                if isinstance(field.kind, (Named, Preset, Record)):
                    value = example_or_test[key]
                    entries = list(value.values()) if isinstance(field.kind, Named) else [value]
                    used = {path for entry in entries for path in paths_in(entry)}
                    assert set(keys_of(field.kind.type)) == used

    def test_the_layers_of_the_examples_parse_together(self) -> None:
        shared, staging = (load(ROOT / "docs" / "examples" / name) for name in ("shared.yml", "staging.yml"))
        spec = parse_spec({**shared, **staging})
        assert [model.name for model in spec.models] == ["gpt-5"]

    @pytest.mark.parametrize("path", INVENTORY_FILES, ids=lambda path: f"{path.parents[2].name}/{path.name}")
    def test_a_file_of_an_inventory_fits_the_schema(self, path: Path) -> None:
        assert complaints(LAYER, load(path)) == []

    @pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.name)
    def test_an_environment_parses(self, environment: Path) -> None:
        files = sorted(environment.glob("group_vars/gateways/*.yml"))
        values: dict[str, Any] = {key: value for path in files for key, value in load(path).items()}
        raw = {key: value for key, value in values.items() if key in (*VARIABLES, *LAYERS)}
        if "{{" in json.dumps(raw):
            raw = filled(raw)
        assert problems(raw) == []

    @pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
    def test_a_golden_case_fits_the_schema_and_parses(self, path: Path) -> None:
        # Options of the host stand beside the spec in these files.
        variables = {name: value for name, value in load(path).items() if name != "host"}
        assert complaints(FILE, variables) == []
        assert problems(variables) == []


def paths_in(value: Any, prefix: str = "") -> Iterator[str]:
    """Yield the paths of keys within an entry of an example, as `keys_of` writes them."""
    for key, item in value.items():
        if f"{prefix}{key}" in DICTIONARIES_OF_NAMES:
            yield f"{prefix}{key}"
            for entry in item.values():
                yield from paths_in(entry, f"{prefix}{key}.*.")
            continue
        if key in DICTIONARIES_OF_TEXTS:
            yield f"{prefix}{key}"
            continue
        entries = [entry for entry in item if isinstance(entry, dict)] if isinstance(item, list) else []
        path = f"{prefix}{key}[]" if entries else f"{prefix}{key}"
        yield path
        for entry in [item] if isinstance(item, dict) else entries:
            yield from paths_in(entry, f"{path}.")


def filled(value: Any, ports: Iterator[int] | None = None) -> Any:
    """Return a spec with a port in place of each template, as the demo has ports there."""
    ports = iter(range(20000, 30000)) if ports is None else ports
    if isinstance(value, dict):
        return {key: filled(item, ports) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, ports) for item in value]
    if isinstance(value, str) and "{{" in value:
        before, _open, rest = value.partition("{{")
        return f"{before}{next(ports)}{rest.partition('}}')[2]}"
    return value
