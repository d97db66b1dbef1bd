from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import (
    HostPath,
    Literal,
    Reference,
    Source,
    SourceError,
    parse_source,
    source_text,
)

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/openai-AbCdEf"
UUID = "3f9c2f0e-0000-4000-8000-00000000000a"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vault://kv/providers/openai#api_key", Reference("vault", "kv/providers/openai", "api_key")),
        ("vault://kv/a#b?version=12", Reference("vault", "kv/a", "b", 12)),
        ("vault://team/kv/deep/path#with-dash.and.dot", Reference("vault", "team/kv/deep/path", "with-dash.and.dot")),
        ("aws-sm://prod/openai", Reference("aws-sm", "prod/openai")),
        ("aws-sm://prod/a_b+c=d.e@f-g#api_key", Reference("aws-sm", "prod/a_b+c=d.e@f-g", "api_key")),
        ("aws-sm://openai#key?stage=AWSPREVIOUS", Reference("aws-sm", "openai", "key", "stage=AWSPREVIOUS")),
        (f"aws-sm://openai?version_id={UUID}", Reference("aws-sm", "openai", None, f"version_id={UUID}")),
        (f"aws-sm://{ARN}#key?stage=a", Reference("aws-sm", ARN, "key", "stage=a")),
        ("env://OPENAI_API_KEY", Reference("env", "OPENAI_API_KEY")),
        ("file:///run/keys/openai", Reference("file", "/run/keys/openai")),
        ("file:///run/keys/all keys.json#openai", Reference("file", "/run/keys/all keys.json", "openai")),
        (
            "lookup://community.general.onepassword/OpenAI key?#api_key",
            Reference("lookup", "community.general.onepassword/OpenAI key?", "api_key"),
        ),
        ("lookup://own/https://a/b", Reference("lookup", "own/https://a/b")),
        ("sk-0123/with+every=kind", Literal("sk-0123/with+every=kind")),
        ("/not/a/path/here", Literal("/not/a/path/here")),
    ],
)
def test_sources_of_keys(text: str, expected: Source) -> None:
    assert parse_source(text, allow_path=False) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vault://kv/tls#key", Reference("vault", "kv/tls", "key")),
        ("/etc/ssl/gateway.pem", HostPath("/etc/ssl/gateway.pem")),
        (PEM, Literal(PEM)),
    ],
)
def test_sources_of_certificates(text: str, expected: Source) -> None:
    assert parse_source(text, allow_path=True) == expected


