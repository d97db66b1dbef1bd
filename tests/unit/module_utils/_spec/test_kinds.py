from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import (
    Address,
    Choice,
    Integer,
    KindError,
    Number,
    Scalar,
    Text,
    byte_size,
    duration,
    percent,
    plain_text,
    show,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import MODEL_NAME, MODEL_PATTERN, NAME
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import Url


@pytest.mark.parametrize(
    ("kind", "written", "value", "rendered"),
    [
        (duration(), "120s", 120.0, "120s"),
        (duration(), "2m", 120.0, "120s"),
        (duration(), "1h", 3600.0, "3600s"),
        (duration(), "1500ms", 1.5, "1500ms"),
        (duration(), "24h", 86400.0, "86400s"),
        (byte_size(1), "512M", 512 * 1024**2, "512M"),
        (byte_size(1), "2G", 2 * 1024**3, "2G"),
        (byte_size(1), "2048M", 2 * 1024**3, "2G"),
        (byte_size(1), "1K", 1024, "1K"),
        (byte_size(1), "1T", 1024**4, "1T"),
        (percent(), "400%", 400, "400%"),
    ],
)
def test_units(kind: Scalar, written: str, value: float, rendered: str) -> None:
    converted = kind.convert(written)
    assert converted == value
    assert type(converted) is type(value)
    assert kind.render(converted) == rendered


@pytest.mark.parametrize(
    "written", ["", "s", "-1s", "1.5s", "1 s", "1s\n", "1S", "1min", "١s", "1e3s", "25h", True, 5, 5.0, []]
)
def test_what_is_no_duration(written: Any) -> None:
    with pytest.raises(KindError):
        duration().convert(written)


@pytest.mark.parametrize("written", ["2g", "2GiB", "2", 2, "1.5G", "0M", "63M", "9999999T"])
def test_what_is_no_amount_of_memory(written: Any) -> None:
    with pytest.raises(KindError):
        byte_size(64 * 1024**2).convert(written)


@pytest.mark.parametrize("written", ["0%", "%", "100", 100, "50.5%", "102401%"])
def test_what_is_no_share_of_processors(written: Any) -> None:
    with pytest.raises(KindError):
        percent().convert(written)


@given(st.integers(1, 86400000))
def test_every_duration_is_written_as_it_is_read(milliseconds: int) -> None:
    seconds = duration().convert(f"{milliseconds}ms")
    assert duration().convert(duration().render(seconds)) == seconds


@pytest.mark.parametrize(
    ("written", "address"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("FD00:0:0::1", "fd00::1"), ("0.0.0.0", "0.0.0.0"), ("::", "::")],
)
def test_addresses(written: str, address: str) -> None:
    assert Address().convert(written) == address


@pytest.mark.parametrize("written", ["localhost", "127.1", "[::1]", "fe80::1%eth0", "10.0.0.0/8", "", 2130706433, None])
def test_what_is_no_address(written: Any) -> None:
    with pytest.raises(KindError):
        Address().convert(written)


@pytest.mark.parametrize(
    ("written", "text", "parts"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1", ("https", "api.openai.com", 443, "/v1")),
        ("https://API.OpenAI.com:443/v1/", "https://api.openai.com/v1", ("https", "api.openai.com", 443, "/v1")),
        ("http://10.20.0.5:8000/v1", "http://10.20.0.5:8000/v1", ("http", "10.20.0.5", 8000, "/v1")),
        ("http://vllm_1", "http://vllm_1", ("http", "vllm_1", 80, "")),
        ("http://[FD00::1]:8000/", "http://[fd00::1]:8000", ("http", "fd00::1", 8000, "")),
        ("https://x.example/a/b%20c", "https://x.example/a/b%20c", ("https", "x.example", 443, "/a/b%20c")),
    ],
)
def test_urls(written: str, text: str, parts: tuple[Any, ...]) -> None:
    url = Url().convert(written)
    assert (url.scheme, url.host, url.port, url.path) == parts
    assert Url().render(url) == text
    assert Url().convert(text) == url


@pytest.mark.parametrize(
    "written",
    [
        "api.openai.com/v1",
        "ftp://x",
        "https://",
        "https:///v1",
        "https://x:0/",
        "https://x:65536/",
        "https://x//v1",
        "https://x/../v1",
        "https://user@x/",
        "https://x/?a=b",
        "https://x/#a",
        "https://[::1",
        "https://[zz]",
        "https://[1::2::3]/",
        "https://a b/",
        "https://x/v1\n",
        "https://-x/",
        "https://x.example/{{ y }}",
        "HTTPS://x",
        5,
    ],
)
def test_what_is_no_url(written: Any) -> None:
    with pytest.raises(KindError):
        Url().convert(written)


@given(st.text())
def test_any_text_is_a_url_or_an_error(text: str) -> None:
    try:
        url = Url().convert(text)
    except KindError:
        return
    assert Url().convert(url.text) == url


@pytest.mark.parametrize("name", ["gpt-5", "meta-llama/Llama-3.1-8B:free", "o1", "ft:gpt@x", "!#$%&()+,-./", "a" * 256])
def test_names_of_models(name: str) -> None:
    assert MODEL_NAME.convert(name) == name
    assert MODEL_PATTERN.convert(name) == name


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "a'b", "a\\b", "a\n", "a\tb", "\x7f", "modèle", "a" * 257])
def test_what_is_no_name_of_a_model(name: str) -> None:
    with pytest.raises(KindError):
        MODEL_NAME.convert(name)
    with pytest.raises(KindError):
        MODEL_PATTERN.convert(name)


def test_an_asterisk_is_for_patterns_only() -> None:
    assert MODEL_PATTERN.convert("text-*") == "text-*"
    with pytest.raises(KindError):
        MODEL_NAME.convert("text-*")


@pytest.mark.parametrize("name", ["", ".a", "-a", "_a", "a/b", "a b", "a\n", "ä", "a" * 65])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(KindError):
        NAME.convert(name)


def test_numbers() -> None:
    assert Integer(1, 10).convert("7") == 7
    assert Number().convert(3) == 3.0
    assert isinstance(Number().convert(3), float)
    for written in (0, 11, "0x1", "7.0", "-1", "7\n", 7.0, True, None, "9" * 400, 10**400):
        with pytest.raises(KindError):
            Integer(1, 10).convert(written)
    for number in (-0.1, float("nan"), float("inf"), True, "1e3", None, 10**400):
        with pytest.raises(KindError):
            Number().convert(number)


def test_values_in_messages_are_cut_and_printable() -> None:
    assert show("a\nb") == r"'a\nb'"
    assert len(show("x" * 1000)) == 60
    with pytest.raises(KindError) as caught:
        Choice(("one", "two")).convert("x" * 100000)
    assert len(str(caught.value)) < 200


class EncryptedText:
    """Like the values that older releases of ansible-core make of `!vault`."""

    __ENCRYPTED__ = True

    def __str__(self) -> str:
        return "decrypted"


def test_vaulted_values_are_strings() -> None:
    assert plain_text(EncryptedText()) == "decrypted"


def test_a_pattern_holds_to_the_end() -> None:
    with pytest.raises(KindError):
        Text("^[a-z]+$", "lower case").convert("abc\n")
