from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.markdown import render_promotion_markdown
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.promotion import (
    Promotion,
    promotion,
    promotion_document,
    render_promotion,
)

TARGET: dict[str, Any] = {
    "gateway_models.gpt-5": {"targets": [{"provider": "a", "model": "gpt-5"}]},
    "gateway_models.only-here": {"targets": [{"provider": "a", "model": "x"}]},
    "gateway_providers.a": {"base_url": ["https://a.prod.example/v1"], "api_key": "vault://prod/a#key"},
    "gateway_consumers.search": {"api_keys": ["vault://prod/s#1", "env://B"], "limits": {"requests_per_minute": 600}},
    "gateway_size": {"name": "large"},
    "gateway_workspace": {"name": "production"},
}
SOURCE: dict[str, Any] = {
    "gateway_models.gpt-5": {"targets": [{"provider": "a", "model": "gpt-5.1"}]},
    "gateway_models.new": {"targets": [{"provider": "a", "model": "new"}]},
    "gateway_providers.a": {"base_url": ["https://a.staging.example/v1"], "api_key": "vault://staging/a#key"},
    "gateway_consumers.search": {"api_keys": ["vault://staging/s#1"], "limits": {"requests_per_minute": 60}},
    "gateway_size": {"name": "small"},
    "gateway_workspace": {"name": "staging"},
}


def found(*expected: str) -> Promotion:
    return promotion("staging", "production", before=TARGET, after=SOURCE, expected=expected)


def fields(changes: tuple[Any, ...]) -> dict[str, list[str]]:
    return {change.address: [field.path for field in change.fields] for change in changes}


def test_sizes_hosts_and_references_are_meant_to_differ() -> None:
    assert fields(found().brings) == {
        "gateway_consumers.search": ["limits.requests_per_minute"],
        "gateway_models.gpt-5": ["targets[0].model"],
        "gateway_models.new": ["targets"],
        "gateway_models.only-here": ["targets"],
    }
    assert fields(found().meant) == {
        "gateway_consumers.search": ["api_keys"],
        "gateway_providers.a": ["api_key", "base_url"],
        "gateway_size": ["name"],
        "gateway_workspace": ["name"],
    }
    assert found().summary == "Promotion: 1 to add, 2 to change, 1 to remove; 4 meant to differ"


def test_a_name_with_a_dot_is_not_below_another() -> None:
    before = {f"gateway_models.{name}": {"targets": [{"model": name}]} for name in ("gpt-5", "gpt-5.1")}
    after = {name: {"targets": [{"model": "new"}]} for name in before}
    both = promotion("a", "b", before=before, after=after, expected=["gateway_models.gpt-5"])
    assert (fields(both.brings), fields(both.meant)) == (
        {"gateway_models.gpt-5.1": ["targets[0].model"]},
        {"gateway_models.gpt-5": ["targets[0].model"]},
    )
    gone = promotion("a", "b", before=before, after={}, expected=["gateway_models.gpt-5"])
    assert fields(gone.brings) == {"gateway_models.gpt-5.1": ["targets"]}
    assert not promotion("a", "b", before=before, after={}, expected=["gateway_models"]).brings
    assert not promotion("a", "b", before=before, after={}, expected=["gateway_models.gpt-5*"]).brings


def test_a_comment_that_does_not_fit_says_where_the_rest_is() -> None:
    many = {f"gateway_models.m{number}": {"targets": ["x" * 50]} for number in range(2000)}
    text = render_promotion_markdown(promotion("a", "b", before={}, after=many))
    assert "more, see promote.json\n" in text
    assert len(text) < 65536


def test_certificates_and_networks_are_meant_to_differ() -> None:
    def there(name: str) -> dict[str, Any]:
        tls = {"certificate": f"/{name}.pem", "private_key": f"/{name}.key", "server_name": f"{name}.example"}
        firewall = {"metrics_from": [f"10.{len(name)}.0.0/16"], "others": "drop", "ports": [len(name)]}
        return {"gateway_providers.a": {"tls": tls}, "gateway_nftables": firewall}

    both = promotion("staging", "production", before=there("production"), after=there("staging"))
    assert fields(both.brings) == {"gateway_nftables": ["ports"]}
    assert fields(both.meant) == {
        "gateway_nftables": ["metrics_from"],
        "gateway_providers.a": ["tls.certificate", "tls.private_key", "tls.server_name"],
    }


@pytest.mark.parametrize(
    ("expected", "left"),
    [
        (["gateway_consumers.*.limits"], ["gateway_models.gpt-5", "gateway_models.new", "gateway_models.only-here"]),
        (["gateway_models.only-here", "gateway_models.new"], ["gateway_consumers.search", "gateway_models.gpt-5"]),
        (
            ["gateway_models.gpt-5.targets"],
            ["gateway_consumers.search", "gateway_models.new", "gateway_models.only-here"],
        ),
        (["gateway_models", "gateway_consumers"], []),
    ],
)
def test_what_else_is_meant_to_differ_is_a_choice(expected: list[str], left: list[str]) -> None:
    assert [change.address for change in found(*expected).brings] == left


def test_a_secret_that_becomes_a_literal_is_not_meant() -> None:
    after = {**TARGET, "gateway_providers.a": {**TARGET["gateway_providers.a"], "api_key": "(literal)"}}
    brings = promotion("a", "b", before=TARGET, after=after).brings
    assert fields(brings) == {"gateway_providers.a": ["api_key"]}


def test_environments_that_are_alike() -> None:
    same = promotion("staging", "production", before=TARGET, after=TARGET)
    assert render_promotion(same) == "No differences"
    assert render_promotion_markdown(same) == "### staging → production: No differences\n\n"
    assert not promotion_document(same)["applyable"]


def test_the_forms_of_it() -> None:
    text = render_promotion(found())
    assert text.startswith("To be as staging is, production would change:\n  ~ gateway_consumers.search\n")
    assert "Meant to differ:\n  ~ gateway_consumers.search\n      api_keys: -vault://prod/s#1 -env://B" in text
    comment = render_promotion_markdown(found())
    assert "- 🔴 `gateway_models.only-here`: requests for it are answered 404 from then on" in comment
    assert comment.index("gateway_models.new") < comment.index("<summary>Meant to differ</summary>")
    document = promotion_document(found())
    assert (document["from"], document["to"], document["applyable"]) == ("staging", "production", True)
    assert [change["action"] for change in document["changes"]] == ["update", "update", "create", "delete"]
    assert document["expected"][0]["fields"][0]["path"] == "api_keys"
