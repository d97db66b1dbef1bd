"""Policies that users write, and the examples of docs/policies.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from spec_examples import changed

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SpecError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._compile import RefusedSpecError, parse_and_check
from ansible_collections.gatewayops.openai.plugins.plugin_utils._compile import parse_and_judge as judged

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTED = yaml.safe_load(
    next(
        block
        for block in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "policies.md").read_text(), re.DOTALL)
        if "gateway_policy_rules" in block
    )
)["gateway_policy_rules"]


def rule(that: Any, subject: str = "spec", **more: Any) -> dict[str, Any]:
    return {"for": subject, "that": that, "message": "is wrong", "fix": "mend it", **more}


def spec(rules: dict[str, Any], *changes: tuple[tuple[Any, ...], Any]) -> dict[str, Any]:
    return changed((("gateway_policy_rules",), rules), *changes)


def found(rules: dict[str, Any], *changes: tuple[tuple[Any, ...], Any]) -> list[tuple[str, str, str]]:
    """The rules of one's own that do not hold: name, severity and path."""
    findings = judged(spec(rules, *changes)).judgement.findings
    return [(each.rule, each.severity, each.path) for each in findings if each.rule in rules]


def problems(rules: dict[str, Any], *changes: tuple[tuple[Any, ...], Any]) -> list[str]:
    with pytest.raises(SpecError) as caught:
        judged(spec(rules, *changes))
    return str(caught.value).splitlines()


BATCH = {"api_keys": ["vault://kv/x#y"], "models": ["gpt-5"], "limits": {"requests_per_minute": 1}}


def test_the_examples_of_the_documentation() -> None:
    changes = [
        (("gateway_models", "gpt-5", "fallbacks"), []),
        (("gateway_consumers", "batch-eu"), BATCH),
        (("gateway_providers", "openai", "api_key"), "env://OPENAI_KEY"),
        (("gateway_providers", "vllm", "api_key"), "sk-canary"),
        (("gateway_policies", "plain_secret"), "off"),
    ]
    assert found(DOCUMENTED, *changes) == [
        ("batch_teams_have_a_daily_budget", "warn", "gateway_consumers.batch-eu"),
        ("chat_models_have_fallbacks", "deny", "gateway_models.gpt-5"),
        *(("keys_are_in_our_store", "deny", f"gateway_providers.{name}") for name in ("azure_eu", "openai", "vllm")),
    ]
    finding = next(each for each in judged(spec(DOCUMENTED, *changes)).judgement.findings if "fallbacks" in each.rule)
    assert str(finding) == (
        "gateway_models.gpt-5: has nobody to fall back to when its provider fails; name a fallback at another provider "
        "(policy chat_models_have_fallbacks)"
    )


@pytest.mark.parametrize(
    ("subject", "that"),
    [
        ("listeners", "listener.port == resource.port and name in spec.listeners"),
        ("providers", "provider.type in ['openai', 'azure_openai', 'openai_compatible', 'anthropic']"),
        (
            "models",
            [
                "model.targets | length > 0",
                "model.targets | map(attribute='provider') | list is subset(spec.providers)",
            ],
        ),
        ("endpoints", "endpoint.provider in spec.providers"),
        (
            "consumers",
            "consumer.limits.requests_per_minute is not defined or consumer.models is ansible.builtin.subset(['*'])",
        ),
        ("jwt_issuers", "jwt_issuer.issuer is match('https://')"),
        ("spec", "spec.size.concurrency >= 1 and spec.release_keep == 7 and spec.limits_scope == 'host'"),
        ("spec", "spec.max_request_size | ansible.builtin.human_to_bytes > 1000 and spec.otlp is defined"),
        ("spec", "spec.provider_regions | difference(['us-east-1']) == ['eu-west-1']"),
        ("spec", "(spec.models | dict2items | rejectattr('key', 'match', 'gpt-') | list | length) == 1"),
    ],
)
def test_what_conditions_see(subject: str, that: Any) -> None:
    assert [path for _rule, _severity, path in found({"mine": rule(that, subject)})] in (
        [],
        ["gateway_consumers.search-team"],
    )
    negated = [f"not ({each})" for each in ([that] if isinstance(that, str) else that)]
    assert found({"mine": rule(negated[0], subject)})


def test_the_workspace_is_its_name() -> None:
    rules = {"mine": rule("spec.workspace == 'production'", when="spec.workspace is defined")}
    assert found(rules) == []
    assert found(rules, (("gateway_workspace",), "production")) == []
    assert found(rules, (("gateway_workspace",), "staging")) == [("mine", "deny", "gateway_policy_rules.mine")]


@pytest.mark.parametrize(
    "reaching",
    ["'/etc/*' | fileglob", "'$HOME' | expandvars", "'~' | expanduser", "'/etc/x' | realpath", "'x' is vaulted_file"],
)
def test_nothing_outside_of_the_specification_can_be_asked(reaching: str) -> None:
    (told,) = problems({"mine": rule(reaching)})
    assert told.startswith("gateway_policy_rules.mine.that: is no Jinja expression: No ")