VAULT = "vault:// references are written vault://MOUNT/PATH#FIELD[?version=N]"
AWS = "aws-sm:// references are written aws-sm://NAME[#JSON_KEY][?stage=STAGE|?version_id=ID]"
ENV = "env:// references are written env://NAME"
FILE = "file:// references are written file:///PATH[#JSON_KEY]"
LOOKUP = "lookup:// references are written lookup://PLUGIN/TERM[#JSON_KEY]"
PATH = "a path must be absolute, printable and without '#', '.', '..' and '//'"
LITERAL = "a literal key must be printable ASCII without spaces or line breaks"
KNOWN = "unknown kind of reference; known: vault://, aws-sm://, env://, file://, lookup://"
CERTIFICATE = (
    "must be a reference such as vault://MOUNT/PATH#FIELD[?version=N], an absolute path on the host, or PEM text"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vault://kv/a", VAULT),
        ("vault://kv#field", VAULT),
        ("vault://kv/#field", VAULT),
        ("vault:///kv/a#field", VAULT),
        ("vault://kv//a#field", VAULT),
        ("vault://kv/../a#field", VAULT),
        ("vault://kv/a#", VAULT),
        ("vault://kv/a#b#c", VAULT),
        ("vault://kv/a?version=1#b", VAULT),
        ("vault://kv/a#b?version=0", VAULT),
        ("vault://kv/a#b?version=latest", VAULT),
        ("vault://kv/a#b?", VAULT),
        ("vault://kv/a b#c", VAULT),
        ("vault://kv/a#b\n", VAULT),
        ("env://", ENV),
        ("env://1X", ENV),
        ("env://A-B", ENV),
        ("env://A\n", ENV),
        ("file://run/key", FILE),
        ("file:///run/key#", FILE),
        ("file:///run/key#a#b", FILE),
        ("file:///run/../key", FILE),
        ("file:///", FILE),
        ("file:///run/key/..", FILE),
        ("aws-sm://", AWS),
        ("aws-sm://a b", AWS),
        ("aws-sm://a#", AWS),
        ("aws-sm://a#b#c", AWS),
        ("aws-sm://a:b", AWS),
        (f"aws-sm://{ARN.replace('123456789012', '123')}", AWS),
        ("aws-sm://" + "a" * 520, AWS),
        ("aws-sm://a?stage=", AWS),
        ("aws-sm://a?stage=b?stage=c", AWS),
        ("aws-sm://a?version_id=short", AWS),
        (f"aws-sm://a?stage=b&version_id={UUID}", AWS),
        ("aws-sm://a?version=1", AWS),
        ("lookup://own", LOOKUP),
        ("lookup://own/", LOOKUP),
        ("lookup:///term", LOOKUP),
        ("lookup://a..b/term", LOOKUP),
        ("lookup://9/term", LOOKUP),
        ("lookup://own/term#", LOOKUP),
        ("lookup://own/term\n", LOOKUP),
        ("aws-ms://a", KNOWN + "; did you mean 'aws-sm://'?"),
        ("vaul://kv/a#b", KNOWN + "; did you mean 'vault://'?"),
        ("VAULT://kv/a#b", KNOWN + "; did you mean 'vault://'?"),
        ("https://example.org", KNOWN),
        ("two words", LITERAL),
        ("key\n", LITERAL),
        ("schlüssel", LITERAL),
    ],
)
def test_what_is_no_source_of_a_key(text: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_source(text, allow_path=False)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [("relative/path.pem", CERTIFICATE), ("MIIB", CERTIFICATE), ("/etc//x", PATH), ("/etc/x\n", PATH), ("/", PATH)],
)
def test_what_is_no_source_of_a_certificate(text: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_source(text, allow_path=True)
    assert str(caught.value) == message


def test_a_literal_is_never_shown() -> None:
    literal = Literal("sk-canary")
    assert "canary" not in repr(literal) + str(literal) + source_text(literal)
    assert source_text(literal) == "(literal)"


@given(st.text(), st.booleans())
def test_any_text_is_a_source_or_an_error_and_a_source_is_written_as_it_was(text: str, allow_path: bool) -> None:
    try:
        source = parse_source(text, allow_path=allow_path)
    except SourceError:
        return
    if isinstance(source, Literal):
        assert source.value == text
    else:
        assert source_text(source) == text


_segments = st.text("abcXYZ019_-.", min_size=1, max_size=8).filter(lambda text: text not in (".", ".."))


@given(st.lists(_segments, min_size=2, max_size=5), _segments, st.none() | st.integers(1, 999999999))
def test_a_vault_reference_parses_to_what_it_was_made_of(path: list[str], field: str, version: int | None) -> None:
    reference = Reference("vault", "/".join(path), field, version)
    assert parse_source(reference.text, allow_path=False) == reference


_fields = st.none() | _segments
_names = st.text("abcXYZ019/_+=.@-", min_size=1, max_size=20)
_versions = st.none() | st.text("abcXYZ019_-", min_size=1, max_size=20).map("stage={}".format)


@given(st.sampled_from(("", ARN)), _names, _fields, _versions | st.uuids().map("version_id={}".format))
def test_an_aws_reference_parses_to_what_it_was_made_of(
    arn: str, name: str, field: str | None, version: str | None
) -> None:
    reference = Reference("aws-sm", arn + name, field, version)
    assert parse_source(reference.text, allow_path=False) == reference


@given(
    st.from_regex(r"[a-z_][a-z0-9_]{0,5}(\.[a-z_]{1,5}){0,2}", fullmatch=True),
    st.text(min_size=1).filter(lambda text: text.isprintable() and "#" not in text),
    _fields,
)
def test_a_lookup_reference_parses_to_what_it_was_made_of(plugin: str, term: str, field: str | None) -> None:
    reference = Reference("lookup", f"{plugin}/{term}", field)
    assert parse_source(reference.text, allow_path=True) == reference