@pytest.mark.parametrize("text", ["(" * 900 + "1" + ")" * 900, "not " * 400 + "x", "x." + "a." * 400 + "a", "1" * 2000])
def test_a_condition_that_is_nested_too_deeply_is_a_problem_and_no_traceback(text: str) -> None:
    if text.isdigit():
        assert found({"mine": rule(text)}) == []
    else:
        assert len(problems({"mine": rule(text)})) == 1


def test_severities_and_exceptions_are_those_of_any_policy() -> None:
    rules = {"mine": rule("false", "models")}
    assert [severity for _rule, severity, _path in found(rules)] == ["deny", "deny"]
    assert [severity for _rule, severity, _path in found(rules, (("gateway_policies", "mine"), "warn"))] == ["warn"] * 2
    assert found(rules, (("gateway_policies", "mine"), False)) == []
    exception = {
        "policy": "mine",
        "path": "gateway_models.gpt-5",
        "owner": "ada@example.com",
        "reason": "soon",
        "expires": "2199-01-01T00:00Z",
    }
    judgement = judged(spec(rules, (("gateway_policy_exceptions",), [exception]))).judgement
    assert [each.path for each in judgement.findings if each.rule == "mine"] == [
        "gateway_models.text-embedding-3-small"
    ]
    assert [(each.path, made.owner) for each, made in judgement.excepted] == [
        ("gateway_models.gpt-5", "ada@example.com")
    ]


def test_off_is_not_asked_but_read() -> None:
    assert found({"mine": rule("nonsense.x", severity="off")}) == []
    assert problems({"mine": rule("1 +", severity="off")})[0].startswith("gateway_policy_rules.mine.that: is no Jinja")


def test_every_condition_that_cannot_be_asked_is_told() -> None:
    told = problems(
        {
            "absent": rule("model.price.input > 1", "models"),
            "broken": rule("1 +"),
            "filter": rule(["true", "1 | nosuch"]),
            "lookup": rule("lookup('env', 'HOME')"),
            "other_variable": rule("ansible_user == 'x'"),
            "python": rule("''.__class__.__mro__"),
            "selected": rule("true", "consumers", when="consumer.nosuch"),
            "wrong_type": rule("spec.models > 1"),
        },
        (("gateway_models", "gpt-5", "price"), None),
    )
    assert [line.split(": ")[0] for line in told] == [
        f"gateway_policy_rules.{place}"
        for place in (
            "absent.that",
            "broken.that",
            "filter.that[1]",
            "lookup.that",
            "other_variable.that",
            "python.that",
            "selected.when",
            "wrong_type.that",
        )
    ]
    assert told[0].endswith(
        "cannot be asked of gateway_models.gpt-5 and 1 more: 'dict object' has no attribute 'price'"
    )
    assert told[3].endswith("cannot be asked: 'lookup' is undefined")
    assert "of gateway_consumers.batch and 1 more: 'dict object' has no attribute 'nosuch'" in told[6]


def test_no_secret_is_seen() -> None:
    shown = rule("(spec.providers.vllm.api_key, spec.providers.openai.api_key) == 1 or spec.nosuch[spec.providers]")
    told = problems(
        {"mine": shown},
        (("gateway_providers", "vllm", "api_key"), "sk-canary"),
        (("gateway_policies", "plain_secret"), "off"),
    )
    assert "canary" not in "".join(told)
    same = rule("spec.providers.vllm.api_key == '(literal)'")
    literal = ((("gateway_providers", "vllm", "api_key"), "sk-canary"), (("gateway_policies", "plain_secret"), "off"))
    assert found({"mine": same}, *literal) == []


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"tls_version": rule("true")}, "gateway_policy_rules.tls_version: is the name of a policy that is built in"),
        ({"Mine": rule("true")}, "gateway_policy_rules.Mine: 'Mine' must be a name of small letters"),
        (
            {"mine": rule("{{ true }}")},
            "gateway_policy_rules.mine.that: '{{ true }}' must be a Jinja expression without",
        ),
        ({"mine": rule(True)}, "gateway_policy_rules.mine.that: must be a string, but YAML reads it as a boolean"),
        ({"mine": rule([])}, "gateway_policy_rules.mine.that: needs at least one condition"),
        ({"mine": rule("true", "model")}, "gateway_policy_rules.mine.for: 'model' is not one of listeners, providers"),
        ({"mine": {"for": "spec", "that": "true"}}, "gateway_policy_rules.mine.message: is required"),
    ],
)
def test_a_rule_that_is_written_wrongly(rules: dict[str, Any], message: str) -> None:
    assert problems(rules)[0].startswith(message)


def test_it_refuses_the_specification_like_any_other_policy() -> None:
    with pytest.raises(RefusedSpecError, match="breaks policies in 1 place; nothing was changed"):
        parse_and_check(spec({"mine": rule("spec.size.name == 'large'")}))
    with pytest.raises(RefusedSpecError, match="has 1 error; nothing was changed"):
        parse_and_check(spec({"mine": rule("spec.sizes.name == 'large'")}))
